"""Decisions about packets of NAR for a kernel that does the rest: new octets and a mark.

The same tables and checks as :mod:`gateway.dataplane.packet.nar_path`, but encapsulation, TTL and
the writing of Nb are left to whom the mark tells what to do. A packet for an end-to-end client
gets an *alias* of Nb as its destination, which no host has, with the same ones' complement sum:
every checksum stays right.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final, Protocol

from gateway.dataplane.nar import NarServerSettings, NarSettings
from gateway.dataplane.packet import gre, icmp, nar_marks, nar_tunnel
from gateway.dataplane.packet.icmp import IcmpError
from gateway.dataplane.packet.nar_demultiplex import arriving, sent
from gateway.dataplane.packet.nar_forbidden import Forbidden, own_addresses
from gateway.dataplane.packet.nar_outbound import end_to_end, other_client, translated
from gateway.dataplane.packet.nar_tables import ClientEnd, Entry, NarTables, check
from gateway.dataplane.packet.nar_translate import (
    destination_to_client,
    error_quoted_outside,
    error_to_client,
    own_error_to_client,
    rewritten,
    with_quoted_destination,
)
from gateway.dataplane.packet.nar_tunnel import TunnelReport
from gateway.dataplane.packet.outbound import ERRORS_PER_S, Send
from gateway.domain.nar import Delivery, NarMapping, NarTuple
from gateway.domain.token_bucket import TokenBucket
from gateway.domain.wire import WireError

DROP: Final = 0
ACCEPT: Final = 1
Outcome = tuple[int, bytes | None, int]
"""Verdict; the packet's new octets or None to leave it; its new mark or 0 to leave it."""
DROPPED: Final[Outcome] = (DROP, None, 0)
UNCHANGED: Final[Outcome] = (ACCEPT, None, 0)


class Numbers(Protocol):
    """What stands for clients and addresses in the kernel. Constant while a mapping is set."""

    def client_mark(
        self, server_address: IPv4Address, client: IPv4Address, delivery: Delivery
    ) -> int:
        """Of packets to a client, and of those that came out of its tunnel."""

    def alias(self, mark: int, address: IPv4Address) -> IPv4Address:
        """What stands for Nb in packets with the mark: the same ones' complement sum."""

    def out_mark(self, address: IPv4Address, *, with_port: bool) -> int:
        """Of a translated client's packets that will have Nb as their source.

        ``with_port``: and the leased port instead of the client's.
        """


@dataclass(slots=True, eq=False)
class _Way:
    """The packets of one client by one kind of delivery."""

    end: ClientEnd
    delivery: Delivery
    mappings: int = 0

    def tunnels(self) -> list[bytes]:
        """What tells its tunnel packets: protocol, Xa and Na."""
        return [
            bytes((protocol,)) + self.end.address + self.end.local
            for protocol, delivery in nar_tunnel.DELIVERIES.items()
            if delivery is self.delivery
        ]


class _Server:
    __slots__ = ("clients_on", "forbidden", "outside_on")

    def __init__(self, settings: NarServerSettings, own: Iterable[IPv4Address]) -> None:
        self.forbidden = Forbidden(settings.forbidden, own)
        self.clients_on = frozenset(settings.client_interfaces)
        self.outside_on = frozenset(settings.outside_interfaces)


class NarSteering:
    """Mappings, and what becomes of packets.

    ``from_client`` marks what a client may send; ``tunnels`` is where tunnels end in the kernel.
    """

    def __init__(
        self, settings: NarSettings, numbers: Numbers, from_client: int, tunnels: IPv4Address
    ) -> None:
        self._numbers = numbers
        self._receiving = tunnels.packed
        self._from_client = from_client
        self.tables = NarTables()
        self._ways: dict[int, _Way] = {}
        """By mark."""
        self._tunnels: dict[bytes, int] = {}
        """Marks by protocol, client and Na of the tunnels in use."""
        self._aliases: dict[bytes, bytes] = {}
        """One object for each alias, as few as there are."""
        self._out_marks: dict[tuple[bytes, bool], int] = {}
        """By Nb and whether the port changes too."""
        self._icmp = TokenBucket(ERRORS_PER_S, ERRORS_PER_S)
        self._now = 0.0
        self.counters: Counter[str] = Counter()
        """Packets by what became of them."""
        self.sends: list[Send] = []
        """ICMP errors of ours to be sent; the caller empties the list."""
        self.reconfigure(settings)

    def reconfigure(self, settings: NarSettings) -> None:
        """Use other addresses and interfaces.

        Mappings of servers that are gone, or have another Na, are forgotten.
        """
        own = own_addresses(settings)
        self._own = {address.packed for address in own}
        self._servers = {one.name: _Server(one, own) for one in settings.servers}
        self._locals = {one.name: one.tunnel_address.packed for one in settings.servers}
        for entry in list(self.tables.entries.values()):
            if self._locals.get(entry.end.server) != entry.end.local:
                self.remove_mapping(entry.mapping.tuple)

    def set_mapping(self, mapping: NarMapping) -> None:
        """Deliver by it, replacing what was set for its tuple. Costs O(1).

        Raises :class:`ValueError` for a server that is not there, or no tuple of the draft.
        """
        local = self._locals.get(mapping.server)
        if local is None:
            raise ValueError(f"no NAR server {mapping.server}")
        before = self.tables.entries.get(mapping.tuple)
        if before is not None and before.mapping == mapping and before.end.local == local:
            return
        # All numbers first: where one lacks, nothing has changed.
        address, delivery = mapping.tuple.address, mapping.delivery
        mark = self._numbers.client_mark(IPv4Address(local), mapping.client, delivery)
        alias = b""
        if delivery is not Delivery.TRANSLATED:
            alias = self._numbers.alias(mark, address).packed
        else:
            for with_port in (False, True):
                out_mark = self._numbers.out_mark(address, with_port=with_port)
                self._out_marks[address.packed, with_port] = out_mark
        check(mapping)
        self.remove_mapping(mapping.tuple)
        entry = self.tables.set(mapping, local)
        entry.mark = mark
        entry.alias = self._aliases.setdefault(alias, alias)
        way = self._ways.get(mark)
        if way is None:
            way = self._ways[mark] = _Way(entry.end, delivery)
            for tunnel in way.tunnels():
                self._tunnels[tunnel] = mark
        way.mappings += 1

    def remove_mapping(self, key: NarTuple) -> None:
        """Forget it; unknown ones are fine."""
        entry = self.tables.entries.get(key)
        if entry is None:
            return
        self.tables.remove(key)
        way = self._ways[entry.mark]
        way.mappings -= 1
        if not way.mappings:
            del self._ways[entry.mark]
            for tunnel in way.tunnels():
                del self._tunnels[tunnel]

    def advance(self, now: float) -> None:
        """Tell the time, in seconds, once for each batch of packets."""
        self._now = now

    def arrived(self, octets: bytes, mark: int, interface: str) -> Outcome:
        """Decide about a packet before it is routed. Raises nothing.

        With a client's mark it came out of that client's tunnel.
        """
        try:
            if mark & 0xFFFF_0000 == nar_marks.RANGE:
                return self._from_tunnel(octets, mark)
            if icmp.is_error(octets):
                return self._error(octets, interface)
            entry = arriving(self.tables.outside, octets)
            if entry is not None and interface in self._servers[entry.end.server].outside_on:
                self.counters["delivered"] += 1
                return self._to_client(entry, octets)
            return self._translated_out(octets, interface)
        except (WireError, IndexError):
            return self._drop("malformed")

    def leaving(self, octets: bytes) -> Outcome:
        """Decide about an ICMP error of our own host about what it forwards. Raises nothing."""
        try:
            return self._own_error(octets)
        except (WireError, IndexError):
            return self._drop("malformed")

    def _drop(self, counter: str) -> Outcome:
        self.counters[counter] += 1
        return DROPPED

    def _to_client(self, entry: Entry, octets: bytes) -> Outcome:
        if entry.mapping.delivery is Delivery.TRANSLATED:
            return ACCEPT, destination_to_client(octets, entry), entry.mark
        return ACCEPT, octets[:16] + entry.alias + octets[20:], entry.mark

    def _from_tunnel(self, octets: bytes, mark: int) -> Outcome:
        way = self._ways.get(mark)
        if way is None:
            return self._drop("spoofed")
        entry = end_to_end(self.tables, way.end, octets, way.delivery)
        if entry is None:
            return self._drop("spoofed")
        other = other_client(self.tables, octets)
        if other is not None:
            self.counters["delivered"] += 1
            return self._to_client(other, octets)
        if octets[16:20] in self._servers[way.end.server].forbidden:
            return self._drop("forbidden")
        self.counters["sent"] += 1
        return ACCEPT, None, self._from_client

    def _translated_out(self, octets: bytes, interface: str) -> Outcome:
        entry = translated(self.tables, octets)
        if entry is None:
            return self._tunnel_in(octets, interface)
        if interface not in self._servers[entry.end.server].clients_on:
            return UNCHANGED
        made, destination = None, octets[16:20]
        if entry.mapping.tuple.protocol.is_tunnel and destination != entry.remote:
            destination = entry.remote
            made = rewritten(octets, octets[12:16] + destination)
        if destination in self._own:
            return UNCHANGED  # To us, from its own address: nothing of it is lent.
        if destination in self._servers[entry.end.server].forbidden:
            return self._drop("forbidden")
        self.counters["sent"] += 1
        return ACCEPT, made, self._out_marks[entry.address, bool(entry.mapping.client_port)]

    def _tunnel_in(self, octets: bytes, interface: str) -> Outcome:
        """A client may have both: its tunnel goes where the kernel opens it, then comes again."""
        mark = self._tunnels.get(octets[9:10] + octets[12:20])
        if mark is None or interface not in self._servers[self._ways[mark].end.server].clients_on:
            return UNCHANGED
        at = (octets[0] & 15) * 4
        if octets[9] == gre.PROTOCOL and octets[at : at + 4] != gre.HEADER:
            return UNCHANGED
        return ACCEPT, rewritten(octets, octets[12:16] + self._receiving), mark

    def _error(self, octets: bytes, interface: str) -> Outcome:
        told = icmp.parse_error(octets)
        entry = sent(self.tables.outside, told.quote, quoted=True)
        if entry is not None and entry.address == octets[16:20]:
            if interface not in self._servers[entry.end.server].outside_on:
                return UNCHANGED
            self.counters["errors_delivered"] += 1
            if entry.mapping.delivery is not Delivery.TRANSLATED:
                return self._to_client(entry, octets)
            return ACCEPT, error_to_client(octets, entry), entry.mark
        entry = arriving(self.tables.inside, told.quote, quoted=True)
        if entry is None or interface not in self._servers[entry.end.server].clients_on:
            return self._tunnel_error(told, octets[16:20], interface)
        if octets[16:20] != told.quote[12:16]:
            return self._drop("spoofed")
        made = error_quoted_outside(octets, entry)
        if made[16:20] in self._servers[entry.end.server].forbidden:
            return self._drop("forbidden")
        self.counters["errors_translated"] += 1
        # The port is only in the quote: there it is changed already.
        return ACCEPT, made, self._out_marks[entry.address, False]

    def _tunnel_error(self, told: IcmpError, destination: bytes, interface: str) -> Outcome:
        """The host hears of it as well: its routes learn from it."""
        found = nar_tunnel.report(self.tables, told, self._now)
        if found is None or found.end.local != destination:
            return UNCHANGED
        if interface in self._servers[found.end.server].clients_on:
            self._tell_on(found)
        return UNCHANGED

    def _tell_on(self, found: TunnelReport) -> None:
        """To who sent what was in the tunnel (RFC 2003 section 4)."""
        self.counters["tunnel_errors"] += 1
        if found.inner is None or found.code is None:
            return
        entry = arriving(self.tables.outside, found.inner, quoted=True)
        if entry is None or entry.end is not found.end:
            return
        kind = icmp.DESTINATION_UNREACHABLE
        made = icmp.error(entry.address, found.inner, kind, found.code, found.mtu)
        if made is not None and self._icmp.take(self._now):
            self.counters["errors_sent"] += 1
            self.sends.append(Send(made, nar_marks.SENT))

    def _own_error(self, octets: bytes) -> Outcome:
        if not icmp.is_error(octets):
            return UNCHANGED
        told = icmp.parse_error(octets)
        quote = told.quote
        entry = sent(self.tables.outside, quote, quoted=True)
        if entry is not None and entry.address == octets[16:20]:
            if entry.mapping.delivery is Delivery.TRANSLATED:
                return UNCHANGED
            self.counters["errors_delivered"] += 1
            return self._to_client(entry, own_error_to_client(octets, entry))
        entry = arriving(self.tables.inside, quote, quoted=True)
        if entry is None:
            # Our own kernel knows by now that the way to a client is narrow.
            found = nar_tunnel.report(self.tables, told, self._now)
            if found is not None and found.end.local == octets[16:20]:
                self._tell_on(found)
            return UNCHANGED
        self.counters["errors_translated"] += 1
        return ACCEPT, with_quoted_destination(octets, entry), 0
