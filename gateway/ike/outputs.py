"""What an IKE engine asks of the world, in order: datagrams, dataplane work, events."""

from dataclasses import dataclass, field

from gateway.domain.child_sa import ChildSa, IpNetwork
from gateway.domain.endpoint import Endpoint, IpAddress, Path
from gateway.domain.event import Event, Severity
from gateway.domain.mobility_credential import MobilityCredential
from gateway.domain.remote_access import Grant
from gateway.domain.user_auth import Question, Session

__all__ = [
    "AccessEnded",
    "AccessGranted",
    "ActivateOutbound",
    "AskAboutUser",
    "AskOcsp",
    "ClientDown",
    "ClientUp",
    "Event",
    "ForgetSa",
    "InstallChildSa",
    "MoveChildSa",
    "Output",
    "RecordSa",
    "RemoveChildSa",
    "SessionClosed",
    "SessionOpened",
    "Severity",
    "Transmit",
    "TransmitKeepalive",
]


@dataclass(frozen=True, slots=True)
class Transmit:
    """Send an IKE message. The adapter adds the non-ESP marker on the NAT port."""

    message: bytes
    path: Path


@dataclass(frozen=True, slots=True)
class TransmitKeepalive:
    """Send a NAT keepalive octet (RFC 3948 section 2.3)."""

    path: Path


@dataclass(frozen=True, slots=True)
class AccessGranted:
    """A session may send: told before its first child SA, and when the grant changes."""

    grant: Grant


@dataclass(frozen=True, slots=True)
class AccessEnded:
    """The session with this name is over: told after its last child SA was removed."""

    session: str


@dataclass(frozen=True, slots=True)
class InstallChildSa:
    """See :meth:`gateway.dataplane.interface.Dataplane.install_child_sa`."""

    sa: ChildSa
    outbound: bool = True
    session_id: str = ""
    """The session that its traffic counts for, when the peer has a user."""
    peer: str = ""
    """The peer's identity."""


@dataclass(frozen=True, slots=True)
class ActivateOutbound:
    """The peer uses the new SA: send on it from now on."""

    spi_in: int


@dataclass(frozen=True, slots=True)
class RemoveChildSa:
    """Forget both directions."""

    spi_in: int


@dataclass(frozen=True, slots=True)
class MoveChildSa:
    """The peer (or we) moved."""

    spi_in: int
    local: Endpoint
    remote: Endpoint
    udp_encapsulation: bool


@dataclass(frozen=True, slots=True)
class AskAboutUser:
    """Answer with :meth:`IkeEngine.user_answered` and the same ticket, exactly once."""

    ticket: int
    question: Question


@dataclass(frozen=True, slots=True)
class AskOcsp:
    """POST the request to the responder; answer with :meth:`IkeEngine.ocsp_answered`.

    Exactly once for each ticket, with the octets of the response, or None if none came.
    """

    ticket: int
    responder_url: str
    request_der: bytes


@dataclass(frozen=True, slots=True)
class SessionOpened:
    """A user's session began: accounting starts."""

    session: Session
    resumed: bool = False
    """It began in a former process, which told of it: only its end will be news."""


@dataclass(frozen=True, slots=True)
class SessionClosed:
    """A user's session ended: accounting stops."""

    session_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class RecordSa:
    """Remember an IKE SA in place of what was remembered under its key.

    To be carried out before anything is sent: a process that begins again with the record must
    not use a message id or an initialization vector twice.
    """

    key: str
    record: bytes = field(repr=False)
    """Holds keys: to be sealed. See :mod:`gateway.ike.record`."""


@dataclass(frozen=True, slots=True)
class ForgetSa:
    """The IKE SA is gone, and its record is of no use."""

    key: str


@dataclass(frozen=True, slots=True)
class ClientUp:
    """As the initiator: the first child SA of a connection is there, or its terms changed.

    A new login is always reported, rekeying and moving never.
    """

    connection: str
    ike_spi: bytes
    """Ours, for :meth:`IkeEngine.local_address_changed` and ``move_local``, rekeyed or not."""
    outer: IpAddress
    inner: IpAddress | None
    vpn_fa: bool
    endpoint_update: bool
    mobike: bool
    encapsulated: bool
    advertisement: bytes
    """The foreign agent advertisement of the gateway (draft 001, appendix B.2)."""
    dns: tuple[IpAddress, ...]
    domains: tuple[str, ...]
    subnets: tuple[IpNetwork, ...]
    suite: str
    """Of ESP."""
    credentials: tuple[MobilityCredential, ...] = ()
    inner6: IpAddress | None = None
    """Another inner address, of IPv6, beside ``inner``."""
    mtu: int | None = None
    """What fits into the tunnel, if the gateway said so."""


@dataclass(frozen=True, slots=True)
class ClientDown:
    """As the initiator: a connection could not be brought up, or its IKE SA ended.

    The engine tries again, later every time, until it is told to abandon the connection or to
    initiate it at once. After :meth:`IkeEngine.abandon` and ``close_all`` nothing is reported.
    """

    connection: str
    reason: str
    hint: str
    """What to do about it; may be empty."""
    was_up: bool
    refused: bool
    """The attempt failed for a reason (credentials, proposals ...); otherwise nobody answered."""


Output = (
    Transmit
    | AccessGranted
    | AccessEnded
    | TransmitKeepalive
    | InstallChildSa
    | ActivateOutbound
    | RemoveChildSa
    | MoveChildSa
    | AskAboutUser
    | AskOcsp
    | SessionOpened
    | SessionClosed
    | RecordSa
    | ForgetSa
    | ClientUp
    | ClientDown
    | Event
)
