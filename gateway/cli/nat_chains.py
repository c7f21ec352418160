"""Which chains translate source addresses on this host, besides those of the gateway."""

import json
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

from gateway.dataplane.kernel.nar.constants import TABLE

_TIMEOUT_S = 5.0
_COMMAND = ("nft", "--json", "list", "chains")


def nat_chains(proc: Path = Path("/proc/net")) -> list[str] | None:
    """``ip nat POSTROUTING`` and the like; None when nobody can tell."""
    try:
        done = subprocess.run(
            _COMMAND, capture_output=True, timeout=_TIMEOUT_S, check=False, text=True
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode:
        return None
    found = foreign_chains(done.stdout)
    return None if found is None else [*found, *_legacy(proc)]


def foreign_chains(text: str) -> list[str] | None:
    """Those of others in the JSON of ``nft list chains``; None when it makes no sense."""
    try:
        items = json.loads(text)["nftables"]
        chains = [item["chain"] for item in items if "chain" in item]
    except (ValueError, KeyError, TypeError):
        return None
    return [_name(chain) for chain in chains if _translates(chain)]


def _translates(chain: Mapping[str, object]) -> bool:
    is_source = chain.get("type") == "nat" and chain.get("hook") == "postrouting"
    return is_source and chain.get("family") in ("ip", "inet") and chain.get("table") != TABLE


def _name(chain: Mapping[str, object]) -> str:
    return " ".join(str(chain.get(part)) for part in ("family", "table", "name"))


def _legacy(proc: Path) -> Iterable[str]:
    """Tables of the old iptables, which nft does not list."""
    try:
        names = (proc / "ip_tables_names").read_text().split()
    except OSError:
        return []
    return ["iptables-legacy nat"] if "nat" in names else []
