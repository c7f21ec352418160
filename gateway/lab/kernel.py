"""Whether the running kernel (and user) can carry the lab, tried in a namespace that goes away."""

from __future__ import annotations

import functools
import os
import subprocess
from collections.abc import Mapping

PROBES = {
    "network namespaces": "true",
    "ESP": (
        "ip xfrm state add src 192.0.2.1 dst 192.0.2.2 proto esp spi 0x101 mode tunnel"
        " aead 'rfc4106(gcm(aes))' 0x000102030405060708090a0b0c0d0e0f10111213 128"
    ),
    "xfrm interfaces": "ip link add probe type xfrm dev lo if_id 7",
    "IP-IP": "ip link add probe type ipip external",
    "nft queue": (
        "nft 'table inet probe { chain pre { type filter hook prerouting priority raw;"
        " ip protocol esp queue num 7; }; }'"
    ),
    "netem": "ip link set lo up && tc qdisc add dev lo root netem delay 1ms",
}
PORTABLE_PROBES = {
    "network namespaces": "true",
    "virtual Ethernet": "ip link add probe type veth",
    "TUN": "ip tuntap add probe mode tun",
    "nftables": "nft 'table inet probe { chain in { type filter hook input priority raw; }; }'",
}
"""What the lab needs in any case: the portable dataplane, strongSwan's own IPsec."""


def missing_features(probes: Mapping[str, str] = PROBES) -> list[str]:
    """Names of what does not work here; empty where the lab can run with kernel dataplanes.

    With :data:`PORTABLE_PROBES`: with portable ones.
    """
    if os.geteuid() != 0:
        return ["root"]
    return [name for name, script in probes.items() if not _works(script)]


@functools.cache
def has_esp() -> bool:
    """Whether the kernel does ESP, so that strongSwan and `ip xfrm` can have it."""
    return _works(PROBES["ESP"])


def has_tunnels() -> bool:
    """Whether the kernel has tunnel devices."""
    return _works(PROBES["IP-IP"])


def place_for_addresses(name: str) -> tuple[str, ...]:
    """Lines of `ip -batch` that make an interface which only has addresses, and set it up."""
    if _works("ip link add probe type dummy"):
        return f"link add {name} type dummy", f"link set {name} up"
    peer = f"{name[:13]}-p"
    return (
        f"link add {name} type veth peer name {peer}",
        f"link set {peer} up",
        f"link set {name} up",
    )


def has_netem() -> bool:
    """Whether the kernel can delay and lose packets."""
    return _works(PROBES["netem"])


@functools.cache
def _works(script: str) -> bool:
    probe = ["unshare", "-n", "sh", "-c", script]
    return not subprocess.run(probe, capture_output=True, check=False).returncode
