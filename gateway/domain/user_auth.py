"""Questions about users that an engine asks, and the answers it gets: no transport, no storage.

An engine never waits. It puts a question with a ticket among its outputs, an adapter asks the local
user base or a RADIUS server, and gives the answer back with the same ticket. Every question gets
exactly one answer, :class:`Unavailable` at the latest when the adapter's deadline is over.
"""

from dataclasses import dataclass, field

from gateway.domain.endpoint import Endpoint, IpAddress

LOCAL = "local"
"""The name of the backend that is our own user base; every other name is a RADIUS group."""


@dataclass(frozen=True, slots=True)
class Asker:
    """The facts of a login that a RADIUS server may want to see."""

    connection: str
    local: Endpoint
    remote: Endpoint
    session_id: str
    """The IKE SA's name: NAS-Port-Id and Acct-Session-Id of this login."""


@dataclass(frozen=True, slots=True)
class PasswordQuestion:
    """Is this the user's password? Asked for XAUTH and EAP-GTC."""

    backend: str
    user: str
    password: bytes = field(repr=False)
    asker: Asker


@dataclass(frozen=True, slots=True)
class EapQuestion:
    """An EAP response of the peer, to be passed through to a RADIUS server."""

    backend: str
    user: str
    """The identity that the peer gave in EAP, for User-Name."""
    packet: bytes = field(repr=False)
    state: bytes
    """The RADIUS State attribute of the former answer, empty at first."""
    asker: Asker


Question = PasswordQuestion | EapQuestion


@dataclass(frozen=True, slots=True)
class Accepted:
    """The user is who it says it is."""

    user: str
    groups: tuple[str, ...] = ()
    """Groups of the local user base, or Filter-Id and Class values of the RADIUS server."""
    eap: bytes = b""
    """EAP-Success to pass on, when the question was EAP."""
    msk: bytes = field(default=b"", repr=False)
    """The EAP method's key, 64 octets; empty when the method made none."""
    inner_address: IpAddress | None = None
    """Framed-IP-Address: the inner address that this user gets instead of one from a pool."""
    radius_class: tuple[bytes, ...] = ()
    """Class attributes, to be repeated in every accounting request."""
    session_timeout_s: float | None = None
    interim_interval_s: float | None = None
    inner_address6: IpAddress | None = None
    """Framed-IPv6-Address, beside ``inner_address``."""

    @property
    def inner_addresses(self) -> tuple[IpAddress, ...]:
        """Both."""
        both = (self.inner_address, self.inner_address6)
        return tuple(one for one in both if one is not None)


@dataclass(frozen=True, slots=True)
class Challenged:
    """The RADIUS server goes on with EAP."""

    eap: bytes = field(repr=False)
    state: bytes = b""


@dataclass(frozen=True, slots=True)
class Rejected:
    """The user is not let in."""

    reason: str
    """In an administrator's words; never sent to the peer."""
    eap: bytes = b""


@dataclass(frozen=True, slots=True)
class Unavailable:
    """Nobody could tell in time."""

    reason: str


Answer = Accepted | Challenged | Rejected | Unavailable


@dataclass(frozen=True, slots=True)
class Session:
    """A user's established session, for accounting."""

    session_id: str
    """Stays the same when the IKE SA is rekeyed."""
    backend: str
    user: str
    connection: str
    local: Endpoint
    remote: Endpoint
    inner_address: IpAddress | None
    radius_class: tuple[bytes, ...] = ()
    interim_interval_s: float | None = None
    inner_address6: IpAddress | None = None
    """A second one, of IPv6."""


@dataclass(frozen=True, slots=True)
class LocalUser:
    """A user of the local user base, as authentication methods need it."""

    name: str
    groups: tuple[str, ...] = ()
    nt_hash: bytes | None = field(default=None, repr=False)
    """MD4 of the UTF-16LE password, for MSCHAPv2; None when only a one-way hash is stored."""
    has_password: bool = True
    """Whether a :class:`PasswordQuestion` can be answered."""
