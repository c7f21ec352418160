"""Which name a device gets, and when the DNS server is told."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from ipaddress import IPv4Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.remote_access import Grant, Presence
from gateway.names.labels import MAX_LABEL, candidates, dhcid, label_of
from gateway.names.reverse import reverse_domains
from gateway.names.roster import Register, Registered, Roster, Withdraw

ZONE = "devices.example.test"


def grant(session: str, peer: str = "ann@example.com", last: int = 2, name: str = "") -> Grant:
    """A session of a device with one address."""
    return Grant(session, peer, addresses=(IPv4Address(f"10.9.0.{last}"),), wanted_name=name)


def entry(label: str, peer: str, last: int = 2) -> Registered:
    """A name of the zone."""
    return Registered(f"{label}.{ZONE}", peer, (IPv4Address(f"10.9.0.{last}"),))


def roster(configured: dict[str, str] | None = None) -> Roster:
    """An empty one."""
    known = {} if configured is None else configured
    return Roster(ZONE, lambda identity: known.get(identity, ""))


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("Anns-Laptop", "anns-laptop"),
        ("Ann's iPhone", "anns-iphone"),
        ("ann@example.com", "ann"),
        ("laptop.example.com", "laptop"),
        ("C=DE, O=Example, CN=Ann Example", "ann-example"),
        ("  ..  ", ""),
        ("-x-", "x"),
        ("a" * 80, "a" * 63),
        ("a" * 62 + "_b", "a" * 62),
        ("büro", "b-ro"),
        ("\x00\n;drop", "drop"),
    ],
)
def test_labels(text: str, label: str) -> None:
    assert label_of(text) == label


@given(st.text(max_size=300), st.text(max_size=300), st.text(max_size=300))
def test_candidates_are_always_host_names(configured: str, wanted: str, identity: str) -> None:
    found = list(candidates(configured=configured, wanted=wanted, identity=identity))
    assert found
    for one in found:
        assert 0 < len(one) <= MAX_LABEL
        assert one == label_of(one)


def test_a_device_cannot_choose_a_name_that_others_look_for_something_else_at() -> None:
    found = list(candidates(configured="", wanted="wpad", identity="ann@example.com"))
    assert found[0] == "ann"
    assert "wpad" not in found


def test_an_administrator_may() -> None:
    found = list(candidates(configured="www", wanted="x", identity="ann@example.com"))
    assert found[0] == "www"


def test_dhcid_is_as_rfc_4701_has_it() -> None:
    identity, name = "ann@example.com", "ann.example.com"
    wire = b"\x03ann\x07example\x03com\x00"
    digest = hashlib.sha256(b"\x00" + identity.encode() + wire).digest()
    assert dhcid(identity, name) == b"\x00\x01\x01" + digest


def test_a_device_gets_the_administrators_name_for_it() -> None:
    bed = roster({"ann@example.com": "Anns-Laptop"})
    bed.granted(grant("1", name="something"))
    assert bed.take_orders() == [Register(entry("anns-laptop", "ann@example.com"))]
    assert bed.name_of("ann@example.com") == f"anns-laptop.{ZONE}"
    assert not bed.take_orders()


def test_a_device_that_is_renamed_gets_its_new_name() -> None:
    known: dict[str, str] = {}
    bed = roster(known)
    bed.granted(grant("1"))
    bed.granted(grant("2", "bob@example.com", 3))
    bed.take_orders()
    known["ann@example.com"] = "anns-phone"
    bed.reconsider("ann@example.com")
    bed.reconsider("nobody@example.com")
    assert bed.take_orders() == [
        Withdraw(entry("ann", "ann@example.com")),
        Register(entry("anns-phone", "ann@example.com")),
    ]
    known["bob@example.com"] = "anns-phone"
    bed.reconsider("bob@example.com")
    assert not bed.take_orders(), "a name that somebody has is not taken away"
    known.clear()
    bed.reconsider(str(bed.identity_of("anns-phone")))
    assert bed.take_orders()[1] == Register(entry("ann", "ann@example.com"))


def test_who_is_known_by_an_address_only_is_named_by_the_user() -> None:
    bed = roster()
    for number, user in ((2, "ann"), (3, "bob")):
        address = IPv4Address(f"10.9.0.{number}")
        bed.granted(Grant(user, "192.168.1.5", user, addresses=(address,)))
    assert [one.entry for one in bed.take_orders()] == [entry("ann", "ann"), entry("bob", "bob", 3)]


def test_who_only_claims_an_identity_is_named_by_the_user() -> None:
    bed = roster({"ann@example.com": "anns-laptop"})
    bed.granted(grant("1"))
    for session, peer in (("2", "ann@example.com"), ("3", "bob@example.com")):
        claimed = grant(session, peer, 3, "intranet")
        bed.granted(replace(claimed, user="mallory", proven=False))
    assert [one.entry for one in bed.take_orders()] == [
        entry("anns-laptop", "ann@example.com"),
        entry("mallory", "mallory", 3),
    ]


def test_a_name_goes_with_the_last_session() -> None:
    bed = roster()
    bed.granted(grant("1"))
    bed.granted(grant("2"))
    bed.take_orders()
    bed.ended(grant("1"))
    assert not bed.take_orders()
    bed.ended(grant("2"))
    assert bed.take_orders() == [Withdraw(entry("ann", "ann@example.com"))]


def test_a_name_follows_the_newest_session() -> None:
    bed = roster()
    bed.granted(grant("1", last=2))
    bed.granted(grant("2", last=3))
    assert bed.take_orders() == [Register(entry("ann", "ann@example.com", 3))]
    bed.ended(grant("2", last=3))
    assert bed.take_orders() == [Register(entry("ann", "ann@example.com", 2))]


def test_a_device_that_comes_back_at_once_costs_nothing_but_its_last_word() -> None:
    bed = roster()
    bed.granted(grant("1"))
    bed.take_orders()
    bed.ended(grant("1"))
    bed.granted(grant("2"))
    assert bed.take_orders() == [Register(entry("ann", "ann@example.com"))]


def test_a_device_that_comes_back_while_its_name_is_taken_away_has_it_again() -> None:
    bed = roster()
    bed.granted(grant("1"))
    bed.take_orders()
    bed.ended(grant("1"))
    assert bed.take_orders() == [Withdraw(entry("ann", "ann@example.com"))]
    bed.granted(grant("2"))
    assert bed.take_orders() == [Register(entry("ann", "ann@example.com"))]
    bed.withdrawn(f"ann.{ZONE}")
    bed.again()
    assert bed.take_orders() == [Register(entry("ann", "ann@example.com"))]


def test_names_of_two_devices_differ() -> None:
    bed = roster()
    bed.granted(grant("1", "ann@example.com"))
    bed.granted(grant("2", "ann@example.org", last=3))
    first, second = bed.take_orders()
    assert first.entry.name == f"ann.{ZONE}"
    assert second.entry.name.startswith("ann-")
    bed.ended(grant("1", "ann@example.com"))
    assert bed.name_of("ann@example.org") == second.entry.name


def test_a_name_that_is_somebody_elses_in_dns_is_left_alone() -> None:
    bed = roster()
    bed.granted(grant("1", name="printer"))
    bed.take_orders()
    assert bed.taken(f"printer.{ZONE}")
    assert bed.take_orders() == [Register(entry("ann", "ann@example.com"))]
    assert bed.taken(f"ann.{ZONE}")
    (last,) = bed.take_orders()
    assert last.entry.name.startswith(("ann-", "printer-"))
    assert not bed.taken(last.entry.name)
    assert not bed.take_orders()
    bed.ended(grant("1"))


def test_devices_without_addresses_of_their_own_have_no_names() -> None:
    bed = roster()
    bed.granted(
        Grant("1", "ann", addresses=(IPv4Address("10.0.0.2"),), presence=Presence.NAPT, zone=7)
    )
    bed.granted(Grant("2", "bob"))
    assert not bed.take_orders()
    assert not len(bed)


def test_after_a_restart_only_the_difference_is_told() -> None:
    bed = roster()
    bed.left_behind([entry("ann", "ann@example.com"), entry("bob", "bob@example.com", 3)])
    bed.granted(grant("1"))
    bed.settle()
    assert bed.take_orders() == [Withdraw(entry("bob", "bob@example.com", 3))]


def test_after_a_restart_another_device_may_get_the_name() -> None:
    bed = roster()
    bed.left_behind([entry("ann", "ann@example.org", 3)])
    bed.granted(grant("1"))
    bed.settle()
    assert bed.take_orders() == [
        Withdraw(entry("ann", "ann@example.org", 3)),
        Register(entry("ann", "ann@example.com")),
    ]


def test_a_new_process_is_told_everything() -> None:
    bed = roster()
    bed.granted(grant("1"))
    bed.take_orders()
    bed.granted(grant("2", "bob@example.com", 3))
    bed.take_orders()
    bed.ended(grant("1"))
    bed.take_orders()
    bed.again()
    assert sorted(bed.take_orders(), key=str) == sorted(
        [
            Register(entry("bob", "bob@example.com", 3)),
            Withdraw(entry("ann", "ann@example.com")),
        ],
        key=str,
    )
    bed.withdrawn(f"ann.{ZONE}")
    bed.again()
    assert bed.take_orders() == [Register(entry("bob", "bob@example.com", 3))]


def test_churn_of_ten_thousand_devices_leaves_nothing() -> None:
    bed = roster()
    grants = [
        Grant(str(n), f"device{n}@example.com", addresses=(ip_address(0x0A090000 + n),))
        for n in range(10_000)
    ]
    for one in grants:
        bed.granted(one)
    assert len(bed.take_orders()) == len(bed) == 10_000
    for one in grants:
        bed.ended(one)
    orders = bed.take_orders()
    assert len(orders) == 10_000
    for order in orders:
        bed.withdrawn(order.entry.name)
    bed.again()
    assert not bed.take_orders()
    assert not len(bed)


@pytest.mark.parametrize(
    ("network", "domains"),
    [
        ("10.9.0.0/24", ["0.9.10.in-addr.arpa"]),
        ("10.9.0.0/23", ["0.9.10.in-addr.arpa", "1.9.10.in-addr.arpa"]),
        ("10.9.0.0/16", ["9.10.in-addr.arpa"]),
        ("10.0.0.0/8", ["10.in-addr.arpa"]),
        ("10.9.0.4/32", ["4.0.9.10.in-addr.arpa"]),
        ("fd12:3456::/32", ["6.5.4.3.2.1.d.f.ip6.arpa"]),
        ("fd12:3456:8000::/34", [f"{d}.6.5.4.3.2.1.d.f.ip6.arpa" for d in "89ab"]),
    ],
)
def test_reverse_domains(network: str, domains: list[str]) -> None:
    assert reverse_domains(ip_network(network)) == domains
