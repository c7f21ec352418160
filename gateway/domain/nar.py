"""What the NAR server and the dataplane both speak of: tuples, mappings, ways of delivery.

A NAR server lends parts of an outer address to its clients (draft 004). The names are the draft's:
Xa is the client's own address, Na the server's address towards it, Nb the address that is shared,
Yb a host outside.
"""

import enum
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Final

from gateway.domain.mobility import Encapsulation

SOCKS_PORT = 1080
"""TCP: where NAR is negotiated (draft 004, section 3.2)."""


class NarProtocol(enum.IntEnum):
    """IP protocols that are demultiplexed (draft 004, section 2.6)."""

    ICMP = 1
    IP_IP = 4
    TCP = 6
    UDP = 17
    GRE = 47
    ESP = 50
    AH = 51

    @property
    def is_tunnel(self) -> bool:
        """Whether the inner destination address is part of the tuple (section 2.6.3)."""
        return self in (NarProtocol.IP_IP, NarProtocol.GRE)

    @property
    def has_ports(self) -> bool:
        """Whether :attr:`NarTuple.value` is a port."""
        return self in (NarProtocol.TCP, NarProtocol.UDP)


TUNNEL_PROTOCOLS: Final = {
    Encapsulation.IP_IP: NarProtocol.IP_IP,
    Encapsulation.GRE: NarProtocol.GRE,
}
"""Tunnels of Mobile IP that are demultiplexed (draft 004, section 2.6.3)."""


class Delivery(enum.Enum):
    """How packets travel between server and client (draft 004, section 2.5)."""

    IP_IP = "ip-ip"
    """End-to-end, in IP-in-IP between Na and Xa. The default."""
    GRE = "gre"
    """End-to-end, in GRE without options."""
    L2TP = "l2tp"
    """End-to-end, in L2TPv3 over UDP, see :class:`L2tpSession`."""
    TRANSLATED = "translated"
    """Directly: Nb is exchanged for Xa and the other way round."""

    @property
    def end_to_end(self) -> bool:
        """Whether the client uses Nb as its own address and packets arrive unchanged."""
        return self is not Delivery.TRANSLATED


@dataclass(frozen=True, slots=True)
class NarTuple:
    """What incoming packets of a mapping have in common (draft 004, section 2.6).

    UDP has no ``remote``: the draft ignores the source address. ESP and AH have neither remote.
    """

    protocol: NarProtocol
    address: IPv4Address
    """Nb: destination of incoming packets."""
    value: int
    """TCP, UDP: our port. ICMP: identifier. ESP, AH: SPI. Tunnels: the inner destination."""
    remote: IPv4Address | None = None
    """Source of incoming packets, None for any. Tunnels and ICMP always have one."""
    remote_port: int | None = None
    """TCP, UDP: source port of incoming packets, None for any."""

    def __str__(self) -> str:
        what = f"{self.protocol.name} {self.address}"
        if self.protocol.has_ports:
            what += f":{self.value}"
        elif self.protocol.is_tunnel:
            what += f" inner {IPv4Address(self.value)}"
        elif self.protocol is NarProtocol.ICMP:
            what += f" id {self.value}"
        else:
            what += f" SPI {self.value:08x}"
        if self.remote is None and self.remote_port is None:
            return what
        port = "" if self.remote_port is None else f":{self.remote_port}"
        return f"{what} from {self.remote or 'any'}{port}"


@dataclass(frozen=True, slots=True)
class NarMapping:
    """What the dataplane does for one lease."""

    server: str
    """Name of the NAR server."""
    tuple: NarTuple
    client: IPv4Address
    """Xa: who has it."""
    delivery: Delivery
    client_port: int = 0
    """TCP, UDP, translated only: the port that the client uses itself when it is not the leased
    one (a server mapping), else 0."""
    peer: IPv4Address | None = None
    """Where the client may send to with it, None for anywhere. Incoming ESP, AH and UDP are not
    bound to it."""


@dataclass(frozen=True, slots=True)
class L2tpSession:
    """The static L2TPv3 session of one client (RFC 3931, UDP port 1701 on both sides).

    Seen from the server: ``tunnel_id`` and ``session_id`` are in packets that it receives. The
    pseudowire is Ethernet; both ends use :attr:`link_address`.
    """

    client: IPv4Address
    tunnel_id: int
    peer_tunnel_id: int
    session_id: int
    peer_session_id: int
    cookie: bytes = field(repr=False)
    """8 octets, in packets that the server receives: keeps strangers from guessing a session."""
    peer_cookie: bytes = field(repr=False)

    @property
    def link_address(self) -> bytes:
        """6 octets, locally administered, the same at both ends: nobody has to ask for it."""
        return b"\x02\x4e\x41" + (self.session_id & 0xFFFFFF).to_bytes(3, "big")
