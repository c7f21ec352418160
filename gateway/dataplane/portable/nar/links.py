"""The tunnel devices of the NAR dataplane as link pairs that the forwarder serves.

What they send and receive has the addresses that the kernel's devices have: the ruleset writes the
true ones, by the same rules.
"""

import errno
from typing import Final

from gateway.dataplane.kernel.mobility.devices import Device
from gateway.dataplane.kernel.nar import constants
from gateway.dataplane.kernel.nar.devices import NarDevices, mtus
from gateway.dataplane.portable.forwarder import Forwarder
from gateway.dataplane.portable.tunnel_link import TunnelKind, TunnelLink
from gateway.dataplane.portable.wire import links

BACK: Final = f"{constants.NAME_PREFIX}back"
"""What user space has decided about comes out of it, unless a pair of ours brought it."""
LARGEST: Final = 65_535
"""MTU of links that packets come out of: these have the size that they have."""

_LOCAL, _REMOTE = constants.LOCAL, constants.REMOTE


def tunnel_links() -> tuple[TunnelLink, ...]:
    """What the forwarder is told of them."""
    return (
        _receiving(constants.RECEIVE_IP_IP, TunnelKind.IP_IP),
        _receiving(constants.RECEIVE_GRE, TunnelKind.GRE),
        _sending(constants.SEND_IP_IP, TunnelKind.IP_IP),
        _sending(constants.SEND_GRE, TunnelKind.GRE),
    )


def _receiving(name: str, kind: TunnelKind) -> TunnelLink:
    return TunnelLink(name, kind, sends=False, local=_LOCAL)


def _sending(name: str, kind: TunnelKind) -> TunnelLink:
    return TunnelLink(
        name, kind, receives=False, local=_LOCAL, remote=_REMOTE, copies_dont_fragment=True
    )


class NarLinks(NarDevices):
    """Implements :class:`gateway.dataplane.kernel.nar.below.TunnelDevices`."""

    names = (*NarDevices.names, BACK)
    receiving = (*NarDevices.receiving, BACK)

    def __init__(self, forwarder: Forwarder) -> None:
        super().__init__()
        self._forwarder = forwarder

    def make(self, mtu: int) -> None:
        """See :meth:`TunnelDevices.make`."""
        super().make(mtu)
        serve(self._forwarder, *tunnel_links())

    def _is_other(self, device: Device) -> bool:
        return device.kind != "veth"

    def _add(self, name: str, mtu: int) -> None:
        links.make_pair(name, self.sizes(mtu)[name], constants.DEVICE_GROUP)

    def sizes(self, mtu: int) -> dict[str, int]:
        """See :meth:`NarDevices.sizes`."""
        found = mtus(mtu)
        return {name: found[name] if name in constants.SENDING else LARGEST for name in self.names}

    def delete(self) -> None:
        """See :meth:`TunnelDevices.delete`."""
        for link in tunnel_links():
            self._forwarder.remove_tunnel(link.name)
        self._forwarder.commit()
        super().delete()


def serve(forwarder: Forwarder, *wanted: TunnelLink) -> None:
    """Have links served whose pairs are there. Raises OSError with the forwarder's reason."""
    for link in wanted:
        forwarder.set_tunnel(link)
    _, refused = forwarder.commit()
    if refused:
        raise OSError(errno.EIO, "; ".join(f"{one.name}: {one.reason}" for one in refused))
