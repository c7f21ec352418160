"""Which set elements a mapping and a client have: pure functions over the ruleset's sets.

Keys are the packets' own octets: addresses in network order, ports and protocols padded to four
octets, interface names to sixteen; marks in host order.
"""

import struct
from ipaddress import IPv4Address
from typing import Final

from gateway.dataplane.kernel.nar import constants
from gateway.domain.nar import Delivery, NarMapping, NarProtocol, NarTuple

Element = tuple[str, bytes]
"""(set, key)."""
Elements = dict[Element, bytes | None]
"""What a map says for each; None in a set."""

_U32 = struct.Struct("=I")

_IN_PORTS: Final = {NarProtocol.TCP: "tcp", NarProtocol.UDP: "udp"}
_SHAPES: Final = ("exact", "remote", "port", "any")
IN_MAPS: Final = (
    *(f"{name}_{shape}" for name in _IN_PORTS.values() for shape in _SHAPES),
    "icmp_id",
    "esp_spi",
    "ah_spi",
    "ip_ip_inner",
    "gre_inner",
)
"""The maps of tuples."""
CLIENT_MAPS: Final = (
    "client_address",
    "client_server",
    "client_port_tcp",
    "client_port_udp",
    "tunnels_ip_ip",
    "tunnels_gre",
    "tunnels_l2tp",
    "l2tp_links",
    "l2tp_server",
    "l2tp_alias",
    "alias_address",
    "quoted_alias",
)
OWN_SETS: Final = (
    *(f"own_{name}_{shape}" for name in _IN_PORTS.values() for shape in _SHAPES),
    "own_icmp",
    "own_ipsec",
    "own_ipsec_any",
    "own_ip_ip",
    "own_gre",
)
OUT_MAPS: Final = (
    *(f"out_{name}_{shape}" for name in _IN_PORTS.values() for shape in _SHAPES),
    "out_icmp",
    "out_esp",
    "out_esp_any",
    "out_ip_ip",
    "out_gre",
    "peer_ip_ip",
    "peer_gre",
    "out_port_tcp",
    "out_port_udp",
)
SETTINGS_SETS: Final = (
    "lent",
    "servers",
    "box",
    "ways",
    "alias",
    "out_links",
    "out_source",
    "out_ways",
)
ALL_SETS: Final = (
    *IN_MAPS,
    *CLIENT_MAPS,
    *OWN_SETS,
    *OUT_MAPS,
    *SETTINGS_SETS,
    "translated_clients",
    "translated_quotes",
)
"""All but those whose elements have a timeout."""


def mark(number: int) -> bytes:
    """A fwmark in a key or as what a map says."""
    return _U32.pack(number)


def mark_of(key: bytes) -> int:
    """Reverse of :func:`mark`, of a key that begins with one."""
    return int(_U32.unpack_from(key)[0])


def port(number: int) -> bytes:
    """A port or identifier in a key of several parts."""
    return number.to_bytes(2, "big") + b"\0\0"


def interface(name: str) -> bytes:
    """An interface name in a key."""
    return name.encode()[:15].ljust(16, b"\0")


def _shape(remote: IPv4Address | None, remote_port: int | None) -> str:
    if remote is None:
        return "any" if remote_port is None else "port"
    return "remote" if remote_port is None else "exact"


def incoming(key: NarTuple) -> Element:
    """The element that a tuple is."""
    address, remote = key.address.packed, b"" if key.remote is None else key.remote.packed
    match key.protocol:
        case NarProtocol.TCP | NarProtocol.UDP:
            name = f"{_IN_PORTS[key.protocol]}_{_shape(key.remote, key.remote_port)}"
            their_port = b"" if key.remote_port is None else port(key.remote_port)
            return name, remote + their_port + port(key.value) + address
        case NarProtocol.ICMP:
            return "icmp_id", remote + port(key.value) + address
        case NarProtocol.ESP:
            return "esp_spi", key.value.to_bytes(4, "big") + address
        case NarProtocol.AH:
            return "ah_spi", key.value.to_bytes(4, "big") + address
        case NarProtocol.IP_IP:
            return "ip_ip_inner", remote + address + key.value.to_bytes(4, "big")
        case NarProtocol.GRE:
            return "gre_inner", remote + address + key.value.to_bytes(4, "big")


def tuple_of(name: str, key: bytes) -> NarTuple:
    """Reverse of :func:`incoming`."""
    words = [key[at : at + 4] for at in range(0, len(key), 4)]
    if name in ("ip_ip_inner", "gre_inner"):
        protocol = NarProtocol.IP_IP if name == "ip_ip_inner" else NarProtocol.GRE
        inner = int.from_bytes(words[2], "big")
        return NarTuple(protocol, IPv4Address(words[1]), inner, IPv4Address(words[0]))
    address = IPv4Address(words[-1])
    if name in ("esp_spi", "ah_spi"):
        protocol = NarProtocol.ESP if name == "esp_spi" else NarProtocol.AH
        return NarTuple(protocol, address, int.from_bytes(words[0], "big"))
    value = int.from_bytes(words[-2][:2], "big")
    if name == "icmp_id":
        return NarTuple(NarProtocol.ICMP, address, value, IPv4Address(words[0]))
    kind, _, shape = name.partition("_")
    protocol = NarProtocol.TCP if kind == "tcp" else NarProtocol.UDP
    remote = IPv4Address(words[0]) if shape in ("exact", "remote") else None
    remote_port = int.from_bytes(words[-3][:2], "big") if shape in ("exact", "port") else None
    return NarTuple(protocol, address, value, remote, remote_port)


def of_tuple(mapping: NarMapping, client_mark: int) -> Elements:
    """What brings a mapping's packets to its client. Nobody else has these elements."""
    key = mapping.tuple
    name, octets = incoming(key)
    return {(name, octets): mark(client_mark + (constants.TO_PORT if mapping.client_port else 0))}


def of_sender(
    mapping: NarMapping, client_mark: int, out_mark: int, server: IPv4Address
) -> Elements:
    """What lets the client send the reverse, and what is changed on the way to it.

    Several mappings of a client may have the same.
    """
    if mapping.delivery.end_to_end:
        return _own(mapping, client_mark)
    return _translated(mapping, out_mark, server) | _to_port(mapping, client_mark)


def _to_port(mapping: NarMapping, client_mark: int) -> Elements:
    """The port that the client uses itself."""
    if not mapping.client_port:
        return {}
    key = mapping.tuple
    where = mark(client_mark + constants.TO_PORT) + port(key.value) + key.address.packed
    name = f"client_port_{_IN_PORTS[key.protocol]}"
    return {(name, where): mapping.client_port.to_bytes(2, "big")}


def _own(mapping: NarMapping, client_mark: int) -> Elements:
    key = mapping.tuple
    start = mark(client_mark) + key.address.packed
    to = key.remote or mapping.peer
    remote = b"" if to is None else to.packed
    match key.protocol:
        case NarProtocol.TCP | NarProtocol.UDP:
            their_port = b"" if key.remote_port is None else port(key.remote_port)
            name = f"own_{_IN_PORTS[key.protocol]}_{_shape(to, key.remote_port)}"
            return {(name, start + port(key.value) + remote + their_port): None}
        case NarProtocol.ICMP:
            return {("own_icmp", start + port(key.value) + remote): None}
        case NarProtocol.ESP | NarProtocol.AH:
            name = "own_ipsec" if remote else "own_ipsec_any"
            return {(name, start + bytes((key.protocol, 0, 0, 0)) + remote): None}
        case NarProtocol.IP_IP:
            return {("own_ip_ip", start + remote + key.value.to_bytes(4, "big")): None}
        case NarProtocol.GRE:
            return {("own_gre", start + remote + key.value.to_bytes(4, "big")): None}


def _translated(mapping: NarMapping, out_mark: int, server: IPv4Address) -> Elements:
    key = mapping.tuple
    start = mapping.client.packed
    to = key.remote or mapping.peer
    remote = b"" if to is None else to.packed
    match key.protocol:
        case NarProtocol.TCP | NarProtocol.UDP:
            return _translated_port(mapping, out_mark, to)
        case NarProtocol.ICMP:
            return {("out_icmp", start + port(key.value) + remote): mark(out_mark)}
        case NarProtocol.ESP:
            return {("out_esp" if remote else "out_esp_any", start + remote): mark(out_mark)}
        case NarProtocol.IP_IP | NarProtocol.GRE:
            name = "ip_ip" if key.protocol is NarProtocol.IP_IP else "gre"
            inner = key.value.to_bytes(4, "big")
            return {
                (f"out_{name}", start + remote + inner): mark(out_mark),
                (f"out_{name}", start + server.packed + inner): mark(out_mark),
                (f"peer_{name}", start + server.packed + inner): remote,
            }
        case NarProtocol.AH:
            raise ValueError("AH cannot be translated (section 2.6.2)")


def _translated_port(mapping: NarMapping, out_mark: int, to: IPv4Address | None) -> Elements:
    key = mapping.tuple
    start = mapping.client.packed
    kind = _IN_PORTS[key.protocol]
    found: Elements = {}
    if mapping.client_port:
        out_mark += constants.WITH_PORT
        where = mark(out_mark) + start + port(mapping.client_port)
        found[f"out_port_{kind}", where] = key.value.to_bytes(2, "big")
    rest = b"" if to is None else to.packed
    rest += b"" if key.remote_port is None else port(key.remote_port)
    name = f"out_{kind}_{_shape(to, key.remote_port)}"
    found[name, start + port(mapping.client_port or key.value) + rest] = mark(out_mark)
    return found


def of_client(
    number: int,
    delivery: Delivery,
    client: IPv4Address,
    server: IPv4Address,
    interfaces: tuple[str, ...],
) -> Elements:
    """What a client has for as long as it has a mapping with this delivery."""
    marks = [number]
    if delivery is Delivery.TRANSLATED:
        marks.append(number + constants.TO_PORT)
    found: Elements = {}
    for one in marks:
        found["client_address", mark(one)] = client.packed
        found["client_server", mark(one)] = server.packed
    if delivery is Delivery.TRANSLATED:
        found["translated_clients", client.packed] = None
        found["translated_quotes", client.packed] = None
    if delivery in (Delivery.IP_IP, Delivery.GRE):
        name = "tunnels_ip_ip" if delivery is Delivery.IP_IP else "tunnels_gre"
        for link in interfaces:
            found[name, client.packed + server.packed + interface(link)] = mark(number)
    return found


def of_alias(address: IPv4Address, alias: IPv4Address, l2tp_mark: int = 0) -> Elements:
    """What puts an alias in the place of a lent address, and takes it away again."""
    found: Elements = {
        ("alias_address", alias.packed): address.packed,
        ("quoted_alias", alias.packed): address.packed,
    }
    if l2tp_mark:
        found["l2tp_alias", mark(l2tp_mark) + address.packed] = alias.packed
    else:
        found["alias", address.packed] = alias.packed
    return found
