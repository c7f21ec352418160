"""Broadcasts and multicasts of home networks, for and from mobile nodes that are away.

RFC 5944 sections 4.3 and 4.4: broadcasts go to those who asked for them with the B bit,
multicasts to the members of the group, who have said so by IGMP through their tunnels.
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from gateway.dataplane.packet import igmp
from gateway.dataplane.packet.mobility_tables import Home
from gateway.domain.mobility import HomeNetwork

MAX_GROUPS_PER_NODE: Final = 32
MAX_GROUPS_PER_NETWORK: Final = 256
_LIMITED_BROADCAST: Final = b"\xff\xff\xff\xff"
_ALL_HOSTS: Final = b"\xe0\0\0\1"


@dataclass(frozen=True, slots=True)
class GroupChange:
    """Whether the multicasts of a group are wanted from a link, by its interface index."""

    device: int
    group: bytes
    joined: bool


@dataclass(slots=True, eq=False)
class _Network:
    device: int
    """Interface index of the home link, 0 for a virtual network."""
    broadcast: bytes
    listeners: dict[bytes, Home] = field(default_factory=dict)
    """Who has asked for broadcasts, by home address."""
    members: dict[bytes, dict[bytes, Home]] = field(default_factory=dict)
    """By group and home address."""
    groups_of: dict[bytes, set[bytes]] = field(default_factory=dict)
    """The groups of each home address."""


class HomeLinks:
    """Who is to get what, by home network. Nothing in it is unbounded."""

    def __init__(self) -> None:
        self._networks: dict[str, _Network] = {}
        self._of_device: dict[int, list[_Network]] = {}
        self.changes: list[GroupChange] = []
        """Groups to join and leave on the links; the caller empties the list."""

    def configure(self, networks: Iterable[tuple[HomeNetwork, int]]) -> None:
        """The home networks and the interface indexes of their links, 0 for virtual ones."""
        old, self._networks, self._of_device = self._networks, {}, {}
        for network, device in networks:
            made = old.pop(network.name, None) or _Network(device, b"")
            if made.device != device:
                self._leave_all(made)
                made.device = device
                self._join_all(made)
            made.broadcast = network.network.broadcast_address.packed
            self._networks[network.name] = made
            if device:
                self._of_device.setdefault(device, []).append(made)
        for gone in old.values():
            self._leave_all(gone)

    def set_home(self, home: Home) -> None:
        """A binding is there or has changed; its groups stay."""
        network = self._networks.get(home.binding.home_network.name)
        if network is None:
            return
        if home.binding.broadcasts:
            network.listeners[home.address] = home
        else:
            network.listeners.pop(home.address, None)
        for group in network.groups_of.get(home.address, ()):
            network.members[group][home.address] = home

    def remove_home(self, home: Home) -> None:
        """A binding is gone, and its groups with it."""
        network = self._networks.get(home.binding.home_network.name)
        if network is None:
            return
        network.listeners.pop(home.address, None)
        for group in list(network.groups_of.get(home.address, ())):
            self._leave(network, home.address, group)

    def is_for_network(self, home: Home, destination: bytes) -> bool:
        """Whether a packet from this mobile node is for many nodes of its home network."""
        return destination[0] >= 224 or destination == home.directed_broadcast

    def device_of(self, home: Home) -> int:
        """Interface index of its home link, 0 when there is none."""
        network = self._networks.get(home.binding.home_network.name)
        return network.device if network is not None else 0

    def from_link(self, device: int, destination: bytes) -> Iterator[Collection[Home]]:
        """Who gets what arrives on a link for ``destination``, a broadcast or multicast."""
        for network in self._of_device.get(device, ()):
            found = self._wanted(network, destination)
            if found:
                yield found

    def from_node(self, home: Home, destination: bytes) -> Collection[Home]:
        """Who of those away gets what a mobile node sends to many; it may be among them."""
        network = self._networks.get(home.binding.home_network.name)
        return self._wanted(network, destination) if network is not None else ()

    @staticmethod
    def _wanted(network: _Network, destination: bytes) -> Collection[Home]:
        if destination in (_LIMITED_BROADCAST, network.broadcast):
            return list(network.listeners.values())
        if destination == _ALL_HOSTS:
            # Queries, so that members report again.
            return list({home.address: home for group in network.members.values()
                         for home in group.values()}.values())  # fmt: skip
        return list(network.members.get(destination, {}).values())

    def learn(self, home: Home, report: bytes) -> None:
        """Join and leave as an IGMP packet of a mobile node says. Raises :class:`WireError`."""
        network = self._networks.get(home.binding.home_network.name)
        if network is None:
            return
        for group, joined in igmp.membership_changes(report):
            if joined:
                self._join(network, home, group)
            else:
                self._leave(network, home.address, group)

    def _join(self, network: _Network, home: Home, group: bytes) -> None:
        mine = network.groups_of.setdefault(home.address, set())
        if group in mine or len(mine) >= MAX_GROUPS_PER_NODE:
            return
        members = network.members.get(group)
        if members is None:
            if len(network.members) >= MAX_GROUPS_PER_NETWORK:
                if not mine:
                    del network.groups_of[home.address]
                return
            members = network.members[group] = {}
            if network.device:
                self.changes.append(GroupChange(network.device, group, joined=True))
        mine.add(group)
        members[home.address] = home

    def _leave(self, network: _Network, address: bytes, group: bytes) -> None:
        mine = network.groups_of.get(address, set())
        if group not in mine:
            return
        mine.remove(group)
        if not mine:
            del network.groups_of[address]
        members = network.members[group]
        del members[address]
        if not members:
            del network.members[group]
            if network.device:
                self.changes.append(GroupChange(network.device, group, joined=False))

    def _leave_all(self, network: _Network) -> None:
        if network.device:
            self.changes += [
                GroupChange(network.device, one, joined=False) for one in network.members
            ]

    def _join_all(self, network: _Network) -> None:
        if network.device:
            self.changes += [
                GroupChange(network.device, one, joined=True) for one in network.members
            ]
