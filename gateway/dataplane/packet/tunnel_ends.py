"""Our end of a tunnel: puts packets into it, in the encapsulation that was agreed on."""

from gateway.dataplane.packet import gre, ip_ip, minimal, udp_tunnel
from gateway.dataplane.packet.ipv4 import OuterHeader
from gateway.domain.mobility import Encapsulation, Tunnel


class TunnelEnd:
    """IP in IP, and what other encapsulations fall back to."""

    __slots__ = ("_outer", "ends", "key", "overhead_octets", "tunnel")

    def __init__(self, tunnel: Tunnel) -> None:
        self.tunnel = tunnel
        self.ends = tunnel.local.packed + tunnel.remote.packed
        """Local and remote address."""
        protocol = udp_tunnel.PROTOCOL if tunnel.udp_port else tunnel.encapsulation.protocol
        self._outer = OuterHeader(self.ends[:4], self.ends[4:], protocol)
        self.key = self.ends[4:] + self.ends[:4]
        """What arrives by the tunnel is known by: its addresses, and with UDP the port."""
        if tunnel.udp_port:
            self.key += tunnel.udp_port.to_bytes(2, "big")
        self.overhead_octets = _overhead(tunnel)

    def wrap(self, inner: bytes, identification: int) -> bytes:
        """The packet as it travels. Raises :class:`WireError` when it gets too long."""
        return ip_ip.encapsulate(self._outer, inner, identification)


class _GreEnd(TunnelEnd):
    __slots__ = ()

    def wrap(self, inner: bytes, identification: int) -> bytes:
        return gre.encapsulate(self._outer, inner, identification)


class _MinimalEnd(TunnelEnd):
    """Fragments travel in IP-in-IP: the forwarding header has no place for theirs."""

    __slots__ = ("_fallback",)

    def __init__(self, tunnel: Tunnel) -> None:
        super().__init__(tunnel)
        self._fallback = OuterHeader(self.ends[:4], self.ends[4:], ip_ip.PROTOCOL)

    def wrap(self, inner: bytes, identification: int) -> bytes:
        if minimal.is_possible(inner):
            return minimal.encapsulate(inner, self.ends)
        return ip_ip.encapsulate(self._fallback, inner, identification)


class _UdpEnd(TunnelEnd):
    __slots__ = ("_before", "_next_header", "_port")

    def __init__(self, tunnel: Tunnel) -> None:
        super().__init__(tunnel)
        self._port = tunnel.udp_port
        self._next_header = tunnel.encapsulation.protocol
        self._before = gre.HEADER if tunnel.encapsulation is Encapsulation.GRE else b""

    def wrap(self, inner: bytes, identification: int) -> bytes:
        size = len(self._before) + len(inner)
        header = udp_tunnel.header(self._port, self._next_header, size)
        return (
            self._outer.build(inner[1], len(header) + size, identification)
            + header
            + self._before
            + inner
        )


class _MinimalInUdpEnd(TunnelEnd):
    """The outer IP header is the packet's own with other addresses, as without UDP."""

    __slots__ = ()

    def wrap(self, inner: bytes, identification: int) -> bytes:
        port = self.tunnel.udp_port
        if not minimal.is_possible(inner):
            header = udp_tunnel.header(port, ip_ip.PROTOCOL, len(inner))
            outer = self._outer.build(inner[1], len(header) + len(inner), identification)
            return outer + header + inner
        forwarding = minimal.forwarding_header(inner, self.ends[:4])
        content = len(inner) - (inner[0] & 15) * 4 + len(forwarding)
        before = udp_tunnel.header(port, minimal.PROTOCOL, content)
        return minimal.wrapped(inner, self.ends, udp_tunnel.PROTOCOL, before, forwarding)


def tunnel_end(tunnel: Tunnel) -> TunnelEnd:
    """Our end of ``tunnel``."""
    if tunnel.udp_port:
        if tunnel.encapsulation is Encapsulation.MINIMAL:
            return _MinimalInUdpEnd(tunnel)
        return _UdpEnd(tunnel)
    return {
        Encapsulation.IP_IP: TunnelEnd,
        Encapsulation.GRE: _GreEnd,
        Encapsulation.MINIMAL: _MinimalEnd,
    }[tunnel.encapsulation](tunnel)


def _overhead(tunnel: Tunnel) -> int:
    inside = {
        Encapsulation.IP_IP: ip_ip.OVERHEAD_OCTETS,
        Encapsulation.GRE: gre.OVERHEAD_OCTETS,
        Encapsulation.MINIMAL: minimal.OVERHEAD_OCTETS,
    }[tunnel.encapsulation]
    return inside + (udp_tunnel.OVERHEAD_OCTETS if tunnel.udp_port else 0)
