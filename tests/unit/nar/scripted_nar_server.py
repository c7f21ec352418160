"""A NAR server of the test's own: it reads the client's octets and says what it is told to."""

from collections.abc import Callable
from ipaddress import IPv4Address

from gateway.nar.client.engine import NarClient
from gateway.nar.client.settings import NarClientSettings
from gateway.nar.client_outputs import Output, SendOctets
from gateway.nar.codec.associate import (
    IcmpAssociate,
    IcmpReply,
    IpsecAssociate,
    IpsecReply,
    TunnelAssociate,
    TunnelReply,
)
from gateway.nar.codec.leases import (
    NEW_SESSION,
    L2tpAssociate,
    L2tpReply,
    Release,
    ReleaseReply,
    Renew,
    RenewReply,
    Session,
    SessionReply,
)
from gateway.nar.codec.negotiation import MethodChoice, PasswordStatus
from gateway.nar.codec.numbers import Method, NarFlag, Reply, SocksCommand
from gateway.nar.codec.request import SocksReply, SocksRequest
from gateway.nar.codec.stream import ClientStream, Request

XA = IPv4Address("10.0.0.7")
NB = IPv4Address("192.0.2.1")
NEW_NB = IPv4Address("192.0.2.99")
YB = IPv4Address("198.51.100.5")
OTHER = IPv4Address("198.51.100.6")
TOKEN = b"T" * 16
OK = Reply.SUCCEEDED


class ServerDouble:
    """Joined with a client in memory; grants everything unless ``refuse`` says otherwise."""

    def __init__(self, settings: NarClientSettings | None = None) -> None:
        self.client = NarClient(settings or NarClientSettings(target=YB))
        self.now = 1000.0
        self.method: int | None = None
        self.password_status = 0
        self.flags: int | None = None
        """Of NAR-MODE's reply; None: those of the request."""
        self.address = NB
        self.tokens: set[bytes] = set()
        self.lease_s, self.grace_s = 600, 120
        self.next_port = 20_000
        self.next_spi = 0x4000_0000
        self.refuse: Callable[[Request], Reply] = lambda _: OK
        self.mute = False
        self.requests: list[Request] = []
        self.said: list[Output] = []
        self._stream = ClientStream()
        self._methods_done = self._login_done = False

    def connect(self) -> None:
        self._stream = ClientStream()
        self._methods_done = self._login_done = False
        self.client.start(XA, self.now)
        self._collect()

    def hang_up(self) -> None:
        self.client.disconnected(self.now)
        self._collect()

    def run(self) -> list[Output]:
        """Carry octets until nobody has any; what the client said since the last call."""
        self._collect()
        said, self.said = self.said, []
        return said

    def pass_time(self, seconds: float) -> list[Output]:
        """Let time go by, with every timer on the way."""
        until = self.now + seconds
        for _ in range(10_000):
            due = self.client.next_timer()
            if due is None or due > until:
                break
            self.now = max(self.now, due)
            self.client.handle_timer(self.now)
            self._collect()
        else:
            raise AssertionError("the client's timer is always due")
        self.now = until
        return self.run()

    def tell(self, octets: bytes) -> list[Output]:
        """Say something unasked."""
        self.client.received(octets, self.now)
        return self.run()

    def _collect(self) -> None:
        while outputs := self.client.outputs():
            for output in outputs:
                if isinstance(output, SendOctets):
                    self._hear(output.data)
                else:
                    self.said.append(output)

    def _hear(self, octets: bytes) -> None:
        if self.mute:
            return
        self._stream.feed(octets)
        if not self._methods_done:
            offer = self._stream.method_offer()
            if offer is None:
                return
            self._methods_done = True
            first = offer.methods[0] if self.method is None else self.method
            self._login_done = first != Method.PASSWORD
            self._reply(MethodChoice(first).to_octets())
            return
        if not self._login_done:
            if self._stream.password() is not None:
                self._login_done = True
                self._reply(PasswordStatus(self.password_status).to_octets())
            return
        while (request := self._stream.request(nar=True)) is not None:
            self.requests.append(request)
            self._reply(self.answer(request))

    def _reply(self, octets: bytes) -> None:
        self.client.received(octets, self.now)

    def answer(self, request: Request) -> bytes:
        """The reply's octets."""
        reply = self.refuse(request)
        match request:
            case SocksRequest(command=SocksCommand.NAR_MODE):
                flags = request.flags if self.flags is None else self.flags
                return SocksReply(reply, self.address, 0, flags).to_octets()
            case SocksRequest():
                self.next_port += 1
                return SocksReply(reply, self.address, self._port(request)).to_octets()
            case IcmpAssociate(identifier):
                return IcmpReply(reply, identifier or 0xC000).to_octets()
            case IpsecAssociate(protocol, spi):
                self.next_spi += 1
                return IpsecReply(reply, protocol, spi or self.next_spi).to_octets()
            case TunnelAssociate(inner, protocol):
                return TunnelReply(reply, inner, protocol).to_octets()
            case Session(token):
                return self._session(token, reply).to_octets()
            case Renew():
                return RenewReply(reply, self.lease_s).to_octets()
            case Release(key):
                return ReleaseReply(reply, key).to_octets()
            case L2tpAssociate():
                return L2tpReply(reply, 11, 12, 13, 14, b"client's", b"server's").to_octets()

    def _port(self, request: SocksRequest) -> int:
        wishes = request.command != SocksCommand.CONNECT and not request.flags
        return request.port if wishes and request.port >= 20_000 else self.next_port

    def _session(self, token: bytes, reply: Reply) -> SessionReply:
        if token not in (NEW_SESSION, *self.tokens):
            reply = Reply.NOT_ALLOWED
        if reply is not OK:
            return SessionReply(reply)
        if token == NEW_SESSION:
            token = bytes((len(self.tokens) + 1,)) * 16
            self.tokens.add(token)
        return SessionReply(OK, token, self.lease_s, self.grace_s)


def flags(*wanted: NarFlag) -> int:
    """As an octet."""
    return sum(wanted)
