"""Which hosts may be a target at all: never the box itself, nor what is near it.

Checked on addresses, after names are resolved: a name that points inside gains nothing.
"""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Final

from gateway.domain.endpoint import IpAddress
from gateway.nar.policy import NarServerPolicy

_NEVER: Final = (
    (ip_network("0.0.0.0/8"), "this network"),
    (ip_network("127.0.0.0/8"), "loopback"),
    (ip_network("169.254.0.0/16"), "link-local"),
    (ip_network("224.0.0.0/4"), "multicast"),
    (ip_network("240.0.0.0/4"), "reserved or broadcast"),
    (ip_network("::/127"), "loopback"),
    (ip_network("fe80::/10"), "link-local"),
    (ip_network("fec0::/10"), "site-local"),
    (ip_network("ff00::/8"), "multicast"),
)
_WRAPPED: Final = (
    # IPv6 addresses that end in, or contain, an IPv4 address: where the address begins, in bits.
    (IPv6Network("::/96"), 0),
    (IPv6Network("::ffff:0:0/96"), 0),
    (IPv6Network("::ffff:0:0:0/96"), 0),
    (IPv6Network("64:ff9b::/96"), 0),
    (IPv6Network("2002::/16"), 80),
)

MAX_KNOWN: Final = 1024
"""Targets whose answer is remembered."""


class Forbidden:
    """What one server's clients never reach through it."""

    __slots__ = ("_known", "_networks", "_own")

    def __init__(self, policy: NarServerPolicy) -> None:
        self._networks = policy.forbidden
        self._own: frozenset[IpAddress] = frozenset((policy.tunnel_address, *policy.addresses))
        self._known: dict[IPv4Address, str | None] = {}
        """What was found out lately: the same peers are asked for again and again.

        Of IPv4 only, where the answer depends on nothing but the policy."""

    def why(self, target: IpAddress, also_own: Iterable[IpAddress] = ()) -> str | None:
        """Why this host is no target, None when it may be one."""
        if target in also_own:
            return "is the gateway itself"
        if isinstance(target, IPv6Address):
            return self._why(target, also_own)
        if target in self._known:
            return self._known[target]
        if len(self._known) >= MAX_KNOWN:
            self._known.clear()
        found = self._known[target] = self._why(target, ())
        return found

    def _why(self, target: IpAddress, also_own: Iterable[IpAddress]) -> str | None:
        if target in self._own:
            return "is the gateway itself"
        for network, name in _NEVER:
            if network.version == target.version and target in network:
                return f"is {name}"
        for forbidden in self._networks:
            if forbidden.version == target.version and target in forbidden:
                return f"is in {forbidden}, which is forbidden"
        if isinstance(target, IPv6Address):
            for network6, bits in _WRAPPED:
                if target in network6:
                    inner = IPv4Address(int(target) >> bits & 0xFFFF_FFFF)
                    reason = self.why(inner, also_own)
                    return None if reason is None else f"means {inner}, which {reason}"
        return None


def is_unicast(address: IPv4Address) -> bool:
    """Whether a host can have this address, here or elsewhere."""
    number = int(address)
    return 1 << 24 <= number < 224 << 24 and number >> 24 != 127 and number >> 16 != 0xA9FE


def within(address: IpAddress, networks: Iterable[IPv4Network]) -> bool:
    """Whether one of the networks has it."""
    return isinstance(address, IPv4Address) and any(address in one for one in networks)
