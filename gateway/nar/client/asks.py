"""What is asked for a lease, and which lease a reply makes of it."""

from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final

from gateway.domain.nar import Delivery, NarProtocol, NarTuple
from gateway.domain.wire import WireError
from gateway.nar.client.settings import ANY
from gateway.nar.client_outputs import Lease
from gateway.nar.codec.associate import (
    IcmpAssociate,
    IcmpReply,
    IpsecAssociate,
    IpsecReply,
    TunnelAssociate,
    TunnelReply,
)
from gateway.nar.codec.numbers import NarCommand, SocksCommand
from gateway.nar.codec.request import SocksReply, SocksRequest
from gateway.nar.codec.stream import ServerReply

REMOTE_PORT: Final = 0x01
"""RSV of UDP ASSOCIATE with leases: DST is the remote endpoint, not our wish."""
FIRST_SPI: Final = 256
"""Lower ones are reserved (RFC 4303 section 2.1)."""


@dataclass(frozen=True, slots=True)
class Mode:
    """What NAR-MODE agreed on."""

    target: IPv4Address | str
    address: IPv4Address
    delivery: Delivery


@dataclass(frozen=True, slots=True)
class Ask:
    """One request for a lease."""

    protocol: NarProtocol
    request: SocksRequest | IcmpAssociate | IpsecAssociate | TunnelAssociate
    command: int
    remote: IPv4Address | None = None
    remote_port: int | None = None
    wish: int = 0
    """TCP, UDP: the port we would like."""
    peer: IPv4Address | None = None
    target: IPv4Address | str | None = None
    """NAR-MODE has to have this target; None: the request says it all."""

    @property
    def needs_leases(self) -> bool:
        """Whether it is part of the extension: other servers would understand something else."""
        return isinstance(self.request, SocksRequest) and self.request.flags == REMOTE_PORT

    def lease(self, reply: ServerReply, mode: Mode) -> Lease:
        """What a successful ``reply`` lends us.

        Raises:
            WireError: it does not fit the request, or lends what nobody may have.
        """
        value = self._value(reply, mode)
        key = NarTuple(self.protocol, mode.address, value, self.remote, self.remote_port)
        translated = mode.delivery is Delivery.TRANSLATED
        client_port = self.wish if translated and self.wish != value else 0
        return Lease(key, mode.delivery, client_port, self.peer)

    def _value(self, reply: ServerReply, mode: Mode) -> int:
        if isinstance(reply, SocksReply):
            if reply.address != mode.address or reply.port == 0:
                raise WireError(f"a lease of another address than {mode.address}, or of port 0")
            return reply.port
        if isinstance(reply, IcmpReply):
            return reply.identifier
        if isinstance(reply, IpsecReply):
            if reply.protocol != self.protocol or reply.spi < FIRST_SPI:
                raise WireError(f"SPI {reply.spi} of protocol {reply.protocol}")
            return reply.spi
        if isinstance(reply, TunnelReply) and isinstance(self.request, TunnelAssociate):
            asked = (self.request.inner, self.request.protocol)
            if (reply.inner, reply.protocol) == asked:
                return int(reply.inner)
        raise WireError("another lease than the one asked for")


def ask_tcp(remote: IPv4Address, remote_port: int) -> Ask:
    """CONNECT: one remote endpoint."""
    request = SocksRequest(SocksCommand.CONNECT, _some(remote), _port(remote_port))
    return Ask(
        NarProtocol.TCP, request, SocksCommand.CONNECT, remote, remote_port or None, peer=remote
    )


def ask_tcp_server(port: int, remote: IPv4Address | None) -> Ask:
    """BIND: connections from ``remote``, or anybody."""
    request = SocksRequest(SocksCommand.BIND, remote or ANY, _wish(port))
    return Ask(NarProtocol.TCP, request, SocksCommand.BIND, remote, wish=port, peer=remote)


def ask_udp(port: int, peer: IPv4Address | None, target: IPv4Address | str | None) -> Ask:
    """UDP ASSOCIATE: a port of our own; without ``peer`` the peer is ``target``."""
    request = SocksRequest(SocksCommand.UDP_ASSOCIATE, peer or ANY, _wish(port))
    named = peer or (target if isinstance(target, IPv4Address) and target != ANY else None)
    return Ask(
        NarProtocol.UDP,
        request,
        SocksCommand.UDP_ASSOCIATE,
        wish=port,
        peer=named,
        target=None if peer else target,
    )


def ask_udp_to(remote: IPv4Address, remote_port: int) -> Ask:
    """UDP ASSOCIATE for what comes from ``remote_port``, whatever its source address."""
    request = SocksRequest(
        SocksCommand.UDP_ASSOCIATE, _some(remote), _port(remote_port), REMOTE_PORT
    )
    return Ask(
        NarProtocol.UDP,
        request,
        SocksCommand.UDP_ASSOCIATE,
        remote_port=remote_port,
        peer=remote,
    )


def ask_icmp(identifier: int, target: IPv4Address | str) -> Ask:
    """ICMP-ASSOCIATE."""
    if not 0 <= identifier <= 0xFFFF:
        raise ValueError(f"ICMP identifier {identifier}; 0 (any) to 65535 are possible")
    remote = _one_peer(target)
    request = IcmpAssociate(identifier)
    command = NarCommand.ICMP_ASSOCIATE
    return Ask(NarProtocol.ICMP, request, command, remote, peer=remote, target=remote)


def ask_spi(protocol: NarProtocol, spi: int, target: IPv4Address | str) -> Ask:
    """IPSEC-ASSOCIATE."""
    if protocol not in (NarProtocol.ESP, NarProtocol.AH):
        raise ValueError(f"{protocol.name} has no SPI; ESP and AH have")
    if spi and not FIRST_SPI <= spi <= 0xFFFF_FFFF:
        raise ValueError(f"SPI {spi}; 0 (any), or {FIRST_SPI} to {0xFFFF_FFFF}")
    peer = target if isinstance(target, IPv4Address) and target != ANY else None
    request = IpsecAssociate(protocol, spi)
    return Ask(protocol, request, NarCommand.IPSEC_ASSOCIATE, peer=peer, target=target)


def ask_tunnel(protocol: NarProtocol, inner: IPv4Address, target: IPv4Address | str) -> Ask:
    """TUNNEL-ASSOCIATE."""
    if not protocol.is_tunnel:
        raise ValueError(f"{protocol.name} is no tunnel; IP_IP and GRE are")
    remote = _one_peer(target)
    request = TunnelAssociate(_some(inner), protocol)
    command = NarCommand.TUNNEL_ASSOCIATE
    return Ask(protocol, request, command, remote, peer=remote, target=remote)


def ask_again(lease: Lease, target: IPv4Address | str) -> Ask:
    """The request that gets the same lease back; ``target`` is for those without a peer."""
    key = lease.tuple
    match key.protocol:
        case NarProtocol.TCP if key.remote is not None and key.remote_port is not None:
            return ask_tcp(key.remote, key.remote_port)
        case NarProtocol.TCP:
            return ask_tcp_server(lease.local_port, key.remote)
        case NarProtocol.UDP if key.remote_port is not None and lease.peer is not None:
            return ask_udp_to(lease.peer, key.remote_port)
        case NarProtocol.UDP:
            return ask_udp(lease.local_port, lease.peer, target)
        case NarProtocol.ICMP:
            return ask_icmp(key.value, key.remote or ANY)
        case NarProtocol.ESP | NarProtocol.AH:
            return ask_spi(key.protocol, key.value, lease.peer or target)
        case _:
            return ask_tunnel(key.protocol, IPv4Address(key.value), key.remote or ANY)


def _some(address: IPv4Address) -> IPv4Address:
    if address == ANY or address.is_multicast or address == IPv4Address("255.255.255.255"):
        raise ValueError(f"{address} is no host; give the address of one")
    return address


def _port(port: int) -> int:
    if not 1 <= port <= 0xFFFF:
        raise ValueError(f"port {port}; 1 to 65535 are possible")
    return port


def _wish(port: int) -> int:
    if not 0 <= port <= 0xFFFF:
        raise ValueError(f"port {port}; 0 (any) to 65535 are possible")
    return port


def _one_peer(target: IPv4Address | str) -> IPv4Address:
    if isinstance(target, str) or target == ANY:
        raise ValueError("ICMP and tunnels need one peer; give its IPv4 address as target")
    return _some(target)
