"""Which addresses may name a node or an agent."""

from ipaddress import IPv4Address

UNSPECIFIED = IPv4Address(0)
LIMITED_BROADCAST = IPv4Address(0xFFFF_FFFF)


def is_unicast(address: IPv4Address) -> bool:
    """Whether one host can have this address, and others can reach it there."""
    first = int(address) >> 24
    return 0 < first < 224 and first != 127
