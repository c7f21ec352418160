"""ESP from unknown sources: judged one packet at a time, so that an SA follows its peer.

The kernel queues a packet here only when its SPI is that of an SA that may move and its source is
not the SA's own. A proven packet is held until :meth:`SlowPath.release`, so the SA has moved
before the kernel sees it. What a flood of garbage may cost is bounded
(:mod:`gateway.dataplane.packet.esp_budget`).
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from gateway.dataplane.interface import EndpointRejected, EndpointSeen
from gateway.dataplane.kernel.nfqueue import ACCEPT, DROP, Queue, QueuedPacket
from gateway.dataplane.packet import esp_evidence
from gateway.dataplane.packet.esp import EspCipher
from gateway.dataplane.packet.esp_budget import CheckBudget
from gateway.dataplane.packet.esp_evidence import OuterEsp, Proven
from gateway.domain.endpoint import Endpoint, IpAddress
from gateway.domain.wire import WireError

PACKETS_PER_TURN: Final = 64
"""Packets judged before other work of the process gets its turn."""
HIGHEST_MAX_AGE_S: Final = 1.0
"""The kernel's replay state is read again for the cheap check after this time."""


@dataclass(slots=True)
class WatchedSa:
    """What the slow path knows of an SA that may move."""

    spi_in: int
    cipher: EspCipher
    esn: bool
    remote: Endpoint
    highest: int = 0
    """Highest sequence number known of; the kernel's may be higher by now."""
    highest_at: float = float("-inf")
    claimed: IpAddress | None = None
    """The source proven since the last release."""
    budget: CheckBudget = field(default_factory=CheckBudget)


class SlowPath:
    """Judges queued packets. ``highest`` reads an SA's highest received number in the kernel."""

    def __init__(
        self, queue: Queue, highest: Callable[[int], int | None], clock: Callable[[], float]
    ) -> None:
        self._queue = queue
        self._read_highest = highest
        self._clock = clock
        self._watched: dict[int, WatchedSa] = {}
        self._held: list[tuple[int, int]] = []
        self._claimants: list[WatchedSa] = []
        self.counters: Counter[str] = Counter()
        """Packets by what became of them."""

    @property
    def overruns(self) -> int:
        """Times the queue's socket buffer was full."""
        return self._queue.overruns

    def fileno(self) -> int:
        """For selectors."""
        return self._queue.fileno()

    def close(self) -> None:
        """Give up the queue; what waits in it is dropped."""
        self._queue.close()

    def watch(self, sa: WatchedSa) -> None:
        """Judge packets of this SA from now on."""
        self._watched[sa.spi_in] = sa

    def unwatch(self, spi_in: int) -> None:
        """Forget an SA; unknown ones are fine."""
        self._watched.pop(spi_in, None)

    def moved(self, spi_in: int, remote: Endpoint) -> None:
        """The SA's own source is now another."""
        sa = self._watched.get(spi_in)
        if sa is not None:
            sa.remote = remote
            sa.budget.trust(remote.address)

    def release(self) -> None:
        """Let the held packets into the kernel: call when what they proved has been acted on."""
        if self._held:
            self._queue.decide(self._held)
            self._held = []
            for sa in self._claimants:
                sa.claimed = None
            self._claimants = []

    def poll(self) -> list[EndpointSeen | EndpointRejected]:
        """Judge up to :data:`PACKETS_PER_TURN` packets; never raises for what is in them."""
        events: list[EndpointSeen | EndpointRejected] = []
        verdicts: list[tuple[int, int]] = []
        now = self._clock()
        for packet in self._queue.read(PACKETS_PER_TURN):
            verdict = self._judge(packet, now, events)
            if verdict is None:
                self._held.append((packet.number, ACCEPT))
            else:
                verdicts.append((packet.number, verdict))
        self._queue.decide(verdicts)
        return events

    def _judge(
        self, packet: QueuedPacket, now: float, events: list[EndpointSeen | EndpointRejected]
    ) -> int | None:
        """The verdict, or None for a packet to hold."""
        try:
            outer = esp_evidence.parse(packet.octets)
        except WireError:
            self.counters["malformed"] += 1
            return DROP
        sa = self._watched.get(outer.spi)
        if sa is None:
            self.counters["unknown_spi"] += 1
            return DROP
        if outer.source == sa.remote.address:
            self.counters["known_by_now"] += 1
            return ACCEPT
        if outer.source == sa.claimed:
            self.counters["held"] += 1
            return None
        verdict = self._examine(sa, outer, now)
        remote = Endpoint(outer.source, sa.remote.port)
        if isinstance(verdict, Proven):
            sa.claimed = outer.source
            self._claimants.append(sa)
            self.counters["proven"] += 1
            events.append(EndpointSeen(sa.spi_in, remote, f"esp icv, sequence {verdict.sequence}"))
            return None
        if sa.budget.rejections.take(now):
            events.append(EndpointRejected(sa.spi_in, remote, verdict.reason))
        # A late packet may be a reordered one of the peer: the kernel's own replay window and
        # ICV check decide about it; it moves nothing.
        return ACCEPT if verdict.late else DROP

    def _examine(
        self, sa: WatchedSa, outer: OuterEsp, now: float
    ) -> Proven | esp_evidence.Rejected:
        if now - sa.highest_at > HIGHEST_MAX_AGE_S:
            self._refresh(sa, now)
        low = outer.sequence_low
        if esp_evidence.full_sequence(low, sa.highest, esn=sa.esn) is None:
            self.counters["late"] += 1
            return esp_evidence.Rejected(
                f"sequence {low} is not above {sa.highest & 0xFFFFFFFF}", late=True
            )
        if not sa.budget.take(outer.source, now):
            self.counters["unchecked"] += 1
            return esp_evidence.Rejected("too many packets to check")
        verdict = esp_evidence.examine(outer, sa.cipher, sa.highest, esn=sa.esn)
        if isinstance(verdict, esp_evidence.Rejected):
            self.counters["forged"] += 1
            sa.budget.suspect(outer.source)
            return verdict
        self._refresh(sa, now)
        if verdict.sequence <= sa.highest:
            self.counters["late"] += 1
            return esp_evidence.Rejected(
                f"sequence {low} is not above {sa.highest & 0xFFFFFFFF}", late=True
            )
        sa.highest = verdict.sequence
        return verdict

    def _refresh(self, sa: WatchedSa, now: float) -> None:
        highest = self._read_highest(sa.spi_in)
        if highest is not None:
            sa.highest = max(sa.highest, highest)
            sa.highest_at = now
