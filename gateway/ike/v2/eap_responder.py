"""EAP inside IKE_AUTH as the responder (RFC 7296 sections 2.16 and 3.16).

An IKE_AUTH request without AUTH asks for it. We prove ourselves first, then the user does, each
message of EAP in an exchange of its own, and at last both sides prove with the key of the EAP
method that nobody is between them. Only then is anything assigned or installed: what the first
request asked for is kept until then, as octets and bounded.
"""

from dataclasses import dataclass, replace

from gateway.domain.user_auth import Accepted, Answer
from gateway.domain.wire import WireError
from gateway.ike import users
from gateway.ike.auth.identity import escape
from gateway.ike.codec import (
    Authentication,
    Eap,
    IdInitiator,
    IdResponder,
    Payload,
    describe_notify,
    parse_payloads,
    serialize_payloads,
)
from gateway.ike.core import Core, TimerKind
from gateway.ike.policy import ConnectionPolicy, UserMethod
from gateway.ike.refusal import Refused
from gateway.ike.registry import NotifyType, ProtocolId
from gateway.ike.v2 import auth, exchange, failing, ocsp_questions, ppk, proof
from gateway.ike.v2.eap_conversation import Conversation, Turn, converse
from gateway.ike.v2.sa import IkeSa, State, transition
from gateway.ike.v2.view import Payloads, Request

USER_LOGIN_S = 120.0
"""From the first IKE_AUTH request to the last: time to type a password, not to hold memory."""
MAX_OFFER_OCTETS = 4096
"""Of the SA, selectors, CP and notifies that wait for the end of EAP."""


@dataclass(slots=True)
class UserLogin:
    """How far a user's login is."""

    conversation: Conversation
    id_initiator: IdInitiator
    id_responder: IdResponder
    offers: tuple[int, bytes]
    """What the first request asked for: type of the first payload, and the octets."""
    ends_at: float
    greeting: list[Payload]
    """What our first answer says before EAP: IDr, CERT, AUTH."""
    accepted: Accepted | None = None
    user: str = ""
    reason: str = ""
    """Why the login is going to fail, for a peer that leaves without a word."""
    remedy: str = ""


def receive_first(core: Core, sa: IkeSa, request: Request) -> None:
    """The first IKE_AUTH request: with AUTH the device proves itself, without it the user will."""
    if request.view.get(Authentication) is not None:
        auth.receive_request(core, sa, request)
        return
    try:
        login = _begin(core, sa, request)
        turn = login.conversation.start(users.asker(sa))
    except Refused as refused:
        auth.refuse(core, sa, refused, request)
        return
    _act(core, sa, login, turn, request)


def _begin(core: Core, sa: IkeSa, request: Request) -> UserLogin:
    """Prove ourselves and get ready for EAP. Raises Refused or WireError."""
    view, handshake = request.view, sa.handshake
    if handshake is None:
        raise ValueError("no handshake")
    connection, id_initiator, id_responder = auth.identify(core, sa, view)
    _require_user(connection)
    source = request.path.remote.address
    if not core.failed_logins.may_try(source, request.now):
        core.count("logins_refused_by_rate")
        raise Refused(
            NotifyType.AUTHENTICATION_FAILED,
            f"too many logins of users failed from {source}",
            "wait a minute; if it was an attack, block the address",
        )
    offers = serialize_payloads(view.offers())
    if len(offers[1]) > MAX_OFFER_OCTETS:
        raise WireError(f"offers of {len(offers[1])} octets, at most {MAX_OFFER_OCTETS} with EAP")
    greeting: list[Payload] = [id_responder, *auth.own_proof(core, sa, connection, id_responder)]
    try:
        conversation = converse(core, connection, sa.peer_id or connection.local_id)
    except ValueError as missing:
        raise Refused(
            NotifyType.AUTHENTICATION_FAILED,
            f"EAP cannot begin: {missing}",
            f"correct user of connections.{connection.name}",
        ) from None
    sa.path = request.path
    ends_at = request.now + USER_LOGIN_S
    login = UserLogin(conversation, id_initiator, id_responder, offers, ends_at, greeting)
    handshake.login = login
    transition(core, sa, State.USER_LOGIN, "IKE_AUTH without AUTH: EAP")
    return login


def _require_user(connection: ConnectionPolicy) -> None:
    wanted, name = connection.peer_auth, connection.name
    if wanted.user is None or all(one is UserMethod.XAUTH for one in wanted.user.methods):
        raise Refused(
            NotifyType.AUTHENTICATION_FAILED,
            f"the peer sent no AUTH payload: it wants EAP, which is not configured in {name}",
            "set the client to certificate or pre-shared key authentication",
        )
    if wanted.device_too:
        raise Refused(
            NotifyType.AUTHENTICATION_FAILED,
            f"the peer wants EAP alone, {name} wants a proof of the device as well",
            "let the connection ask for the user only",
        )


def receive_next(core: Core, sa: IkeSa, request: Request) -> None:
    """Every further IKE_AUTH request: EAP until it succeeded, then AUTH, and nothing else."""
    login = sa.handshake.login if sa.handshake is not None else None
    if login is None:
        raise ValueError("no login")
    sa.path = request.path
    packet, proven = request.view.get(Eap), request.view.get(Authentication)
    if login.accepted is None and packet is not None and proven is None:
        turn = login.conversation.receive(packet.data, users.asker(sa))
        _act(core, sa, login, turn, request)
        return
    try:
        if login.accepted is None:
            raise Refused(
                NotifyType.AUTHENTICATION_FAILED,
                "the peer did not go on with EAP before its end",
            )
        if packet is not None:
            raise Refused(NotifyType.AUTHENTICATION_FAILED, "the peer goes on with EAP at its end")
        reply = _prove(sa, login, login.accepted, request)
    except Refused as refused:
        _refuse(core, sa, login, refused, request)
        return
    offers = Payloads(parse_payloads(*login.offers))
    auth.finish(core, sa, request, offers, reply)


def _prove(sa: IkeSa, login: UserLogin, accepted: Accepted, request: Request) -> list[Payload]:
    """Both AUTH payloads over the key of EAP, then the user's rights. Raises Refused."""
    if sa.connection is None:
        raise ValueError("no connection")
    shown, notifies = ppk.take(sa, sa.connection, request.view)
    proof.verify_after_eap(sa, shown, login.id_initiator, accepted.msk)
    own = proof.own_proof_after_eap(sa, login.id_responder, accepted.msk)
    reply: list[Payload] = [own, *notifies]
    users.admit(sa, replace(accepted, msk=b"", eap=b""))
    sa.auth = login.conversation.title
    return reply


def _act(core: Core, sa: IkeSa, login: UserLogin, turn: Turn, request: Request) -> None:
    """Do what the conversation wants next."""
    login.user = turn.user or login.user
    login.reason, login.remedy = turn.reason, turn.remedy
    core.timers.set((TimerKind.GIVE_UP, sa.local_spi), login.ends_at)
    if turn.question is not None:
        core.count("user_questions")
        ocsp_questions.hold(sa, request)
        core.ask(sa, turn.question)
        return
    if turn.ocsp is not None:
        ocsp_questions.ask(core, sa, turn.ocsp, request)
        return
    if turn.failed:
        refused = Refused(NotifyType.AUTHENTICATION_FAILED, turn.reason, turn.remedy)
        _refuse(core, sa, login, refused, request, Eap(turn.send))
        return
    login.accepted = turn.accepted
    renewed = min(request.now + core.settings.half_open_timeout_s, login.ends_at)
    core.timers.set((TimerKind.GIVE_UP, sa.local_spi), renewed)
    greeting, login.greeting = login.greeting, []
    exchange.respond(core, sa, request, [*greeting, Eap(turn.send)])


def _refuse(  # noqa: PLR0917 - one fact each
    core: Core,
    sa: IkeSa,
    login: UserLogin,
    refused: Refused,
    request: Request,
    reply: Payload | None = None,
) -> None:
    core.failed_logins.failed(request.path.remote.address, request.now)
    core.count("user_logins_failed")
    if login.user:
        refused.reason = f"user {escape(login.user, 80)}: {refused.reason}"
    step = f"IKE_AUTH, {login.conversation.title}"
    auth.refuse(core, sa, refused, request, reply=reply, step=step)


def user_answered(core: Core, sa: IkeSa, answer: Answer, now: float) -> None:
    """Somebody knows about the user: answer the request that waits for it."""
    login = sa.handshake.login if sa.handshake is not None else None
    if login is None or sa.state is not State.USER_LOGIN:
        core.count("answers_unexpected")
        return
    request = ocsp_questions.release(sa, now)
    if request is None:
        core.count("answers_unexpected")
        return
    _act(core, sa, login, login.conversation.answered(answer), request)


def resume(core: Core, sa: IkeSa, request: Request) -> None:
    """An OCSP responder answered about a certificate in this request."""
    login = sa.handshake.login if sa.handshake is not None else None
    if login is not None:
        _act(core, sa, login, login.conversation.certificate_checked(), request)
    elif sa.state is State.HALF_OPEN:
        auth.receive_request(core, sa, request)


def receive_informational(core: Core, sa: IkeSa, request: Request) -> None:
    """The peer gives up: it does not trust us, or its user does not want any more."""
    error = request.view.error()
    ends = any(one.protocol == ProtocolId.IKE for one in request.view.deletes)
    if error is None and not ends:
        core.count("requests_out_of_state")
        return
    exchange.respond(core, sa, request, [])
    said = describe_notify(error.type) if error is not None else "a Delete"
    remedy = "see the peer's log; it may not trust the gateway's certificate"
    failing.abandon_login(core, sa, f"the peer gave up with {said}", remedy, request.now)
