"""What can be seen of a registration client, and nothing that changes it."""

from collections import Counter

from gateway.dataplane.node import NodeTunnel
from gateway.mobile_node.policy import HomeAgentPolicy
from gateway.mobile_node.registering.attempt import NEVER, Attempt, Registration
from gateway.mobile_node.registering.identification import Identifications
from gateway.mobile_node.registering.outcome import Via


class Showing:
    """The state of a registration client, for status and for decisions."""

    def __init__(self, policy: HomeAgentPolicy, identifications: Identifications) -> None:
        self._policy = policy
        self._identifications = identifications
        self._attempt: Attempt | None = None
        self._registration: Registration | None = None
        self._counters: Counter[str] = Counter()

    @property
    def policy(self) -> HomeAgentPolicy:
        """As given, or as given last to :meth:`change_policy`."""
        return self._policy

    @property
    def trying(self) -> bool:
        """A request is waiting for its answer."""
        return self._attempt is not None

    @property
    def registered(self) -> bool:
        """There is a registration that has not ended."""
        return self._registration is not None

    @property
    def via(self) -> Via | None:
        """How the registration travelled; None without one."""
        return None if self._registration is None else self._registration.via

    @property
    def tunnel(self) -> NodeTunnel | None:
        """Of the registration; None without one."""
        return None if self._registration is None else self._registration.tunnel

    @property
    def lifetime_s(self) -> int:
        """Granted; 0 without a registration."""
        return 0 if self._registration is None else self._registration.lifetime_s

    @property
    def registered_since(self) -> float | None:
        """When the first of the unbroken row of registrations by this attachment was accepted."""
        return None if self._registration is None else self._registration.since

    @property
    def confirmed_at(self) -> float | None:
        """When the newest request that was accepted was sent."""
        return None if self._registration is None else self._registration.sent_at

    @property
    def expires_at(self) -> float | None:
        """When the registration ends unless it is renewed; None for never or without one."""
        if self._registration is None or self._registration.expires_at == NEVER:
            return None
        return self._registration.expires_at

    @property
    def sent(self) -> int:
        """Transmissions of the attempt under way; 0 without one."""
        return 0 if self._attempt is None else self._attempt.sent

    @property
    def counters(self) -> dict[str, int]:
        """Since the start: requests, keepalives, accepted, denied, revocations, discarded."""
        return dict(self._counters)

    @property
    def natted(self) -> bool:
        """The home agent saw another source address than the care-of address."""
        return self._registration is not None and self._registration.natted

    @property
    def clock_error_s(self) -> float:
        """How far the home agent's clock is ahead of ours, as far as it told; else 0."""
        return self._identifications.clock_error_s
