"""The kernel answers ARP and neighbour solicitations for addresses that are behind tunnels.

One entry for each address, so that nobody is answered for who is not there. Layout:
``linux/neighbour.h``. Entries carry :data:`PROTOCOL`, by which those of an earlier process are
found; they forward on while no process looks after them.
"""

import contextlib
import errno
import fcntl
import socket
import struct
from collections.abc import Collection, Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Final

from gateway.dataplane.kernel.mobility.neighbours import Announcer
from gateway.dataplane.kernel.netlink import (
    NETLINK_ROUTE,
    NLM_F_CREATE,
    NLM_F_REPLACE,
    NetlinkSocket,
    attribute,
    attributes,
    request,
)
from gateway.domain.endpoint import IpAddress

PROTOCOL: Final = 73
"""Who made an entry; 71 is the mobility agents', which look after theirs."""

_NEWNEIGH, _DELNEIGH, _GETNEIGH = 28, 29, 30
_NDA_DST, _NDA_PROTOCOL = 1, 12
_PERMANENT: Final = 0x80
_PROXY: Final = 0x08
_AF_INET, _AF_INET6 = 2, 10
_NEIGHBOUR = struct.Struct("=BxHiHBB")
_SIOCGIFHWADDR: Final = 0x8927
_IFREQ = struct.Struct("=16sH14s8x")
_SYS: Final = Path("/proc/sys/net")

Place = tuple[str, IpAddress]
"""Interface, and the address that is answered for there."""


class NeighbourProxies:
    """What is answered for on which interface."""

    def __init__(self, sysctls: Path = _SYS) -> None:
        """Raises OSError."""
        self._sysctls = sysctls
        self._route = NetlinkSocket(NETLINK_ROUTE)
        self._announcer: Announcer | None = None
        with contextlib.suppress(OSError):  # without it others learn when they ask
            self._announcer = Announcer()
        self._wanted: dict[Place, None] = {}
        self._queued: dict[Place, bool] = {}
        self.missing: dict[str, str] = {}
        """Interfaces where nothing is answered, and why."""

    @property
    def wanted(self) -> Collection[Place]:
        """What there is to be."""
        return self._wanted.keys()

    def prepare(self, interfaces: Collection[str]) -> None:
        """Answer at once, not after up to 0.8 s, and for IPv6 at all. Raises OSError."""
        for interface in interfaces:
            for file, value in (
                (f"ipv4/neigh/{interface}/proxy_delay", "0"),
                (f"ipv6/neigh/{interface}/proxy_delay", "0"),
                (f"ipv6/conf/{interface}/proxy_ndp", "1"),
            ):
                path = self._sysctls / file
                # An interface that is not there yet, or a host without IPv6.
                with contextlib.suppress(FileNotFoundError):
                    path.write_text(value, "ascii")

    def add(self, place: Place) -> None:
        """Answer from the next :meth:`commit` on."""
        if place not in self._wanted:
            self._wanted[place] = None
            self._queued[place] = True

    def remove(self, place: Place) -> None:
        """No longer answer."""
        if place in self._wanted:
            del self._wanted[place]
            self._queued[place] = False

    def commit(self) -> None:
        """Do what was queued. Raises OSError only when netlink itself fails."""
        if not self._queued:
            return
        queued, self._queued = self._queued, {}
        self._change(queued)
        for (interface, address), add in queued.items():
            if add and isinstance(address, IPv4Address):
                self._announce(interface, address)

    def settle(self) -> int:
        """Make what there is what there is to be, whoever changed it; how many entries it took.

        Raises OSError.
        """
        self._queued = {}
        indices = _indices({interface for interface, _ in self._wanted})
        self.missing = {
            name: "there is no such interface" for name, index in indices.items() if not index
        }
        there = dict(self._own())
        wanted = {(indices[name], one): (name, one) for name, one in self._wanted if indices[name]}
        # What is too much goes by index: its interface may have another name by now.
        gone = [_delete(index, one) for index, one in there if (index, one) not in wanted]
        if gone:
            self._route.check("neighbour", gone, errno.ENOENT)
        lacking = {place: True for key, place in wanted.items() if key not in there}
        self._change(lacking)
        return len(gone) + len(lacking)

    def _change(self, changes: Mapping[Place, bool]) -> None:
        indices = _indices({interface for interface, _ in changes})
        requests, owners = [], []
        for (interface, address), add in changes.items():
            index = indices[interface]
            if index:
                requests.append(_set(index, address) if add else _delete(index, address))
                owners.append((interface, add))
            elif add:
                self.missing[interface] = "there is no such interface"
        for refusal in self._route.transact(requests)[0] if requests else ():
            interface, add = owners[refusal.index]
            if add:
                self.missing[interface] = f"the kernel refused an entry: {refusal}"

    def _own(self) -> Iterator[tuple[tuple[int, IpAddress], None]]:
        for family, size in ((_AF_INET, 4), (_AF_INET6, 16)):
            asked = _NEIGHBOUR.pack(family, 0, 0, 0, _PROXY, 0)
            for _, body in self._route.dump(_GETNEIGH, asked):
                index = _NEIGHBOUR.unpack_from(body)[2]
                values = attributes(body, _NEIGHBOUR.size)
                octets = values.get(_NDA_DST, b"")
                if values.get(_NDA_PROTOCOL) == bytes([PROTOCOL]) and len(octets) == size:
                    kind = IPv4Address if family == _AF_INET else IPv6Address
                    yield (index, kind(octets)), None

    def _announce(self, interface: str, address: IPv4Address) -> None:
        if self._announcer is None:
            return
        link_address = _link_address(interface)
        if link_address:
            self._announcer.announce(address, interface, link_address)

    def close(self, *, keep: bool) -> None:
        """With ``keep`` the kernel goes on answering."""
        if not keep:
            self._wanted.clear()
            with contextlib.suppress(OSError):
                self.settle()
        if self._announcer is not None:
            self._announcer.close()
        self._route.close()


def _indices(names: Collection[str]) -> dict[str, int]:
    found = {}
    for name in names:
        try:
            found[name] = socket.if_nametoindex(name)
        except OSError:
            found[name] = 0
    return found


def _link_address(interface: str) -> bytes:
    """Six octets, or nothing where the link has none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        try:
            answer = fcntl.ioctl(
                any_socket, _SIOCGIFHWADDR, _IFREQ.pack(interface.encode()[:15], 0, b"")
            )
        except OSError:
            return b""
    _, kind, octets = _IFREQ.unpack(answer)
    return bytes(octets[:6]) if kind == 1 else b""


def _entry(index: int, address: IpAddress, state: int) -> bytes:
    family = _AF_INET if address.version == 4 else _AF_INET6
    return (
        _NEIGHBOUR.pack(family, 0, index, state, _PROXY, 0)
        + attribute(_NDA_DST, address.packed)
        + attribute(_NDA_PROTOCOL, bytes([PROTOCOL]))
    )


def _set(index: int, address: IpAddress) -> bytes:
    return request(_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, _entry(index, address, _PERMANENT))


def _delete(index: int, address: IpAddress) -> bytes:
    return request(_DELNEIGH, 0, _entry(index, address, 0))
