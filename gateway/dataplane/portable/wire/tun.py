"""A TUN device as the tunnels' interface, for kernels that have no virtual Ethernet.

It is persistent: when the forwarder dies it stays, with its routes, and what they lead there goes
nowhere. Packets come and go one by one, whole and checksummed, without their fwmarks. Format of the
requests: ``linux/if_tun.h``.
"""

import contextlib
import errno
import fcntl
import os
import socket
import struct
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from gateway.dataplane.kernel.netlink import (
    NETLINK_ROUTE,
    NetlinkSocket,
    attribute,
    attributes,
    request,
)
from gateway.dataplane.packet import marks
from gateway.dataplane.portable.wire.batches import BATCH, LARGEST
from gateway.dataplane.portable.wire.links import without_autoconf

DEVICE: Final = "/dev/net/tun"
ALIAS: Final = b"tunnels of the gateway, by its forwarder"
"""``ifalias`` of our devices: one of another program is never taken over."""
QUEUE_PACKETS: Final = 4096
"""What the device holds for the forwarder; more is dropped."""
BUSY_S: Final = 1.0
"""A forwarder that has just ended may have the device for so long."""

_TUNSETIFF, _TUNSETPERSIST, _TUNSETOWNER, _TUNSETOFFLOAD = (
    0x400454CA,
    0x400454CB,
    0x400454CC,
    0x400454D0,
)
_IFF_TUN, _IFF_NO_PI, _IFF_EXCLUSIVE = 0x1, 0x1000, 0x8000
_IFREQ = struct.Struct("@16sH22x")
_RTM_NEWLINK, _RTM_GETLINK = 16, 18
_IFLA_IFNAME, _IFLA_MTU, _IFLA_TXQLEN, _IFLA_IFALIAS, _IFLA_GROUP = 3, 4, 13, 20, 27
_IFF_UP, _IFF_MULTICAST = 0x1, 0x1000
_INFO = struct.Struct("=BxHiII")
_U32 = struct.Struct("=I")
_LINKDOWN = "/proc/sys/net/{version}/conf/{name}/ignore_routes_with_linkdown"


def make_device(name: str, mtu: int, group: int = 0) -> None:
    """Make the device and set it up. Raises OSError, also when the name is taken."""
    fd = _attached(name, _IFF_EXCLUSIVE)
    try:
        fcntl.ioctl(fd, _TUNSETOFFLOAD, 0)
        _configure(name, mtu, group)
        _keep_routes(name)
        _close_to_others(fd)
        fcntl.ioctl(fd, _TUNSETPERSIST, 1)
    finally:
        os.close(fd)  # unless it is persistent, it goes


def _close_to_others(fd: int) -> None:
    """A persistent device without an owner is everybody's while no forwarder has it."""
    try:
        fcntl.ioctl(fd, _TUNSETOWNER, 0)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        fcntl.ioctl(fd, _TUNSETOWNER, os.geteuid())  # this user namespace has no root


def _configure(name: str, mtu: int, group: int) -> None:
    with contextlib.closing(NetlinkSocket(NETLINK_ROUTE)) as route:
        body = _INFO.pack(0, 0, 0, 0, _IFF_MULTICAST) + _named(name)
        body += attribute(_IFLA_MTU, _U32.pack(mtu)) + attribute(_IFLA_GROUP, _U32.pack(group))
        body += attribute(_IFLA_TXQLEN, _U32.pack(QUEUE_PACKETS))
        body += attribute(_IFLA_IFALIAS, ALIAS + b"\0")
        route.check(f"TUN device {name}", [request(_RTM_NEWLINK, 0, body)])
        without_autoconf(route, name)
        up = _INFO.pack(0, 0, 0, _IFF_UP, _IFF_UP) + _named(name)
        route.check(f"TUN device {name}", [request(_RTM_NEWLINK, 0, up)])


def _keep_routes(name: str) -> None:
    """Without a forwarder it has no carrier; packets must not take another way then."""
    for version in ("ipv4", "ipv6"):
        setting = Path(_LINKDOWN.format(version=version, name=name))
        if setting.exists() and setting.read_text().strip() != "0":
            setting.write_text("0")


def exists(name: str) -> bool:
    """Whether there is such a device of ours."""
    with contextlib.closing(NetlinkSocket(NETLINK_ROUTE)) as route:
        body = _INFO.pack(0, 0, 0, 0, 0) + _named(name)
        refusals, answers = route.transact([request(_RTM_GETLINK, 0, body)])
    return not refusals and any(
        attributes(answer, _INFO.size).get(_IFLA_IFALIAS, b"").rstrip(b"\0") == ALIAS
        for _, kind, answer in answers
        if kind == _RTM_NEWLINK
    )


def served(name: str) -> bool:
    """Whether somebody reads what is sent there; so it is taken where nobody tells."""
    try:
        os.close(_attached(name))
    except OSError:
        return True
    return False


def try_device(name: str) -> None:
    """Make a device that is gone at once. Raises OSError; never EPERM for the file's sake."""
    os.close(_attached(name, _IFF_EXCLUSIVE))


def _named(name: str) -> bytes:
    return attribute(_IFLA_IFNAME, name.encode() + b"\0")


def _attached(name: str, flags: int = 0) -> int:
    try:
        fd = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        # Missing, or a service manager keeps it from us: more privileges would not help.
        raise OSError(errno.ENODEV, f"{DEVICE}: {error.strerror}") from error
    try:
        asked = _IFREQ.pack(name.encode(), _IFF_TUN | _IFF_NO_PI | flags)
        fcntl.ioctl(fd, _TUNSETIFF, asked)
    except OSError:
        os.close(fd)
        raise
    return fd


def _attached_soon(name: str) -> int:
    until = time.monotonic() + BUSY_S
    while True:
        try:
            return _attached(name)
        except OSError as error:
            if error.errno != errno.EBUSY or time.monotonic() > until:
                raise
        time.sleep(BUSY_S / 100)


class TunLink:
    """What the stack sends into a device of ours, and what comes out of it.

    The surface is that of :class:`gateway.dataplane.portable.wire.veth.VethLink`. Raises OSError
    from the constructor.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.unsent = 0
        """Packets that did not go out: the device is down, or their zone could not be told."""
        self._index = socket.if_nametoindex(name)
        self._fd = _attached_soon(name)
        if self.gone:
            # Deleted meanwhile: this made another one, which goes with the descriptor.
            os.close(self._fd)
            raise OSError(errno.ENODEV, f"interface {name} is gone")
        self._room = bytearray(LARGEST)

    def fileno(self) -> int:
        """For selectors; -1 when it is closed."""
        return self._fd

    def close(self) -> None:
        """Close it; the device stays."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    @property
    def gone(self) -> bool:
        """Whether the device was deleted."""
        try:
            return socket.if_nametoindex(self.name) != self._index
        except OSError:
            return True

    def receive(self) -> list[tuple[bytes, int]]:
        """Up to a batch of what the stack sent there, unmarked. Raises OSError when it is gone."""
        packets: list[tuple[bytes, int]] = []
        fd, room = self._fd, self._room
        whole = (room,)
        try:
            while len(packets) < BATCH:
                packets.append((bytes(room[: os.readv(fd, whole)]), 0))
        except BlockingIOError:
            pass
        except OSError:
            if not packets:
                raise
        return packets

    def send(self, packets: Sequence[tuple[bytes, int]]) -> None:
        """Let packets come out, however long they are, without their marks."""
        fd = self._fd
        for packet, mark in packets:
            try:
                if mark & marks.ZONES == marks.FROM_DEVICE:
                    # Unmarked it would pass for a packet of another session.
                    self.unsent += 1
                else:
                    os.write(fd, packet)
            except OSError:
                self.unsent += 1
