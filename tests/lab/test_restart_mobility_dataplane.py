"""The mobility dataplane is handed over to the next process without a gap."""

import dataclasses
import re
import subprocess
from collections.abc import Iterator
from ipaddress import IPv4Address
from typing import Any

import pytest
from dataplane_bed import entered, inside
from mobility_kernel_bed import (
    AGENT,
    AT_OFFICE,
    CARE_OF,
    GATEWAY,
    HOME,
    HOST,
    HOST_ADDRESS,
    NAT_PORT,
    NODE,
    PHYSICAL,
    VIRTUAL,
    MobilityBed,
    binding,
    mobility_bed,
)

from gateway.dataplane.kernel.mobility import ruleset
from gateway.dataplane.mobility import MobilitySettings
from gateway.domain.mobility import Encapsulation, MobilityBinding, Tunnel, Visitor
from gateway.lab import planes
from gateway.lab.kernel import missing_features

pytestmark = pytest.mark.kernel
# clock: real (packets must have time to be lost)

COUNT = 100
CORRESPONDENT = IPv4Address("203.0.113.9")


@pytest.fixture
def bed() -> Iterator[MobilityBed]:
    with mobility_bed() as bed:
        yield bed


def hand_over(
    bed: MobilityBed, *bindings: MobilityBinding, visitors: tuple[Visitor, ...] = (), **changes: Any
) -> None:
    fields: dict[str, Any] = {"home_agents": (AGENT,), "home_networks": (VIRTUAL, PHYSICAL)}
    with entered(GATEWAY):
        assert bed.mobility is not None
        bed.mobility.close(keep=True)
        bed.mobility = planes.mobility(MobilitySettings(**{**fields, **changes}))
        bed.mobility.start(adopt=True)
        for one in bindings:
            bed.mobility.set_binding(one)
        for visitor in visitors:
            bed.mobility.set_visitor(visitor)
        assert bed.mobility.adopt() == []


def picture() -> str:
    commands = (
        "ip -br link", "ip rule", "ip route show table all", "ip neigh show nud permanent",
        "ip neigh show proxy", "nft -s list ruleset",
    )  # fmt: skip
    lines = [sorted(inside(GATEWAY, *command.split()).splitlines()) for command in commands]
    # By which user space gives packets back, and far ends of pairs: each process has its own.
    return re.sub(
        r"ether saddr \S+ accept|(?<=-io@)(\S+ +\S+ +)\S+",
        "SECRET",
        "\n".join(line for part in lines for line in part),
    )


def traffic() -> subprocess.Popen[str]:
    with entered(NODE):
        return subprocess.Popen(
            ["ping", "-n", "-c", str(COUNT), "-i", "0.005", "-W", "1", "-I", str(HOME),
             str(HOST_ADDRESS)], stdout=subprocess.PIPE, text=True)  # fmt: skip


def lost(ping: subprocess.Popen[str]) -> int:
    out = ping.communicate(timeout=60)[0]
    return COUNT - int(out.split(" received")[0].split()[-1])


ONE_OF_EACH = (
    binding(),
    binding(IPv4Address("10.9.0.6"), tunnels=(Tunnel(AGENT, CARE_OF, Encapsulation.GRE),)),
    binding(IPv4Address("10.9.0.7"), tunnels=(Tunnel(AGENT, CARE_OF, udp_port=NAT_PORT),)),
    binding(IPv4Address("10.9.0.8"), tunnels=(Tunnel(AGENT, CARE_OF, Encapsulation.MINIMAL),)),
    binding(IPv4Address("10.9.0.9"), reverse=False),
    binding(
        IPv4Address("10.9.0.10"),
        tunnels=(Tunnel(AGENT, IPv4Address("192.0.2.77")),),
        zero_overhead=CORRESPONDENT,
    ),
    binding(AT_OFFICE, home_network=PHYSICAL, broadcasts=True),
)


def visitor(number: int, **changes: Any) -> Visitor:
    home = IPv4Address(f"172.16.0.{number}")
    agent = IPv4Address("192.0.2.10")
    fields: dict[str, Any] = {
        "home_address": home,
        "home_agent": agent,
        "tunnel": Tunnel(AGENT, agent),
        "interface": "h1",
        "link_address": bytes.fromhex("0200000000") + bytes([number]),
        "reverse": True,
        "encapsulating": False,
        "max_packet_octets": 1300,
        "through_vpn": False,
    }
    return Visitor(**{**fields, **changes})


VISITORS = (
    visitor(1),
    visitor(2, tunnel=Tunnel(AGENT, IPv4Address("192.0.2.10"), Encapsulation.GRE)),
    visitor(3, tunnel=Tunnel(AGENT, IPv4Address("192.0.2.10"), udp_port=434)),
    visitor(4, max_packet_octets=1200),
    visitor(5, encapsulating=True),
    visitor(6, reverse=False),
    visitor(7, through_vpn=True, link_address=b""),
)
OF_BOTH: dict[str, Any] = {
    "care_of_addresses": (AGENT,),
    "visited_interfaces": ("h1",),
}


@pytest.mark.parametrize("kind", ["ip_ip", "gre", "udp"])
def test_hand_overs_lose_no_packet(bed: MobilityBed, kind: str) -> None:
    encapsulation = Encapsulation.GRE if kind == "gre" else Encapsulation.IP_IP
    port = NAT_PORT if kind == "udp" else 0
    bound = binding(tunnels=(Tunnel(AGENT, CARE_OF, encapsulation, port),))
    bed.start()
    bed.commit(bound)
    bed.node_tunnel(encapsulation, udp=kind == "udp")
    assert bed.reaches(NODE, HOME, HOST_ADDRESS)
    before = picture()
    ping = traffic()
    for _ in range(5):
        hand_over(bed, bound)
    assert lost(ping) == 0
    assert picture() == before
    # Other rules, as of another version: with the size of packets, TCP segments change.
    ping = traffic()
    hand_over(bed, bound, mtu=1390)
    hand_over(bed, bound)
    assert lost(ping) == 0
    assert bed.reaches(HOST, HOST_ADDRESS, HOME)


def test_everything_that_can_be_set_is_adopted_as_it_is(bed: MobilityBed) -> None:
    bed.start(**OF_BOTH)
    bed.commit(*ONE_OF_EACH, visitors=VISITORS)
    before = picture()
    hand_over(bed, *ONE_OF_EACH, visitors=VISITORS, **OF_BOTH)
    assert picture() == before
    # In another order, and with other rules in between.
    hand_over(bed, *ONE_OF_EACH[::-1], visitors=VISITORS[::-1], **{**OF_BOTH, "mtu": 1390})
    hand_over(bed, *ONE_OF_EACH[::-1], visitors=VISITORS[::-1], **OF_BOTH)
    assert picture() == before
    with entered(GATEWAY):
        assert bed.mobility is not None
        for one in ONE_OF_EACH:
            bed.mobility.remove_binding(one.home_agent, one.home_address)
        for guest in VISITORS:
            bed.mobility.remove_visitor(guest.home_agent, guest.home_address)
        assert bed.mobility.commit() == []
    left = inside(GATEWAY, "nft", "list", "table", "ip", "gateway_mobility")
    assert "10.9.0." not in left.replace("10.9.0.0/24", "")
    assert "172.16.0." not in left


def test_elements_survive_an_exchange_of_the_rules_before_anybody_sets_them(
    bed: MobilityBed,
) -> None:
    bed.start(**OF_BOTH)
    bed.commit(*ONE_OF_EACH, visitors=VISITORS)
    elements = [line for line in picture().splitlines() if "elements" in line or " . " in line]
    with entered(GATEWAY):
        assert bed.mobility is not None
        bed.mobility.close(keep=True)
        settings = MobilitySettings(
            home_agents=(AGENT,), home_networks=(VIRTUAL, PHYSICAL), mtu=1390, **OF_BOTH
        )
        bed.mobility = planes.mobility(settings)
        bed.mobility.start(adopt=True)
    assert [one for one in picture().splitlines() if "elements" in one or " . " in one] == elements


def test_what_nobody_has_any_more_goes_and_what_was_flushed_comes_back(bed: MobilityBed) -> None:
    bed.start(**OF_BOTH)
    bed.commit(*ONE_OF_EACH[1:], visitors=VISITORS[1:])
    hand_over(bed, ONE_OF_EACH[0], visitors=VISITORS[:1], **OF_BOTH)
    wanted = picture()
    fresh = MobilitySettings(home_agents=(AGENT,), home_networks=(VIRTUAL, PHYSICAL), **OF_BOTH)
    with entered(GATEWAY):
        assert bed.mobility is not None
        bed.mobility.close()
        bed.mobility = planes.mobility(fresh)
        bed.mobility.start()
        bed.commit(ONE_OF_EACH[0], visitors=VISITORS[:1])

    def without_reverse(text: str) -> list[str]:
        """Reverse tables stay until another size needs their place."""
        marks = ("4800", "4801", "4802", "4803", "184", "visitor_mark", "0x475701", "mob-")
        return [line for line in text.splitlines() if not any(one in line for one in marks)]

    assert without_reverse(picture()) == without_reverse(wanted)
    wanted = picture()
    inside(GATEWAY, "nft", "delete", "table", "ip", "gateway_mobility")
    inside(GATEWAY, "ip", "link", "del", "mob-ipip")
    inside(GATEWAY, "ip", "route", "flush", "table", str(0x4757))
    inside(GATEWAY, "ip", "rule", "del", "priority", str(0x4759))
    hand_over(bed, ONE_OF_EACH[0], visitors=VISITORS[:1], **OF_BOTH)
    assert without_reverse(picture()) == without_reverse(wanted)


@pytest.mark.skipif(bool(missing_features()), reason="the kernel has no tunnels of its own")
def test_kernel_and_user_space_take_over_from_each_other(
    bed: MobilityBed, monkeypatch: pytest.MonkeyPatch
) -> None:
    bed.node_tunnel()
    for kind in ("kernel", "portable", "kernel"):
        monkeypatch.setenv(planes.VARIABLE, kind)
        if bed.mobility is None:
            bed.start()
            bed.commit(binding())
        else:
            if kind == "kernel":
                # As a gateway does first; the port of UDP tunnels is free then.
                with entered(GATEWAY):
                    bed.mobility.close(keep=True)
                    planes.plane().end_forwarder()
            hand_over(bed, binding())
        assert bed.reaches(NODE, HOME, HOST_ADDRESS), kind
        assert bed.reaches(HOST, HOST_ADDRESS, HOME), kind
        assert ("mob-back" in picture()) == (kind == "portable")
        assert ("log group" in picture()) == (kind == "portable")


def test_neighbours_are_not_told_again(bed: MobilityBed) -> None:
    at_office = ONE_OF_EACH[-1]
    bed.start()
    bed.commit(at_office)
    wire = bed.capture(HOST, "c0", 0x0806)
    hand_over(bed, at_office)
    assert wire.read() == []
    assert dataclasses.replace(at_office) == at_office
    assert str(AT_OFFICE) in inside(GATEWAY, "ip", "neigh", "show", "proxy")


def test_rules_of_a_version_are_known_by_name() -> None:
    settings = MobilitySettings(home_agents=(AGENT,))
    other = dataclasses.replace(settings, mtu=1300)
    name = ruleset.render(settings).split()[-1]
    assert name == ruleset.render(dataclasses.replace(settings, home_agents=())).split()[-1]
    assert name != ruleset.render(other).split()[-1]
