"""A queue of logged packets: what the kernel writes, and what becomes of verdicts."""

import struct
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dataplane.kernel.netlink import attribute
from gateway.dataplane.kernel.nfqueue import ACCEPT, DROP, PREROUTING, QueuedPacket
from gateway.dataplane.packet.ipv4 import with_checksum
from gateway.dataplane.portable import logged_queue
from gateway.dataplane.portable.logged_queue import LoggedQueue, as_logged, copied

GROUP = 4758
ENDS = bytes((10, 0, 0, 1, 10, 0, 0, 2))


class FakeSocket:
    def __init__(self, *_: object, **__: object) -> None:
        self.waiting: list[bytes] = []
        self.overrun = False
        self.asked: list[bytes] = []
        self.closed = False

    def check(self, _what: str, requests: list[bytes]) -> None:
        self.asked += requests

    def read_datagrams(self, limit: int) -> tuple[list[bytes], bool]:
        now, self.waiting = self.waiting[:limit], self.waiting[limit:]
        return now, self.overrun

    def close(self) -> None:
        self.closed = True


class Back:
    def __init__(self) -> None:
        self.given: list[tuple[int, int, bytes, int]] = []
        self.works = True

    def give_back(self, hook: int, device: int, octets: bytes, mark: int) -> None:
        if not self.works:
            raise OSError(105, "no buffer space")
        self.given.append((hook, device, octets, mark))


@pytest.fixture
def back() -> Back:
    return Back()


@pytest.fixture
def queue(back: Back, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoggedQueue]:
    monkeypatch.setattr(logged_queue, "NetlinkSocket", FakeSocket)
    made = LoggedQueue(GROUP, 3, back)
    yield made
    made.close()


def socket_of(queue: LoggedQueue) -> FakeSocket:
    return queue._socket  # type: ignore[return-value]


def ip(body: bytes = b"data", protocol: int = 253) -> bytes:
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 1, 0, 64, protocol, 0)
    return with_checksum(head + ENDS) + body


def logged(
    octets: bytes, *, hook: int = 0, mark: int = 0, device: int = 0, prefix: str = ""
) -> bytes:
    """As Linux writes it: no mark when it is 0."""
    body = struct.pack("!BBH", 2, 0, GROUP) + attribute(1, struct.pack("!HBB", 0x800, hook, 0))
    body += attribute(10, prefix.encode() + b"\0")
    if device:
        body += attribute(4, struct.pack("!I", device))
    if mark:
        body += attribute(2, struct.pack("!I", mark))
    body += attribute(9, octets)
    return struct.pack("=IHHII", 16 + len(body), 4 << 8, 0, 0, 0) + body


def test_what_waits_and_what_is_given_back(queue: LoggedQueue, back: Back) -> None:
    one, two = ip(b"one"), ip(b"two")
    socket_of(queue).waiting = [logged(one, mark=7, device=3), logged(two, hook=3)]
    found = queue.receive(64)
    assert found == [(1, PREROUTING, 7, 3, one), (2, 3, 0, 0, two)]
    assert queue.conclude([(1, ACCEPT, None, 0), (2, ACCEPT, b"new", 9)])
    assert back.given == [(0, 3, one, 7), (3, 0, b"new", 9)]


def test_dropped_and_forgotten_ones_are_gone(queue: LoggedQueue, back: Back) -> None:
    socket_of(queue).waiting = [logged(ip()), logged(ip()), logged(ip())]
    queue.receive(64)
    assert queue.conclude([(2, DROP, None, 0)])
    assert queue.conclude([(1, ACCEPT, None, 0), (3, ACCEPT, None, 0), (77, ACCEPT, None, 0)])
    assert back.given == []


def test_a_copy_goes_on_by_itself(queue: LoggedQueue, back: Back) -> None:
    socket_of(queue).waiting = [logged(ip(), prefix="copy"), logged(ip(), prefix="other")]
    found = queue.receive(64)
    assert len(found) == 2
    queue.conclude([(number, ACCEPT, None, 0) for number, *_ in found])
    assert len(back.given) == 1


def test_a_checksum_left_to_the_interface_is_made(queue: LoggedQueue) -> None:
    size = 12
    pseudo = ENDS + struct.pack("!HH", 17, size)
    partial = sum(struct.unpack("!6H", pseudo)) % 0xFFFF
    packet = ip(struct.pack("!HHHH", 5, 6, size, partial) + b"data", 17)
    socket_of(queue).waiting = [logged(packet)]
    ((*_, octets),) = queue.receive(64)
    total = sum(struct.unpack("!12H", pseudo + octets[20:]))
    assert total % 0xFFFF == 0


def test_later_verdicts(queue: LoggedQueue, back: Back) -> None:
    socket_of(queue).waiting = [logged(ip(b"%d" % number)) for number in range(5)]
    found = queue.read(64)
    assert found[0] == QueuedPacket(1, ip(b"0"))
    # No more than so many wait; the oldest give way.
    queue.decide([(number, ACCEPT) for number in (1, 2, 3)])
    queue.decide([(4, DROP), (5, ACCEPT), (5, ACCEPT)])
    assert [octets for _, _, octets, _ in back.given] == [ip(b"2"), ip(b"4")]


def test_what_the_stack_does_not_take_is_counted(queue: LoggedQueue, back: Back) -> None:
    socket_of(queue).waiting = [logged(ip())]
    socket_of(queue).overrun = True
    [(number, *_)] = queue.receive(64)
    back.works = False
    assert not queue.conclude([(number, ACCEPT, None, 0)])
    assert (queue.not_given_back, queue.overruns) == (1, 1)


def test_it_asks_for_whole_packets_at_once(queue: LoggedQueue) -> None:
    bind, mode = socket_of(queue).asked
    assert bind.endswith(attribute(1, b"\1"))
    assert attribute(5, struct.pack("!I", 1)) in mode
    assert mode[16:20] == struct.pack("!BBH", 0, 0, GROUP)


@given(st.binary(max_size=120), st.integers(0, 80), st.integers(0, 255))
def test_any_datagram(noise: bytes, at: int, value: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logged_queue, "NetlinkSocket", FakeSocket)
        queue = LoggedQueue(GROUP, 3, Back())
        changed = bytearray(logged(ip(), mark=1, device=2, prefix="copy"))
        changed[at] = value
        socket_of(queue).waiting = [noise, bytes(changed), bytes(changed[:at]), logged(noise)]
        found = queue.receive(64)
        queue.conclude([(number, ACCEPT, None, 0) for number, *_ in found])


def test_rules() -> None:
    rules = 'a counter queue num 12 comment "x"\nb queue num 12 bypass comment "y"\nqueue num 12\n'
    assert as_logged(rules) == (
        'a counter log group 12 drop comment "x"\nb log group 12 drop comment "y"\n'
        "log group 12 drop\n"
    )
    assert as_logged('comment "queue"') == 'comment "queue"'
    assert copied(12) == 'log group 12 prefix "copy" accept'
