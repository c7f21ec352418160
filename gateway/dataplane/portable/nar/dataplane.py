"""NAR where the kernel has neither tunnels nor a packet queue: the same maps, marks and routes."""

import time
from collections.abc import Callable

from gateway.dataplane.kernel.nar.dataplane import KernelNar
from gateway.dataplane.nar import NarSettings
from gateway.dataplane.portable.forwarder import Forwarder, ForwarderUnavailableError
from gateway.dataplane.portable.nar.below import PortableBelow


class PortableNar(KernelNar):
    """Implements :class:`gateway.dataplane.nar.NarDataplane` in this network namespace.

    The forwarder carries what goes through tunnels; nftables decides about the rest, with what
    :class:`KernelNar` puts into its maps. ESP of clients is matched and sent on there, before it
    could come to a socket of the forwarder's.

    Raises OSError from the constructor when there may be no raw sockets.
    """

    kind = "portable"

    def __init__(
        self,
        settings: NarSettings,
        forwarder: Forwarder,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``forwarder`` is ours, until :meth:`close`."""
        self._ground = PortableBelow(forwarder)
        super().__init__(settings, below=self._ground, clock=clock)
        self._forwarder = forwarder

    def reconfigure(self, settings: NarSettings) -> None:
        """See :meth:`KernelNar.reconfigure`."""
        super().reconfigure(settings)
        self._ground.look_again()

    def counters(self) -> dict[str, int]:
        """See :meth:`KernelNar.counters`; the forwarder's have its name before them."""
        found = super().counters()
        try:
            carried = self._forwarder.counters()
        except ForwarderUnavailableError:
            return {**found, "forwarder_gone": 1}
        return {**found, **{f"forwarder_{name}": count for name, count in carried.items()}}
