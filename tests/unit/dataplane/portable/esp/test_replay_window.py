"""The replay window at its edges, and against a model that forgets nothing."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dataplane.portable.esp.replay_window import REFUSED, ReplayWindow

LOW = 0xFFFFFFFF
SIZES = [32, 64, 128, 256, 512, 1024]


def take(window: ReplayWindow, number: int) -> bool:
    """Receive the packet with this full number: as its ICV would have it."""
    if window.full(number & LOW) != number:
        return False
    window.accept(number)
    return True


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("esn", [False, True])
def test_the_oldest_in_the_window_counts_and_the_one_before_does_not(size: int, esn: bool) -> None:
    window = ReplayWindow(size, esn=esn)
    assert take(window, 5000)
    assert take(window, 5000 - size + 1)
    assert not take(window, 5000 - size)
    assert not take(window, 5000 - size + 1), "twice"
    assert not take(window, 5000), "twice"
    assert take(window, 5001)
    assert not take(window, 5001 - size)
    assert take(window, 5001 - size + 1)


@pytest.mark.parametrize("esn", [False, True])
def test_number_zero_is_never_right(esn: bool) -> None:
    window = ReplayWindow(64, esn=esn)
    assert window.full(0) == REFUSED
    window.accept(3)
    assert window.full(0) in ({REFUSED} if not esn else {REFUSED, 1 << 32})
    assert take(window, 1)


@pytest.mark.parametrize(("asked", "given_"), [(0, 32), (31, 32), (100, 100), (5000, 1024)])
def test_sizes_are_bounded(asked: int, given_: int) -> None:
    assert ReplayWindow(asked, esn=True).size == given_


@pytest.mark.parametrize("size", SIZES)
def test_the_high_half_goes_up_and_late_packets_belong_to_the_one_before(size: int) -> None:
    window = ReplayWindow(size, esn=True)
    end = 1 << 32
    window.accept(end - 2)
    assert take(window, end + 3)
    assert window.highest == end + 3
    assert take(window, end - 1)
    assert take(window, end)
    assert take(window, end + 3 - size + 1)
    assert not take(window, end + 3 - size)
    assert not take(window, end - 2)
    assert take(window, end + size)


def test_without_esn_the_last_number_is_the_end() -> None:
    window = ReplayWindow(64, esn=False)
    assert take(window, LOW)
    assert window.full(0) == REFUSED
    assert window.full(5) == REFUSED


def test_with_esn_the_last_number_of_all_is_the_end() -> None:
    window = ReplayWindow(64, esn=True)
    window.accept((1 << 64) - 1)
    assert window.full(5) == REFUSED


@pytest.mark.parametrize("window_size", [32, 1024])
def test_a_jump_over_the_whole_window_forgets_all_of_it(window_size: int) -> None:
    window = ReplayWindow(window_size, esn=True)
    for number in range(1, 100):
        assert take(window, number)
    assert take(window, 99 + (1 << 31))
    assert take(window, 98 + (1 << 31)), "never received, so not in the window"


@given(
    size=st.sampled_from(SIZES),
    esn=st.booleans(),
    start=st.sampled_from([1, 2000, (1 << 32) - 700, (5 << 32) - 30]),
    seed=st.integers(0, 1 << 32),
)
def test_random_order_against_a_model(size: int, esn: bool, start: int, seed: int) -> None:
    """Reordered, repeated and lost: a number counts once and only within the window."""
    if not esn:
        start = min(start, 2000)
    choose = random.Random(seed)
    window = ReplayWindow(size, esn=esn)
    window.accept(start)
    seen, highest = {start}, start
    for _ in range(300):
        number = max(1, highest + choose.choice((1, 1, 1, 2, 40, -1, -5, -size + 1, -size, size)))
        if choose.random() < 0.1:
            number = choose.choice(tuple(seen))
        expected = number not in seen and number > highest - size
        assert take(window, number) == expected, (number, highest)
        if expected:
            seen.add(number)
            highest = max(highest, number)
        assert window.highest == highest


@given(low=st.integers(0, LOW), highest=st.integers(1, (1 << 64) - 1), size=st.sampled_from(SIZES))
def test_a_guess_ends_in_what_the_packet_has_and_is_near(low: int, highest: int, size: int) -> None:
    window = ReplayWindow(size, esn=True)
    window.accept(highest)
    number = window.full(low)
    if number != REFUSED:
        assert number & LOW == low
        assert highest - size < number < highest + (1 << 32)
