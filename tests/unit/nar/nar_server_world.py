"""A NAR server with its surroundings in memory: clients, dataplane, store, audit, time."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Network

from gateway.domain.endpoint import Endpoint, IpAddress
from gateway.domain.event import Event
from gateway.domain.nar import L2tpSession, NarMapping, NarProtocol, NarTuple
from gateway.domain.user_auth import Accepted, Answer, PasswordQuestion, Rejected
from gateway.nar.codec.associate import IcmpAssociate, IpsecAssociate, TunnelAssociate
from gateway.nar.codec.leases import NEW_SESSION, L2tpAssociate, LeaseKey, Release, Renew
from gateway.nar.codec.leases import Session as SessionRequest
from gateway.nar.codec.negotiation import MethodOffer, PasswordRequest
from gateway.nar.codec.numbers import NarCommand, NarFlag, SocksCommand
from gateway.nar.codec.request import SocksRequest
from gateway.nar.codec.stream import ServerMessage, ServerStream
from gateway.nar.outputs import (
    AskPassword,
    CloseConnection,
    Forget,
    FreePort,
    HoldPort,
    LeaseClosed,
    LeaseOpened,
    OpenProxy,
    Remember,
    RemoveL2tp,
    RemoveMapping,
    Resolve,
    Send,
    SetL2tp,
    SetMapping,
    StartRelay,
)
from gateway.nar.policy import NarRule, NarServerPolicy
from gateway.nar.server.engine import NarServer

NA = IPv4Address("10.0.0.1")
NB = IPv4Address("192.0.2.1")
NB2 = IPv4Address("192.0.2.2")
XA = IPv4Address("10.0.0.7")
XA2 = IPv4Address("10.0.0.8")
YB = IPv4Address("198.51.100.5")
YB2 = IPv4Address("198.51.100.6")
ANY = IPv4Address(0)
LOCAL = Endpoint(NA, 1080)
LEASES = NarFlag.LEASES
PASSWORD = b"correct horse"

RULE = NarRule("staff", ports=(range(8080, 8081), range(443, 444)), proxy=True)
POLICY = NarServerPolicy(
    "soho",
    NA,
    (NB,),
    ports=(range(20_000, 20_100),),
    rules=(RULE,),
    trusted=(IPv4Network("10.0.0.0/8"),),
)
LOGIN = replace(POLICY, trusted=(), backend="local", require_tls=False)
"""The same, for users only."""


@dataclass
class World:
    policy: NarServerPolicy = POLICY
    seed: int = 1
    now: float = 1000.0
    wall_s: float = 1_700_000_000.0
    busy: set[tuple[NarProtocol, int]] = field(default_factory=set)
    """What the box itself uses."""
    records: dict[str, bytes] = field(default_factory=dict)
    users: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Names and groups of who may log in, with PASSWORD."""
    timeout_s: float | None = None
    """How long a login lasts."""
    names: dict[str, Sequence[IpAddress]] = field(default_factory=dict)
    answers: bool = True
    """Questions are answered at once."""

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.table: dict[NarTuple, NarMapping] = {}
        """What the dataplane has."""
        self.l2tp: dict[IPv4Address, L2tpSession] = {}
        self.held: set[NarTuple] = set()
        self.audit: dict[NarTuple, LeaseOpened] = {}
        """Leases without an end in the audit."""
        self.closed: list[LeaseClosed] = []
        self.events: list[Event] = []
        self.questions: list[AskPassword | Resolve] = []
        self.proxied: list[OpenProxy] = []
        self.relayed: list[StartRelay] = []
        self.clients: dict[int, Client] = {}
        self.start()

    def start(self) -> None:
        """A new process, with what is in the store."""
        self.server = NarServer(
            self.policy,
            random=self.random.randbytes,
            wall_clock=lambda: self.wall_s + self.now,
            occupied=lambda protocol, _, value: (protocol, value) in self.busy,
        )

    def restart(self, policy: NarServerPolicy | None = None, *, away_s: float = 5.0) -> None:
        """Stop, and come back with what was remembered; the dataplane keeps its table."""
        self.server.stopping(self.now)
        self.pump()
        self.clients.clear()
        self.now += away_s
        self.policy = policy or self.server.policy
        before, self.table = self.table, {}
        self.l2tp.clear()
        self.held.clear()
        self.start()
        self.server.restore(list(self.records.values()), self.now)
        self.pump()
        self.kernel_before = before

    def pump(self) -> None:
        """Carry out what the engine wants."""
        while True:
            outputs = self.server.outputs()
            if not outputs:
                return
            for output in outputs:
                self._do(output)

    def _do(self, output: object) -> None:
        match output:
            case Send(number, data):
                self.clients[number].hear(data)
            case CloseConnection(number):
                assert not self.clients[number].closed, "closed twice"
                self.clients[number].closed = True
            case SetMapping(mapping):
                assert mapping.delivery.value != "l2tp" or mapping.client in self.l2tp
                self.table[mapping.tuple] = mapping
            case RemoveMapping(key):
                self.table.pop(key, None)
            case SetL2tp(session):
                self.l2tp[session.client] = session
            case RemoveL2tp(session):
                assert self.l2tp.pop(session.client) == session
            case HoldPort(key):
                assert key not in self.held
                self.held.add(key)
            case FreePort(key):
                self.held.remove(key)
            case Remember(key, record):
                self.records[key] = record
            case Forget(key):
                del self.records[key]
            case LeaseOpened():
                assert output.mapping.tuple not in self.audit
                self.audit[output.mapping.tuple] = output
            case LeaseClosed():
                del self.audit[output.mapping.tuple]
                self.closed.append(output)
            case Event():
                self.events.append(output)
            case OpenProxy():
                self.proxied.append(output)
            case StartRelay():
                self.relayed.append(output)
            case AskPassword() | Resolve():
                self.questions.append(output)
                if self.answers:
                    self.answer()
            case _:
                raise AssertionError(output)

    def answer(self) -> None:
        """Answer the oldest question."""
        question = self.questions.pop(0)
        if isinstance(question, Resolve):
            found = self.names.get(question.name, ())
            self.server.resolved(question.ticket, found, self.now)
            return
        self.server.user_answered(question.ticket, self._login(question.question), self.now)

    def _login(self, question: PasswordQuestion) -> Answer:
        if question.user in self.users and question.password == PASSWORD:
            return Accepted(
                question.user, self.users[question.user], session_timeout_s=self.timeout_s
            )
        return Rejected("wrong password")

    def pass_time(self, seconds: float) -> None:
        """Let time pass, timer by timer."""
        until = self.now + seconds
        while True:
            due = self.server.next_timer()
            if due is None or due > until:
                break
            self.now = max(self.now, due)
            self.server.handle_timer(self.now)
            self.pump()
        self.now = until

    def dial(
        self, address: IPv4Address | str = XA, port: int = 40_000, *, tls: bool = False
    ) -> "Client | None":
        """A connection, if the server takes it."""
        endpoint = Endpoint(IPv4Address(address), port)
        number = self.server.connected(endpoint, LOCAL, self.now, tls=tls)
        if number is None:
            self.pump()
            return None
        client = self.clients[number] = Client(self, number, endpoint)
        self.pump()
        return client

    def client(
        self,
        address: IPv4Address | str = XA,
        *,
        target: IPv4Address = YB,
        flags: int = 0,
        user: str = "",
        port: int = 40_000,
    ) -> "Client":
        """A client in NAR mode."""
        client = self.dial(address, port)
        assert client is not None
        client.login(user)
        client.nar_mode(target, flags)
        return client

    def why(self) -> str:
        """The text of the last event."""
        return self.events[-1].text


class Client:
    """The client's end of a control connection; replies are taken in the order they come."""

    def __init__(self, world: World, number: int, endpoint: Endpoint) -> None:
        self.world = world
        self.number = number
        self.endpoint = endpoint
        self.heard = b""
        self.stream = ServerStream()
        self.notices: list[ServerMessage] = []
        self.closed = False

    def hear(self, data: bytes) -> None:
        assert not self.closed, "said something after the end"
        self.heard += data

    def say(self, data: bytes) -> bytes:
        """Send octets; what came back."""
        self.heard = b""
        self.world.server.received(self.number, data, self.world.now)
        self.world.pump()
        return self.heard

    def hang_up(self) -> None:
        self.world.server.disconnected(self.number, self.world.now)
        self.world.pump()
        self.closed = True

    def login(self, user: str = "") -> None:
        if not user:
            assert self.say(MethodOffer(b"\x00").to_octets()) == b"\x05\x00"
            return
        assert self.say(MethodOffer(b"\x02").to_octets()) == b"\x05\x02"
        assert self.say(PasswordRequest(user, PASSWORD).to_octets()) == b"\x01\x00"

    def ask(self, octets: bytes, command: int) -> ServerMessage:
        """Send a command; its reply. Notices are put aside."""
        self.say(octets)
        return self.take(command)

    def take(self, command: int) -> ServerMessage:
        self.stream.feed(self.heard)
        self.heard = b""
        while True:
            message = self.stream.message(command)
            assert message is not None, "no reply"
            if not hasattr(message, "reason"):
                self.collect()
                return message
            self.notices.append(message)

    def collect(self) -> list[ServerMessage]:
        """All notices so far."""
        self.stream.feed(self.heard)
        self.heard = b""
        while len(self.stream):
            message = self.stream.message(None)
            assert message is not None
            self.notices.append(message)
        return self.notices

    def socks(
        self, command: int, address: IpAddress | str = ANY, port: int = 0, flags: int = 0
    ) -> ServerMessage:
        octets = SocksRequest(command, address, port, flags).to_octets()
        return self.ask(octets, SocksCommand.CONNECT)

    def nar_mode(self, target: IpAddress | str = YB, flags: int = 0) -> ServerMessage:
        return self.socks(SocksCommand.NAR_MODE, target, 0, flags)

    def connect(self, address: IpAddress | str = YB, port: int = 443) -> ServerMessage:
        return self.socks(SocksCommand.CONNECT, address, port)

    def bind(self, port: int = 0, address: IpAddress | str = ANY) -> ServerMessage:
        return self.socks(SocksCommand.BIND, address, port)

    def udp(
        self, port: int = 0, address: IpAddress | str = ANY, *, remote: bool = False
    ) -> ServerMessage:
        return self.socks(SocksCommand.UDP_ASSOCIATE, address, port, int(remote))

    def icmp(self, identifier: int = 0) -> ServerMessage:
        return self.ask(IcmpAssociate(identifier).to_octets(), NarCommand.ICMP_ASSOCIATE)

    def ipsec(self, protocol: int = 50, spi: int = 0) -> ServerMessage:
        return self.ask(IpsecAssociate(protocol, spi).to_octets(), NarCommand.IPSEC_ASSOCIATE)

    def tunnel(self, inner: str = "172.16.0.9", protocol: int = 4) -> ServerMessage:
        octets = TunnelAssociate(IPv4Address(inner), protocol).to_octets()
        return self.ask(octets, NarCommand.TUNNEL_ASSOCIATE)

    def session(self, token: bytes = NEW_SESSION) -> ServerMessage:
        return self.ask(SessionRequest(token).to_octets(), NarCommand.SESSION)

    def renew(self) -> ServerMessage:
        return self.ask(Renew().to_octets(), NarCommand.RENEW)

    def release(self, key: NarTuple | None = None) -> ServerMessage:
        octets = Release(None if key is None else LeaseKey.of(key)).to_octets()
        return self.ask(octets, NarCommand.RELEASE)

    def l2tp(self) -> ServerMessage:
        return self.ask(L2tpAssociate().to_octets(), NarCommand.L2TP_ASSOCIATE)

    @property
    def mappings(self) -> list[NarMapping]:
        """What the dataplane has for this client's address."""
        return [one for one in self.world.table.values() if one.client == self.endpoint.address]


def overlap(one: NarTuple, other: NarTuple) -> bool:
    """Whether a packet exists that matches both, by section 2.6 and nothing else.

    TCP: source, source port, destination port, destination. UDP: the same without the source.
    ICMP: source, identifier, destination. ESP and AH: protocol, SPI, destination. Tunnels: inner
    destination, source, destination.
    """
    if one.protocol != other.protocol or one.address != other.address or one.value != other.value:
        return False
    if one.protocol is NarProtocol.UDP:
        pairs = [(one.remote_port, other.remote_port)]
    elif one.protocol is NarProtocol.TCP:
        pairs = [(one.remote, other.remote), (one.remote_port, other.remote_port)]
    elif one.protocol in (NarProtocol.ESP, NarProtocol.AH):
        pairs = []
    else:
        pairs = [(one.remote, other.remote)]
    return all(a is None or b is None or a == b for a, b in pairs)


def collide(one: NarMapping, other: NarMapping) -> bool:
    """Whether two mappings cannot be at the same time: they overlap, or share what they may not.

    SPIs of different clients are unique over ESP and AH; a port that somebody has for every remote
    is its client's.
    """
    a, b = one.tuple, other.tuple
    if overlap(a, b):
        return True
    ipsec = (NarProtocol.ESP, NarProtocol.AH)
    if a.address != b.address or a.value != b.value:
        return False
    if a.protocol in ipsec and b.protocol in ipsec:
        return one.client != other.client
    if a.protocol != b.protocol or one.client == other.client:
        return False
    wild = [
        (key.protocol is NarProtocol.TCP and (key.remote is None or key.remote_port is None))
        or (key.protocol is NarProtocol.UDP and key.remote_port is None)
        for key in (a, b)
    ]
    return any(wild)
