"""What all parts of the NAR server share: policy, tables, timers and outputs."""

from collections import Counter
from collections.abc import Callable
from ipaddress import IPv4Address
from typing import Final

from gateway.domain.event import Event, Severity
from gateway.domain.log import RateLimit, with_suppressed
from gateway.domain.nar import NarTuple
from gateway.domain.timers import Timers
from gateway.nar.outputs import CloseConnection, Output, Send
from gateway.nar.policy import NarServerPolicy
from gateway.nar.server.connections import Connection, Connections, Step
from gateway.nar.server.l2tp import L2tpSessions
from gateway.nar.server.leases import Lease
from gateway.nar.server.sessions import Session, Sessions
from gateway.nar.server.space import AddressSpace, never_leased
from gateway.nar.server.targets import Forbidden
from gateway.nar.service import Occupied

ANSWER_WITHIN_S: Final = 60.0
"""Adapters answer sooner; a connection whose question was lost does not stay for ever."""

MAX_SHARED: Final = 1024
"""Addresses of peers of which one object is kept."""

Timed = Connection | Session | Lease
"""What has a deadline, one at most. Connections: the handshake, a question, idling. Sessions: the
lease time while connected, the grace period when lost. Leases: the longest time of their rule."""


class Core:
    """The state of one NAR server."""

    __slots__ = (
        "_addresses",
        "connections",
        "counters",
        "forbidden",
        "l2tp",
        "leases",
        "limit",
        "never_ports",
        "now",
        "occupied",
        "outputs",
        "policy",
        "random",
        "rules",
        "sessions",
        "spaces",
        "stopped",
        "tickets",
        "timers",
        "visiting",
        "wall_clock",
        "wall_offset",
    )

    def __init__(
        self,
        policy: NarServerPolicy,
        random: Callable[[int], bytes],
        wall_clock: Callable[[], float],
        occupied: Occupied,
    ) -> None:
        self.random = random
        self.wall_clock = wall_clock
        self.occupied = occupied
        self.visiting: Callable[[NarTuple], bool] = lambda _: False
        """Whether a mobile node of a foreign agent has tunnels of this tuple."""
        self.outputs: list[Output] = []
        self.counters: Counter[str] = Counter()
        """What happened, by the names of events and of refusals."""
        self.timers: Timers[Timed] = Timers()
        self.limit = RateLimit()
        self.connections = Connections()
        self.sessions = Sessions()
        self.spaces: dict[IPv4Address, AddressSpace] = {}
        self.leases = 0
        self.l2tp = L2tpSessions(random)
        self.tickets: dict[int, Connection] = {}
        """Questions that wait for an answer."""
        self._addresses: dict[int, IPv4Address] = {}
        self.now = 0.0
        self.wall_offset = 0.0
        self.stopped = False
        self.use(policy)

    def use(self, policy: NarServerPolicy) -> None:
        """Take a policy for everything that comes; what is there is not looked at."""
        self.policy = policy
        self.forbidden = Forbidden(policy)
        self.never_ports = never_leased(policy)
        self.rules = {rule.name: rule for rule in policy.rules}

    def at(self, now: float) -> None:
        """The time of everything that is done until the next call."""
        self.now = now
        self.wall_offset = self.wall_clock() - now

    @property
    def wall_s(self) -> float:
        """Seconds since 1970, now."""
        return self.now + self.wall_offset

    def space(self, address: IPv4Address) -> AddressSpace:
        """The leases at one of our addresses."""
        space = self.spaces.get(address)
        if space is None:
            space = self.spaces[address] = AddressSpace(address, self.policy)
        return space

    def find(self, key: NarTuple) -> Lease | None:
        """The lease of this tuple."""
        space = self.spaces.get(key.address)
        return None if space is None else space.find(key)

    def shared(self, address: IPv4Address) -> IPv4Address:
        """An equal address, the same object for all that is stored: peers are often the same."""
        number = int(address)
        found = self._addresses.get(number)
        if found is None:
            if len(self._addresses) >= MAX_SHARED:
                self._addresses.clear()
            found = self._addresses[number] = address
        return found

    def send(self, connection: Connection, data: bytes) -> None:
        """Say something to a client."""
        self.outputs.append(Send(connection.number, data))

    def ask(self, connection: Connection) -> int:
        """A ticket for a question; the connection waits for its answer."""
        number = connection.number
        connection.ticket = number
        self.tickets[number] = connection
        self.timers.set(connection, self.now + ANSWER_WITHIN_S)
        return number

    def answered(self, ticket: int) -> Connection | None:
        """Whose question it was; None when the connection is gone, or was answered."""
        connection = self.tickets.pop(ticket, None)
        if connection is not None:
            connection.ticket = 0
            self.timers.set(connection, self.now + self.policy.handshake_s)
        return connection

    def forget(self, connection: Connection) -> None:
        """End a connection in our tables; its session is not looked at."""
        connection.advance(Step.CLOSE)
        connection.stream = None
        connection.asked = None
        self.timers.cancel(connection)
        self.tickets.pop(connection.ticket, None)
        connection.ticket = 0
        self.connections.remove(connection)
        owner = connection.owner
        if owner is not None:
            connection.owner = None
            owner.connections -= 1
            self.sessions.let_go(owner)

    def close(self, connection: Connection) -> None:
        """End a connection whose session is somebody else's, or none."""
        self.forget(connection)
        self.outputs.append(CloseConnection(connection.number))

    def tell(
        self, name: str, text: str, severity: Severity = Severity.INFO, **fields: object
    ) -> None:
        """Report; beyond a few a second, without a line in the log."""
        self.counters[name] += 1
        suppressed = self.limit.admit(name, self.now)
        line = text if suppressed is None else with_suppressed(text, suppressed)
        facts = {"server": self.policy.name, **fields}
        self.outputs.append(Event(name, line, severity, facts, suppressed is not None))

    def hint(
        self, name: str, text: str, severity: Severity = Severity.WARNING, **fields: object
    ) -> None:
        """Report what a client did; a flood of it does not even make events."""
        self.counters[name] += 1
        suppressed = self.limit.admit(name, self.now)
        if suppressed is not None:
            facts = {"server": self.policy.name, **fields}
            self.outputs.append(Event(name, with_suppressed(text, suppressed), severity, facts))
