"""What the mobility dataplane stands on: tunnel devices and a queue, the kernel's own or others.

Sets, maps, routes and rules are the same whatever these are.
"""

from typing import Protocol

from gateway.dataplane.kernel.mobility.devices import Device, Devices, load_fou
from gateway.dataplane.kernel.mobility.ruleset import QUEUED, Wording
from gateway.dataplane.kernel.nfqueue import Conclusion, Queue, Waiting
from gateway.dataplane.mobility import MobilitySettings


class TunnelDevices(Protocol):
    """The interfaces of :mod:`.constants`. All raise OSError saying what is in the way."""

    indexes: dict[str, int]
    """Of our devices, by name."""
    receiving: tuple[str, ...]
    """Those that packets of anybody come out of."""

    def check_names(self) -> None:
        """Whether no interface of our names is somebody else's."""

    def clear(self) -> int:
        """Delete what an earlier run left; returns how many devices there were."""

    def make(self, mtu: int) -> None:
        """Make what is missing; the rest gets the MTU and is set up."""

    def set_mtu(self, mtu: int) -> None:
        """Change the MTU of the transmitting devices."""

    def every(self) -> dict[str, Device]:
        """All interfaces of the namespace by name."""

    def close(self, *, keep: bool = False) -> None:
        """Close what they are made with. What was made stays; ``keep`` says that it is in use."""


class PacketQueue(Protocol):
    """See :class:`gateway.dataplane.kernel.nfqueue.Queue`."""

    @property
    def overruns(self) -> int:
        """How often waiting packets were lost."""

    def fileno(self) -> int:
        """For selectors."""

    def receive(self, limit: int) -> list[Waiting]:
        """Packets that wait, in order."""

    def conclude(self, conclusions: list[Conclusion]) -> bool:
        """Decide about packets of one :meth:`receive`; whether that could be carried out."""

    def close(self) -> None:
        """Waiting packets are dropped."""


class Means(Protocol):
    """Makes devices and queue."""

    wording: Wording
    """Of the rules."""

    def devices(self) -> TunnelDevices:
        """Nothing is made or cleared yet. Raises OSError."""

    def constant(self) -> list[bytes]:
        """Rules and routes besides those of the kernel dataplane, as requests to rtnetlink."""

    def queue(self, settings: MobilitySettings) -> PacketQueue:
        """After everything else is made. Raises OSError."""

    def reconfigure(self, settings: MobilitySettings) -> None:
        """Use other interfaces. Raises OSError."""

    def counters(self) -> dict[str, int]:
        """Packets by what became of them in the devices."""


class KernelMeans:
    """Tunnel devices, FOU and NFQUEUE."""

    wording = QUEUED

    def devices(self) -> Devices:
        """See :meth:`Means.devices`."""
        load_fou()
        return Devices()

    def constant(self) -> list[bytes]:
        """None."""
        return []

    def queue(self, settings: MobilitySettings) -> Queue:
        """See :meth:`Means.queue`."""
        return Queue(settings.queue_number, settings.queue_length)

    def reconfigure(self, settings: MobilitySettings) -> None:
        """Nothing depends on them."""

    def counters(self) -> dict[str, int]:
        """The kernel's are those of its interfaces."""
        return {}
