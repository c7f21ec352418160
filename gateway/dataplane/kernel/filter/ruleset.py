"""The table ``gateway_filter``: text of nft for what it has words for, and rules in netlink.

With rules, a packet's way is: the device's address (or mark) gives the number of its rule set in
this direction; number, other side, protocol and port together are looked up among what is refused,
then among what is allowed. No rule of the table stands for a device or for a rule.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import resources
from string import Template
from typing import Final

from gateway.dataplane.kernel.filter import expressions as ex
from gateway.dataplane.kernel.ruleset_version import version_chain
from gateway.domain.filtering import Direction
from gateway.domain.remote_access import NOWHERE

TABLE: Final = "gateway_filter"
LOG_GROUP: Final = 0x4757
KEYS: Final = ("4", "6", "z")
"""Of sets of devices: by address, or by mark."""
_KEY_TYPES: Final = {"4": "ipv4_addr", "6": "ipv6_addr", "z": "mark"}
HELPERS: Final = {
    "ftp": ("ftp", ("tcp",)),
    "sip": ("sip", ("udp", "tcp")),
    "h323": ("Q.931", ("tcp",)),
    "irc": ("irc", ("tcp",)),
    "pptp": ("pptp", ("tcp",)),
    "tftp": ("tftp", ("udp",)),
}
"""The kernel's name, and over what."""
SHORT: Final = {
    Direction.TO_INSIDE: "up",
    Direction.FROM_INSIDE: "down",
    Direction.BETWEEN_DEVICES: "between",
    Direction.TO_GATEWAY: "gw",
}
"""Their names in names of sets: ``rules_up4``."""
_CHAIN: Final = {
    Direction.TO_INSIDE: ("to_inside", "refused_to_inside"),
    Direction.FROM_INSIDE: ("into_device", "refused_from_inside"),
    Direction.BETWEEN_DEVICES: ("to_other_device", "refused_between"),
    Direction.TO_GATEWAY: ("to_gateway", "refused_to_gateway"),
}
_LIMITS: Final = ("limit rate", "@rate_")
_SCRATCH: Final = ex.FIRST_REGISTER + 8


@dataclass(frozen=True, slots=True)
class Variant:
    """What the ruleset is rendered from."""

    interface: str
    rules: bool = False
    """There are rules: connections are tracked."""
    helpers: frozenset[str] = frozenset()
    bare: bool = False
    """The kernel has no limits or no log: without bandwidth and without the log of refusals."""


def _sets(variant: Variant) -> Iterator[str]:
    for key in KEYS:
        kind = _KEY_TYPES[key]
        directions = ("up", "down") if key == "z" else ("",)
        for way in directions:
            yield f"set device{'_' * bool(way)}{way}{key} {{ type {kind}; }}"
            yield f"set refused{'_' * bool(way)}{way}{key} {{ type {kind}; counter; }}"
        for way in ("up", "down"):
            yield f"set used_{way}{key} {{ type {kind}; counter; }}"
            rate = "limit rate over 125 mbytes/second burst 1 mbytes"
            yield f"set rate_{way}{key} {{ type {kind}; {rate}; }}"
        if variant.rules:
            sample = {"4": "ip saddr", "6": "ip6 saddr", "z": "meta mark"}[key]
            for short in SHORT.values():
                yield f"map rules_{short}{key} {{ typeof {sample} : esp spi; }}"
    if not variant.rules:
        return
    yield "set closed { typeof esp spi . esp spi; }"
    for name in rule_sets(variant):
        address = "ip saddr" if name.endswith("4") else "ip6 saddr"
        yield (
            f"set {name} {{\n\t\ttypeof {address} . esp spi . meta l4proto . th dport\n"
            "\t\tflags interval\n\t\tcounter\n\t}"
        )


def rule_sets(variant: Variant) -> list[str]:
    """The sets of entries of rule sets."""
    if not variant.rules:
        return []
    kinds = ["refuse", "allow", *(f"helper_{name}_" for name in sorted(variant.helpers))]
    return [kind + version for kind in kinds for version in "46"]


def device_sets(variant: Variant) -> list[str]:
    """The sets and maps whose elements are devices."""
    found = []
    for key in KEYS:
        ways = ("_up", "_down") if key == "z" else ("",)
        found += [f"{kind}{way}{key}" for kind in ("device", "refused") for way in ways]
        counted = ("used",) if variant.bare else ("used", "rate")
        found += [f"{kind}_{way}{key}" for kind in counted for way in ("up", "down")]
        if variant.rules:
            found += [f"rules_{short}{key}" for short in SHORT.values()]
    return found


def all_sets(variant: Variant) -> list[str]:
    """Every set and map."""
    fixed = ["isolated", "all_of_gateway", "gateway_protocols", "gateway_ports"]
    closed = ["closed"] if variant.rules else []
    return [*fixed, *device_sets(variant), *closed, *rule_sets(variant)]


def ruled_chains(variant: Variant) -> Iterator[tuple[Direction, str, int]]:
    """Direction, kind of key and IP version of each chain for devices with rules."""
    if variant.rules:
        for direction in Direction:
            for key, versions in (("z", (4, 6)), ("4", (4,)), ("6", (6,))):
                for version in versions:
                    yield direction, key, version


def _chain_name(direction: Direction, key: str, version: int) -> str:
    return f"ruled_{SHORT[direction]}{key}{version if key == 'z' else ''}"


def helper_objects(helpers: Iterable[str]) -> Iterator[str]:
    """The objects of helpers. Each fits connections of its own protocol only."""
    for name in sorted(helpers):
        kernel_name, protocols = HELPERS[name]
        for protocol in protocols:
            what = f'type "{kernel_name}" protocol {protocol}'
            yield f"ct helper {name}_{protocol} {{\n\t\t{what}\n\t}}"


def render(variant: Variant) -> str:
    """The table with its sets and chains, closed: all that libnftables can say of it."""
    text = resources.files(__package__).joinpath("ruleset.nft").read_text("ascii")
    answers = "ct direction reply ct state established accept\n\t\tct state related accept"
    answers += "\n\t\tct status expected accept"
    chains = [f"chain {_chain_name(*one)} {{ }}" for one in ruled_chains(variant)]
    refused = "ip {0} @refused4\n\t\tip6 {0} @refused6\n\t\tmeta mark @refused_{1}z"
    rendered = Template(text).substitute(
        TABLE=TABLE,
        INTERFACE=variant.interface,
        GROUP=LOG_GROUP,
        NOWHERE=NOWHERE,
        SETS="\n\t".join(_sets(variant)),
        HELPER_OBJECTS="\n\t".join(helper_objects(variant.helpers)),
        RULED_CHAINS="\n\t".join(chains),
        ANSWERS=answers if variant.rules else "",
        REFUSED_SOURCE=refused.format("saddr", "up"),
        REFUSED_DESTINATION=refused.format("daddr", "down"),
    )
    if not variant.bare:
        return rendered
    kept = (one for one in rendered.splitlines() if not any(word in one for word in _LIMITS))
    return "\n".join(kept) + "\n"


def opened(variant: Variant) -> str:
    """What comes behind the rules of rule sets, opens the table, and names its version."""
    lines = [f"add rule inet {TABLE} {rule}" for rule in _TAIL]
    for chain, rules in _base_rules(variant.interface).items():
        lines.append(f"flush chain inet {TABLE} {chain}")
        lines += [f"add rule inet {TABLE} {chain} {rule}" for rule in rules]
    lines.append(f"add chain inet {TABLE} {version(variant)}")
    return "\n".join(lines)


_TAIL: Final = (
    "to_other_device jump unless_isolated",
    "to_other_device goto into_device",
    *(
        f"to_gateway {match} goto gateway_default"
        for match in ("ip saddr @device4", "ip6 saddr @device6", "meta mark @device_upz")
    ),
)


def _base_rules(interface: str) -> dict[str, list[str]]:
    ways = (("up", "iif", "saddr"), ("down", "oif", "daddr"))
    return {
        "forward": [
            f'iifname "{interface}" goto from_device',
            f'oifname "{interface}" goto to_device',
        ],
        "input": [f'iifname "{interface}" goto to_gateway'],
        "usage": [
            f'{iface}name "{interface}" {match} @used_{way}{key}'
            for way, iface, side in ways
            for key, match in (("4", f"ip {side}"), ("6", f"ip6 {side}"), ("z", "meta mark"))
        ],
    }


def version(variant: Variant) -> str:
    """Name of the chain that only this ruleset has."""
    rules = b"".join(ruled(variant)).hex()
    return version_chain(f"{render(variant)} {rules} {_TAIL} {_base_rules(variant.interface)}")


def ruled(variant: Variant) -> list[bytes]:
    """The rules with numbers of rule sets, as netlink requests."""
    found: list[bytes] = []
    for direction, key, version_ in ruled_chains(variant):
        found += _entry(direction, key, version_)
        found += _ruled(variant, direction, key, version_)
    return found


def _numbered(direction: Direction, key: str, version_: int, number: int) -> bytes:
    """The number of the device's rule set into a register."""
    name = f"rules_{SHORT[direction]}{key}"
    source = direction is not Direction.FROM_INSIDE
    what = ex.mark(_SCRATCH) if key == "z" else ex.address(_SCRATCH, version_, source=source)
    return what + ex.lookup(_SCRATCH, name, number)


def _entry(direction: Direction, key: str, version_: int) -> Iterator[bytes]:
    """Without four octets of transport header nothing can be looked up."""
    chain, refused = _CHAIN[direction]
    numbered = ex.family(version_) + _numbered(direction, key, version_, ex.FIRST_REGISTER)
    goto = ex.verdict(_chain_name(direction, key, version_))
    yield ex.rule(TABLE, chain, numbered, ex.port(_SCRATCH), goto)
    yield ex.rule(TABLE, chain, numbered, ex.verdict(refused))


def _ruled(variant: Variant, direction: Direction, key: str, version_: int) -> Iterator[bytes]:
    """Keys are: the other side's address, number, protocol, port."""
    chain, refused = _chain_name(direction, key, version_), _CHAIN[direction][1]
    first = ex.FIRST_REGISTER
    number = first + (1 if version_ == 4 else 4)
    source = direction is Direction.FROM_INSIDE
    flow = (
        ex.family(version_)
        + ex.address(first, version_, source=source, more=4)
        + _numbered(direction, key, version_, number)
        + ex.protocol(number + 1)
        + ex.port(number + 2)
    )

    def among(name: str, then: bytes) -> bytes:
        return ex.rule(TABLE, chain, flow, ex.lookup(first, f"{name}{version_}"), then)

    yield among("refuse", ex.verdict(refused))
    for helper in sorted(variant.helpers):
        for protocol in HELPERS[helper][1]:
            yield among(f"helper_{helper}_", ex.set_helper(f"{helper}_{protocol}"))
    yield among("allow", ex.verdict(None))
    numbered = ex.zeros(first, 8) + _numbered(direction, key, version_, first + 1)
    yield ex.rule(TABLE, chain, numbered, ex.lookup(first, "closed"), ex.verdict(refused))
    if direction is Direction.TO_GATEWAY:
        yield ex.rule(TABLE, chain, ex.verdict("gateway_default"))
    else:
        yield ex.rule(TABLE, chain, ex.verdict(None))
