"""Encapsulates what is routed to tunnel links, and gives them what arrives for them.

A link is an interface without addresses or neighbours; which packets get there and what their
mark means is the business of routes and rules, as with tunnel devices of the kernel.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Final

from gateway.dataplane.packet import gre, ip_ip, ipv4, marks, minimal, udp_tunnel
from gateway.dataplane.packet.tunnel_ports import FOU_PORT
from gateway.dataplane.packet.whole import whole
from gateway.dataplane.portable.packets import Delivery, Inner, Outer
from gateway.dataplane.portable.tunnel_link import TunnelKind, TunnelLink
from gateway.dataplane.portable.tunnels import l2tp
from gateway.dataplane.portable.tunnels.encapsulate import Encapsulate, encapsulation_of
from gateway.dataplane.portable.tunnels.ends import FAMILY, Ends
from gateway.dataplane.portable.tunnels.open import NotOpenedError, open_packet
from gateway.domain.mobility import MIP_PORT
from gateway.domain.wire import WireError

MAX_LINKS: Final = 4096
MAX_NESTING: Final = marks.MAX_NESTING
"""Tunnel headers that a packet may have before another one is put around it: no circles."""
_IP_OCTETS: Final = 20
_TUNNELS: Final = frozenset((ip_ip.PROTOCOL, gre.PROTOCOL, minimal.PROTOCOL, udp_tunnel.PROTOCOL))


class TunnelEngine:
    """Implements :class:`gateway.dataplane.portable.packets.Engine`. No packet raises anything."""

    def __init__(self, now: float = 0.0) -> None:
        self.sends: list[Outer] = []
        """To the wire; the caller empties it."""
        self.sends_below: list[tuple[bytes, int, int]] = []
        """Packet, mark, and the index of the interface that it is sent by; emptied as well."""
        self.delivers: list[Delivery] = []
        """Out of our links; the caller empties it."""
        self.counters: Counter[str] = Counter()
        """Packets by what became of them."""
        self._protocols: frozenset[int] = frozenset()
        self._udp_ports: frozenset[int] = frozenset()
        self._now = now
        self._links: dict[str, TunnelLink] = {}
        self._senders: dict[str, tuple[TunnelLink, Encapsulate]] = {}
        self._ends = {family: Ends() for family in set(FAMILY.values())}
        self._l2tp = l2tp.L2tpEnds()

    def advance(self, now: float) -> None:
        """Tell the time in seconds, once for each batch."""
        self._now = now

    # -- links -----------------------------------------------------------------------------------

    def set_tunnel(self, link: TunnelLink) -> str | None:
        """Serve a link, or serve it in another way; why not, or None."""
        problem = self._problem(link)
        if problem is not None:
            return problem
        self.remove_tunnel(link.name)
        self._links[link.name] = link
        if link.sends:
            self._senders[link.name] = link, encapsulation_of(link)
        if link.receives:
            self._table(link).add(link)
        self._say_what_is_wanted()
        return None

    def _table(self, link: TunnelLink) -> Ends | l2tp.L2tpEnds:
        """Where a receiving link is looked up."""
        return self._l2tp if link.kind is TunnelKind.L2TP else self._ends[FAMILY[link.kind]]

    def _problem(self, link: TunnelLink) -> str | None:
        if len(self._links) >= MAX_LINKS and link.name not in self._links:
            return f"there are {MAX_LINKS} tunnel links already; remove some"
        if link.sends and link.remote is None:
            return "say where it sends to"
        if link.sends and link.kind is TunnelKind.MINIMAL and link.local is None:
            return "minimal encapsulation needs the local address"
        if link.sends and _in_udp(link) and not (link.local_port and link.remote_port):
            return "tunnels in UDP need both ports"
        other = self._table(link).owner(link) if link.receives else None
        if other is not None and other != link.name:
            return f"{other} is the tunnel between these addresses already"
        return l2tp.problem(link) if link.kind is TunnelKind.L2TP else None

    def remove_tunnel(self, name: str) -> None:
        """Serve it no more; unknown ones are fine."""
        link = self._links.pop(name, None)
        if link is None:
            return
        self._senders.pop(name, None)
        self._table(link).discard(link)
        self._say_what_is_wanted()

    def held(self) -> list[TunnelLink]:
        """Every link that is served."""
        return list(self._links.values())

    def _say_what_is_wanted(self) -> None:
        receiving = [link for link in self._links.values() if link.receives]
        kinds = {link.kind for link in receiving}
        protocols = set()
        if kinds & {TunnelKind.IP_IP, TunnelKind.MINIMAL}:
            protocols.add(ip_ip.PROTOCOL)
        if TunnelKind.MINIMAL in kinds:
            protocols.add(minimal.PROTOCOL)
        if TunnelKind.GRE in kinds:
            protocols.add(gre.PROTOCOL)
        ports = {
            link.local_port or MIP_PORT for link in receiving if link.kind is TunnelKind.MIP_UDP
        }
        if TunnelKind.GRE_UDP in kinds or self._ends[TunnelKind.GRE].has_anywhere:
            ports.add(FOU_PORT)
        ports |= self._l2tp.ports
        self._protocols, self._udp_ports = frozenset(protocols), frozenset(ports)

    def wanted(self) -> tuple[frozenset[int], frozenset[int]]:
        """Of outer packets, the protocols besides UDP, and the destination ports of UDP."""
        return self._protocols, self._udp_ports

    # -- packets ---------------------------------------------------------------------------------

    def leaving(self, link: str, packets: Sequence[Inner]) -> None:
        """Packets that were routed to the link."""
        found = self._senders.get(link)
        if found is None:
            self.counters["not_sent"] += len(packets)
            return
        served, encapsulate = found
        counters = self.counters
        for inner, mark in packets:
            if mark & marks.SLOW_MASK == marks.SLOW:
                continue
            if len(inner) < _IP_OCTETS or inner[0] >> 4 != 4:
                counters["not_ipv4"] += 1
                continue
            if inner[9] in _TUNNELS and nesting(inner) >= MAX_NESTING:
                counters["nested_too_deep"] += 1
                continue
            try:
                outer = encapsulate(inner)
            except (WireError, IndexError):
                counters["too_long"] += 1
                continue
            counters["encapsulated"] += 1
            new_mark = mark if served.mark is None else served.mark
            if served.below:
                self.sends_below.append((outer, new_mark, served.below))
            else:
                self.sends.append((outer, new_mark))

    def arrived(self, packets: Sequence[Outer]) -> None:
        """Packets from the wire that may be of our tunnels."""
        counters = self.counters
        for outer, mark in packets:
            try:
                link, inner = self._opened(outer)
            except NotOpenedError as error:
                counters[error.counter] += 1
                continue
            except (WireError, IndexError):
                counters["malformed"] += 1
                continue
            counters["decapsulated"] += 1
            for piece in whole(inner):
                self.delivers.append((link, piece, mark))

    def _opened(self, outer: bytes) -> tuple[str, bytes]:
        """The link, and the inner packet. Raises :class:`NotOpenedError` or WireError."""
        if self._l2tp.is_for(outer):
            return self._l2tp.open(outer)
        family, inner = open_packet(outer, self._udp_ports)
        ends = outer[12:20]
        link = self._ends[family].find(ends)
        if link is None and family is TunnelKind.IP_IP:
            # Fragments cannot travel in minimal encapsulation; their senders fall back.
            link = self._ends[TunnelKind.MINIMAL].find(ends)
        if link is None:
            raise NotOpenedError("no_link")
        if outer[1] & 3 == 3:
            marked = ipv4.congestion_marked(inner)
            if marked is None:
                raise NotOpenedError("congestion")
            inner = marked
        return link, inner


def _in_udp(link: TunnelLink) -> bool:
    return link.kind in (TunnelKind.GRE_UDP, TunnelKind.MIP_UDP)


def nesting(packet: bytes) -> int:
    """How many tunnel headers a packet starts with, up to :data:`MAX_NESTING`."""
    depth = 0
    at = 0
    while depth < MAX_NESTING and len(packet) >= at + _IP_OCTETS:
        protocol = packet[at + 9]
        at += (packet[at] & 15) * 4
        if protocol == gre.PROTOCOL:
            at += 4
        elif protocol == udp_tunnel.PROTOCOL and udp_tunnel.is_tunnel_data(packet, at):
            at += udp_tunnel.OVERHEAD_OCTETS
        elif protocol == minimal.PROTOCOL:
            # What it says of the packet inside is not worth reading: it counts for all.
            return depth + 1
        elif protocol != ip_ip.PROTOCOL:
            break
        depth += 1
    return depth
