"""Mappings of a NAR server as packets look them up: by octets of the packet.

Every kind of tuple has its own table, wildcards too, so that finding one costs the same however
many there are (draft 004, section 2.6).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from gateway.dataplane.packet import gre, ip_ip
from gateway.dataplane.packet.ipv4 import OuterHeader
from gateway.domain.nar import Delivery, NarMapping, NarProtocol, NarTuple

ANY_PEER: Final = b""
_WAYS: Final = {delivery: bytes((number,)) for number, delivery in enumerate(Delivery)}
MAX_AMBIGUOUS: Final = 16
"""How many mappings are looked at to find out whether they are all of one client."""


@dataclass(slots=True, eq=False)
class ClientEnd:
    """One client at one server: the other end of its tunnel."""

    server: str
    local: bytes
    """Na."""
    address: bytes
    """Xa."""
    mappings: int = 0
    addresses: dict[bytes, int] = field(default_factory=dict)
    """How many mappings it has at each Nb."""
    mtu: int = 0xFFFF
    """What routers on the way to it have said, until :attr:`mtu_until` (RFC 2003 section 5.1)."""
    mtu_until: float = 0.0
    _ip_ip: OuterHeader | None = None
    _gre: OuterHeader | None = None

    @property
    def ip_ip(self) -> OuterHeader:
        """Of its tunnel; made when it is needed."""
        if self._ip_ip is None:
            self._ip_ip = OuterHeader(self.local, self.address, ip_ip.PROTOCOL)
        return self._ip_ip

    @property
    def gre(self) -> OuterHeader:
        """Of its tunnel; made when it is needed."""
        if self._gre is None:
            self._gre = OuterHeader(self.local, self.address, gre.PROTOCOL)
        return self._gre


def way(client: bytes, delivery: Delivery) -> bytes:
    """What stands for a client's packets by one kind of delivery in keys."""
    return client + _WAYS[delivery]


class Entry:
    """A mapping, with its addresses as they are in packets."""

    __slots__ = ("address", "alias", "end", "mapping", "mark", "peer")

    def __init__(self, mapping: NarMapping, end: ClientEnd, address: bytes) -> None:
        self.mapping = mapping
        self.end = end
        self.address = address
        """Nb."""
        self.peer = mapping.peer.packed if mapping.peer is not None else ANY_PEER
        self.mark = 0
        """The client's in the kernel, see :mod:`gateway.dataplane.packet.nar_steering`."""
        self.alias = b""
        """What stands for Nb there."""

    @property
    def inside_port(self) -> int:
        """What the client itself has in the place of the leased value."""
        return self.mapping.client_port or self.mapping.tuple.value

    @property
    def remote(self) -> bytes:
        """Yb; empty for any."""
        remote = self.mapping.tuple.remote
        return remote.packed if remote is not None else ANY_PEER


class Choices(dict[bytes, Entry]):
    """Entries by key; of several with one key, the one that was there first is found."""

    __slots__ = ("_others",)

    def __init__(self) -> None:
        super().__init__()
        self._others: dict[bytes, dict[Entry, None]] = {}

    def add(self, key: bytes, entry: Entry) -> None:
        """Find it by ``key``, when no other is."""
        found = self.setdefault(key, entry)
        if found is not entry:
            self._others.setdefault(key, {})[entry] = None

    def discard(self, key: bytes, entry: Entry) -> None:
        """Forget it; the next one is found."""
        others = self._others.get(key)
        if self.get(key) is not entry:
            if others is not None:
                others.pop(entry, None)
        elif others:
            self[key] = next(iter(others))
            del others[self[key]]
        else:
            del self[key]
        if others is not None and not others:
            del self._others[key]

    def only(self, key: bytes) -> Entry | None:
        """The entry, if all with this key are of one client."""
        found = self.get(key)
        others = self._others.get(key)
        if found is None or others is None:
            return found
        if len(others) > MAX_AMBIGUOUS or any(one.end is not found.end for one in others):
            return None
        return found


class TupleTable:
    """Tuples with one side's addresses: Nb outside, Xa inside.

    Keys are what :mod:`gateway.dataplane.packet.nar_demultiplex` cuts out of packets.
    """

    def __init__(self) -> None:
        self.tcp_exact = Choices()
        self.tcp_remote = Choices()
        self.tcp_any = Choices()
        self.udp_exact = Choices()
        self.udp_any = Choices()
        self.icmp = Choices()
        self.ipsec = Choices()
        """By protocol, destination and SPI."""
        self.ipsec_of_client = Choices()
        """Outgoing: by protocol, source, client with delivery, and peer."""
        self.ipsec_with_peer = Choices()
        """Outgoing, when the client is to be found: by protocol, source and peer."""
        self.tunnels = Choices()
        """By protocol, both outer addresses and the inner destination."""
        self.tunnel_ends = Choices()
        """By protocol and both outer addresses."""

    def add(self, entry: Entry, address: bytes, value: int, remotes: tuple[bytes, ...]) -> None:
        """Find the entry by its tuple with ``address`` and ``value`` instead of its own."""
        for table, key in self._keys(entry, address, value, remotes):
            table.add(key, entry)

    def discard(self, entry: Entry, address: bytes, value: int, remotes: tuple[bytes, ...]) -> None:
        """Undo :meth:`add` with the same arguments."""
        for table, key in self._keys(entry, address, value, remotes):
            table.discard(key, entry)

    def _keys(
        self, entry: Entry, address: bytes, value: int, remotes: tuple[bytes, ...]
    ) -> Iterator[tuple[Choices, bytes]]:
        key = entry.mapping.tuple
        if key.protocol.has_ports:
            yield self._with_ports(key, address, value.to_bytes(2, "big"))
            return
        protocol = bytes((key.protocol,))
        if key.protocol is NarProtocol.ICMP:
            for remote in remotes:
                yield self.icmp, remote + address + value.to_bytes(2, "big")
        elif key.protocol.is_tunnel:
            for remote in remotes:
                ends = protocol + remote + address
                yield self.tunnels, ends + value.to_bytes(4, "big")
                yield self.tunnel_ends, ends
        else:
            yield self.ipsec, protocol + address + value.to_bytes(4, "big")
            client = way(entry.end.address, entry.mapping.delivery)
            yield self.ipsec_of_client, protocol + address + client + entry.peer
            yield self.ipsec_with_peer, protocol + address + entry.peer

    def _with_ports(self, key: NarTuple, address: bytes, port: bytes) -> tuple[Choices, bytes]:
        remote_port = b"" if key.remote_port is None else key.remote_port.to_bytes(2, "big")
        if key.protocol is NarProtocol.UDP:
            table = self.udp_exact if remote_port else self.udp_any
            return table, address + remote_port + port
        remote = b"" if key.remote is None else key.remote.packed
        if remote_port:
            return self.tcp_exact, remote + address + remote_port + port
        return self.tcp_remote if remote else self.tcp_any, remote + address + port


class NarTables:
    """What is set. Setting and removing cost the same however many there are."""

    def __init__(self) -> None:
        self.entries: dict[NarTuple, Entry] = {}
        self.clients: dict[bytes, ClientEnd] = {}
        """By Na and Xa."""
        self.outside = TupleTable()
        """All mappings, by Nb."""
        self.inside = TupleTable()
        """Translated mappings, by Xa."""
        self._addresses: dict[bytes, tuple[bytes, int]] = {}
        """One object for each Nb in use, and how many mappings share it."""

    def set(self, mapping: NarMapping, local: bytes) -> Entry:
        """Replace what is there for the tuple. ``local`` is Na.

        Raises :class:`ValueError` for a tuple that section 2.6 has not.
        """
        check(mapping)
        before = self.entries.get(mapping.tuple)
        if before is not None:
            if before.mapping == mapping and before.end.local == local:
                return before
            self.remove(mapping.tuple)
        end = self._client(mapping, local)
        packed = mapping.tuple.address.packed
        address, uses = self._addresses.get(packed, (packed, 0))
        self._addresses[address] = address, uses + 1
        end.addresses[address] = end.addresses.get(address, 0) + 1
        end.mappings += 1
        made = self.entries[mapping.tuple] = Entry(mapping, end, address)
        self.outside.add(made, address, mapping.tuple.value, (made.remote,))
        if mapping.delivery is Delivery.TRANSLATED:
            self.inside.add(made, end.address, made.inside_port, _remotes_inside(made))
        return made

    def remove(self, key: NarTuple) -> bool:
        """Whether it was there."""
        gone = self.entries.pop(key, None)
        if gone is None:
            return False
        end = gone.end
        self.outside.discard(gone, gone.address, key.value, (gone.remote,))
        if gone.mapping.delivery is Delivery.TRANSLATED:
            self.inside.discard(gone, end.address, gone.inside_port, _remotes_inside(gone))
        address, uses = self._addresses[gone.address]
        if uses == 1:
            del self._addresses[address]
        else:
            self._addresses[address] = address, uses - 1
        end.addresses[gone.address] -= 1
        if not end.addresses[gone.address]:
            del end.addresses[gone.address]
        end.mappings -= 1
        if not end.mappings:
            del self.clients[end.local + end.address]
        return True

    def _client(self, mapping: NarMapping, local: bytes) -> ClientEnd:
        address = mapping.client.packed
        end = self.clients.get(local + address)
        if end is None:
            end = self.clients[local + address] = ClientEnd(mapping.server, local, address)
        return end


def _remotes_inside(entry: Entry) -> tuple[bytes, ...]:
    """Tunnels: the client may think of Na, which it sees, or of Yb (section 2.6.3)."""
    if entry.mapping.tuple.protocol.is_tunnel and entry.end.local != entry.remote:
        return entry.end.local, entry.remote
    return (entry.remote,)


def check(mapping: NarMapping) -> None:
    """Raises :class:`ValueError` for a tuple that section 2.6 has not, and for a port too high."""
    key = mapping.tuple
    protocol = key.protocol
    if not 0 <= mapping.client_port < 1 << 16:
        raise ValueError(f"client's port {mapping.client_port}: 0 to 65535")
    if protocol is NarProtocol.TCP:
        right = key.remote_port is None or key.remote is not None
    elif protocol is NarProtocol.UDP:
        right = key.remote is None
    else:
        needs_remote = protocol.is_tunnel or protocol is NarProtocol.ICMP
        right = key.remote_port is None and (key.remote is not None) == needs_remote
    bits = 16 if protocol.has_ports or protocol is NarProtocol.ICMP else 32
    if not right or not 0 <= key.value < 1 << bits or not 0 <= (key.remote_port or 0) < 1 << 16:
        raise ValueError(f"no tuple of draft 004: {key}")
