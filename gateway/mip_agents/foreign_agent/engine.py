"""The foreign agent: datagrams, solicitations and time in, outputs out. No socket, no clock."""

from collections import Counter
from collections.abc import Callable, Mapping
from ipaddress import IPv4Address

from gateway.domain.endpoint import Endpoint, Path
from gateway.domain.event import Severity
from gateway.domain.nar import NarTuple
from gateway.domain.timers import Timers
from gateway.domain.wire import WireError
from gateway.mip_agents.advertisement import AgentAdvertisement
from gateway.mip_agents.codec.numbers import MessageType
from gateway.mip_agents.foreign_agent import keepalives, replies, requests, visiting, vpn
from gateway.mip_agents.foreign_agent.advertising import Advertising
from gateway.mip_agents.foreign_agent.asked import Arrival
from gateway.mip_agents.foreign_agent.checks import may_use
from gateway.mip_agents.foreign_agent.core import Core, TimerKey, TimerKind
from gateway.mip_agents.foreign_agent.pending import PendingKey
from gateway.mip_agents.foreign_agent.refusal import Discarded
from gateway.mip_agents.foreign_agent.restart import restore_records
from gateway.mip_agents.foreign_agent.revocation import Revocations
from gateway.mip_agents.foreign_agent.views import VisitorView, view
from gateway.mip_agents.foreign_agent.visitors import VisitorEntry, VisitorKey
from gateway.mip_agents.outputs import Link, Output
from gateway.mip_agents.policy import ForeignAgentPolicy


class ForeignAgent:
    """One foreign agent, on a link or inside the VPN gateway (draft 001, appendix B).

    Call :meth:`take_outputs` after every other call and carry the outputs out in their order.
    ``now`` is any clock in seconds that never goes back, and starts at 0 or later.
    """

    def __init__(
        self,
        policy: ForeignAgentPolicy,
        *,
        random: Callable[[int], bytes],
        wall_clock: Callable[[], float],
    ) -> None:
        """Take the policy; ``random`` gives unpredictable octets, ``wall_clock`` Unix seconds."""
        self.policy = policy
        self._core = Core(policy, random, wall_clock)
        self.counters: Counter[str] = self._core.counters
        """Replies sent to mobile nodes by the name of their code, messages that changed nothing by
        ``discarded_`` and why, and more."""
        self._advertising = Advertising(self._core)
        self._revocations = Revocations(self._core, self._advertising)
        self._closed = False
        self._on_timer: dict[TimerKind, Callable[..., None]] = {
            TimerKind.PENDING: self._pending_due,
            TimerKind.VISITOR: self._visitor_due,
            TimerKind.ADVERTISEMENT: lambda _, now: self._advertising.due(now),
            TimerKind.SOLICITED: lambda _, now: self._advertising.solicited_due(now),
            TimerKind.REVOCATION: self._revocations.retry,
            TimerKind.KEEPALIVE: self._keepalive_due,
        }

    # -- messages ---------------------------------------------------------------------------

    def receive(
        self,
        message: bytes,
        path: Path,
        now: float,
        link: Link | None = None,
        ttl: int | None = None,
    ) -> None:
        """Take a datagram of port 434, of a mobile node or a home agent. Never raises.

        ``link`` is where it came from; a request without it, or over another interface than the
        policy's, is discarded. ``ttl`` is that of its IP header, if known: a reverse tunnel is
        only for nodes on the link (RFC 3024).
        """
        self._guarded(
            f"a message from {path.remote}", now, self._receive, message, Arrival(path, link, ttl)
        )

    def _receive(self, message: bytes, came: Arrival, now: float) -> None:
        path = came.path
        kind = message[0] if message else -1
        if kind == MessageType.REGISTRATION_REQUEST:
            requests.receive_request(self._core, message, came, now)
        elif kind == MessageType.REGISTRATION_REPLY:
            replies.receive_reply(self._core, message, came, now)
        elif kind == MessageType.REVOCATION:
            self._revocations.receive(message, path, now)
        elif kind == MessageType.REVOCATION_ACKNOWLEDGMENT:
            self._revocations.receive_acknowledgment(message, path)
        elif kind == MessageType.TUNNEL_DATA:
            raise Discarded("tunnel_data", f"tunnelled data of {path.remote} that no visitor has")
        else:
            raise Discarded("message_type", f"a message of type {kind} from {path.remote}")

    def solicited(self, message: bytes, source: IPv4Address, link: Link, now: float) -> None:
        """Take an ICMP router solicitation, without its IP header. Never raises."""
        self._guarded(
            f"a solicitation of {source}", now, self._advertising.solicited, message, source, link
        )

    def home_agent_unreachable(self, home_agent: IPv4Address, icmp_code: int, now: float) -> None:
        """An ICMP "destination unreachable" of this code came back for a relayed request."""
        self._guarded(f"ICMP about {home_agent}", now, self._unreachable, home_agent, icmp_code)

    def _unreachable(self, home_agent: IPv4Address, icmp_code: int, now: float) -> None:
        requests.home_agent_unreachable(self._core, home_agent, icmp_code, now)

    def _guarded(self, what: str, now: float, action: Callable[..., None], *args: object) -> None:
        """Do something; a bad message costs a counter, our own faults never another node."""
        if self._closed:
            return
        core = self._core
        try:
            action(*args, now=now)
        except Discarded as discarded:
            core.discard(discarded.reason, now, str(discarded))
        except WireError as error:
            core.discard("malformed", now, f"{what}: {error}")
        except Exception as error:  # noqa: BLE001 - the one place that keeps all nodes alive
            core.counters["internal_errors"] += 1
            core.tell(
                "internal_error",
                now,
                f"foreign agent {core.policy.name}: internal error on {what}: {error!r}",
                Severity.WARNING,
                what=what,
                error=repr(error),
            )

    # -- time -------------------------------------------------------------------------------

    def handle_timer(self, now: float) -> None:
        """Do everything that is due. Never raises."""
        for key in self._core.timers.due(now):
            self._guarded(f"the timer {key[0].value}", now, self._fire, key)

    def _fire(self, key: TimerKey, now: float) -> None:
        kind, about = key
        self._on_timer[kind](about, now)

    def next_timer(self) -> float | None:
        """When :meth:`handle_timer` is to be called next, or None."""
        return self._core.timers.next_at()

    def take_outputs(self) -> list[Output]:
        """Everything to do since the last call, in order."""
        outputs = self._core.outputs
        self._core.outputs = []
        return outputs

    def respect(self, leased: Callable[[NarTuple], str]) -> None:
        """From now on, ask who has tunnels of a tuple by NAR; empty for nobody."""
        self._core.leased = leased

    # -- what happens around it -------------------------------------------------------------

    def session_up(self, home_address: IPv4Address, now: float, peer: str) -> None:
        """VPN/FA: an SA with VPN/FA has this home address as its inner address.

        ``peer`` is its identity. What another identity has registered does not count for it.
        """
        what = f"the SA of {home_address}"
        self._guarded(what, now, vpn.session_up, self._core, home_address, peer)

    def session_down(self, home_address: IPv4Address, now: float) -> None:
        """VPN/FA: no SA with VPN/FA has this home address any more."""
        what = f"the end of the SA of {home_address}"
        self._guarded(what, now, vpn.session_down, self._core, home_address)

    def visitor_refused(
        self, home_agent: IPv4Address, home_address: IPv4Address, reason: str, now: float
    ) -> None:
        """The dataplane could not install this visitor: it is none."""
        self._end(home_agent, home_address, "refused", f"the dataplane refused it: {reason}", now)

    def revoke(self, home_agent: IPv4Address, home_address: IPv4Address, now: float) -> bool:
        """End a registration because an administrator says so; False when there is none."""
        return self._end(home_agent, home_address, "ended_here", "it was ended here", now)

    def _end(
        self, home_agent: IPv4Address, home_address: IPv4Address, reason: str, text: str, now: float
    ) -> bool:
        entry = self._core.visitors.get(home_agent, home_address)
        if entry is None or self._closed:
            return False
        self._guarded(text, now, self._end_entry, entry, reason, text)
        return True

    def _end_entry(self, entry: VisitorEntry, reason: str, text: str, now: float) -> None:
        severity = Severity.INFO if reason == "closed" else Severity.WARNING
        visiting.leave(self._core, entry, reason, text, now, severity=severity)
        self._revocations.revoke(entry, now)

    def reconfigure(self, policy: ForeignAgentPolicy, now: float) -> None:
        """Go on with another policy.

        Visitors stay, unless they could not register any more because of the care-of address, the
        interface or the home agent. Other limits count from their next registration on.
        """
        self._guarded("a new configuration", now, self._reconfigure, policy)

    def _reconfigure(self, policy: ForeignAgentPolicy, now: float) -> None:
        core = self._core
        before, core.policy = core.policy, policy
        self.policy = policy
        moved = _place(policy) != _place(before)
        if moved:
            for pending in core.pending.all():
                core.pending.remove(pending)
                core.timers.cancel((TimerKind.PENDING, pending.key))
        for entry in core.visitors.all():
            other_server = bool(entry.nar_server) and entry.nar_server != policy.nar_server
            if moved or other_server or not may_use(policy, entry.home_agent):
                self._end_entry(entry, "reconfigured", "the configuration changed", now)
            elif entry.max_packet_octets != policy.max_packet_octets:
                entry.max_packet_octets = policy.max_packet_octets
                vpn.install(core, entry)
        if policy != before:
            self._advertising.restart(now)

    def restore(self, records: Mapping[str, bytes], now: float) -> None:
        """Take up what the last process kept, by key; what is of no use is forgotten.

        Those behind the VPN wait for :meth:`session_up`.
        """
        self._guarded("the last run's records", now, self._restore, records)

    def _restore(self, records: Mapping[str, bytes], now: float) -> None:
        restore_records(records, self._core, self._advertising, now)

    def hand_over(self) -> None:
        """Do nothing more and say nothing to anybody: the next process goes on."""
        self._core.timers = Timers()
        self._closed = True

    def close(self, now: float) -> None:
        """Stop: no visitors any more; home agents and mobile nodes are told once."""
        self._guarded("the end", now, self._close)
        self._closed = True

    def _close(self, now: float) -> None:
        for entry in self._core.visitors.all():
            self._end_entry(entry, "closed", "the foreign agent stops", now)
        self._advertising.farewell()
        self._core.timers = Timers()

    # -- what is shown ----------------------------------------------------------------------

    def advertisement(self) -> AgentAdvertisement:
        """What the agent says about itself now; VPN/FA sends it inside IKE (draft 001, B.2)."""
        return self._advertising.advertisement()

    def visitors(self) -> list[VisitorView]:
        """All registrations, to show them."""
        core = self._core
        wall_clock_s = core.wall_clock()
        return [view(core.policy.name, one, wall_clock_s) for one in core.visitors.all()]

    def visitor_keys(self) -> list[tuple[IPv4Address, IPv4Address]]:
        """Home agent and home address of all registrations; cheap."""
        return [one.key for one in self._core.visitors.all()]

    def visitor(self, home_agent: IPv4Address, home_address: IPv4Address) -> VisitorView | None:
        """One registration, to show it."""
        core = self._core
        entry = core.visitors.get(home_agent, home_address)
        return None if entry is None else view(core.policy.name, entry, core.wall_clock())

    # -- timers -----------------------------------------------------------------------------

    def _pending_due(self, key: PendingKey, now: float) -> None:
        requests.pending_timed_out(self._core, key, now)

    def _visitor_due(self, key: VisitorKey, now: float) -> None:
        visiting.expire(self._core, key, now)

    def _keepalive_due(self, far: Endpoint, now: float) -> None:
        keepalives.send(self._core, far, now)


def _place(policy: ForeignAgentPolicy) -> tuple[IPv4Address, str, bool]:
    return policy.care_of_address, policy.interface, policy.through_vpn
