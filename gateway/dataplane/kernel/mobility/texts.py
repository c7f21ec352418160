"""Elements of the mobility ruleset in the words of nft, to load them with other rules at once.

That is the one moment at which the rules of an earlier version and what they let pass have to be
exchanged in one transaction.
"""

import struct
from collections.abc import Callable, Iterable, Mapping
from ipaddress import IPv4Address
from typing import Final

_U32 = struct.Struct("=I")


def _address(octets: bytes) -> str:
    return str(IPv4Address(octets))


def _number(octets: bytes) -> str:
    return f"{int.from_bytes(octets, 'big'):#x}"


def _port(octets: bytes) -> str:
    return str(int.from_bytes(octets[:2], "big"))


def _interface(octets: bytes) -> str:
    name = octets.rstrip(b"\0").decode("ascii", "strict")
    if not name or any(one in '"\\{}' or not one.isprintable() for one in name):
        raise ValueError("no interface name")
    return f'"{name}"'


def _link_address(octets: bytes) -> str:
    return octets[:6].hex(":")


def _mark(octets: bytes) -> str:
    return f"{_U32.unpack(octets)[0]:#x}"


_PARTS: Final[Mapping[str, tuple[int, Callable[[bytes], str]]]] = {
    "a": (4, _address),
    "x": (4, _number),
    "p": (4, _port),
    "q": (2, _port),
    "i": (16, _interface),
    "l": (8, _link_address),
    "m": (4, _mark),
}
"""Octets and words of each kind of part: address, raw number, port, port alone, interface,
link-layer address, mark."""

SETS: Final[Mapping[str, str]] = {
    "bindings_ip_ip": "aax",
    "bindings_gre": "aax",
    "bindings_minimal": "aax",
    "bindings_udp": "apax",
    "visitors_ip_ip": "aax",
    "visitors_gre": "aax",
    "visitors_minimal": "aax",
    "visitors_udp": "apax",
    "encapsulating_ip_ip": "aax",
    "encapsulating_gre": "aax",
    "encapsulating_minimal": "aax",
    "gre_peers": "aa",
    "udp_peers": "apa",
    "slow_homes": "a",
    "slow_visitors": "a",
    "away": "a",
    "triangular": "a",
    "at_home": "ai",
    "direct_visitors": "ila",
    "plain_visitors": "ila",
    "visitors": "a",
    "vpn_visitors": "a",
    "switched_sources": "aa",
    "switched_quotes": "xx",
    "broadcast_links": "i",
    "multicast_links": "i",
    "home_local": "x:a",
    "home_remote": "x:a",
    "home_port": "x:q",
    "visitor_local": "x:a",
    "visitor_remote": "x:a",
    "visitor_port": "x:q",
    "visitor_mark": "a:m",
    "switch_source": "aa:a",
    "switch_peer": "aa:a",
    "switch_out": "aa:a",
    "switch_agent": "aa:a",
}
"""The sets and maps whose elements are bindings and visitors, and of what they are made."""


def words(name: str, key: bytes, data: bytes | None) -> str | None:
    """One element; None when it is of another make: another version's, and made anew soon."""
    layout, _, value = SETS[name].partition(":")
    try:
        said = _said(layout, key)
        return f"{said} : {_said(value, data or b'')}" if value else said
    except (ValueError, UnicodeDecodeError):
        return None


def _said(layout: str, octets: bytes) -> str:
    if sum(_PARTS[kind][0] for kind in layout) != len(octets):
        raise ValueError("another width")
    said, start = [], 0
    for kind in layout:
        width, word = _PARTS[kind]
        said.append(word(octets[start : start + width]))
        start += width
    return " . ".join(said)


def commands(table: str, elements: Iterable[tuple[str, bytes, bytes | None]]) -> str:
    """What adds these elements to an ``ip`` table."""
    listed: dict[str, list[str]] = {}
    for name, key, data in elements:
        said = words(name, key, data)
        if said is not None:
            listed.setdefault(name, []).append(said)
    return "".join(
        f"add element ip {table} {name} {{ {', '.join(found)} }}\n"
        for name, found in listed.items()
    )
