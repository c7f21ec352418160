"""Replay windows compared: whether what came in since the last look was new or merely late.

The kernel reports a new UDP mapping without the sequence number of the packet that showed it.
Draft 001 appendix C lets only a proper, newest packet move an SA; the window tells it: a late
packet fills a hole below the highest number that was already known.
"""


def numbers_seen(highest: int, bitmap: bytes, window: int) -> set[int]:
    """The sequence numbers that a window marks as received.

    ``bitmap`` is the kernel's: 32-bit words in the machine's order, number ``n`` at bit
    ``(n - 1) % window``. ``window`` is in packets.
    """
    words = memoryview(bitmap[: len(bitmap) // 4 * 4]).cast("I")
    size = min(window, 32 * len(words))
    return {
        number
        for number in range(max(1, highest - size + 1), highest + 1)
        if words[(number - 1) % size // 32] >> (number - 1) % size % 32 & 1
    }


def filled_hole(before: tuple[int, bytes], after: tuple[int, bytes], window: int) -> bool:
    """Whether a number not above the highest ``before`` came in since; pairs as above."""
    known = numbers_seen(*before, window)
    return any(
        number <= before[0] and number not in known for number in numbers_seen(*after, window)
    )
