"""Which values a NAR server gives out: by chance, never twice, not at once again."""

import itertools
import random
from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.nar import Delivery, NarMapping, NarProtocol, NarTuple
from gateway.nar.policy import NarRule
from gateway.nar.server.leases import Lease, Openness
from gateway.nar.server.sessions import Host, Owner, Session
from gateway.nar.server.values import DENSE, REST_S, Values

NB, XA, YB = (IPv4Address(one) for one in ("192.0.2.1", "10.0.0.7", "198.51.100.5"))
OWNER = Owner("", Host(XA))
OTHER = Owner("", Host(XA + 1))


def free(_: int) -> bool:
    return True


def lease(
    value: int, remote: IPv4Address | None = None, port: int | None = None, owner: Owner = OWNER
) -> Lease:
    session = Session(1, owner, NB, rule=NarRule("r"), groups=(), since_wall_s=0.0)
    key = NarTuple(NarProtocol.TCP, NB, value, remote, port)
    return Lease(session, 1, NarMapping("s", key, owner.client, Delivery.IP_IP), 0.0)


@given(st.integers(), st.lists(st.tuples(st.integers(1, 400), st.integers(0, 60)), max_size=4))
def test_everything_is_given_out_once(seed: int, spans: list[tuple[int, int]]) -> None:
    ranges = [range(start, start + size) for start, size in spans]
    never = frozenset({7, 50, 333})
    expected = {value for one in ranges for value in one} - never
    values = Values(ranges, never)
    assert values.room == len(expected)
    chance = random.Random(seed).randbytes
    drawn = []
    while (value := values.draw(chance, 0.0, free)) is not None:
        drawn.append(value)
        assert values.covers(value)
        values.add(lease(value))
    assert sorted(drawn) == sorted(expected)
    assert values.room == 0


def test_the_next_value_cannot_be_guessed() -> None:
    values = Values([range(20_000, 30_000)], ())
    chance = random.Random(5).randbytes
    drawn = []
    for _ in range(200):
        value = values.draw(chance, 0.0, free)
        assert value is not None
        values.add(lease(value))
        drawn.append(value)
    steps = [abs(b - a) for a, b in itertools.pairwise(drawn)]
    assert sum(step < 10 for step in steps) < 10
    assert max(drawn) > 29_000
    assert min(drawn) < 21_000


def test_a_released_value_rests() -> None:
    values = Values([range(10)], ())
    chance = random.Random(5).randbytes
    held = {}
    for value in range(10):
        held[value] = lease(value)
        values.add(held[value])
    values.remove(held[3], 100.0)
    values.remove(held[8], 101.0)
    assert values.rests(3, int(XA) + 1, 100.5)
    assert not values.rests(3, int(XA), 100.5)
    assert not values.rests(4, int(XA) + 1, 100.5)
    assert values.draw(chance, 102.0, free) == 3, "the longest rested when nothing else is left"
    values.add(held[3])
    assert values.draw(chance, 102.0, free) == 8
    values.remove(held[5], 103.0)
    assert values.draw(chance, 102.0 + REST_S, free) == 8, "well rested"
    assert not values.rests(5, int(XA) + 1, 103.0 + REST_S)


def test_values_of_a_large_range() -> None:
    values = Values([range(256, 1 << 32)], frozenset({300}))
    assert DENSE < (1 << 32)
    chance = random.Random(5).randbytes
    drawn = set()
    for _ in range(1000):
        value = values.draw(chance, 0.0, free)
        assert value is not None
        assert value >= 256
        values.add(lease(value))
        drawn.add(value)
    assert len(drawn) == 1000
    for value in drawn:
        found = values.find(value, 0, Openness.FROM_ANY)
        assert found is not None
        values.remove(found, 0.0)
    assert values.room == (1 << 32) - 256


def test_what_the_box_uses_is_passed_over() -> None:
    values = Values([range(4)], ())
    chance = random.Random(5).randbytes
    assert {values.draw(chance, 0.0, lambda value: value == 2) for _ in range(20)} <= {2, None}
    assert values.draw(chance, 0.0, lambda _: False) is None
    assert Values([], ()).draw(chance, 0.0, free) is None


def test_sharing_finds_values_without_that_remote() -> None:
    values = Values([range(8)], ())
    chance = random.Random(5).randbytes
    for value in range(8):
        values.add(lease(value, YB, 80 if value != 6 else 81))
    number = int(YB) << 16 | 80
    assert values.draw(chance, 0.0, free) is None
    assert values.draw_shared(chance, number, OTHER, free) == 6
    values.add(lease(6, YB, 80, OTHER))
    assert values.draw_shared(chance, number, OTHER, free) is None
    assert values.room == 0


def test_removing_twice_does_nothing() -> None:
    values = Values([range(8)], ())
    one, two = lease(1, YB, 80), lease(1, YB, 81, OTHER)
    values.add(one)
    values.add(two)
    assert values.remove(one, 0.0)
    assert not values.remove(one, 0.0)
    assert values.room == 7
    assert values.remove(two, 0.0)
    assert not values.remove(two, 0.0)
    assert values.room == 8


@pytest.mark.parametrize("size", [DENSE, DENSE + 1])
def test_both_ways_of_keeping_them(size: int) -> None:
    values = Values([range(size)], frozenset({0}))
    chance = random.Random(5).randbytes
    seen = {values.draw(chance, 0.0, free) for _ in range(200)}
    assert 0 not in seen
    assert None not in seen
    assert len(seen) > 190
