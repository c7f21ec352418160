"""The x-HA as one interface reaches it: asked, answering, left again."""

from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address

from gateway.dataplane.node import NodeTunnel
from gateway.mobile_node.alarm import Alarm
from gateway.mobile_node.attaching import Foothold
from gateway.mobile_node.backoff import Backoff
from gateway.mobile_node.monitoring import detecting
from gateway.mobile_node.policy import HomeAgentPolicy, NodePolicy
from gateway.mobile_node.registering.outcome import (
    Accepted,
    Denied,
    Ended,
    GaveUp,
    Outcome,
    Retransmission,
    Via,
)
from gateway.mobile_node.registration import RegistrationClient

TRIES_S = 6.0
"""The x-HA is taken for silent after that."""
FAREWELL = Retransmission(0.5, 2.0, 4.0, give_up_s=3.0)
"""Of deregistrations: whoever does not hear them forgets us at the end of the lifetime."""
REVOKED_S = 1.0
"""A home agent that ends a binding may have been told of another one, through another interface of
ours: whoever asks at once would take it back."""
FIRST_RETRY_S, LAST_RETRY_S = 2.0, 60.0
FIRST_DENIED_S, LAST_DENIED_S = 15.0, 600.0


class ExternalLayer:
    """x-MIP over one interface."""

    def __init__(
        self,
        policy: NodePolicy,
        *,
        random: Callable[[int], bytes],
        wall_clock: Callable[[], float],
    ) -> None:
        self._random = random
        self._wall_clock = wall_clock
        self.policy = policy
        self.client = self._new_client(policy.external)
        self.answered = False
        """It has answered since the detection began: we are where it can be reached."""
        self.current = False
        """Its registration was confirmed since the detection began."""
        self.silent = False
        self.denial = ""
        self.forced_udp = False
        self._bound = False
        """It may have a binding that we have not ended."""
        self._leaving = False
        """A deregistration is under way."""
        self._began_at = 0.0
        self._asked: Via | None = None
        """How it is being asked since the detection began."""
        self._ask_at = 0.0
        self._retry = Backoff(FIRST_RETRY_S, LAST_RETRY_S, random)
        self._denied = Backoff(FIRST_DENIED_S, LAST_DENIED_S, random)

    def _new_client(self, policy: HomeAgentPolicy | None) -> RegistrationClient | None:
        if policy is None:
            return None
        return RegistrationClient(policy, random=self._random, wall_clock=self._wall_clock)

    # -- what changes around it -------------------------------------------------------------

    def change(self) -> None:
        """Another link: what was learnt on the last one does not count."""
        self.forced_udp = False
        self._use_policy()
        self._retry.reset()

    def begin(self, now: float, *, delay_s: float) -> None:
        """A detection begins; what the x-HA knows of us stays until it is told otherwise."""
        self._began_at = now
        self._asked = None
        self.answered = self.current = self.silent = False
        self.denial = ""
        self._ask_at = now + delay_s

    def teach(self, policy: NodePolicy) -> None:
        """An x-HA as a login taught it; what stands goes on."""
        before, self.policy = self.policy.external, policy
        after = policy.external
        if self.client is None or before is None or after is None:
            self.client = self._new_client(after)
        elif (before.home_agent, before.home_address) != (after.home_agent, after.home_address):
            self.client.stop()
            self.client = self._new_client(after)
        self._use_policy()

    def force_udp(self, now: float) -> None:
        """Ask for a tunnel in UDP from now on, also where no NAT is seen."""
        self.forced_udp = True
        self._use_policy()
        self.current = self.silent = False
        self._ask_at = now

    def _use_policy(self) -> None:
        wanted = self.policy.external
        if self.client is None or wanted is None:
            return
        if self.forced_udp:
            wanted = replace(wanted, force_udp=True)
        if wanted != self.client.policy:
            self.client.change_policy(wanted)

    # -- what it gives ----------------------------------------------------------------------

    def via(self, foothold: Foothold) -> Via | None:
        """How it is asked from here."""
        return foothold.via(self.policy.external) if self.policy.external is not None else None

    def tunnel(self, foothold: Foothold) -> NodeTunnel | None:
        """The layer by what the interface is now; None while the x-HA believes else."""
        via, client = self.via(foothold), self.client
        if via is None or client is None or client.via is None or not client.registered:
            return None
        had = client.via
        same = (had.interface, had.care_of_address, had.destination) == (
            via.interface,
            via.care_of_address,
            via.destination,
        )
        return client.tunnel if same else None

    # -- asking and leaving -----------------------------------------------------------------

    def ask(self, foothold: Foothold, now: float, alarm: Alarm) -> None:
        """Register if that is due."""
        client, via = self.client, self.via(foothold)
        if client is None or via is None or self.current:
            return
        # An attempt that began before, or goes another way, is replaced.
        way = replace(via, challenge=b"")
        under_way = client.trying and not self._leaving and way == self._asked
        if under_way or not alarm.reached(self._ask_at):
            return
        self._leaving, self._asked = False, way
        client.register(
            via,
            now,
            retransmission=detecting(self.policy.detection, TRIES_S),
            default_destination=self._default_destination(),
        )

    def _default_destination(self) -> IPv4Address | None:
        return self.policy.vpn.gateway if self.policy.vpn is not None else None

    def release(self) -> None:
        """It is not needed any more; what it knows of us ends by itself."""
        if self.client is not None and (self.client.trying or self.client.registered):
            self.client.stop()
        self.current = self._leaving = False

    def leave(self, foothold: Foothold, now: float) -> None:
        """Deregister if it knows us, or may have heard our request."""
        client, via = self.client, self.via(foothold)
        if client is None or self._leaving:
            return
        if via is not None and foothold.usable and (self._bound or client.trying):
            if via.co_located:
                # The home address for a care-of address ends whatever binding there is.
                via = replace(via, care_of_address=client.policy.home_address)
            client.deregister(via, now, FAREWELL)
            self._leaving = True
        elif client.trying or client.registered:
            client.stop()
        self.current = False

    # -- hearing ----------------------------------------------------------------------------

    def hear(self, outcome: Outcome, foothold: Foothold, now: float) -> None:
        """What came of it."""
        if isinstance(outcome, Accepted):
            self._accepted(outcome, foothold)
        elif isinstance(outcome, Denied):
            self._refused(outcome, now)
        elif isinstance(outcome, GaveUp) and outcome.deregistering:
            # It forgets us at the end of the lifetime.
            self._bound = False
            self.release()
        elif isinstance(outcome, GaveUp):
            self.silent, self.current = True, False
            self._ask_at = now + self._retry.next_s()
        elif isinstance(outcome, Ended):
            self.current = self._bound = False
            self._ask_at = now + REVOKED_S

    def _accepted(self, outcome: Accepted, foothold: Foothold) -> None:
        if outcome.deregistered:
            self._leaving = self._bound = False
            return
        self._bound = True
        if outcome.sent_at < self._began_at or self.tunnel(foothold) is None:
            # An answer to what was asked from the link of before: it is asked again from this one.
            self.current = False
            return
        self.answered = self.current = True
        self.silent, self.denial = False, ""
        self._retry.reset()
        self._denied.reset()

    def _refused(self, denied: Denied, now: float) -> None:
        if denied.authentic or denied.by_foreign_agent:
            self.denial = f"{denied.text}; {denied.hint}" if denied.hint else denied.text
        if denied.authentic and not denied.by_foreign_agent:
            # It does not serve us, but that it was reached says where we are all the same.
            self.answered = True
        if denied.final:
            self.silent, self.current, self._leaving = True, False, False
            self._ask_at = now + self._denied.next_s()
