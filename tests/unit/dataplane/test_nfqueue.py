"""Packets and verdicts of an NFQUEUE, as the kernel writes and reads them."""

import struct
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dataplane.kernel.netlink import attribute, attributes, messages
from gateway.dataplane.kernel.nfqueue import ACCEPT, DROP, POSTROUTING, Queue, QueuedPacket

NUMBER = 4758


class FakeSocket:
    def __init__(self) -> None:
        self.waiting: list[bytes] = []
        self.sent: list[bytes] = []
        self.refuse = 0

    def read_datagrams(self, limit: int) -> tuple[list[bytes], bool]:
        now, self.waiting = self.waiting[:limit], self.waiting[limit:]
        return now, False

    def send(self, data: bytes) -> None:
        if self.refuse:
            self.refuse -= 1
            raise OSError(105, "no buffer space")
        self.sent.append(data)


@pytest.fixture
def queue() -> Queue:
    made = Queue.__new__(Queue)
    made._number = NUMBER
    made._number_wire = struct.unpack("=H", struct.pack("!H", NUMBER))[0]
    made._socket = FakeSocket()  # type: ignore[assignment]
    made.overruns = 0
    return made


def socket_of(queue: Queue) -> FakeSocket:
    return queue._socket  # type: ignore[return-value]


def queued(number: int, octets: bytes, *, hook: int = 0, mark: int = 0, device: int = 0) -> bytes:
    body = struct.pack("!BBH", 2, 0, NUMBER) + attribute(
        1, struct.pack("!IHB", number, 0x800, hook)
    )
    if mark:
        body += attribute(3, struct.pack("!I", mark))
    if device:
        body += attribute(5, struct.pack("!I", device))
    body += attribute(6, bytes(4)) + attribute(10, octets)
    return struct.pack("=IHHII", 16 + len(body), 3 << 8, 0, 0, 0) + body


def test_what_waits(queue: Queue) -> None:
    socket_of(queue).waiting = [
        queued(7, b"abc", hook=POSTROUTING, mark=0x47570012, device=9) + queued(8, b"defg"),
        queued(9, b""),
    ]
    assert queue.receive(10) == [
        (7, POSTROUTING, 0x47570012, 9, b"abc"),
        (8, 0, 0, 0, b"defg"),
        (9, 0, 0, 0, b""),
    ]


def test_the_plain_reader_still_reads(queue: Queue) -> None:
    socket_of(queue).waiting = [queued(7, b"abc")]
    assert queue.read(10) == [QueuedPacket(7, b"abc")]


@given(st.binary(max_size=80), st.integers(0, 60))
def test_broken_messages_are_passed_over(rubbish: bytes, cut: int) -> None:
    made = Queue.__new__(Queue)
    made._socket = FakeSocket()  # type: ignore[assignment]
    made.overruns = 0
    socket_of(made).waiting = [rubbish, queued(7, b"abc")[:cut], queued(8, b"right")]
    assert (8, 0, 0, 0, b"right") in made.receive(10)


def read_back(data: bytes) -> list[tuple[int, int, int, bytes | None, int]]:
    """Message kind, verdict, number, payload, mark; and the queue number is right."""
    found = []
    for kind, flags, _, _, body in messages(data):
        assert flags == 1
        assert body[:4] == struct.pack("!BBH", 0, 0, NUMBER)
        fields = attributes(body, 4)
        verdict, number = struct.unpack("!II", fields[2])
        mark = int.from_bytes(fields.get(3, b""), "big")
        found.append((kind & 0xFF, verdict, number, fields.get(10), mark))
    return found


def test_conclusions(queue: Queue) -> None:
    assert queue.conclude(
        [
            (1, ACCEPT, b"new octets!", 0x47570010),
            (2, DROP, None, 0),
            (3, ACCEPT, None, 0),
            (4, DROP, None, 0),
        ]
    )
    first, last = socket_of(queue).sent
    assert read_back(first) == [
        (1, ACCEPT, 1, b"new octets!", 0x47570010),
        (1, ACCEPT, 3, None, 0),
    ]
    assert read_back(last) == [(3, DROP, 4, None, 0)]


def test_what_is_dropped_goes_after_what_is_not(queue: Queue) -> None:
    queue.conclude([(1, DROP, None, 0), (2, ACCEPT, None, 0)])
    assert [read_back(one)[0][:3] for one in socket_of(queue).sent] == [
        (1, ACCEPT, 2),
        (3, DROP, 2),
    ]


def test_a_batch_of_large_packets_is_split(queue: Queue) -> None:
    queue.conclude([(number, ACCEPT, bytes(60_000), 0) for number in range(4)])
    assert len(socket_of(queue).sent) == 4


def test_nothing_is_held_when_memory_lacks(queue: Queue) -> None:
    socket_of(queue).refuse = 1
    assert not queue.conclude([(1, ACCEPT, b"x", 0), (2, ACCEPT, None, 0)])
    assert [read_back(one) for one in socket_of(queue).sent] == [[(3, DROP, 2, None, 0)]]


def test_nothing_waits_nothing_is_sent(queue: Queue) -> None:
    assert queue.conclude([])
    assert not socket_of(queue).sent


def test_the_byte_order_of_the_machine(queue: Queue) -> None:
    queue.conclude([(1, ACCEPT, None, 0)])
    (data,) = socket_of(queue).sent
    assert int.from_bytes(data[:4], sys.byteorder) == len(data)
