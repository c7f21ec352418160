"""Set elements, routes and announcements of the mobility dataplane, octet by octet."""

import errno
import struct
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest

from gateway.dataplane.kernel.mobility import constants, elements, routes, ruleset
from gateway.dataplane.kernel.mobility.batch import Batch
from gateway.dataplane.kernel.mobility.neighbours import gratuitous_arp
from gateway.dataplane.kernel.netlink import NetlinkRefusal, attribute, attributes
from gateway.dataplane.kernel.nft_elements import NFPROTO_IPV4, ElementChange, encode_change
from gateway.dataplane.mobility import MobilitySettings
from gateway.domain.mobility import (
    Encapsulation,
    HomeNetwork,
    MobilityBinding,
    Tunnel,
    Visitor,
)

AGENT, CARE_OF, HOME = (IPv4Address(a) for a in ("198.51.100.2", "192.0.2.10", "10.9.0.5"))
PEER = IPv4Address("203.0.113.9")
VIRTUAL = HomeNetwork("virtual", IPv4Network("10.9.0.0/24"))
OFFICE = HomeNetwork("office", IPv4Network("10.1.0.0/24"), "h1")


def binding(**changes: Any) -> MobilityBinding:
    fields: dict[str, Any] = {
        "home_agent": AGENT,
        "home_address": HOME,
        "home_network": VIRTUAL,
        "tunnels": (Tunnel(AGENT, CARE_OF),),
        "co_located": True,
        "reverse": True,
        "broadcasts": False,
        "max_packet_octets": 1300,
    }
    return MobilityBinding(**{**fields, **changes})


def of(name: str, found: elements.Elements) -> dict[str, str | None]:
    return {
        key.hex(): None if data is None else data.hex()
        for (one, key), data in found.items()
        if one == name
    }


def test_a_tunnel_is_opened_by_both_ends_and_the_inner_source() -> None:
    found = elements.of_binding(binding(), offload=True)
    assert of("bindings_ip_ip", found) == {"c000020ac63364020a090005": None}
    assert of("home_remote", found) == {"0a090005": "c000020a"}
    assert of("home_local", found) == {"0a090005": "c6336402"}
    assert of("away", found) == {"0a090005": None}


def test_a_udp_tunnel_also_by_its_port() -> None:
    one = binding(tunnels=(Tunnel(AGENT, CARE_OF, udp_port=4444),))
    found = elements.of_binding(one, offload=True)
    assert of("bindings_udp", found) == {"c000020a115c0000c63364020a090005": None}
    assert of("home_port", found) == {"0a090005": "115c"}
    assert elements.device_of(one.tunnels) == constants.SEND_UDP


def test_without_reverse_tunnelling_nothing_is_opened() -> None:
    found = elements.of_binding(binding(reverse=False), offload=True)
    assert not [name for name, _ in found if name.startswith("bindings")]
    assert of("away", found) == {}


@pytest.mark.parametrize(
    "tunnels",
    [
        (Tunnel(AGENT, CARE_OF, Encapsulation.MINIMAL),),
        (Tunnel(AGENT, CARE_OF, Encapsulation.GRE, udp_port=9),),
        (Tunnel(AGENT, CARE_OF), Tunnel(AGENT, PEER)),
    ],
    ids=["minimal", "gre-in-udp", "two"],
)
def test_what_the_kernel_cannot_send_is_queued(tunnels: tuple[Tunnel, ...]) -> None:
    found = elements.of_binding(binding(tunnels=tunnels), offload=True)
    assert of("slow_homes", found) == {"0a090005": None}
    assert of("home_remote", found) == {}


def test_zero_overhead_has_both_directions_and_the_errors() -> None:
    found = elements.of_binding(binding(zero_overhead=PEER), offload=True)
    assert of("switch_source", found) == {"c000020ac6336402": "0a090005"}
    assert of("switch_peer", found) == {"0a090005c6336402": "cb007109"}
    assert of("switch_out", found) == {"cb0071090a090005": "c000020a"}
    assert of("switch_agent", found) == {"cb007109c000020a": "c6336402"}
    assert of("switched_quotes", found) == {"c6336402c000020a": None, "cb007109c000020a": None}
    assert of("switch_out", elements.of_binding(binding(), offload=True)) == {}


def test_a_visitor_is_known_by_interface_and_link_address() -> None:
    visitor = Visitor(HOME, AGENT, Tunnel(CARE_OF, AGENT), "wlan0", bytes.fromhex("020000000001"))
    found = elements.of_visitor(visitor, 0x47570100, offload=True)
    name = b"wlan0".ljust(16, b"\0").hex()
    assert of("direct_visitors", found) == {name + "0200000000010000" + "0a090005": None}
    assert of("visitors_ip_ip", found) == {"c6336402c000020a0a090005": None}
    assert of("visitor_mark", found) == {"0a090005": struct.pack("=I", 0x47570100).hex()}


def test_a_map_element_carries_its_data() -> None:
    change = ElementChange("home_remote", HOME.packed, data=CARE_OF.packed)
    added = encode_change("t", change, NFPROTO_IPV4)
    assert added[16] == NFPROTO_IPV4
    assert CARE_OF.packed in added
    gone = encode_change("t", ElementChange("home_remote", HOME.packed, add=False), NFPROTO_IPV4)
    assert CARE_OF.packed not in gone


def test_the_packet_size_of_a_route_is_locked() -> None:
    message = routes.set_host(constants.HOME_TABLE, HOME, 7, 1300)
    values = attributes(message, 28)
    metrics = attributes(values[8], 0)
    assert struct.unpack("=I", metrics[1]) == (1 << 2,)
    assert struct.unpack("=I", metrics[2]) == (1300,)
    assert struct.unpack("=I", values[15]) == (constants.HOME_TABLE,)


def test_gratuitous_arp_says_who_has_the_address() -> None:
    frame = gratuitous_arp(HOME, bytes.fromhex("020000000001"), 1)
    assert frame.hex() == (
        "ffffffffffff" "020000000001" "0806" "0001080006040001"
        "020000000001" "0a090005" "000000000000" "0a090005"
    )  # fmt: skip


def test_the_fou_port_keeps_the_udp_checksum() -> None:
    before = 434 + 0x0404 + 0x0000
    after = constants.FOU_PORT + 0x0000 + 0x0800
    assert before % 0xFFFF == after % 0xFFFF


def test_overlapping_virtual_networks_are_told_once() -> None:
    wide = HomeNetwork("wide", IPv4Network("10.9.0.0/16"))
    text = ruleset.render(MobilitySettings(home_networks=(VIRTUAL, wide)))
    assert "10.9.0.0/16" in text
    assert "10.9.0.0/24" not in text
    assert "$" not in text


class RefusingSets:
    """Refuses elements with a certain key."""

    def __init__(self, bad: bytes) -> None:
        self.bad = bad
        self.applied: list[bytes] = []
        self.calls = 0

    def apply(self, changes: Sequence[ElementChange]) -> NetlinkRefusal | None:
        self.calls += 1
        for index, change in enumerate(changes):
            if change.key == self.bad:
                return NetlinkRefusal(index, errno.EBUSY, "")
        self.applied += [change.key for change in changes]
        return None


class NoRequests:
    def transact(self, requests: Sequence[bytes]) -> tuple[list[NetlinkRefusal], list[Any]]:
        return [], []


def test_one_refused_binding_does_not_take_others_with_it() -> None:
    batch, sets = Batch(), RefusingSets(b"bad")
    owners = [(AGENT, HOME + place) for place in range(3)]
    for owner, key in zip(owners, (b"one", b"bad", b"two"), strict=True):
        batch.elements(owner, [ElementChange("s", key)])
    refused = batch.flush(sets, NoRequests())  # type: ignore[arg-type]
    assert list(refused) == [owners[1]]
    assert sets.applied == [b"one", b"two"]


def test_many_bindings_are_few_transactions() -> None:
    batch, sets = Batch(), RefusingSets(b"")
    for place in range(1000):
        key = (HOME + place).packed
        batch.elements((AGENT, HOME + place), [ElementChange(str(n), key) for n in range(4)])
    assert batch.flush(sets, NoRequests()) == {}  # type: ignore[arg-type]
    assert sets.calls == 8
    assert not batch


def test_a_rule_for_one_address() -> None:
    message = routes.add_rule_to(constants.DUMMY, 7, constants.HOME_TABLE)
    body = message[16:]
    assert (body[0], body[1]) == (2, 32)
    assert attribute(1, constants.DUMMY.packed) in body
    assert not attributes(body, 12).keys() & {10}
