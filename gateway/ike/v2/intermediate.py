"""IKE_INTERMEDIATE with additional key exchanges (RFC 9242, RFC 9370 section 2.2.2).

Each exchange carries one more method; its secret is mixed into the keys, so whoever wants to read
the session must break all of them. What was exchanged is bound into both AUTH payloads.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.domain.wire import WireError
from gateway.ike import closing
from gateway.ike.codec import KeyExchange, Payload, serialize_payloads
from gateway.ike.core import Core
from gateway.ike.crypto import dh
from gateway.ike.crypto.dh import DhKeyPair
from gateway.ike.crypto.prf import Prf
from gateway.ike.refusal import Refused, report_refusal
from gateway.ike.registry import DhGroup, ExchangeType, NotifyType
from gateway.ike.v2 import exchange, keys, protect
from gateway.ike.v2.sa import Evidence, IkeSa
from gateway.ike.v2.view import Payloads, Request


@dataclass(slots=True)
class Intermediate:
    """How far the additional key exchanges of a handshake are."""

    pending: list[DhGroup]
    """Methods that are still to come, in their order."""
    int_auth_i: bytes = b""
    int_auth_r: bytes = b""
    """IntAuth of what the initiator and the responder sent so far."""
    done: int = 0


def prepare(sa: IkeSa) -> None:
    """After IKE_SA_INIT: note what the chosen suite still wants."""
    handshake, suite = sa.handshake, sa.suite
    if handshake is not None and suite is not None and suite.additional:
        handshake.intermediate = Intermediate(list(suite.additional))
        sa.evidence &= ~Evidence.KEYS


def is_pending(sa: IkeSa) -> bool:
    """Whether an additional key exchange must still come before IKE_AUTH."""
    handshake = sa.handshake
    return (
        handshake is not None
        and handshake.intermediate is not None
        and bool(handshake.intermediate.pending)
    )


def auth_octets(sa: IkeSa) -> bytes:
    """What the AUTH payloads of both sides sign besides (RFC 9242 section 3.3.1)."""
    handshake = sa.handshake
    if handshake is None or handshake.intermediate is None:
        return b""
    state = handshake.intermediate
    return state.int_auth_i + state.int_auth_r + (state.done + 1).to_bytes(4, "big")


def _bind(sa: IkeSa, first: int, body: bytes, message_id: int, *, sent: bool) -> None:
    """Take a message into IntAuth, with the keys that protected it (section 3.3.2)."""
    handshake, suite = sa.handshake, sa.suite
    if handshake is None or handshake.intermediate is None or handshake.keys is None:
        raise ValueError("no handshake")
    if suite is None:
        raise ValueError("no suite")
    state = handshake.intermediate
    of_initiator = sent == sa.initiator
    octets = protect.plain_octets(
        sa,
        ExchangeType.IKE_INTERMEDIATE,
        message_id,
        first,
        body,
        of_initiator=of_initiator,
        response=not of_initiator,
    )
    prf = Prf.of(suite.prf)
    if of_initiator:
        state.int_auth_i = prf.digest(handshake.keys.sk_pi, state.int_auth_i + octets)
    else:
        state.int_auth_r = prf.digest(handshake.keys.sk_pr, state.int_auth_r + octets)


def _mix(sa: IkeSa, shared: bytes) -> None:
    """The keys from here on depend on this secret too."""
    handshake, suite = sa.handshake, sa.suite
    if handshake is None or handshake.intermediate is None or suite is None:
        raise ValueError("no handshake")
    state = handshake.intermediate
    state.pending.pop(0)
    state.done += 1
    keys.install(sa, suite, shared, sa.sk_d, suite)
    if state.pending:
        sa.evidence &= ~Evidence.KEYS


def receive_request(core: Core, sa: IkeSa, request: Request) -> None:
    """Answer the next additional key exchange.

    Raises WireError for what breaks the exchange: the handshake is over then.
    """
    handshake = sa.handshake
    if handshake is None or handshake.intermediate is None or not is_pending(sa):
        raise WireError("IKE_INTERMEDIATE where none was negotiated")
    inner = request.view.inner
    theirs = request.view.need(KeyExchange)
    wanted = handshake.intermediate.pending[0]
    if inner is None or theirs.group != wanted:
        raise WireError(f"additional key exchange of group {theirs.group}, {wanted} expected")
    try:
        public, shared = dh.respond(wanted, theirs.data)
    except dh.InvalidKeyExchange as invalid:
        raise WireError(f"key exchange value refused: {invalid}") from None
    message_id = sa.window.expected
    reply: list[Payload] = [KeyExchange(wanted, public)]
    _bind(sa, *inner, message_id, sent=False)
    _bind(sa, *serialize_payloads(reply), message_id, sent=True)
    exchange.respond(core, sa, request, reply)
    _mix(sa, shared)
    core.count("additional_key_exchanges")


class IntermediateExchange(exchange.Exchange):
    """One additional key exchange of ours; the last one is followed by ``then``."""

    __slots__ = ("_pair", "_then")
    name = "IKE_INTERMEDIATE"
    exchange_type = ExchangeType.IKE_INTERMEDIATE

    def __init__(self, then: exchange.Exchange) -> None:
        self._then = then
        self._pair: DhKeyPair | None = None

    def request(self, core: Core, sa: IkeSa, now: float) -> Sequence[Payload] | None:  # noqa: ARG002 - as in Exchange
        """KEi of the next method."""
        handshake = sa.handshake
        if handshake is None or handshake.intermediate is None:
            return None
        self._pair = dh.generate(handshake.intermediate.pending[0])
        payloads: list[Payload] = [KeyExchange(self._pair.group, self._pair.public)]
        _bind(sa, *serialize_payloads(payloads), sa.window.next_request, sent=True)
        return payloads

    def response(self, core: Core, sa: IkeSa, view: Payloads, now: float) -> None:
        """Take KEr; go on with the next method, or with IKE_AUTH."""
        try:
            shared = self._shared(view)
        except Refused as refused:
            report_refusal(
                core,
                refused,
                sa.connection_name,
                sa.path.remote,
                self.name,
                connection=sa.connection_name,
                sa=sa,
            )
            closing.close(core, sa, refused.reason, now, hint=refused.remedy)
            return
        if view.inner is None:
            raise WireError("IKE_INTERMEDIATE without contents")
        _bind(sa, *view.inner, sa.window.next_request - 1, sent=False)
        _mix(sa, shared)
        core.count("additional_key_exchanges")
        following = IntermediateExchange(self._then) if is_pending(sa) else self._then
        exchange.begin(core, sa, following, now)

    def _shared(self, view: Payloads) -> bytes:
        error = view.error()
        theirs = view.get(KeyExchange)
        if self._pair is None or theirs is None or theirs.group != self._pair.group:
            said = f"notify {error.type}" if error is not None else "another method"
            raise Refused(
                NotifyType.NO_PROPOSAL_CHOSEN,
                f"the peer answered the additional key exchange with {said}",
                "see the peer's log for its reason",
            )
        try:
            return self._pair.shared_secret(theirs.data)
        except dh.InvalidKeyExchange as invalid:
            raise Refused(
                NotifyType.INVALID_SYNTAX, f"key exchange value refused: {invalid}"
            ) from None
