"""The path of packets through a NAR server, in pure Python: octets in, packets to send out.

What section 2 of draft 004 asks: packets from outside go to the client whose tuple they fit, a
client sends what is the reverse of its tuples, errors go to whom they are about. Everything else
is the host's own. What is sent is ready: translated or in its tunnel, with one less TTL.
"""

from collections import Counter
from collections.abc import Iterable
from ipaddress import IPv4Address
from typing import Final

from gateway.dataplane.nar import NarServerSettings, NarSettings
from gateway.dataplane.packet import icmp, ipv4, nar_marks, nar_tunnel
from gateway.dataplane.packet.icmp import IcmpError
from gateway.dataplane.packet.nar_delivery import NarDelivery, NarSend
from gateway.dataplane.packet.nar_demultiplex import arriving, sent
from gateway.dataplane.packet.nar_forbidden import Forbidden, own_addresses
from gateway.dataplane.packet.nar_outbound import end_to_end, other_client, translated
from gateway.dataplane.packet.nar_tables import ClientEnd, Entry, NarTables
from gateway.dataplane.packet.nar_translate import (
    error_from_client,
    error_to_client,
    from_client,
    own_error_to_client,
    with_quoted_destination,
)
from gateway.dataplane.packet.reassembly import Reassembly
from gateway.domain.nar import Delivery, NarMapping, NarTuple
from gateway.domain.wire import WireError

DROP: Final = 0
ACCEPT: Final = 1
Outcome = tuple[int, bytes | None, int]
"""Verdict; the packet's new octets or None to leave it; its new mark or 0 to leave it."""
DROPPED: Final[Outcome] = (DROP, None, 0)
UNCHANGED: Final[Outcome] = (ACCEPT, None, 0)
_PIECE: Final = 0x3FFF
"""More fragments, or an offset."""


class _Server:
    """The settings of one NAR server, as packets have them."""

    __slots__ = ("clients_on", "forbidden", "local", "outside_on")

    def __init__(self, settings: NarServerSettings, own: Iterable[IPv4Address]) -> None:
        self.local = settings.tunnel_address.packed
        self.forbidden = Forbidden(settings.forbidden, own)
        self.clients_on = frozenset(settings.client_interfaces)
        self.outside_on = frozenset(settings.outside_interfaces)


class NarPath:
    """Mappings, and what becomes of packets. ``identification`` is where to start."""

    def __init__(self, settings: NarSettings, identification: int = 0) -> None:
        self.tables = NarTables()
        self._pieces = Reassembly()
        self._l2tp: dict[str, bytes] = {}
        """Clients by the interface of their session."""
        self._l2tp_interfaces: dict[bytes, str] = {}
        self.counters: Counter[str] = Counter()
        """Packets by what became of them."""
        self._out = NarDelivery(self.counters, settings.mtu, identification)
        self.sends: list[NarSend] = self._out.sends
        """To be sent, in order; the caller empties the list."""
        self.reconfigure(settings)

    def reconfigure(self, settings: NarSettings) -> None:
        """Use other addresses and interfaces; mappings of servers that are gone are forgotten."""
        self._out.mtu = settings.mtu
        own = own_addresses(settings)
        self._own = {address.packed for address in own}
        self._servers = {one.name: _Server(one, own) for one in settings.servers}
        for entry in list(self.tables.entries.values()):
            server = self._servers.get(entry.end.server)
            if server is None:
                self.tables.remove(entry.mapping.tuple)
            elif server.local != entry.end.local:
                self.tables.set(entry.mapping, server.local)

    def set_mapping(self, mapping: NarMapping) -> None:
        """Deliver by it, replacing what was set for its tuple. Costs O(1).

        Raises :class:`ValueError` for a server that is not there, or no tuple of the draft.
        """
        server = self._servers.get(mapping.server)
        if server is None:
            raise ValueError(f"no NAR server {mapping.server}")
        self.tables.set(mapping, server.local)

    def remove_mapping(self, key: NarTuple) -> None:
        """Forget it; unknown ones are fine."""
        self.tables.remove(key)

    def set_l2tp(self, client: bytes, interface: str, device: int) -> None:
        """The client's session has this interface, with this index."""
        self.remove_l2tp(client)
        self._l2tp[interface] = client
        self._l2tp_interfaces[client] = interface
        self._out.l2tp_devices[client] = device

    def remove_l2tp(self, client: bytes) -> None:
        """Forget it; unknown ones are fine."""
        interface = self._l2tp_interfaces.pop(client, None)
        if interface is not None:
            del self._l2tp[interface]
            del self._out.l2tp_devices[client]

    def advance(self, now: float) -> None:
        """Tell the time, in seconds, once for each batch of packets."""
        self._out.now = now

    def arrived(self, octets: bytes, interface: str) -> Outcome:
        """Decide about a packet that came in by ``interface``, before it is routed.

        The kernel or another router has checked its IPv4 header. Raises nothing.
        """
        try:
            client = self._l2tp.get(interface)
            if client is not None:
                return self._from_l2tp(octets, client)
            entry = arriving(self.tables.outside, octets)
            if entry is not None and interface in self._servers[entry.end.server].outside_on:
                self.counters["delivered"] += 1
                self._out.deliver(entry, octets)
                return DROPPED
            return self._not_from_outside(octets, interface)
        except (WireError, IndexError):
            return self._drop("malformed")

    def leaving(self, octets: bytes) -> Outcome:
        """Decide about an ICMP error of our own host about what it forwards. Raises nothing."""
        try:
            return self._own_error(octets)
        except (WireError, IndexError):
            return self._drop("malformed")

    def too_long(self, one: NarSend, mtu: int) -> None:
        """A packet of :attr:`sends` does not fit the link that it is routed to: do better.

        It goes out in pieces, or if that is forbidden, its sender is told. Raises nothing.
        """
        try:
            self._out.too_long(one, mtu)
        except (WireError, IndexError):
            self._drop("malformed")

    def _drop(self, counter: str) -> Outcome:
        self.counters[counter] += 1
        return DROPPED

    def _not_from_outside(self, octets: bytes, interface: str) -> Outcome:
        entry = translated(self.tables, octets)
        if entry is not None and self._is_on_client_side(entry.end, interface):
            made = from_client(octets, entry)
            if made[16:20] in self._own:
                return UNCHANGED  # To us, from its own address: nothing of it is lent.
            return self._outward(entry, octets, made)
        if octets[9] in nar_tunnel.DELIVERIES:
            end = self.tables.clients.get(octets[16:20] + octets[12:16])
            if end is not None and self._is_on_client_side(end, interface):
                inner = nar_tunnel.unwrap(octets)
                return self._end_to_end(end, inner, nar_tunnel.DELIVERIES[octets[9]])
        if icmp.is_error(octets):
            return self._error(octets, interface)
        return UNCHANGED

    def _is_on_client_side(self, end: ClientEnd, interface: str) -> bool:
        return interface in self._servers[end.server].clients_on

    # From clients.

    def _from_l2tp(self, octets: bytes, client: bytes) -> Outcome:
        """Plain packets: the session told who sent them."""
        inner = octets[: ipv4.checked_end(octets)]
        for server in self._servers.values():
            end = self.tables.clients.get(server.local + client)
            if end is not None and inner[12:16] in end.addresses:
                return self._end_to_end(end, inner, Delivery.L2TP)
        return self._drop("spoofed")

    def _end_to_end(self, end: ClientEnd, inner: bytes, delivery: Delivery) -> Outcome:
        if inner[12:16] not in end.addresses:
            return self._drop("spoofed")
        if (inner[6] << 8 | inner[7]) & _PIECE:
            whole = self._whole(end, inner)
            if whole is None:
                return self._drop("fragment_kept")
            inner = whole
        entry = end_to_end(self.tables, end, inner, delivery)
        if entry is None:
            return self._drop("spoofed")
        other = other_client(self.tables, inner)
        if other is not None:
            self.counters["delivered"] += 1
            self._out.deliver(other, inner)
            return DROPPED
        return self._outward(entry, inner, inner)

    def _whole(self, end: ClientEnd, piece: bytes) -> bytes | None:
        """Made whole, apart from what others send from the same Nb."""
        source = piece[12:16]
        whole = self._pieces.add(piece[:12] + end.address + piece[16:], self._out.now)
        if whole is None:
            return None
        return ipv4.with_checksum(whole[:12] + source + whole[16:])

    def _outward(self, entry: Entry, octets: bytes, made: bytes) -> Outcome:
        if made[16:20] in self._servers[entry.end.server].forbidden:
            return self._drop("forbidden")
        self._out.outward(entry, octets, made)
        return DROPPED

    # ICMP errors.

    def _error(self, octets: bytes, interface: str) -> Outcome:
        """About what a client sent, what a client got, or our tunnels; others are the host's."""
        told = icmp.parse_error(octets)
        destination = octets[16:20]
        entry = sent(self.tables.outside, told.quote, quoted=True)
        if entry is not None and entry.address == destination:
            if interface not in self._servers[entry.end.server].outside_on:
                return UNCHANGED
            return self._error_for_client(entry, octets)
        entry = arriving(self.tables.inside, told.quote, quoted=True)
        if entry is None or not self._is_on_client_side(entry.end, interface):
            return self._tunnel_error(told, destination, interface)
        if destination != told.quote[12:16]:
            return self._drop("spoofed")
        self.counters["errors_translated"] += 1
        return self._outward(entry, octets, error_from_client(octets, entry))

    def _error_for_client(self, entry: Entry, octets: bytes) -> Outcome:
        if octets[8] <= 1:
            return self._drop("ttl_exceeded")
        self.counters["errors_delivered"] += 1
        if entry.mapping.delivery is Delivery.TRANSLATED:
            made = error_to_client(ipv4.decremented(octets), entry)
            self.sends.append(NarSend(made, nar_marks.SENT))
        else:
            self._out.into_tunnel(entry, octets)
        return DROPPED

    def _tunnel_error(self, told: IcmpError, destination: bytes, interface: str) -> Outcome:
        """The host hears of it as well: its own tunnels and routes learn from it."""
        found = nar_tunnel.report(self.tables, told, self._out.now)
        if found is None or found.end.local != destination:
            return UNCHANGED
        if not self._is_on_client_side(found.end, interface):
            return UNCHANGED
        self.counters["tunnel_errors"] += 1
        if found.inner is not None and found.code is not None:
            entry = arriving(self.tables.outside, found.inner, quoted=True)
            if entry is not None and entry.end is found.end:
                kind = icmp.DESTINATION_UNREACHABLE
                self._out.tell_outside(entry, found.inner, kind, found.code, found.mtu)
        return UNCHANGED

    def _own_error(self, octets: bytes) -> Outcome:
        """The host's error about a packet that it took from a client, or made ready for one."""
        if not icmp.is_error(octets):
            return UNCHANGED
        quote = icmp.parse_error(octets).quote
        entry = sent(self.tables.outside, quote, quoted=True)
        if entry is not None and entry.address == octets[16:20]:
            if entry.mapping.delivery is Delivery.TRANSLATED:
                return UNCHANGED
            self.counters["errors_delivered"] += 1
            made = own_error_to_client(octets, entry)
            self._out.wrap(entry.end, entry.mapping.delivery, made)
            return DROPPED
        entry = self._made_ready_for(quote)
        if entry is None:
            return UNCHANGED
        self.counters["errors_translated"] += 1
        return ACCEPT, with_quoted_destination(octets, entry), 0

    def _made_ready_for(self, quote: bytes) -> Entry | None:
        """The mapping by which a packet for Nb has Xa as its destination now."""
        entry = arriving(self.tables.inside, quote, quoted=True)
        if entry is not None:
            return entry
        for server in self._servers.values():
            end = self.tables.clients.get(server.local + quote[16:20])
            for address in end.addresses if end is not None else ():
                as_it_came = quote[:16] + address + quote[20:]
                entry = arriving(self.tables.outside, as_it_came, quoted=True)
                if entry is not None and entry.end is end:
                    return entry
        return None
