"""One network interface: what it offers, what answered through it, whether it is inside.

Each interface is judged alone (draft 001, section 4.2.4). Only an answer of the i-HA through the
interface, in its present generation, makes a proof; nothing else does.
"""

from collections.abc import Callable
from ipaddress import IPv4Address

from gateway.dataplane.node import NodeTunnel
from gateway.mobile_node.agents import AgentListener
from gateway.mobile_node.alarm import Alarm
from gateway.mobile_node.attaching import Foothold
from gateway.mobile_node.backoff import Backoff
from gateway.mobile_node.external import (
    FIRST_DENIED_S,
    FIRST_RETRY_S,
    LAST_DENIED_S,
    LAST_RETRY_S,
    REVOKED_S,
    ExternalLayer,
)
from gateway.mobile_node.hints import Hint, hint
from gateway.mobile_node.inputs import LinkState, Portal
from gateway.mobile_node.monitoring import Proof, detecting, looking_again, renewing
from gateway.mobile_node.policy import HomeAgentPolicy, NodePolicy
from gateway.mobile_node.portals import PortalWatch
from gateway.mobile_node.registering.outcome import Accepted, Denied, Ended, GaveUp, Outcome, Via
from gateway.mobile_node.registration import RegistrationClient

LISTEN_S = 2.0
"""After the detection period the i-HA's answer is still listened for."""


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
        self._policy = policy
        self.link = link
        self.foothold = Foothold(link)
        self.listener = AgentListener(link.interface, random=random)
        self.portals = PortalWatch(random)
        self.external = ExternalLayer(policy, random=random, wall_clock=wall_clock)
        self.internal = self._new_client(policy.internal)
        self.proof: Proof | None = None
        self.changed_at = 0.0
        """When this generation began: nothing that was sent before counts."""
        self.began_at = 0.0
        """When the detection began that is under way or over."""
        self.expected_inside = False
        self.denial = ""
        """Of the i-HA."""
        self.settled = False
        """The node works, from here or elsewhere: the i-HA is only asked now and then."""
        self.failed: set[str] = set()
        """Names of the plans that led nowhere since the last rest."""
        self.rest_until = 0.0
        self.force_esp_udp = False
        self.retry = Backoff(FIRST_RETRY_S, LAST_RETRY_S, random)
        self._asked_before = False
        self._ask_at = 0.0
        self._asking = Backoff(FIRST_RETRY_S, LAST_RETRY_S, random)
        self._denied = Backoff(FIRST_DENIED_S, LAST_DENIED_S, random)

    def _new_client(self, policy: HomeAgentPolicy | None) -> RegistrationClient | None:
        if policy is None:
            return None
        return RegistrationClient(policy, random=self._random, wall_clock=self._wall_clock)

    @property
    def interface(self) -> str:
        """Its name."""
        return self.link.interface

    @property
    def policy(self) -> NodePolicy:
        """The node's."""
        return self._policy

    @policy.setter
    def policy(self, policy: NodePolicy) -> None:
        self._policy = self.external.policy = policy

    @property
    def clients(self) -> tuple[RegistrationClient, ...]:
        """Those of this interface."""
        both = (self.internal, self.external.client)
        return tuple(one for one in both if one is not None)

    # -- what happens to the link -----------------------------------------------------------

    def change(self, link: LinkState, now: float) -> None:
        """A new generation: whatever was proven or sent is void from here on."""
        self.link = link
        self.foothold = Foothold(link)
        self.portals.reset()
        self.force_esp_udp = False
        if link.carrier:
            self.listener.start(now)
        else:
            self.listener.stop()
        self.external.change()
        self.retry.reset()
        self._asking.reset()
        self.move(now)

    def move(self, now: float) -> None:
        """The way to the home agents is another one: what was asked by the old one is void."""
        self.changed_at = now
        if self.internal is not None:
            self.internal.stop()
        self.begin(now)

    def begin(self, now: float, *, expect_inside: bool = False) -> None:
        """Detect anew."""
        self.proof = None
        self.began_at = self._ask_at = now
        self.expected_inside = expect_inside
        self.denial = ""
        self.failed.clear()
        self.rest_until = 0.0
        self._asked_before = False
        # A hint that we are inside leaves the i-HA the first word (draft 001, section 4.4).
        delayed = self.hint is Hint.INSIDE and self.internal is not None
        delay_s = self.policy.detection.inside_hint_s if delayed else 0.0
        self.external.begin(now, delay_s=delay_s)

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

    def teach(self, policy: NodePolicy) -> None:
        """Home agents as a login taught them; what stands goes on."""
        before, after = self.policy.internal, policy.internal
        self.external.teach(policy)
        self._policy = policy
        if self.internal is not None and before is not None and after is not None:
            same = (before.home_agent, before.home_address) == (
                after.home_agent,
                after.home_address,
            )
            if same:
                self.internal.change_policy(after)
                return
            self.internal.stop()
        self.internal = self._new_client(after)

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
        return self.portals.captive

    @property
    def hint(self) -> Hint:
        """Where it seems to be."""
        return Hint.INSIDE if self.expected_inside else hint(self.policy.hints, self.foothold)

    @property
    def external_tunnel(self) -> NodeTunnel | None:
        """The x-MIP layer as it stands here."""
        return self.external.tunnel(self.foothold)

    @property
    def own_address(self) -> IPv4Address | None:
        """The co-located care-of address."""
        return self.foothold.own_address

    def internal_via(self) -> Via | None:
        """How the i-HA is asked directly."""
        if self.policy.internal is None:
            return None
        return self.foothold.via(self.policy.internal, home=self.at_home)

    def period_over(self, alarm: Alarm) -> bool:
        """Whether the i-HA has had its chance, so that the VPN may begin (section 4.3)."""
        if self.internal is None:
            return True
        if self.external.answered and self.hint is Hint.OUTSIDE:
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
            return
        self._ask_internal(now, alarm, wanted=internal)
        if external:
            self.external.ask(self.foothold, now, alarm)

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
            self.hush()
            return
        if client.trying or not alarm.reached(self._ask_at):
            return
        detection = self.policy.detection
        if self._asked_before and self.settled:
            retransmission = looking_again(LISTEN_S)
        else:
            retransmission = detecting(detection, detection.detection_period_s + LISTEN_S)
        self._asked_before = True
        if self.at_home:
            client.deregister(via, now, retransmission)
        else:
            client.register(via, now, retransmission=retransmission)

    def hush(self) -> bool:
        """Ask the i-HA no more; whether a request under way may still move the binding here."""
        client = self.internal
        astray = client is not None and client.trying
        if client is not None and (client.trying or client.registered):
            client.stop()
        return astray

    def confirm(self, now: float) -> None:
        """Another interface may have moved the binding at the i-HA: bring it back here."""
        if self.internal is not None and self.proof is not None and not self.proof.home:
            self.internal.renew(now, renewing(self.policy.detection, self.proof, now))

    # -- hearing ----------------------------------------------------------------------------

    def hear_internal(self, outcome: Outcome, now: float) -> bool:
        """What came of asking the i-HA directly; whether the inside is proven (again) by it."""
        if isinstance(outcome, Accepted):
            return self._hear_proof(outcome)
        if isinstance(outcome, Denied):
            self._hear_denial(outcome, now)
        elif isinstance(outcome, GaveUp):
            if self.proof is not None:
                self.begin(now)
            elif self.settled:
                self._ask_at = now + self.policy.detection.retry_inside_s
            else:
                self._ask_at = now + self._asking.next_s()
        elif isinstance(outcome, Ended):
            if self.proof is not None:
                self.begin(now)
            self._ask_at = now + REVOKED_S
        return False

    def _hear_denial(self, denied: Denied, now: float) -> None:
        if denied.authentic or denied.by_foreign_agent:
            self.denial = f"{denied.text}; {denied.hint}" if denied.hint else denied.text
        if denied.final:
            # The i-HA lives, but does not have us: nothing may rest on that.
            self.proof = None
            self._ask_at = now + self._denied.next_s()

    def _hear_proof(self, outcome: Accepted) -> bool:
        if outcome.via.interface != self.interface or outcome.sent_at < self.changed_at:
            return False
        if outcome.deregistered and not self.at_home:
            return False
        if self.proof is not None and outcome.sent_at < self.proof.sent_at:
            return False
        self.proof = Proof(outcome.sent_at, outcome.deregistered)
        self.portals.found = Portal.OPEN
        self.denial = ""
        self._asking.reset()
        self._denied.reset()
        return True

    def hear_external(self, outcome: Outcome, now: float) -> None:
        """What came of asking the x-HA."""
        self.external.hear(outcome, self.foothold, now)
        if isinstance(outcome, Accepted) and self.external.answered:
            self.portals.found = Portal.OPEN

    def hear_portal(self, portal: Portal, now: float) -> None:
        """What the probe for captive portals found."""
        if self.portals.hear(portal, now):
            self.begin(now)
