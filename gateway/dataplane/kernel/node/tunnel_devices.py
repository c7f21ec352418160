"""Who makes the devices of a node's tunnels: the kernel, or whoever stands in for it."""

import contextlib
from typing import Protocol

from gateway.dataplane.kernel.mobility.devices import Devices, load_fou
from gateway.dataplane.kernel.netlink import NETLINK_ROUTE, NetlinkSocket
from gateway.dataplane.kernel.node import tunnels
from gateway.dataplane.kernel.node.tunnels import TunnelDevice
from gateway.domain.mobility import Encapsulation


class NoSuchTunnelError(Exception):
    """There is no such tunnel here. Its text says which."""


class TunnelDevices(Protocol):
    """Makes devices by their names, and changes them in place: addresses and routes stay.

    :meth:`open` comes first. Every call may raise OSError.
    """

    def open(self) -> None:
        """What has to be there before the first device."""

    def check(self, device: TunnelDevice) -> None:
        """Raises :class:`NoSuchTunnelError`."""

    def make(self, device: TunnelDevice) -> None:
        """A new one, set up."""

    def change(self, device: TunnelDevice, index: int) -> None:
        """Make the device of this index, which has its name, like this one."""

    def delete(self, name: str, index: int) -> None:
        """Take it away with its addresses and routes. ``index`` is 0 when it is gone already."""

    def close(self) -> None:
        """Close what :meth:`open` opened; devices are there no more, or of no more use."""


class KernelTunnels:
    """Implements :class:`TunnelDevices` by the kernel's own."""

    def open(self) -> None:
        """See :meth:`TunnelDevices.open`."""
        self._route = NetlinkSocket(NETLINK_ROUTE)
        load_fou()
        # Without FOU there are no UDP tunnels; a stack that asks for one is refused.
        with contextlib.suppress(OSError), contextlib.closing(Devices()) as devices:
            devices.add_port()

    def check(self, device: TunnelDevice) -> None:
        """See :meth:`TunnelDevices.check`."""
        if device.udp_port and device.encapsulation is not Encapsulation.IP_IP:
            text = f"{device.encapsulation.value} in UDP: the kernel has IP-in-IP only"
            raise NoSuchTunnelError(text)
        if device.encapsulation is Encapsulation.MINIMAL:
            raise NoSuchTunnelError("minimal encapsulation: the kernel has none, ask for IP-in-IP")

    def make(self, device: TunnelDevice) -> None:
        """See :meth:`TunnelDevices.make`."""
        self._route.check(device.name, [device.make()])

    def change(self, device: TunnelDevice, index: int) -> None:
        """See :meth:`TunnelDevices.change`."""
        self._route.check(device.name, [device.change(index)])

    def delete(self, name: str, index: int) -> None:
        """See :meth:`TunnelDevices.delete`."""
        if index:
            self._route.check(name, [tunnels.delete(index)], *tunnels.GONE)

    def close(self) -> None:
        """See :meth:`TunnelDevices.close`."""
        self._route.close()
