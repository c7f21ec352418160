"""Tunnel devices and the UDP port of FOU: a constant number of them, whoever registers.

Layouts: ``linux/if_link.h``, ``linux/if_tunnel.h``, ``linux/fou.h``, ``linux/genetlink.h``.

What was learnt (Linux 6.1):

- A network namespace has room for one ``external`` device of each kind; who comes second gets
  EEXIST. Devices with addresses of their own are looked up first, so others' tunnels stay.
- Two GRE devices with the same remote address are told apart by the device below them: the one
  for UDP sits on ``lo``.
- iproute2 refuses a TTL without path MTU discovery for ``ipip``; the kernel does not.
- ``ipip`` has no "ignore DF" and copies it; the ruleset clears it.
"""

import errno
import struct
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from gateway.dataplane.kernel.mobility import constants
from gateway.dataplane.kernel.netlink import (
    NETLINK_ROUTE,
    NLM_F_CREATE,
    NLM_F_EXCL,
    NetlinkError,
    NetlinkSocket,
    attribute,
    attributes,
    nested,
    request,
)
from gateway.domain.mobility import MIP_PORT

NETLINK_GENERIC: Final = 16
LOOPBACK: Final = 1
"""Index of ``lo`` in every network namespace."""

_RTM_NEWLINK, _RTM_DELLINK, _RTM_GETLINK = 16, 17, 18
_IFLA_IFNAME, _IFLA_MTU, _IFLA_LINKINFO, _IFLA_GROUP = 3, 4, 18, 27
_INFO_KIND, _INFO_DATA = 1, 2
_IPTUN_REMOTE, _IPTUN_TTL, _IPTUN_TOS, _IPTUN_PMTUDISC, _IPTUN_EXTERNAL = 3, 4, 5, 10, 19
_GRE_LINK, _GRE_REMOTE, _GRE_TTL, _GRE_TOS, _GRE_PMTUDISC = 1, 7, 8, 9, 10
_GRE_ENCAP_TYPE, _GRE_ENCAP_FLAGS, _GRE_ENCAP_SPORT, _GRE_ENCAP_DPORT = 14, 15, 16, 17
_GRE_EXTERNAL, _GRE_IGNORE_DF = 18, 19
_ENCAP_FOU = 1
_TTL = b"\x40"
_TOS_INHERIT = b"\x01"
_IFF_UP = 1
_INFO = struct.Struct("=BxHiII")
_U32 = struct.Struct("=I")
_U16 = struct.Struct("=H")

_GENL_CONTROL, _CONTROL_GETFAMILY = 16, 3
_CONTROL_FAMILY_ID, _CONTROL_FAMILY_NAME = 1, 2
_GENL = struct.Struct("=BBH")
_FOU_ADD, _FOU_DEL, _FOU_GET = 1, 2, 3
_FOU_PORT, _FOU_AF, _FOU_IPPROTO, _FOU_TYPE = 1, 2, 3, 4
_FOU_DIRECT = 1
_IPPROTO_GRE = 47
_AF_INET = 2


@dataclass(frozen=True, slots=True)
class Device:
    """An interface as a dump shows it."""

    index: int
    name: str
    group: int
    link_address: bytes
    mtu: int
    kind: str = ""
    """As ``ip -d link`` names it; empty for hardware."""


def _device(name: str, kind: bytes, data: tuple[bytes, ...], mtu: int) -> bytes:
    body = (
        _INFO.pack(0, 0, 0, _IFF_UP, _IFF_UP)
        + attribute(_IFLA_IFNAME, name.encode() + b"\0")
        + attribute(_IFLA_MTU, _U32.pack(mtu))
        + attribute(_IFLA_GROUP, _U32.pack(constants.DEVICE_GROUP))
        + nested(_IFLA_LINKINFO, attribute(_INFO_KIND, kind), nested(_INFO_DATA, *data))
    )
    return request(_RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body)


def _requests(mtu: int) -> dict[str, bytes]:
    """What makes each device, by its name."""
    dummy = constants.DUMMY.packed
    gre = (
        attribute(_GRE_REMOTE, dummy),
        attribute(_GRE_TTL, _TTL),
        attribute(_GRE_TOS, _TOS_INHERIT),
        attribute(_GRE_PMTUDISC, b"\0"),
        attribute(_GRE_IGNORE_DF, b"\1"),
    )
    port = struct.pack("!H", MIP_PORT)
    udp = (
        attribute(_GRE_LINK, _U32.pack(LOOPBACK)),
        attribute(_GRE_ENCAP_TYPE, _U16.pack(_ENCAP_FOU)),
        attribute(_GRE_ENCAP_FLAGS, _U16.pack(0)),
        attribute(_GRE_ENCAP_SPORT, port),
        attribute(_GRE_ENCAP_DPORT, port),
    )
    ip_ip = (
        attribute(_IPTUN_REMOTE, dummy),
        attribute(_IPTUN_TTL, _TTL),
        attribute(_IPTUN_TOS, _TOS_INHERIT),
        attribute(_IPTUN_PMTUDISC, b"\0"),
    )
    external = attribute(_IPTUN_EXTERNAL, b""), attribute(_GRE_EXTERNAL, b"")
    return {
        constants.RECEIVE_IP_IP: _device(
            constants.RECEIVE_IP_IP, b"ipip", (external[0],), _LARGEST_IP_IP
        ),
        constants.RECEIVE_GRE: _device(
            constants.RECEIVE_GRE, b"gre", (external[1],), _LARGEST_IP_IP
        ),
        constants.SEND_IP_IP: _device(constants.SEND_IP_IP, b"ipip", ip_ip, mtu),
        constants.SEND_GRE: _device(constants.SEND_GRE, b"gre", gre, mtu),
        constants.SEND_UDP: _device(constants.SEND_UDP, b"gre", gre + udp, mtu),
    }


_LARGEST_IP_IP: Final = 1480
_EVERY_NAME: Final = constants.RECEIVING + constants.SENDING + constants.GIVING_BACK


class Devices:
    """Our tunnel devices in this network namespace."""

    names: tuple[str, ...] = constants.RECEIVING + constants.SENDING
    receiving: tuple[str, ...] = constants.RECEIVING
    """Those that packets of anybody come out of."""

    def __init__(self) -> None:
        self._socket = NetlinkSocket(NETLINK_ROUTE)
        self._generic = NetlinkSocket(NETLINK_GENERIC)
        self.indexes: dict[str, int] = {}
        """Of our devices, by name."""

    def close(self, *, keep: bool = False) -> None:  # noqa: ARG002 - the kernel keeps it anyway
        """Close the sockets; what was made stays."""
        self._socket.close()
        self._generic.close()

    def clear(self) -> int:
        """Delete devices and the port of an earlier run; returns how many devices there were.

        Raises OSError when an interface of our name is somebody else's.
        """
        ours = self.own()
        self.delete(ours)
        self.delete_port()
        return len(ours)

    def delete(self, devices: Iterable[Device]) -> None:
        """Delete some of ours; the other end of a pair goes with it. Raises OSError."""
        gone = [request(_RTM_DELLINK, 0, _INFO.pack(0, 0, one.index, 0, 0)) for one in devices]
        if gone:
            self._socket.check("deleting tunnel devices", gone, errno.ENODEV)

    def own(self) -> list[Device]:
        """Those that are there already. Raises OSError for somebody else's of our names."""
        found = []
        for device in self.every().values():
            if device.name not in _EVERY_NAME:
                continue
            if device.group != constants.DEVICE_GROUP:
                raise OSError(
                    errno.EEXIST,
                    f"interface {device.name} exists and is not ours; rename or remove it",
                )
            found.append(device)
        return found

    def every(self) -> dict[str, Device]:
        """All interfaces of the namespace by name."""
        found = {}
        for kind, body in self._socket.dump(_RTM_GETLINK, _INFO.pack(0, 0, 0, 0, 0)):
            if kind != _RTM_NEWLINK:
                continue
            index = _INFO.unpack_from(body)[2]
            values = attributes(body, _INFO.size)
            name = values.get(_IFLA_IFNAME, b"").rstrip(b"\0").decode("utf-8", "replace")
            group = values.get(_IFLA_GROUP, b"")
            mtu = values.get(_IFLA_MTU, b"")
            found[name] = Device(
                index,
                name,
                _U32.unpack(group)[0] if len(group) == 4 else 0,
                values.get(_IFLA_ADDRESS, b""),
                _U32.unpack(mtu)[0] if len(mtu) == 4 else 0,
                attributes(values.get(_IFLA_LINKINFO, b""), 0)
                .get(_INFO_KIND, b"")
                .rstrip(b"\0")
                .decode("ascii", "replace"),
            )
        return found

    def check_names(self) -> None:
        """Raises OSError when an interface of our name is somebody else's."""
        self.own()

    def make(self, mtu: int) -> None:
        """Make the devices and the port that are missing; others get the MTU and are set up.

        Raises OSError, saying what the kernel lacks.
        """
        own = self.own()
        # Left by the portable dataplane.
        self.delete(device for device in own if device.kind == "veth")
        there = {device.name for device in own if device.kind != "veth"}
        for name, message in _requests(mtu).items():
            if name in there:
                continue
            try:
                self._socket.check(name, [message])
            except NetlinkError as error:
                raise OSError(error.errno, _explain(name, error)) from error
        if not self.has_port():
            self.add_port()
        self.find()
        if there:
            self._set_up(mtu)

    def find(self) -> None:
        """Learn the indexes of our devices. Raises OSError when one is not there."""
        every = self.every()
        missing = [name for name in self.names if name not in every]
        if missing:
            raise OSError(errno.ENODEV, f"tunnel devices {', '.join(missing)} vanished")
        self.indexes = {name: every[name].index for name in self.names}

    def _set_up(self, mtu: int) -> None:
        ups = [_INFO.pack(0, 0, index, _IFF_UP, _IFF_UP) for index in self.indexes.values()]
        self._socket.check("tunnel devices", [request(_RTM_NEWLINK, 0, body) for body in ups])
        self.set_mtu(mtu)

    def set_mtu(self, mtu: int) -> None:
        """Change the MTU of the transmitting devices. Raises OSError."""
        self._socket.check(
            "the tunnels' MTU",
            [
                request(
                    _RTM_NEWLINK,
                    0,
                    _INFO.pack(0, 0, self.indexes[name], 0, 0)
                    + attribute(_IFLA_MTU, _U32.pack(mtu)),
                )
                for name in constants.SENDING
            ],
        )

    def _family(self) -> int:
        """The number of the generic netlink family "fou". Raises OSError."""
        body = _GENL.pack(_CONTROL_GETFAMILY, 1, 0) + attribute(_CONTROL_FAMILY_NAME, b"fou\0")
        _, answers = self._generic.transact([request(_GENL_CONTROL, 0, body)])
        for _, _, answer in answers:
            number = attributes(answer, _GENL.size).get(_CONTROL_FAMILY_ID, b"")
            if len(number) == 2:
                return int(_U16.unpack(number)[0])
        raise OSError(errno.EOPNOTSUPP, "no FOU: load the module fou (CONFIG_NET_FOU_IP_TUNNELS)")

    def _port(self, command: int) -> bytes:
        body = (
            _GENL.pack(command, 1, 0)
            + attribute(_FOU_PORT, struct.pack("!H", constants.FOU_PORT))
            + attribute(_FOU_AF, bytes([_AF_INET]))
        )
        if command == _FOU_ADD:
            body += attribute(_FOU_IPPROTO, bytes([_IPPROTO_GRE]))
            body += attribute(_FOU_TYPE, bytes([_FOU_DIRECT]))
        return request(self._family(), 0, body)

    def add_port(self) -> None:
        """Let the kernel decapsulate what comes to :data:`constants.FOU_PORT`. Raises OSError."""
        try:
            self._generic.check(f"UDP port {constants.FOU_PORT} of FOU", [self._port(_FOU_ADD)])
        except NetlinkError as error:
            if error.errno == errno.EADDRINUSE:
                text = f"UDP port {constants.FOU_PORT} is in use; end the program that has it"
                raise OSError(errno.EADDRINUSE, text) from error
            raise

    def has_port(self) -> bool:
        """Whether the kernel decapsulates there already."""
        try:
            refusals, _ = self._generic.transact([self._port(_FOU_GET)])
        except OSError:
            return False
        return not refusals

    def delete_port(self) -> None:
        """Reverse of :meth:`add_port`; there may be none."""
        try:
            message = self._port(_FOU_DEL)
        except OSError:
            return
        self._generic.transact([message])


_IFLA_ADDRESS: Final = 1


def load_fou() -> None:
    """Ask for the module: unlike the tunnels' it is not loaded on demand. Never raises."""
    try:
        subprocess.run(["modprobe", "-q", "fou"], check=False, timeout=10, capture_output=True)
    except (OSError, subprocess.SubprocessError):
        return


def _explain(name: str, error: NetlinkError) -> str:
    if error.errno == errno.EEXIST:
        return (
            f"{name}: another tunnel device of its kind is there (external, or to "
            f"{constants.DUMMY}); remove it"
        )
    option = {
        constants.RECEIVE_IP_IP: "CONFIG_NET_IPIP",
        constants.SEND_IP_IP: "CONFIG_NET_IPIP",
        constants.SEND_UDP: "CONFIG_NET_IPGRE and CONFIG_NET_FOU_IP_TUNNELS (modprobe fou)",
    }.get(name, "CONFIG_NET_IPGRE")
    if error.errno in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOENT):
        return f"{error.strerror}; use a kernel with {option}"
    return error.strerror or str(error)
