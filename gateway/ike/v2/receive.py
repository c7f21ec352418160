"""Datagrams of IKEv2: to which SA they belong and who acts on them."""

from dataclasses import replace
from hashlib import sha256

from gateway.domain.endpoint import Path
from gateway.domain.wire import WireError
from gateway.ike import closing, moving
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
from gateway.ike.core import Core
from gateway.ike.outputs import Severity
from gateway.ike.refusal import Refused
from gateway.ike.registry import ExchangeType, Flag, NotifyType
from gateway.ike.v2 import (
    auth,
    create_child,
    eap_responder,
    exchange,
    failing,
    followup,
    informational,
    init,
    initiate,
    intermediate,
    protect,
)
from gateway.ike.v2.protect import Opened
from gateway.ike.v2.sa import LOGIN_STATES, IkeSa, State
from gateway.ike.v2.view import Payloads, Request

IKE_MAJOR = 2
MAX_LOGIN_OCTETS = 32_768
"""Of a fragmented IKE_AUTH request, whose sender has proven nothing yet."""

_HANDLERS = {
    (State.ESTABLISHED, ExchangeType.IKE_FOLLOWUP_KE): followup.receive_request,
    (State.HALF_OPEN, ExchangeType.IKE_INTERMEDIATE): intermediate.receive_request,
    (State.HALF_OPEN, ExchangeType.IKE_AUTH): eap_responder.receive_first,
    (State.USER_LOGIN, ExchangeType.IKE_AUTH): eap_responder.receive_next,
    (State.USER_LOGIN, ExchangeType.INFORMATIONAL): eap_responder.receive_informational,
    (State.ESTABLISHED, ExchangeType.CREATE_CHILD_SA): create_child.receive_request,
    (State.ESTABLISHED, ExchangeType.INFORMATIONAL): informational.receive_request,
    (State.REKEYED, ExchangeType.CREATE_CHILD_SA): create_child.receive_request,
    (State.REKEYED, ExchangeType.INFORMATIONAL): informational.receive_request,
    (State.DELETING, ExchangeType.CREATE_CHILD_SA): create_child.receive_request,
    (State.DELETING, ExchangeType.INFORMATIONAL): informational.receive_request,
}
"""Which requests are acted on in which state; every other one is dropped."""
_NOTHING = Payloads(())
_EXCHANGES = frozenset(ExchangeType) - {ExchangeType.IKE_SA_INIT}


def receive(core: Core, message: bytes, path: Path, now: float) -> None:
    """Take a datagram of IKEv2, or of a version that nobody speaks.

    Raises WireError or IntegrityError for what is dropped.
    """
    header = parse_header(message)
    if header.major != IKE_MAJOR:
        _other_version(core, header, path, now)
    elif header.exchange == ExchangeType.IKE_SA_INIT:
        _receive_init(core, message, header, path, now)
    else:
        spi = header.responder_spi if header.from_initiator else header.initiator_spi
        sa = core.sas.get(spi)
        if not isinstance(sa, IkeSa) or sa.initiator == header.from_initiator:
            _unknown_spi(core, header, path, now)
        elif (sa.initiator_spi, sa.responder_spi) != (
            header.initiator_spi,
            header.responder_spi,
        ):
            core.count("spi_mismatches")
        elif header.is_response:
            _receive_response(core, sa, message, header, path, now)
        else:
            _receive_request(core, sa, message, header, path, now)


def _receive_init(core: Core, message: bytes, header: Header, path: Path, now: float) -> None:
    if not header.is_response:
        if not header.from_initiator:
            raise WireError("IKE_SA_INIT request without the initiator flag")
        init.receive_request(core, message, header, path, now)
        return
    sa = core.sas.get(header.initiator_spi)
    if not isinstance(sa, IkeSa) or not sa.initiator or header.from_initiator:
        core.count("responses_unexpected")
        return
    initiate.receive_response(core, sa, message, header, path, now)


def _receive_request(  # noqa: PLR0917 - one fact each
    core: Core, sa: IkeSa, message: bytes, header: Header, path: Path, now: float
) -> None:
    window = sa.window
    if header.message_id == window.expected - 1:
        if window.is_repeated(header.message_id, sha256(message).digest()):
            core.count("requests_repeated")
            if window.may_repeat(now):
                core.transmit(window.responses, path)
        else:
            core.count("requests_outside_window")
        return
    if header.message_id != window.expected:
        core.count("requests_outside_window")
        return
    if window.held:
        core.count("requests_repeated_while_held")
        return
    handler = None
    if header.exchange == ExchangeType.IKE_AUTH and intermediate.is_pending(sa):
        core.count("requests_out_of_state")
        return
    if header.exchange in _EXCHANGES:
        handler = _HANDLERS.get((sa.state, ExchangeType(header.exchange)))
    if handler is None:
        core.count("requests_out_of_state")
        return
    opened = _open(core, sa, message, parse_message(message, header))
    if opened is None:
        return
    moved = path.remote != sa.path.remote and sa.state not in LOGIN_STATES
    proof = f"IKE request {header.message_id}"
    request = Request(_NOTHING, header.exchange, opened.digest, path, now)
    try:
        view = Payloads(opened.payloads())
        view.inner = (opened.first, opened.plaintext)
        request = replace(request, view=view)
        sa.last_inbound = now
        if moved and path.remote.stands_for_tcp:
            # Before the answer: it leaves by the connection that the request came by, and an SA
            # that the request makes begins there.
            moved = False
            moving.follow(core, sa, path.remote, proof, now, path.local)
        handler(core, sa, request)
    except UnsupportedCriticalPayload as unsupported:
        _unsupported(core, sa, unsupported, request)
        return
    except WireError as error:
        _malformed(core, sa, error, request)
        return
    if moved and not sa.mobike:
        moving.follow(core, sa, path.remote, proof, now, path.local)


def _open(core: Core, sa: IkeSa, message: bytes, parsed: Message) -> Opened | None:
    settings = core.settings
    opened = protect.open_message(
        sa,
        message,
        parsed,
        max_fragments=settings.max_fragments,
        max_octets=min(settings.max_message_octets, MAX_LOGIN_OCTETS)
        if sa.state in LOGIN_STATES
        else settings.max_message_octets,
    )
    if opened is None:
        core.count("fragments_kept")
    return opened


def _unsupported(
    core: Core, sa: IkeSa, error: UnsupportedCriticalPayload, request: Request
) -> None:
    core.count("unsupported_critical_payloads")
    kind = bytes([error.payload_type])
    notify = Notify(NotifyType.UNSUPPORTED_CRITICAL_PAYLOAD, kind)
    exchange.respond(core, sa, request, [notify])
    if sa.state in LOGIN_STATES:
        failing.refuse_login(core, sa, str(error), request.now)


def _malformed(core: Core, sa: IkeSa, error: WireError, request: Request) -> None:
    """An authentic request breaks the format: fatal (RFC 7296 sections 2.21.2, 2.21.3)."""
    core.count("malformed_messages")
    if sa.state in LOGIN_STATES:
        refused = Refused(NotifyType.INVALID_SYNTAX, f"malformed message: {error}")
        auth.refuse(core, sa, refused, request)
        return
    exchange.respond(core, sa, request, [Notify(NotifyType.INVALID_SYNTAX)])
    reason = f"the peer sent a malformed message: {error}"
    closing.close(core, sa, reason, request.now, severity=Severity.WARNING)


def _receive_response(  # noqa: PLR0917 - one fact each
    core: Core, sa: IkeSa, message: bytes, header: Header, path: Path, now: float
) -> None:
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
        _unauthenticated(core, sa, parsed, now)
        return
    opened = _open(core, sa, message, parsed)
    if opened is None:
        return
    try:
        view = Payloads(opened.payloads())
        view.inner = (opened.first, opened.plaintext)
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


def _unauthenticated(core: Core, sa: IkeSa, parsed: Message, now: float) -> None:
    """An answer in the clear proves nothing; it is a hint for when no other one comes."""
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


def _other_version(core: Core, header: Header, path: Path, now: float) -> None:
    core.count("other_versions")
    if header.major <= IKE_MAJOR or header.is_response or not core.may_answer(now):
        return
    _answer_in_the_clear(core, header, NotifyType.INVALID_MAJOR_VERSION, path)


def _unknown_spi(core: Core, header: Header, path: Path, now: float) -> None:
    """Tell a peer that we know nothing of its SA, so it can begin anew (section 2.21.4)."""
    core.count("unknown_spis")
    if header.is_response or header.exchange not in _EXCHANGES or not core.may_answer(now):
        return
    _answer_in_the_clear(core, header, NotifyType.INVALID_IKE_SPI, path)


def _answer_in_the_clear(core: Core, header: Header, error: NotifyType, path: Path) -> None:
    """Answer a request that belongs to no SA of ours; nothing here can be protected."""
    message = serialize_message(
        header.initiator_spi,
        header.responder_spi,
        exchange=header.exchange,
        flags=Flag.RESPONSE | (0 if header.from_initiator else Flag.INITIATOR),
        message_id=header.message_id,
        payloads=[Notify(error)],
    )
    core.transmit((message,), path)
