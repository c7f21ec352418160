"""Control connections: what each is in the middle of, and how many there may be."""

import enum
from collections import Counter
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from gateway.domain.endpoint import Endpoint, IpAddress
from gateway.domain.nar import Delivery
from gateway.nar.codec.request import SocksRequest
from gateway.nar.codec.stream import MAX_WAITING_BEFORE_LOGIN, ClientStream
from gateway.nar.policy import NarRule
from gateway.nar.server.sessions import Owner, Session

NO_CLIENT: Final = IPv4Address(0)
"""Of a connection over IPv6, which can have no leases."""


class State(enum.Enum):
    """What a connection is in the middle of."""

    NEGOTIATING = "negotiating"
    """The offer of methods is to come (RFC 1928 section 3)."""
    AUTHENTICATING = "authenticating"
    """User name and password are to come, or being looked at (RFC 1929)."""
    READY = "ready"
    """The first command is to come."""
    NAR = "nar"
    """In NAR mode: any number of commands (draft 004 section 3.1)."""
    PROXYING = "proxying"
    """A plain SOCKS5 command is being carried out."""
    RELAYING = "relaying"
    """Its octets are the application's."""
    CLOSED = "closed"


class Step(enum.Enum):
    """What takes a connection from one state to another."""

    NO_LOGIN_NEEDED = "no login needed"
    LOGIN_NEEDED = "login needed"
    LOGGED_IN = "logged in"
    NAR_MODE = "nar mode"
    PROXY = "proxy"
    RELAY = "relay"
    CLOSE = "close"


TRANSITIONS: Final[dict[tuple[State, Step], State]] = {
    (State.NEGOTIATING, Step.NO_LOGIN_NEEDED): State.READY,
    (State.NEGOTIATING, Step.LOGIN_NEEDED): State.AUTHENTICATING,
    (State.AUTHENTICATING, Step.LOGGED_IN): State.READY,
    (State.READY, Step.NAR_MODE): State.NAR,
    (State.NAR, Step.NAR_MODE): State.NAR,
    (State.READY, Step.PROXY): State.PROXYING,
    (State.PROXYING, Step.RELAY): State.RELAYING,
    **{(state, Step.CLOSE): State.CLOSED for state in State},
}
"""All there are; anything else is refused."""

LOGGED_IN: Final = frozenset({State.READY, State.NAR, State.PROXYING, State.RELAYING})


class CommandStream(ClientStream):
    """What a client says; error replies have to be of the format of the request."""

    __slots__ = ()

    @property
    def version(self) -> int:
        """The first octet that waits; 0: there is none."""
        return self._waiting[0] if self._waiting else 0

    @property
    def command(self) -> int:
        """The second one."""
        return self._waiting[1] if len(self._waiting) > 1 else 0


class Connection:
    """One control connection. Small: ten thousand of them may idle."""

    __slots__ = (
        "address",
        "asked",
        "bound",
        "client",
        "delivery",
        "groups",
        "knows_leases",
        "local",
        "number",
        "owner",
        "rule",
        "session",
        "since_wall_s",
        "state",
        "stream",
        "target",
        "ticket",
        "tls",
        "until",
        "xa",
    )

    def __init__(self, number: int, client: Endpoint, local: Endpoint, *, tls: bool) -> None:
        self.number = number
        self.client = client
        self.local = local
        self.tls = tls
        self.xa = client.address if isinstance(client.address, IPv4Address) else NO_CLIENT
        """The client's address of every mapping: no message can say another."""
        self.state = State.NEGOTIATING
        self.stream: CommandStream | None = None
        """What came and is not read yet; None: nothing."""
        self.owner: Owner | None = None
        self.groups: tuple[str, ...] = ()
        self.rule: NarRule | None = None
        self.target: IPv4Address | None = None
        """Yb of NAR-MODE, None for any."""
        self.address: IPv4Address = NO_CLIENT
        """Nb, as the client was told."""
        self.delivery = Delivery.IP_IP
        self.knows_leases = False
        self.session: Session | None = None
        self.ticket = 0
        """Of the one question that waits for an answer; 0: none."""
        self.asked: SocksRequest | None = None
        """What goes on when its name is resolved, or what the proxy is carrying out."""
        self.bound = False
        """The first answer to BIND was given."""
        self.since_wall_s = 0.0
        self.until: float | None = None
        """When the login ends (RADIUS Session-Timeout), and all leases of it."""

    def __str__(self) -> str:
        user = "" if self.owner is None else self.owner.user
        return f"client {self.client.address} ({user})" if user else f"client {self.client.address}"

    def may(self, step: Step) -> bool:
        """Whether this step leads anywhere from here."""
        return (self.state, step) in TRANSITIONS

    def advance(self, step: Step) -> bool:
        """Go on to the next state: the one place where it changes. False: not from here."""
        state = TRANSITIONS.get((self.state, step))
        if state is None:
            return False
        self.state = state
        return True

    def feed(self, data: bytes, limit: int) -> int:
        """Take octets in, as many as fit into ``limit`` that wait; how many that were."""
        if self.stream is None:
            self.stream = CommandStream()
        self.stream.limit = max(limit, MAX_WAITING_BEFORE_LOGIN)
        fits = data[: self.stream.limit - len(self.stream)]
        self.stream.feed(fits)
        return len(fits)


class Connections:
    """All of them, counted by source."""

    __slots__ = ("_by_source", "_last", "by_number")

    def __init__(self) -> None:
        self.by_number: dict[int, Connection] = {}
        self._by_source: Counter[IpAddress] = Counter()
        self._last = 0

    def __len__(self) -> int:
        return len(self.by_number)

    def from_source(self, source: IpAddress) -> int:
        """How many there are from this address; of IPv6 from its /64."""
        return self._by_source[_source(source)]

    def add(self, client: Endpoint, local: Endpoint, *, tls: bool) -> Connection:
        """Enter a new one."""
        self._last += 1
        connection = Connection(self._last, client, local, tls=tls)
        self.by_number[self._last] = connection
        self._by_source[_source(client.address)] += 1
        return connection

    def remove(self, connection: Connection) -> None:
        """Take one out."""
        if self.by_number.pop(connection.number, None) is None:
            return
        source = _source(connection.client.address)
        self._by_source[source] -= 1
        if self._by_source[source] <= 0:
            del self._by_source[source]


def _source(address: IpAddress) -> IpAddress:
    """A host may have 2**64 IPv6 addresses: they count as one."""
    if isinstance(address, IPv6Address):
        return IPv6Address(int(address) >> 64 << 64)
    return address
