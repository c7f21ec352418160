"""What the kernel joins of the packets that a forwarder writes into a link pair."""

# planes: portable

import os
import socket
import struct
import time
from collections.abc import Iterator

import pytest

from gateway.dataplane.portable.wire import joining, links
from gateway.dataplane.portable.wire.batches import ReceiveBatch
from gateway.dataplane.portable.wire.sockets import with_buffers
from gateway.dataplane.portable.wire.veth import VethLink
from gateway.domain.checksum import internet_checksum
from gateway.lab import netns

NAME = "gw0"
ETH_P_IP = 0x0800
SO_RCVMARK = 75
SEGMENT = 1000
SOURCE, DESTINATION = socket.inet_aton("10.9.0.1"), socket.inet_aton("10.1.0.10")
ROUNDS = 20


def segment(number: int) -> bytes:
    """The n-th TCP segment of a stream, its checksums complete."""
    ports_and_numbers = struct.pack("!HHII", 40000, 5201, 1 + number * SEGMENT, 1)
    tcp = ports_and_numbers + struct.pack("!BBHHH", 0x50, 0x10, 500, 0, 0) + bytes(SEGMENT)
    pseudo = SOURCE + DESTINATION + struct.pack("!HH", 6, len(tcp))
    tcp = tcp[:16] + struct.pack("!H", internet_checksum(pseudo + tcp)) + tcp[18:]
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(tcp), number, 0x4000, 64, 6, 0)
    checksum = internet_checksum(header + SOURCE + DESTINATION)
    return header[:10] + struct.pack("!H", checksum) + SOURCE + DESTINATION + tcp


class Pair:
    """A link pair, its far end open, and what comes out of the near end."""

    def __init__(self) -> None:
        links.make_pair(NAME, 1400)
        self.joins = joining.join_received(NAME)
        self.link = VethLink(NAME, ReceiveBatch())
        self.heard = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_IP))
        self.heard.bind((NAME, ETH_P_IP))
        self.heard.setsockopt(socket.SOL_SOCKET, SO_RCVMARK, 1)
        with_buffers(self.heard, 8 << 20, 0)
        self.heard.settimeout(0.2)

    def come_out(self) -> list[tuple[int, int]]:
        """Octets of TCP content and mark of each packet until none comes any more."""
        found: list[tuple[int, int]] = []
        while True:
            try:
                packet, notes, _, _ = self.heard.recvmsg(65536, 64)
            except TimeoutError:
                return found
            (mark,) = struct.unpack("@I", notes[0][2]) if notes else (0,)
            found.append((len(packet) - 40, mark))


@pytest.fixture
def pair() -> Iterator[Pair]:
    name = f"join-{os.getpid()}"
    netns.command(["ip", "netns", "add", name])
    try:
        made = netns.made_inside(name, Pair)
        yield made
        made.link.close()
        made.heard.close()
    finally:
        netns.command(["ip", "netns", "delete", name])


def test_segments_of_one_mark_come_out_joined_and_complete(pair: Pair) -> None:
    if not pair.joins:
        pytest.skip("this kernel does not wait for more segments")
    sent = 0
    for _ in range(ROUNDS):
        pair.link.send([(segment(sent + number), 7) for number in range(16)])
        sent += 16
        time.sleep(0.001)
    found = pair.come_out()
    assert sum(octets for octets, _ in found) == sent * SEGMENT
    assert {mark for _, mark in found} == {7}
    assert len(found) < sent / 2


def test_packets_of_two_marks_are_never_joined(pair: Pair) -> None:
    """Two devices without addresses may have the same ones: a stream of one is not the other's."""
    for start in range(0, 16 * ROUNDS, 16):
        pair.link.send([(segment(start + number), 7 + number % 2) for number in range(16)])
    found = pair.come_out()
    assert len(found) == 16 * ROUNDS
    assert {octets for octets, _ in found} == {SEGMENT}
