"""Whether the running kernel (and user) can carry the lab, tried in a namespace that goes away."""

from __future__ import annotations

import os
import subprocess

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


def missing_features() -> list[str]:
    """Names of what does not work here; empty where the lab can run."""
    if os.geteuid() != 0:
        return ["root"]
    return [
        name
        for name, script in PROBES.items()
        if subprocess.run(
            ["unshare", "-n", "sh", "-c", script], capture_output=True, check=False
        ).returncode
    ]
