"""The tunnel devices of the mobility dataplane as link pairs that the forwarder serves."""

import contextlib
import errno
from typing import Final

from gateway.dataplane.kernel.mobility import constants
from gateway.dataplane.kernel.mobility.devices import Devices
from gateway.dataplane.portable.forwarder import Forwarder, ForwarderUnavailableError
from gateway.dataplane.portable.tunnel_link import TunnelKind, TunnelLink
from gateway.dataplane.portable.wire import links
from gateway.domain.mobility import MIP_PORT

_LARGEST: Final = 65535
"""MTU of links that only receive: what came through a tunnel has the size it has."""


def tunnel_links() -> tuple[TunnelLink, ...]:
    """What the kernel's devices of these names do; the ruleset writes the true addresses."""
    dummy = constants.DUMMY
    return (
        TunnelLink(constants.RECEIVE_IP_IP, TunnelKind.IP_IP, sends=False),
        TunnelLink(constants.RECEIVE_GRE, TunnelKind.GRE, sends=False),
        TunnelLink(constants.SEND_IP_IP, TunnelKind.IP_IP, receives=False, remote=dummy),
        TunnelLink(constants.SEND_GRE, TunnelKind.GRE, receives=False, remote=dummy),
        TunnelLink(
            constants.SEND_UDP,
            TunnelKind.GRE_UDP,
            receives=False,
            remote=dummy,
            local_port=MIP_PORT,
            remote_port=MIP_PORT,
        ),
    )


class LinkPairs(Devices):
    """Implements :class:`gateway.dataplane.kernel.mobility.means.TunnelDevices`."""

    names = Devices.names + constants.GIVING_BACK
    receiving = Devices.receiving + constants.GIVING_BACK

    def __init__(self, forwarder: Forwarder) -> None:
        super().__init__()
        self._forwarder = forwarder

    def close(self, *, keep: bool = False) -> None:
        """Close the sockets, and the forwarder unless it is to serve the links further."""
        super().close()
        self._forwarder.close(keep=keep)

    def clear(self) -> int:
        """Delete devices of an earlier run, of any kind. Raises OSError."""
        with contextlib.suppress(ForwarderUnavailableError):
            # It serves nothing any more.
            for link in tunnel_links():
                self._forwarder.remove_tunnel(link.name)
            self._forwarder.commit()
        return super().clear()

    def make(self, mtu: int) -> None:
        """Make the pairs that are missing and have them served; others get the MTU.

        Raises OSError.
        """
        own = self.own()
        # Left by the kernel dataplane.
        self.delete(device for device in own if device.kind != "veth")
        self.delete_port()
        there = {device.name for device in own if device.kind == "veth"}
        for name in self.names:
            wanted = mtu if name in constants.SENDING else _LARGEST
            if name not in there:
                links.make_pair(name, wanted, constants.DEVICE_GROUP)
        self.find()
        self.set_mtu(mtu)
        for link in tunnel_links():
            self._forwarder.set_tunnel(link)
        _, refused = self._forwarder.commit()
        if refused:
            said = "; ".join(f"{one.name}: {one.reason}" for one in refused)
            raise OSError(errno.EIO, said)
