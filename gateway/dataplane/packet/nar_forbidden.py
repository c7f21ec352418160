"""Where clients of a NAR server may not send to with a leased source."""

from bisect import bisect_right
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, collapse_addresses
from typing import Final

from gateway.dataplane.nar import NarSettings

NEVER: Final = tuple(
    map(IPv4Network, ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3"))
)
"""No host, ourselves, link-local (and the metadata of clouds), groups, reserved."""


class Forbidden:
    """Addresses; asking costs the logarithm of the number of networks."""

    __slots__ = ("_ends", "_starts")

    def __init__(self, networks: Iterable[IPv4Network], addresses: Iterable[IPv4Address]) -> None:
        alone = (IPv4Network(address) for address in addresses)
        all_of_them = sorted(collapse_addresses((*NEVER, *networks, *alone)))
        self._starts = [one.network_address.packed for one in all_of_them]
        self._ends = [one.broadcast_address.packed for one in all_of_them]

    def __contains__(self, address: bytes) -> bool:
        """Whether nothing may be sent there; four octets."""
        at = bisect_right(self._starts, address)
        return at > 0 and address <= self._ends[at - 1]


def own_addresses(settings: NarSettings) -> set[IPv4Address]:
    """Addresses of servers: what a client sends there is for another client, or for nobody."""
    return {address for one in settings.servers for address in (one.tunnel_address, *one.addresses)}
