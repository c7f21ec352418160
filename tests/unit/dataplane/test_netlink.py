"""Netlink framing, and sockets that answer with what a kernel may answer."""

import errno
import struct
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dataplane.kernel import netlink
from gateway.dataplane.kernel.netlink import (
    HEADER,
    NLM_F_ACK,
    NLMSG_ERROR,
    NetlinkError,
    NetlinkSocket,
    attribute,
    attributes,
    messages,
    nested,
    request,
)


class Kernel:
    """Stands in for the socket: answers each send with what ``answer`` makes of it."""

    def __init__(self) -> None:
        self.queue: list[bytes | OSError] = []
        self.sent: list[bytes] = []
        self.errors: dict[int, tuple[int, str]] = {}
        self.silent = False

    def send(self, data: bytes) -> int:
        self.sent.append(data)
        for index, (_, flags, sequence, _, _) in enumerate(messages(data)):
            code, text = self.errors.get(index, (0, ""))
            if (code or flags & NLM_F_ACK) and not self.silent:
                self.queue.append(self.error(sequence, code, text))
        return len(data)

    @staticmethod
    def error(sequence: int, code: int, text: str) -> bytes:
        body = struct.pack("=i", -code) + bytes(16)
        if text:
            body += attribute(1, text.encode() + b"\0")
        return HEADER.pack(16 + len(body), NLMSG_ERROR, 0x200 if text else 0, sequence, 0) + body

    def _next(self) -> bytes:
        if not self.queue:
            raise BlockingIOError
        item = self.queue.pop(0)
        if isinstance(item, OSError):
            raise item
        return item

    def recv_into(self, buffer: bytearray) -> int:
        item = self._next()
        buffer[: len(item)] = item
        return len(item)

    def recv(self, size: int) -> bytes:
        return self._next()[:size]

    def close(self) -> None:
        pass


@pytest.fixture
def kernel() -> Kernel:
    return Kernel()


@pytest.fixture
def link(kernel: Kernel) -> Iterator[NetlinkSocket]:
    made = NetlinkSocket(netlink.NETLINK_ROUTE)
    real, made._socket = made._socket, kernel  # type: ignore[assignment]
    yield made
    real.close()


def test_a_batch_is_one_send_and_one_acknowledgement(link: NetlinkSocket, kernel: Kernel) -> None:
    assert link.transact([request(1, 0, b"abcd"), request(2, 0, b"e"), request(3, 0, b"")]) == (
        [],
        [],
    )
    assert len(kernel.sent) == 1
    flags = [flags & NLM_F_ACK for _, flags, *_ in messages(kernel.sent[0])]
    assert flags == [0, 0, NLM_F_ACK]


def test_errors_name_their_request_and_keep_the_kernels_words(
    link: NetlinkSocket, kernel: Kernel
) -> None:
    kernel.errors = {0: (errno.EINVAL, "Invalid key length"), 2: (errno.EEXIST, "")}
    refusals, _ = link.transact([request(1, 0, b"")] * 3)
    assert [(r.index, r.errno) for r in refusals] == [(0, errno.EINVAL), (2, errno.EEXIST)]
    assert str(refusals[0]) == "EINVAL: Invalid key length"
    assert str(refusals[1]) == "EEXIST: File exists"
    with pytest.raises(NetlinkError, match="adding: EINVAL: Invalid key length"):
        link.check("adding", [request(1, 0, b"")])
    kernel.errors = {0: (errno.ESRCH, "")}
    link.check("deleting", [request(1, 0, b"")], errno.ESRCH)


def test_a_lost_acknowledgement_is_a_refusal_and_not_a_hang(
    link: NetlinkSocket, kernel: Kernel
) -> None:
    kernel.silent = True
    (refusal,), _ = link.transact([request(1, 0, b"")])
    assert refusal.errno == errno.ENOBUFS


def test_stale_answers_of_an_earlier_request_are_passed_over(
    link: NetlinkSocket, kernel: Kernel
) -> None:
    kernel.queue.append(Kernel.error(4711, errno.EPERM, "stale"))
    assert link.transact([request(1, 0, b"")])[0] == []


def test_an_overrun_while_waiting_is_survived(link: NetlinkSocket, kernel: Kernel) -> None:
    kernel.queue.append(OSError(errno.ENOBUFS, "overrun"))
    assert link.transact([request(1, 0, b"")])[0] == []
    kernel.queue += [OSError(errno.ENOBUFS, "overrun"), b"one", b"two"]
    assert link.read_datagrams(10) == ([b"one", b"two"], True)
    kernel.queue += [b"one", b"two"]
    assert link.read_datagrams(1) == ([b"one"], False)


def test_large_batches_are_split(link: NetlinkSocket, kernel: Kernel) -> None:
    requests = [request(1, 0, bytes(1000))] * 300
    assert link.transact(requests)[0] == []
    assert len(kernel.sent) == 4
    kernel.errors = {5: (errno.EINVAL, "")}
    refusals, _ = link.transact(requests)
    assert [r.index for r in refusals] == [5, 101, 197, 293]


def test_attributes_round_trip() -> None:
    octets = attribute(1, b"abc") + nested(2, attribute(3, b""), attribute(4, b"defg"))
    found = attributes(octets, 0)
    assert found[1] == b"abc"
    assert attributes(found[2], 0) == {3: b"", 4: b"defg"}


@given(st.binary(max_size=200))
def test_h08_broken_lengths_end_the_walk(octets: bytes) -> None:
    attributes(octets, 0)
    assert sum(16 + len(body) for *_, body in messages(octets)) <= len(octets)
