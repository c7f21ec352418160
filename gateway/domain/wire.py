"""The one bounded reader that every codec of the gateway uses."""

import struct
from ipaddress import IPv4Address, IPv6Address

_U16 = struct.Struct("!H")
_U32 = struct.Struct("!I")
_U64 = struct.Struct("!Q")


class WireError(ValueError):
    """The octets from the network break their format. Its text says what, never the octets."""


class Reader:
    """Reads fields from ``data[start:end]`` in order and never past the end.

    Every method raises :class:`WireError` when fewer octets are left than it needs.
    """

    __slots__ = ("_at", "_data", "_end")

    def __init__(self, data: bytes, start: int = 0, end: int | None = None) -> None:
        self._data = data
        self._at = start
        self._end = len(data) if end is None else end

    @property
    def remaining(self) -> int:
        """Octets not read yet."""
        return self._end - self._at

    def _advance(self, size: int) -> int:
        at = self._at
        if size < 0 or size > self._end - at:
            raise WireError(f"{size} octets needed, {self._end - at} left")
        self._at = at + size
        return at

    def u8(self) -> int:
        """Read one octet."""
        return self._data[self._advance(1)]

    def u16(self) -> int:
        """Read two octets, network order."""
        value: int = _U16.unpack_from(self._data, self._advance(2))[0]
        return value

    def u32(self) -> int:
        """Read four octets, network order."""
        value: int = _U32.unpack_from(self._data, self._advance(4))[0]
        return value

    def u64(self) -> int:
        """Read eight octets, network order."""
        value: int = _U64.unpack_from(self._data, self._advance(8))[0]
        return value

    def take(self, size: int) -> bytes:
        """Read ``size`` octets."""
        at = self._advance(size)
        return self._data[at : at + size]

    def rest(self) -> bytes:
        """Read everything that is left, possibly nothing."""
        return self.take(self._end - self._at)

    def sub(self, size: int) -> "Reader":
        """Hand the next ``size`` octets to a reader of their own and step over them."""
        at = self._advance(size)
        return Reader(self._data, at, at + size)

    def ipv4(self) -> IPv4Address:
        """Read an IPv4 address."""
        return IPv4Address(self.take(4))

    def ipv6(self) -> IPv6Address:
        """Read an IPv6 address."""
        return IPv6Address(self.take(16))

    def finish(self) -> None:
        """Raise :class:`WireError` if octets are left over."""
        if self._at != self._end:
            raise WireError(f"{self._end - self._at} octets of trailing garbage")
