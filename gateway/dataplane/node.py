"""What a mobile node asks of its host's dataplane: its layers, and the switch in front of them."""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Protocol

from gateway.domain.access_mode import AccessMode
from gateway.domain.mobility import Encapsulation

EVERYTHING = IPv4Network("0.0.0.0/0")


@dataclass(frozen=True, slots=True)
class Attachment:
    """The link in use, and the next hop on it."""

    interface: str
    address: IPv4Address
    """Ours there: the co-located care-of address; behind a foreign agent the home address of the
    lowest layer (the node has no other); at home the i-HoA."""
    router: IPv4Address | None
    """The default router, or the foreign agent; None on a link without one."""
    router_link_address: bytes = b""
    """Of a foreign agent: the node never asks for it by ARP there (RFC 5944 section 4.6)."""


@dataclass(frozen=True, slots=True)
class NodeTunnel:
    """The node's end of a Mobile IP layer."""

    home_address: IPv4Address
    home_agent: IPv4Address
    care_of_address: IPv4Address
    co_located: bool
    """False: the foreign agent ends the tunnel, so there is none here; the packets go to it as
    they are."""
    encapsulation: Encapsulation = Encapsulation.IP_IP
    udp_port: int = 0
    """Not 0: RFC 3519, between our port 434 and this one of the home agent."""
    zero_overhead: IPv4Address | None = None
    """The confirmed default destination: unfragmented packets to and from it travel by address
    switching (draft 001, appendix D)."""
    max_packet_octets: int = 1400


@dataclass(frozen=True, slots=True)
class VpnLayer:
    """The IPsec tunnel between the other two. Its SAs are the IPsec dataplane's."""

    outer: IPv4Address
    """Our end: a care-of address, or the x-HoA."""
    gateway: IPv4Address
    inner: IPv4Address | None
    """VPN-TIA, or the i-HoA with VPN/FA; None while IKE is still at it."""


@dataclass(frozen=True, slots=True)
class LayerStack:
    """Everything of the node's networking, lowest layer first.

    While a layer is being set up the stack is applied without the ones above it and with
    ``mode`` HELD: signalling and IKE go through what there is, the user's packets wait.
    """

    mode: AccessMode = AccessMode.HELD
    attachment: Attachment | None = None
    previous: Attachment | None = None
    """What was in use before: packets still under way to it are accepted (make before break)."""
    external: NodeTunnel | None = None
    vpn: VpnLayer | None = None
    internal: NodeTunnel | None = None
    home_address: IPv4Address | None = None
    """i-HoA: the address of the user's packets; None when there is no i-MIP."""
    networks: tuple[IPv4Network, ...] = (EVERYTHING,)
    """What goes through the top layer."""
    direct_networks: tuple[IPv4Network, ...] = ()
    """Exceptions of a split tunnel: reached over the link itself, in the clear."""


HELD = LayerStack()


@dataclass(frozen=True, slots=True)
class Peers:
    """With whom the node may speak on any link before anything is proven (the switch's sets)."""

    gateways: tuple[IPv4Address, ...] = ()
    """ESP, IKE and its TCP encapsulation."""
    external_home_agents: tuple[IPv4Address, ...] = ()
    """Registrations, and tunnels that carry nothing but ESP and IKE to the gateways."""
    internal_home_agents: tuple[IPv4Address, ...] = ()
    """Registrations only. Their tunnels need a permit, or the VPN."""


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """Fixed for the life of a node dataplane."""

    peers: Peers
    tcp_ports: tuple[int, ...] = (4500, 443)
    """Of the gateways' TCP encapsulation (RFC 9329)."""
    accept_inside: tuple[tuple[str, int, IPv4Network], ...] = ()
    """(protocol name "tcp" or "udp", port, from where): what may be opened towards this host,
    through a tunnel or inside. Anything else unsolicited is dropped (draft 000, section 4)."""
    mtu: int = 1400


@dataclass(frozen=True, slots=True)
class NodeRefusal:
    """The dataplane could not do what was asked."""

    what: str
    reason: str


class NodeDataplane(Protocol):
    """Calls return quickly; each leaves the host in one consistent state or says what failed."""

    def open(self) -> None:
        """Install the switch first (nothing of the user's leaves), then devices and rules.

        Takes over what an earlier process left. Raises OSError.
        """

    def apply(self, stack: LayerStack) -> list[NodeRefusal]:
        """Make this the node's networking. Only the difference to the stack before is touched."""

    def permit(self, interface: str, lifetime_s: float) -> None:
        """Let plaintext pass on an interface for so long: the kernel itself ends it."""

    def forbid(self, interface: str | None = None) -> None:
        """End the permit of an interface, or all, at once."""

    def hold_fd(self) -> int:
        """Readable when packets of the user's wait (mode HELD)."""

    def read_held(self) -> int:
        """Keep what waits, up to a small bound; how many packets came. Never waits.

        Also looks whether the switch was taken away by somebody else, and puts it back. Raises
        OSError when it cannot; call again soon then.
        """

    def release_held(self) -> int:
        """Send the kept packets through the stack as it is now; how many."""

    def user_packets(self) -> int:
        """How many packets of the user's have left and arrived so far, to tell idleness."""

    def counters(self) -> dict[str, int]:
        """What the switch dropped and let pass, by rule."""

    def close(self, *, keep_switch: bool) -> None:
        """Remove everything.

        With ``keep_switch`` nothing of the user's leaves until it is opened again or released.
        """
