"""What the NAR client's engine wants done, and what came of the leases it was asked for."""

from dataclasses import dataclass, field
from ipaddress import IPv4Address

from gateway.domain.nar import Delivery, L2tpSession, NarTuple
from gateway.nar.codec.numbers import Reply


@dataclass(frozen=True, slots=True)
class Lease:
    """What the server lent us."""

    tuple: NarTuple
    delivery: Delivery
    client_port: int = 0
    """TCP, UDP, translated only: the port to use here when it is not the leased one (a server
    mapping), else 0."""
    peer: IPv4Address | None = None
    """Whom it is for; None: anybody."""

    @property
    def local_port(self) -> int:
        """TCP, UDP: the port that a program here binds to."""
        return self.client_port or self.tuple.value


@dataclass(frozen=True, slots=True)
class SendOctets:
    """To the server, on the connection there is."""

    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class ModeAgreed:
    """The server is in NAR mode; again after each reconnect, and for another target."""

    address: IPv4Address
    """Nb."""
    delivery: Delivery
    """What the server granted or imposed; the client conforms (draft 004 section 3.1)."""
    leases: bool
    """Whether the server knows lease times, RENEW, RELEASE and coming back."""


@dataclass(frozen=True, slots=True)
class SessionAgreed:
    """With ``token`` the session is taken up again, also by another process of this host."""

    token: bytes = field(repr=False)
    lease_s: int
    grace_s: int
    resumed: bool
    """Whether the leases of before go on."""


@dataclass(frozen=True, slots=True)
class L2tpAgreed:
    """Open this L2TPv3 session; seen from the server. Before the first lease that needs it."""

    session: L2tpSession


@dataclass(frozen=True, slots=True)
class Granted:
    """The lease that ``ticket`` asked for."""

    ticket: int
    lease: Lease


@dataclass(frozen=True, slots=True)
class Refused:
    """No lease for ``ticket``; it is forgotten."""

    ticket: int
    reply: Reply
    words: str
    """Why, and what to do about it."""


@dataclass(frozen=True, slots=True)
class Released:
    """The lease of ``ticket`` ended because we wanted it to."""

    ticket: int
    lease: Lease


@dataclass(frozen=True, slots=True)
class Lost:
    """The lease of ``ticket`` ended against our will; remove what was installed for it."""

    ticket: int
    lease: Lease
    words: str


@dataclass(frozen=True, slots=True)
class AddressChanged:
    """Nb is another one now; ``leases`` (by ticket) go on with the same values there."""

    old: IPv4Address
    new: IPv4Address
    leases: dict[int, Lease]


@dataclass(frozen=True, slots=True)
class ServerStopping:
    """The server goes down for a moment; leases stay for the grace period. Reconnect."""


@dataclass(frozen=True, slots=True)
class Failed:
    """Close the connection. Leases that were granted stay until they are Lost."""

    words: str
    """What is wrong, and what to do about it."""
    again: bool
    """Whether connecting again, after a while, may help."""


Output = (
    SendOctets
    | ModeAgreed
    | SessionAgreed
    | L2tpAgreed
    | Granted
    | Refused
    | Released
    | Lost
    | AddressChanged
    | ServerStopping
    | Failed
)
