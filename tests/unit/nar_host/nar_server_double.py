"""A small NAR server for tests of the client: one Nb, values counted upwards, no policy.

The real one is tested with the client too; this one can be told to misbehave, and runs where
there is no configuration.
"""

import asyncio
import sys
from ipaddress import IPv4Address
from ssl import SSLContext
from typing import Self

from gateway.domain.nar import Delivery, L2tpSession, NarProtocol
from gateway.domain.wire import WireError
from gateway.nar.codec.associate import (
    IcmpAssociate,
    IcmpReply,
    IpsecAssociate,
    IpsecReply,
    TunnelAssociate,
    TunnelReply,
)
from gateway.nar.codec.leases import (
    L2tpAssociate,
    L2tpReply,
    LeaseKey,
    NoticeMessage,
    Release,
    ReleaseReply,
    Renew,
    RenewReply,
    Session,
    SessionReply,
)
from gateway.nar.codec.negotiation import MethodChoice, PasswordStatus
from gateway.nar.codec.numbers import Method, NarFlag, Notice, Reply, SocksCommand
from gateway.nar.codec.request import SocksReply, SocksRequest
from gateway.nar.codec.stream import ClientStream, Request, ServerReply

FLAGS = {
    Delivery.IP_IP: NarFlag(0),
    Delivery.GRE: NarFlag.GRE,
    Delivery.L2TP: NarFlag.L2TP,
    Delivery.TRANSLATED: NarFlag.TRANSLATED,
}
NOWHERE = IPv4Address(0)
TOKEN = b"0123456789abcdef"
COOKIE, PEER_COOKIE = b"cookie-a", b"cookie-b"


class ServerDouble:
    """Attributes are switches that a test may set at any time."""

    def __init__(
        self,
        address: str = "192.0.2.1",
        *,
        password: bytes | None = None,
        impose: Delivery | None = None,
        first_port: int = 20_000,
    ) -> None:
        self.address = IPv4Address(address)
        self.password = password
        self.impose = impose
        self.lease_s, self.grace_s = 600, 120
        self.first_port = first_port
        self.taken: set[tuple[NarProtocol, int]] = set()
        """(protocol, value) of every lease there is, and of what is not to be lent."""
        self.any_remote = True
        self.shared_with: set[IPv4Address] = set()
        """For these remotes any port is granted, whoever has it towards others."""
        self.refuse_tunnels = False
        self.requests: list[object] = []
        self.writers: set[asyncio.StreamWriter] = set()
        self.server: asyncio.Server
        self.port = 0

    async def open(
        self, host: str = "127.0.0.1", port: int = 0, ssl: SSLContext | None = None
    ) -> Self:
        self.server = await asyncio.start_server(self._serve, host, port, ssl=ssl)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def close(self) -> None:
        self.server.close()
        self.drop()

    def drop(self) -> None:
        """All connections break."""
        for writer in list(self.writers):
            writer.transport.abort()

    def notice(
        self, reason: Notice, address: IPv4Address = NOWHERE, key: LeaseKey | None = None
    ) -> None:
        for writer in self.writers:
            writer.write(NoticeMessage(reason, address, key).to_octets())

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.add(writer)
        client = IPv4Address(writer.get_extra_info("peername")[0])
        try:
            await self._talk(reader, writer, client)
        except (WireError, OSError):
            pass
        finally:
            self.writers.discard(writer)
            writer.close()

    async def _talk(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, client: IPv4Address
    ) -> None:
        stream, step, nar = ClientStream(), "offer", False
        while data := await reader.read(4096):
            stream.feed(data)
            while True:
                if step == "offer":
                    offer = stream.method_offer()
                    if offer is None:
                        break
                    step = "request" if self.password is None else "password"
                    method = Method.NONE if self.password is None else Method.PASSWORD
                    if method not in offer.methods:
                        writer.write(MethodChoice(Method.UNACCEPTABLE).to_octets())
                        return
                    writer.write(MethodChoice(method).to_octets())
                elif step == "password":
                    login = stream.password()
                    if login is None:
                        break
                    good = (login.user, login.password) == ("ann", self.password)
                    writer.write(PasswordStatus(0 if good else 1).to_octets())
                    if not good:
                        return
                    step = "request"
                else:
                    request = stream.request(nar=nar)
                    if request is None:
                        break
                    nar = True
                    self.requests.append(request)
                    writer.write(self._reply(request, client).to_octets())

    def _lend(self, protocol: NarProtocol, wish: int, low: int) -> int:
        value = wish or low
        while (protocol, value) in self.taken:
            value = low if value < low else value + 1
        self.taken.add((protocol, value))
        return value

    def _reply(self, request: Request, client: IPv4Address) -> ServerReply:
        match request:
            case SocksRequest(command=SocksCommand.NAR_MODE):
                flags = NarFlag(request.flags) & NarFlag.LEASES
                asked = NarFlag(request.flags) & ~NarFlag.LEASES
                flags |= asked if self.impose is None else FLAGS[self.impose]
                return SocksReply(Reply.SUCCEEDED, self.address, 0, flags)
            case SocksRequest():
                return self._ports(request)
            case IcmpAssociate():
                value = self._lend(NarProtocol.ICMP, request.identifier, 49_152)
                return IcmpReply(Reply.SUCCEEDED, value)
            case IpsecAssociate():
                value = self._lend(NarProtocol.ESP, request.spi, 0x4000_0001)
                return IpsecReply(Reply.SUCCEEDED, request.protocol, value)
            case TunnelAssociate():
                if self.refuse_tunnels:
                    return TunnelReply(Reply.NOT_ALLOWED)
                return TunnelReply(Reply.SUCCEEDED, request.inner, request.protocol)
            case Session():
                return SessionReply(Reply.SUCCEEDED, TOKEN, self.lease_s, self.grace_s)
            case Renew():
                return RenewReply(Reply.SUCCEEDED, self.lease_s)
            case Release():
                if request.key is None:
                    self.taken.clear()
                else:
                    protocol = request.key.protocol
                    if protocol is NarProtocol.AH:
                        protocol = NarProtocol.ESP
                    self.taken.discard((protocol, request.key.value))
                return ReleaseReply(Reply.SUCCEEDED, request.key)
            case L2tpAssociate():
                session = L2tpSession(client, 11, 21, 12, 22, COOKIE, PEER_COOKIE)
                return L2tpReply.of(session)
        raise WireError("unexpected")

    def _ports(self, request: SocksRequest) -> SocksReply:
        udp = request.command == SocksCommand.UDP_ASSOCIATE
        exact = request.command == SocksCommand.CONNECT
        if not (self.any_remote or udp or request.address != IPv4Address(0)):
            return SocksReply(Reply.NOT_ALLOWED)
        protocol = NarProtocol.UDP if udp else NarProtocol.TCP
        wish = 0 if exact else request.port
        if wish and request.address in self.shared_with:
            return SocksReply(Reply.SUCCEEDED, self.address, wish)
        return SocksReply(
            Reply.SUCCEEDED, self.address, self._lend(protocol, wish, self.first_port)
        )


async def serve(host: str, port: str, address: str) -> None:
    double = await ServerDouble(address).open(host, int(port))
    print("ready", flush=True)
    await double.server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(*sys.argv[1:4]))
