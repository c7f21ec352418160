"""The constant nftables ruleset of the NAR dataplane, and the few rules that settings change."""

import hashlib
from collections.abc import Iterable
from importlib import resources
from ipaddress import IPv4Address, IPv4Network
from string import Template
from typing import Final

from gateway.dataplane.kernel.nar import constants
from gateway.dataplane.kernel.nar.below import Words
from gateway.dataplane.kernel.nar.devices import GRE_OCTETS
from gateway.dataplane.kernel.netlink import NetlinkSocket, attribute, request
from gateway.dataplane.kernel.nft_elements import NFPROTO_IPV4
from gateway.dataplane.kernel.ruleset import run_nft
from gateway.dataplane.nar import NarServerSettings, NarSettings
from gateway.dataplane.packet import nar_marks

_TCP_IP: Final = 40
_GET_CHAIN: Final = 10 << 8 | 4
_CHAIN_TABLE, _CHAIN_NAME = 1, 3
_SMALLEST_SHARE: Final = 256
"""Ports between leased ranges that are worth a rule."""
_FIRST_PORT: Final = 1024
_ERRORS: Final = "1000/second burst 1000 packets"
"""ICMP errors that user space looks at, of each kind: anybody can send them."""
_TAKEN: Final = 'meta mark set 0 counter {} comment "{}"'
"""User space looks the mapping up itself: to it, a mark means that a tunnel brought the packet."""
_NOWHERE: Final = tuple(
    map(IPv4Network, ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3"))
)
"""Where no client sends to, whatever is configured."""


def render(settings: NarSettings, words: Words, reserved: Iterable[range] = ()) -> str:
    """The rules that stay while the gateway runs, with a chain whose name tells their version.

    ``reserved`` are ports that others reserved.
    """
    text = resources.files(__package__).joinpath("ruleset.nft").read_text("ascii")
    # Where only what belongs to a mapping may be taken, the rules find that out first.
    fast = settings.offload or words.known_only
    taken = not settings.offload and words.known_only
    rules = Template(text).safe_substitute(
        PREROUTING=constants.PREROUTING_PRIORITY,
        RECEIVE_IP_IP=constants.RECEIVE_IP_IP,
        RECEIVE_GRE=constants.RECEIVE_GRE,
        OURS=constants.NAME_PREFIX,
        DEVICES=constants.DEVICE_ADDRESSES,
        L2TP=constants.L2TP_PREFIX,
        LOCAL=constants.LOCAL,
        REMOTE=constants.REMOTE,
        TAKE=words.take,
        TAKE_OR_PASS=words.take_or_pass,
        TELL=words.tell,
        OUTPUT=words.output,
        DELIVERED=_TAKEN.format(words.take, "queued_in") if taken else "",
        TRANSLATED=_TAKEN.format(words.take, "queued_translated") if taken else "",
        ERRORS=_ERRORS,
        MARKS=f"{constants.MARKS:#x}",
        FROM_CLIENT=f"{constants.FROM_CLIENT:#x}",
        SENT=f"{nar_marks.SENT:#x}",
        ARRIVING="arriving" if fast else "arriving_queued",
        OWN="own" if settings.offload else "own_queued",
        OUT_TCP="out_tcp" if fast else "out_queued",
        OUT_UDP="out_udp" if fast else "out_queued",
        OUT_ICMP="out_icmp" if fast else "out_icmp_queued",
        OUT_ESP="out_esp" if fast else "out_queued",
        OUT_IP_IP="jump out_ip_ip_translated" if fast else "jump out_queued",
        OUT_GRE="jump out_gre_translated" if fast else "jump out_queued",
    )
    chain = f"add chain ip {constants.TABLE} {_version(rules)}\n"
    listed = ", ".join(f"{one[0]} . {one[-1]}" for one in reserved)
    elements = f"elements = {{ {listed} }}" if listed else ""
    return Template(rules).substitute(RESERVED=elements) + chain


def _version(rules: str) -> str:
    """Name of a chain without rules that only these rules have."""
    return f"version_{hashlib.sha256(rules.encode()).hexdigest()[:16]}"


def is_loaded(netfilter: NetlinkSocket, settings: NarSettings, words: Words) -> bool:
    """Whether the kernel has exactly these rules already."""
    name = render(settings, words).split()[-1]
    body = (
        bytes((NFPROTO_IPV4, 0, 0, 0))
        + attribute(_CHAIN_TABLE, constants.TABLE.encode() + b"\0")
        + attribute(_CHAIN_NAME, name.encode() + b"\0")
    )
    refusals, _ = netfilter.transact([request(_GET_CHAIN, 0, body)])
    return not refusals


def settings_rules(settings: NarSettings, words: Words) -> str:
    """What settings change: the size of TCP segments, and NAPT with the ports that are left.

    Also what every start changes.
    """
    mss = settings.mtu - GRE_OCTETS - _TCP_IP
    lines = [
        "flush chain ip {table} segment_size",
        "flush chain ip {table} napt",
        "flush set ip {table} forbidden",
        "flush chain ip {table} decided",
        *(f"add rule ip {{table}} decided {rule}" for rule in words.decided),
        'add rule ip {table} segment_size oifname "{ours}*" tcp option maxseg size set rt mtu',
        "add rule ip {table} segment_size meta mark {from_client} tcp option maxseg size set {mss}",
    ]
    for server in settings.servers:
        lines += _napt(server)
    forbidden = _forbidden(settings)
    if forbidden:
        lines.append(f"add element ip {{table}} forbidden {{{{ {', '.join(forbidden)} }}}}")
    return "\n".join(lines).format(
        table=constants.TABLE,
        ours=constants.NAME_PREFIX,
        from_client=f"{constants.FROM_CLIENT:#x}",
        mss=mss,
    )


def _forbidden(settings: NarSettings) -> list[str]:
    """Lent address and network, for each pair."""
    networks: dict[IPv4Address, list[IPv4Network]] = {}
    for server in settings.servers:
        for address in server.addresses:
            networks.setdefault(address, list(_NOWHERE)).extend(server.forbidden)
    return [
        f"{address} . {network}"
        for address, found in networks.items()
        for network in _disjoint(found)
    ]


def _napt(server: NarServerSettings) -> list[str]:
    if not server.masquerade or not server.outside_interfaces:
        return []
    networks = ", ".join(map(str, _disjoint(server.masquerade)))
    links = ", ".join(f'"{name}"' for name in server.outside_interfaces)
    where = f"add rule ip {{table}} napt oifname {{{{ {links} }}}} ip saddr {{{{ {networks} }}}}"
    lines = []
    ports = remaining(server.ports, _FIRST_PORT)
    if ports:
        first, last = ports[0], ports[-1]
        lines += [
            f"{where} meta l4proto {protocol} masquerade to :{first}-{last}"
            for protocol in ("tcp", "udp")
        ]
    ids = remaining((server.icmp_ids,), 1)
    if ids:
        lines.append(f"{where} meta l4proto icmp masquerade to :{ids[0]}-{ids[-1]}")
    lines.append(f"{where} meta l4proto != {{{{ tcp, udp, icmp }}}} masquerade")
    return lines


def remaining(leased: Iterable[range], first: int) -> range:
    """The longest range of 16-bit numbers from ``first`` that is not leased; empty when small."""
    found = range(0)
    start = first
    for taken in sorted((one for one in leased if one), key=lambda one: one.start):
        if taken.start - start > len(found):
            found = range(start, taken.start)
        start = max(start, taken.stop)
    if 0x1_0000 - start > len(found):
        found = range(start, 0x1_0000)
    return found if len(found) >= _SMALLEST_SHARE else range(0)


def _disjoint(networks: Iterable[IPv4Network]) -> list[IPv4Network]:
    kept: list[IPv4Network] = []
    for network in sorted(networks, key=lambda one: (int(one.network_address), one.prefixlen)):
        if not kept or not network.subnet_of(kept[-1]):
            kept.append(network)
    return kept


def load(settings: NarSettings, words: Words, reserved: Iterable[range]) -> None:
    """Replace our table by the ruleset, atomically. Raises :class:`RulesetRefusedError`."""
    run_nft(render(settings, words, reserved) + settings_rules(settings, words))


def update(settings: NarSettings, words: Words) -> None:
    """Exchange the rules that settings change, atomically. Raises RulesetRefusedError."""
    run_nft(settings_rules(settings, words))


def remove() -> None:
    """Delete our table; it may be gone already. Raises RulesetRefusedError."""
    run_nft(f"add table ip {constants.TABLE}\ndelete table ip {constants.TABLE}")
