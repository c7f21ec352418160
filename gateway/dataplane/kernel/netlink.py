"""Netlink sockets with batches: many messages in one send, errors with the kernel's own words.

The hot path of a handshake goes through here, so nothing is declared or decoded that the caller
did not ask for. Layouts are the kernel's ``linux/netlink.h``.
"""

import errno
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

NETLINK_ROUTE = 0
NETLINK_XFRM = 6
NETLINK_NETFILTER = 12

NLM_F_REQUEST = 0x1
NLM_F_ACK = 0x4
NLM_F_DUMP = 0x300
NLM_F_REPLACE = 0x100
NLM_F_EXCL = 0x200
NLM_F_CREATE = 0x400

NLMSG_ERROR = 2
NLMSG_DONE = 3

NLA_F_NESTED = 0x8000
_NLA_TYPE_MASK = 0x3FFF

_SOL_NETLINK = 270
_NETLINK_ADD_MEMBERSHIP = 1
_NETLINK_CAP_ACK = 10
_NETLINK_EXT_ACK = 11
_SO_RCVBUFFORCE = 33
_NLM_F_ACK_TLVS = 0x200
_NLMSGERR_ATTR_MSG = 1

RECEIVE_SIZE = 1 << 16
BATCH_OCTETS = 96 * 1024
"""A send larger than this is split, so that it and its errors fit the socket buffers."""

HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_ERROR = struct.Struct("=i")


def attribute(kind: int, value: bytes) -> bytes:
    """One netlink attribute, padded to four octets."""
    size = 4 + len(value)
    return _ATTRIBUTE.pack(size, kind) + value + b"\0" * (-size & 3)


def nested(kind: int, *attributes: bytes) -> bytes:
    """An attribute that holds attributes."""
    return attribute(kind | NLA_F_NESTED, b"".join(attributes))


def attributes(data: bytes, offset: int, end: int | None = None) -> dict[int, bytes]:
    """The attributes in ``data[offset:end]`` by type; the first of a type wins.

    A broken length ends the walk: what precedes it is still returned.
    """
    found: dict[int, bytes] = {}
    stop = len(data) if end is None else min(end, len(data))
    while offset + 4 <= stop:
        size, kind = _ATTRIBUTE.unpack_from(data, offset)
        if size < 4 or offset + size > stop:
            break
        found.setdefault(kind & _NLA_TYPE_MASK, data[offset + 4 : offset + size])
        offset += size + 3 & ~3
    return found


def request(kind: int, flags: int, body: bytes) -> bytes:
    """A request without sequence number; :meth:`NetlinkSocket.transact` numbers it."""
    return HEADER.pack(16 + len(body), kind, flags | NLM_F_REQUEST, 0, 0) + body


def messages(datagram: bytes) -> Iterator[tuple[int, int, int, int, bytes]]:
    """``(type, flags, sequence, port id, body)`` of each message of a datagram."""
    offset = 0
    while offset + 16 <= len(datagram):
        size, kind, flags, sequence, port = HEADER.unpack_from(datagram, offset)
        if size < 16 or offset + size > len(datagram):
            return
        yield kind, flags, sequence, port, datagram[offset + 16 : offset + size]
        offset += size + 3 & ~3


@dataclass(frozen=True, slots=True)
class NetlinkRefusal:
    """What the kernel refused: the message's place in the batch, errno and the kernel's words."""

    index: int
    errno: int
    text: str

    def __str__(self) -> str:
        name = errno.errorcode.get(self.errno, str(self.errno))
        return f"{name}: {self.text or os.strerror(self.errno)}"


class NetlinkError(OSError):
    """A request that had to succeed was refused."""

    def __init__(self, what: str, refusal: NetlinkRefusal) -> None:
        super().__init__(refusal.errno, f"{what}: {refusal}")


def _refusal(index: int, flags: int, body: bytes) -> NetlinkRefusal | None:
    code: int = -_ERROR.unpack_from(body)[0] if len(body) >= 20 else errno.EPROTO
    if code == 0:
        return None
    text = ""
    if flags & _NLM_F_ACK_TLVS:
        message = attributes(body, 20).get(_NLMSGERR_ATTR_MSG, b"")
        text = message.rstrip(b"\0").decode("ascii", "replace")
    return NetlinkRefusal(index, code, text)


class NetlinkSocket:
    """One netlink socket. Raises :class:`OSError` only from the constructor and on real I/O loss.

    ``groups`` are multicast group numbers; a socket with groups is for reading events.
    """

    def __init__(
        self, protocol: int, groups: Sequence[int] = (), *, receive_buffer: int = 1 << 20
    ) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol
        )
        self._sequence = 0
        try:
            self._socket.bind((0, 0))
            for option in (_NETLINK_CAP_ACK, _NETLINK_EXT_ACK):
                self._socket.setsockopt(_SOL_NETLINK, option, 1)
            for group in groups:
                self._socket.setsockopt(_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, group)
            try:
                self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, receive_buffer)
            except PermissionError:
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            self._socket.setblocking(False)
        except OSError:
            self._socket.close()
            raise
        self._buffer = bytearray(RECEIVE_SIZE)
        self._view = memoryview(self._buffer)

    def fileno(self) -> int:
        """For selectors."""
        return self._socket.fileno()

    def close(self) -> None:
        """Leave all groups and free the port."""
        self._socket.close()

    def transact(
        self, requests: Sequence[bytes], *, acknowledge: int = -1
    ) -> tuple[list[NetlinkRefusal], list[tuple[int, int, bytes]]]:
        """Send ``requests`` in order, in as few system calls as fit.

        Only the last one of a send asks for an acknowledgement: the kernel works through a
        send before the call returns, reports every error, and goes on after one. ``acknowledge``
        names another one by its place (the end of an nftables batch is not acknowledged).

        Returns the refusals, and the answers as ``(index of the request, type, body)``.
        """
        refusals: list[NetlinkRefusal] = []
        answers: list[tuple[int, int, bytes]] = []
        start = 0
        while start < len(requests):
            end, size = start, 0
            while end < len(requests) and (
                end == start or size + len(requests[end]) <= BATCH_OCTETS
            ):
                size += len(requests[end])
                end += 1
            self._exchange(requests[start:end], start, acknowledge, refusals, answers)
            start = end
        return refusals, answers

    def _exchange(
        self,
        requests: Sequence[bytes],
        base: int,
        acknowledge: int,
        refusals: list[NetlinkRefusal],
        answers: list[tuple[int, int, bytes]],
    ) -> None:
        first = self._sequence + 1
        parts = []
        last = len(requests) - 1
        asked = acknowledge % len(requests)
        for index, message in enumerate(requests):
            size, kind, flags, _, _ = HEADER.unpack_from(message)
            if index == asked:
                flags |= NLM_F_ACK
            parts.append(HEADER.pack(size, kind, flags, first + index, 0))
            parts.append(message[16:])
            if size & 3:
                parts.append(b"\0" * (-size & 3))
        self._sequence = (first + last) & 0x7FFFFFFF
        self._socket.send(b"".join(parts))
        done = False
        while not done:
            try:
                got = self._socket.recv_into(self._buffer)
            except BlockingIOError:
                # The kernel answers within the send; nothing left means the ack was lost.
                refusals.append(NetlinkRefusal(base + last, errno.ENOBUFS, "no acknowledgement"))
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                continue
            for kind, flags, sequence, _, body in messages(bytes(self._view[:got])):
                index = sequence - first
                if not 0 <= index <= last:
                    continue
                if kind == NLMSG_ERROR:
                    refusal = _refusal(base + index, flags, body)
                    if refusal is not None:
                        refusals.append(refusal)
                    done = done or index == asked
                else:
                    answers.append((base + index, kind, body))

    def check(self, what: str, requests: Sequence[bytes], *ignore: int) -> None:
        """Like :meth:`transact`, raising :class:`NetlinkError` for the first refusal.

        Refusals whose errno is in ``ignore`` are fine.
        """
        refusals, _ = self.transact(requests)
        for refusal in refusals:
            if refusal.errno not in ignore:
                raise NetlinkError(what, refusal)

    def dump(self, kind: int, body: bytes) -> Iterator[tuple[int, bytes]]:
        """``(type, body)`` of every object of a dump. Read it to its end."""
        self._sequence = (self._sequence + 1) & 0x7FFFFFFF
        number = self._sequence
        size = 16 + len(body)
        self._socket.send(
            HEADER.pack(size, kind, NLM_F_REQUEST | NLM_F_DUMP, number, 0)
            + body
            + b"\0" * (-size & 3)
        )
        while True:
            try:
                datagram = self._socket.recv(RECEIVE_SIZE)
            except BlockingIOError:
                return
            for got, flags, sequence, _, content in messages(datagram):
                if sequence != number:
                    continue
                if got == NLMSG_DONE:
                    return
                if got == NLMSG_ERROR:
                    refusal = _refusal(0, flags, content)
                    if refusal is not None:
                        raise NetlinkError("dump", refusal)
                    return
                yield got, content

    def read_datagrams(self, limit: int) -> tuple[list[bytes], bool]:
        """Up to ``limit`` datagrams that wait, and whether the kernel had to drop some."""
        datagrams: list[bytes] = []
        overrun = False
        receive = self._socket.recv
        while len(datagrams) < limit:
            try:
                datagrams.append(receive(RECEIVE_SIZE))
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                overrun = True
        return datagrams, overrun

    def send(self, data: bytes) -> None:
        """Send without waiting for an answer."""
        self._socket.send(data)
