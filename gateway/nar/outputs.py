"""What the NAR server's engine wants done. Connections are numbers that the adapter is given."""

from dataclasses import dataclass, field

from gateway.domain.endpoint import Endpoint, IpAddress
from gateway.domain.event import Event
from gateway.domain.nar import L2tpSession, NarMapping, NarTuple
from gateway.domain.user_auth import PasswordQuestion
from gateway.nar.codec.numbers import SocksCommand


@dataclass(frozen=True, slots=True)
class Send:
    """Octets for the client of this connection."""

    connection: int
    data: bytes


@dataclass(frozen=True, slots=True)
class CloseConnection:
    """Send what waits, then end it. The engine has forgotten it already."""

    connection: int


@dataclass(frozen=True, slots=True)
class AskPassword:
    """Answer with :meth:`NarServer.user_answered`, exactly once."""

    ticket: int
    question: PasswordQuestion


@dataclass(frozen=True, slots=True)
class Resolve:
    """Look a name up, with a deadline; answer with :meth:`NarServer.resolved`, exactly once."""

    ticket: int
    name: str
    ipv6: bool
    """Whether IPv6 addresses are of use too."""


@dataclass(frozen=True, slots=True)
class OpenProxy:
    """Serve a plain SOCKS5 command; answer with :meth:`NarServer.proxy_opened` or ``proxy_failed``.

    CONNECT: open a TCP connection to one of ``targets`` and answer with our end of it.
    BIND: listen for a connection from one of ``targets``; answer twice.
    UDP ASSOCIATE: open a relay for datagrams of the client; ``targets`` is empty.
    """

    connection: int
    command: SocksCommand
    targets: tuple[IpAddress, ...]
    port: int
    rule: str
    """Name of the rule, for checks of further targets (:meth:`NarServer.may_relay_to`)."""


@dataclass(frozen=True, slots=True)
class StartRelay:
    """From now on this connection's octets are the application's; ``early`` came already."""

    connection: int
    early: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class SetMapping:
    """For the dataplane."""

    mapping: NarMapping


@dataclass(frozen=True, slots=True)
class RemoveMapping:
    """For the dataplane."""

    tuple: NarTuple


@dataclass(frozen=True, slots=True)
class SetL2tp:
    """For the dataplane."""

    session: L2tpSession


@dataclass(frozen=True, slots=True)
class RemoveL2tp:
    """For the dataplane."""

    session: L2tpSession


@dataclass(frozen=True, slots=True)
class HoldPort:
    """A leased port lies outside the server's ranges: keep it from the box's own sockets."""

    tuple: NarTuple


@dataclass(frozen=True, slots=True)
class FreePort:
    """Reverse of :class:`HoldPort`."""

    tuple: NarTuple


@dataclass(frozen=True, slots=True)
class Remember:
    """Write a session down, for the next process: ``record`` is for :meth:`NarServer.restore`."""

    key: str
    record: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Forget:
    """The session is over."""

    key: str


@dataclass(frozen=True, slots=True)
class LeaseOpened:
    """For the audit: who holds what from now on."""

    server: str
    user: str
    """Empty: needed no login."""
    client: Endpoint
    mapping: NarMapping
    wall_s: float
    """Seconds since 1970."""


@dataclass(frozen=True, slots=True)
class LeaseClosed:
    """For the audit: until when, and why."""

    server: str
    user: str
    client: Endpoint
    mapping: NarMapping
    wall_s: float
    reason: str


Output = (
    Send
    | CloseConnection
    | AskPassword
    | Resolve
    | OpenProxy
    | StartRelay
    | SetMapping
    | RemoveMapping
    | SetL2tp
    | RemoveL2tp
    | HoldPort
    | FreePort
    | Remember
    | Forget
    | LeaseOpened
    | LeaseClosed
    | Event
)
