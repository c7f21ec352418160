"""What a client remembers: the attempt under way, what it sent, and what it got."""

from collections import OrderedDict
from dataclasses import dataclass, field, replace

from gateway.dataplane.node import NodeTunnel
from gateway.mip_agents.policy import INFINITE_LIFETIME_S, SecurityAssociation
from gateway.mip_agents.replay import LOW_HALF
from gateway.mobile_node.registering.outcome import Retransmission, Via
from gateway.mobile_node.registering.request import Wish

LATE_S = 60.0
"""Answers to what was sent longer ago do not count."""
MAX_OUTSTANDING = 64
MAX_RESYNCHRONISATIONS = 3
MAX_REMEDIES = 5
"""Between two transmissions of the plan; whoever denies on and on does not make us send on and
on."""
RENEW_AFTER = 2 / 3
"""Of a lifetime; up to a tenth of it earlier, so that not all nodes come at once."""
RENEW_JITTER = 0.1
RENEWAL_MAX_S = 30.0
"""Between two transmissions of a renewal of our own."""
NEVER = float("inf")


@dataclass(slots=True, eq=False)
class Attempt:
    """One registration until it is answered or given up."""

    via: Via
    wish: Wish
    retransmission: Retransmission
    automatic: bool = False
    """A renewal of our own: it ends with the registration that it renews."""
    sent: int = 0
    since: float = 0.0
    interval_s: float = 0.0
    remedies: int = 0
    resynchronisations: int = 0
    resynchronised_at: float = -NEVER
    reported: set[tuple[int, bool]] = field(default_factory=set)
    """Denials that were told already: those that prove nothing come again and again."""
    discarded: int = 0

    @property
    def deregisters(self) -> bool:
        """Whether it ends the binding."""
        return not self.wish.lifetime_s

    @property
    def scope(self) -> tuple[object, ...]:
        """Answers to other attempts count as long as this is the same."""
        return (self.deregisters, self.via.attachment)

    @property
    def gives_up_at(self) -> float:
        """When nothing more is sent."""
        give_up_s = self.retransmission.give_up_s
        return NEVER if give_up_s is None else self.since + give_up_s

    def transmitted(self, now: float, *, planned: bool) -> float:
        """Count a transmission; when to look after it again.

        Not ``planned`` is what a refusal made us send: it does not lengthen the interval.
        """
        plan = self.retransmission
        if not self.sent:
            self.since = now
            self.interval_s = min(plan.first_s, plan.max_s)
        elif planned:
            self.interval_s = min(self.interval_s * plan.factor, plan.max_s)
        self.sent += 1
        return min(now + self.interval_s, self.gives_up_at)

    def renew_hope(self) -> None:
        """The plan's next transmission is due, whatever was tried in between."""
        # Forged refusals may have used up all of them.
        self.remedies = 0
        self.resynchronisations = min(self.resynchronisations, MAX_RESYNCHRONISATIONS - 1)

    def resynchronises(self, now: float) -> bool:
        """Whether the home agent's clock or nonce may be taken once more; then it is."""
        if self.resynchronisations >= MAX_RESYNCHRONISATIONS:
            return False
        self.resynchronisations += 1
        self.resynchronised_at = now
        return True

    def mends(self, wish: Wish, *, sure: bool) -> bool:
        """Whether another wish may be tried; then it is the attempt's.

        ``sure``: the home agent itself leaves nothing else; it takes from a wish only once.
        """
        if not sure:
            if self.remedies >= MAX_REMEDIES:
                return False
            self.remedies += 1
        self.wish = wish
        return True


@dataclass(frozen=True, slots=True)
class Sent:
    """One transmission that may still be answered."""

    identification: int
    sent_at: float
    attempt: Attempt
    wish: Wish
    association: SecurityAssociation

    @property
    def via(self) -> Via:
        """How it travelled."""
        return self.attempt.via


class Outstanding:
    """Transmissions by the lower half of their identification, oldest first."""

    __slots__ = ("_by_low", "_scope")

    def __init__(self) -> None:
        self._by_low: OrderedDict[int, Sent] = OrderedDict()
        self._scope: tuple[object, ...] = ()

    def __contains__(self, identification: int) -> bool:
        return identification & LOW_HALF in self._by_low

    def enter(self, scope: tuple[object, ...]) -> None:
        """Forget all if they belong to another scope."""
        if scope != self._scope:
            self._by_low.clear()
        self._scope = scope

    def clear(self) -> None:
        """Nothing counts any more."""
        self._by_low.clear()

    def add(self, sent: Sent) -> None:
        """Remember one; the oldest makes room."""
        self._by_low[sent.identification & LOW_HALF] = sent
        if len(self._by_low) > MAX_OUTSTANDING:
            self._by_low.popitem(last=False)

    def find(self, identification: int, now: float) -> Sent | None:
        """What a reply with this field may be the answer to."""
        sent = self._by_low.get(identification & LOW_HALF)
        return None if sent is None or now - sent.sent_at > LATE_S else sent

    def answered(self, sent: Sent) -> None:
        """An identification counts once."""
        self._by_low.pop(sent.identification & LOW_HALF, None)

    def settled(self, sent: Sent) -> None:
        """With this one answered for good, those before it have nothing to say."""
        for low in [low for low, one in self._by_low.items() if one.sent_at <= sent.sent_at]:
            del self._by_low[low]

    def newer_than(self, sent: Sent) -> bool:
        """Whether something was sent after it in the same attempt."""
        return any(
            one.attempt is sent.attempt and one.sent_at > sent.sent_at
            for one in self._by_low.values()
        )


@dataclass(slots=True)
class Registration:
    """What the home agent granted last."""

    via: Via
    wish: Wish
    challenge: bytes
    """For the next request."""
    tunnel: NodeTunnel
    lifetime_s: int
    sent_at: float
    since: float
    retransmission: Retransmission
    natted: bool = False
    keepalive_s: int = 0
    keepalives: int = 0

    @property
    def expires_at(self) -> float:
        """Counted from the request: the home agent's own count cannot end sooner."""
        return NEVER if self.lifetime_s == INFINITE_LIFETIME_S else self.sent_at + self.lifetime_s

    @property
    def next_wish(self) -> Wish:
        """What its renewal asks for."""
        return replace(self.wish, challenge=self.challenge)

    def renewal(self) -> Attempt:
        """Ours: there is time for it, for as long as the registration lasts."""
        plan = self.retransmission
        plan = replace(plan, max_s=max(plan.max_s, RENEWAL_MAX_S), give_up_s=None)
        return Attempt(self.via, self.next_wish, plan, automatic=True)

    def renew_at(self, jitter: float) -> float:
        """When to ask for more; ``jitter`` is between 0 and 1."""
        return self.sent_at + (RENEW_AFTER - RENEW_JITTER * jitter) * self.lifetime_s
