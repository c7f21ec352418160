"""Names of interfaces by index, as packets tell it: those that come and go keep their roles."""

import fcntl
import socket
import struct
from typing import Final

MAX_KNOWN: Final = 4096
_SIOCGIFNAME: Final = 0x8910
_REQUEST = struct.Struct("=16si20x")


class InterfaceNames:
    """Asks the kernel once for each index; indexes are not used again while names are known."""

    def __init__(self) -> None:
        self._known: dict[int, str] = {}
        self._probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        """It stays in the network namespace of its making."""

    def of(self, index: int) -> str:
        """Empty for one that is not there (any more)."""
        name = self._known.get(index)
        if name is None:
            try:
                answer = fcntl.ioctl(self._probe, _SIOCGIFNAME, _REQUEST.pack(b"", index))
            except OSError:
                return ""
            name = answer[:16].split(b"\0")[0].decode(errors="replace")
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            self._known[index] = name
        return name

    def forget(self) -> None:
        """Interfaces may have been renamed."""
        self._known.clear()

    def close(self) -> None:
        """Close the socket."""
        self._probe.close()
