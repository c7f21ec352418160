"""A node's tunnel devices as links of the forwarder: pairs of virtual Ethernet devices.

A UDP tunnel is GRE in UDP whose header the switch exchanges for the one of RFC 3519, as with the
kernel's devices: the switch and what it counts are the same.
"""

import errno
from collections.abc import Callable
from typing import Final

from gateway.dataplane.kernel.netlink import NETLINK_ROUTE, NetlinkSocket
from gateway.dataplane.kernel.node import constants, tunnels
from gateway.dataplane.kernel.node.tunnel_devices import NoSuchTunnelError
from gateway.dataplane.kernel.node.tunnels import TunnelDevice
from gateway.dataplane.portable.forwarder import Forwarder
from gateway.dataplane.portable.tunnel_link import TunnelKind, TunnelLink
from gateway.dataplane.portable.wire import links
from gateway.domain.mobility import MIP_PORT, Encapsulation

_KINDS: Final = {
    Encapsulation.IP_IP: TunnelKind.IP_IP,
    Encapsulation.MINIMAL: TunnelKind.MINIMAL,
    Encapsulation.GRE: TunnelKind.GRE,
}


def link_of(device: TunnelDevice) -> TunnelLink:
    """What the forwarder is told of a device."""
    udp = device.udp_port != 0
    return TunnelLink(
        device.name,
        TunnelKind.GRE_UDP if udp else _KINDS[device.encapsulation],
        local=device.local,
        remote=device.remote,
        mark=device.mark,
        local_port=MIP_PORT if udp else 0,
        remote_port=device.udp_port,
        below=device.link,
    )


class PortableTunnels:
    """Implements :class:`gateway.dataplane.kernel.node.tunnel_devices.TunnelDevices`."""

    def __init__(self, forwarder: Callable[[], Forwarder]) -> None:
        self._open = forwarder

    def open(self) -> None:
        """See :meth:`TunnelDevices.open`. Links of an earlier process are of no more use."""
        self._forwarder = self._open()
        try:
            self._forget()
            self._route = NetlinkSocket(NETLINK_ROUTE)
        except OSError:
            self._forwarder.close(keep=False)
            raise

    def _forget(self) -> None:
        ours = [one.name for one in self._forwarder.tunnels() if one.name in constants.TUNNELS]
        for name in ours:
            self._forwarder.remove_tunnel(name)
        self._forwarder.commit()

    def check(self, device: TunnelDevice) -> None:
        """See :meth:`TunnelDevices.check`."""
        if device.udp_port and device.encapsulation is not Encapsulation.IP_IP:
            raise NoSuchTunnelError(f"{device.encapsulation.value} in UDP: there is IP-in-IP only")

    def make(self, device: TunnelDevice) -> None:
        """See :meth:`TunnelDevices.make`."""
        links.make_pair(device.name, device.mtu, group=constants.DEVICE_GROUP)
        try:
            self._serve(device)
        except OSError:
            links.delete(device.name)
            raise

    def change(self, device: TunnelDevice, index: int) -> None:
        """See :meth:`TunnelDevices.change`."""
        self._route.check(device.name, [tunnels.set_up(index, device.mtu)])
        self._serve(device)

    def _serve(self, device: TunnelDevice) -> None:
        self._forwarder.set_tunnel(link_of(device))
        _, refused = self._forwarder.commit()
        for one in refused:
            raise OSError(errno.EIO, f"{one.name}: {one.reason}")

    def delete(self, name: str, index: int) -> None:
        """See :meth:`TunnelDevices.delete`."""
        self._forwarder.remove_tunnel(name)
        self._forwarder.commit()
        if index:
            self._route.check(name, [tunnels.delete(index)], *tunnels.GONE)

    def close(self) -> None:
        """See :meth:`TunnelDevices.close`."""
        try:
            self._forget()
        except OSError:
            pass  # gone with all its links
        finally:
            self._route.close()
            self._forwarder.close(keep=False)
