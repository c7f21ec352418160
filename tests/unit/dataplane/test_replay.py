"""A late packet is told from a new one by what it did to the replay window."""

import struct

from hypothesis import given
from hypothesis import strategies as st

from gateway.dataplane.packet.replay import filled_hole, numbers_seen

WINDOW = 64


class Window:
    """The kernel's xfrm_replay_advance_bmp, as it behaves."""

    def __init__(self) -> None:
        self.highest = 0
        self.seen: set[int] = set()

    def receive(self, number: int) -> bool:
        if number + WINDOW <= self.highest or number in self.seen:
            return False
        self.highest = max(self.highest, number)
        self.seen.add(number)
        return True

    def state(self) -> tuple[int, bytes]:
        words = [0] * (WINDOW // 32)
        for number in self.seen:
            if number + WINDOW > self.highest:
                bit = (number - 1) % WINDOW
                words[bit // 32] |= 1 << bit % 32
        return self.highest, struct.pack(f"={len(words)}I", *words)


@given(st.lists(st.integers(1, 200), max_size=80))
def test_numbers_seen_are_those_received_within_the_window(numbers: list[int]) -> None:
    window = Window()
    for number in numbers:
        window.receive(number)
    within = {number for number in window.seen if number + WINDOW > window.highest}
    assert numbers_seen(*window.state(), WINDOW) == within


@given(st.lists(st.integers(1, 200), max_size=60), st.integers(1, 300))
def test_h46_one_more_packet_fills_a_hole_exactly_when_it_is_late(
    numbers: list[int], last: int
) -> None:
    window = Window()
    for number in numbers:
        window.receive(number)
    before = window.state()
    if window.receive(last):
        assert filled_hole(before, window.state(), WINDOW) == (last <= before[0])


def test_nothing_received_yet_is_an_empty_window() -> None:
    assert numbers_seen(0, b"", WINDOW) == set()
    assert not filled_hole((0, b""), (1, struct.pack("=2I", 1, 0)), WINDOW)
