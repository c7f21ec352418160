"""Reads the dataplane's counters of child SAs, a few in each turn, and what they say of devices.

Every read is a question to the kernel. Few SAs are asked every second, many less often, and
never more than :data:`READS_PER_TURN` at once.
"""

from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from gateway.appliance.observation.device import ChildFacts, Device, SessionFacts
from gateway.appliance.observation.register import Register
from gateway.appliance.observation.rings import NOTHING, Counts, Rings
from gateway.dataplane.interface import Usage

TURN_S: Final = 0.25
READS_PER_TURN: Final = 64
SHORTEST_S: Final = 1.0
LONGEST_S: Final = 10.0
"""Between two samples of an SA, while there are not too many for that."""
GENTLE_PER_S: Final = 50
"""Reads a second up to which samples come closer together than :data:`LONGEST_S`."""
LAST_READS: Final = 256
"""Counters of SAs that end are read once more; so many at once, and some again every turn."""


class Spent(Protocol):
    """Takes what devices used: :class:`gateway.appliance.observation.chronicle.Chronicle`."""

    def used(self, identity: str, counts: Counts, connected_s: float, handovers: int = 0) -> None:
        """Add to today's."""


class Sampler:
    """Samples every child SA of the register in turn."""

    def __init__(
        self,
        register: Register,
        rings: Rings,
        spent: Spent,
        *,
        usage: Callable[[int], Usage | None],
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
    ) -> None:
        self._register = register
        self._rings = rings
        self._spent = spent
        self._usage = usage
        self._clock = clock
        self._wall_clock = wall_clock
        self.look: Callable[[Device, SessionFacts, float], None] = _nothing
        """Told of each session when its first child SA is sampled."""
        self._round: deque[int] = deque()
        self._begun_at = clock() - LONGEST_S
        self._last_reads = LAST_READS
        self._by_connection: dict[str, list[int]] = {}
        self.reads = 0

    @property
    def by_connection(self) -> dict[str, list[int]]:
        """Octets in and out, packets in and out since the start, by connection."""
        return self._by_connection

    def interval_s(self, count: int) -> float:
        """How long a round over so many SAs takes."""
        gentle = min(LONGEST_S, max(SHORTEST_S, count / GENTLE_PER_S))
        return max(gentle, count * TURN_S / READS_PER_TURN)

    def turn(self) -> None:
        """Read the next few; call it every :data:`TURN_S`."""
        now = self._clock()
        self._last_reads = min(LAST_READS, self._last_reads + READS_PER_TURN)
        if not self._round:
            spis = self._register.spis()
            if not spis or now - self._begun_at < self.interval_s(len(spis)):
                return
            self._begun_at = now
            self._round.extend(spis)
            self._share = max(1, int(len(spis) * TURN_S / self.interval_s(len(spis)) + 1))
        for _ in range(min(self._share, READS_PER_TURN, len(self._round))):
            self.sample(self._round.popleft(), now)

    def ending(self, spi_in: int) -> None:
        """An SA is about to be removed: its counters are read for the last time, if there is time.

        A thousand SAs that end at once lose what they carried since their last sample.
        """
        if self._last_reads > 0:
            self._last_reads -= 1
            self.sample(spi_in, self._clock())

    def sample(self, spi_in: int, now: float) -> None:
        """Read one."""
        found = self._register.of_spi(spi_in)
        if found is None:
            return
        device, session = found
        child = session.children.get(spi_in)
        usage = self._usage(spi_in)
        self.reads += 1
        if child is None or usage is None:
            return
        counted = (usage.bytes_in, usage.bytes_out, usage.packets_in, usage.packets_out)
        before = child.counted
        counts = _difference(counted, before)
        self._note(device, session, child, counts, now)
        child.counted, child.sampled_at = counted, now

    def _note(
        self, device: Device, session: SessionFacts, child: ChildFacts, counts: Counts, now: float
    ) -> None:
        passed_s = now - child.sampled_at if child.sampled_at >= 0 else 0.0
        wall_s = self._wall_clock()
        if counts[2]:
            device.last_seen_s = wall_s
            if now > session.heard_at:
                session.heard_at, session.heard_precision_s = now, max(passed_s, SHORTEST_S)
        child.rate_in = counts[0] / passed_s if passed_s > 0 else 0.0
        child.rate_out = counts[1] / passed_s if passed_s > 0 else 0.0
        children = [one for each in device.sessions.values() for one in each.children.values()]
        device.rate_in = sum(one.rate_in for one in children)
        device.rate_out = sum(one.rate_out for one in children)
        connected_s = 0.0
        if next(iter(session.children), None) == child.spi_in:
            connected_s = max(0.0, now - session.accounted_at)
            session.accounted_at = now
            self.look(device, session, now)
        if counts != NOTHING:
            device.octets_in += counts[0]
            device.octets_out += counts[1]
            device.packets_in += counts[2]
            device.packets_out += counts[3]
            self._rings.add(device.number, wall_s, counts)
            sums = self._by_connection.setdefault(session.connection, [0, 0, 0, 0])
            for place, count in enumerate(counts):
                sums[place] += count
        if connected_s or counts != NOTHING:
            self._spent.used(device.identity, counts, connected_s)


def _nothing(_device: Device, _session: SessionFacts, _now: float) -> None:
    return None


def _difference(now: Counts, before: Counts) -> Counts:
    """What was added. Counters that went back belong to an SA that was made anew."""
    if any(one < other for one, other in zip(now, before, strict=True)):
        return now
    return (
        now[0] - before[0],
        now[1] - before[1],
        now[2] - before[2],
        now[3] - before[3],
    )
