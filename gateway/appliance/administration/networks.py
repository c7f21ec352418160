"""Networks of this host, and one that is free."""

import secrets
from collections.abc import Iterable
from ipaddress import IPv4Network, ip_network
from pathlib import Path

POOL_PREFIX = 22
_ROUTES = Path("/proc/self/net/route")
_ATTEMPTS = 10_000


def networks_in_use(routes: Path = _ROUTES) -> list[IPv4Network]:
    """Every network that this host has a route to, the default route apart."""
    found: set[IPv4Network] = set()
    try:
        lines = routes.read_text().splitlines()[1:]
    except OSError:
        return []
    for line in lines:
        fields = line.split()
        try:
            network, mask = (int(fields[at], 16).to_bytes(4, "little") for at in (1, 7))
            one = IPv4Network((network, int.from_bytes(mask).bit_count()), strict=False)
        except (ValueError, IndexError, OverflowError):
            continue
        if one.prefixlen:
            found.add(one)
    return sorted(found)


def free_network(taken: Iterable[object]) -> IPv4Network | None:
    """A random network of 10.0.0.0/8 for a pool; None when everything there is taken."""
    used = [ip_network(str(one), strict=False) for one in taken]
    used4 = [one for one in used if isinstance(one, IPv4Network)]
    for _ in range(_ATTEMPTS):
        # 10.0 to 10.15 are what people choose by hand.
        second, third = 16 + secrets.randbelow(240), secrets.randbelow(64) * 4
        found = IPv4Network(f"10.{second}.{third}.0/{POOL_PREFIX}")
        if not any(found.overlaps(one) for one in used4):
            return found
    return None
