"""What all parts of the foreign agent share: policy, tables, timers and outputs."""

import enum
from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from ipaddress import IPv4Address

from gateway.domain.endpoint import Endpoint
from gateway.domain.event import Event, Severity
from gateway.domain.log import RateLimit, with_suppressed
from gateway.domain.nar import NarTuple
from gateway.domain.timers import Timers
from gateway.mip_agents.foreign_agent.challenges import Challenges
from gateway.mip_agents.foreign_agent.pending import PendingTable
from gateway.mip_agents.foreign_agent.visitors import VisitorEntry, VisitorKey, VisitorList
from gateway.mip_agents.outputs import Output
from gateway.mip_agents.policy import ForeignAgentPolicy, PeerAgent, SecurityAssociation

_NTP_EPOCH_S = 2_208_988_800


class TimerKind(enum.Enum):
    """What is due."""

    PENDING = "pending"
    VISITOR = "visitor"
    ADVERTISEMENT = "advertisement"
    SOLICITED = "solicited"
    REVOCATION = "revocation"
    KEEPALIVE = "keepalive"


TimerKey = tuple[TimerKind, Hashable]


@dataclass(slots=True)
class RevocationSent:
    """A revocation of ours (RFC 3543) that waits for its acknowledgment."""

    entry: VisitorEntry
    peer: PeerAgent
    until: float
    """The home agent's binding ends by itself then."""
    identifiers: list[int]
    """One for each transmission; any of them may be acknowledged."""


class Core:
    """The state of one foreign agent."""

    __slots__ = (
        "challenges",
        "counters",
        "keepalives",
        "leased",
        "limit",
        "outputs",
        "pending",
        "policy",
        "random",
        "revoked",
        "sessions",
        "timers",
        "visitors",
        "wall_clock",
    )

    def __init__(
        self,
        policy: ForeignAgentPolicy,
        random: Callable[[int], bytes],
        wall_clock: Callable[[], float],
    ) -> None:
        self.policy = policy
        self.random = random
        self.wall_clock = wall_clock
        self.leased: Callable[[NarTuple], str] = lambda _: ""
        """Who has tunnels of this tuple by NAR; empty for nobody."""
        self.outputs: list[Output] = []
        self.counters: Counter[str] = Counter()
        self.timers: Timers[TimerKey] = Timers()
        self.limit = RateLimit()
        self.pending = PendingTable()
        self.visitors = VisitorList()
        self.challenges = Challenges(random)
        self.keepalives: dict[Endpoint, dict[VisitorKey, int]] = {}
        """By far end of the tunnels in UDP: who needs it open, and every how many seconds."""
        self.revoked: dict[VisitorKey, RevocationSent] = {}
        """Revocations of ours that are not acknowledged yet."""
        self.sessions: dict[IPv4Address, str] = {}
        """Home addresses with an SA with VPN/FA, and whose it is (draft 001, appendix B.5)."""

    def fraction(self) -> float:
        """A number from 0 up to, not including, 1, by chance."""
        return int.from_bytes(self.random(4), "big") / 2**32

    def timestamp(self) -> int:
        """32 bits of our clock in seconds: what revocations are ordered by (RFC 3543)."""
        return (int(self.wall_clock()) + _NTP_EPOCH_S) & 0xFFFF_FFFF

    def peer(self, home_agent: IPv4Address) -> PeerAgent | None:
        """The home agent, if it shares a key with us."""
        peer = self.policy.peer_agents.get(home_agent)
        return peer if peer is not None and peer.associations else None

    def busy(self) -> bool:
        """Nobody new is served now (the B bit of advertisements)."""
        policy = self.policy
        return len(self.visitors) >= policy.max_visitors or len(self.pending) >= policy.max_pending

    def tell(
        self, name: str, now: float, text: str, severity: Severity = Severity.INFO, **fields: object
    ) -> None:
        """Report; beyond a few a second, without a line in the log."""
        suppressed = self.limit.admit(name, now)
        line = text if suppressed is None else with_suppressed(text, suppressed)
        fields = {"foreign_agent": self.policy.name, **fields}
        self.outputs.append(Event(name, line, severity, fields, suppressed is not None))

    def discard(self, reason: str, now: float, text: str, **fields: object) -> None:
        """Count a message that changes nothing; a flood of them does not even make events."""
        self.counters[f"discarded_{reason}"] += 1
        suppressed = self.limit.admit("registration_discarded", now)
        if suppressed is None:
            return
        self.outputs.append(
            Event(
                "registration_discarded",
                with_suppressed(f"foreign agent {self.policy.name} discarded {text}", suppressed),
                Severity.DEBUG,
                {"foreign_agent": self.policy.name, "reason": reason, **fields},
            )
        )


def find_association(peer: PeerAgent, spi: int) -> SecurityAssociation | None:
    """The association that this peer and we call by this SPI."""
    for one in peer.associations:
        if one.spi == spi:
            return one
    return None
