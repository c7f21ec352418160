"""EAP inside IKE_AUTH as the responder (RFC 7296 sections 2.16 and 3.16).

An IKE_AUTH request without AUTH asks for it. We prove ourselves first, then the user does, each
message of EAP in an exchange of its own, and at last both sides prove with the key of the EAP
method that nobody is between them. Only then is anything assigned or installed: what the first
request asked for is kept until then, as octets and bounded.
"""

from dataclasses import dataclass, field, replace

from gateway.domain.user_auth import Accepted, Answer
from gateway.domain.wire import WireError
from gateway.ike import users
from gateway.ike.auth.identity import Identity, escape
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

    id_initiator: IdInitiator
    """What AUTH after EAP is bound to: the IDi payload of this round."""
    id_responder: IdResponder
    offers: tuple[int, bytes]
    """What the first request asked for: type of the first payload, and the octets."""
    ends_at: float
    conversation: Conversation | None = None
    """None until the peer says who its user is, after its device has proven itself."""
    greeting: list[Payload] = field(default_factory=list)
    """What our first answer says before EAP: IDr, CERT, AUTH."""
    device_auth: str = ""
    """How the device has proven itself before its user, in words; empty if it has not."""
    accepted: Accepted | None = None
    user: str = ""
    reason: str = ""
    """Why the login is going to fail, for a peer that leaves without a word."""
    remedy: str = ""

    @property
    def title(self) -> str:
        """How the user proves itself, in words."""
        return self.conversation.title if self.conversation is not None else "EAP"


def receive_first(core: Core, sa: IkeSa, request: Request) -> None:
    """The first IKE_AUTH request: with AUTH the device proves itself, without it the user will."""
    if request.view.get(Authentication) is None:
        _begin(core, sa, request)
        return
    reply = auth.prove_device(core, sa, request)
    if reply is None or sa.connection is None:
        return
    if sa.connection.peer_auth.user is None:
        auth.finish(core, sa, request, request.view, reply)
        return
    _await_user(core, sa, request, reply)


def _begin(core: Core, sa: IkeSa, request: Request) -> None:
    """Nothing but EAP proves the peer: prove ourselves, and ask the first question."""
    try:
        connection, id_initiator, id_responder = auth.identify(core, sa, request.view)
        _require_user(connection)
        _limit_rate(core, request)
        login = _login(sa, request, id_initiator, id_responder)
        login.greeting = [id_responder, *auth.own_proof(core, sa, connection, id_responder)]
        login.conversation = _converse(core, sa, id_initiator)
    except Refused as refused:
        auth.refuse(core, sa, refused, request)
        return
    transition(core, sa, State.USER_LOGIN, "IKE_AUTH without AUTH: EAP")
    _act(core, sa, login, login.conversation.start(users.asker(sa)), request)


def _await_user(core: Core, sa: IkeSa, request: Request, reply: list[Payload]) -> None:
    """The device has proven itself; the next request says who its user is (RFC 4739)."""
    try:
        _limit_rate(core, request)
    except Refused as refused:
        auth.refuse(core, sa, refused, request)
        return
    id_responder = next(one for one in reply if isinstance(one, IdResponder))
    login = _login(sa, request, request.view.need(IdInitiator), id_responder)
    login.device_auth = sa.auth
    transition(core, sa, State.USER_LOGIN, "the device has proven itself, now its user")
    renewed = request.now + core.settings.half_open_timeout_s
    core.timers.set((TimerKind.GIVE_UP, sa.local_spi), renewed)
    exchange.respond(core, sa, request, reply)


def _login(
    sa: IkeSa, request: Request, id_initiator: IdInitiator, id_responder: IdResponder
) -> UserLogin:
    if sa.handshake is None:
        raise ValueError("no handshake")
    offers = serialize_payloads(request.view.offers())
    if len(offers[1]) > MAX_OFFER_OCTETS:
        raise WireError(f"offers of {len(offers[1])} octets, at most {MAX_OFFER_OCTETS} with EAP")
    sa.path = request.path
    login = UserLogin(id_initiator, id_responder, offers, request.now + USER_LOGIN_S)
    sa.handshake.login = login
    return login


def _limit_rate(core: Core, request: Request) -> None:
    source = request.path.remote.address
    if not core.failed_logins.may_try(source, request.now):
        core.count("logins_refused_by_rate")
        raise Refused(
            NotifyType.AUTHENTICATION_FAILED,
            f"too many logins of users failed from {source}",
            "wait a minute; if it was an attack, block the address",
        )


def _converse(core: Core, sa: IkeSa, claimed: IdInitiator) -> Conversation:
    connection = sa.connection
    if connection is None:
        raise ValueError("no connection")
    try:
        return converse(core, connection, Identity(claimed.id_type, claimed.data))
    except ValueError as missing:
        raise Refused(
            NotifyType.AUTHENTICATION_FAILED,
            f"EAP cannot begin: {missing}",
            f"correct user_auth of connections.{connection.name}",
        ) from None


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
            f"the peer wants EAP alone, {name} wants a proof of the device before",
            "use a client with multiple authentication (RFC 4739), or ask for the user only",
        )


def receive_next(core: Core, sa: IkeSa, request: Request) -> None:
    """Every further IKE_AUTH request: EAP until it succeeded, then AUTH, and nothing else."""
    login = sa.handshake.login if sa.handshake is not None else None
    if login is None:
        raise ValueError("no login")
    sa.path = request.path
    packet, shown = request.view.get(Eap), request.view.get(Authentication)
    try:
        if login.accepted is not None:
            if packet is not None:
                raise _refusal("the peer goes on with EAP at its end")
            reply = _prove(core, sa, login, login.accepted, request)
        else:
            turn = _next_turn(core, sa, login, request, packet, shown)
    except Refused as refused:
        _refuse(core, sa, login, refused, request)
        return
    if login.accepted is not None:
        auth.finish(core, sa, request, Payloads(parse_payloads(*login.offers)), reply)
    else:
        _act(core, sa, login, turn, request)


def _next_turn(  # noqa: PLR0917 - one fact each
    core: Core,
    sa: IkeSa,
    login: UserLogin,
    request: Request,
    packet: Eap | None,
    shown: Authentication | None,
) -> Turn:
    """What EAP makes of a request before its end. Raises Refused."""
    if shown is not None:
        raise _refusal("the peer sent AUTH before the end of EAP")
    if login.conversation is None:
        claimed = request.view.get(IdInitiator)
        if packet is not None or claimed is None:
            raise _refusal("the peer did not say who its user is")
        login.id_initiator = claimed
        login.conversation = _converse(core, sa, claimed)
        return login.conversation.start(users.asker(sa))
    if packet is None:
        raise _refusal("the peer did not go on with EAP before its end")
    return login.conversation.receive(packet.data, users.asker(sa))


def _refusal(reason: str) -> Refused:
    return Refused(NotifyType.AUTHENTICATION_FAILED, reason)


def _prove(
    core: Core, sa: IkeSa, login: UserLogin, accepted: Accepted, request: Request
) -> list[Payload]:
    """Both AUTH payloads over the key of EAP, then the user's rights. Raises Refused."""
    if sa.connection is None:
        raise ValueError("no connection")
    shown, notifies = request.view.get(Authentication), list[Payload]()
    if not login.device_auth:
        shown, notifies = ppk.take(sa, sa.connection, request.view)
    proof.verify_after_eap(sa, shown, login.id_initiator, accepted.msk)
    own = proof.own_proof_after_eap(sa, login.id_responder, accepted.msk)
    reply: list[Payload] = [own, *notifies]
    users.admit(core, sa, replace(accepted, msk=b"", eap=b""))
    sa.auth = f"{login.device_auth} and {login.title}" if login.device_auth else login.title
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
    step = f"IKE_AUTH, {login.title}"
    auth.refuse(core, sa, refused, request, reply=reply, step=step)


def user_answered(core: Core, sa: IkeSa, answer: Answer, now: float) -> None:
    """Somebody knows about the user: answer the request that waits for it."""
    login = sa.handshake.login if sa.handshake is not None else None
    conversation = login.conversation if login is not None else None
    if login is None or conversation is None or sa.state is not State.USER_LOGIN:
        core.count("answers_unexpected")
        return
    request = ocsp_questions.release(sa, now)
    if request is None:
        core.count("answers_unexpected")
        return
    _act(core, sa, login, conversation.answered(answer), request)


def resume(core: Core, sa: IkeSa, request: Request) -> None:
    """An OCSP responder answered about a certificate in this request."""
    login = sa.handshake.login if sa.handshake is not None else None
    if login is not None and login.conversation is not None:
        _act(core, sa, login, login.conversation.certificate_checked(), request)
    elif sa.state is State.HALF_OPEN:
        receive_first(core, sa, request)


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
