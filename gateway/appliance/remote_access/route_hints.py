"""The static routes that inside routers need, where nothing else tells them of a pool."""

import socket
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from gateway.control.remote_access_views import Route
from gateway.domain.child_sa import IpNetwork
from gateway.domain.endpoint import IpAddress

if TYPE_CHECKING:
    from ipaddress import IPv4Address, IPv6Address

    from gateway.config.document import Config

SourceOf = Callable[[IpAddress], "IPv4Address | IPv6Address | None"]


def route_hints(config: "Config", pool: str, source_of: "SourceOf | None" = None) -> list[Route]:
    """A route for each address of the gateway that inside networks see; one at least."""
    source_of = source_of or source_towards
    network = config.pools[pool].network
    found: dict[IpAddress, None] = {}
    for inside in inside_networks(config, pool):
        source = source_of(inside[1] if inside.num_addresses > 1 else inside[0])
        if source is not None and source not in network:
            found[source] = None
    if found:
        return [_route(network, str(one)) for one in found]
    return [_route(network, None)]


def _route(network: IpNetwork, via: str | None) -> Route:
    tool = "ip route" if network.version == 4 else "ip -6 route"
    gateway = via or "INSIDE-ADDRESS-OF-THE-GATEWAY"
    return {
        "network": str(network),
        "via": via,
        "command": f"{tool} add {network} via {gateway}",
    }


def inside_networks(config: "Config", pool: str) -> Iterator[IpNetwork]:
    """What devices with an address of the pool may reach, of its IP version."""
    version = config.pools[pool].network.version
    for connection in config.connections.values():
        profiles = [config.profiles[one] for one in connection.profiles if one in config.profiles]
        pools = {connection.pool, connection.pool6}
        for profile in profiles:
            pools |= {profile.pool, profile.pool6}
        if pool not in pools:
            continue
        offers = [connection.local_subnets, *(profile.subnets or () for profile in profiles)]
        yield from (
            one for offer in offers for one in offer if one.version == version and one.prefixlen
        )


def source_towards(destination: IpAddress) -> "IPv4Address | IPv6Address | None":
    """Our address that packets there would have; nothing is sent."""
    from ipaddress import ip_address  # noqa: PLC0415

    family = socket.AF_INET if destination.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as any_socket:
            any_socket.connect((str(destination), 9))
            source = ip_address(any_socket.getsockname()[0])
    except (OSError, ValueError):
        return None
    return None if source.is_loopback or source.is_unspecified else source
