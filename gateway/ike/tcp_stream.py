"""The stream of TCP encapsulation, as octets in and messages out (RFC 9329 section 3). No socket.

What a frame holds is what a UDP datagram on port 4500 would hold (RFC 3948): an IKE message behind
four zero octets, an ESP packet, or the single octet of a keepalive. So messages are handed on as
they are, with their marker.
"""

import struct

from gateway.domain.wire import WireError

STREAM_PREFIX = b"IKETCP"
"""What the side that opened the connection sends first (section 4)."""
NON_ESP_MARKER = b"\0\0\0\0"
KEEPALIVE = b"\xff"
LENGTH_OCTETS = 2
MAX_MESSAGE_OCTETS = 65_507
"""What a datagram of the relay can hold; the length field could say 26 octets more."""
IKE_HEADER_OCTETS = 28
MIN_ESP_OCTETS = 16
"""SPI, sequence number, and eight octets: less than any transform's."""
FIRST_SPI = 256
"""Below it, SPIs are reserved (RFC 4303 section 2.1)."""

_LENGTH = struct.Struct("!H")
_SPI = struct.Struct("!I")
_IKE_LENGTH = struct.Struct("!I")
_MIN_MAJOR_VERSION = 2


def frame(message: bytes) -> bytes:
    """A message with its length in front of it.

    ``message`` is as in a datagram on port 4500. Raises ValueError where it does not fit a frame.
    """
    size = len(message) + LENGTH_OCTETS
    if not LENGTH_OCTETS < size <= 0xFFFF:
        raise ValueError(f"{len(message)} octets do not fit a frame")
    return _LENGTH.pack(size) + message


def is_ike(message: bytes) -> bool:
    """Whether a message of a frame is one of IKE."""
    return message.startswith(NON_ESP_MARKER)


def check_message(message: bytes) -> None:
    """Raise :class:`WireError` for what neither IKEv2 nor ESP could be.

    Such a stream is out of step or was never ours: it ends (section 6.1).
    """
    size = len(message)
    if is_ike(message):
        ike = size - len(NON_ESP_MARKER)
        if ike < IKE_HEADER_OCTETS:
            raise WireError(f"{ike} octets are no IKE message")
        version = message[21] >> 4
        if version < _MIN_MAJOR_VERSION:
            raise WireError(f"IKEv{version} does not travel in TCP")
        said = _IKE_LENGTH.unpack_from(message, 28)[0]
        if said != ike:
            raise WireError(f"an IKE message of {said} octets in a frame for {ike}")
    elif size < MIN_ESP_OCTETS:
        raise WireError(f"{size} octets are neither IKE nor ESP")
    elif (spi := _SPI.unpack_from(message)[0]) < FIRST_SPI:
        raise WireError(f"the ESP SPI {spi} is reserved")


class StreamReader:
    """One direction of a connection. Once it has raised, the connection is over."""

    __slots__ = ("_broken", "_buffer", "_prefix", "keepalives")

    def __init__(self, *, expect_prefix: bool) -> None:
        """``expect_prefix`` on the side that accepted the connection."""
        self._buffer = bytearray()
        self._prefix = STREAM_PREFIX if expect_prefix else b""
        self._broken = False
        self.keepalives = 0
        """Keepalives that were read and left out."""

    @property
    def partial(self) -> bool:
        """Whether half a message waits for its rest."""
        return bool(self._buffer)

    @property
    def begun(self) -> bool:
        """Whether the prefix was read, or none is expected."""
        return not self._prefix

    def feed(self, data: bytes, found: list[bytes]) -> None:
        """Append the messages that ``data`` completes to ``found``.

        Raises :class:`WireError` where the stream breaks its format; ``found`` then holds what
        came before. Keeps fewer octets than one frame has.
        """
        if self._broken:
            raise WireError("the stream has ended")
        try:
            self._feed(data, found)
        except WireError:
            self._broken = True
            self._buffer.clear()
            raise

    def _feed(self, data: bytes, found: list[bytes]) -> None:
        buffer = self._buffer
        buffer += data
        if self._prefix:
            begin = bytes(buffer[: len(self._prefix)])
            if not self._prefix.startswith(begin):
                raise WireError("the stream does not begin with IKETCP")
            if len(begin) < len(self._prefix):
                return
            del buffer[: len(begin)]
            self._prefix = b""
        at, end = 0, len(buffer)
        try:
            while end - at >= LENGTH_OCTETS:
                size = _LENGTH.unpack_from(buffer, at)[0]
                if size <= LENGTH_OCTETS:
                    raise WireError(f"a frame of length {size} holds nothing")
                if size - LENGTH_OCTETS > MAX_MESSAGE_OCTETS:
                    raise WireError(f"a frame of length {size} is too long")
                if end - at < size:
                    return
                message = bytes(buffer[at + LENGTH_OCTETS : at + size])
                at += size
                if message == KEEPALIVE:
                    self.keepalives += 1
                    continue
                check_message(message)
                found.append(message)
        finally:
            del buffer[:at]
