"""What is there before the first peer: the tunnels' interface, ruleset, pool routes.

Rules are those of the kernel dataplane but for its queue: the forwarder judges unknown sources.
"""

import contextlib
import errno
from dataclasses import replace

from gateway.dataplane.kernel import adopt, ruleset
from gateway.dataplane.kernel.adopt import InterfaceTakenError, Leftovers
from gateway.dataplane.kernel.ground import Ground, with_error_sources
from gateway.dataplane.kernel.links import Links
from gateway.dataplane.kernel.netlink import NETLINK_XFRM, NetlinkSocket
from gateway.dataplane.kernel.settings import KernelSettings
from gateway.dataplane.portable.wire import inside


class PortableFoundation(Ground):
    """What stays constant. Raises :class:`OSError`."""

    def __init__(self, settings: KernelSettings) -> None:
        super().__init__(replace(settings, esp_queue=False), Links(onlink=True))

    def make_way(self) -> None:
        """Clear what a kernel dataplane has left; the interface's name has to be ours or free.

        Raises :class:`InterfaceTakenError`.
        """
        name = self._settings.xfrm_interface
        link = self._links.find(name)
        if link is None or link.if_id is not None:
            self.leftovers = self._clear_kernel(name)
        elif not inside.exists(name):
            kind = link.kind or "unknown"
            text = f"interface {name} exists and is not ours (kind {kind})"
            raise InterfaceTakenError(errno.EEXIST, f"{text}; set another xfrm_interface")

    def _clear_kernel(self, name: str) -> Leftovers:
        """SAs and policies would go on protecting by keys that nobody has any more."""
        try:
            xfrm = NetlinkSocket(NETLINK_XFRM)
        except OSError:
            return self.leftovers  # no IPsec in this kernel: nothing was left
        with contextlib.closing(xfrm):
            return adopt.clear(xfrm, self._links, name)

    def build(self, *, adopt_it: bool = False) -> None:
        """Make the ruleset and the routes, where the interface is already.

        With ``adopt_it`` what an earlier process left stays, and the rest is made.
        """
        self._adopting = adopt_it
        settings = self._settings = with_error_sources(self._settings)
        link = self._links.find(settings.xfrm_interface)
        if link is None:
            raise OSError(errno.ENODEV, f"interface {settings.xfrm_interface} is gone")
        self._interface = link.index
        self._links.keep(link.index, settings.mtu)
        self._there = self._links.own_routes(link.index)
        self._load(settings)
        self._route_and_forward(settings)
        if not adopt_it:
            self.forget_unclaimed()

    def rebuild(self) -> None:
        """The interface was made again: route what was routed to it. Raises OSError."""
        link = self._links.find(self._settings.xfrm_interface)
        if link is None:
            raise OSError(errno.ENODEV, f"interface {self._settings.xfrm_interface} is gone")
        self._links.keep(link.index, self._settings.mtu)
        if link.index == self._interface:
            return
        self._interface = link.index
        for network in (*self._settings.inner_networks, *self._peer_routes):
            self._links.add_route(network, self._interface)

    def reconfigure(self, settings: KernelSettings) -> None:
        """See :meth:`Ground.reconfigure`."""
        super().reconfigure(replace(settings, esp_queue=False))

    def close(self, *, keep: bool = False) -> None:
        """Remove rules and routes, unless they are kept; the devices go with the forwarder."""
        if not keep:
            with contextlib.suppress(OSError):
                for network in self._links.own_routes(self._interface):
                    self._links.delete_route(network, self._interface)
            with contextlib.suppress(OSError):
                self._delete_barriers()
            with contextlib.suppress(OSError):
                ruleset.remove()
        self.sets.close()
        self._links.close()
