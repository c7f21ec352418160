"""Counters of the ruleset, read from netlink.

libnftables would read every element of every set first: over a second for 10,000 bindings.
Layout of ``linux/netfilter/nf_tables.h``; a rule's comment is in its user data (libnftnl).
"""

import struct
from collections import Counter
from typing import Final

from gateway.dataplane.kernel.mobility import constants
from gateway.dataplane.kernel.netlink import NetlinkSocket, attribute, attributes
from gateway.dataplane.kernel.nft_elements import NFPROTO_IPV4

_GETRULE: Final = 10 << 8 | 7
_RULE_TABLE, _RULE_CHAIN, _RULE_EXPRESSIONS, _RULE_USERDATA = 1, 2, 4, 7
_EXPRESSION_NAME, _EXPRESSION_DATA = 1, 2
_COUNTER_PACKETS: Final = 2
_COMMENT: Final = 0
_GENERIC = struct.Struct("!BBH")
_U64 = struct.Struct("!Q")
_ATTRIBUTE = struct.Struct("=HH")


def read(
    netfilter: NetlinkSocket,
    table: str = constants.TABLE,
    family: int = NFPROTO_IPV4,
    chain: str = "",
) -> dict[str, int]:
    """Packets by the comment of the rule, in all chains or one of them.

    Empty while the ruleset is not loaded.
    """
    body = _GENERIC.pack(family, 0, 0)
    body += attribute(_RULE_TABLE, table.encode() + b"\0")
    if chain:
        body += attribute(_RULE_CHAIN, chain.encode() + b"\0")
    counts: Counter[str] = Counter()
    try:
        for _, rule in netfilter.dump(_GETRULE, body):
            values = attributes(rule, _GENERIC.size)
            if values.get(_RULE_TABLE, b"").rstrip(b"\0") != table.encode():
                continue
            comment = _comment(values.get(_RULE_USERDATA, b""))
            packets = _packets(values.get(_RULE_EXPRESSIONS, b""))
            if comment and packets is not None:
                counts[comment] += packets
    except OSError:
        return {}
    return dict(counts)


def _comment(userdata: bytes) -> str:
    offset = 0
    while offset + 2 <= len(userdata):
        kind, size = userdata[offset], userdata[offset + 1]
        if kind == _COMMENT:
            return userdata[offset + 2 : offset + 2 + size].rstrip(b"\0").decode("ascii", "replace")
        offset += 2 + size
    return ""


def _packets(expressions: bytes) -> int | None:
    """What the first counter of a rule says."""
    offset = 0
    while offset + 4 <= len(expressions):
        size, _ = _ATTRIBUTE.unpack_from(expressions, offset)
        if size < 4:
            return None
        found = attributes(expressions, offset + 4, offset + size)
        if found.get(_EXPRESSION_NAME) == b"counter\0":
            value = attributes(found.get(_EXPRESSION_DATA, b""), 0).get(_COUNTER_PACKETS, b"")
            return int(_U64.unpack(value)[0]) if len(value) == 8 else None
        offset += size + 3 & ~3
    return None
