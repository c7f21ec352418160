"""The EAP conversation of a user's login: with our own methods, or passed through to RADIUS.

Both kinds are driven by the peer's packets and by answers from outside, and say what comes next
as a :class:`Turn`. Neither ever raises for what a peer or a server sends.
"""

from dataclasses import dataclass, field, replace
from typing import Protocol

from gateway.domain.user_auth import (
    LOCAL,
    Accepted,
    Answer,
    Asker,
    Challenged,
    EapQuestion,
    PasswordQuestion,
    Question,
    Rejected,
    Unavailable,
)
from gateway.domain.wire import WireError
from gateway.eap.method import EapMethod
from gateway.eap.packet import Code, EapPacket, EapType, type_title, user_text
from gateway.eap.server import MAX_ROUND_TRIPS, EapServer, Offer, Outcome, Step
from gateway.eap.tls import TlsParty
from gateway.ike.auth.credentials import LocalCredential
from gateway.ike.auth.identity import Identity
from gateway.ike.core import Core
from gateway.ike.policy import ConnectionPolicy, UserAuth, UserMethod
from gateway.ike.registry import IdType
from gateway.ike.v2.proof import OcspNeeded
from gateway.ike.v2.user_certificate import UserCertificates

MIN_MSK_OCTETS = 64
"""RFC 3748 section 7.10. What is shorter is no key."""
METHODS = {
    UserMethod.EAP_MSCHAPV2: EapMethod.MSCHAPV2,
    UserMethod.EAP_GTC: EapMethod.GTC,
    UserMethod.EAP_TLS: EapMethod.TLS,
}
_TITLES = {
    EapMethod.MSCHAPV2: "EAP-MSCHAPv2",
    EapMethod.GTC: "EAP-GTC",
    EapMethod.TLS: "EAP-TLS",
}


@dataclass(frozen=True, slots=True)
class Turn:
    """What a conversation does next: one of the first four is there, or ``send`` alone."""

    question: Question | None = None
    """Ask this first; the answer goes to ``answered``."""
    ocsp: OcspNeeded | None = None
    """Ask this first; then comes ``certificate_checked``."""
    accepted: Accepted | None = None
    """Over, with success. An empty ``msk`` is one that the method cannot make."""
    failed: bool = False
    """Over, with failure."""
    send: bytes = field(default=b"", repr=False)
    """An EAP packet for the peer; empty with a question."""
    user: str = ""
    """Who the peer says it is, for the log."""
    reason: str = ""
    """Why it failed, or is going to."""
    remedy: str = ""


class Conversation(Protocol):
    """One user's login."""

    @property
    def title(self) -> str:
        """How the user proves itself, for people."""

    def start(self, asker: Asker) -> Turn:
        """The first turn, which is ours."""

    def receive(self, packet: bytes, asker: Asker) -> Turn:
        """Take a packet of the peer."""

    def answered(self, answer: Answer) -> Turn:
        """Take the answer to a question."""

    def certificate_checked(self) -> Turn:
        """An OCSP responder was asked; its answer is with the anchors."""


def converse(core: Core, connection: ConnectionPolicy, peer: Identity) -> Conversation:
    """A conversation as the connection wants it.

    Raises:
        ValueError: the connection lacks what its methods need; the text says what.
    """
    auth = connection.peer_auth.user
    if auth is None:
        raise ValueError(f"{connection.name} asks for no user")
    if UserMethod.EAP_RADIUS in auth.methods:
        return RadiusConversation(core, auth, name_in(peer))
    return LocalConversation(core, connection, auth, peer)


def name_in(identity: Identity) -> str:
    """The user name that an IKE identity holds; empty when it is no name."""
    if identity.type in (IdType.FQDN, IdType.RFC822_ADDR, IdType.KEY_ID):
        return user_text(identity.data) or ""
    return ""


def tls_party(core: Core, connection: ConnectionPolicy, auth: UserAuth) -> TlsParty | None:
    """What EAP-TLS needs of our side; made once for a connection, it holds an OpenSSL context."""
    credential = connection.local_credential
    if auth.anchors is None or not isinstance(credential, LocalCredential):
        return None
    known = core.tls_parties.get(connection.name)
    if known is not None and known[0] is credential and known[1] is auth.anchors:
        return known[2]
    party = TlsParty(credential.certificates, credential.private_key, auth.anchors.certificates)
    core.tls_parties[connection.name] = (credential, auth.anchors, party)
    return party


class LocalConversation:
    """The methods that we speak ourselves; only EAP-GTC asks somebody."""

    __slots__ = ("_accepted", "_auth", "_certificates", "_core", "_server", "_step")

    def __init__(
        self, core: Core, connection: ConnectionPolicy, auth: UserAuth, peer: Identity
    ) -> None:
        methods = tuple(METHODS[one] for one in auth.methods if one in METHODS)
        self._core = core
        self._auth = auth
        self._certificates = UserCertificates(auth.anchors, core.wall_clock, core.refuse_login)
        self._accepted: Accepted | None = None
        self._step = Step(Outcome.CONTINUE)
        tls = tls_party(core, connection, auth) if EapMethod.TLS in methods else None
        offer = Offer(
            methods,
            ask_identity=auth.eap_identity,
            find_user=core.find_user if auth.backend == LOCAL else None,
            tls=tls,
            check_certificate=self._certificates.check,
            name=connection.local_id.data[:64],
        )
        self._server = EapServer(offer, core.random, name_in(peer))

    @property
    def title(self) -> str:
        """The method that was used, or is being used."""
        method = self._step.method
        return _TITLES[method] if method is not None else "EAP"

    def start(self, asker: Asker) -> Turn:  # noqa: ARG002 - as in Conversation
        """The first packet."""
        return Turn(send=self._server.start())

    def receive(self, packet: bytes, asker: Asker) -> Turn:
        """Take a packet of the peer."""
        return self._follow(self._server.receive(packet), asker)

    def answered(self, answer: Answer) -> Turn:
        """Take the judgement of a password."""
        if isinstance(answer, Accepted):
            self._accepted = answer
        return self._follow(self._server.answered(answer), None)

    def certificate_checked(self) -> Turn:
        """Judge the user's certificate once more."""
        return self._success(self._step)

    def _follow(self, step: Step, asker: Asker | None) -> Turn:
        self._step = step
        match step.outcome:
            case Outcome.ASK if asker is not None:
                question = PasswordQuestion(self._auth.backend, step.user, step.password, asker)
                return Turn(question, user=step.user)
            case Outcome.CONTINUE if step.send is not None:
                return Turn(send=step.send, user=step.user, reason=step.reason, remedy=step.remedy)
            case Outcome.SUCCESS:
                return self._success(step)
        return self._failure(step.reason, step.remedy)

    def _success(self, step: Step) -> Turn:
        """EAP is over; who the user is, and in which groups."""
        name = step.user
        accepted = self._accepted
        if step.method is EapMethod.TLS:
            try:
                name = self._certificates.judge()
            except OcspNeeded as needed:
                return Turn(ocsp=needed, user=step.user)
            except ValueError as refused:
                return self._failure(str(refused), "Renew or replace the user's certificate.")
        if accepted is None:
            known = self._core.find_user(name) if self._auth.backend == LOCAL else None
            accepted = Accepted(name, known.groups if known is not None else ())
        accepted = replace(accepted, user=accepted.user or name, msk=step.msk)
        return Turn(accepted=accepted, send=step.send or b"", user=name)

    def _failure(self, reason: str, remedy: str) -> Turn:
        send = self._step.send or b""
        if len(send) != _END_OCTETS or send[0] != Code.FAILURE:
            identifier = send[1] if send else 0
            send = EapPacket(Code.FAILURE, identifier).encode()
        return Turn(failed=True, send=send, user=self._step.user, reason=reason, remedy=remedy)


_END_OCTETS = 4
"""Of EAP-Success and EAP-Failure."""


class RadiusConversation:
    """Whatever method the RADIUS server chooses: we only see who asks, and how it ends."""

    __slots__ = (
        "_ask_identity",
        "_backend",
        "_identifier",
        "_open",
        "_rounds",
        "_state",
        "_user",
    )

    def __init__(self, core: Core, auth: UserAuth, user: str) -> None:
        self._backend = auth.backend
        self._ask_identity = auth.eap_identity or not user
        self._user = "" if self._ask_identity else user
        self._identifier = core.random(1)[0]
        self._open = True
        """Whether the next packet is the peer's to send."""
        self._rounds = 0
        self._state = b""

    @property
    def title(self) -> str:
        """The server knows which method it was; we do not."""
        return "EAP (RADIUS)"

    def start(self, asker: Asker) -> Turn:
        """Ask who the user is, or tell the server at once."""
        if self._ask_identity:
            request = EapPacket(Code.REQUEST, self._identifier, EapType.IDENTITY)
            return Turn(send=request.encode())
        name = self._user.encode()
        packet = EapPacket(Code.RESPONSE, self._identifier, EapType.IDENTITY, name)
        return self._ask(packet.encode(), asker)

    def receive(self, packet: bytes, asker: Asker) -> Turn:
        """Pass a response on."""
        self._rounds += 1
        if not self._open:
            return self._fail("the peer goes on with EAP before its turn or after its end")
        if self._rounds > MAX_ROUND_TRIPS:
            return self._fail(f"more than {MAX_ROUND_TRIPS} EAP messages")
        try:
            response = EapPacket.decode(packet)
        except WireError as error:
            return self._fail(f"bad EAP message: {error}")
        if response.code is not Code.RESPONSE:
            return self._fail(f"the peer sent {type_title(response)} instead of a response")
        if response.identifier != self._identifier:
            return self._fail(
                f"a response to request {response.identifier}, the last one was {self._identifier}"
            )
        if not self._user:
            name = user_text(response.data) if response.eap_type == EapType.IDENTITY else None
            if not name:
                return self._fail("the peer did not say which user it is")
            self._user = name
        return self._ask(packet, asker)

    def _ask(self, packet: bytes, asker: Asker) -> Turn:
        self._open = False
        question = EapQuestion(self._backend, self._user, packet, self._state, asker)
        return Turn(question, user=self._user)

    def answered(self, answer: Answer) -> Turn:
        """Pass the server's next request on, or end."""
        match answer:
            case Challenged(eap=eap, state=state):
                return self._challenge(eap, state)
            case Accepted():
                return self._accept(answer)
            case Rejected(reason=reason):
                remedy = "Check the user in the RADIUS server, and its log."
                return self._fail(reason, remedy)
            case Unavailable(reason=reason):
                return self._fail(reason, "Check the RADIUS servers of this connection.")

    def certificate_checked(self) -> Turn:
        """Nothing of ours asks about certificates."""
        return self._fail("an answer without a question")

    def _challenge(self, eap: bytes, state: bytes) -> Turn:
        try:
            request = EapPacket.decode(eap)
        except WireError as error:
            return self._fail(f"the RADIUS server sent a bad EAP message: {error}")
        if request.code is not Code.REQUEST:
            return self._fail(f"the RADIUS server goes on with {type_title(request)}")
        self._identifier = request.identifier
        self._state = state
        self._open = True
        return Turn(send=eap, user=self._user)

    def _accept(self, answer: Accepted) -> Turn:
        if len(answer.msk) < MIN_MSK_OCTETS:
            return self._fail(
                "the RADIUS server let the user in without a key (MS-MPPE keys)",
                "Let it use a method that makes one: EAP-MSCHAPv2, EAP-TLS, PEAP, EAP-TTLS.",
            )
        send = EapPacket(Code.SUCCESS, self._identifier).encode()
        accepted = replace(answer, user=answer.user or self._user)
        return Turn(accepted=accepted, send=send, user=self._user)

    def _fail(self, reason: str, remedy: str = "") -> Turn:
        self._open = False
        send = EapPacket(Code.FAILURE, self._identifier).encode()
        return Turn(failed=True, send=send, user=self._user, reason=reason, remedy=remedy)
