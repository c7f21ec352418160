"""Packets and parties of the tests of NAR's dataplane: made and judged here, from the RFCs alone.

Nothing of the gateway's own packet code is used, so that it has an independent judge.
"""

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address

from gateway.dataplane.nar import NarServerSettings, NarSettings
from gateway.dataplane.packet.nar_path import NarPath
from gateway.domain.nar import Delivery, NarMapping, NarProtocol, NarTuple

XA, XA_2 = "10.1.0.10", "10.1.0.11"
NA = "10.1.0.1"
NB, NB_2 = "192.0.2.1", "192.0.2.2"
YB, YB_2 = "203.0.113.9", "203.0.113.10"
ROUTER, ROUTER_INSIDE = "198.51.100.1", "10.1.0.254"
CN, XB = "172.16.0.9", "172.16.5.5"
INSIDE, OUTSIDE = "lan0", "wan0"
DF = 0x4000

SERVER = NarServerSettings(
    name="soho",
    tunnel_address=IPv4Address(NA),
    addresses=(IPv4Address(NB), IPv4Address(NB_2)),
    client_interfaces=(INSIDE,),
    outside_interfaces=(OUTSIDE,),
)
SETTINGS = NarSettings(servers=(SERVER,))


# Octets.


def rfc1071(octets: bytes) -> int:
    """The checksum as RFC 1071 section 4.1 writes it down."""
    total = 0
    padded = octets + b"\0" * (len(octets) & 1)
    for at in range(0, len(padded), 2):
        total += padded[at] * 256 + padded[at + 1]
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def packed(address: str) -> bytes:
    return bytes(int(part) for part in address.split("."))


def ip(
    protocol: int,
    source: str,
    destination: str,
    payload: bytes,
    *,
    ttl: int = 61,
    tos: int = 0,
    flags: int = 0,
    identification: int = 0x4711,
    options: bytes = b"",
) -> bytes:
    length = 20 + len(options)
    head = struct.pack(
        "!BBHHHBBH",
        0x40 | length // 4,
        tos,
        length + len(payload),
        identification,
        flags,
        ttl,
        protocol,
        0,
    )
    head += packed(source) + packed(destination) + options
    return head[:10] + struct.pack("!H", rfc1071(head)) + head[12:] + payload


def _pseudo(protocol: int, source: str, destination: str, length: int) -> bytes:
    return packed(source) + packed(destination) + struct.pack("!BBH", 0, protocol, length)


def tcp(source: str, destination: str, sport: int, dport: int, data: bytes = b"tcp data!") -> bytes:
    head = struct.pack("!HHIIBBHHH", sport, dport, 7, 9, 0x50, 0x18, 8192, 0, 0)
    checksum = rfc1071(_pseudo(6, source, destination, 20 + len(data)) + head + data)
    return head[:16] + struct.pack("!H", checksum) + head[18:] + data


def udp(
    source: str,
    destination: str,
    sport: int,
    dport: int,
    data: bytes = b"udp data!",
    *,
    bare: bool = False,
) -> bytes:
    """``bare``: without a checksum."""
    head = struct.pack("!HHHH", sport, dport, 8 + len(data), 0)
    checksum = rfc1071(_pseudo(17, source, destination, 8 + len(data)) + head + data) or 0xFFFF
    return head[:6] + struct.pack("!H", 0 if bare else checksum) + data


def icmp(kind: int, code: int, rest: bytes, data: bytes) -> bytes:
    head = bytes((kind, code, 0, 0)) + rest
    return head[:2] + struct.pack("!H", rfc1071(head + data)) + head[4:] + data


def echo(number: int, *, reply: bool = False, data: bytes = b"ping") -> bytes:
    return icmp(0 if reply else 8, 0, struct.pack("!HH", number, 3), data)


def gre(inner: bytes, flags: int = 0) -> bytes:
    """With the options of ``flags``: 0x8000 checksum, 0x2000 key, 0x1000 sequence number."""
    head = struct.pack("!HH", flags, 0x800)
    options = bytes(4) if flags & 0x8000 else b""
    options += b"key!" if flags & 0x2000 else b""
    options += b"\0\0\0\1" if flags & 0x1000 else b""
    made = head + options + inner
    if flags & 0x8000:
        made = made[:4] + struct.pack("!H", rfc1071(made)) + made[6:]
    return made


def error_about(
    packet: bytes,
    *,
    source: str = ROUTER,
    kind: int = 3,
    code: int = 1,
    mtu: int = 0,
    keep: int | None = None,
) -> bytes:
    """An ICMP error to the packet's source that quotes ``keep`` octets behind its IP header."""
    quote = packet if keep is None else packet[: (packet[0] & 15) * 4 + keep]
    message = icmp(kind, code, struct.pack("!HH", 0, mtu), quote)
    return ip(1, source, dotted(packet[12:16]), message, ttl=60)


def dotted(octets: bytes) -> str:
    return ".".join(str(one) for one in octets)


@dataclass
class Seen:
    """A packet as a dissector shows it."""

    ends: tuple[str, str]
    protocol: int
    ttl: int
    tos: int
    flags: int
    payload: bytes
    ports: tuple[int, int] | None = None
    inner: "Seen | None" = None
    """Of tunnels; or what an ICMP error quotes."""
    octets: bytes = b""


def judged(packet: bytes, *, quoted: bool = False) -> Seen:
    """Read the packet and what is in it; fails for a wrong length or checksum anywhere."""
    length = (packet[0] & 15) * 4
    assert packet[0] >> 4 == 4
    assert length >= 20
    assert rfc1071(packet[:length]) == 0, "IP header checksum"
    total = int.from_bytes(packet[2:4], "big")
    assert quoted or total == len(packet), "total length"
    whole = total == len(packet)
    payload = packet[length:]
    ends = dotted(packet[12:16]), dotted(packet[16:20])
    flags = int.from_bytes(packet[6:8], "big")
    seen = Seen(ends, packet[9], packet[8], packet[1], flags, payload, octets=packet)
    if flags & 0x1FFF:
        return seen
    if packet[9] in (6, 17):
        seen.ports = struct.unpack("!HH", payload[:4])
        if whole and not flags & 0x2000 and not (packet[9] == 17 and payload[6:8] == b"\0\0"):
            pseudo = packet[12:20] + struct.pack("!BBH", 0, packet[9], len(payload))
            assert rfc1071(pseudo + payload) == 0, "TCP or UDP checksum"
    elif packet[9] == 1:
        if whole:
            assert rfc1071(payload) == 0, "ICMP checksum"
        if payload[0] in (3, 4, 5, 11, 12) and whole:
            seen.inner = judged(payload[8:], quoted=True)
    elif packet[9] in (4, 47) and (whole or len(payload) >= 40):
        at = 0
        if packet[9] == 47:
            at = 4 + 4 * sum(bool(payload[0] & bit) for bit in (0x80, 0x20, 0x10))
            assert not whole or not payload[0] & 0x80 or rfc1071(payload) == 0, "GRE checksum"
        seen.inner = judged(payload[at:], quoted=quoted)
    return seen


def hop(packet: bytes) -> bytes:
    """The packet one router further."""
    length = (packet[0] & 15) * 4
    head = packet[:8] + bytes((packet[8] - 1,)) + packet[9:10] + b"\0\0" + packet[12:length]
    return head[:10] + struct.pack("!H", rfc1071(head)) + head[12:] + packet[length:]


# Tuples and mappings.


def a_tuple(
    protocol: NarProtocol,
    value: int | str,
    remote: str | None = None,
    remote_port: int | None = None,
    address: str = NB,
) -> NarTuple:
    number = int(IPv4Address(value)) if isinstance(value, str) else value
    far = None if remote is None else IPv4Address(remote)
    return NarTuple(protocol, IPv4Address(address), number, far, remote_port)


def mapping(
    key: NarTuple,
    delivery: Delivery = Delivery.IP_IP,
    client: str = XA,
    *,
    peer: str | None = None,
    client_port: int = 0,
) -> NarMapping:
    far = None if peer is None else IPv4Address(peer)
    return NarMapping("soho", key, IPv4Address(client), delivery, client_port, far)


TCP_EXACT = a_tuple(NarProtocol.TCP, 20000, YB, 80)
TCP_REMOTE = a_tuple(NarProtocol.TCP, 20001, YB)
TCP_ANY = a_tuple(NarProtocol.TCP, 20002)
UDP_EXACT = a_tuple(NarProtocol.UDP, 20000, None, 53)
UDP_ANY = a_tuple(NarProtocol.UDP, 20001)
ECHO = a_tuple(NarProtocol.ICMP, 0xC001, YB)
ESP_SPI = a_tuple(NarProtocol.ESP, 0x40001234)
AH_SPI = a_tuple(NarProtocol.AH, 0x40001235)
IP_IP = a_tuple(NarProtocol.IP_IP, XB, YB)
GRE_XB = a_tuple(NarProtocol.GRE, XB, YB)
WITH_PORTS = (TCP_EXACT, TCP_REMOTE, TCP_ANY, UDP_EXACT, UDP_ANY)
ALL = (*WITH_PORTS, ECHO, ESP_SPI, AH_SPI, IP_IP, GRE_XB)
TRANSLATABLE = tuple(one for one in ALL if one is not AH_SPI)
TUNNELS = (IP_IP, GRE_XB)


def _payload(
    key: NarTuple, source: str, destination: str, port: int, far_port: int, *, outward: bool
) -> bytes:
    protocol = key.protocol
    ports = (port, far_port) if outward else (far_port, port)
    if protocol is NarProtocol.TCP:
        return tcp(source, destination, *ports)
    if protocol is NarProtocol.UDP:
        return udp(source, destination, *ports)
    if protocol is NarProtocol.ICMP:
        return echo(key.value, reply=not outward)
    if protocol is NarProtocol.ESP:
        return struct.pack("!II", 0x99 if outward else key.value, 1) + b"sealed!!" * 4
    if protocol is NarProtocol.AH:
        spi = 0x98 if outward else key.value
        return struct.pack("!BBHII", 253, 4, 0, spi, 1) + b"i" * 12 + b"authentic"
    mine = dotted(key.value.to_bytes(4, "big"))
    ends = (mine, CN) if outward else (CN, mine)
    inside = ip(17, *ends, udp(*ends, 1, 2, b"in the tunnel"))
    return inside if protocol is NarProtocol.IP_IP else gre(inside)


def incoming(
    key: NarTuple,
    *,
    source: str = YB,
    far_port: int | None = None,
    ttl: int = 61,
    tos: int = 0,
    flags: int = 0,
) -> bytes:
    """A packet from outside that fits the tuple."""
    address = str(key.address)
    port = far_port if far_port is not None else key.remote_port or 4321
    payload = _payload(key, source, address, key.value, port, outward=False)
    return ip(key.protocol, source, address, payload, ttl=ttl, tos=tos, flags=flags)


def outgoing(
    key: NarTuple,
    *,
    source: str = NB,
    destination: str = YB,
    port: int = 0,
    far_port: int | None = None,
    ttl: int = 61,
    flags: int = 0,
) -> bytes:
    """What a client sends with the tuple."""
    far = far_port if far_port is not None else key.remote_port or 4321
    payload = _payload(key, source, destination, port or key.value, far, outward=True)
    return ip(key.protocol, source, destination, payload, ttl=ttl, flags=flags)


def tunnelled(
    inner: bytes, delivery: Delivery = Delivery.IP_IP, client: str = XA, *, tos: int = 0
) -> bytes:
    """As the client sends it to the server."""
    if delivery is Delivery.GRE:
        return ip(47, client, NA, gre(inner), tos=tos)
    return ip(4, client, NA, inner, tos=tos)


def the_path(*mappings: NarMapping, settings: NarSettings = SETTINGS) -> NarPath:
    made = NarPath(settings, 41)
    for one in mappings:
        made.set_mapping(one)
    return made


def sent(path: NarPath) -> list[bytes]:
    """What is to be sent; forgotten by the path."""
    made = [one.octets for one in path.sends]
    path.sends.clear()
    return made
