"""Bridge ports of devices as rtnetlink requests: Ethernet in GRE (RFC 2784, 7637) to each one.

Layouts: ``linux/if_link.h``, ``linux/if_tunnel.h``, ``linux/if_addr.h``.

- A port is bound to the xfrm interface: without a tunnel its packets find no route, and never
  leave in the clear.
- What is no IP cannot learn of a smaller MTU. So a port takes what its bridge takes, and the
  packets around it are split.
"""

import errno
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final

from gateway.dataplane.kernel.netlink import (
    NLM_F_CREATE,
    NLM_F_EXCL,
    NetlinkError,
    NetlinkSocket,
    attribute,
    attributes,
    nested,
    request,
)

DEVICE_GROUP: Final = 0x475B
"""Of the interfaces that are ours: ports, and bridges that we made."""
PORT_PREFIX: Final = "gwp"
BRIDGE_PREFIX: Final = "gwbr"

_NEWLINK, _DELLINK, _GETLINK = 16, 17, 18
_NEWADDR, _DELADDR, _GETADDR = 20, 21, 22
_IFLA_IFNAME, _IFLA_MTU, _IFLA_MASTER, _IFLA_LINKINFO = 3, 4, 10, 18
_IFLA_AF_SPEC, _IFLA_GROUP = 26, 27
_INFO_KIND, _INFO_DATA, _INFO_SLAVE_KIND, _INFO_SLAVE_DATA = 1, 2, 4, 5
_GRE_LINK, _GRE_LOCAL, _GRE_REMOTE, _GRE_TTL = 1, 6, 7, 8
_GRE_PMTUDISC, _GRE_IGNORE_DF = 10, 19
_BRPORT_GUARD, _BRPORT_ISOLATED = 5, 33
_AF_INET, _AF_INET6 = 2, 10
_INET6_ADDR_GEN_MODE, _NO_ADDRESS = 8, b"\1"
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_IFF_UP = 1
_TTL = b"\x40"
_INFO = struct.Struct("=BxHiII")
_ADDRESS = struct.Struct("=BBBBI")
_U32 = struct.Struct("=I")


@dataclass(frozen=True, slots=True)
class Port:
    """One device's port of a bridge."""

    bridge: str
    """The bridge's interface."""
    local: IPv4Address
    """Our end of the tunnel, inside of ESP."""
    device: IPv4Address
    """The device's inner address."""
    isolated: bool = True
    """Devices of one bridge do not reach each other."""

    @property
    def name(self) -> str:
        """Of its interface: one port for each device."""
        return f"{PORT_PREFIX}{int(self.device):08x}"

    def make(self, mtu: int, link: int) -> bytes:
        """Make the interface; ``link`` is the index of the xfrm interface.

        EEXIST when there is one of its name.
        """
        data = (
            attribute(_GRE_LINK, _U32.pack(link))
            + attribute(_GRE_LOCAL, self.local.packed)
            + attribute(_GRE_REMOTE, self.device.packed)
            + attribute(_GRE_TTL, _TTL)
            + attribute(_GRE_PMTUDISC, b"\0")
            + attribute(_GRE_IGNORE_DF, b"\1")
        )
        made = (
            _named(self.name)
            + attribute(_IFLA_MTU, _U32.pack(mtu))
            + attribute(_IFLA_GROUP, _U32.pack(DEVICE_GROUP))
            + nested(_IFLA_LINKINFO, attribute(_INFO_KIND, b"gretap"), nested(_INFO_DATA, data))
        )
        return request(_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, made)

    def join(self, bridge: int) -> list[bytes]:
        """Make it a port of the bridge with this index, and set it up."""
        # It is no host's interface: before it is up it is told to have no address of its own.
        quiet = nested(_AF_INET6, attribute(_INET6_ADDR_GEN_MODE, _NO_ADDRESS))
        joined = (
            _named(self.name)
            + attribute(_IFLA_MASTER, _U32.pack(bridge))
            + nested(_IFLA_AF_SPEC, quiet)
        )
        return [request(_NEWLINK, 0, joined), self._set_up()]

    def _set_up(self) -> bytes:
        flags = attribute(_BRPORT_GUARD, b"\1")
        flags += attribute(_BRPORT_ISOLATED, bytes([self.isolated]))
        info = nested(
            _IFLA_LINKINFO,
            attribute(_INFO_SLAVE_KIND, b"bridge"),
            nested(_INFO_SLAVE_DATA, flags),
        )
        return request(_NEWLINK, 0, _named(self.name, up=True) + info)


@dataclass(frozen=True, slots=True)
class Interface:
    """An interface of this network namespace."""

    index: int
    name: str
    kind: str
    mtu: int
    group: int
    master: int
    """Index of the bridge that it is a port of, or 0."""
    ends: tuple[IPv4Address, IPv4Address] | None = None
    """Local and remote address of a GRE device."""
    isolated: bool = False

    @property
    def ours(self) -> bool:
        """Whether it carries our mark."""
        return self.group == DEVICE_GROUP


def _named(name: str, *, up: bool = False) -> bytes:
    flag = _IFF_UP if up else 0
    return _INFO.pack(0, 0, 0, flag, flag) + attribute(_IFLA_IFNAME, name.encode() + b"\0")


def make_bridge(name: str, mtu: int) -> bytes:
    """EEXIST when there is an interface of this name."""
    body = (
        _named(name, up=True)
        + attribute(_IFLA_MTU, _U32.pack(mtu))
        + attribute(_IFLA_GROUP, _U32.pack(DEVICE_GROUP))
        + nested(_IFLA_LINKINFO, attribute(_INFO_KIND, b"bridge"))
    )
    return request(_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body)


def join(index: int, bridge: int) -> bytes:
    """Make an interface a port of a bridge; 0 makes it none."""
    body = _INFO.pack(0, 0, index, 0, 0) + attribute(_IFLA_MASTER, _U32.pack(bridge))
    return request(_NEWLINK, 0, body)


def delete(name: str) -> bytes:
    """ENODEV when there is no such interface."""
    return request(_DELLINK, 0, _named(name))


def find(route: NetlinkSocket, name: str) -> Interface:
    """The interface of this name. Raises OSError."""
    refusals, answers = route.transact([request(_GETLINK, 0, _named(name))])
    for _, kind, body in answers:
        if kind == _NEWLINK:
            return _read(body)
    if refusals and refusals[0].errno != errno.ENODEV:
        raise NetlinkError(f"interface {name}", refusals[0])
    raise OSError(errno.ENODEV, f"interface {name} does not exist")


def interfaces(route: NetlinkSocket) -> Iterator[Interface]:
    """All of the namespace. Raises OSError."""
    for kind, body in route.dump(_GETLINK, _INFO.pack(0, 0, 0, 0, 0)):
        if kind == _NEWLINK:
            yield _read(body)


def _read(body: bytes) -> Interface:
    values = attributes(body, _INFO.size)
    info = attributes(values.get(_IFLA_LINKINFO, b""), 0)
    data = attributes(info.get(_INFO_DATA, b""), 0)
    port = attributes(info.get(_INFO_SLAVE_DATA, b""), 0)
    kind = _text(info.get(_INFO_KIND, b""))
    local, remote = data.get(_GRE_LOCAL, b""), data.get(_GRE_REMOTE, b"")
    is_port = kind == "gretap" and len(local) == len(remote) == 4
    return Interface(
        _INFO.unpack_from(body)[2],
        _text(values.get(_IFLA_IFNAME, b"")),
        kind,
        _number(values, _IFLA_MTU),
        _number(values, _IFLA_GROUP),
        _number(values, _IFLA_MASTER),
        (IPv4Address(local), IPv4Address(remote)) if is_port else None,
        port.get(_BRPORT_ISOLATED) == b"\1",
    )


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode("utf-8", "replace")


def _number(values: dict[int, bytes], kind: int) -> int:
    value = values.get(kind, b"")
    return _U32.unpack(value)[0] if len(value) == 4 else 0


# -- our end ---------------------------------------------------------------------------------


def _address(index: int, address: IPv4Address) -> bytes:
    packed = address.packed
    body = _ADDRESS.pack(_AF_INET, 32, 0, 0, index)
    return body + attribute(_IFA_ADDRESS, packed) + attribute(_IFA_LOCAL, packed)


def add_address(index: int, address: IPv4Address) -> bytes:
    """EEXIST when the interface has it."""
    return request(_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, _address(index, address))


def delete_address(index: int, address: IPv4Address) -> bytes:
    """EADDRNOTAVAIL when the interface does not have it."""
    return request(_DELADDR, 0, _address(index, address))


def addresses(route: NetlinkSocket) -> Iterator[tuple[int, IPv4Address]]:
    """(interface, address) of all IPv4 addresses of the namespace. Raises OSError."""
    for _, body in route.dump(_GETADDR, _ADDRESS.pack(_AF_INET, 0, 0, 0, 0)):
        values = attributes(body, _ADDRESS.size)
        local = values.get(_IFA_LOCAL, b"")
        if len(local) == 4:
            yield _ADDRESS.unpack_from(body)[4], IPv4Address(local)
