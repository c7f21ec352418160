"""The IKEv2 engine: datagrams, timers and commands in, outputs out. No socket, no clock."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from hashlib import sha256

from gateway.domain.endpoint import Endpoint, Path
from gateway.domain.pools import AddressPool
from gateway.domain.wire import WireError
from gateway.ike.codec import (
    Header,
    Message,
    Notify,
    UnsupportedCriticalPayload,
    describe_notify,
    parse_header,
    parse_message,
    serialize_message,
)
from gateway.ike.crypto.sk import IntegrityError
from gateway.ike.outputs import Output, Severity
from gateway.ike.policy import ConnectionPolicy, EngineSettings
from gateway.ike.registry import ExchangeType, Flag, NotifyType
from gateway.ike.v2 import (
    auth,
    closing,
    commands,
    create_child,
    exchange,
    informational,
    init,
    initiate,
    moving,
    protect,
    snapshot,
    timing,
)
from gateway.ike.v2.core import Core, TimerKind
from gateway.ike.v2.protect import Opened
from gateway.ike.v2.refusal import Refused
from gateway.ike.v2.sa import IkeSa, State
from gateway.ike.v2.snapshot import ChildSaSnapshot, IkeSaSnapshot
from gateway.ike.v2.view import Payloads, Request

IKE_MAJOR = 2
MAX_LOGIN_OCTETS = 32_768
"""Of a fragmented IKE_AUTH request, whose sender has proven nothing yet."""
INVALID_SPI_ANSWERS_PER_S = 10
"""Unauthenticated INVALID_IKE_SPI answers, all peers together."""

_HANDLERS = {
    (State.HALF_OPEN, ExchangeType.IKE_AUTH): auth.receive_request,
    (State.ESTABLISHED, ExchangeType.CREATE_CHILD_SA): create_child.receive_request,
    (State.ESTABLISHED, ExchangeType.INFORMATIONAL): informational.receive_request,
    (State.REKEYED, ExchangeType.CREATE_CHILD_SA): create_child.receive_request,
    (State.REKEYED, ExchangeType.INFORMATIONAL): informational.receive_request,
    (State.DELETING, ExchangeType.CREATE_CHILD_SA): create_child.receive_request,
    (State.DELETING, ExchangeType.INFORMATIONAL): informational.receive_request,
}
"""Which requests are acted on in which state; every other one is dropped."""


class IkeEngine:
    """IKEv2 for any number of peers, responder and initiator.

    Call :meth:`take_outputs` after every other call and carry the outputs out in their order.
    ``now`` is any clock in seconds that never goes back.
    """

    def __init__(
        self,
        settings: EngineSettings,
        connections: Sequence[ConnectionPolicy],
        pools: Mapping[str, AddressPool],
        *,
        random: Callable[[int], bytes],
        wall_clock: Callable[[], datetime],
        last_inbound: Callable[[int], float | None] | None = None,
    ) -> None:
        """Take the configuration.

        ``random`` gives unpredictable octets, ``wall_clock`` the time for certificates,
        ``last_inbound`` the age in seconds of the last ESP packet of an inbound SPI.
        """
        self._core = Core(settings, connections, pools, random, wall_clock, last_inbound)
        self._invalid_spi_window = (0.0, 0)

    # -- datagrams ------------------------------------------------------------------------

    def receive(self, message: bytes, path: Path, now: float) -> None:
        """Take a datagram, without its non-ESP marker. Never raises."""
        try:
            self._guarded(f"a message from {path.remote}", now, self._receive, message, path, now)
        except IntegrityError:
            self._core.count("integrity_failures")
        except WireError as error:
            self._core.count("malformed_messages")
            self._core.emit_limited(
                f"malformed {path.remote.address}",
                now,
                "message_malformed",
                f"malformed message from {path.remote}: {error}",
                Severity.DEBUG,
                remote=str(path.remote),
                reason=str(error),
            )

    def _guarded(self, what: str, now: float, action: Callable[..., None], *args: object) -> None:
        """Do something; our own faults cost one message, never another peer."""
        core = self._core
        kept = len(core.outputs)
        try:
            action(*args)
        except (WireError, IntegrityError):
            raise
        except Exception as error:  # noqa: BLE001 - the one place that keeps all peers alive
            del core.outputs[kept:]
            core.count("internal_errors")
            core.emit_limited(
                "internal error",
                now,
                "internal_error",
                f"internal error on {what}, dropped: {error!r}",
                Severity.WARNING,
                what=what,
                error=repr(error),
            )

    def _receive(self, message: bytes, path: Path, now: float) -> None:
        core = self._core
        core.counters["messages_in"] += 1
        header = parse_header(message)
        if header.major != IKE_MAJOR:
            self._other_version(header, path, now)
        elif header.exchange == ExchangeType.IKE_SA_INIT:
            self._receive_init(message, header, path, now)
        else:
            spi = header.responder_spi if header.from_initiator else header.initiator_spi
            sa = core.sas.get(spi)
            if sa is None or sa.initiator == header.from_initiator:
                self._unknown_spi(header, path, now)
            elif (sa.initiator_spi, sa.responder_spi) != (
                header.initiator_spi,
                header.responder_spi,
            ):
                core.count("spi_mismatches")
            elif header.is_response:
                self._receive_response(sa, message, header, path, now)
            else:
                self._receive_request(sa, message, header, path, now)

    def _receive_init(self, message: bytes, header: Header, path: Path, now: float) -> None:
        core = self._core
        if not header.is_response:
            if not header.from_initiator:
                raise WireError("IKE_SA_INIT request without the initiator flag")
            init.receive_request(core, message, header, path, now)
            return
        sa = core.sas.get(header.initiator_spi)
        if sa is None or not sa.initiator or header.from_initiator:
            core.count("responses_unexpected")
            return
        initiate.receive_response(core, sa, message, header, path, now)

    def _receive_request(
        self, sa: IkeSa, message: bytes, header: Header, path: Path, now: float
    ) -> None:
        core = self._core
        window = sa.window
        if header.message_id == window.expected - 1:
            if window.is_repeated(header.message_id, sha256(message).digest()):
                core.count("requests_repeated")
                core.transmit(window.responses, path)
            else:
                core.count("requests_outside_window")
            return
        if header.message_id != window.expected:
            core.count("requests_outside_window")
            return
        handler = None
        if header.exchange in _EXCHANGES:
            handler = _HANDLERS.get((sa.state, ExchangeType(header.exchange)))
        if handler is None:
            core.count("requests_out_of_state")
            return
        opened = self._open(sa, message, parse_message(message, header))
        if opened is None:
            return
        moved = path.remote != sa.path.remote and sa.state is not State.HALF_OPEN
        request = Request(_NOTHING, header.exchange, opened.digest, path, now)
        try:
            request = replace(request, view=Payloads(opened.payloads()))
            sa.last_inbound = now
            handler(core, sa, request)
        except UnsupportedCriticalPayload as unsupported:
            self._unsupported(sa, unsupported, request)
            return
        except WireError as error:
            self._malformed(sa, error, request)
            return
        if moved and not sa.mobike:
            moving.follow(core, sa, path.remote, f"IKE request {header.message_id}", now)

    def _open(self, sa: IkeSa, message: bytes, parsed: Message) -> Opened | None:
        settings = self._core.settings
        opened = protect.open_message(
            sa,
            message,
            parsed,
            max_fragments=settings.max_fragments,
            max_octets=min(settings.max_message_octets, MAX_LOGIN_OCTETS)
            if sa.state is State.HALF_OPEN
            else settings.max_message_octets,
        )
        if opened is None:
            self._core.count("fragments_kept")
        return opened

    def _unsupported(self, sa: IkeSa, error: UnsupportedCriticalPayload, request: Request) -> None:
        core = self._core
        core.count("unsupported_critical_payloads")
        kind = bytes([error.payload_type])
        notify = Notify(NotifyType.UNSUPPORTED_CRITICAL_PAYLOAD, kind)
        exchange.respond(core, sa, request, [notify])
        if sa.state is State.HALF_OPEN:
            closing.refuse_login(core, sa, str(error), request.now)

    def _malformed(self, sa: IkeSa, error: WireError, request: Request) -> None:
        """An authentic request breaks the format: fatal (RFC 7296 sections 2.21.2, 2.21.3)."""
        core = self._core
        core.count("malformed_messages")
        if sa.state is State.HALF_OPEN:
            refused = Refused(NotifyType.INVALID_SYNTAX, f"malformed message: {error}")
            auth.refuse(core, sa, refused, request)
            return
        exchange.respond(core, sa, request, [Notify(NotifyType.INVALID_SYNTAX)])
        reason = f"the peer sent a malformed message: {error}"
        closing.close(core, sa, reason, request.now, severity=Severity.WARNING)

    def _receive_response(
        self, sa: IkeSa, message: bytes, header: Header, path: Path, now: float
    ) -> None:
        core = self._core
        outstanding = sa.window.outstanding
        if (
            outstanding is None
            or not sa.window.awaits(header.message_id)
            or outstanding.exchange.exchange_type != header.exchange
        ):
            core.count("responses_unexpected")
            return
        parsed = parse_message(message, header)
        if parsed.encrypted is None:
            self._unauthenticated(sa, parsed, now)
            return
        opened = self._open(sa, message, parsed)
        if opened is None:
            return
        try:
            view = Payloads(opened.payloads())
        except WireError as error:
            core.count("malformed_messages")
            closing.close(core, sa, f"malformed response from the peer: {error}", now)
            return
        sa.last_inbound = now
        if sa.path.local.address.is_unspecified:
            sa.path = Path(path.local, sa.path.remote)
        try:
            exchange.finish(core, sa, view, now)
        except WireError as error:
            core.count("malformed_messages")
            closing.close(core, sa, f"malformed response from the peer: {error}", now)

    def _unauthenticated(self, sa: IkeSa, parsed: Message, now: float) -> None:
        """An answer in the clear proves nothing; it is a hint for when no other one comes."""
        core = self._core
        core.count("unauthenticated_errors")
        error = Payloads(parsed.payloads).error()
        if error is None:
            return
        if sa.handshake is not None:
            said = describe_notify(error.type)
            sa.handshake.hint = f"the peer answered {said}, unprotected"
        elif sa.state is State.DELETING and error.type == NotifyType.INVALID_IKE_SPI:
            # It has no children any more and both sides want it gone.
            closing.close(core, sa, "deleted, and the peer does not know it any more", now)

    def _other_version(self, header: Header, path: Path, now: float) -> None:
        core = self._core
        core.count("other_versions")
        if header.major <= IKE_MAJOR or header.is_response or not self._may_answer(now):
            return
        self._answer_in_the_clear(header, NotifyType.INVALID_MAJOR_VERSION, path)

    def _unknown_spi(self, header: Header, path: Path, now: float) -> None:
        """Tell a peer that we know nothing of its SA, so it can begin anew (section 2.21.4)."""
        core = self._core
        core.count("unknown_spis")
        if header.is_response or header.exchange not in _EXCHANGES or not self._may_answer(now):
            return
        self._answer_in_the_clear(header, NotifyType.INVALID_IKE_SPI, path)

    def _answer_in_the_clear(self, header: Header, error: NotifyType, path: Path) -> None:
        """Answer a request that belongs to no SA of ours; nothing here can be protected."""
        message = serialize_message(
            header.initiator_spi,
            header.responder_spi,
            exchange=header.exchange,
            flags=Flag.RESPONSE | (0 if header.from_initiator else Flag.INITIATOR),
            message_id=header.message_id,
            payloads=[Notify(error)],
        )
        self._core.transmit((message,), path)

    def _may_answer(self, now: float) -> bool:
        begun, used = self._invalid_spi_window
        if now - begun >= 1.0 or now < begun:
            begun, used = now, 0
        self._invalid_spi_window = (begun, used + 1)
        return used < INVALID_SPI_ANSWERS_PER_S

    # -- time -----------------------------------------------------------------------------

    def handle_timer(self, now: float) -> None:
        """Do everything that is due. Never raises."""
        core = self._core
        for key in core.timers.due(now):
            self._guarded(f"the timer {key[0].value}", now, timing.fire, core, key, now)

    def next_timer(self) -> float | None:
        """When :meth:`handle_timer` is to be called next, or None."""
        return self._core.timers.next_at()

    def take_outputs(self) -> list[Output]:
        """Everything to do since the last call, in order."""
        outputs = self._core.outputs
        self._core.outputs = []
        return outputs

    # -- commands and what the dataplane saw ----------------------------------------------

    @property
    def trace(self) -> bool:
        """Whether every change of an SA's state is an event of level debug."""
        return self._core.trace

    @trace.setter
    def trace(self, on: bool) -> None:
        self._core.trace = on

    @property
    def counters(self) -> dict[str, int]:
        """What happened how often, by name."""
        return self._core.counters

    def initiate(self, connection: str, now: float) -> None:
        """Bring a connection up, and keep it up.

        Raises KeyError for an unknown name, ValueError for a connection without ``remote``.
        """
        commands.initiate_connection(self._core, connection, now)

    def reserve_reqid(self, connection: str) -> int:
        """The reqid for the trap policy of a connection; its child SA will have the same."""
        return self._core.reserve_reqid(connection)

    def traffic_waiting(self, reqid: int, now: float) -> None:
        """A packet waits for a child SA that a trap policy stands for."""
        commands.traffic_waiting(self._core, reqid, now)

    def child_expired(self, spi_in: int, hard: bool, now: float) -> None:
        """The dataplane says that a byte or packet limit was reached."""
        commands.child_expired(self._core, spi_in, hard, now)

    def child_refused(self, spi_in: int, reason: str, now: float) -> None:
        """The dataplane could not install a child SA: it is deleted on both sides."""
        commands.child_refused(self._core, spi_in, reason, now)

    def endpoint_seen(self, spi_in: int, remote: Endpoint, proof: str, now: float) -> None:
        """An authentic, new ESP packet came from an address that is not the peer's."""
        commands.endpoint_seen(self._core, spi_in, remote, proof, now)

    def local_address_changed(self, ike_spi: bytes, local: Endpoint, now: float) -> None:
        """Our own address is ``local`` now, for the IKE SA with our SPI ``ike_spi`` (MOBIKE)."""
        commands.local_address_changed(self._core, ike_spi, local, now)

    def close_ike_sa(self, spis: str, reason: str, now: float) -> bool:
        """End an IKE SA, named by ``initiatorspi_responderspi`` in hexadecimal, with a Delete."""
        return commands.close_ike_sa(self._core, spis, reason, now)

    def close_all(self, now: float, reason: str = "the gateway stops") -> None:
        """End every IKE SA with a Delete and try nothing again."""
        commands.close_all(self._core, reason, now)

    def reconfigure(
        self,
        connections: Sequence[ConnectionPolicy],
        now: float,
        pools: Mapping[str, AddressPool] | None = None,
    ) -> None:
        """Use other connections; SAs of those that vanished or changed incompatibly end.

        With ``pools``, a pool whose addresses are the same keeps its leases; without, all stay.
        """
        commands.reconfigure(self._core, connections, pools, now)

    def ike_sa_names(self) -> list[tuple[str, str]]:
        """Name and connection of every IKE SA that is not closed: cheap with thousands of them."""
        return [
            (sa.spis, sa.connection_name)
            for sa in self._core.sas.values()
            if sa.state is not State.CLOSED
        ]

    def child_sa_names(self) -> list[tuple[int, str, str]]:
        """Inbound SPI, IKE SA and connection of every child SA."""
        return [(spi_in, sa.spis, sa.connection_name) for spi_in, sa in self._core.children.items()]

    def ike_sas(self, now: float, names: Iterable[str] | None = None) -> list[IkeSaSnapshot]:
        """The IKE SAs of these names, or every one, as JSON-able values."""
        core = self._core
        sas = core.sas.values() if names is None else self._named(names)
        rekey_at = core.timers.deadline
        return [
            snapshot.of_ike_sa(sa, now, rekey_at((TimerKind.REKEY_IKE, sa.local_spi))) for sa in sas
        ]

    def _named(self, names: Iterable[str]) -> list[IkeSa]:
        found = []
        for name in names:
            for half in name.split("_"):
                sa = self._core.sas.get(bytes.fromhex(half))
                if sa is not None and sa.spis == name:
                    found.append(sa)
                    break
        return found

    def child_sas(self, now: float, spis_in: Iterable[int] | None = None) -> list[ChildSaSnapshot]:
        """The child SAs of these inbound SPIs, or every one, as JSON-able values."""
        children = self._core.children
        found = []
        for spi_in in children if spis_in is None else spis_in:
            sa = children.get(spi_in)
            child = sa.children.get(spi_in) if sa is not None else None
            if sa is not None and child is not None:
                found.append(snapshot.of_child(sa, child, now))
        return found


_NOTHING = Payloads(())
_EXCHANGES = frozenset(ExchangeType) - {ExchangeType.IKE_SA_INIT}
