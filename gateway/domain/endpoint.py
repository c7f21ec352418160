"""Where packets come from and go to."""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address

IpAddress = IPv4Address | IPv6Address

TCP_PEERS = IPv4Network("127.64.0.0/10")
"""Addresses that stand for peers whose packets come by TCP, see :mod:`gateway.ike.tcp_relay`.

Only this host can send from them: kernels drop packets from outside with such a source.
"""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An address and a UDP port, as seen on the outer header."""

    address: IpAddress
    port: int

    def __str__(self) -> str:
        if self.address.version == 6:
            return f"[{self.address}]:{self.port}"
        return f"{self.address}:{self.port}"

    @property
    def stands_for_tcp(self) -> bool:
        """Whether the peer here is really at the other end of a TCP connection."""
        return isinstance(self.address, IPv4Address) and self.address in TCP_PEERS


@dataclass(frozen=True, slots=True)
class Path:
    """The two ends that a datagram travels between, from our point of view."""

    local: Endpoint
    remote: Endpoint

    def __str__(self) -> str:
        return f"{self.local} <-> {self.remote}"
