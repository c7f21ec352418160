"""Which elements child SAs in transport mode have, and how the table follows them."""

import errno
from dataclasses import replace
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dataplane.kernel.selectors import SelectorRefusedError
from gateway.dataplane.portable.transport import policies, routes
from gateway.dataplane.portable.transport.elements import MAX_ELEMENTS, elements_of
from gateway.dataplane.portable.transport.policies import TransportPolicies, render
from gateway.domain.child_sa import (
    ChildSa,
    Encryption,
    EspKeys,
    EspSuite,
    Integrity,
    Mode,
    TrafficSelector,
)
from gateway.domain.endpoint import Endpoint

OURS, PEER = ip_address("192.0.2.1"), ip_address("198.51.100.7")
SUITE = EspSuite(Encryption.AES_GCM_16, 128, Integrity.NONE, esn=False)


def side(
    address: str = "192.0.2.1", protocol: int = 0, first: int = 0, last: int = 0xFFFF
) -> TrafficSelector:
    return TrafficSelector(ip_address(address), ip_address(address), protocol, first, last)


def child(
    local: TrafficSelector, remote: TrafficSelector, spi: int = 1, mode: Mode = Mode.TRANSPORT
) -> ChildSa:
    return ChildSa(
        spi_in=spi,
        spi_out=spi,
        reqid=spi,
        suite=SUITE,
        keys_in=EspKeys(b""),
        keys_out=EspKeys(b""),
        local=Endpoint(OURS, 500),
        remote=Endpoint(PEER, 500),
        udp_encapsulation=False,
        local_ts=(local,),
        remote_ts=(remote,),
        mode=mode,
    )


L2TP = child(side(protocol=17, first=1701, last=1701), side("198.51.100.7", 17, 1701, 1701))


class Table:
    """What the kernel would have been told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.commands: list[str] = []
        self.routed: list[str] = []
        self.refuse = False
        monkeypatch.setattr(policies.ruleset, "run_nft", self.run)
        monkeypatch.setattr(routes, "build", self.routed.append)
        monkeypatch.setattr(routes, "clear", lambda: self.routed.append("clear"))

    def run(self, command: str) -> str:
        if self.refuse:
            raise OSError(errno.ENOMEM, "no memory")
        self.commands.append(command)
        return ""


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> Table:
    return Table(monkeypatch)


@pytest.mark.parametrize(
    ("local", "remote", "expected"),
    [
        (side(), side("198.51.100.7"), {("hosts4", "192.0.2.1 . 198.51.100.7")}),
        (
            side(protocol=6),
            side("198.51.100.7"),
            {("protocol4", "192.0.2.1 . 198.51.100.7 . 6")},
        ),
        (
            side(protocol=17, first=1701, last=1701),
            side("198.51.100.7", 17),
            {("near4", "192.0.2.1 . 198.51.100.7 . 17 . 1701")},
        ),
        (
            side(protocol=17),
            side("198.51.100.7", 17, 1701, 1701),
            {("far4", "192.0.2.1 . 198.51.100.7 . 17 . 1701")},
        ),
        (
            side(protocol=17, first=1701, last=1701),
            side("198.51.100.7", 17, 5, 6),
            {
                ("both4", "192.0.2.1 . 198.51.100.7 . 17 . 1701 . 5"),
                ("both4", "192.0.2.1 . 198.51.100.7 . 17 . 1701 . 6"),
            },
        ),
        (
            side("2001:db8::1", 6, 22, 22),
            side("2001:db8::2", 6),
            {("near6", "2001:db8::1 . 2001:db8::2 . 6 . 22")},
        ),
    ],
)
def test_selectors_become_elements_of_the_set_that_says_as_much(
    local: TrafficSelector, remote: TrafficSelector, expected: set[tuple[str, str]]
) -> None:
    assert elements_of(child(local, remote)) == expected


def test_networks_and_wide_ranges_of_ports_on_both_sides_are_refused() -> None:
    network = TrafficSelector(ip_address("198.51.100.0"), ip_address("198.51.100.255"))
    with pytest.raises(SelectorRefusedError, match="hosts themselves"):
        elements_of(child(side(), network))
    with pytest.raises(SelectorRefusedError, match=str(MAX_ELEMENTS)):
        elements_of(child(side(protocol=6, first=1), side("198.51.100.7", 6)))


@given(st.integers(0, 0xFFFF), st.integers(0, 0xFFFF))
def test_a_range_of_ports_is_all_of_it_or_refused(first: int, size: int) -> None:
    last = min(first + size, 0xFFFF)
    try:
        found = elements_of(child(side(protocol=6, first=first, last=last), side("198.51.100.7")))
    except SelectorRefusedError:
        assert last - first >= MAX_ELEMENTS
        return
    if (first, last) == (0, 0xFFFF):
        assert {name for name, _ in found} == {"protocol4"}
    else:
        assert {int(words.rpartition(" . ")[2]) for _, words in found} == set(
            range(first, last + 1)
        )


def test_the_table_comes_with_the_first_sa_and_goes_with_the_last(table: Table) -> None:
    held = TransportPolicies("gw0")
    assert held.claim(L2TP) is None
    assert held.flush() == []
    assert table.routed == ["gw0"]
    assert "192.0.2.1 . 198.51.100.7 . 17 . 1701 . 1701" in table.commands[0]
    held.release(L2TP.spi_in)
    assert held.flush() == []
    assert table.commands[1].endswith(f"delete table inet {policies.constants.TABLE}")
    assert table.routed == ["gw0", "clear"]
    assert held.flush() == []
    assert len(table.commands) == 2


def test_a_successor_keeps_the_element_of_the_sa_that_it_replaces(table: Table) -> None:
    held = TransportPolicies("gw0")
    held.claim(L2TP)
    held.flush()
    held.claim(replace(L2TP, spi_in=2))
    held.release(L2TP.spi_in)
    assert held.flush() == []
    assert len(table.commands) == 1


def test_a_further_sa_is_an_element_more(table: Table) -> None:
    held = TransportPolicies("gw0")
    held.claim(L2TP)
    held.flush()
    held.claim(child(side(), side("198.51.100.8"), 2))
    held.release(L2TP.spi_in)
    held.flush()
    both = f"inet {policies.constants.TABLE}"
    assert table.commands[1].splitlines() == [
        f"add element {both} hosts4 {{ 192.0.2.1 . 198.51.100.8 }}",
        f"delete element {both} both4 {{ 192.0.2.1 . 198.51.100.7 . 17 . 1701 . 1701 }}",
    ]


def test_a_trap_holds_its_traffic_until_it_is_taken_away(table: Table) -> None:
    held = TransportPolicies("gw0")
    held.trap(L2TP)
    held.claim(L2TP)
    held.flush()
    held.release(L2TP.spi_in)
    held.flush()
    assert len(table.commands) == 1, "the trap holds it"
    held.untrap(L2TP.reqid)
    held.flush()
    assert "delete table" in table.commands[-1]


def test_what_an_earlier_process_left_goes_with_a_start_that_has_none(table: Table) -> None:
    assert TransportPolicies("gw0").flush() == []
    assert "delete table" in table.commands[0]


def test_tunnel_mode_is_none_of_its_business(table: Table) -> None:
    held = TransportPolicies("gw0")
    held.flush()
    assert held.claim(replace(L2TP, mode=Mode.TUNNEL)) is None
    assert held.flush() == []
    assert len(table.commands) == 1


def test_a_refusal_names_the_sa_and_leaves_those_before(table: Table) -> None:
    held = TransportPolicies("gw0")
    held.claim(L2TP)
    held.flush()
    table.refuse = True
    held.claim(child(side(), side("198.51.100.8"), 2))
    (refused,) = held.flush()
    assert (refused.spi_in, refused.reason) == (2, "transport mode: no memory")
    table.refuse = False
    assert held.flush() == []
    assert len(table.commands) == 1


def test_ports_of_ike_are_exempt(table: Table) -> None:
    held = TransportPolicies("gw0")
    held.claim(replace(L2TP, local=Endpoint(OURS, 1500)))
    held.flush()
    assert "elements = { 500, 1500, 4500 }" in table.commands[0]


def test_closing_takes_all_away_or_leaves_it(table: Table) -> None:
    held = TransportPolicies("gw0")
    held.claim(L2TP)
    held.flush()
    held.close(keep=True)
    assert len(table.commands) == 1
    held.close(keep=False)
    assert "delete table" in table.commands[1]


def test_the_ruleset_has_no_word_unfilled() -> None:
    assert "$" not in render("gw0", elements_of(L2TP))
