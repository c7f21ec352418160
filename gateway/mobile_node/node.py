"""The mobile node as its host sees it: what happens comes in, what is to be done comes out."""

from collections.abc import Callable, Sequence
from ipaddress import IPv4Address

from gateway.dataplane.node import NodeRefusal
from gateway.domain.endpoint import Endpoint
from gateway.domain.event import Event, Severity
from gateway.mobile_node import choosing, inner, inside, leaving, outside, sessions, views, words
from gateway.mobile_node.agents import AgentHeard, ChallengeHeard
from gateway.mobile_node.attaching import same_connection
from gateway.mobile_node.core import Core
from gateway.mobile_node.detection import Place
from gateway.mobile_node.inputs import LinkState, Portal, VpnSession
from gateway.mobile_node.modes import Knowledge
from gateway.mobile_node.outputs import NodeOutput, Solicit, TransmitRegistration
from gateway.mobile_node.policy import NodePolicy
from gateway.mobile_node.registering.outcome import Denied, GaveUp, Outcome
from gateway.mobile_node.status import NodeStatus
from gateway.mobile_node.vpn_layer import VpnState

MAX_PASSES = 16
"""Of one call. What is left then is done at the next one, which follows at once."""
PASSED_OVER_S = 60.0
"""A foreign agent that refused is not asked in this time where there is another one."""


class MobileNode:
    """One device of draft 001. Never raises for what comes from a network.

    ``random`` gives unpredictable octets, ``wall_clock`` seconds since 1970, ``user_packets`` how
    many packets of the user's there were so far (None: never idle); every ``now`` is in seconds of
    a clock that never goes back. Take the outputs after every call.
    """

    def __init__(
        self,
        policy: NodePolicy,
        *,
        random: Callable[[int], bytes],
        wall_clock: Callable[[], float],
        user_packets: Callable[[], int] | None = None,
    ) -> None:
        self._core = Core(policy, random=random, wall_clock=wall_clock, user_packets=user_packets)

    @property
    def policy(self) -> NodePolicy:
        """With what logins have taught."""
        return self._core.policy

    # -- the network ------------------------------------------------------------------------

    def links_changed(self, links: Sequence[LinkState], now: float) -> None:
        """These are the interfaces now, all of them."""
        core = self._core
        ours = {link.interface: link for link in links if core.pattern(link.interface) is not None}
        for name in [one for one in core.places if one not in ours]:
            self._drop(core.places.pop(name), now)
        for link in ours.values():
            self._take_link(link, now)
        self._go_on(now)

    def _take_link(self, link: LinkState, now: float) -> None:
        core = self._core
        place = core.places.get(link.interface)
        if place is None:
            place = core.places[link.interface] = Place(
                link, core.policy, random=core.random, wall_clock=core.wall_clock
            )
        elif same_connection(place.link, link):
            place.link = link
            return
        # Whatever it was before, plaintext ends first (draft 001, section 4.2.3).
        core.forbid(link.interface)
        if place is core.place:
            core.idle.used(now)
        place.change(link, now)

    def _drop(self, place: Place, now: float) -> None:
        core = self._core
        core.forbid(place.interface)
        place.listener.stop()
        for client in place.clients:
            client.stop()
        place.proof = None
        if place is core.place:
            core.idle.used(now)
            core.use(None, now)

    def advertisement(
        self, octets: bytes, source: IPv4Address, interface: str, link_address: bytes, now: float
    ) -> None:
        """An ICMP router advertisement was heard on a link."""
        place = self._core.places.get(interface)
        if place is None or not place.link.carrier:
            return
        if place.listener.receive(octets, source, link_address, now):
            self._go_on(now)

    def receive(self, message: bytes, interface: str | None, source: Endpoint, now: float) -> None:
        """A datagram came to our port 434 over a link, or through the VPN (None)."""
        core = self._core
        for _, place, client in core.clients():
            over = place.interface if place is not None else None
            if over == interface and client.receive(message, source, now, interface=interface):
                break
        self._go_on(now)

    def portal(self, interface: str, portal: Portal, now: float) -> None:
        """The answer to a probe."""
        place = self._core.places.get(interface)
        if place is not None:
            place.hear_portal(portal, now)
            self._go_on(now)

    # -- the VPN ----------------------------------------------------------------------------

    def vpn_up(self, session: VpnSession, now: float) -> None:
        """IKE and a child SA are there, or their terms changed."""
        sessions.came_up(self._core, session, now)
        self._go_on(now)

    def vpn_failed(self, reason: str, hint: str, refused: bool, now: float) -> None:
        """IKE could not come up; ``refused``: the gateway said no, otherwise nobody answered."""
        sessions.failed(self._core, reason, hint, refused, now)
        self._go_on(now)

    def vpn_down(self, reason: str, now: float) -> None:
        """A session ended that was up."""
        sessions.went_down(self._core, reason, now)
        self._go_on(now)

    # -- the user and the host --------------------------------------------------------------

    def traffic_waiting(self, now: float) -> None:
        """A packet of the user's is held."""
        if self._core.idle.asleep:
            inside.wake(self._core, now)
            self._go_on(now)

    def refused(self, refusal: NodeRefusal, now: float) -> None:
        """The dataplane could not do what was asked."""
        core = self._core
        core.tell(
            "dataplane_refused",
            f"the kernel refused {refusal.what}: {refusal.reason}",
            Severity.WARNING,
        )
        core.blocked = f"{refusal.what}: {refusal.reason}"
        core.blocked_until = now + core.blocking.next_s()
        core.stack = None
        self._go_on(now)

    def lock(self, now: float) -> None:
        """Connect nothing until :meth:`unlock`; what is connected ends."""
        core = self._core
        if not core.locked:
            leaving.leave(core, "locked", now)
            core.locked = True
            self._go_on(now)

    def unlock(self, now: float) -> None:
        """The user has given the password."""
        core = self._core
        if core.locked:
            core.locked = False
            for place in core.places.values():
                place.change(place.link, now)
            self._go_on(now)

    def reconfigure(self, policy: NodePolicy, now: float) -> None:
        """Go on with another profile. What it does not touch goes on as it was."""
        core = self._core
        before = core.policy
        if policy == before:
            return
        links = [place.link for place in core.places.values()]
        same_homes = (policy.internal, policy.external) == (before.internal, before.external)
        if policy.vpn != before.vpn or policy.modes != before.modes or not same_homes:
            leaving.leave(core, "the profile has changed", now)
            core.knowledge = Knowledge()
            for place in list(core.places.values()):
                self._drop(core.places.pop(place.interface), now)
        core.policy = policy
        core.idle.change(policy.detection.idle_after_s)
        if not same_homes:
            core.new_inner()
        for place in core.places.values():
            place.policy = policy
        self.links_changed(links, now)

    def reconnect(self, now: float) -> None:
        """Somebody does not want to wait: forget every failure, detect and connect anew."""
        core = self._core
        if core.locked or core.closed:
            return
        core.end_vpn("connecting again on the user's word", now)
        core.vpn.retry_at, core.vpn.refusal = 0.0, ""
        core.knowledge = Knowledge()
        core.blocked_until = now
        core.idle.used(now)
        for place in core.places.values():
            core.forbid(place.interface)
            place.change(place.link, now)
        self._go_on(now)

    def doubt(self, now: float) -> None:
        """Time was lost, or a link may be another one: nothing proven counts any more.

        Unlike :meth:`reconnect` the VPN lives on, and the gateway is told where it is now.
        """
        core = self._core
        if core.closed:
            return
        for place in core.places.values():
            core.forbid(place.interface)
            place.change(place.link, now)
        core.idle.used(now)
        core.vpn.generation = -1
        self._go_on(now)

    def close(self, now: float) -> None:
        """The end: home agents are told, the VPN is closed, nothing leaves any more."""
        core = self._core
        if not core.closed:
            leaving.leave(core, "the device goes off", now)
            core.hold("stopped", now)
            core.closed = True

    # -- time and outputs -------------------------------------------------------------------

    def next_timer(self) -> float | None:
        """When :meth:`handle_timer` is to be called next, or None."""
        core = self._core
        if core.closed:
            return None
        times = [core.alarm.next_at()]
        times += [client.next_timer() for _, _, client in core.clients()]
        times += [place.listener.next_timer() for place in core.places.values()]
        return min((one for one in times if one is not None), default=None)

    def handle_timer(self, now: float) -> None:
        """Do what is due."""
        core = self._core
        for _, _, client in core.clients():
            at = client.next_timer()
            if at is not None and at <= now:
                client.handle_timer(now)
        for place in core.places.values():
            at = place.listener.next_timer()
            if at is not None and at <= now:
                place.listener.handle_timer(now)
        self._go_on(now)

    def take_outputs(self) -> list[NodeOutput]:
        """What is to be done, in order; each is handed out once."""
        outputs, self._core.outputs = self._core.outputs, []
        return outputs

    def status(self, now: float) -> NodeStatus:
        """What may be shown; no secrets."""
        return views.status(self._core, now)

    # -- one pass after the other -----------------------------------------------------------

    def _go_on(self, now: float) -> None:
        """Take what the parts have to say and settle on what follows, until nothing changes."""
        core = self._core
        if core.closed:
            return
        for _ in range(MAX_PASSES):
            core.alarm.start(now)
            self._collect(now)
            self._settle(now)
            if not self._collect(now):
                return
        core.alarm.want(now)

    def _settle(self, now: float) -> None:
        core = self._core
        if core.locked:
            core.hold(words.locked(), now)
            return
        if core.blocked and not core.alarm.reached(core.blocked_until):
            core.hold(f"the kernel refused {core.blocked}; it is tried again", now)
            return
        core.blocked = ""
        self._forget_old_knowledge(now)
        if core.idle.asleep and core.place is not None and core.place.usable:
            inside.rest(core, now)
            return
        place = choosing.choose(core, now)
        choosing.ask(core, place, now)
        if place is not None and place.proof is not None:
            inside.settle(core, place, now)
        else:
            outside.settle(core, place, now)

    def _forget_old_knowledge(self, now: float) -> None:
        knowledge = self._core.knowledge
        if knowledge.refuses_vpn_fa and now >= knowledge.vpn_fa_again_at:
            knowledge.refuses_vpn_fa = ""
        if knowledge.lacks_mobility and now >= knowledge.mobility_again_at:
            knowledge.lacks_mobility = False

    def _collect(self, now: float) -> bool:
        """Take everything that clients and listeners have; whether anything may follow from it."""
        core = self._core
        news = False
        for place in list(core.places.values()):
            news |= self._listen(place, now)
        for layer, where, client in list(core.clients()):
            for output in client.take_outputs():
                if isinstance(output, TransmitRegistration):
                    core.messages[layer] += 1
                    core.outputs.append(output)
                elif isinstance(output, Event):
                    core.pass_on(output, quietly=_is_monitoring(where))
                else:
                    news = True
                    self._hear(layer, where, output, now)
        return news

    def _listen(self, place: Place, now: float) -> bool:
        core = self._core
        heard = False
        for output in place.listener.take_outputs():
            if isinstance(output, Solicit):
                # A link that works without an agent is not searched for one any more.
                if not (place.settled and place.own_address is not None):
                    core.messages["solicitations"] += 1
                    core.outputs.append(output)
                continue
            if isinstance(output, Event):
                core.pass_on(output)
                continue
            heard = True
            if isinstance(output, ChallengeHeard):
                for client in place.clients:
                    client.hear_challenge(output.agent.challenge)
            if isinstance(output, AgentHeard) and output.restarted:
                self._agent_restarted(place, now)
        before = place.foothold
        if place.look_around(now) and (before.by_agent or place.foothold.by_agent):
            # Another agent, or none: the way to the home agents is another one.
            core.forbid(place.interface)
            place.move(now)
            heard = True
        return heard

    def _agent_restarted(self, place: Place, now: float) -> None:
        if place.foothold.by_agent:
            self._core.forbid(place.interface)
            place.move(now)

    def _hear(self, layer: str, place: Place | None, outcome: Outcome, now: float) -> None:
        core = self._core
        if place is not None and isinstance(outcome, Denied) and outcome.by_foreign_agent:
            self._pass_over_agent(place, now)
        if place is None:
            inner.hear(core, outcome, now)
        elif layer == "x-MIP":
            place.hear_external(outcome, now)
        elif place.hear_internal(outcome, now):
            self._proven(place, now)
        elif isinstance(outcome, GaveUp):
            # The request may have been heard, and only the answer lost.
            if core.vpn.state is VpnState.UP:
                inner.confirm(core, now)
            elif core.place is not None and core.place is not place:
                core.place.confirm(now)

    def _pass_over_agent(self, place: Place, now: float) -> None:
        """A foreign agent refuses: take another one, if there is any."""
        agent = place.foothold.agent
        if agent is not None and sum(one.foreign for one in place.listener.agents(now)) > 1:
            place.listener.pass_over(agent, now + PASSED_OVER_S)

    def _proven(self, place: Place, now: float) -> None:
        """An answer of the i-HA has moved the binding to this interface."""
        core = self._core
        used = core.place
        if used is None or used is place or used.proof is None:
            return
        if core.preference(used) < core.preference(place):
            place.proof = None
            used.confirm(now)


def _is_monitoring(place: Place | None) -> bool:
    """Whether what a client tells is the same as half a minute ago."""
    return place is not None and place.proof is not None
