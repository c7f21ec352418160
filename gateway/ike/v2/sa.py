"""The state of an IKE SA and of its child SAs, and the one function that changes it."""

from __future__ import annotations

import enum
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.domain.child_sa import EspSuite, TrafficSelector
from gateway.domain.endpoint import Endpoint, IpAddress, Path
from gateway.ike.auth.identity import Identity
from gateway.ike.crypto.dh import DhKeyPair
from gateway.ike.crypto.keymat import IkeKeys
from gateway.ike.crypto.proposals import IkeSuite
from gateway.ike.crypto.sk import SkCipher
from gateway.ike.endpoint_update import Move, MoveBudget
from gateway.ike.outputs import Event, Severity
from gateway.ike.policy import ConnectionPolicy
from gateway.ike.registry import DhGroup
from gateway.ike.v2.window import Window

if TYPE_CHECKING:
    from gateway.ike.v2.core import Core
    from gateway.ike.v2.exchange import Exchange
    from gateway.ike.v2.mobike import MobikeState
    from gateway.ike.v2.protect import Reassembly


class State(enum.Enum):
    """Where an IKE SA is in its life."""

    CREATED = "created"
    INIT_SENT = "init sent"
    """Initiator: IKE_SA_INIT is on its way."""
    HALF_OPEN = "half open"
    """Responder: IKE_SA_INIT was answered, nobody has proven anything yet."""
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
    State.HALF_OPEN: frozenset({State.ESTABLISHED, State.CLOSED}),
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


_AUTHENTICATED = Evidence.KEYS | Evidence.PEER_IDENTITY | Evidence.PEER_AUTH


class IllegalTransition(Exception):  # noqa: N818 - named for what it is
    """Our own fault: a state was to follow one that it must not follow, or lacks evidence."""


class ChildState(enum.Enum):
    """Where a child SA is in its life."""

    INSTALLED = "installed"
    REKEYING = "rekeying"
    """A CREATE_CHILD_SA request of ours that replaces it is on its way."""
    REKEYED = "rekeyed"
    """Replaced; waits for its Delete."""
    DELETING = "deleting"
    """Our Delete is on its way."""


class Child:
    """A child SA as the engine remembers it; the keys live in the dataplane only."""

    __slots__ = (
        "group",
        "installed_at",
        "local_ts",
        "outbound_active",
        "remote_ts",
        "replaced_by",
        "reqid",
        "spi_in",
        "spi_out",
        "state",
        "suite",
        "udp_encapsulation",
    )

    def __init__(  # noqa: PLR0917 - one fact each
        self,
        spi_in: int,
        spi_out: int,
        reqid: int,
        suite: EspSuite,
        group: DhGroup | None,
        local_ts: tuple[TrafficSelector, ...],
        remote_ts: tuple[TrafficSelector, ...],
        udp_encapsulation: bool,
        now: float,
    ) -> None:
        self.spi_in = spi_in
        self.spi_out = spi_out
        self.reqid = reqid
        self.suite = suite
        self.group = group
        self.local_ts = local_ts
        self.remote_ts = remote_ts
        self.udp_encapsulation = udp_encapsulation
        self.state = ChildState.INSTALLED
        self.outbound_active = True
        self.replaced_by: int | None = None
        self.installed_at = now


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


class IkeSa:
    """An IKE SA. Only :func:`transition` writes ``state``."""

    __slots__ = (
        "_peer_name",
        "children",
        "cipher_in",
        "cipher_out",
        "connection",
        "created_at",
        "encapsulate",
        "established_at",
        "evidence",
        "exchanges",
        "fragmentation",
        "handshake",
        "initiator",
        "initiator_spi",
        "inner_address",
        "last_inbound",
        "last_move",
        "local_id",
        "local_natted",
        "local_spi",
        "mobike",
        "mobike_state",
        "move_budget",
        "path",
        "peer_id",
        "pool",
        "reassembly",
        "rekeyed_by",
        "remote_natted",
        "responder_spi",
        "session_initiator",
        "sk_d",
        "state",
        "suite",
        "window",
    )

    def __init__(
        self, initiator_spi: bytes, responder_spi: bytes, initiator: bool, path: Path, now: float
    ) -> None:
        self.initiator_spi = initiator_spi
        self.responder_spi = responder_spi
        self.initiator = initiator
        """Whether we are the original initiator of this SA."""
        self.session_initiator = initiator
        """Whether we initiated the first of the IKE SAs of which this one is a successor."""
        self.local_spi = initiator_spi if initiator else responder_spi
        self.path = path
        self.state = State.CREATED
        self.evidence = Evidence(0)
        self.window = Window()
        self.handshake: Handshake | None = Handshake()
        self.connection: ConnectionPolicy | None = None
        self.suite: IkeSuite | None = None
        self.sk_d = b""
        self.cipher_in: SkCipher | None = None
        self.cipher_out: SkCipher | None = None
        self.peer_id: Identity | None = None
        self.local_id: Identity | None = None
        self.inner_address: IpAddress | None = None
        self.pool: str | None = None
        """The pool ``inner_address`` is leased from; None when the peer leased it to us."""
        self.children: dict[int, Child] = {}
        self.exchanges: deque[Exchange] | None = None
        self.reassembly: dict[bool, Reassembly] | None = None
        self.fragmentation = False
        self.mobike = False
        self.mobike_state: MobikeState | None = None
        self.local_natted = False
        self.remote_natted = False
        self.encapsulate = False
        self.created_at = now
        self.established_at = 0.0
        self.last_inbound = now
        self._peer_name: str | None = None
        self.last_move: Move | None = None
        self.move_budget: MoveBudget | None = None
        self.rekeyed_by: IkeSa | None = None

    @property
    def peer_name(self) -> str:
        """The peer's identity for people, or ``(unknown)`` before it gave one."""
        if self._peer_name is None:
            if self.peer_id is None:
                return "(unknown)"
            self._peer_name = str(self.peer_id)
        return self._peer_name

    @property
    def connection_name(self) -> str:
        """The connection's name, or ``(none yet)``."""
        return self.connection.name if self.connection is not None else "(none yet)"

    def esp_sas(self) -> list[tuple[int, bool]]:
        """(inbound SPI, whether encapsulated in UDP) of each child SA."""
        return [(child.spi_in, child.udp_encapsulation) for child in self.children.values()]

    @property
    def established(self) -> bool:
        """Whether the peer has proven itself and nobody ended the SA."""
        return self.state is State.ESTABLISHED

    @property
    def spis(self) -> str:
        """Both SPIs in hexadecimal."""
        return f"{self.initiator_spi.hex()}_{self.responder_spi.hex()}"


def required_evidence(sa: IkeSa) -> Evidence:
    """What must be proven before ``sa`` may be established."""
    if sa.evidence & Evidence.INHERITED:
        return Evidence.KEYS | Evidence.INHERITED
    if sa.connection is not None and sa.connection.peer_auth.preshared_key is None:
        return _AUTHENTICATED | Evidence.PEER_CERTIFICATE
    return _AUTHENTICATED


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
    if core.trace:
        text = f"IKE SA {sa.spis} {was.value} -> {to.value}: {why}"
        core.outputs.append(Event("ike_sa_state", text, Severity.DEBUG, {"spis": sa.spis}))
