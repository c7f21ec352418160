"""The IPv4 addresses of this box, as rtnetlink tells of them.

Addresses change seldom, so every change is a reason to look at all of them anew. Layouts:
``linux/if_addr.h``.
"""

import socket
import struct
import sys
from collections.abc import Collection
from ipaddress import IPv4Address
from typing import Final

from gateway.dataplane.kernel.netlink import NETLINK_ROUTE, NetlinkSocket, attributes

GROUPS: Final = (1, 5)
"""RTNLGRP_LINK (an interface that comes back has another index), RTNLGRP_IPV4_IFADDR."""
DATAGRAMS_PER_WAKE_UP: Final = 256
_GET_ADDRESS: Final = 22
_NEW_ADDRESS: Final = 20
_ADDRESS: Final = struct.Struct("=BBBBI")
_IFA_ADDRESS, _IFA_LOCAL, _IFA_FLAGS = 1, 2, 8
_SECONDARY_OR_UNSURE: Final = 0x01 | 0x08 | 0x20 | 0x40
"""IFA_F_SECONDARY, _DADFAILED, _DEPRECATED, _TENTATIVE: not an interface's main address."""
_SCOPE_UNIVERSE, _SCOPE_SITE = 0, 200


class AddressMonitor:
    """What addresses there are. Raises OSError from the constructor and from reading."""

    def __init__(self) -> None:
        self._events = NetlinkSocket(NETLINK_ROUTE, GROUPS)
        try:
            self._dumps = NetlinkSocket(NETLINK_ROUTE)
        except OSError:
            self._events.close()
            raise
        self._main: dict[str, IPv4Address] = {}
        self._local: frozenset[IPv4Address] = frozenset()
        try:
            self._look()
        except BaseException:
            self.close()
            raise

    def address_of(self, interface: str) -> IPv4Address | None:
        """The interface's main address, None while it has none or does not exist."""
        return self._main.get(interface)

    @property
    def local(self) -> Collection[IPv4Address]:
        """All addresses of this box."""
        return self._local

    def fileno(self) -> int:
        """Readable when something may have changed."""
        return self._events.fileno()

    def read(self) -> bool:
        """Look again; whether any address is another one now."""
        # Whether some news were lost does not matter: we look at everything.
        self._events.read_datagrams(DATAGRAMS_PER_WAKE_UP)
        before = self._main, self._local
        self._look()
        return (self._main, self._local) != before

    def _look(self) -> None:
        main: dict[str, IPv4Address] = {}
        local: set[IPv4Address] = set()
        for kind, body in self._dumps.dump(_GET_ADDRESS, _ADDRESS.pack(socket.AF_INET, 0, 0, 0, 0)):
            if kind != _NEW_ADDRESS or len(body) < _ADDRESS.size:
                continue
            family, _, flags, scope, index = _ADDRESS.unpack_from(body)
            found = attributes(body, _ADDRESS.size)
            octets = found.get(_IFA_LOCAL) or found.get(_IFA_ADDRESS) or b""
            if family != socket.AF_INET or len(octets) != 4:
                continue
            address = IPv4Address(octets)
            local.add(address)
            more = found.get(_IFA_FLAGS, b"")
            flags |= int.from_bytes(more, sys.byteorder)
            if scope in {_SCOPE_UNIVERSE, _SCOPE_SITE} and not flags & _SECONDARY_OR_UNSURE:
                name = _name(index)
                if name:
                    main.setdefault(name, address)
        self._main, self._local = main, frozenset(local)

    def close(self) -> None:
        """Follow no more."""
        self._events.close()
        self._dumps.close()


def _name(index: int) -> str:
    try:
        return socket.if_indextoname(index)
    except OSError:
        return ""  # gone in this moment
