"""Pools that have addresses which this host reaches elsewhere."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.config.problem import Problem
from gateway.dataplane.kernel.routes_in_use import Route, routes_in_use

if TYPE_CHECKING:
    from gateway.config.document import Config
    from gateway.domain.child_sa import IpNetwork


@dataclass(frozen=True, slots=True)
class Overlap:
    """A pool and a route that share addresses."""

    pool: str
    route: Route
    grave: bool
    """The pool takes addresses that are somebody else's; otherwise the pool is a part of a larger
    network, whose hosts have to learn where it is."""
    detail: str
    remedy: str


def overlaps(config: "Config", routes: Iterable[Route]) -> Iterator[Overlap]:
    """Every pool with every route that is not ours; a pool that ARP is answered for fits."""
    others = [one for one in routes if one.interface != config.dataplane.xfrm_interface]
    for name, pool in config.pools.items():
        for route in others:
            if not _overlap(pool.network, route.network):
                continue
            grave = route.network.prefixlen >= pool.network.prefixlen
            if not grave and route.interface == pool.inside_interface:
                continue
            remedy = f"change pools.{name}.network, or remove the route"
            if not grave and route.connected:
                remedy = (
                    f'set advertise = "proxy-arp" and inside_interface = "{route.interface}" in'
                    f" pools.{name}, or choose another network"
                )
            detail = f"route {route.network} on {route.interface} overlaps it"
            yield Overlap(name, route, grave, detail, remedy)


def refused_pools(running: "Config", wanted: "Config") -> list[Problem]:
    """Why pools that are new or have another network now cannot be used on this host.

    Reads the routing tables.
    """
    fresh = {
        name
        for name, pool in wanted.pools.items()
        if name not in running.pools or running.pools[name].network != pool.network
    }
    if not fresh:
        return []
    found: dict[str, Problem] = {}
    for one in overlaps(wanted, routes_in_use()):
        if one.grave and one.pool in fresh:
            network = wanted.pools[one.pool].network
            why = (
                f"this host reaches {one.route.network} of it by {one.route.interface}, so devices"
                f" cannot have these addresses; choose another network, or remove the route"
            )
            found.setdefault(
                one.pool, Problem(wanted.path, f"pools.{one.pool}.network", why, str(network))
            )
    return list(found.values())


def _overlap(a: "IpNetwork", b: "IpNetwork") -> bool:
    return a.version == b.version and int(a[0]) <= int(b[-1]) and int(b[0]) <= int(a[-1])
