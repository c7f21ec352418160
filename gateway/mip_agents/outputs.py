"""What the mobility agents ask of the world, in order."""

from dataclasses import dataclass
from ipaddress import IPv4Address

from gateway.domain.endpoint import Path
from gateway.domain.event import Event
from gateway.domain.mobility import MobilityBinding, Visitor
from gateway.domain.nar import NarMapping, NarTuple


@dataclass(frozen=True, slots=True)
class Link:
    """Where a datagram came from, or has to go, below IP."""

    interface: str
    address: bytes = b""
    """The link-layer address of the other end; empty where the interface has none."""


@dataclass(frozen=True, slots=True)
class Transmit:
    """Send a UDP datagram from ``path.local`` to ``path.remote``.

    With ``link``, it goes out there, to that link-layer address, without any routing or ARP:
    the destination has an address that does not belong to that link (RFC 5944 section 3.7.3.1).
    """

    message: bytes
    path: Path
    link: Link | None = None


@dataclass(frozen=True, slots=True)
class TransmitAdvertisement:
    """Send an ICMP message: an agent advertisement.

    ``destination`` None is everybody on the link (224.0.0.1); otherwise a unicast answer to a
    solicitation, to the link-layer address ``link.address``.
    """

    message: bytes
    link: Link
    destination: IPv4Address | None = None


@dataclass(frozen=True, slots=True)
class SetBinding:
    """See :meth:`gateway.dataplane.mobility.MobilityDataplane.set_binding`."""

    binding: MobilityBinding


@dataclass(frozen=True, slots=True)
class RemoveBinding:
    """See :meth:`gateway.dataplane.mobility.MobilityDataplane.remove_binding`."""

    home_agent: IPv4Address
    home_address: IPv4Address


@dataclass(frozen=True, slots=True)
class SetVisitor:
    """See :meth:`gateway.dataplane.mobility.MobilityDataplane.set_visitor`."""

    visitor: Visitor


@dataclass(frozen=True, slots=True)
class RemoveVisitor:
    """See :meth:`gateway.dataplane.mobility.MobilityDataplane.remove_visitor`."""

    home_agent: IPv4Address
    home_address: IPv4Address


@dataclass(frozen=True, slots=True)
class SetNarMapping:
    """Deliver a visitor's tunnels to its own address (draft 004, section 2.6.3).

    What is refused is answered with ``visitor_refused``, as with :class:`SetVisitor`.
    """

    mapping: NarMapping


@dataclass(frozen=True, slots=True)
class RemoveNarMapping:
    """Deliver them no more."""

    tuple: NarTuple


@dataclass(frozen=True, slots=True)
class Keep:
    """Write a record down so that a restart finds it: give it to ``restore`` then."""

    key: str
    record: bytes


@dataclass(frozen=True, slots=True)
class Forget:
    """The record of this key is no longer wanted."""

    key: str


Output = (
    Transmit
    | TransmitAdvertisement
    | SetBinding
    | RemoveBinding
    | SetVisitor
    | RemoveVisitor
    | SetNarMapping
    | RemoveNarMapping
    | Keep
    | Forget
    | Event
)
