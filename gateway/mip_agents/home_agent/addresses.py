"""What an address is to this home agent; compiled once from its policy, asked per request."""

from ipaddress import IPv4Address, IPv4Network

from gateway.domain.mobility import HomeNetwork
from gateway.mip_agents.policy import HomeAgentPolicy

_PRIVATE = tuple(
    (int(network.network_address), int(network.netmask))
    for network in map(
        IPv4Network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10")
    )
)
"""RFC 1918 and RFC 6598: what may lie behind a NAT."""
_LINK_LOCAL = (int(IPv4Address("169.254.0.0")), int(IPv4Address("255.255.0.0")))
_MULTICAST_AND_ABOVE = 224
_LOOPBACK = 127


def is_no_host(address: int) -> bool:
    """Nothing that a packet can lead to: 0/8, loopback, multicast, reserved, broadcast."""
    first = address >> 24
    return first in (0, _LOOPBACK) or first >= _MULTICAST_AND_ABOVE


def can_be_answered(source: int) -> bool:
    """A datagram's source that an answer reaches, and only one host."""
    return 0 < source >> 24 < _MULTICAST_AND_ABOVE


def is_private(address: int) -> bool:
    """Of no meaning outside of its own network, so possibly behind a NAT."""
    return any(address & mask == network for network, mask in (*_PRIVATE, _LINK_LOCAL))


class Addresses:
    """The home agent's own addresses and home networks."""

    __slots__ = ("_ends", "_networks", "_others", "own")

    def __init__(self, policy: HomeAgentPolicy) -> None:
        self.own = frozenset(map(int, (policy.address, *policy.public_addresses)))
        """What a request may name as its home agent."""
        self._others = frozenset(map(int, policy.other_home_agents))
        self._networks = tuple(
            (int(home.network.network_address), int(home.network.netmask), home)
            for home in policy.networks
        )
        self._ends = frozenset(
            int(end)
            for home in policy.networks
            if home.network.prefixlen < 31
            for end in (home.network.network_address, home.network.broadcast_address)
        )

    def is_home_agent(self, address: int) -> bool:
        """Ours, or another home agent beside us: a tunnel to it would loop."""
        return address in self.own or address in self._others

    def home_network(self, address: int) -> HomeNetwork | None:
        """The home network that an address lies in."""
        for network, mask, home in self._networks:
            if address & mask == network:
                return home
        return None

    def can_be_home_address(self, address: int) -> bool:
        """A host of a home network, and not this home agent."""
        if address in self._ends or is_no_host(address) or self.is_home_agent(address):
            return False
        return self.home_network(address) is not None
