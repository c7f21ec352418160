"""One network interface: what it offers, what answered through it, whether it is inside.

Each interface is judged alone (draft 001, section 4.2.4). Only an answer of the i-HA through the
interface, in its present generation, makes a proof; nothing else does.
"""

import enum
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address

from gateway.dataplane.node import NodeTunnel
from gateway.mobile_node.agents import AgentListener
from gateway.mobile_node.alarm import Alarm
from gateway.mobile_node.attaching import Foothold
from gateway.mobile_node.backoff import Backoff
from gateway.mobile_node.inputs import LinkState, Portal
from gateway.mobile_node.monitoring import Proof, detecting, renewing
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

LISTEN_S = 2.0
"""After the detection period the i-HA's answer is still listened for."""
EXTERNAL_TRIES_S = 6.0
"""The x-HA is taken for silent after that."""
FAREWELL = Retransmission(0.5, 2.0, 4.0, give_up_s=3.0)
"""Of deregistrations: whoever does not hear them forgets us at the end of the lifetime."""
REVOKED_S = 1.0
"""A home agent that ends a binding may have been told of another one, through another interface of
ours: whoever asks at once would take it back."""
FIRST_RETRY_S, LAST_RETRY_S = 2.0, 60.0
FIRST_DENIED_S, LAST_DENIED_S = 15.0, 600.0
FIRST_PROBE_S, LAST_PROBE_S = 5.0, 60.0
PROBE_ANSWER_S = 20.0
"""A probe for captive portals that nobody answers is over then."""


class Hint(enum.Enum):
    """What the surroundings suggest. It decides what is asked first, never what is believed."""

    NONE = "none"
    INSIDE = "inside"
    OUTSIDE = "outside"


class Place:
    """What is known of one interface."""

    def __init__(
        self,
        link: LinkState,
        policy: NodePolicy,
        *,
        random: Callable[[int], bytes],
        wall_clock: Callable[[], float],
    ) -> None:
        self._random = random
        self._wall_clock = wall_clock
        self.policy = policy
        self.link = link
        self.listener = AgentListener(link.interface, random=random)
        self.foothold = Foothold(link)
        self.internal = self._client(policy.internal)
        self.external = self._client(policy.external)
        self.proof: Proof | None = None
        self.changed_at = 0.0
        """When this generation began: nothing that was sent before counts."""
        self.began_at = 0.0
        """When the detection began that is under way or over."""
        self.expected_inside = False
        self.outside_answered = False
        """The x-HA has answered since the detection began."""
        self.external_current = False
        """The x-HA's registration was confirmed in this generation."""
        self.external_bound = False
        """The x-HA may have a binding that we have not ended."""
        self.leaving_external = False
        """A deregistration with the x-HA is under way."""
        self.external_silent = False
        self.external_denial = ""
        self.internal_silent = False
        self.internal_denial = ""
        self.settled = False
        """The node works, from here or elsewhere: the i-HA is only asked now and then."""
        self.portal = Portal.UNKNOWN
        self.portal_answered = False
        self.probing_until: float | None = None
        self.probe_at = 0.0
        self.failed: set[str] = set()
        """Names of the plans that led nowhere since the last rest."""
        self.rest_until = 0.0
        self.force_esp_udp = False
        self.force_external_udp = False
        self._ask_internal_at = 0.0
        self._ask_external_at = 0.0
        self.retry = Backoff(FIRST_RETRY_S, LAST_RETRY_S, random)
        self._internal_retry = Backoff(FIRST_RETRY_S, LAST_RETRY_S, random)
        self._external_retry = Backoff(FIRST_RETRY_S, LAST_RETRY_S, random)
        self._denied = Backoff(FIRST_DENIED_S, LAST_DENIED_S, random)
        self._probes = Backoff(FIRST_PROBE_S, LAST_PROBE_S, random)

    def _client(self, policy: HomeAgentPolicy | None) -> RegistrationClient | None:
        if policy is None:
            return None
        return RegistrationClient(policy, random=self._random, wall_clock=self._wall_clock)

    @property
    def interface(self) -> str:
        """Its name."""
        return self.link.interface

    @property
    def clients(self) -> tuple[RegistrationClient, ...]:
        """Those of this interface."""
        return tuple(one for one in (self.internal, self.external) if one is not None)

    # -- what happens to the link -----------------------------------------------------------

    def change(self, link: LinkState, now: float) -> None:
        """A new generation: whatever was proven or sent is void from here on."""
        self.link = link
        self.changed_at = now
        self.proof = None
        if self.internal is not None:
            self.internal.stop()
        self.portal, self.portal_answered, self.probing_until = Portal.UNKNOWN, False, None
        self.force_esp_udp = self.force_external_udp = False
        if link.carrier:
            self.listener.start(now)
        else:
            self.listener.stop()
        self.foothold = Foothold(link)
        self._change_external_policy()
        for backoff in (self.retry, self._internal_retry, self._external_retry, self._probes):
            backoff.reset()
        self.begin(now)

    def move(self, now: float) -> None:
        """The way to the home agents is another one, on the same link: detect anew."""
        self.changed_at = now
        if self.internal is not None:
            self.internal.stop()
        self.begin(now)

    def teach(self, policy: NodePolicy) -> None:
        """Home agents as a login taught them; what stands goes on."""
        before, self.policy = self.policy, policy
        self.internal = self._taught(self.internal, before.internal, policy.internal)
        self.external = self._taught(self.external, before.external, policy.external)
        self._change_external_policy()

    def _taught(
        self,
        client: RegistrationClient | None,
        before: HomeAgentPolicy | None,
        after: HomeAgentPolicy | None,
    ) -> RegistrationClient | None:
        if client is None or before is None or after is None:
            return self._client(after)
        if (before.home_agent, before.home_address) != (after.home_agent, after.home_address):
            client.stop()
            return self._client(after)
        client.change_policy(after)
        return client

    def look_around(self, now: float) -> bool:
        """Take the agent that is heard now; whether it is another one."""
        agent = self.listener.current(now) if self.link.carrier else None
        before, self.foothold = self.foothold, Foothold(self.link, agent)
        if agent is None or before.agent is None:
            return agent is not before.agent
        return (agent.address, agent.link_address, agent.care_of_addresses[:1]) != (
            before.agent.address,
            before.agent.link_address,
            before.agent.care_of_addresses[:1],
        )

    def begin(self, now: float, *, expect_inside: bool = False) -> None:
        """Detect anew; what the x-HA knows of us stays until it is told otherwise."""
        self.proof = None
        self.began_at = now
        self.expected_inside = expect_inside
        self.outside_answered = self.external_current = False
        self.external_silent = self.internal_silent = False
        self.external_denial = self.internal_denial = ""
        self.failed.clear()
        self.rest_until = 0.0
        self._ask_internal_at = now
        # A hint that we are inside leaves the i-HA the first word (draft 001, section 4.4).
        delayed = self.hint is Hint.INSIDE and self.internal is not None
        self._ask_external_at = now + (self.policy.detection.inside_hint_s if delayed else 0.0)

    @property
    def hint(self) -> Hint:
        """What domain, router and foreign agent suggest."""
        if self.expected_inside:
            return Hint.INSIDE
        hints, agent = self.policy.hints, self.foothold.agent
        seen = (
            (self.link.domain.lower(), frozenset(one.lower() for one in hints.domains)),
            (agent.nai if agent is not None else "", hints.nais),
            (self.link.router_link_address, hints.router_link_addresses),
        )
        told = [(value, known) for value, known in seen if value and known]
        if any(value in known for value, known in told):
            return Hint.INSIDE
        return Hint.OUTSIDE if told else Hint.NONE

    # -- where it is ------------------------------------------------------------------------

    @property
    def usable(self) -> bool:
        """Whether anything can be sent here."""
        return self.foothold.usable

    @property
    def at_home(self) -> bool:
        """Whether it looks like the home link."""
        return self.policy.internal is not None and self.foothold.at_home(self.policy.internal)

    @property
    def captive(self) -> bool:
        """Whether somebody wants a login first."""
        return self.portal is Portal.CAPTIVE

    def internal_via(self) -> Via | None:
        """How the i-HA is asked directly."""
        if self.policy.internal is None:
            return None
        return self.foothold.via(self.policy.internal, home=self.at_home)

    def external_via(self) -> Via | None:
        """How the x-HA is asked."""
        return self.foothold.via(self.policy.external) if self.policy.external else None

    @property
    def external_tunnel(self) -> NodeTunnel | None:
        """The x-MIP layer by what this interface is now; None while the x-HA believes else."""
        via, client = self.external_via(), self.external
        if via is None or client is None or client.via is None or not client.registered:
            return None
        same = (client.via.interface, client.via.care_of_address, client.via.destination) == (
            via.interface,
            via.care_of_address,
            via.destination,
        )
        return client.tunnel if same else None

    @property
    def external_address(self) -> IPv4Address | None:
        """x-HoA, while it leads here."""
        tunnel = self.external_tunnel
        return tunnel.home_address if tunnel is not None else None

    def period_over(self, alarm: Alarm) -> bool:
        """Whether the i-HA has had its chance, so that the VPN may begin (section 4.3)."""
        if self.internal is None:
            return True
        if self.outside_answered and self.hint is Hint.OUTSIDE:
            return True
        wait_s = self.policy.detection.detection_period_s
        if self.hint is Hint.INSIDE:
            wait_s += self.policy.detection.inside_hint_s
        return alarm.reached(self.began_at + wait_s)

    # -- asking -----------------------------------------------------------------------------

    def ask(self, now: float, alarm: Alarm, *, internal: bool, external: bool) -> None:
        """Send the requests that are due; ``internal`` and ``external`` say who may be asked."""
        if self.proof is not None and alarm.reached(self.proof.ends_at(self.policy.detection)):
            self.begin(now)
        if self.proof is not None:
            self._monitor(now, alarm, self.proof)
        else:
            self._ask_internal(now, alarm, wanted=internal)
            self._ask_external(now, alarm, wanted=external)

    def _monitor(self, now: float, alarm: Alarm, proof: Proof) -> None:
        client, via = self.internal, self.internal_via()
        if client is None or via is None or client.trying:
            return
        if alarm.reached(proof.renew_at(self.policy.detection)):
            retransmission = renewing(self.policy.detection, proof, now)
            if proof.home:
                client.deregister(via, now, retransmission)
            else:
                client.renew(now, retransmission)

    def _ask_internal(self, now: float, alarm: Alarm, *, wanted: bool) -> None:
        client, via = self.internal, self.internal_via()
        if client is None:
            return
        if not wanted or via is None:
            if client.trying or client.registered:
                client.stop()
            return
        if client.trying or not alarm.reached(self._ask_internal_at):
            return
        detection = self.policy.detection
        retransmission = detecting(detection, detection.detection_period_s + LISTEN_S)
        if self.at_home:
            client.deregister(via, now, retransmission)
        else:
            client.register(via, now, retransmission=retransmission)

    def _ask_external(self, now: float, alarm: Alarm, *, wanted: bool) -> None:
        client, via = self.external, self.external_via()
        if client is None or not wanted or via is None:
            return
        busy = client.trying and not self.leaving_external
        if busy or self.external_current or not alarm.reached(self._ask_external_at):
            return
        gateway = self.policy.vpn.gateway if self.policy.vpn is not None else None
        self.leaving_external = False
        client.register(
            via,
            now,
            retransmission=detecting(self.policy.detection, EXTERNAL_TRIES_S),
            default_destination=gateway,
        )

    def confirm(self, now: float) -> None:
        """Another interface may have moved the binding at the i-HA: bring it back here."""
        if self.internal is not None and self.proof is not None and not self.proof.home:
            self.internal.renew(now, renewing(self.policy.detection, self.proof, now))

    def release_external(self) -> None:
        """The x-HA is not needed any more; what it knows of us ends by itself."""
        if self.external is not None and (self.external.trying or self.external.registered):
            self.external.stop()
        self.external_current = self.leaving_external = False

    def leave_external(self, now: float) -> None:
        """Deregister with the x-HA if it knows us or may have heard our request."""
        client = self.external
        if client is None or self.leaving_external:
            return
        via = self.external_via()
        if via is not None and self.usable and (self.external_bound or client.trying):
            if via.co_located:
                # The home address for a care-of address ends whatever binding there is.
                via = replace(via, care_of_address=client.policy.home_address)
            client.deregister(via, now, FAREWELL)
            self.leaving_external = True
        else:
            client.stop()
        self.external_current = False

    def ask_external_anew(self, now: float) -> None:
        """Register with the x-HA at once, with what is asked for now."""
        self.external_current = self.external_silent = False
        self._ask_external_at = now
        self._change_external_policy()
        if self.external is not None and self.external.trying and not self.external.registered:
            self.external.stop()

    def _change_external_policy(self) -> None:
        if self.external is not None and self.policy.external is not None:
            wanted = self.policy.external
            if self.force_external_udp:
                wanted = replace(wanted, force_udp=True)
            if wanted != self.external.policy:
                self.external.change_policy(wanted)

    # -- hearing ----------------------------------------------------------------------------

    def hear_internal(self, outcome: Outcome, now: float) -> bool:
        """What came of asking the i-HA directly; whether the inside is proven (again) by it."""
        if isinstance(outcome, Accepted):
            return self._hear_proof(outcome)
        if isinstance(outcome, Denied):
            self.internal_denial = f"{outcome.text}; {outcome.hint}" if outcome.hint else ""
            self.internal_denial = self.internal_denial or outcome.text
            if outcome.final:
                # The i-HA lives, but does not have us: nothing may rest on that.
                self.proof = None
                self._ask_internal_at = now + self._denied.next_s()
        elif isinstance(outcome, GaveUp):
            self.internal_silent = True
            if self.proof is not None:
                self.begin(now)
            elif self.settled:
                self._ask_internal_at = now + self.policy.detection.retry_inside_s
            else:
                self._ask_internal_at = now + self._internal_retry.next_s()
        elif isinstance(outcome, Ended):
            if self.proof is not None:
                self.begin(now)
            self._ask_internal_at = now + REVOKED_S
        return False

    def _hear_proof(self, outcome: Accepted) -> bool:
        via = outcome.via
        if via.interface != self.interface or outcome.sent_at < self.changed_at:
            return False
        if outcome.deregistered and not self.at_home:
            return False
        if self.proof is not None and outcome.sent_at < self.proof.sent_at:
            return False
        self.proof = Proof(outcome.sent_at, outcome.deregistered)
        self.portal = Portal.OPEN
        self.internal_silent, self.internal_denial = False, ""
        self._internal_retry.reset()
        self._denied.reset()
        return True

    def hear_external(self, outcome: Outcome, now: float) -> None:
        """What came of asking the x-HA."""
        if isinstance(outcome, Accepted):
            if outcome.deregistered:
                self.leaving_external = self.external_bound = False
                return
            self.outside_answered = self.external_current = self.external_bound = True
            self.external_silent, self.external_denial = False, ""
            self.portal = Portal.OPEN
            self._external_retry.reset()
        elif isinstance(outcome, Denied):
            self.external_denial = f"{outcome.text}; {outcome.hint}" if outcome.hint else ""
            self.external_denial = self.external_denial or outcome.text
            if outcome.authentic:
                # It cannot serve us, but that it was reached says where we are all the same.
                self.outside_answered = True
            if outcome.final:
                self.external_silent, self.external_current = True, False
                self._ask_external_at = now + self._denied.next_s()
        elif isinstance(outcome, GaveUp) and outcome.deregistering:
            # It forgets us at the end of the lifetime.
            self.external_bound = False
            self.release_external()
        elif isinstance(outcome, GaveUp):
            self.external_silent, self.external_current = True, False
            self._ask_external_at = now + self._external_retry.next_s()
        elif isinstance(outcome, Ended):
            self.external_current = self.external_bound = False
            self._ask_external_at = now + REVOKED_S

    # -- captive portals --------------------------------------------------------------------

    def may_probe(self, now: float, alarm: Alarm) -> bool:
        """Whether a probe for captive portals is due; then it counts as sent."""
        if self.probing_until is not None:
            if not alarm.reached(self.probing_until):
                return False
            self.hear_portal(Portal.UNKNOWN, now)
        if not alarm.reached(self.probe_at):
            return False
        self.probing_until = now + PROBE_ANSWER_S
        alarm.want(self.probing_until)
        return True

    def hear_portal(self, portal: Portal, now: float) -> None:
        """What the probe found."""
        was_captive = self.captive
        self.portal, self.portal_answered, self.probing_until = portal, True, None
        self.probe_at = now + self._probes.next_s()
        if was_captive and portal is Portal.OPEN:
            self._probes.reset()
            self.begin(now)
