"""Traffic of a device over the last hour and the last day, in bounded memory.

An interval without traffic takes no room, so devices at rest cost nothing.
"""

import struct
from collections import OrderedDict
from typing import Final

FINE_S: Final = 10
COARSE_S: Final = 300
FINE_SAMPLES: Final = 360
COARSE_SAMPLES: Final = 288
MAX_DEVICES: Final = 2000
"""Whose traffic is remembered: those that had some last. At most 18 kB each."""

Counts = tuple[int, int, int, int]
"""Octets in and out, packets in and out."""
NOTHING: Final[Counts] = (0, 0, 0, 0)
_SAMPLE = struct.Struct("=IQQII")
_MOST_PACKETS: Final = 2**32 - 1


class Ring:
    """The newest samples, each of one interval."""

    __slots__ = ("_octets", "interval_s", "samples")

    def __init__(self, interval_s: int, samples: int) -> None:
        self.interval_s = interval_s
        self.samples = samples
        self._octets = bytearray()

    def add(self, wall_s: float, counts: Counts) -> None:
        """Add to the interval that ``wall_s`` is in."""
        slot = int(wall_s // self.interval_s)
        octets = self._octets
        if octets:
            last, *known = _SAMPLE.unpack_from(octets, len(octets) - _SAMPLE.size)
            if slot <= last:  # also when the clock was set back
                summed = [one + more for one, more in zip(known, counts, strict=True)]
                _pack(octets, len(octets) - _SAMPLE.size, last, summed)
                return
        at = len(octets)
        octets += bytes(_SAMPLE.size)
        _pack(octets, at, slot, list(counts))
        if len(octets) > self.samples * _SAMPLE.size:
            del octets[: _SAMPLE.size]

    def since(self, wall_s: float) -> list[tuple[int, Counts]]:
        """Start of each interval and its counts, from the first that is not too old up to now.

        Intervals without traffic between them are there, with zeros.
        """
        newest = int(wall_s // self.interval_s)
        oldest = newest - self.samples + 1
        found = {
            slot: counts
            for slot, *counts in _SAMPLE.iter_unpack(self._octets)
            if oldest <= slot <= newest
        }
        if not found:
            return []
        return [
            (slot * self.interval_s, _counts(found.get(slot)))
            for slot in range(min(found), newest + 1)
        ]


def _pack(octets: bytearray, at: int, slot: int, counts: list[int]) -> None:
    bytes_in, bytes_out, packets_in, packets_out = counts
    packets = min(packets_in, _MOST_PACKETS), min(packets_out, _MOST_PACKETS)
    _SAMPLE.pack_into(octets, at, slot, bytes_in, bytes_out, *packets)


def _counts(found: list[int] | None) -> Counts:
    return NOTHING if found is None else (found[0], found[1], found[2], found[3])


class Rings:
    """The rings of those devices that had traffic last, by their number."""

    def __init__(self) -> None:
        self._found: OrderedDict[int, tuple[Ring, Ring]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._found)

    def add(self, number: int, wall_s: float, counts: Counts) -> None:
        """Traffic of a device."""
        rings = self._found.get(number)
        if rings is None:
            rings = (Ring(FINE_S, FINE_SAMPLES), Ring(COARSE_S, COARSE_SAMPLES))
            self._found[number] = rings
            if len(self._found) > MAX_DEVICES:
                self._found.popitem(last=False)
        else:
            self._found.move_to_end(number)
        for ring in rings:
            ring.add(wall_s, counts)

    def of(self, number: int, *, fine: bool) -> Ring | None:
        """One of a device's rings."""
        rings = self._found.get(number)
        return None if rings is None else rings[0 if fine else 1]
