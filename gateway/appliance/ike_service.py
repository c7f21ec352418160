"""Joins the IKE engine to the world: outputs go to the dataplane, the sockets and the log.

The order of the engine's outputs is kept in one respect that matters: the dataplane's work of a
round is committed before any datagram of that round leaves, so a peer that has our answer can
already send through the tunnel.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Protocol

from gateway.appliance.one_timer import CallAt, OneTimer
from gateway.dataplane.interface import (
    Dataplane,
    DataplaneEvent,
    DataplaneTrouble,
    EndpointRejected,
    EndpointSeen,
    SaExpired,
    TrafficWaiting,
)
from gateway.domain.child_sa import ChildSa
from gateway.domain.endpoint import Endpoint, Path
from gateway.domain.remote_access import Grant
from gateway.domain.session_records import SessionRecords
from gateway.ike.first_line import Datagram, Sorted
from gateway.ike.outputs import (
    AccessEnded,
    AccessGranted,
    ActivateOutbound,
    AskAboutUser,
    AskOcsp,
    ClientDown,
    ClientUp,
    Event,
    ForgetSa,
    InstallChildSa,
    MoveChildSa,
    Output,
    RecordSa,
    RemoveChildSa,
    SessionClosed,
    SessionOpened,
    Severity,
    Transmit,
    TransmitKeepalive,
)

KEEPALIVE_OCTETS = b"\xff"
MAX_ROUNDS = 8
"""Rounds of outputs per wake-up: a dataplane that refuses everything cannot keep us here."""


class Engine(Protocol):
    """What this joint needs of :class:`gateway.ike.engine.IkeEngine`."""

    def receive(self, message: bytes, path: Path, now: float) -> None:
        """A message from the network."""

    def sort(self, datagrams: Sequence[Datagram], share: float, now: float) -> Sorted:
        """A first look at what came at once."""

    def handle_timer(self, now: float) -> None:
        """Do what is due."""

    def next_timer(self) -> float | None:
        """When to call :meth:`handle_timer`."""

    def take_outputs(self) -> list[Output]:
        """What to do, in order."""

    def traffic_waiting(self, reqid: int, now: float) -> None:
        """A trap policy was hit."""

    def child_expired(self, spi_in: int, hard: bool, now: float) -> None:
        """A limit of the kernel's was reached."""

    def child_refused(self, spi_in: int, reason: str, now: float) -> None:
        """The dataplane could not do its part."""

    def endpoint_seen(self, spi_in: int, remote: Endpoint, proof: str, now: float) -> None:
        """An authenticated packet came from a new address."""

    def reconcile(self, kernel_spis: Collection[int], now: float) -> set[int]:
        """The dataplane has these child SAs and no others."""


class Send(Protocol):
    """How messages leave: :meth:`gateway.ike.transport.IkeSockets.send`."""

    def __call__(self, message: bytes, path: Path, *, keepalive: bool = False) -> OSError | None:
        """Send, or return why not."""


class Outside(Protocol):
    """Where questions go and who hears of sessions: :class:`gateway.appliance.backends.Backends`.

    Nothing here answers into the engine before it returns.
    """

    def ask_about_user(self, question: AskAboutUser) -> None:
        """Ask a user backend."""

    def ask_ocsp(self, question: AskOcsp) -> None:
        """Ask an OCSP responder."""

    def child_installed(self, output: InstallChildSa) -> None:
        """A child SA is installed."""

    def child_removed(self, output: RemoveChildSa) -> None:
        """A child SA is about to be removed."""

    def session_opened(self, output: SessionOpened) -> None:
        """A user logged in."""

    def session_closed(self, output: SessionClosed) -> None:
        """A user's session is over."""


class ChildWatcher(Protocol):
    """Who hears of child SAs: :class:`gateway.appliance.vpn_fa.VpnFaSessions`."""

    def child_installed(self, sa: ChildSa, peer: str) -> None:
        """One is about to be installed."""

    def child_removed(self, spi_in: int) -> None:
        """One is about to be removed."""


class Admission(Protocol):
    """Who hears of grants: :class:`gateway.appliance.remote_access.composition.RemoteAccess`."""

    def granted(self, grant: Grant) -> None:
        """A session is in."""

    def ended(self, session: str) -> None:
        """A session is over."""

    def commit(self) -> None:
        """What was queued goes to the kernel."""


class ClientListener(Protocol):
    """Who hears of the connections that we initiate: the mobile node's VPN."""

    def client_up(self, up: ClientUp) -> None:
        """One is up, or its terms changed; the dataplane has its child SAs."""

    def client_down(self, down: ClientDown) -> None:
        """One could not be brought up, or is over."""


class IkeService:
    """One engine, its dataplane, its sockets and one timer."""

    def __init__(
        self,
        engine: Engine,
        dataplane: Dataplane,
        *,
        send: Send,
        clock: Callable[[], float],
        call_at: CallAt,
        emit: Callable[[Event], None],
        outside: Outside | None = None,
        watcher: ChildWatcher | None = None,
        client: ClientListener | None = None,
        records: SessionRecords | None = None,
        admission: Admission | None = None,
    ) -> None:
        """Without ``outside``, questions stay unanswered: only for engines that ask none.

        Without ``records``, no SA outlives the process.
        """
        self._records = records
        self._admission = admission
        self._outside = outside
        self._watcher = watcher
        self._client = client
        self._engine = engine
        self._dataplane = dataplane
        self._send = send
        self._clock = clock
        self._emit = emit
        self.before_removal: Callable[[int], None] = _nothing
        """Told of a child SA that is about to be removed: its counters can still be read."""
        self._timer = OneTimer(call_at, self._due)
        self.counters = dict.fromkeys(
            ("commits", "refusals", "endpoints_seen", "endpoints_rejected", "sends_refused"), 0
        )

    def sort(self, datagrams: Sequence[Datagram], share: float) -> Sorted:
        """What goes on to :meth:`receive`, in order, and answers to send right away."""
        return self._engine.sort(datagrams, share, self._clock())

    def receive(self, batch: list[tuple[bytes, Path]]) -> None:
        """Messages of one wake-up: all are handled, then one commit, then the answers."""
        now = self._clock()
        receive = self._engine.receive
        for message, path in batch:
            receive(message, path, now)
        self.flush(now)

    def dataplane_events(self, events: Iterable[DataplaneEvent]) -> None:
        """What the dataplane noticed. Commits in any case: packets that proved a move wait."""
        now = self._clock()
        for event in events:
            self._dataplane_event(event, now)
        self.flush(now, commit=True)

    def _dataplane_event(self, event: DataplaneEvent, now: float) -> None:
        engine = self._engine
        if isinstance(event, EndpointSeen):
            self.counters["endpoints_seen"] += 1
            engine.endpoint_seen(event.spi_in, event.remote, event.proof, now)
        elif isinstance(event, SaExpired):
            engine.child_expired(event.spi_in, event.hard, now)
        elif isinstance(event, TrafficWaiting):
            engine.traffic_waiting(event.reqid, now)
        elif isinstance(event, EndpointRejected):
            self.counters["endpoints_rejected"] += 1
            self._emit(_rejected(event))
        elif isinstance(event, DataplaneTrouble):
            self._emit(Event("dataplane_trouble", event.text, Severity.WARNING))
            if event.there is not None:
                engine.reconcile(event.there, now)

    def flush(self, now: float | None = None, *, commit: bool = False) -> None:
        """Carry the engine's outputs out and arm the timer. Call after anything that drove it.

        ``commit`` commits the dataplane's work even when the engine asked for none.
        """
        if now is None:
            now = self._clock()
        for _ in range(MAX_ROUNDS):
            outputs = self._engine.take_outputs()
            if not outputs and not commit:
                break
            self._round(outputs, now, dirty=commit)
            commit = False
        self._timer.arm(self._engine.next_timer())

    def _round(self, outputs: list[Output], now: float, *, dirty: bool) -> None:
        staged: list[Transmit | TransmitKeepalive] = []
        events: list[Event] = []
        told: list[ClientUp | ClientDown] = []
        kept: list[RecordSa | ForgetSa] = []
        for output in outputs:
            kind = type(output)
            if kind is Transmit or kind is TransmitKeepalive:
                staged.append(output)  # type: ignore[arg-type]
            elif kind is Event:
                events.append(output)  # type: ignore[arg-type]
            elif kind is RecordSa or kind is ForgetSa:
                kept.append(output)  # type: ignore[arg-type]
            elif isinstance(output, ClientUp | ClientDown):
                told.append(output)
            elif self._to_dataplane(output):
                dirty = True
        if dirty:
            self._commit(now)
        # Between the two: a child SA that is recorded has keys in the kernel, and what is sent is
        # recorded. Killed before, the next process removes what no record knows.
        for one in kept:
            self._record(one)
        for message in staged:
            if isinstance(message, Transmit):
                failed = self._send(message.message, message.path)
            else:
                failed = self._send(KEEPALIVE_OCTETS, message.path, keepalive=True)
            if failed is not None:
                self.counters["sends_refused"] += 1
                events.append(_unsent(message.path, failed))
        for event in events:
            self._emit(event)
        # Last: it may drive the engine at once.
        for news in told:
            self._tell(news)

    def _record(self, output: RecordSa | ForgetSa) -> None:
        """At once: what is sent in this round must not be new to the next process."""
        if self._records is None:
            return
        if isinstance(output, RecordSa):
            self._records.keep("ike", output.key, output.record)
        else:
            self._records.forget("ike", output.key)

    def child_adopted(self, output: InstallChildSa) -> None:
        """The dataplane has this child SA of the last process."""
        if self._outside is not None:
            self._outside.child_installed(output)
        if self._watcher is not None:
            self._watcher.child_installed(output.sa, output.peer)

    def _tell(self, news: ClientUp | ClientDown) -> None:
        if self._client is None:
            return
        if isinstance(news, ClientUp):
            self._client.client_up(news)
        else:
            self._client.client_down(news)

    def _to_dataplane(self, output: Output) -> bool:
        """Carry one output out; whether the dataplane has something to commit."""
        dataplane, outside = self._dataplane, self._outside
        if isinstance(output, InstallChildSa):
            dataplane.install_child_sa(output.sa, outbound=output.outbound)
            if outside is not None:
                outside.child_installed(output)
            if self._watcher is not None:
                self._watcher.child_installed(output.sa, output.peer)
        elif isinstance(output, ActivateOutbound):
            dataplane.activate_outbound(output.spi_in)
        elif isinstance(output, RemoveChildSa):
            if outside is not None:
                outside.child_removed(output)
            if self._watcher is not None:
                self._watcher.child_removed(output.spi_in)
            self.before_removal(output.spi_in)
            dataplane.remove_child_sa(output.spi_in)
        elif isinstance(output, MoveChildSa):
            dataplane.move_child_sa(
                output.spi_in,
                output.local,
                output.remote,
                udp_encapsulation=output.udp_encapsulation,
            )
        elif isinstance(output, AccessGranted):
            if self._admission is not None:
                self._admission.granted(output.grant)
        elif isinstance(output, AccessEnded):
            if self._admission is not None:
                self._admission.ended(output.session)
        else:
            self._to_outside(output)
            return False
        return True

    def _to_outside(self, output: Output) -> None:
        outside = self._outside
        if outside is None:
            return
        if isinstance(output, AskAboutUser):
            outside.ask_about_user(output)
        elif isinstance(output, AskOcsp):
            outside.ask_ocsp(output)
        elif isinstance(output, SessionOpened):
            outside.session_opened(output)
        elif isinstance(output, SessionClosed):
            outside.session_closed(output)

    def _commit(self, now: float) -> None:
        self.counters["commits"] += 1
        if self._admission is not None:
            self._admission.commit()
        for refusal in self._dataplane.commit():
            self.counters["refusals"] += 1
            self._engine.child_refused(refusal.spi_in, refusal.reason, now)

    def _due(self) -> None:
        now = self._clock()
        self._engine.handle_timer(now)
        self.flush(now)

    def stop(self) -> None:
        """Call the timer off."""
        self._timer.stop()


def _nothing(_spi_in: int) -> None:
    return None


def _rejected(event: EndpointRejected) -> Event:
    return Event(
        "endpoint_rejected",
        f"ESP packet of SA {event.spi_in:08x} from {event.remote} moved nothing: {event.reason}",
        Severity.WARNING,
        {
            "spi_in": f"{event.spi_in:08x}",
            "remote": str(event.remote),
            "reason": event.reason,
        },
    )


def _unsent(path: Path, error: OSError) -> Event:
    return Event(
        "send_failed",
        f"cannot send IKE to {path.remote} from {path.local}: {error.strerror}",
        Severity.WARNING,
        {"remote": str(path.remote), "local": str(path.local), "error": str(error.strerror)},
    )
