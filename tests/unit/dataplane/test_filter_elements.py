"""Rules and devices as elements, and refused packets as they are read."""

import contextlib
import sys
from ipaddress import ip_address, ip_network

from hypothesis import given
from hypothesis import strategies as st

from gateway.dataplane.filter import GatewayServices
from gateway.dataplane.kernel.filter import elements, ruleset
from gateway.dataplane.kernel.filter.refusal_log import packet_of
from gateway.dataplane.kernel.filter.ruleset import Variant
from gateway.dataplane.packet import marks
from gateway.domain.child_sa import IpNetwork
from gateway.domain.filtering import Box, Direction, Placement, RuleSet, Span

networks = st.one_of(
    st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 32)).map(
        lambda pair: ip_network(pair, strict=False)
    ),
    st.tuples(st.integers(2**96, 2**128 - 1), st.integers(0, 128)).map(
        lambda pair: ip_network(pair, strict=False)
    ),
)


def spans(last: int) -> st.SearchStrategy[tuple[int, int]]:
    ends = st.tuples(st.integers(0, last), st.integers(0, last))
    return ends.map(lambda pair: (min(pair), max(pair)))


@given(networks, spans(255), spans(65_535), st.integers(1, 2**32 - 1))
def test_an_entry_is_read_as_it_was_written(
    network: IpNetwork, protocols: Span, ports: Span, number: int
) -> None:
    box = Box(network, protocols, ports)
    found = elements.of_rule_set(number, RuleSet(allow=frozenset({box})))
    ((place, same),) = found.items()
    assert same == box
    assert elements.box_at(place) == (number, box)
    assert place[0] == f"allow{network.version}"


def test_all_elements_are_in_sets_that_there_are() -> None:
    variant = Variant("gw0", rules=True, helpers=frozenset(ruleset.HELPERS))
    known = set(ruleset.all_sets(variant))
    text = ruleset.render(variant)
    for name in known:
        assert f" {name} {{" in text, name
    addresses = ip_address("10.9.0.1"), ip_address("fd00::1")
    numbers = dict.fromkeys(Direction, 7)
    box = Box(ip_network("10.0.0.0/8"))
    boxes = frozenset({box})
    rule_set = RuleSet(boxes, boxes, closed=True, helpers=dict.fromkeys(ruleset.HELPERS, boxes))
    used = {place[0] for place in elements.of_rule_set(7, rule_set)} | {elements.closed(7)[0]}
    for zone in (0, 5):
        placement = Placement(addresses, zone, numbers, 100, 200)
        used |= {one.place[0] for one in elements.of_placement(placement)}
    services = GatewayServices(frozenset({1}), frozenset({(6, (53, 53))}), everything=True)
    used |= {one.place[0] for one in elements.of_services(services, "gw0", isolate=True)}
    assert used <= known
    plain = set(ruleset.all_sets(Variant("gw0")))
    assert not any(name.startswith(("rules_", "allow", "refuse4", "closed")) for name in plain)
    assert "ct state" not in ruleset.render(Variant("gw0"))


def test_a_device_behind_napt_has_its_marks() -> None:
    found = [*elements.of_placement(Placement((ip_address("192.168.1.2"),), 5))]
    keys = {(one.place[0], int.from_bytes(one.place[1], sys.byteorder)) for one in found}
    assert ("used_upz", marks.FROM_DEVICE | 5) in keys
    assert ("used_downz", marks.TO_DEVICE | 5) in keys
    assert all(name.endswith("z") for name, _ in keys)


def test_services_that_touch_are_one() -> None:
    ports = frozenset({(6, (80, 90)), (6, (85, 95)), (6, (97, 97)), (17, (80, 80))})
    found = [*elements.of_services(GatewayServices(ports=ports), "gw0", isolate=False)]
    assert len(found) == 3


def test_versions_differ_where_the_rules_do() -> None:
    variants = [
        Variant("gw0"),
        Variant("gw1"),
        Variant("gw0", rules=True),
        Variant("gw0", rules=True, helpers=frozenset({"ftp"})),
        Variant("gw0", rules=True, bare=True),
    ]
    assert len({ruleset.version(one) for one in variants}) == len(variants)


TCP4 = bytes.fromhex("450000280000400040060000 0a090001 0a010002".replace(" ", "")) + bytes(
    (4, 0, 0, 22)
)
UDP6 = bytes((0x60, 0, 0, 0, 0, 8, 0, 64)) + ip_address("fd00::1").packed * 2


def test_the_header_of_a_refused_packet() -> None:
    source, destination = ip_address("10.9.0.1"), ip_address("10.1.0.2")
    assert packet_of(TCP4) == (source, destination, 6, 22)
    later = TCP4[:6] + bytes((0, 9)) + TCP4[8:]
    assert packet_of(later) == (source, destination, 6, 0)
    behind = bytes((17, 0)) + bytes(6) + bytes((1, 2, 0, 53))
    assert packet_of(UDP6 + behind)[2:] == (17, 53)


@given(st.one_of(st.binary(max_size=80), st.binary(max_size=60).map(lambda tail: UDP6 + tail)))
def test_any_octets_are_a_packet_or_refused(octets: bytes) -> None:
    try:
        packet_of(octets)
    except ValueError:
        return


@given(st.binary(max_size=200))
def test_any_list_of_elements_is_read(listed: bytes) -> None:
    for found in elements.found_elements("allow4", listed):
        with contextlib.suppress(ValueError):
            elements.box_at(found.element.place)


def test_a_kernel_without_limits_and_log_has_the_rest() -> None:
    variant = Variant("gw0", rules=True, bare=True)
    text = ruleset.render(variant)
    assert "limit" not in text
    assert "rate_" not in text
    assert 'drop comment "refused_to_inside"' in text
    assert not any(name.startswith("rate") for name in ruleset.all_sets(variant))
