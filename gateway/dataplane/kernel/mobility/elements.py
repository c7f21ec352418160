"""Which set elements a binding and a visitor have: pure functions over the ruleset's sets.

Keys are the packets' own octets: addresses in network order, ports padded to four octets,
interface names to sixteen, link-layer addresses to eight.
"""

import struct
from ipaddress import IPv4Address

from gateway.dataplane.kernel.mobility import constants
from gateway.domain.mobility import Encapsulation, MobilityBinding, Tunnel, Visitor

Elements = dict[tuple[str, bytes], bytes | None]
"""(set, key) to what a map says for it; None in a set."""

Peer = tuple[str, bytes]
"""An element that several owners may want: (set, key)."""

_NAME = {Encapsulation.IP_IP: "ip_ip", Encapsulation.GRE: "gre", Encapsulation.MINIMAL: "minimal"}
_U32 = struct.Struct("=I")


def is_slow(tunnels: tuple[Tunnel, ...]) -> bool:
    """Whether the kernel cannot send into these by itself."""
    if len(tunnels) != 1:
        return True
    tunnel = tunnels[0]
    if tunnel.udp_port:
        return tunnel.encapsulation is not Encapsulation.IP_IP
    return tunnel.encapsulation is Encapsulation.MINIMAL


def device_of(tunnels: tuple[Tunnel, ...]) -> str:
    """The transmitting device that packets for these tunnels are routed to."""
    if is_slow(tunnels):
        return constants.SEND_IP_IP
    if tunnels[0].udp_port:
        return constants.SEND_UDP
    if tunnels[0].encapsulation is Encapsulation.GRE:
        return constants.SEND_GRE
    return constants.SEND_IP_IP


def interface_key(name: str) -> bytes:
    """An interface name in a key."""
    return name.encode()[:15].ljust(16, b"\0")


def _port(number: int) -> bytes:
    return number.to_bytes(2, "big") + b"\0\0"


def _accepted(role: str, tunnel: Tunnel, home_address: bytes, found: Elements) -> None:
    """The elements that open ``tunnel`` for one home address.

    Minimal encapsulation takes no fragments (RFC 2004 section 2): they come in IP-in-IP.
    """
    ends = tunnel.local.packed + home_address
    if tunnel.udp_port:
        if tunnel.encapsulation is not Encapsulation.GRE:
            found[f"{role}_udp", tunnel.remote.packed + _port(tunnel.udp_port) + ends] = None
        return
    found[f"{role}_{_NAME[tunnel.encapsulation]}", tunnel.remote.packed + ends] = None
    if tunnel.encapsulation is Encapsulation.MINIMAL:
        found[f"{role}_ip_ip", tunnel.remote.packed + ends] = None


def _sent(tunnel: Tunnel, role: str, home_address: bytes, found: Elements) -> None:
    found[f"{role}_local", home_address] = tunnel.local.packed
    found[f"{role}_remote", home_address] = tunnel.remote.packed
    if tunnel.udp_port:
        found[f"{role}_port", home_address] = tunnel.udp_port.to_bytes(2, "big")


def peers(tunnels: tuple[Tunnel, ...]) -> list[Peer]:
    """Who may send what only the slow path can open."""
    found = []
    for tunnel in tunnels:
        if tunnel.udp_port:
            key = tunnel.remote.packed + _port(tunnel.udp_port) + tunnel.local.packed
            found.append(("udp_peers", key))
        elif tunnel.encapsulation is Encapsulation.GRE:
            found.append(("gre_peers", tunnel.remote.packed + tunnel.local.packed))
    return found


def of_binding(binding: MobilityBinding, *, offload: bool) -> Elements:
    """Elements of a home agent's binding."""
    home_address = binding.home_address.packed
    found: Elements = {}
    if offload:
        if binding.reverse:
            for tunnel in binding.tunnels:
                _accepted("bindings", tunnel, home_address, found)
        if is_slow(binding.tunnels):
            found["slow_homes", home_address] = None
        else:
            _sent(binding.tunnels[0], "home", home_address, found)
    if binding.reverse:
        found["away", home_address] = None
    else:
        found["triangular", home_address] = None
    if binding.home_network.interface is not None:
        found["at_home", home_address + interface_key(binding.home_network.interface)] = None
    if binding.zero_overhead is not None:
        _switched(binding, binding.zero_overhead, found, offload=offload)
    return found


def _switched(
    binding: MobilityBinding, peer: IPv4Address, found: Elements, *, offload: bool
) -> None:
    home_address, agent = binding.home_address.packed, binding.home_agent.packed
    care_of = binding.tunnels[0].remote.packed
    found["switched_sources", care_of + agent] = None
    found["switched_quotes", agent + care_of] = None
    found["switched_quotes", peer.packed + care_of] = None
    if offload:
        found["switch_source", care_of + agent] = home_address
        found["switch_peer", home_address + agent] = peer.packed
        found["switch_out", peer.packed + home_address] = care_of
        found["switch_agent", peer.packed + care_of] = agent


def switched_keys(binding: MobilityBinding) -> list[bytes]:
    """What no other zero-overhead binding may share: it is all that tells packets apart."""
    if binding.zero_overhead is None:
        return []
    care_of = binding.tunnels[0].remote.packed
    return [care_of + binding.home_agent.packed, binding.zero_overhead.packed + care_of]


def of_visitor(visitor: Visitor, mark: int, *, offload: bool) -> Elements:
    """Elements of a foreign agent's visitor; ``mark`` leads to its reverse table."""
    home_address = visitor.home_address.packed
    tunnel = visitor.tunnel
    found: Elements = {("visitors", home_address): None}
    if offload:
        _accepted("visitors", tunnel, home_address, found)
        if visitor.reverse:
            if is_slow((tunnel,)):
                found["slow_visitors", home_address] = None
            else:
                _sent(tunnel, "visitor", home_address, found)
        if visitor.encapsulating:
            ends = home_address + tunnel.local.packed + home_address
            for name in _NAME.values():
                found[f"encapsulating_{name}", ends] = None
    if visitor.reverse:
        found["visitor_mark", home_address] = _U32.pack(mark)
    if visitor.through_vpn:
        found["vpn_visitors", home_address] = None
    else:
        where = interface_key(visitor.interface) + visitor.link_address + b"\0\0" + home_address
        plain = visitor.encapsulating or not visitor.reverse
        found["plain_visitors" if plain else "direct_visitors", where] = None
    return found
