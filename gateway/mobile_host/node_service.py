"""Joins the mobile node's engine to its host: what it asks for is carried out, in its order.

Everything happens on the event loop's thread, and nothing here waits. What a carried out output
leads to comes back in a later call, never while the outputs of one round are worked through.
"""

from collections.abc import Callable
from functools import partial
from ipaddress import IPv4Address
from typing import Protocol

from gateway.appliance.one_timer import CallAt, OneTimer
from gateway.dataplane.node import LayerStack, NodeDataplane, NodeRefusal
from gateway.domain.access_mode import AccessMode
from gateway.domain.endpoint import Endpoint
from gateway.domain.event import Event, Severity
from gateway.domain.mobility_credential import MobilityCredential
from gateway.mobile_node.inputs import LinkState, Portal, VpnSession
from gateway.mobile_node.outputs import (
    Apply,
    CloseVpn,
    ConnectVpn,
    Forbid,
    KeepCredentials,
    MoveVpn,
    NodeOutput,
    Permit,
    ProbePortal,
    Solicit,
    TransmitRegistration,
)

AFTER_FAULT_S = 1.0
MAX_ROUNDS = 16
"""Rounds of outputs per wake-up: nothing can keep us here."""


class NodeEngine(Protocol):
    """What this joint needs of :class:`gateway.mobile_node.node.MobileNode`."""

    def links_changed(self, links: list[LinkState], now: float) -> None:
        """The links as they are now."""

    def advertisement(
        self, octets: bytes, source: IPv4Address, interface: str, link_address: bytes, now: float
    ) -> None:
        """An ICMP router advertisement came."""

    def receive(self, message: bytes, interface: str | None, source: Endpoint, now: float) -> None:
        """A message to our port 434 came; interface None: through the VPN."""

    def vpn_up(self, session: VpnSession, now: float) -> None:
        """The VPN is up."""

    def vpn_failed(self, reason: str, hint: str, refused: bool, now: float) -> None:
        """An attempt failed."""

    def vpn_down(self, reason: str, now: float) -> None:
        """The VPN was up."""

    def portal(self, interface: str, verdict: Portal, now: float) -> None:
        """What a probe found."""

    def traffic_waiting(self, now: float) -> None:
        """A packet of the user's is held."""

    def refused(self, refusal: NodeRefusal, now: float) -> None:
        """The dataplane could not do what the last stack asks for."""

    def next_timer(self) -> float | None:
        """When :meth:`handle_timer` is wanted."""

    def handle_timer(self, now: float) -> None:
        """Do what is due."""

    def take_outputs(self) -> list[NodeOutput]:
        """What to do, in order."""


class Signals(Protocol):
    """How registrations leave: :class:`gateway.mobile_host.signalling.Signalling`."""

    def send(
        self,
        message: bytes,
        interface: str | None,
        source: IPv4Address,
        destination: IPv4Address,
        link_address: bytes = b"",
    ) -> OSError | None:
        """Send, or return why not."""

    def solicit(self, interface: str, source: IPv4Address | None) -> OSError | None:
        """Ask for advertisements, or return why not."""


class VpnLayer(Protocol):
    """:class:`gateway.mobile_host.vpn.Vpn`."""

    def connect(self, order: ConnectVpn) -> None:
        """Bring a session up."""

    def move(self, order: MoveVpn) -> None:
        """Our outer address is another one."""

    def close(self, reason: str) -> None:
        """End it."""


class Surroundings(Protocol):
    """What only the whole host can do: :class:`gateway.mobile_host.running.RunningNode`."""

    def probe_portal(self, interface: str) -> None:
        """Begin a probe."""

    def keep_credentials(self, credentials: tuple[MobilityCredential, ...]) -> None:
        """Write them down."""

    def stack_applied(self, stack: LayerStack) -> None:
        """It is the node's networking now."""


class NodeService:
    """One engine and everything around it."""

    def __init__(
        self,
        engine: NodeEngine,
        dataplane: NodeDataplane,
        *,
        signals: Signals,
        vpn: VpnLayer,
        host: Surroundings,
        clock: Callable[[], float],
        call_at: CallAt,
        emit: Callable[[Event], None],
    ) -> None:
        self._engine = engine
        self._dataplane = dataplane
        self._signals = signals
        self._vpn = vpn
        self._host = host
        self._clock = clock
        self._emit = emit
        self._timer = OneTimer(call_at, self._due)
        self._addresses: dict[str, IPv4Address] = {}
        self._busy = False
        self._rest_until = 0.0
        """After a fault the timer waits a little: what is due may fail again."""
        self._holding = True
        self._stopped = False
        self.counters = dict.fromkeys(
            (
                "stacks_applied",
                "stacks_refused",
                "packets_held",
                "packets_released",
                "messages_unsent",
            ),
            0,
        )

    def drive(self, call: Callable[[float], None]) -> None:
        """Call the engine with the time now, and carry out what follows.

        When it fails, what it had already decided is carried out, and nothing stays permitted.
        """
        now = self._clock()
        try:
            call(now)
        except Exception as error:  # noqa: BLE001 - the switch must not rest on what failed
            where = error.__traceback__
            while where is not None and where.tb_next is not None:
                where = where.tb_next
            at = f" at {where.tb_frame.f_code.co_filename}:{where.tb_lineno}" if where else ""
            text = f"internal fault: {type(error).__name__}: {error}{at}"
            self._emit(Event("internal_fault", text, Severity.WARNING))
            self._rest_until = now + AFTER_FAULT_S
            self._forbid_all(now)
        self.flush(now)

    # -- what comes in ---------------------------------------------------------------------

    def links_changed(self, links: list[LinkState]) -> None:
        """The links as they are now."""
        self._addresses = {
            one.interface: one.address.ip for one in links if one.address is not None
        }
        self.drive(partial(self._engine.links_changed, links))

    def registration(self, message: bytes, interface: str | None, source: Endpoint) -> None:
        """See :class:`gateway.mobile_host.signalling.Receiver`."""
        self.drive(partial(self._engine.receive, message, interface, source))

    def advertisement(
        self, interface: str, source: IPv4Address, link_address: bytes, octets: bytes
    ) -> None:
        """See :class:`gateway.mobile_host.signalling.Receiver`."""
        heard = partial(self._engine.advertisement, octets, source, interface, link_address)
        self.drive(heard)

    def vpn_up(self, session: VpnSession) -> None:
        """See :class:`gateway.mobile_host.vpn.VpnListener`."""
        self.drive(partial(self._engine.vpn_up, session))

    def vpn_failed(self, reason: str, hint: str, *, refused: bool) -> None:
        """See :class:`gateway.mobile_host.vpn.VpnListener`."""
        self.drive(partial(self._engine.vpn_failed, reason, hint, refused))

    def vpn_down(self, reason: str) -> None:
        """See :class:`gateway.mobile_host.vpn.VpnListener`."""
        self.drive(partial(self._engine.vpn_down, reason))

    def portal(self, interface: str, verdict: Portal) -> None:
        """A probe is over."""
        self.drive(partial(self._engine.portal, interface, verdict))

    def held_readable(self) -> None:
        """Packets of the user's came that may not leave yet."""
        count = self._dataplane.read_held()
        if not count:
            return
        self.counters["packets_held"] += count
        if not self._holding:
            # They were under way to the device when the stack was applied.
            self.counters["packets_released"] += self._dataplane.release_held()
            return
        self.drive(self._engine.traffic_waiting)

    # -- what goes out ---------------------------------------------------------------------

    def flush(self, now: float | None = None) -> None:
        """Carry the engine's outputs out and arm the timer. Call after anything that drove it."""
        if self._busy:
            return  # the round under way takes what has come since
        if now is None:
            now = self._clock()
        self._busy = True
        try:
            for _ in range(MAX_ROUNDS):
                outputs = self._engine.take_outputs()
                if not outputs:
                    break
                for output in outputs:
                    self._carry_out_surely(output, now)
        finally:
            self._busy = False
            if not self._stopped:
                at = self._engine.next_timer()
                self._timer.arm(at if at is None else max(at, self._rest_until))

    def _carry_out_surely(self, output: NodeOutput, now: float) -> None:
        """A fault of ours in one output must not cost the others: a Forbid may be among them."""
        try:
            self._carry_out(output, now)
        except Exception as error:  # noqa: BLE001 - the one place that keeps the round alive
            what = type(output).__name__
            text = f"internal fault in {what}: {type(error).__name__}: {error}"
            self._emit(Event("internal_fault", text, Severity.WARNING, {"output": what}))
            if isinstance(output, Forbid):
                self._forbid_all(now)

    def _carry_out(self, output: NodeOutput, now: float) -> None:
        match output:
            case TransmitRegistration():
                self._transmit(output)
            case Apply(stack=stack):
                self._apply(stack, now)
            case Permit(interface=permitted, lifetime_s=lifetime_s):
                act = partial(self._dataplane.permit, permitted, lifetime_s)
                self._guarded("permit", act, now)
            case Forbid(interface=forbidden):
                if not self._guarded("forbid", partial(self._dataplane.forbid, forbidden), now):
                    self._forbid_all(now)
            case Solicit(interface=interface):
                # A link without a mobility agent, or that just went away: nothing to tell.
                self._signals.solicit(interface, self._addresses.get(interface))
            case ConnectVpn():
                self._vpn.connect(output)
            case MoveVpn():
                self._vpn.move(output)
            case CloseVpn(reason=reason):
                self._vpn.close(reason)
            case ProbePortal(interface=interface):
                self._host.probe_portal(interface)
            case KeepCredentials(credentials=credentials):
                self._host.keep_credentials(credentials)
            case Event():
                self._emit(output)

    def _transmit(self, output: TransmitRegistration) -> None:
        failed = self._signals.send(
            output.message,
            output.interface,
            output.source,
            output.destination,
            output.link_address,
        )
        if failed is None:
            return
        self.counters["messages_unsent"] += 1
        where = output.interface or "the VPN"
        self._emit(
            Event(
                "registration_unsent",
                f"cannot send to {output.destination} by {where}: {failed.strerror}",
                Severity.DEBUG,
                {"destination": str(output.destination), "reason": str(failed.strerror)},
            )
        )

    def _apply(self, stack: LayerStack, now: float) -> None:
        try:
            refusals = self._dataplane.apply(stack)
        except (OSError, ValueError) as error:
            refusals = [NodeRefusal("the layers", _words(error))]
        self.counters["stacks_applied"] += 1
        self._holding = stack.mode is AccessMode.HELD
        for refusal in refusals:
            self._refused(refusal, now)
        if not self._holding:
            self.counters["packets_released"] += self._dataplane.release_held()
        self._host.stack_applied(stack)

    def _guarded(self, what: str, act: Callable[[], None], now: float) -> bool:
        try:
            act()
        except (OSError, ValueError) as error:
            self._refused(NodeRefusal(what, _words(error)), now)
            return False
        return True

    def _forbid_all(self, now: float) -> None:
        """One permit could not be ended alone: end them all. What fails now ends by itself."""
        self._guarded("forbid", self._dataplane.forbid, now)

    def _refused(self, refusal: NodeRefusal, now: float) -> None:
        self.counters["stacks_refused"] += 1
        self._emit(
            Event(
                "dataplane_refused",
                f"the kernel refused {refusal.what}: {refusal.reason}",
                Severity.WARNING,
                {"what": refusal.what, "reason": refusal.reason},
            )
        )
        self._engine.refused(refusal, now)

    def _due(self) -> None:
        self.drive(self._engine.handle_timer)

    def stop(self) -> None:
        """Call the timer off."""
        self._stopped = True
        self._timer.stop()


def _words(error: OSError | ValueError) -> str:
    return str(getattr(error, "strerror", None) or error)
