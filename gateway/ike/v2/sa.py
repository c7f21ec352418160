"""The state of an IKEv2 SA, and the one function that changes it."""

from __future__ import annotations

import enum
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.domain.endpoint import Endpoint, Path
from gateway.ike.crypto.dh import DhKeyPair
from gateway.ike.crypto.keymat import IkeKeys
from gateway.ike.crypto.proposals import IkeSuite
from gateway.ike.crypto.sk import SkCipher
from gateway.ike.outputs import Event, Severity
from gateway.ike.policy import ConnectionPolicy
from gateway.ike.sa import IkeSa as AnyIkeSa
from gateway.ike.v2.window import Window

if TYPE_CHECKING:
    from gateway.ike.auth.credentials import TrustAnchors
    from gateway.ike.auth.ocsp import OcspRequest
    from gateway.ike.core import Core
    from gateway.ike.v2.eap_responder import UserLogin
    from gateway.ike.v2.exchange import Exchange
    from gateway.ike.v2.followup import Followup
    from gateway.ike.v2.intermediate import Intermediate
    from gateway.ike.v2.mobike import MobikeState
    from gateway.ike.v2.protect import Reassembly
    from gateway.ike.v2.view import Payloads, Request


class State(enum.Enum):
    """Where an IKE SA is in its life."""

    CREATED = "created"
    INIT_SENT = "init sent"
    """Initiator: IKE_SA_INIT is on its way."""
    HALF_OPEN = "half open"
    """Responder: IKE_SA_INIT was answered, nobody has proven anything yet."""
    USER_LOGIN = "user login"
    """Responder: we have proven ourselves, and the user is doing so by EAP."""
    AUTH_SENT = "auth sent"
    """Initiator: IKE_AUTH is on its way."""
    ESTABLISHED = "established"
    REKEYED = "rekeyed"
    """Another SA took over the children; this one only waits for its Delete."""
    DELETING = "deleting"
    """Our Delete is on its way."""
    CLOSED = "closed"


TRANSITIONS: dict[State, frozenset[State]] = {
    State.CREATED: frozenset({State.INIT_SENT, State.HALF_OPEN, State.ESTABLISHED, State.CLOSED}),
    State.INIT_SENT: frozenset({State.AUTH_SENT, State.CLOSED}),
    State.HALF_OPEN: frozenset({State.USER_LOGIN, State.ESTABLISHED, State.CLOSED}),
    State.USER_LOGIN: frozenset({State.ESTABLISHED, State.CLOSED}),
    State.AUTH_SENT: frozenset({State.ESTABLISHED, State.CLOSED}),
    State.ESTABLISHED: frozenset({State.REKEYED, State.DELETING, State.CLOSED}),
    State.REKEYED: frozenset({State.DELETING, State.CLOSED}),
    State.DELETING: frozenset({State.CLOSED}),
    State.CLOSED: frozenset(),
}
"""Every change of state that may happen; all others are refused."""


class Evidence(enum.IntFlag):
    """What has been proven on an IKE SA so far."""

    KEYS = 1
    """Key exchange done: messages can be authenticated."""
    PEER_IDENTITY = 2
    """The peer's identity is one that the connection allows."""
    PEER_AUTH = 4
    """The AUTH payload was verified."""
    PEER_CERTIFICATE = 8
    """The certificate that signed it is valid for that identity."""
    INHERITED = 16
    """This SA was made inside an established one by rekeying."""
    USER = 32
    """EAP succeeded, and AUTH over its key was verified."""


LOGIN_STATES = frozenset({State.HALF_OPEN, State.USER_LOGIN})
"""Responder: the peer has not proven itself yet."""


ALL_EVIDENCE = ~Evidence(0)
"""More than anybody can show: what an SA without a connection needs."""


class IllegalTransition(Exception):  # noqa: N818 - named for what it is
    """Our own fault: a state was to follow one that it must not follow, or lacks evidence."""


@dataclass(slots=True)
class Handshake:
    """What is needed until an IKE SA is established, and dropped then."""

    keys: IkeKeys | None = None
    nonce_i: bytes = b""
    nonce_r: bytes = b""
    init_request: bytes = b""
    init_response: bytes = b""
    key_pair: DhKeyPair | None = None
    peer_hashes: tuple[int, ...] = ()
    """Hash algorithms the peer accepts in signatures (RFC 7427); empty when it named none."""
    candidates: tuple[ConnectionPolicy, ...] = ()
    """Responder: connections whose proposals allow the negotiated suite."""
    cookie: bytes = b""
    retries: int = 0
    hint: str = ""
    """What unauthenticated answers said; the reason given when no other answer comes."""
    half_open_key: tuple[bytes, Endpoint] | None = None
    child_spi: int = 0
    wanted_authorities: bytes = b""
    nat_t: bool = False
    """Whether the peer sent NAT detection payloads."""
    intermediate: Intermediate | None = None
    """How far the additional key exchanges are; None where none were negotiated."""
    peer_uses_ppk: bool = False
    """Both sides said USE_PPK (RFC 8784)."""
    plain_keys: IkeKeys | None = None
    """As they are without the PPK, once one was mixed into ``keys``."""
    peer_is_childless: bool = False
    """Both sides said, or may say, that the IKE SA needs no child SA (RFC 6023)."""
    login: UserLogin | None = None
    """Responder: how far the user's login is."""
    held: Request | None = None
    """Responder: the request that is answered when a question is."""
    held_response: tuple[Exchange, Payloads] | None = None
    """Initiator: the response that is acted on when a question is answered."""
    ocsp: tuple[TrustAnchors, OcspRequest] | None = None
    """The question to an OCSP responder, and who waits for the answer."""
    ocsp_questions: int = 0
    replaces: bytes = b""
    """Initiator: our SPI of the IKE SA that this login is to replace."""


class IkeSa(AnyIkeSa):
    """An IKEv2 SA. Only :func:`transition` writes ``state``, and ``record.read`` a former one."""

    version = 2

    __slots__ = (
        "asked_mobility",
        "cipher_in",
        "cipher_out",
        "evidence",
        "exchanges",
        "followup",
        "handshake",
        "login_again_at",
        "mobike_state",
        "reassembly",
        "rekeyed_by",
        "sk_d",
        "state",
        "successor_spi",
        "suite",
        "window",
    )

    def __init__(
        self, initiator_spi: bytes, responder_spi: bytes, initiator: bool, path: Path, now: float
    ) -> None:
        super().__init__(initiator_spi, responder_spi, initiator, path, now)
        self.state = State.CREATED
        self.evidence = Evidence(0)
        self.window = Window()
        self.handshake: Handshake | None = Handshake()
        self.suite: IkeSuite | None = None
        self.sk_d = b""
        self.cipher_in: SkCipher | None = None
        self.cipher_out: SkCipher | None = None
        self.exchanges: deque[Exchange] | None = None
        self.reassembly: dict[bool, Reassembly] | None = None
        self.mobike_state: MobikeState | None = None
        self.rekeyed_by: IkeSa | None = None
        self.successor_spi = b""
        """Of ``rekeyed_by`` in a record, until that is found."""
        self.login_again_at: float | None = None
        """Initiator: before the responder's AUTH_LIFETIME is over."""
        self.asked_mobility = False
        """Initiator: which home addresses this login brings."""
        self.followup: Followup | None = None
        """The peer's rekeying of this SA, while it waits for additional key exchanges."""

    @property
    def state_name(self) -> str:
        """The state, for people."""
        return self.state.value

    @property
    def suite_name(self) -> str:
        """The negotiated suite, for people."""
        return str(self.suite) if self.suite is not None else ""

    @property
    def established(self) -> bool:
        """Whether the peer has proven itself and nobody ended the SA."""
        return self.state is State.ESTABLISHED

    @property
    def closed(self) -> bool:
        """Whether it is over."""
        return self.state is State.CLOSED

    @property
    def had_session(self) -> bool:
        """Whether it is or was established and no successor has it."""
        return self.state in (State.ESTABLISHED, State.DELETING) and self.rekeyed_by is None

    @property
    def replaced(self) -> bool:
        """Whether a successor carries the session on."""
        return self.rekeyed_by is not None or self.state is State.REKEYED

    @property
    def movable(self) -> bool:
        """Whether authenticated packets from elsewhere may still move the peer."""
        return self.state in (State.ESTABLISHED, State.DELETING, State.REKEYED)


def required_evidence(sa: IkeSa) -> Evidence:
    """What must be proven before ``sa`` may be established."""
    if sa.evidence & Evidence.INHERITED:
        return Evidence.KEYS | Evidence.INHERITED
    connection = sa.connection
    if connection is None:
        return ALL_EVIDENCE
    of_peer = connection.peer_auth
    required = Evidence.KEYS | Evidence.PEER_IDENTITY
    if sa.initiator:
        if connection.user_credential is not None:
            required |= Evidence.USER
    elif of_peer.user is not None:
        required |= Evidence.USER
    if sa.initiator or of_peer.user is None or of_peer.device_too:
        required |= Evidence.PEER_AUTH
        if of_peer.preshared_key is None:
            required |= Evidence.PEER_CERTIFICATE
    return required


def _names(sa: IkeSa) -> dict[str, object]:
    return {"spis": sa.spis, "session": sa.session_id}


def transition(core: Core, sa: IkeSa, to: State, why: str) -> None:
    """Change the state of ``sa`` and log it. The only place that does.

    Raises:
        IllegalTransition: the table does not allow it, or evidence is missing.
    """
    if to not in TRANSITIONS[sa.state]:
        raise IllegalTransition(f"{sa.state.value} -> {to.value}: {why}")
    if to is State.ESTABLISHED:
        required = required_evidence(sa)
        if sa.evidence & required != required:
            raise IllegalTransition(f"evidence {sa.evidence!r} is not {required!r}: {why}")
    was = sa.state
    sa.state = to
    core.touch(sa)
    if core.trace:
        text = f"IKE SA {sa.spis} {was.value} -> {to.value}: {why}"
        core.outputs.append(Event("ike_sa_state", text, Severity.DEBUG, _names(sa)))
