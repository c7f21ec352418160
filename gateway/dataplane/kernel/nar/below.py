"""What lies below rules and routes: devices, L2TP sessions, the queue, and who has which SPI.

The kernel's own, or what takes its place where the kernel lacks it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Protocol

from gateway.dataplane.kernel.mobility.devices import Device
from gateway.dataplane.kernel.nar.devices import NarDevices
from gateway.dataplane.kernel.nar.l2tp import L2tpDevices, L2tpLink
from gateway.dataplane.kernel.nar.missing import NFQUEUE
from gateway.dataplane.kernel.nar.own_sas import KernelSas
from gateway.dataplane.kernel.nfqueue import PacketQueue, Queue
from gateway.dataplane.nar import NarSettings
from gateway.domain.nar import L2tpSession, NarProtocol


@dataclass(frozen=True, slots=True)
class Words:
    """What the ruleset says differently where another thing lies below. Empty: no rule."""

    take: str
    """Let user space decide about a packet; dropped while it does not."""
    take_or_pass: str
    """The same; where it can be, it passes while nobody decides."""
    tell: str
    """Show it to user space, which never changes it."""
    known_only: bool = False
    """Without offload too, only what belongs to a mapping goes to user space."""
    decided: tuple[str, ...] = ()
    """Rules for what user space has decided about in prerouting; others at each start."""
    output: str = ""
    """Rules at the head of output."""
    needs: Mapping[str, str] | None = None
    """Rules that tell what the kernel lacks for these, by the words for it."""


class TunnelDevices(Protocol):
    """The four devices that are there whoever is a client. Methods raise OSError."""

    receiving: tuple[str, ...]
    """Those that packets of anybody come out of."""
    indexes: dict[str, int]
    """By name, once they are made."""

    def every(self) -> dict[str, Device]:
        """All interfaces of the namespace by name."""

    def check_names(self) -> dict[str, Device]:
        """Devices of an earlier run by name; OSError when one of our names is taken."""

    def make(self, mtu: int) -> None:
        """Make what is not there yet, with this MTU for IP-in-IP."""

    def set_mtu(self, mtu: int) -> None:
        """Change the devices' MTU, and set them up."""

    def delete(self) -> None:
        """Delete them."""

    def close(self) -> None:
        """Close the sockets; what was made stays."""


class L2tpSessions(Protocol):
    """Clients' sessions, each with an interface. Methods raise OSError."""

    problem: str
    """Why there can be none."""

    def open(self, session: L2tpSession, server: IPv4Address, mtu: int) -> L2tpLink:
        """Open the session with the client that knows us as ``server``, or find it open."""

    def delete(self, tunnel_id: int) -> None:
        """Close the session of a tunnel; it may be gone."""

    def delete_unused(self, wanted: set[int]) -> None:
        """Close tunnels of an earlier process that are not among these."""

    def delete_all(self) -> None:
        """Close all of ours."""

    def close(self) -> None:
        """Close the sockets; sessions stay."""


class OwnSas(Protocol):
    """The box's own security associations."""

    def has(self, protocol: NarProtocol, address: IPv4Address, spi: int) -> bool:
        """Whether one receives by this SPI at this address. Never raises."""

    def close(self) -> None:
        """Ask no more."""


class Below(Protocol):
    """Makes all of it. Methods raise OSError."""

    def words(self, queue_number: int) -> Words:
        """For the ruleset."""

    def queue(self, settings: NarSettings) -> PacketQueue:
        """What user space decides about; one process at a time has it."""

    def devices(self) -> TunnelDevices:
        """None of them made."""

    def l2tp(self) -> L2tpSessions:
        """None of them opened."""

    def sas(self) -> OwnSas:
        """To ask for SPIs."""

    def close(self, *, keep: bool) -> None:
        """At the very end, once or more often. With ``keep``, what lies below goes on."""


class KernelBelow:
    """Implements :class:`Below` by what the kernel has."""

    def words(self, queue_number: int) -> Words:
        """See :meth:`Below.words`."""
        queue = f"queue num {queue_number}"
        bypass = f"{queue} bypass"
        return Words(queue, bypass, bypass, needs={NFQUEUE: bypass})

    def queue(self, settings: NarSettings) -> PacketQueue:
        """See :meth:`Below.queue`."""
        return Queue(settings.queue_number, settings.queue_length)

    def devices(self) -> TunnelDevices:
        """See :meth:`Below.devices`."""
        return NarDevices()

    def l2tp(self) -> L2tpSessions:
        """See :meth:`Below.l2tp`."""
        return L2tpDevices()

    def sas(self) -> OwnSas:
        """See :meth:`Below.sas`."""
        return KernelSas()

    def close(self, *, keep: bool) -> None:
        """See :meth:`Below.close`: the parts close what is theirs."""
