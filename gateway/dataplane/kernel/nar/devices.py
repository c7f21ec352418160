"""Tunnel devices, the same four whoever is a client, and one for each L2TP session.

Layouts: ``linux/if_link.h``, ``linux/if_tunnel.h``.

What was learnt (Linux 6.1):

- A namespace has room for one ``external`` device of each kind, and the mobility dataplane may have
  it. Devices with a local address are looked up before it: ours have one that nobody else has, and
  the ruleset writes it into what our clients send.
- A transmitting device with a fixed remote address keeps its route; one without asks for it with
  every packet.
- Without PMTU discovery of its own a device copies "don't fragment" (RFC 2003 section 3.1); but one
  for IP-in-IP with a TTL of its own always sets it, and the ruleset takes it away again.
"""

import contextlib
import errno
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from gateway.dataplane.kernel.mobility.devices import LOOPBACK, Device, Devices
from gateway.dataplane.kernel.nar import constants
from gateway.dataplane.kernel.netlink import (
    NETLINK_ROUTE,
    NLM_F_CREATE,
    NLM_F_EXCL,
    NetlinkError,
    NetlinkSocket,
    attribute,
    nested,
    request,
)

__all__ = ["LOOPBACK", "Device", "NarDevices"]

_RTM_NEWLINK, _RTM_DELLINK = 16, 17
_IFLA_IFNAME, _IFLA_MTU, _IFLA_LINKINFO, _IFLA_GROUP = 3, 4, 18, 27
_INFO_KIND, _INFO_DATA = 1, 2
_IPTUN_LOCAL, _IPTUN_REMOTE, _IPTUN_TTL, _IPTUN_TOS, _IPTUN_PMTUDISC = 2, 3, 4, 5, 10
_GRE_LOCAL, _GRE_REMOTE, _GRE_TTL, _GRE_TOS, _GRE_PMTUDISC = 6, 7, 8, 9, 10
_TTL = b"\x40"
_TOS_INHERIT = b"\x01"
_IFF_UP = 1
_INFO = struct.Struct("=BxHiII")
_U32 = struct.Struct("=I")

GRE_OCTETS: Final = 4
"""What GRE needs more than IP-in-IP."""


def without_ipv6(device: str) -> None:
    """Nobody is asked for routers or neighbours on it. Never raises."""
    with contextlib.suppress(OSError):
        Path(f"/proc/sys/net/ipv6/conf/{device}/disable_ipv6").write_text("1", "ascii")


def _make(name: str, kind: bytes, mtu: int, *data: bytes) -> bytes:
    body = (
        _INFO.pack(0, 0, 0, _IFF_UP, _IFF_UP)
        + attribute(_IFLA_IFNAME, name.encode() + b"\0")
        + attribute(_IFLA_MTU, _U32.pack(mtu))
        + attribute(_IFLA_GROUP, _U32.pack(constants.DEVICE_GROUP))
        + nested(_IFLA_LINKINFO, attribute(_INFO_KIND, kind), nested(_INFO_DATA, *data))
    )
    return request(_RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body)


def mtus(mtu: int) -> dict[str, int]:
    """The MTU of each device, where IP-in-IP has ``mtu``."""
    return {
        constants.RECEIVE_IP_IP: mtu,
        constants.RECEIVE_GRE: mtu - GRE_OCTETS,
        constants.SEND_IP_IP: mtu,
        constants.SEND_GRE: mtu - GRE_OCTETS,
    }


def _requests(mtu: int) -> dict[str, bytes]:
    """What makes each device, by its name."""
    local, remote = constants.LOCAL.packed, constants.REMOTE.packed
    ip_ip = (
        attribute(_IPTUN_LOCAL, local),
        attribute(_IPTUN_TTL, _TTL),
        attribute(_IPTUN_TOS, _TOS_INHERIT),
        attribute(_IPTUN_PMTUDISC, b"\0"),
    )
    gre = (
        attribute(_GRE_LOCAL, local),
        attribute(_GRE_TTL, _TTL),
        attribute(_GRE_TOS, _TOS_INHERIT),
        attribute(_GRE_PMTUDISC, b"\0"),
    )
    # A device that only receives has a TTL of 0: with another one it would need PMTU discovery.
    data = {
        constants.RECEIVE_IP_IP: (b"ipip", (ip_ip[0],)),
        constants.RECEIVE_GRE: (b"gre", (gre[0],)),
        constants.SEND_IP_IP: (b"ipip", (*ip_ip, attribute(_IPTUN_REMOTE, remote))),
        constants.SEND_GRE: (b"gre", (*gre, attribute(_GRE_REMOTE, remote))),
    }
    sizes = mtus(mtu)
    return {name: _make(name, kind, sizes[name], *rest) for name, (kind, rest) in data.items()}


class NarDevices:
    """Our tunnel devices in this network namespace. Methods raise OSError."""

    names: tuple[str, ...] = constants.RECEIVING + constants.SENDING
    receiving: tuple[str, ...] = constants.RECEIVING

    def __init__(self) -> None:
        self._socket = NetlinkSocket(NETLINK_ROUTE)
        try:
            self._namespace = Devices()
        except OSError:
            self._socket.close()
            raise
        self.indexes: dict[str, int] = {}
        """Of our tunnel devices, by name."""

    def close(self) -> None:
        """Close the sockets; what was made stays."""
        self._socket.close()
        self._namespace.close()

    def every(self) -> dict[str, Device]:
        """All interfaces of the namespace by name."""
        return self._namespace.every()

    def check_names(self) -> dict[str, Device]:
        """Devices of an earlier run by name. Raises OSError when one of our names is taken."""
        found = {}
        for device in self.every().values():
            if device.name not in self.names and not device.name.startswith(constants.L2TP_PREFIX):
                continue
            if device.group != constants.DEVICE_GROUP:
                raise OSError(
                    errno.EEXIST,
                    f"interface {device.name} exists and is not ours; rename or remove it",
                )
            found[device.name] = device
        return found

    def make(self, mtu: int) -> None:
        """Make what is not there yet, with this MTU for IP-in-IP."""
        there = self.check_names()
        # Left by a dataplane of the other kind.
        others = [one for one in there.values() if self._is_other(one)]
        self._remove(others)
        for name in self.names:
            if name not in there or there[name] in others:
                self._add(name, mtu)
        every = self.every()
        missing = [name for name in self.names if name not in every]
        if missing:
            raise OSError(errno.ENODEV, f"tunnel devices {', '.join(missing)} vanished")
        self.indexes = {name: every[name].index for name in self.names}
        for name in self.names:
            without_ipv6(name)
        self.set_mtu(mtu)

    def _is_other(self, device: Device) -> bool:
        return device.kind == "veth"

    def _add(self, name: str, mtu: int) -> None:
        try:
            self._socket.check(name, [_requests(mtu)[name]])
        except NetlinkError as error:
            raise OSError(error.errno, _explain(name, error)) from error

    def set_mtu(self, mtu: int) -> None:
        """Change the devices' MTU, and set them up."""
        self._socket.check(
            "the tunnels' MTU",
            [
                request(
                    _RTM_NEWLINK,
                    0,
                    _INFO.pack(0, 0, self.indexes[name], _IFF_UP, _IFF_UP)
                    + attribute(_IFLA_MTU, _U32.pack(size)),
                )
                for name, size in self.sizes(mtu).items()
            ],
        )

    def sizes(self, mtu: int) -> dict[str, int]:
        """The MTU of each device, where IP-in-IP has ``mtu``."""
        return mtus(mtu)

    def delete(self) -> None:
        """Delete the tunnel devices."""
        found = self.check_names().values()
        self._remove([one for one in found if not one.name.startswith(constants.L2TP_PREFIX)])

    def _remove(self, devices: Iterable[Device]) -> None:
        gone = [request(_RTM_DELLINK, 0, _INFO.pack(0, 0, one.index, 0, 0)) for one in devices]
        if gone:
            self._socket.check("deleting tunnel devices", gone, errno.ENODEV)


def _explain(name: str, error: NetlinkError) -> str:
    if error.errno == errno.EEXIST:
        return f"{name}: a tunnel device with the local address {constants.LOCAL} is there"
    gre = name in (constants.SEND_GRE, constants.RECEIVE_GRE)
    option = "CONFIG_NET_IPGRE" if gre else "CONFIG_NET_IPIP"
    if error.errno in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOENT):
        return f"{error.strerror}; use a kernel with {option}"
    return error.strerror or str(error)
