"""The kernel's dataplane without the kernel: all of its bookkeeping, none of its system calls.

For what is measured of the process alone, on any kernel.
"""

from collections.abc import Sequence

from gateway.dataplane.interface import DataplaneEvent
from gateway.dataplane.kernel.child import InstalledChild
from gateway.dataplane.kernel.dataplane import KernelDataplane
from gateway.dataplane.kernel.nfqueue import Queue
from gateway.dataplane.kernel.settings import KernelSettings
from gateway.dataplane.kernel.slow_path import SlowPath
from gateway.domain.child_sa import ChildSa


class _Netlink:
    """Agrees to everything; an SA that is asked for is not there."""

    def __init__(self) -> None:
        self.requests = 0

    def transact(self, requests: Sequence[bytes]) -> tuple[list[object], list[object]]:
        self.requests += len(requests)
        return [], []

    def apply(self, changes: Sequence[object]) -> None:
        self.requests += len(changes)


class _Foundation:
    """Routes that nobody needs."""

    def add_peer_route(self, network: object) -> None:
        """Nothing."""

    def drop_peer_route(self, network: object) -> None:
        """Nothing."""

    def close(self, *, keep: bool = False) -> None:
        """Nothing."""


class _Events:
    """What :class:`gateway.dataplane.kernel.events.EventReader` remembers of a child SA."""

    def __init__(self) -> None:
        self.traps: dict[int, int] = {}
        self.outbound: dict[tuple[object, int], int] = {}

    def expect_outbound(self, child: InstalledChild) -> None:
        """As the real one does."""
        self.outbound[child.remote.address, child.sa.spi_out] = child.sa.spi_in

    def forget_outbound(self, child: InstalledChild) -> None:
        """As the real one does."""
        self.outbound.pop((child.remote.address, child.sa.spi_out), None)

    def forget_mapping(self, spi_in: int) -> None:
        """There are none."""

    def close(self) -> None:
        """Nothing."""


class _Queue:
    overruns = 0

    def close(self) -> None:
        """Nothing."""


class AbsentKernel(KernelDataplane):
    """A dataplane that keeps what the gateway's own keeps for each SA, and sends it nowhere."""

    def start(self, *, adopt: bool = False) -> None:
        """Nothing is opened."""
        del adopt
        netlink = _Netlink()
        queue: Queue = _Queue()  # type: ignore[assignment]
        self._foundation = _Foundation()  # type: ignore[assignment]
        self._events = _Events()  # type: ignore[assignment]
        self._xfrm = netlink  # type: ignore[assignment]
        self._sets = netlink  # type: ignore[assignment]
        self._slow_path = SlowPath(queue, self._highest, self._clock)
        self._started = True

    def adopt(self, children: Sequence[tuple[ChildSa, bool]]) -> list[int]:
        """Whatever there should be, an absent kernel has lost it."""
        return [sa.spi_in for sa, _ in children]

    def event_fds(self) -> list[int]:
        """None."""
        return []

    def read_events(self) -> list[DataplaneEvent]:
        """None."""
        return []


def absent_kernel(settings: KernelSettings | None = None) -> AbsentKernel:
    """A started one."""
    dataplane = AbsentKernel(settings or KernelSettings())
    dataplane.start()
    return dataplane
