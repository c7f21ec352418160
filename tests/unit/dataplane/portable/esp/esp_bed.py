"""Two ends of a child SA, and packets for them."""

import random
from collections.abc import Callable
from ipaddress import ip_address, ip_network

from gateway.dataplane.packet import ipv4
from gateway.dataplane.portable.esp.engine import EspEngine
from gateway.dataplane.portable.esp.transport import behind_nat
from gateway.domain.child_sa import (
    ChildSa,
    Encryption,
    EspKeys,
    EspSuite,
    Integrity,
    Mode,
    TrafficSelector,
)
from gateway.domain.endpoint import Endpoint

LINK = "gw0"
GCM = EspSuite(Encryption.AES_GCM_16, 128, Integrity.NONE, esn=True)
GCM_192 = EspSuite(Encryption.AES_GCM_16, 192, Integrity.NONE, esn=True)
GCM_SHORT = EspSuite(Encryption.AES_GCM_16, 256, Integrity.NONE, esn=False)
CHACHA = EspSuite(Encryption.CHACHA20_POLY1305, 256, Integrity.NONE, esn=True)
CBC = [
    EspSuite(Encryption.AES_CBC, bits, integrity, esn)
    for bits, integrity, esn in (
        (128, Integrity.HMAC_SHA2_256_128, False),
        (192, Integrity.HMAC_SHA2_256_128, True),
        (256, Integrity.HMAC_SHA2_384_192, True),
        (256, Integrity.HMAC_SHA2_512_256, False),
    )
]
SUITES = [GCM, GCM_192, GCM_SHORT, CHACHA, *CBC]
_INTEGRITY_OCTETS = {
    Integrity.NONE: 0,
    Integrity.HMAC_SHA2_256_128: 32,
    Integrity.HMAC_SHA2_384_192: 48,
    Integrity.HMAC_SHA2_512_256: 64,
}

GATEWAY, DEVICE = "192.0.2.1", "198.51.100.7"
GATEWAY6, DEVICE6 = "2001:db8::1", "2001:db8:7::7"
NET, HOST = "10.1.0.0/16", "10.9.0.5"
NET6, HOST6 = "fd00:1::/64", "fd00:9::5"


def keys_for(suite: EspSuite, seed: int) -> EspKeys:
    octets = random.Random(seed)
    salt = 4 if suite.encryption.is_aead else 0
    return EspKeys(
        octets.randbytes(suite.key_bits // 8 + salt),
        octets.randbytes(_INTEGRITY_OCTETS[suite.integrity]),
    )


def endpoint(address: str, port: int = 4500) -> Endpoint:
    return Endpoint(ip_address(address), port)


def network(text: str) -> TrafficSelector:
    return TrafficSelector.of_network(ip_network(text))


def both_ends(
    suite: EspSuite = GCM,
    *,
    spi: int = 0x1000,
    reqid: int = 7,
    local: Endpoint | None = None,
    remote: Endpoint | None = None,
    udp: bool = False,
    local_ts: tuple[TrafficSelector, ...] = (network(NET), network(NET6)),
    remote_ts: tuple[TrafficSelector, ...] = (network(HOST), network(HOST6)),
    mode: Mode = Mode.TUNNEL,
    window: int = 128,
    follow: bool = False,
    zone: int = 0,
    soft_packets: int | None = None,
    hard_packets: int | None = None,
    soft_bytes: int | None = None,
    hard_bytes: int | None = None,
) -> tuple[ChildSa, ChildSa]:
    """As the gateway has it and as the device has it."""
    here, there = local or endpoint(GATEWAY), remote or endpoint(DEVICE)
    ours, theirs = keys_for(suite, spi), keys_for(suite, spi + 1)
    gateway = ChildSa(
        spi, spi + 1, reqid, suite, ours, theirs, here, there, udp, local_ts, remote_ts,
        mode=mode, replay_window=window, follow_endpoint=follow, zone=zone,
        soft_packets=soft_packets, hard_packets=hard_packets,
        soft_bytes=soft_bytes, hard_bytes=hard_bytes,
    )  # fmt: skip
    device = ChildSa(
        spi + 1, spi, reqid, suite, theirs, ours, there, here, udp, remote_ts, local_ts,
        mode=mode, replay_window=window,
    )  # fmt: skip
    return gateway, device


def engine(worker: int = 0, workers: int = 1, *, seed: int = 0) -> EspEngine:
    """With randomness that repeats and a wall clock that stands."""
    octets: Callable[[int], bytes] = random.Random(seed).randbytes
    return EspEngine(LINK, worker, workers, octets, now=100.0, wall_clock=lambda: 1_700_000_000.0)


def connected(gateway: ChildSa, device: ChildSa) -> tuple[EspEngine, EspEngine]:
    """Both ends installed and sending."""
    ends = engine(seed=1), engine(seed=2)
    for one, sa in zip(ends, (gateway, device), strict=True):
        assert one.install(sa, outbound=True) is None
    return ends


def udp4(
    source: str,
    destination: str,
    *,
    ports: tuple[int, int] = (1111, 2222),
    payload: bytes = b"datagram",
    tos: int = 0,
    dont_fragment: bool = True,
    protocol: int = 17,
) -> bytes:
    """An IPv4 packet with right checksums."""
    ends = ip_address(source).packed + ip_address(destination).packed
    size = 8 + len(payload)
    udp = b"".join(number.to_bytes(2, "big") for number in (*ports, size, 1)) + payload
    if protocol == 17:
        udp = behind_nat(udp, 17, ends)
    packet = ipv4.simple_header(ends[:4], ends[4:], protocol, len(udp), tos=tos)
    if not dont_fragment:
        packet = ipv4.with_checksum(packet[:6] + b"\0" + packet[7:])
    return packet + udp


def udp6(
    source: str,
    destination: str,
    *,
    ports: tuple[int, int] = (1111, 2222),
    payload: bytes = b"datagram",
    tos: int = 0,
    flow: int = 0,
) -> bytes:
    """An IPv6 packet with a right checksum."""
    ends = ip_address(source).packed + ip_address(destination).packed
    size = 8 + len(payload)
    udp = b"".join(number.to_bytes(2, "big") for number in (*ports, size, 1)) + payload
    udp = behind_nat(udp, 17, ends)
    first = 0x60000000 | tos << 20 | flow
    return first.to_bytes(4, "big") + size.to_bytes(2, "big") + bytes((17, 64)) + ends + udp


def to_device(**how: object) -> bytes:
    return udp4("10.1.0.1", HOST, **how)  # type: ignore[arg-type]


def to_gateway(**how: object) -> bytes:
    return udp4(HOST, "10.1.0.1", **how)  # type: ignore[arg-type]


def sealed(sender: EspEngine, *packets: bytes, mark: int = 0) -> list[bytes]:
    """What the sender makes of them, for the wire."""
    sender.leaving(LINK, [(packet, mark) for packet in packets])
    found = [packet for packet, _ in sender.sends]
    sender.sends.clear()
    return found


def opened(receiver: EspEngine, *packets: bytes, mark: int = 0) -> list[bytes]:
    """What comes out of them at the other end."""
    receiver.arrived([(packet, mark) for packet in packets])
    found = [packet for _, packet, _ in receiver.delivers]
    receiver.delivers.clear()
    return found


def from_address(outer: bytes, address: str, port: int | None = None) -> bytes:
    """The outer packet as if it came from elsewhere. Its header checksum is nobody's business."""
    if outer[0] >> 4 == 4:
        outer = outer[:12] + ip_address(address).packed + outer[16:]
        at = 20
    else:
        outer = outer[:8] + ip_address(address).packed + outer[24:]
        at = 40
    return outer if port is None else outer[:at] + port.to_bytes(2, "big") + outer[at + 2 :]
