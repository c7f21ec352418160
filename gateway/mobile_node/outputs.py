"""What the mobile node asks of its host, in order."""

from dataclasses import dataclass
from ipaddress import IPv4Address

from gateway.dataplane.node import LayerStack
from gateway.domain.event import Event
from gateway.domain.mobility_credential import MobilityCredential


@dataclass(frozen=True, slots=True)
class TransmitRegistration:
    """Send a UDP datagram from our port 434 to ``destination`` port 434.

    ``interface`` None sends it through the VPN (source is the inner address); otherwise it goes
    out there and nowhere else. ``link_address`` set: without routing or ARP, to that station
    (a foreign agent's).
    """

    message: bytes
    interface: str | None
    source: IPv4Address
    destination: IPv4Address
    link_address: bytes = b""


@dataclass(frozen=True, slots=True)
class Solicit:
    """Send an agent solicitation on a link (RFC 5944 section 2.1)."""

    interface: str


@dataclass(frozen=True, slots=True)
class Apply:
    """See :meth:`gateway.dataplane.node.NodeDataplane.apply`.

    Held packets are released afterwards unless the mode is HELD.
    """

    stack: LayerStack


@dataclass(frozen=True, slots=True)
class Permit:
    """See :meth:`gateway.dataplane.node.NodeDataplane.permit`."""

    interface: str
    lifetime_s: float


@dataclass(frozen=True, slots=True)
class Forbid:
    """See :meth:`gateway.dataplane.node.NodeDataplane.forbid`."""

    interface: str | None = None


@dataclass(frozen=True, slots=True)
class ConnectVpn:
    """Bring IKE and a child SA up from ``outer``; answer by ``vpn_up`` or ``vpn_failed``.

    With a session there already: end it first. ``vpn_fa`` asks for a selector of the i-HoA when
    the gateway knows VPN/FA, otherwise and without for a VPN-TIA.
    """

    outer: IPv4Address
    home_address: IPv4Address | None
    vpn_fa: bool
    endpoint_update: bool
    mobike: bool
    tcp: bool = False
    force_udp: bool = False


@dataclass(frozen=True, slots=True)
class MoveVpn:
    """Our outer address is another one now.

    With ``mobike`` IKE says so to the gateway; without, the SAs' own packets do (draft 001,
    appendix C): one is sent at once.
    """

    outer: IPv4Address
    mobike: bool


@dataclass(frozen=True, slots=True)
class CloseVpn:
    """End the IKE SA with a Delete, if there is one. No ``vpn_down`` follows."""

    reason: str


@dataclass(frozen=True, slots=True)
class ProbePortal:
    """Find out whether a captive portal is in the way on an interface; answer by ``portal``."""

    interface: str


@dataclass(frozen=True, slots=True)
class KeepCredentials:
    """Write down what the login taught, for the next start."""

    credentials: tuple[MobilityCredential, ...]


NodeOutput = (
    TransmitRegistration
    | Solicit
    | Apply
    | Permit
    | Forbid
    | ConnectVpn
    | MoveVpn
    | CloseVpn
    | ProbePortal
    | KeepCredentials
    | Event
)
