"""Selectors as the kernel's, and policies with more than one owner."""

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dataplane.kernel.policies import PolicyTable
from gateway.dataplane.kernel.ruleset import render
from gateway.dataplane.kernel.selectors import (
    MAX_SELECTOR_PAIRS,
    SelectorRefusedError,
    outbound,
    port_blocks,
)
from gateway.dataplane.kernel.settings import KernelSettings
from gateway.dataplane.kernel.xfrm import encode
from gateway.dataplane.kernel.xfrm.constants import Direction
from gateway.dataplane.kernel.xfrm.encode import Template
from gateway.domain.child_sa import TrafficSelector

LOCAL = TrafficSelector.of_network(ip_network("10.1.0.0/16"))
REMOTE = TrafficSelector.of_address(ip_address("10.9.0.1"))
SELECTOR = outbound([LOCAL], [REMOTE])[0]
FIRST = Template(ip_address("192.0.2.1"), ip_address("198.51.100.1"), 1)
SECOND = Template(ip_address("192.0.2.1"), ip_address("198.51.100.2"), 2)


@given(st.integers(0, 65535), st.integers(0, 65535))
def test_port_blocks_hold_the_range_and_nothing_else(one: int, other: int) -> None:
    start, end = sorted((one, other))
    blocks = port_blocks(start, end)
    covered = 0
    for port, mask in blocks:
        size = (~mask & 0xFFFF) + 1
        assert port & ~mask & 0xFFFF == 0
        assert (start <= port and port + size - 1 <= end) or (port, mask) == (0, 0)
        covered += size
    assert covered == end - start + 1
    assert len(blocks) <= 30


def test_a_range_becomes_its_prefixes() -> None:
    ragged = TrafficSelector(ip_address("10.1.0.1"), ip_address("10.1.0.6"), 17, 53, 53)
    found = outbound([ragged], [REMOTE])
    assert [(str(s.source), s.source_prefix) for s in found] == [
        ("10.1.0.1", 32), ("10.1.0.2", 31), ("10.1.0.4", 31), ("10.1.0.6", 32),
    ]  # fmt: skip
    assert {(s.protocol, s.source_port, s.source_port_mask) for s in found} == {(17, 53, 0xFFFF)}


def test_h27_what_the_kernel_cannot_say_is_refused() -> None:
    six = TrafficSelector.of_network(ip_network("fd00::/64"))
    tcp = TrafficSelector(LOCAL.start, LOCAL.end, 6)
    udp = TrafficSelector(REMOTE.start, REMOTE.end, 17)
    many = [TrafficSelector.of_address(ip_address(f"10.5.0.{n * 2}")) for n in range(100)]
    for local, remote in (([six], [REMOTE]), ([tcp], [udp]), ([], [REMOTE]), (many, [REMOTE])):
        with pytest.raises(SelectorRefusedError):
            outbound(local, remote)
    assert len(outbound(many[:MAX_SELECTOR_PAIRS], [REMOTE])) == MAX_SELECTOR_PAIRS


def test_the_newest_owner_has_the_policy_and_the_earlier_one_gets_it_back() -> None:
    table = PolicyTable()
    add_first = encode.policy(Direction.OUT, SELECTOR, FIRST)
    add_second = encode.policy(Direction.OUT, SELECTOR, SECOND)
    assert table.claim(1, Direction.OUT, SELECTOR, FIRST) == [add_first]
    assert table.claim(1, Direction.OUT, SELECTOR, FIRST) == []
    assert table.claim(2, Direction.OUT, SELECTOR, SECOND) == [add_second]
    assert table.release(2) == [add_first]
    assert table.release(1) == [encode.delete_policy(Direction.OUT, SELECTOR)]
    assert len(table) == 0
    assert table.release(1) == []


def test_the_earlier_owner_going_first_changes_nothing() -> None:
    table = PolicyTable()
    table.claim(1, Direction.OUT, SELECTOR, FIRST)
    table.claim(2, Direction.OUT, SELECTOR, SECOND)
    assert table.release(1) == []
    assert table.release(2) == [encode.delete_policy(Direction.OUT, SELECTOR)]


def test_a_move_of_an_earlier_owner_waits_for_its_turn() -> None:
    table = PolicyTable()
    table.claim(1, Direction.OUT, SELECTOR, FIRST)
    table.claim(2, Direction.OUT, SELECTOR, SECOND)
    moved = Template(ip_address("192.0.2.1"), ip_address("203.0.113.1"), 1)
    assert table.claim(1, Direction.OUT, SELECTOR, moved) == []
    assert table.release(2) == [encode.policy(Direction.OUT, SELECTOR, moved)]


def test_the_ruleset_is_filled_in_completely() -> None:
    text = render(
        KernelSettings(
            xfrm_interface="vpn7",
            inner_networks=(ip_network("10.9.0.0/16"), ip_network("fd09::/64")),
            protected_networks=(ip_network("10.9.1.0/24"), ip_network("10.1.0.0/24")),
            outside_interfaces=("eth0", "wlan0"),
            queue_number=77,
            mtu=1380,
        )
    )
    assert "$" not in text
    assert "queue num 77" in text
    assert 'elements = { "eth0", "wlan0" }' in text
    assert "elements = { 10.1.0.0/24, 10.9.0.0/16 }" in text, "no overlapping intervals"
    assert "size set 1340" in text
    assert 'iifname != "vpn7"' in text
