"""Keeps the way through a NAT open for a tunnel in UDP (RFC 3519 section 4.9)."""

import struct
from ipaddress import IPv4Address

from gateway.domain.checksum import internet_checksum
from gateway.domain.mobility import MIP_PORT, Encapsulation
from gateway.mip_agents.codec.tunnel_data import TunnelData

_IP_HEADER = struct.Struct("!BBHHHBBHII")
_ECHO = struct.Struct("!BBHHH")
_ECHO_REQUEST = 8
_ICMP = 1
_TTL = 64


def keepalive(home_address: IPv4Address, home_agent: IPv4Address, sequence: int) -> bytes:
    """Tunnel data with an echo request from the home address to the home agent.

    The answer, if one comes through the tunnel, is not waited for: what proves that the home
    agent is there are registrations.
    """
    number = sequence & 0xFFFF
    echo = _ECHO.pack(_ECHO_REQUEST, 0, 0, MIP_PORT, number)
    echo = _ECHO.pack(_ECHO_REQUEST, 0, internet_checksum(echo), MIP_PORT, number)
    size = _IP_HEADER.size + len(echo)

    def header(checksum: int) -> bytes:
        return _IP_HEADER.pack(
            0x45, 0, size, number, 0, _TTL, _ICMP, checksum, int(home_address), int(home_agent)
        )

    packet = header(internet_checksum(header(0))) + echo
    return TunnelData(Encapsulation.IP_IP.protocol, packet).serialize()
