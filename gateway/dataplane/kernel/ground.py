"""The ground of the IPsec dataplanes: the ruleset, and routes to the tunnels' interface."""

import contextlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from gateway.dataplane.kernel import ruleset
from gateway.dataplane.kernel.adopt import Leftovers
from gateway.dataplane.kernel.links import Links
from gateway.dataplane.kernel.netlink import NETLINK_NETFILTER, NetlinkSocket
from gateway.dataplane.kernel.nft_elements import SetElements
from gateway.dataplane.kernel.ruleset import TABLE
from gateway.dataplane.kernel.settings import KernelSettings
from gateway.dataplane.kernel.ways import Ways
from gateway.domain.child_sa import IpNetwork
from gateway.domain.endpoint import IpAddress


class Ground:
    """What both dataplanes stand on. Raises :class:`OSError`."""

    def __init__(self, settings: KernelSettings, links: Links) -> None:
        """``links`` is ours from now on."""
        self._settings = settings
        self._links = links
        self._peer_routes: Counter[IpNetwork] = Counter()
        self._interface = 0
        self._adopting = False
        self._there: set[IpNetwork] = set()
        """Routes of an earlier process that nobody has claimed yet."""
        self.leftovers = Leftovers(0, 0, interface=False)
        try:
            self.sets = SetElements(TABLE)
        except OSError:
            links.close()
            raise

    def _load(self, settings: KernelSettings) -> None:
        """Other rules, of another version, take the place of what is there with its peers."""
        if not self._adopting:
            ruleset.load(settings)
            return
        with contextlib.closing(NetlinkSocket(NETLINK_NETFILTER)) as netfilter:
            same = ruleset.is_loaded(netfilter, settings)
        if same:
            ruleset.update(settings)
        else:
            ruleset.load(settings, self.peers())

    def peers(self) -> dict[str, set[bytes]]:
        """Keys in the sets of peers; of a table that is not there, none."""
        found = {}
        for name in ruleset.PEERS:
            try:
                found[name] = set(self.sets.read(name))
            except OSError:
                found[name] = set()
        return found

    def _route_and_forward(self, settings: KernelSettings) -> None:
        """Route the pools to the interface, which is there."""
        for network in settings.inner_networks:
            self._route(network)
        if settings.forwarding:
            _turn_on_forwarding(settings.inner_networks)

    def _route(self, network: IpNetwork) -> None:
        if network in self._there:
            self._there.discard(network)
        else:
            self._links.add_route(network, self._interface)
        self._links.add_barrier(network)

    def _unroute(self, network: IpNetwork) -> None:
        self._links.delete_route(network, self._interface)
        self._links.delete_barrier(network)

    def forget_unclaimed(self) -> None:
        """Remove the routes that an earlier process had and nobody wants. Raises OSError."""
        unclaimed, self._there = self._there, set()
        for network in unclaimed:
            self._links.delete_route(network, self._interface)
        self._delete_barriers(but=(*self._settings.inner_networks, *self._peer_routes))

    def _delete_barriers(self, *, but: Iterable[IpNetwork] = ()) -> None:
        for network in self._links.own_barriers().difference(but):
            self._links.delete_barrier(network)

    def reconfigure(self, settings: KernelSettings) -> None:
        """Use other inner and protected networks; everything else of ``settings`` is as it was."""
        settings = with_error_sources(settings)
        before, after = self._settings.inner_networks, settings.inner_networks
        for network in after:
            if network not in before:
                self._route(network)
        ruleset.update(settings)
        for network in before:
            if network not in after:
                self._unroute(network)
        if settings.forwarding:
            _turn_on_forwarding(after)
        self._settings = settings

    def add_peer_route(self, network: IpNetwork) -> None:
        """Route a network behind a peer to the xfrm interface, once for all who ask.

        A default route is the administrator's own business: it would carry outer packets too.
        """
        if not network.prefixlen:
            return
        if not self._peer_routes[network]:
            self._route(network)
        self._peer_routes[network] += 1

    def drop_peer_route(self, network: IpNetwork) -> None:
        """Reverse of :meth:`add_peer_route`; the route goes with the last who asked."""
        if not network.prefixlen:
            return
        self._peer_routes[network] -= 1
        if self._peer_routes[network] <= 0:
            del self._peer_routes[network]
            self._unroute(network)


def with_error_sources(settings: KernelSettings) -> KernelSettings:
    """With an address of ours in the networks that devices reach, for what we tell them by ICMP."""
    if settings.error_sources or not settings.protected_networks:
        return settings
    with contextlib.closing(Ways()) as ways:
        own = sorted((one for _, one in ways.own_addresses()), key=int)
    found: dict[int, IpAddress] = {}
    for network in settings.protected_networks:
        for address in own:
            if address.version == network.version and address in network:
                found.setdefault(network.version, address)
    return replace(settings, error_sources=tuple(found.values()))


def _turn_on_forwarding(networks: tuple[IpNetwork, ...]) -> None:
    """Routing between interfaces, for the IP versions of the pools."""
    switches = {4: "ipv4/ip_forward", 6: "ipv6/conf/all/forwarding"}
    for version in {4, *(network.version for network in networks)}:
        switch = Path("/proc/sys/net") / switches[version]
        if switch.read_text("ascii").strip() == "0":
            switch.write_text("1", "ascii")
