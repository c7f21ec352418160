"""The ruleset of inside presence as text, elements of members, marked policies and states."""

import re
import struct
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dataplane.kernel.child import InstalledChild
from gateway.dataplane.kernel.netlink import attributes
from gateway.dataplane.kernel.policies import PolicyTable
from gateway.dataplane.kernel.presence import ruleset
from gateway.dataplane.kernel.presence.dataplane import _difference
from gateway.dataplane.kernel.xfrm import decode, encode
from gateway.dataplane.kernel.xfrm.constants import Direction, XfrmAttribute
from gateway.dataplane.kernel.xfrm.encode import Template
from gateway.dataplane.kernel.xfrm.listing import keyed_policy
from gateway.dataplane.packet import marks
from gateway.dataplane.presence import Member, Napt, PresenceSettings, Redirect, Translation
from gateway.domain.child_sa import (
    ChildSa,
    Encryption,
    EspKeys,
    EspSuite,
    Integrity,
    TrafficSelector,
)
from gateway.domain.endpoint import Endpoint

R, R6 = ip_address("192.168.1.5"), ip_address("fd05::5")
FULL = PresenceSettings(
    tunnel="gw0",
    outside_interfaces=("outside",),
    napts=(
        Napt(),
        Napt(
            (
                (ip_address("10.1.0.20"), ip_address("10.1.0.29")),
                (ip_address("10.1.0.40"), ip_address("10.1.0.40")),
                (ip_address("fd01::20"), ip_address("fd01::2f")),
            ),
            (20_000, 29_999),
            (ip_network("10.1.0.0/24"), ip_network("10.1.0.0/16"), ip_network("fd01::/64")),
        ),
    ),
    translations=(
        (
            Translation(ip_network("10.1.0.0/24"), ip_network("10.99.0.0/24")),
            Translation(ip_network("fd01::/64"), ip_network("fd99::/64")),
        ),
    ),
    redirects=(
        Redirect(6, None, (8080, 8080), 80),
        Redirect(17, ip_address("10.1.0.1"), (5000, 5003), 6000, (ip_network("10.1.0.0/24"),)),
        Redirect(6, ip_address("fd01::1"), (22, 22), 22),
    ),
)


def test_everything_is_filled_in() -> None:
    text = ruleset.render(FULL)
    assert "$" not in text
    assert text.count("{") == text.count("}")
    assert "snat ip to jhash meta mark mod 2 seed 0x4755 map {" in text
    assert "0 : 10.1.0.20-10.1.0.29, 1 : 10.1.0.40 } : 20000-29999 persistent" in text
    assert "snat ip6 to [fd01::20]-[fd01::2f]:20000-29999 persistent" in text
    assert "elements = { 10.1.0.0/16 }" in text, "what another one holds is left out"
    assert "0.0.0.0/0 . tcp . 8080 : goto redirect_0" in text
    assert "10.1.0.0/24 . 10.1.0.1 . udp . 5000-5003 : goto redirect_1" in text
    assert "::/0 . fd01::1 . tcp . 22 : goto redirect_2" in text


def test_no_map_is_updated_with_a_key_that_libnftables_ends_the_process_for() -> None:
    for update in re.findall(r"update @\w+ \{[^}]*\}", ruleset.render(FULL)):
        assert not re.search(r"ip6 \w+ \.|\. ip6", update), update


def test_the_version_is_that_of_the_rules_not_of_who_is_in() -> None:
    members = ruleset.member_elements(Member((R,), 7, 1, 0))
    target = Member((R,), 7)
    text = ruleset.render(FULL, members, (target, None, None))
    assert text.split()[-1] == ruleset.version(FULL)
    assert ruleset.version(FULL) != ruleset.version(PresenceSettings(tunnel="gw0"))
    for line in (
        "elements = { 0x47560007 : 7 }",
        "elements = { 0x47560007 : 0x47550007 }",
        "elements = { 0x47560007 . 0x47550007 }",
        "elements = { 0x47550007 : 192.168.1.5 }",
        "add element inet gateway_presence napt_1 { 0x47560007 }",
        "add element inet gateway_presence translated_0 { 0x47560007 }",
        "add element inet gateway_presence shown_to_0 { 0x47550007 }",
        "meta mark set 0x47550007 ct mark set 0x47550007 dnat ip to 192.168.1.5:80",
    ):
        assert line in text


def test_elements_of_another_shape_are_not_carried_over() -> None:
    broken = {("zones", b"\1"): b"\0\0", ("address4", bytes(4)): bytes(3), ("own", bytes(5)): None}
    assert ruleset.render(FULL, broken) == ruleset.render(FULL)


@pytest.mark.parametrize(
    ("place", "address", "expected"),
    [
        (0, R, "dnat ip to 192.168.1.5:80"),
        (0, R6, "dnat ip6 to [fd05::5]:80"),
        (
            1,
            R,
            "192.168.1.5 : udp dport map { 5000 : 6000, 5001 : 6001, 5002 : 6002, 5003 : 6003 }",
        ),
        (2, R6, "dnat ip6 to fd05::5"),
    ],
)
def test_where_a_redirect_leads(place: int, address: object, expected: str) -> None:
    redirect = FULL.redirects[place]
    text = ruleset.redirect_rules(place, redirect, Member((address,)))  # type: ignore[arg-type]
    assert text.startswith(f"flush chain inet gateway_presence target_{place}\n")
    assert text.endswith(expected + "\n")
    assert "mark set" not in text, "a device with an inner address needs no mark"


def test_a_device_with_an_inner_address_has_elements_for_translations_only() -> None:
    inner = ip_address("10.9.0.1")
    assert ruleset.member_elements(Member((inner,))) == {}
    assert ruleset.member_elements(Member((inner, R6), translations=0)) == {
        ("inner4_0", inner.packed): None,
        ("inner6_0", R6.packed): None,
    }


MEMBERS = st.builds(
    Member,
    st.sampled_from([(R,), (R6,), (R, R6), ()]),
    st.integers(0, 65_535),
    st.integers(0, 1),
    st.integers(-1, 0),
)


@given(MEMBERS, MEMBERS)
def test_the_changes_from_one_member_to_another_make_it_the_other(one: Member, two: Member) -> None:
    before, after = map(ruleset.member_elements, (one, two))
    there = dict(before)
    for change in _difference(before, after):
        if change.add:
            assert (change.name, change.key) not in there
            there[change.name, change.key] = change.data
        else:
            del there[change.name, change.key]
    assert there == after


@given(st.integers(1, 65_535), st.integers(1, 65_535))
def test_zones_share_no_element(one: int, two: int) -> None:
    keys = [set(ruleset.member_elements(Member((R,), zone))) for zone in (one, two)]
    assert (one == two) == bool(keys[0] & keys[1])


# -- marked SAs and policies --------------------------------------------------------------------

GCM = EspSuite(Encryption.AES_GCM_16, 128, Integrity.NONE, esn=True)
KEYS = EspKeys(bytes(20))
LOCAL, REMOTE = Endpoint(ip_address("192.0.2.1"), 4500), Endpoint(ip_address("192.0.2.9"), 4500)


def child(zone: int, output_mark: int = 0) -> InstalledChild:
    sa = ChildSa(
        1, 2, 3, GCM, KEYS, KEYS, LOCAL, REMOTE,
        udp_encapsulation=False,
        local_ts=(TrafficSelector.of_network(ip_network("10.1.0.0/24")),),
        remote_ts=(TrafficSelector.of_address(R),),
        zone=zone,
    )  # fmt: skip
    return InstalledChild.of(sa, output_mark)


def set_mark(request: bytes) -> int | None:
    found = attributes(request[16:], decode.STATE_SIZE).get(XfrmAttribute.SET_MARK)
    return None if found is None else struct.unpack("=I", found)[0]


def test_the_inbound_sa_of_a_zone_marks_and_the_outbound_one_takes_the_mark_away() -> None:
    assert set_mark(child(0).inbound_state()) is None
    assert set_mark(child(0).outbound_state()) is None
    assert set_mark(child(0, 77).outbound_state()) == 77
    assert set_mark(child(9).inbound_state()) == marks.FROM_DEVICE | 9
    assert set_mark(child(9).outbound_state()) == 0, "else it would be routed into the tunnel"
    assert set_mark(child(9, 77).outbound_state()) == 77


def test_policies_of_two_zones_with_one_selector_are_two() -> None:
    selector = child(1).selectors[0]
    table = PolicyTable()
    templates = [Template(LOCAL.address, REMOTE.address, number) for number in (1, 2)]
    for number, template in enumerate(templates, 1):
        mark = marks.TO_DEVICE | number
        (made,) = table.claim(number, Direction.OUT, selector, template, mark=mark)
        assert made == encode.policy(Direction.OUT, selector, template, mark=mark)
        found = keyed_policy(made[16:])
        assert found is not None
        assert found.key == (Direction.OUT, selector.octets, 0x47570001, mark)
    assert len(table) == 2
    (gone,) = table.release(1)
    assert gone == encode.delete_policy(Direction.OUT, selector, mark=marks.TO_DEVICE | 1)
    assert len(table) == 1
