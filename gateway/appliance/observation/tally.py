"""Counts what only events tell: failures by reason, moves, handover gaps, rekeyings."""

from collections.abc import Mapping
from typing import Final

from gateway.domain.event import Event

GAP_BUCKETS_S: Final = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
MAX_REASONS: Final = 200
"""Of one kind; more are counted as ``other``. Reasons are names of RFCs, not what peers say."""

Labels = tuple[str, ...]


class Histogram:
    """Counts of values by their bucket."""

    __slots__ = ("buckets", "counts", "total")

    def __init__(self, buckets: tuple[float, ...] = GAP_BUCKETS_S) -> None:
        self.buckets = buckets
        self.counts = [0] * (len(buckets) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        """Count a value."""
        self.total += value
        for place, bound in enumerate(self.buckets):
            if value <= bound:
                self.counts[place] += 1
                return
        self.counts[-1] += 1

    def cumulative(self) -> list[tuple[str, int]]:
        """Bound and how many are not above it, as Prometheus wants them."""
        found, so_far = [], 0
        for bound, count in zip((*map(str, self.buckets), "+Inf"), self.counts, strict=True):
            so_far += count
            found.append((bound, so_far))
        return found


class Tally:
    """Call it with every event."""

    def __init__(self) -> None:
        self.login_failures: dict[Labels, int] = {}
        """By connection, step and reason."""
        self.registration_failures: dict[Labels, int] = {}
        """By agent and the name of the code."""
        self.moves: dict[Labels, int] = {}
        """By connection and what proved them."""
        self.rekeys: dict[Labels, int] = {}
        """By connection and what was renewed."""
        self.handshakes: dict[Labels, int] = {}
        """By connection: logins that came to their end."""
        self.last_handshake_s: dict[str, float] = {}
        """By connection, of the wall clock."""
        self.gaps = Histogram()
        self.warnings = 0

    def hear(self, event: Event, wall_s: float) -> None:
        """Count it."""
        name, fields = event.name, event.fields
        if event.severity.value == "warning":
            self.warnings += 1
        connection = str(fields.get("connection", ""))
        if name == "ike_sa_established":
            _count(self.handshakes, (connection,))
            self.last_handshake_s[connection] = wall_s
        elif name == "handshake_failed":
            _count(self.login_failures, (connection, _step(fields), _reason(fields)))
        elif name == "handshake_abandoned":
            _count(self.login_failures, ("", "IKE_AUTH", "ABANDONED"))
        elif name in {"registration_denied", "visitor_denied"}:
            agent = str(fields.get("home_agent" if name[0] == "r" else "foreign_agent", ""))
            _count(self.registration_failures, (agent, str(fields.get("code_name", "other"))))
        elif name == "endpoint_moved":
            _count(self.moves, (connection, _proof(str(fields.get("proof", "")))))
        elif name in {"ike_sa_rekeyed", "ike_sa_reauthenticated"}:
            _count(self.rekeys, (connection, name.removeprefix("ike_sa_")))


def _step(fields: Mapping[str, object]) -> str:
    """The exchange, without what follows it for people."""
    return str(fields.get("step", "")).partition(",")[0].partition(" (")[0][:40]


def _reason(fields: Mapping[str, object]) -> str:
    """A notify's name, or a word of ours: never text of a peer's."""
    notify = str(fields.get("notify", ""))
    if notify:
        return notify
    reason = str(fields.get("reason", ""))
    if "not answer" in reason or "timed out" in reason:
        return "TIMEOUT"
    if "blocked" in reason:
        return "BLOCKED"
    return "AUTHENTICATION_FAILED" if reason.startswith("user ") else "OTHER"


def _proof(text: str) -> str:
    """The kind of proof, without its numbers."""
    lowered = text.lower()
    for word in ("mobike", "esp-in-udp", "esp", "ike", "nat"):
        if word in lowered:
            return word
    return "other"


def _count(counts: dict[Labels, int], labels: Labels) -> None:
    if labels not in counts and len(counts) >= MAX_REASONS:
        labels = ("other",) * len(labels)
    counts[labels] = counts.get(labels, 0) + 1
