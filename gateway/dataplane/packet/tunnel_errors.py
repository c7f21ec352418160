"""ICMP errors about packets of our tunnels, told on to who sent what was inside.

RFC 2003 section 4 says which, section 5.1 what is remembered of a tunnel: routers may quote too
little to know the sender, who is then told with the next packet.
"""

from dataclasses import dataclass
from typing import Final

from gateway.dataplane.packet import gre, icmp, ip_ip, minimal, udp_tunnel
from gateway.dataplane.packet.icmp import IcmpError
from gateway.dataplane.packet.mobility_tables import Guest, Home, MobilityTables
from gateway.dataplane.packet.tunnel_ends import TunnelEnd
from gateway.domain.mobility import MIP_PORT
from gateway.domain.wire import WireError

PATH_MTU_LIFETIME_S: Final = 600.0
"""RFC 1191 section 6.3."""
UNREACHABLE_LIFETIME_S: Final = 10.0
LOWEST_PATH_MTU: Final = 552
"""Nobody may make us send smaller pieces than this with a forged error."""
_PLATEAUS: Final = (32000, 17914, 8166, 4352, 2002, 1492, 1006, 552)
"""RFC 1191 section 7.1: for routers that do not tell their MTU."""
_DONT_FRAGMENT_OCTET: Final = 0x40
_TUNNELS: Final = (ip_ip.PROTOCOL, gre.PROTOCOL, minimal.PROTOCOL)


@dataclass(slots=True)
class TunnelState:
    """What routers on the way have said about the path between two addresses."""

    mtu: int = 0xFFFF
    mtu_until: float = 0.0
    unreachable_until: float = 0.0


@dataclass(frozen=True, slots=True)
class Report:
    """An error for the sender of a packet that was in a tunnel.

    ``inner`` begins with its header; None when the quote did not reach so far.
    """

    owner: Home | Guest | None
    inner: bytes | None
    type: int
    code: int
    mtu: int


class TunnelErrors:
    """Reads errors and keeps the soft state of tunnels that are in use."""

    def __init__(self, tables: MobilityTables) -> None:
        self._tables = tables
        self.states: dict[bytes, TunnelState] = {}
        """By local and remote address; empty as long as all is well."""

    def about(self, told: IcmpError, now: float) -> Report | None:
        """What to tell whom; None when the quoted packet is of no tunnel of ours."""
        quote = told.quote
        ends = quote[12:20]
        if ends not in self._tables.ends_in_use:
            return None
        place = _tunnel_header(quote)
        if place is None:
            return None
        start, protocol = place
        inner, overhead = _quoted_inner(quote, start, protocol)
        owner = self._owner(inner, ends) if inner is not None else None
        if inner is not None and owner is None:
            return Report(None, None, 0, 0, 0)
        kind, code, mtu = self._meaning(told, ends, overhead, now)
        if inner is None and kind:
            state = self._state(ends)
            if code != icmp.FRAGMENTATION_NEEDED:
                state.unreachable_until = now + UNREACHABLE_LIFETIME_S
        return Report(owner, inner, kind, code, mtu)

    def _meaning(
        self, told: IcmpError, ends: bytes, overhead: int, now: float
    ) -> tuple[int, int, int]:
        """Type, code and MTU for the sender; type 0 when it is not told (RFC 2003 section 4)."""
        unreachable = (icmp.DESTINATION_UNREACHABLE, icmp.HOST_UNREACHABLE, 0)
        if told.type == icmp.TIME_EXCEEDED:
            return unreachable
        if told.type != icmp.DESTINATION_UNREACHABLE or told.code == icmp.SOURCE_ROUTE_FAILED:
            return 0, 0, 0
        if told.code != icmp.FRAGMENTATION_NEEDED:
            return unreachable
        if not told.quote[6] & _DONT_FRAGMENT_OCTET:
            # Only minimal encapsulation leaves the packet's DF on the wire. Nobody on the way
            # needs to say this of a packet that may be cut up: a forgery.
            return 0, 0, 0
        total = told.quote[2] << 8 | told.quote[3]
        mtu = told.mtu or next((size for size in _PLATEAUS if size < total), 0)
        if not LOWEST_PATH_MTU <= mtu < total:
            return 0, 0, 0
        state = self._state(ends)
        if mtu <= state.mtu or now >= state.mtu_until:
            state.mtu, state.mtu_until = mtu, now + PATH_MTU_LIFETIME_S
        return icmp.DESTINATION_UNREACHABLE, icmp.FRAGMENTATION_NEEDED, mtu - overhead

    def _owner(self, inner: bytes, ends: bytes) -> Home | Guest | None:
        found: Home | Guest | None
        for found in (
            self._tables.homes.get(inner[16:20]),
            self._tables.guests.get(inner[12:16]),
        ):
            if found is not None and any(end.ends == ends for end in found.ends):
                return found
        return None

    def _state(self, ends: bytes) -> TunnelState:
        if len(self.states) > 2 * len(self._tables.ends_in_use):
            for gone in [one for one in self.states if one not in self._tables.ends_in_use]:
                del self.states[gone]
        return self.states.setdefault(ends, TunnelState())

    def limit(self, end: TunnelEnd, limit: int, now: float) -> int:
        """The longest packet that fits into the tunnel now; ``limit`` without trouble."""
        state = self.states.get(end.ends)
        if state is None or now >= state.mtu_until:
            return limit
        return min(limit, state.mtu - end.overhead_octets)

    def take_unreachable(self, end: TunnelEnd, now: float) -> bool:
        """Whether the sender of a packet for this tunnel must hear of trouble not told yet."""
        state = self.states.get(end.ends)
        if state is None:
            return False
        if now >= max(state.mtu_until, state.unreachable_until):
            del self.states[end.ends]
            return False
        fresh = now < state.unreachable_until
        state.unreachable_until = 0.0
        return fresh


def _tunnel_header(quote: bytes) -> tuple[int, int] | None:
    """Where the encapsulation's header begins and its protocol; None for no tunnel packet."""
    if (quote[6] << 8 | quote[7]) & 0x1FFF:
        return None
    start = (quote[0] & 15) * 4
    if quote[9] in _TUNNELS:
        return start, quote[9]
    if quote[9] != udp_tunnel.PROTOCOL or quote[start] << 8 | quote[start + 1] != MIP_PORT:
        return None
    # Eight octets of UDP could be signalling as well.
    if len(quote) < start + 10 or quote[start + 8] != udp_tunnel.TUNNEL_DATA:
        return None
    return start + udp_tunnel.OVERHEAD_OCTETS, quote[start + 9]


def _quoted_inner(quote: bytes, start: int, protocol: int) -> tuple[bytes | None, int]:
    """The quoted inner packet, if enough of it is there to tell its sender, and the overhead."""
    outer = (quote[0] & 15) * 4
    if protocol == minimal.PROTOCOL:
        overhead = start - outer + minimal.OVERHEAD_OCTETS
        try:
            inner = minimal.decapsulate(quote, start, len(quote))
        except WireError:
            return None, overhead
        return (inner if len(inner) >= outer + 8 else None), overhead
    at = start + (len(gre.HEADER) if protocol == gre.PROTOCOL else 0)
    inner = quote[at:]
    if len(inner) < 28 or inner[0] >> 4 != 4 or len(inner) < (inner[0] & 15) * 4 + 8:
        return None, at
    if (inner[0] & 15) < 5:
        return None, at
    return inner, at
