"""Boxes that overlap become boxes that do not, with the same flows."""

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.domain.filtering import Box
from gateway.filtering.disjoint import disjoint

FIRST = int(ip_address("10.0.0.0"))


def spans(last: int) -> st.SearchStrategy[tuple[int, int]]:
    ends = st.tuples(st.integers(0, last), st.integers(0, last))
    return ends.map(lambda pair: (min(pair), max(pair)))


# Small numbers, so that boxes overlap often.
networks = st.tuples(st.integers(28, 32), st.integers(0, 15)).map(
    lambda pair: ip_network((FIRST + pair[1], pair[0]), strict=False)
)
boxes = st.builds(Box, networks, spans(3), spans(7))
flows = st.tuples(st.integers(0, 15), st.integers(0, 3), st.integers(0, 7))


@settings(max_examples=300)
@given(st.lists(boxes, max_size=8), st.lists(flows, min_size=20, max_size=20))
def test_every_flow_is_in_one_box_if_it_was_in_any(sources: list[Box], tried: list) -> None:
    named = [(f"r{place}", box) for place, box in enumerate(sources)]
    found = disjoint(named, 10_000)
    for last, protocol, port in tried:
        address = ip_address(FIRST + last)
        before = [box for box in sources if box.holds(address, protocol, port)]
        after = [box for box in found if box.holds(address, protocol, port)]
        assert len(after) == bool(before)
        if after:
            # It is counted for one of those that have it.
            assert dict(named)[found[after[0]]] in before


def test_what_another_has_already_takes_no_room() -> None:
    wide = Box(ip_network("10.0.0.0/8"))
    narrow = Box(ip_network("10.1.2.3/32"), (6, 6), (80, 80))
    assert disjoint([("narrow", narrow), ("wide", wide)], 10) == {wide: "wide"}


def test_ip_versions_do_not_meet() -> None:
    four, six = Box(ip_network("0.0.0.0/0")), Box(ip_network("::/0"))
    assert set(disjoint([("a", four), ("b", six)], 10)) == {four, six}


def test_there_is_a_bound() -> None:
    many = [(str(n), Box(ip_network((FIRST + n, 32)))) for n in range(20)]
    with pytest.raises(ValueError, match="more than 10 entries"):
        disjoint(many, 10)
