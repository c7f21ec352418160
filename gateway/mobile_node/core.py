"""What the parts of the mobile node share: its evidence, and the one place that changes state."""

from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from fnmatch import fnmatchcase

from gateway.dataplane.node import Attachment, LayerStack
from gateway.domain.event import Event, Severity
from gateway.mobile_node import layers
from gateway.mobile_node.alarm import Alarm
from gateway.mobile_node.backoff import Backoff
from gateway.mobile_node.detection import Place
from gateway.mobile_node.idle import IdleWatch
from gateway.mobile_node.modes import Knowledge
from gateway.mobile_node.monitoring import LEAST_PERMIT_S, Proof
from gateway.mobile_node.outputs import Apply, CloseVpn, Forbid, NodeOutput, Permit
from gateway.mobile_node.policy import NodePolicy
from gateway.mobile_node.registering.outcome import Via
from gateway.mobile_node.registration import RegistrationClient
from gateway.mobile_node.vpn_layer import VpnConnection, VpnState

PREVIOUS_S = 10.0
"""For so long packets that are under way to the link used before are accepted."""
RECENT_EVENTS = 16
CLOCK_STEP_S = 1.0
"""A clock that goes back by more was set, and is followed."""
FIRST_INNER_S, LAST_INNER_S = 2.0, 120.0
FIRST_BLOCKED_S, LAST_BLOCKED_S = 2.0, 60.0


class Core:
    """The node's state. :meth:`apply` is the only way to another access mode."""

    def __init__(
        self,
        policy: NodePolicy,
        *,
        random: Callable[[int], bytes],
        wall_clock: Callable[[], float],
        user_packets: Callable[[], int] | None,
    ) -> None:
        self.policy = policy
        self.random = random
        self.user_packets = user_packets
        self._wall_clock = wall_clock
        self._last_wall = 0.0
        self.alarm = Alarm()
        self.outputs: list[NodeOutput] = []
        self.messages: Counter[str] = Counter()
        self.recent: deque[str] = deque(maxlen=RECENT_EVENTS)
        self.places: dict[str, Place] = {}
        self.place: Place | None = None
        """In use."""
        self.stack: LayerStack | None = None
        """As applied last; None before, and after the dataplane refused it."""
        self.since = 0.0
        self.previous: Attachment | None = None
        self.previous_until = 0.0
        self.permits: dict[str, float] = {}
        self.vpn = VpnConnection(random)
        self.flaps = Backoff(1.0, 60.0, random)
        self.knowledge = Knowledge()
        self.inner: RegistrationClient | None = None
        self.inner_via: Via | None = None
        self.inner_current = False
        """The i-HA has confirmed the care-of address that the VPN gives."""
        self.inner_denial = ""
        self.inner_silent = False
        self.inner_relayed = False
        """The gateway's foreign agent is well, only the i-HA behind it is not."""
        self.inner_retry_at = 0.0
        self.inner_retry = Backoff(FIRST_INNER_S, LAST_INNER_S, random)
        self.idle = IdleWatch(user_packets, policy.detection.idle_after_s)
        self.why = "nothing has been tried yet"
        self.locked = False
        self.closed = False
        self.blocked = ""
        """What the dataplane refused, and why."""
        self.blocked_until = 0.0
        self.blocking = Backoff(FIRST_BLOCKED_S, LAST_BLOCKED_S, random)
        self.new_inner()

    # -- clocks and clients -----------------------------------------------------------------

    def wall_clock(self) -> float:
        """Strictly increasing: requests of all clients to one home agent are told apart by it."""
        wall_s = self._wall_clock()
        if self._last_wall - CLOCK_STEP_S < wall_s <= self._last_wall:
            wall_s = self._last_wall + 1e-6
        self._last_wall = wall_s
        return wall_s

    def new_inner(self) -> None:
        """A client for the i-MIP registration through the VPN, by the policy as it is."""
        self.inner_via, self.inner_current = None, False
        self.inner_denial, self.inner_silent, self.inner_retry_at = "", False, 0.0
        internal = self.policy.internal
        self.inner = (
            None
            if internal is None
            else RegistrationClient(internal, random=self.random, wall_clock=self.wall_clock)
        )

    def forget_inner(self) -> None:
        """The VPN is gone, or not used any more."""
        if self.inner is not None:
            self.inner.stop()
        self.inner_via, self.inner_current = None, False
        self.inner_denial, self.inner_silent, self.inner_retry_at = "", False, 0.0
        self.inner_relayed = False
        self.inner_retry.reset()

    def clients(self) -> Iterator[tuple[str, Place | None, RegistrationClient]]:
        """All registration clients with the name of their layer and their interface."""
        for place in self.places.values():
            if place.internal is not None:
                yield "i-MIP", place, place.internal
            if place.external.client is not None:
                yield "x-MIP", place, place.external.client
        if self.inner is not None:
            yield "i-MIP", None, self.inner

    # -- interfaces -------------------------------------------------------------------------

    def preference(self, place: Place) -> tuple[int, int, str]:
        """The order of interfaces: as the profile says, then by metric."""
        return (self.pattern(place.interface) or 0, place.link.metric, place.interface)

    def pattern(self, interface: str) -> int | None:
        """Which of the profile's patterns an interface fits; None if it is not ours to use."""
        patterns = self.policy.interfaces
        if not patterns:
            return 0
        for index, pattern in enumerate(patterns):
            if fnmatchcase(interface, pattern):
                return index
        return None

    def ranked(self) -> list[Place]:
        """Interfaces that something can be sent on, the preferred one first."""
        return sorted((p for p in self.places.values() if p.usable), key=self.preference)

    def use(self, place: Place | None, now: float) -> None:
        """Another interface carries the stack from now on."""
        if place is self.place:
            return
        before = self.stack.attachment if self.stack is not None else None
        left = self.place
        self.place = place
        if left is not None and left.usable and before is not None and place is not None:
            self.previous, self.previous_until = before, now + PREVIOUS_S

    # -- the switch and the stack -----------------------------------------------------------

    def permit(self, place: Place, proof: Proof, now: float) -> bool:
        """Let plaintext pass for as long as the proof lasts; False if it is over already."""
        until = proof.ends_at(self.policy.detection)
        if until - now < LEAST_PERMIT_S:
            return False
        if self.permits.get(place.interface) != until:
            self.permits[place.interface] = until
            self.outputs.append(Permit(place.interface, until - now))
        return True

    def forbid(self, interface: str) -> None:
        """End a permit, also one that we may have forgotten."""
        self.permits.pop(interface, None)
        self.outputs.append(Forbid(interface))

    def apply(self, stack: LayerStack, now: float) -> None:
        """Change to a stack: first everything that it does not permit ends."""
        if self.previous is not None and (
            self.alarm.reached(self.previous_until)
            or stack.attachment is None
            or self.previous.interface == stack.attachment.interface
        ):
            self.previous = None
        stack = replace(stack, previous=self.previous)
        attachment = stack.attachment
        kept = attachment.interface if stack.mode.inside and attachment is not None else None
        for interface in [one for one in self.permits if one != kept]:
            self.forbid(interface)
        before = self.stack
        if stack == before:
            return
        self.stack = stack
        self.outputs.append(Apply(stack))
        if before is None or before.mode is not stack.mode:
            self.since = now
            self.tell(
                "mode_changed",
                f"access mode {stack.mode.value}: {self.why}",
                mode=stack.mode.value,
                before=before.mode.value if before is not None else "",
                why=self.why,
            )

    def hold(self, why: str, now: float, attachment: Attachment | None = None) -> None:
        """Nothing of the user's leaves, for this reason."""
        self.why = why
        self.apply(layers.held(self.policy, attachment), now)

    def end_vpn(self, reason: str, now: float) -> None:
        """Close the VPN if there is one, and the registration that went through it."""
        if self.vpn.state is not VpnState.DOWN:
            self.outputs.append(CloseVpn(reason))
            self.vpn.down(now)
        self.forget_inner()

    def pass_on(self, event: Event, *, quietly: bool = False) -> None:
        """An event of a part; ``quietly``: it is good news that were expected."""
        if quietly and event.severity is Severity.INFO:
            event = replace(event, severity=Severity.DEBUG)
        if event.severity is not Severity.DEBUG:
            self.recent.append(event.text)
        self.outputs.append(event)

    def tell(
        self, name: str, text: str, severity: Severity = Severity.INFO, **fields: object
    ) -> None:
        """An event, for the log and for whoever watches."""
        self.recent.append(text)
        self.outputs.append(Event(name, text, severity, dict(fields)))
