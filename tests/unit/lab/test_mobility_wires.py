"""Headers of packets as they are on a wire."""

import struct
from ipaddress import IPv4Address

import pytest

from gateway.lab.mobility.wires import read

A, B, C, D = (IPv4Address(f"192.0.2.{last}") for last in (1, 2, 3, 4))


def ip(source: IPv4Address, to: IPv4Address, protocol: int, payload: bytes, frag: int = 0) -> bytes:
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(payload), 0, frag, 64, protocol, 0)
    return head + source.packed + to.packed + payload


PING = ip(A, B, 1, bytes(8))
UDP_HEAD = struct.pack(">HHHH", 1234, 434, 12 + len(PING), 0)


@pytest.mark.parametrize(
    ("packet", "shape", "overhead"),
    [
        (PING, "ip/icmp", 0),
        (ip(C, D, 4, PING), "ip/ip/icmp", 20),
        (ip(C, D, 4, ip(C, D, 4, PING)), "ip/ip/ip/icmp", 40),
        (ip(C, D, 47, bytes.fromhex("00000800") + PING), "ip/gre/ip/icmp", 24),
        (ip(C, D, 47, bytes.fromhex("2000080000000001") + PING), "ip/gre/ip/icmp", 28),
        (ip(C, D, 17, UDP_HEAD + bytes.fromhex("04040000") + PING), "ip/tunnel/ip/icmp", 32),
        (ip(C, D, 17, UDP_HEAD + bytes([1, 2, 3, 4])), "ip/mip", 0),
        (ip(C, D, 50, bytes(20)), "ip/esp", 0),
        (ip(C, D, 4, PING, frag=0x2000), "ip/fragment", 0),
        (ip(C, D, 4, PING, frag=0x4000), "ip/ip/icmp", 20),
        (ip(C, D, 55, bytes(12)), "ip/minimal", 0),
    ],
)
def test_shapes(packet: bytes, shape: str, overhead: int) -> None:
    found = read(packet)
    assert found.shape == shape
    assert found.overhead_octets == overhead


def test_addresses_of_both_headers() -> None:
    found = read(ip(C, D, 4, PING))
    assert str(found.outer) == f"{C} > {D}"
    assert str(found.inner) == f"{A} > {B}"
