"""How many octets each layer adds to the user's packets (draft 001, section 6.2)."""

from gateway.dataplane.node import NodeTunnel
from gateway.domain.mobility import Encapsulation
from gateway.mobile_node.inputs import VpnSession

IP_HEADER = 20
UDP_HEADER = 8
TUNNEL_DATA_HEADER = 4
"""RFC 3519 section 4: in front of each packet in UDP."""
TCP_HEADER = 20
TCP_LENGTH = 2
"""RFC 9329 section 3: in front of each ESP packet; the TCP header counts once per packet."""
_ENCAPSULATION = {
    Encapsulation.IP_IP: IP_HEADER,
    Encapsulation.MINIMAL: 12,
    Encapsulation.GRE: IP_HEADER + 4,
}
"""Minimal: RFC 2004 with the original source, which is never the care-of address."""
_ESP_HEADER = 8
_ESP_TRAILER = 2
_INITIALISATION = (("3des", 8), ("aes_cbc", 16), ("aes_gcm", 8), ("chacha20", 8), ("null", 0))
_BLOCK = (("3des", 8), ("aes_cbc", 16))
_PLAIN_BLOCK = 4
_CHECK = (
    ("sha2_256", 16),
    ("sha2_384", 24),
    ("sha2_512", 32),
    ("sha1", 12),
    ("md5", 12),
    ("aes_gcm", 16),
    ("chacha20", 16),
)
_USUAL_CHECK = 16


def of_tunnel(tunnel: NodeTunnel | None) -> int:
    """A Mobile IP layer, as the mobile node's own link carries it."""
    if tunnel is None or not tunnel.co_located or tunnel.zero_overhead is not None:
        return 0
    octets = _ENCAPSULATION[tunnel.encapsulation]
    if tunnel.udp_port:
        if tunnel.encapsulation is Encapsulation.MINIMAL:
            octets += IP_HEADER
        octets += UDP_HEADER + TUNNEL_DATA_HEADER
    return octets


def of_vpn(session: VpnSession | None) -> int:
    """ESP in tunnel mode with the most padding that its cipher needs."""
    if session is None:
        return 0
    suite = session.suite.lower().replace("-", "_")
    block = _lookup(_BLOCK, suite, _PLAIN_BLOCK)
    octets = IP_HEADER + _ESP_HEADER + _lookup(_INITIALISATION, suite, 8)
    octets += _ESP_TRAILER + block - 1 + _lookup(_CHECK, suite, _USUAL_CHECK)
    if session.tcp:
        return octets + TCP_HEADER + TCP_LENGTH
    return octets + (UDP_HEADER if session.encapsulated else 0)


def _lookup(table: tuple[tuple[str, int], ...], suite: str, otherwise: int) -> int:
    return next((octets for name, octets in table if name in suite), otherwise)
