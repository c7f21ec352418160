"""The links as rtnetlink tells of them: news in, :class:`LinkState` out.

A link's generation changes with everything that may mean another network: loss of carrier, even
if it is back at once, another address, router, link-layer address of the router, access point or
name. Nothing is smoothed: who proves anything anew loses a round trip, who does not may leak.
"""

import itertools
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface
from typing import Final

from gateway.mobile_host.rtnetlink import AddressNews, LinkNews, NeighbourNews, News, RouteNews
from gateway.mobile_node.inputs import LinkState

VIRTUAL_KINDS: Final = frozenset(
    {
        "dummy",
        "erspan",
        "geneve",
        "gre",
        "gretap",
        "ifb",
        "ip6gre",
        "ip6gretap",
        "ip6tnl",
        "ipip",
        "nlmon",
        "ovpn",
        "sit",
        "tun",
        "vcan",
        "vrf",
        "vti",
        "vti6",
        "vxlan",
        "wireguard",
        "xfrm",
    }
)
"""Tunnels and devices without a wire: no link of ours, whoever made them."""


@dataclass(slots=True)
class _Link:
    """What is known of an interface."""

    name: str
    carrier: bool
    usable: bool
    """A real link, and no port of a bridge or bond."""
    generation: int
    addresses: dict[IPv4Interface, bool] = field(default_factory=dict)
    """Address to whether it is a secondary one, oldest first."""
    routes: dict[tuple[IPv4Address | None, int], None] = field(default_factory=dict)
    """Default routes: router and metric."""
    neighbours: dict[IPv4Address, bytes] = field(default_factory=dict)
    """Of routers only, once a route names them; see :meth:`LinkTable.take`."""
    told: tuple[object, ...] = ()
    domain: str = ""
    domain_stale: bool = True
    """Something happened since it was looked up; neighbours that come and go are nothing."""


class LinkTable:
    """All interfaces of this network namespace."""

    def __init__(
        self, own: Collection[str] = (), domain_of: Callable[[int, str], str] | None = None
    ) -> None:
        """``own`` are names of our devices; ``domain_of`` finds a lease's domain for a link."""
        self._own = frozenset(own)
        self._domain_of = domain_of
        self._links: dict[int, _Link] = {}
        self.routes_doubtful = False
        """A link went down or lost an address: the kernel drops routes then and tells nobody."""
        self.carriers_doubtful = False
        """A link without carrier got an address or a route: the kernel tells of a carrier that
        is back up to a second late, when asked it says so at once."""
        self._generations = itertools.count(1)

    def take(self, one: News) -> None:
        """Take what a message said."""
        if isinstance(one, LinkNews):
            self._take_link(one)
            return
        link = self._links.get(one.index)
        if link is None:
            return
        link.domain_stale |= not isinstance(one, NeighbourNews)
        if isinstance(one, AddressNews):
            self._take_address(link, one)
        elif isinstance(one, RouteNews):
            self._take_route(link, one)
        elif isinstance(one, NeighbourNews):
            self._take_neighbour(link, one)

    def _take_link(self, one: LinkNews) -> None:
        if one.gone:
            self._links.pop(one.index, None)
            return
        usable = not (
            one.loopback or one.master or one.kind in VIRTUAL_KINDS or one.name in self._own
        )
        link = self._links.get(one.index)
        if link is None:
            self._links[one.index] = _Link(one.name, one.carrier, usable, self._next())
            return
        if one.wireless or (link.name, link.carrier) != (one.name, one.carrier):
            link.generation = self._next()
        link.name, link.carrier, link.usable = one.name, one.carrier, usable
        link.domain_stale = True
        self.routes_doubtful |= not one.carrier

    def _take_address(self, link: _Link, one: AddressNews) -> None:
        if one.gone:
            if link.addresses.pop(one.address, None) is not None:
                link.generation = self._next()
            self.routes_doubtful = True
        else:
            link.addresses[one.address] = one.secondary
            self.carriers_doubtful |= not link.carrier

    def _take_route(self, link: _Link, one: RouteNews) -> None:
        key = (one.router, one.metric)
        if not one.gone:
            link.routes[key] = None
            self.carriers_doubtful |= not link.carrier
        elif key in link.routes:
            del link.routes[key]
            link.generation = self._next()

    def _take_neighbour(self, link: _Link, one: NeighbourNews) -> None:
        """Of a station that did not answer the last word counts: silence proves no change."""
        if not one.link_address:
            return
        before = link.neighbours.get(one.address)
        link.neighbours[one.address] = one.link_address
        routers = {router for router, _ in link.routes}
        if before not in {None, one.link_address} and one.address in routers:
            link.generation = self._next()
        if len(link.neighbours) > 512:
            # Every station of a busy link; only routers matter.
            kept = {a: m for a, m in link.neighbours.items() if a in routers}
            link.neighbours = kept

    def moved(self, index: int) -> None:
        """A radio went to another access point, or to none."""
        link = self._links.get(index)
        if link is not None:
            link.generation = self._next()

    def forget_routes(self) -> None:
        """For another dump of the routes; what differs then changes its link's generation."""
        self.routes_doubtful = False
        for link in self._links.values():
            link.routes.clear()

    def forget(self) -> None:
        """Begin anew, for another dump: messages were lost, so every generation is another."""
        self._links.clear()
        self.routes_doubtful = self.carriers_doubtful = False

    def _next(self) -> int:
        return next(self._generations)

    def states(self) -> list[LinkState]:
        """The usable links now, the preferred first."""
        found = [self._state(index, link) for index, link in self._links.items() if link.usable]
        return sorted(found, key=lambda one: (one.router is None, one.metric, one.interface))

    def indices(self) -> dict[str, int]:
        """The usable links' indices by name."""
        return {link.name: index for index, link in self._links.items() if link.usable}

    def _state(self, index: int, link: _Link) -> LinkState:
        router, metric = min(
            link.routes, key=lambda route: (route[1], route[0] is None), default=(None, 0)
        )
        address = _address(link, router)
        shown = (address, router, metric)
        if link.told and link.told != shown:
            link.generation = self._next()
        link.told = shown
        if link.domain_stale and self._domain_of is not None:
            usable = address is not None and link.carrier
            link.domain = self._domain_of(index, link.name) if usable else ""
            link.domain_stale = False
        return LinkState(
            link.name,
            link.carrier,
            address,
            router,
            link.neighbours.get(router, b"") if router is not None else b"",
            link.domain,
            metric,
            link.generation,
        )


def _address(link: _Link, router: IPv4Address | None) -> IPv4Interface | None:
    """Of several, a primary one, and one from which the router is on the link."""
    return min(
        link.addresses,
        key=lambda one: (router is not None and router not in one.network, link.addresses[one]),
        default=None,
    )
