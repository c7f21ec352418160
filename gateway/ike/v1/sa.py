"""The state of an ISAKMP SA (IKEv1), and the one function that changes it."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gateway.domain.endpoint import Endpoint, Path
from gateway.ike.crypto.dh import DhKeyPair
from gateway.ike.crypto.suites import IkeSuite
from gateway.ike.outputs import Event, Severity
from gateway.ike.policy import ConnectionPolicy
from gateway.ike.sa import IkeSa as AnyIkeSa
from gateway.ike.v1.codec.registry import OakleyAuthMethod
from gateway.ike.v1.keys import PhaseOneKeys

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.ike.auth.ocsp import OcspRequest
    from gateway.ike.core import Core
    from gateway.ike.v1.codec import Identification
    from gateway.ike.v1.exchange import Phase2Exchange
    from gateway.ike.v1.fragments import Reassembly

REMEMBERED_IDS = 64
"""Message ids of finished one-message exchanges that an SA remembers against replays."""


class State(enum.Enum):
    """Where an ISAKMP SA is in its life. Messages of phase 1 are counted from 1."""

    CREATED = "created"
    MAIN_1_SENT = "main mode message 1 sent"
    MAIN_2_SENT = "main mode message 2 sent"
    MAIN_3_SENT = "main mode message 3 sent"
    MAIN_4_SENT = "main mode message 4 sent"
    MAIN_5_SENT = "main mode message 5 sent"
    AGGRESSIVE_1_SENT = "aggressive mode message 1 sent"
    AGGRESSIVE_2_SENT = "aggressive mode message 2 sent"
    ASKED = "waiting for an answer about the peer's certificate"
    """Phase 1 is proven but for the revocation check of the certificate."""
    AUTHENTICATED = "authenticated, its user is not"
    """Phase 1 is done; XAUTH has to follow."""
    ESTABLISHED = "established"
    REPLACED = "replaced"
    """Another SA took over the children; this one is about to be deleted."""
    CLOSED = "closed"


_PHASE1 = frozenset({State.AUTHENTICATED, State.ESTABLISHED, State.CLOSED})
TRANSITIONS: dict[State, frozenset[State]] = {
    State.CREATED: frozenset(
        {
            State.MAIN_1_SENT,
            State.MAIN_2_SENT,
            State.AGGRESSIVE_1_SENT,
            State.AGGRESSIVE_2_SENT,
            State.CLOSED,
        }
    ),
    State.MAIN_1_SENT: frozenset({State.MAIN_3_SENT, State.CLOSED}),
    State.MAIN_2_SENT: frozenset({State.MAIN_4_SENT, State.CLOSED}),
    State.MAIN_3_SENT: frozenset({State.MAIN_5_SENT, State.CLOSED}),
    State.MAIN_4_SENT: _PHASE1 | {State.ASKED},
    State.MAIN_5_SENT: _PHASE1 | {State.ASKED},
    State.AGGRESSIVE_1_SENT: _PHASE1 | {State.ASKED},
    State.AGGRESSIVE_2_SENT: _PHASE1 | {State.ASKED},
    State.ASKED: _PHASE1,
    State.AUTHENTICATED: frozenset({State.ESTABLISHED, State.CLOSED}),
    State.ESTABLISHED: frozenset({State.REPLACED, State.CLOSED}),
    State.REPLACED: frozenset({State.CLOSED}),
    State.CLOSED: frozenset(),
}
"""Every change of state that may happen; all others are refused."""


class Evidence(enum.IntFlag):
    """What has been proven on an ISAKMP SA so far."""

    KEYS = 1
    """Key exchange done: messages can be encrypted."""
    PEER_IDENTITY = 2
    """The peer's identity is one that the connection allows."""
    PEER_AUTH = 4
    """HASH_I or HASH_R, or the signature over it, was verified."""
    PEER_CERTIFICATE = 8
    """The certificate that signed it is valid for that identity."""
    USER = 16
    """XAUTH: the user proved itself to us."""


class AuthMethod(enum.IntEnum):
    """The authentication methods of phase 1 that we have."""

    PRE_SHARED_KEY = OakleyAuthMethod.PRE_SHARED_KEY
    RSA_SIGNATURES = OakleyAuthMethod.RSA_SIGNATURES
    ECDSA_SHA256_P256 = OakleyAuthMethod.ECDSA_SHA256_P256
    ECDSA_SHA384_P384 = OakleyAuthMethod.ECDSA_SHA384_P384
    ECDSA_SHA512_P521 = OakleyAuthMethod.ECDSA_SHA512_P521
    HYBRID_INIT_RSA = OakleyAuthMethod.HYBRID_INIT_RSA
    XAUTH_INIT_PRE_SHARED = OakleyAuthMethod.XAUTH_INIT_PRE_SHARED
    XAUTH_INIT_RSA = OakleyAuthMethod.XAUTH_INIT_RSA

    @property
    def with_key(self) -> bool:
        """Whether it rests on a pre-shared key."""
        return self in (AuthMethod.PRE_SHARED_KEY, AuthMethod.XAUTH_INIT_PRE_SHARED)

    @property
    def with_user(self) -> bool:
        """Whether the initiator's user logs in after phase 1."""
        return self in (
            AuthMethod.HYBRID_INIT_RSA,
            AuthMethod.XAUTH_INIT_PRE_SHARED,
            AuthMethod.XAUTH_INIT_RSA,
        )


class NatTraversal(enum.Enum):
    """Which specification of NAT traversal both sides know."""

    NONE = "none"
    DRAFT_02 = "draft-ietf-ipsec-nat-t-ike-02 or -03"
    """Private numbers: payloads 130 and 131, encapsulation modes 61443 and 61444."""
    RFC_3947 = "RFC 3947"


class IllegalTransition(Exception):  # noqa: N818 - named for what it is
    """Our own fault: a state was to follow one that it must not follow, or lacks evidence."""


@dataclass(slots=True)
class Peer:
    """What the peer's vendor ids say that it knows."""

    nat_traversal: NatTraversal = NatTraversal.NONE
    dpd: bool = False
    xauth: bool = False
    unity: bool = False


@dataclass(slots=True)
class PendingCertificate:
    """A proof that is right but for the revocation check, which an OCSP responder answers."""

    request: OcspRequest
    chain: tuple[bytes, ...] = field(repr=False)
    rounds: int
    resume: Callable[[Core, IkeSa, float], None]
    """Goes on with phase 1 once the certificate is accepted."""


@dataclass(slots=True)
class PhaseOne:
    """What is needed until phase 1 is over, and dropped then."""

    sa_body: bytes = field(default=b"", repr=False)
    """The initiator's SA payload after its generic header: SAi_b."""
    nonce_i: bytes = b""
    nonce_r: bytes = b""
    public_i: bytes = b""
    public_r: bytes = b""
    shared: bytes = field(default=b"", repr=False)
    key_pair: DhKeyPair | None = None
    candidates: tuple[ConnectionPolicy, ...] = ()
    """Responder: connections that take the negotiated suite and authentication method."""
    hint: str = ""
    """What unauthenticated answers said; the reason given when no other answer comes."""
    half_open_key: tuple[bytes, Endpoint] | None = None
    repeated: int = 0
    """Answers from memory to the same message."""
    initial_contact: bool = False
    """The peer says that it has no other SA with us."""
    decoy: str = ""
    """Why an aggressive mode that we go through with will be refused in the end."""
    identification: Identification | None = None
    """Aggressive mode: what the initiator claims to be, as it came: IDii."""
    life_s: float = 0.0
    """As negotiated; 0 when the peer said nothing of it."""
    pending: PendingCertificate | None = None
    wrong_proofs: set[bytes] = field(default_factory=set)
    """SHA-256 of messages that were to prove something and did not."""
    undecipherable: bool = False
    """It was reported that the peer's message did not decrypt."""


class IkeSa(AnyIkeSa):
    """An ISAKMP SA. Only :func:`transition` writes ``state``, and ``record.read`` a former one."""

    version = 1

    __slots__ = (
        "auth_method",
        "cipher_key",
        "dpd",
        "evidence",
        "exchanges",
        "finished_ids",
        "iv",
        "keys",
        "last_digest",
        "last_sent",
        "peer",
        "phase1",
        "quick",
        "reassembly",
        "rekeyed_by",
        "renewal",
        "renewing",
        "replaces",
        "retransmit_at",
        "state",
        "successor_spi",
        "suite",
        "tries",
        "xauth",
    )

    def __init__(
        self, initiator_spi: bytes, responder_spi: bytes, initiator: bool, path: Path, now: float
    ) -> None:
        super().__init__(initiator_spi, responder_spi, initiator, path, now)
        self.state = State.CREATED
        self.evidence = Evidence(0)
        self.phase1: PhaseOne | None = PhaseOne()
        self.auth_method: AuthMethod | None = None
        self.suite: IkeSuite | None = None
        self.keys: PhaseOneKeys | None = None
        self.cipher_key = b""
        self.iv = b""
        """Of the next message of phase 1; afterwards the last block, from which later IVs come."""
        self.peer = Peer()
        self.last_sent: tuple[bytes, ...] = ()
        """Datagrams of our last message of phase 1."""
        self.last_digest = b""
        """SHA-256 of the message of phase 1 that it answers, to know it again."""
        self.tries = 0
        """Transmissions of it."""
        self.retransmit_at = 0.0
        """When our last message of phase 1 is due again; 0 when no answer is awaited."""
        self.reassembly: Reassembly | None = None
        self.exchanges: dict[int, Phase2Exchange] = {}
        """Exchanges after phase 1, by message id: those under way and some finished ones."""
        self.finished_ids: tuple[int, ...] = ()
        self.replaces: IkeSa | None = None
        """The SA that this one will take the children from, when it replaces one of ours."""
        self.rekeyed_by: IkeSa | None = None
        self.successor_spi = b""
        """Of ``rekeyed_by`` in a record, until that is found."""
        self.renewal = False
        """It took over from another SA."""
        self.renewing = False
        """We began a phase 1 that was to take over from it."""
        # What the exchanges after phase 1 keep; None when they keep nothing.
        self.xauth: object | None = None
        self.quick: object | None = None
        self.dpd: object | None = None

    @property
    def state_name(self) -> str:
        """The state, for people."""
        return self.state.value

    @property
    def suite_name(self) -> str:
        """The negotiated suite, for people; empty before there is one."""
        return str(self.suite) if self.suite is not None else ""

    @property
    def established(self) -> bool:
        """Whether the peer has proven itself and nobody ended the SA."""
        return self.state is State.ESTABLISHED

    @property
    def closed(self) -> bool:
        """Whether it is over; it may still lie around to answer retransmissions."""
        return self.state is State.CLOSED

    @property
    def had_session(self) -> bool:
        """Whether it is or was established and no successor has its session."""
        return self.state is State.ESTABLISHED and self.rekeyed_by is None

    @property
    def replaced(self) -> bool:
        """Whether a successor carries the session on."""
        return self.rekeyed_by is not None

    @property
    def movable(self) -> bool:
        """Whether authenticated packets from elsewhere may still move the peer."""
        return self.state is State.ESTABLISHED

    @property
    def user_must_prove_itself(self) -> bool:
        """Whether the peer's user has to log in here before anything else is done for it."""
        connection = self.connection
        return (
            not self.initiator and connection is not None and connection.peer_auth.user is not None
        )


def required_evidence(sa: IkeSa, to: State) -> Evidence:
    """What must be proven before ``sa`` may come to a state."""
    if to not in (State.AUTHENTICATED, State.ESTABLISHED):
        return Evidence(0)
    required = Evidence.KEYS | Evidence.PEER_IDENTITY
    auth = sa.connection.peer_auth if sa.connection is not None else None
    if auth is None:
        return required | Evidence.PEER_AUTH | Evidence.PEER_CERTIFICATE | Evidence.USER
    device_proves = sa.initiator or auth.preshared_key is not None or auth.anchors is not None
    if device_proves:
        required |= Evidence.PEER_AUTH
        with_key = sa.auth_method is not None and sa.auth_method.with_key
        if auth.preshared_key is None or not with_key:
            required |= Evidence.PEER_CERTIFICATE
    if to is State.ESTABLISHED and (sa.user_must_prove_itself or not device_proves):
        required |= Evidence.USER
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
    required = required_evidence(sa, to)
    if sa.evidence & required != required:
        raise IllegalTransition(f"evidence {sa.evidence!r} is not {required!r}: {why}")
    was = sa.state
    sa.state = to
    core.touch(sa)
    if core.trace:
        text = f"IKE SA {sa.spis} {was.value} -> {to.value}: {why}"
        core.outputs.append(Event("ike_sa_state", text, Severity.DEBUG, _names(sa)))
