"""Outer packets take the way that their own source address has."""

# planes: portable

import socket
import struct
from collections.abc import Iterator

import pytest
from dataplane_bed import entered

from gateway.dataplane.portable.wire.send import RawSender
from gateway.lab import netns

pytestmark = pytest.mark.kernel

HOST = "prt-ways"
SETUP = (
    "link add wide type veth peer name wide-far",
    "link add narrow type veth peer name narrow-far",
    "address add 192.0.2.1/24 dev wide",
    "address add 198.51.100.1/24 dev narrow",
    "link set narrow mtu 1400 up",
    "link set wide up",
    "link set wide-far up",
    "link set narrow-far up",
    "neighbor add 198.51.100.254 lladdr 02:00:00:00:00:09 dev narrow",
    "route add default via 192.0.2.254",
    "route add default via 198.51.100.254 table 100",
    "rule add from 198.51.100.1 table 100",
)


@pytest.fixture
def host() -> Iterator[None]:
    netns.command(["ip", "netns", "add", HOST])
    try:
        for line in SETUP:
            netns.command(["ip", "-n", HOST, *line.split()])
        with entered(HOST):
            yield
    finally:
        netns.command(["ip", "netns", "delete", HOST])


def esp(source: str, octets: int) -> bytes:
    ends = socket.inet_aton(source) + socket.inet_aton("203.0.113.5")
    header = struct.pack("!BBHHHBBH8s", 0x45, 0, octets, 0, 0, 64, 50, 0, ends)
    return header + bytes(octets - len(header))


@pytest.mark.usefixtures("host")
def test_what_is_too_long_for_the_way_of_its_source_is_cut_up() -> None:
    """The way that others take carries more."""
    far = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800))
    far.bind(("narrow-far", 0x0800))
    far.settimeout(5)
    sender = RawSender(by_source=True)
    sender.send([(esp("198.51.100.1", 1470), 0)])
    assert sender.counters == {}
    sizes = [len(far.recv(2000)) for _ in range(2)]
    assert max(sizes) <= 1400
    assert sum(sizes) == 1470 + 20
    sender.close()
    far.close()
