"""The constant nftables ruleset of this gateway, loaded with libnftables in one transaction.

The rules are text (``ruleset.nft``) because libnftables 1.0.6 (Debian 12) cannot declare a set
keyed by ``esp spi`` in JSON; counters are read as JSON. Elements are written by
:mod:`gateway.dataplane.kernel.nft_elements`.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from importlib import resources
from ipaddress import ip_address
from string import Template
from typing import Any, Final

from gateway.dataplane.kernel.netlink import NetlinkSocket
from gateway.dataplane.kernel.ruleset_version import has_chain, version_chain
from gateway.dataplane.kernel.settings import KernelSettings
from gateway.dataplane.packet import marks
from gateway.domain.child_sa import IpNetwork

TABLE: Final = "gateway"
VPN_FA: Final = "vpn_fa"
PEERS: Final = ("known_esp", "known_esp6", "our_spi", "our_spi6", VPN_FA)
"""The sets whose elements are peers."""
Peers = Mapping[str, Iterable[bytes]]
"""Keys of elements by set."""
_TCP_IP4, _TCP_IP6 = 40, 60
_FORWARDED_ONLY: Final = (
    'iifname "$INTERFACE" meta pkttype != host counter drop comment "not_forwarded"'
)
"""Without IPsec of the kernel the interface has a far end: anybody on this host may send to all
there, and only the forwarder writes to the near end's address."""


class RulesetRefusedError(OSError):
    """libnftables or the kernel did not take the ruleset; the text says why."""


def _elements(values: Iterable[object]) -> str:
    listed = ", ".join(map(str, values))
    return f"elements = {{ {listed} }}" if listed else ""


def _of_version(networks: Iterable[IpNetwork], version: int) -> list[IpNetwork]:
    """Without those that another one holds already: interval sets refuse overlaps."""
    mine = [network for network in networks if network.version == version]
    kept: list[IpNetwork] = []
    for network in sorted(mine, key=lambda n: (int(n.network_address), n.prefixlen)):
        if not kept or int(network[0]) > int(kept[-1][-1]):
            kept.append(network)
    return kept


def _networks(settings: KernelSettings) -> dict[str, list[object]]:
    """What each set of the settings' holds, by the set's name."""
    protected = settings.inner_networks + settings.protected_networks
    return {
        "inner4": [*_of_version(settings.inner_networks, 4)],
        "inner6": [*_of_version(settings.inner_networks, 6)],
        "protected4": [*_of_version(protected, 4)],
        "protected6": [*_of_version(protected, 6)],
        "outside": [f'"{name}"' for name in settings.outside_interfaces],
        "error_source4": [f"ipv4 : {one}" for one in settings.error_sources if one.version == 4],
        "error_source6": [f"ipv6 : {one}" for one in settings.error_sources if one.version == 6],
    }


def render(settings: KernelSettings, peers: Peers | None = None) -> str:
    """The ruleset for these settings, with ``peers`` in it, and a chain that names its version."""
    texts = resources.files(__package__)
    text = texts.joinpath("ruleset.nft").read_text("ascii")
    esp_sets, esp_rules = "", _FORWARDED_ONLY
    if settings.esp_queue:
        esp = texts.joinpath("ruleset_esp.nft").read_text("ascii")
        esp_sets, _, esp_rules = esp.partition("----\n")
    rules = Template(text).safe_substitute(ESP_SETS=esp_sets, ESP_RULES=esp_rules)
    rules = Template(rules).safe_substitute(
        INTERFACE=settings.xfrm_interface,
        QUEUE=settings.queue_number,
        MARKS=f"{marks.RANGE:#x}",
        MSS4=settings.mtu - _TCP_IP4,
        MSS6=settings.mtu - _TCP_IP6,
    )
    sets = {name.upper(): _elements(found) for name, found in _networks(settings).items()}
    known = {name.upper(): _elements(_peers(name, peers or {})) for name in PEERS}
    chain = f"add chain inet {TABLE} {version_chain(rules)}\n"
    return Template(rules).substitute(sets, **known) + chain


def _peers(name: str, peers: Peers) -> Iterable[str]:
    """Elements in the words of nft; keys of another width are another version's."""
    octets = 16 if name.endswith("6") else 4
    width = octets if name == VPN_FA else octets + 4
    for key in peers.get(name, ()):
        if len(key) == width:
            address = str(ip_address(key[:octets]))
            spi = int.from_bytes(key[octets:], "big")
            yield address if width == octets else f"{address} . {spi:#x}"


def is_loaded(netfilter: NetlinkSocket, settings: KernelSettings) -> bool:
    """Whether the kernel has exactly these rules already, whatever their sets hold."""
    return has_chain(netfilter, TABLE, render(settings).split()[-1])


def run_nft(command: str, *, as_json: bool = False, terse: bool = True) -> str:
    """Run one libnftables command in the current network namespace; what it printed.

    Raises :class:`RulesetRefusedError`.
    """
    import nftables  # noqa: PLC0415 - the probe must be able to say that it is missing

    try:
        nft: Any = nftables.Nftables()
    except OSError as error:
        raise RulesetRefusedError(f"libnftables: {error}") from error
    nft.set_json_output(as_json)
    # Who wants the elements? There is one for each peer.
    nft.set_terse_output(terse)
    code, output, problem = nft.cmd(command)
    if code:
        raise RulesetRefusedError(problem.strip() or f"libnftables returned {code}")
    return str(output)


def load(settings: KernelSettings, peers: Peers | None = None) -> None:
    """Replace our table by the ruleset, atomically. Raises :class:`RulesetRefusedError`."""
    run_nft(render(settings, peers))


def update(settings: KernelSettings) -> None:
    """Exchange what settings put into sets, atomically; rules, peers and counters stay.

    Raises :class:`RulesetRefusedError`.
    """
    lines = []
    for name, networks in _networks(settings).items():
        kind = "map" if name.startswith("error_source") else "set"
        lines.append(f"flush {kind} inet {TABLE} {name}")
        if networks:
            listed = ", ".join(map(str, networks))
            lines.append(f"add element inet {TABLE} {name} {{ {listed} }}")
    run_nft("\n".join(lines))


def remove() -> None:
    """Delete our table; it may be gone already. Raises :class:`RulesetRefusedError`."""
    run_nft(f"add table inet {TABLE}\ndelete table inet {TABLE}")


def counters() -> dict[str, int]:
    """Packets by the comment of the rule; empty while the ruleset is not loaded."""
    try:
        answer = json.loads(run_nft(f"list table inet {TABLE}", as_json=True))
    except RulesetRefusedError:
        return {}
    counts: Counter[str] = Counter()
    for item in answer["nftables"]:
        rule = item.get("rule", {})
        for expression in rule.get("expr", ()):
            if rule.get("comment") and "counter" in expression:
                counts[rule["comment"]] += expression["counter"]["packets"]
    return dict(counts)
