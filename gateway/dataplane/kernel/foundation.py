"""What is there before the first peer: interface, constant policies, ruleset, pool routes."""

import contextlib

from gateway.dataplane.kernel import adopt, ruleset
from gateway.dataplane.kernel.ground import Ground, with_error_sources
from gateway.dataplane.kernel.links import Links
from gateway.dataplane.kernel.netlink import NETLINK_XFRM, NetlinkSocket
from gateway.dataplane.kernel.policies import constant_policies
from gateway.dataplane.kernel.settings import KernelSettings
from gateway.dataplane.kernel.xfrm import decode, encode

_THRESHOLDS = [encode.thresholds(0, 32), encode.thresholds(0, 128, version=6)]
_DEFAULT_THRESHOLDS = [encode.thresholds(32, 32), encode.thresholds(128, 128, version=6)]


class Foundation(Ground):
    """Sockets to the kernel and what stays constant. Raises :class:`OSError`."""

    def __init__(self, settings: KernelSettings) -> None:
        self.xfrm = NetlinkSocket(NETLINK_XFRM)
        try:
            super().__init__(settings, Links())
        except OSError:
            self.xfrm.close()
            raise

    def build(self, *, adopt_it: bool = False) -> None:
        """Clear leftovers and make everything; or keep what is there and make the rest."""
        self._adopting = adopt_it
        settings = self._settings = with_error_sources(self._settings)
        if adopt_it:
            self._find(settings)
        else:
            self.leftovers = adopt.clear(self.xfrm, self._links, settings.xfrm_interface)
        # Policies to single inner addresses are found by hash, whatever their other side is.
        if not self._has_thresholds():
            self.xfrm.check("policy hash thresholds", _THRESHOLDS)
        self.xfrm.check("constant policies", constant_policies())
        self._load(settings)
        if not self._interface:
            self._interface = self._links.add_xfrm_interface(settings.xfrm_interface, settings.mtu)
        self._route_and_forward(settings)
        if not adopt_it:
            self.forget_unclaimed()

    def _find(self, settings: KernelSettings) -> None:
        link = adopt.own_interface(self._links, settings.xfrm_interface)
        if link is not None:
            self._interface = link.index
            self._links.keep(link.index, settings.mtu)
            self._there = self._links.own_routes(link.index)

    def _has_thresholds(self) -> bool:
        """Setting them again would build all hash tables anew."""
        _, answers = self.xfrm.transact([encode.get_thresholds()])
        return any(decode.thresholds(body) == ((0, 32), (0, 128)) for _, _, body in answers)

    def give_up(self) -> None:
        """The start failed: what an earlier process left goes on as it was."""
        self.close(keep=self._adopting)

    def close(self, *, keep: bool = False) -> None:
        """Remove everything that carries our marks, unless it is kept, and close the sockets."""
        if not keep:
            with contextlib.suppress(OSError):
                adopt.clear(self.xfrm, self._links, self._settings.xfrm_interface)
            with contextlib.suppress(OSError):
                self._delete_barriers()
            with contextlib.suppress(OSError):
                ruleset.remove()
            with contextlib.suppress(OSError):
                self.xfrm.check("policy hash thresholds", _DEFAULT_THRESHOLDS)
        self.sets.close()
        self._links.close()
        self.xfrm.close()
