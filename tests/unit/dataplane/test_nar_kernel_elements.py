"""Tuples as set elements and back, numbers, aliases, ranges of ports, rules of settings."""

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dataplane.kernel.nar import constants, elements, ports, ruleset
from gateway.dataplane.kernel.nar.below import KernelBelow
from gateway.dataplane.kernel.nar.numbers import (
    ClientKey,
    Numbers,
    NumbersExhaustedError,
    alias_of,
)
from gateway.dataplane.kernel.nar.plan import constant_elements, living_elements
from gateway.dataplane.nar import NarServerSettings, NarSettings
from gateway.domain.nar import Delivery, NarMapping, NarProtocol, NarTuple

P = NarProtocol
NA, NB, NB2 = (IPv4Address(text) for text in ("10.0.0.1", "192.0.2.1", "192.0.2.2"))
XA, XA2, YB = (IPv4Address(text) for text in ("10.0.0.2", "10.0.0.3", "192.0.2.9"))

addresses = st.integers(1, 0xFFFF_FFFE).map(IPv4Address)
numbers16 = st.integers(1, 0xFFFF)


@st.composite
def tuples(draw: st.DrawFn) -> NarTuple:
    protocol = draw(st.sampled_from(P))
    address = draw(addresses)
    if protocol.has_ports:
        remote = draw(st.none() | addresses)
        return NarTuple(protocol, address, draw(numbers16), remote, draw(st.none() | numbers16))
    if protocol in (P.ESP, P.AH):
        return NarTuple(protocol, address, draw(st.integers(256, 0xFFFF_FFFF)))
    value = draw(numbers16) if protocol is P.ICMP else int(draw(addresses))
    return NarTuple(protocol, address, value, draw(addresses))


@given(tuples())
def test_a_tuple_is_read_back_from_its_element(key: NarTuple) -> None:
    name, octets = elements.incoming(key)
    assert name in elements.IN_MAPS
    assert elements.tuple_of(name, octets) == key


@given(tuples(), tuples())
def test_two_tuples_are_two_elements(one: NarTuple, other: NarTuple) -> None:
    assert (elements.incoming(one) == elements.incoming(other)) == (one == other)


@given(tuples(), st.sampled_from(Delivery), st.none() | addresses)
def test_every_element_has_its_set(
    key: NarTuple, delivery: Delivery, peer: IPv4Address | None
) -> None:
    mapping = NarMapping("soho", key, XA, delivery, peer=peer)
    if key.protocol is P.AH and delivery is Delivery.TRANSLATED:
        with pytest.raises(ValueError, match="cannot be translated"):
            elements.of_sender(mapping, 1, 2, NA)
        return
    found = elements.of_tuple(mapping, 1) | elements.of_sender(mapping, 1, 2, NA)
    assert {name for name, _ in found} <= set(elements.ALL_SETS)
    assert 2 <= len(found) <= 4


def test_server_mappings_have_both_ports() -> None:
    key = NarTuple(P.TCP, NB, 20_080)
    mapping = NarMapping("soho", key, XA, Delivery.TRANSLATED, client_port=80)
    mark, out = 0x4759_4000, 0x4759_2000
    changed = elements.mark(mark + constants.TO_PORT)
    assert elements.of_tuple(mapping, mark) == {
        ("tcp_any", b"\x4e\x70\0\0" + NB.packed): changed,
    }
    leaving = elements.mark(out + constants.WITH_PORT)
    assert elements.of_sender(mapping, mark, out, NA) == {
        ("out_tcp_any", XA.packed + b"\0\x50\0\0"): leaving,
        ("out_port_tcp", leaving + XA.packed + b"\0\x50\0\0"): b"\x4e\x70",
        ("client_port_tcp", changed + b"\x4e\x70\0\0" + NB.packed): b"\0\x50",
    }


def ones_complement(octets: bytes) -> int:
    total = sum(int.from_bytes(octets[at : at + 2], "big") for at in range(0, len(octets), 2))
    return total % 0xFFFF


@given(addresses, st.sampled_from(constants.ALIAS_PREFIXES))
def test_no_checksum_tells_an_alias_from_its_address(address: IPv4Address, prefix: int) -> None:
    alias = alias_of(address, prefix)
    assert alias in IPv4Network("240.0.0.0/4")
    assert int(alias) >> 16 == prefix
    assert alias not in (constants.LOCAL, constants.REMOTE)
    assert ones_complement(alias.packed) == ones_complement(address.packed)


# -- numbers -------------------------------------------------------------------------------------


def test_a_mark_belongs_to_one_client_as_long_as_it_is_claimed() -> None:
    numbers = Numbers()
    first, second = (ClientKey(NA, client, Delivery.IP_IP) for client in (XA, XA2))
    mark = numbers.claim(first)
    assert numbers.claim(first) == mark
    assert mark in constants.IP_IP_MARKS
    assert numbers.claim(second) != mark
    assert numbers.claim(replace(first, delivery=Delivery.GRE)) in constants.GRE_MARKS
    assert not numbers.release(first)
    assert numbers.client_mark(first) == mark
    assert numbers.release(first)
    with pytest.raises(KeyError):
        numbers.client_mark(first)


def test_h70_marks_run_out_with_a_reason_and_come_back() -> None:
    numbers = Numbers()
    room = len(constants.TRANSLATED_MARKS)
    keys = [
        ClientKey(NA, IPv4Address("10.1.0.0") + number, Delivery.TRANSLATED)
        for number in range(room + 1)
    ]
    for key in keys[:-1]:
        numbers.claim(key)
    with pytest.raises(NumbersExhaustedError, match=f"more than {room} clients"):
        numbers.claim(keys[-1])
    numbers.release(keys[7])
    assert numbers.claim(keys[-1]) in constants.TRANSLATED_MARKS


def test_adopted_numbers_stay_and_the_rest_is_free_again() -> None:
    before = Numbers()
    before.set_addresses((NB, NB2))
    key, gone = (ClientKey(NA, client, Delivery.GRE) for client in (XA, XA2))
    before.claim(gone)
    mark = before.claim(key)
    numbers = Numbers()
    numbers.adopt_client(before.client_mark(gone), NA, XA2)
    numbers.adopt_client(mark, NA, XA)
    for address in (NB2, NB):
        numbers.adopt_address(before.out_mark(address), address)
        numbers.adopt_alias(0, address, before.alias(0, address))
    numbers.set_addresses((NB2, NB))
    assert numbers.claim(key) == mark
    for address in (NB, NB2):
        assert numbers.out_mark(address) == before.out_mark(address)
        assert numbers.alias(0, address) == before.alias(0, address)
    numbers.forget_unclaimed()
    with pytest.raises(KeyError):
        numbers.client_mark(gone)


def test_adoption_believes_nothing_impossible() -> None:
    numbers = Numbers()
    numbers.adopt_client(0x1234, NA, XA)
    numbers.adopt_alias(0, NB, IPv4Address("240.1.2.3"))
    numbers.adopt_address(constants.FROM_CLIENT, NB)
    numbers.set_addresses((NB,))
    assert numbers.out_mark(NB) in constants.OUT_MARKS
    assert numbers.alias(0, NB) == alias_of(NB, int(numbers.alias(0, NB)) >> 16)


def test_addresses_that_stay_keep_their_numbers() -> None:
    numbers = Numbers()
    numbers.set_addresses((NB,))
    out, alias = numbers.out_mark(NB), numbers.alias(0, NB)
    numbers.set_addresses((NB2, NB))
    assert (numbers.out_mark(NB), numbers.alias(0, NB)) == (out, alias)
    numbers.set_addresses((NB2,))
    with pytest.raises(KeyError):
        numbers.out_mark(NB)


def test_l2tp_clients_have_aliases_of_their_own() -> None:
    numbers = Numbers()
    numbers.set_addresses((NB,))
    mark = constants.L2TP_MARKS[5]
    alias, first = numbers.claim_alias(mark, NB)
    assert first
    assert alias != numbers.alias(0, NB)
    assert numbers.alias(mark, NB) == alias
    assert numbers.claim_alias(mark, NB) == (alias, False)
    assert numbers.release_alias(mark, NB) is None
    assert numbers.release_alias(mark, NB) == alias
    assert list(numbers.l2tp_aliases()) == []


# -- settings ------------------------------------------------------------------------------------

SOHO = NarServerSettings("soho", NA, (NB, NB2), ("lan0", "lan1"), ("wan0",))


def test_what_settings_put_into_sets() -> None:
    settings, numbers = NarSettings((SOHO,)), Numbers()
    numbers.set_addresses((NB, NB2))
    found = constant_elements(settings, numbers)
    assert {name for name, _ in found} <= set(elements.ALL_SETS)
    out = elements.mark(numbers.out_mark(NB))
    assert found["out_source", out + elements.interface("wan0")] == NB.packed
    assert ("out_links", out + elements.interface("wan0")) not in found
    assert living_elements(settings) == {
        ("addresses", NB.packed + elements.interface("wan0")),
        ("addresses", NB2.packed + elements.interface("wan0")),
        ("client_links", elements.interface("lan0")),
        ("client_links", elements.interface("lan1")),
    }


@pytest.mark.parametrize(
    ("leased", "expected"),
    [
        ((), range(1024, 65536)),
        ((range(20_000, 30_000),), range(30_000, 65_536)),
        ((range(50_000, 60_000), range(40_000, 50_000)), range(1024, 40_000)),
        ((range(1, 65_536),), range(0)),
        ((range(1024, 65_400),), range(0)),
        ((range(100, 2000), range(500, 40_000)), range(40_000, 65_536)),
    ],
)
def test_h74_napt_gets_what_is_not_leased(leased: tuple[range, ...], expected: range) -> None:
    assert ruleset.remaining(leased, 1024) == expected


@given(st.lists(st.tuples(numbers16, numbers16).map(lambda pair: range(min(pair), max(pair)))))
def test_h74_the_remaining_ports_are_nobodys(leased: list[range]) -> None:
    found = ruleset.remaining(leased, 1024)
    assert not found or found.start >= 1024
    assert all(found.start >= one.stop or found.stop <= one.start for one in leased if one)


def test_reserved_ports_are_merged() -> None:
    given_ranges = [range(30, 40), range(10, 20), range(20, 25), range(35, 50), range(0)]
    assert ports.merged(given_ranges) == [range(10, 25), range(30, 50)]


def test_ports_of_others_are_told_from_ours() -> None:
    now = [range(10, 20), range(30, 41)]
    assert ports.without(now, [range(12, 15), range(30, 40)]) == [
        range(10, 12),
        range(15, 20),
        range(40, 41),
    ]
    assert ports.without(now, now) == []


def test_rules_of_settings_name_every_network_once() -> None:
    server = replace(
        SOHO,
        masquerade=(IPv4Network("10.0.0.0/8"), IPv4Network("10.1.0.0/16")),
        forbidden=(IPv4Network("172.16.0.0/12"), IPv4Network("172.16.5.0/24")),
        ports=(range(20_000, 30_000),),
        icmp_ids=range(0xC000, 0x1_0000),
    )
    rules = ruleset.settings_rules(NarSettings((server,)), KernelBelow().words(4759))
    assert rules.count("10.1.0.0/16") == 0
    assert "masquerade to :30000-65535" in rules
    assert "masquerade to :1-49151" in rules
    assert f"{NB} . 172.16.0.0/12" in rules
    assert "172.16.5.0/24" not in rules
    assert f"{NB2} . 169.254.0.0/16" in rules


def test_only_other_rules_are_another_version() -> None:
    settings, words = NarSettings((SOHO,)), KernelBelow().words(4759)
    version = ruleset.render(settings, words).split()[-1]
    assert ruleset.render(replace(settings, mtu=1400, servers=()), words).split()[-1] == version
    assert ruleset.render(settings, words, [range(5, 6)]).split()[-1] == version
    assert ruleset.render(replace(settings, offload=False), words).split()[-1] != version
    assert "$" not in ruleset.render(settings, words)
