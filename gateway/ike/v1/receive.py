"""Datagrams of IKEv1: which message is acted on in which state; every other one is dropped."""

from collections.abc import Callable, Sequence
from hashlib import sha256

from gateway.domain.endpoint import Path
from gateway.domain.wire import WireError
from gateway.ike.core import Core
from gateway.ike.crypto.sk import IntegrityError
from gateway.ike.refusal import Refused, report_refusal
from gateway.ike.registry import NotifyType
from gateway.ike.v1 import (
    aggressive_mode,
    exchange,
    fragments,
    main_mode,
    phase2,
    protect,
    respond,
)
from gateway.ike.v1.codec import (
    ExchangeType,
    Header,
    Notify,
    Payload,
    describe_notify,
    find_all,
    is_encrypted,
    parse_header,
    parse_message,
)
from gateway.ike.v1.codec.registry import FIRST_STATUS_NOTIFY
from gateway.ike.v1.exchange import Phase2Exchange
from gateway.ike.v1.sa import IkeSa, State

MAIN, AGGRESSIVE = ExchangeType.IDENTITY_PROTECTION, ExchangeType.AGGRESSIVE
MAX_WRONG_PROOFS = 8
"""Messages of one half-open SA that prove nothing; later ones are not read any more."""

_Clear = Callable[[Core, IkeSa, Header, Sequence[Payload], Path, float], None]
_Sealed = Callable[[Core, IkeSa, bytes, Header, Path, float], None]


def _main_3(  # noqa: PLR0917 - as the table has it
    core: Core, sa: IkeSa, header: Header, payloads: Sequence[Payload], path: Path, now: float
) -> None:
    del header
    main_mode.receive_3(core, sa, payloads, path, now)


def _main_4(  # noqa: PLR0917 - as the table has it
    core: Core, sa: IkeSa, header: Header, payloads: Sequence[Payload], path: Path, now: float
) -> None:
    del header
    main_mode.receive_4(core, sa, payloads, path, now)


_CLEAR: dict[tuple[State, int], _Clear] = {
    (State.MAIN_1_SENT, MAIN): main_mode.receive_2,
    (State.MAIN_2_SENT, MAIN): _main_3,
    (State.MAIN_3_SENT, MAIN): _main_4,
    (State.AGGRESSIVE_1_SENT, AGGRESSIVE): aggressive_mode.receive_2,
}
"""Messages of phase 1 that come in the clear, from where the last one came from or went to."""
_SEALED: dict[tuple[State, int], _Sealed] = {
    (State.MAIN_4_SENT, MAIN): main_mode.receive_5,
    (State.MAIN_5_SENT, MAIN): main_mode.receive_6,
    (State.AGGRESSIVE_2_SENT, AGGRESSIVE): aggressive_mode.receive_3,
}
"""Messages of phase 1 that prove something."""
_PHASE2: dict[int, frozenset[State]] = {
    ExchangeType.INFORMATIONAL: frozenset({State.AUTHENTICATED, State.ESTABLISHED, State.REPLACED}),
    ExchangeType.TRANSACTION: frozenset({State.AUTHENTICATED, State.ESTABLISHED}),
    ExchangeType.QUICK: frozenset({State.ESTABLISHED, State.REPLACED}),
}
"""States in which exchanges after phase 1 are acted on."""


def receive(core: Core, data: bytes, path: Path, now: float) -> None:
    """Take a datagram.

    Raises WireError or IntegrityError for what is dropped; the engine counts those.
    """
    header = parse_header(data)
    if header.next_payload == fragments.FRAGMENT and not is_encrypted(header):
        whole = _collect(core, data, header, now)
        if whole is None:
            return
        data, header = whole, parse_header(whole)
        if header.next_payload == fragments.FRAGMENT and not is_encrypted(header):
            raise WireError("fragments inside of a fragmented message")
    _receive(core, data, header, path, now)


def _collect(core: Core, data: bytes, header: Header, now: float) -> bytes | None:
    """Keep a fragment for an SA that exists; the whole message with the last one.

    Our vendor id invites fragments; the peer's own may be inside of the fragmented message.
    """
    sa = _find(core, header)
    if sa is None or sa.closed:
        core.count("fragments_refused")
        return None
    number, index, flags, piece = fragments.parse(data)
    name = (header.exchange << 48) | (header.message_id << 16) | number
    if sa.reassembly is None or not sa.reassembly.serves((name, 0), now):
        sa.reassembly = fragments.Reassembly((name, 0), now)
    most = fragments.max_octets(core.settings, proven=sa.established)
    try:
        whole = sa.reassembly.add(index, flags, piece, most)
    except WireError:
        sa.reassembly = None
        raise
    if whole is None:
        core.count("fragments_kept")
        return None
    sa.reassembly = None
    return whole


def _find(core: Core, header: Header) -> IkeSa | None:
    """The SA of these cookies, of which one is ours."""
    for spi, initiator in ((header.initiator_spi, True), (header.responder_spi, False)):
        sa = core.sas.get(spi)
        if isinstance(sa, IkeSa) and sa.initiator == initiator:
            if sa.initiator_spi != header.initiator_spi:
                continue
            if sa.responder_spi == header.responder_spi or not any(sa.responder_spi):
                return sa
    return None


def _receive(core: Core, data: bytes, header: Header, path: Path, now: float) -> None:
    sa = _find(core, header)
    if sa is None or (not any(header.responder_spi) and header.exchange in (MAIN, AGGRESSIVE)):
        _without_sa(core, data, header, path, now)
    elif header.exchange in (MAIN, AGGRESSIVE):
        _phase1(core, sa, data, header, path, now)
    elif not is_encrypted(header):
        _in_the_clear(core, sa, data, header)
    elif header.exchange in _PHASE2:
        _phase2(core, sa, data, header, path, now)
    else:
        core.count("requests_out_of_state")


def _without_sa(core: Core, data: bytes, header: Header, path: Path, now: float) -> None:
    first = not any(header.responder_spi) and not is_encrypted(header)
    if first and header.exchange in (MAIN, AGGRESSIVE):
        respond.receive_first(core, data, header, path, now)
    else:
        core.count("unknown_spis")


# -- phase 1 ----------------------------------------------------------------------------------


def _phase1(  # noqa: PLR0917 - one fact each
    core: Core, sa: IkeSa, data: bytes, header: Header, path: Path, now: float
) -> None:
    digest = sha256(data).digest()
    if digest == sa.last_digest:
        if sa.last_sent and not sa.closed and _answers(sa, header.exchange):
            respond.repeat(core, sa, path)
        return
    if header.message_id:
        raise WireError("message of phase 1 with a message id")
    key = (sa.state, header.exchange)
    clear, sealed = _CLEAR.get(key), _SEALED.get(key)
    if sealed is not None:
        if not is_encrypted(header) and header.exchange == MAIN:
            core.count("requests_out_of_state")
            return
        _proof(core, sa, sealed, digest, data, header, path, now)
    elif clear is not None and not is_encrypted(header):
        if path.remote != sa.path.remote:
            core.count("responses_from_elsewhere")
            return
        clear(core, sa, header, parse_message(data, header).payloads, path, now)
    else:
        core.count("requests_out_of_state")
        return
    sa.last_digest = digest


def _proof(  # noqa: PLR0917 - one fact each
    core: Core,
    sa: IkeSa,
    act: _Sealed,
    digest: bytes,
    data: bytes,
    header: Header,
    path: Path,
    now: float,
) -> None:
    """Judge what may be a proof, but not without end: each try costs keys or a signature.

    Raises as the exchange does, and WireError when there were too many wrong ones.
    """
    phase = sa.phase1
    if phase is None:
        return
    if digest in phase.wrong_proofs or len(phase.wrong_proofs) >= MAX_WRONG_PROOFS:
        raise WireError("too many wrong proofs, or the same one again")
    try:
        act(core, sa, data, header, path, now)
    except (WireError, IntegrityError):
        phase.wrong_proofs.add(digest)
        raise


def _answers(sa: IkeSa, exchange_type: int) -> bool:
    """Whether our last message is the answer to the peer's last one.

    Otherwise ours is repeated by its own timer, if at all: two sides that answer each other's
    repetitions never end.
    """
    if exchange_type == MAIN:
        return not sa.initiator
    return sa.initiator or sa.state is State.AGGRESSIVE_2_SENT


def _in_the_clear(core: Core, sa: IkeSa, data: bytes, header: Header) -> None:
    """An unprotected message proves nothing; in phase 1 it is a hint, if nothing better comes."""
    core.count("unauthenticated_errors")
    if header.exchange != ExchangeType.INFORMATIONAL or sa.phase1 is None:
        return
    for notify in find_all(parse_message(data, header).payloads, Notify):
        if notify.type < FIRST_STATUS_NOTIFY:
            sa.phase1.hint = f"the peer answered {describe_notify(notify.type)}, unprotected"
            return


# -- after phase 1 ----------------------------------------------------------------------------


def _phase2(  # noqa: PLR0917 - one fact each
    core: Core, sa: IkeSa, data: bytes, header: Header, path: Path, now: float
) -> None:
    if sa.state not in _PHASE2[header.exchange]:
        _too_early(core, sa, path)
        return
    if not header.message_id:
        raise WireError("exchange after phase 1 without a message id")
    known = sa.exchanges.get(header.message_id)
    digest = sha256(data).digest()
    if known is not None:
        _continue(core, sa, known, digest, data, header, path, now)
    elif exchange.is_finished(sa, header.message_id):
        core.count("requests_repeated")
    else:
        _begin(core, sa, digest, data, header, path, now)


def _too_early(core: Core, sa: IkeSa, path: Path) -> None:
    """Quick mode before phase 1 is over: its last message was lost, so ours goes again.

    It has our cookie, so whoever sent it receives what we send.
    """
    core.count("requests_out_of_state")
    if sa.state is State.AGGRESSIVE_2_SENT:
        respond.repeat(core, sa, path)


def _continue(  # noqa: PLR0917 - one fact each
    core: Core,
    sa: IkeSa,
    known: Phase2Exchange,
    digest: bytes,
    data: bytes,
    header: Header,
    path: Path,
    now: float,
) -> None:
    if digest == known.taken:
        core.count("requests_repeated")
        if known.sent:
            core.transmit(known.sent, path)
        return
    if known.exchange_type != header.exchange:
        core.count("requests_out_of_state")
        return
    if known.finished_at is not None:
        if known.goes_on:
            _begin(core, sa, digest, data, header, path, now, iv=known.iv)
        else:
            core.count("requests_out_of_state")
        return
    opened = protect.open_message(sa, data, header.next_payload, known.iv)
    payloads = protect.verify_hash(
        sa, header.message_id, opened, lead=known.hash_lead, prefix=known.hash_prefix
    )
    known.iv = opened.next_iv
    known.taken = digest
    known.due = 0.0
    known.path = path
    _is_there(core, sa, now)
    _guarded(core, sa, known.name, now, lambda: known.receive(core, sa, payloads, path, now))
    exchange.arm(core, sa)


def _begin(  # noqa: PLR0917 - one fact each
    core: Core,
    sa: IkeSa,
    digest: bytes,
    data: bytes,
    header: Header,
    path: Path,
    now: float,
    *,
    iv: bytes = b"",
) -> None:
    """A new exchange; with ``iv`` one that the peer begins inside of one that is over."""
    kind, message_id = ExchangeType(header.exchange), header.message_id
    iv = iv or protect.first_iv(sa, message_id)
    opened = protect.open_message(sa, data, header.next_payload, iv)
    payloads = protect.verify_hash(sa, message_id, opened)
    _is_there(core, sa, now)
    arrival = exchange.Arrival(message_id, opened.next_iv, digest, path)
    exchange.remember(sa, message_id)
    _guarded(
        core,
        sa,
        _NAMES[kind],
        now,
        lambda: phase2.receive_new(core, sa, kind, arrival, payloads, now),
    )


_NAMES = {
    ExchangeType.INFORMATIONAL: "informational exchange",
    ExchangeType.TRANSACTION: "mode configuration",
    ExchangeType.QUICK: "quick mode",
}


def _is_there(core: Core, sa: IkeSa, now: float) -> None:
    """The peer sent something authentic: it is alive, and it has our last message of phase 1."""
    sa.last_inbound = now
    core.touch(sa)
    if sa.retransmit_at:
        sa.retransmit_at = 0.0
        exchange.arm(core, sa)


def _guarded(core: Core, sa: IkeSa, step: str, now: float, action: Callable[[], None]) -> None:
    """Let an exchange act on an authentic message; what is wrong with it ends the exchange only."""
    try:
        action()
        return
    except Refused as refused:
        wrong = refused
    except WireError as error:
        core.count("malformed_messages")
        wrong = Refused(NotifyType.INVALID_SYNTAX, f"malformed message: {error}")
    name = sa.connection_name
    report_refusal(core, wrong, sa.peer_name, sa.path.remote, step, connection=name, now=now, sa=sa)
