"""What the mobility agents ask of a dataplane, in the drafts' own verbs."""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Protocol

from gateway.domain.mobility import HomeNetwork, MobilityBinding, Visitor


@dataclass(frozen=True, slots=True)
class MobilitySettings:
    """What is constant while the gateway runs, or changes by reload."""

    home_agents: tuple[IPv4Address, ...] = ()
    """Our home agent addresses."""
    inside_home_agents: tuple[IPv4Address, ...] = ()
    """i-HAs, ours or of others behind us: registrations from outside interfaces are dropped."""
    care_of_addresses: tuple[IPv4Address, ...] = ()
    """Of our foreign agents, VPN-CoAs included."""
    home_networks: tuple[HomeNetwork, ...] = ()
    """Of our home agents."""
    visited_interfaces: tuple[str, ...] = ()
    """Links on which our foreign agents serve."""
    outside_interfaces: tuple[str, ...] = ()
    protected_networks: tuple[IPv4Network, ...] = ()
    """What outside interfaces must not reach, not even by the tunnel of an outer home agent."""
    vpn_interface: str = "gw0"
    """The xfrm interface, for VPN/FA."""
    offload: bool = True
    """False: every packet of a tunnel passes through user space."""
    queue_number: int = 4758
    queue_length: int = 4096
    mtu: int = 1400
    """Of the tunnel devices: the upper limit of any ``max_packet_octets``."""
    relayed_home_agents: tuple["RelayedHomeAgent", ...] = ()
    forwarding: bool = True


@dataclass(frozen=True, slots=True)
class RelayedHomeAgent:
    """A private home agent behind a port of our public address (draft 002, section 4.2.3)."""

    public_address: IPv4Address
    public_port: int
    home_agent: IPv4Address
    """Its UDP port is 434."""


@dataclass(frozen=True, slots=True)
class MobilityRefusal:
    """The dataplane could not do what was asked for this home address at this home agent."""

    home_agent: IPv4Address
    home_address: IPv4Address
    reason: str


class MobilityDataplane(Protocol):
    """Verbs queue work; :meth:`commit` does it in one batch. All calls return quickly.

    Setting what is set replaces it without a gap. Removing what is not there is fine. The cost of
    a verb does not grow with the number of bindings or visitors.
    """

    def set_binding(self, binding: MobilityBinding) -> None:
        """Tunnel to the care-of addresses, accept from them, defend the home address at home."""

    def remove_binding(self, home_agent: IPv4Address, home_address: IPv4Address) -> None:
        """The mobile node is at home, or nobody knows where."""

    def set_visitor(self, visitor: Visitor) -> None:
        """Deliver from its home agent, and tunnel to it."""

    def remove_visitor(self, home_agent: IPv4Address, home_address: IPv4Address) -> None:
        """It left."""

    def reconfigure(self, settings: MobilitySettings) -> None:
        """Use other networks and addresses; ``queue`` and ``offload`` need a new start.

        Raises OSError.
        """

    def commit(self) -> list[MobilityRefusal]:
        """Apply everything queued since the last commit; report what was refused."""

    def counters(self) -> dict[str, int]:
        """Packets by what became of them."""

    def adopt(self) -> list[MobilityRefusal]:
        """Once, after what an earlier process had was set again: remove what was not.

        Refusals are as those of :meth:`commit`, which it implies.
        """

    def close(self, *, keep: bool = False) -> None:
        """Remove everything this dataplane installed; or leave it to a process that adopts it."""
