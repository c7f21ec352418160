"""Traffic selectors (ranges) as the kernel's selectors (prefixes and masked ports)."""

from collections.abc import Sequence
from ipaddress import ip_network
from typing import Final

from gateway.dataplane.kernel.xfrm.encode import Selector
from gateway.domain.child_sa import ChildSa, IpNetwork, TrafficSelector
from gateway.domain.endpoint import IpAddress

MAX_SELECTOR_PAIRS: Final = 64
"""Policies that one child SA may need in each direction."""

_ICMP = frozenset((1, 58))
_WITH_PORTS = frozenset((6, 17, 33, 132, 136))


class SelectorRefusedError(ValueError):
    """The kernel cannot express these selectors."""


def port_blocks(start: int, end: int) -> list[tuple[int, int]]:
    """The range as the fewest ``(port, mask)``; ``[(0, 0)]`` is any port."""
    if start <= 0 and end >= 0xFFFF:
        return [(0, 0)]
    blocks = []
    while start <= end:
        size = start & -start or 0x10000
        while size > end - start + 1:
            size >>= 1
        blocks.append((start, 0xFFFF & ~(size - 1)))
        start += size
    return blocks


def _prefixes(selector: TrafficSelector) -> list[tuple[IpAddress, int]]:
    """The address range as prefixes. One that is a prefix already, as most are, costs little."""
    first = int(selector.start)
    size = int(selector.end) - first + 1
    if size & (size - 1) == 0 and first & (size - 1) == 0:
        return [(selector.start, selector.start.max_prefixlen - size.bit_length() + 1)]
    return [(network.network_address, network.prefixlen) for network in selector.networks()]


def _sides(selector: TrafficSelector) -> list[tuple[IpAddress, int, int, int]]:
    any_port = (selector.start_port, selector.end_port) == (0, 0xFFFF)
    if not any_port and selector.protocol not in _WITH_PORTS:
        kind = "an ICMP type" if selector.protocol in _ICMP else "a port"
        raise SelectorRefusedError(
            f"selector {selector} limits {kind}; allowed: ports of TCP, UDP, DCCP, SCTP or UDP-Lite"
        )
    return [
        (address, prefix, port, mask)
        for address, prefix in _prefixes(selector)
        for port, mask in port_blocks(selector.start_port, selector.end_port)
    ]


def outbound(local: Sequence[TrafficSelector], remote: Sequence[TrafficSelector]) -> list[Selector]:
    """Selectors of packets from ``local`` to ``remote``, every pair of one IP version.

    Raises :class:`SelectorRefusedError` when there are none, too many, or one says what the kernel
    cannot.
    """
    found: dict[Selector, None] = {}
    for ours in local:
        for theirs in remote:
            if ours.start.version != theirs.start.version:
                continue
            if ours.protocol and theirs.protocol and ours.protocol != theirs.protocol:
                continue
            protocol = ours.protocol or theirs.protocol
            for source, source_prefix, source_port, source_mask in _sides(ours):
                for destination, prefix, port, mask in _sides(theirs):
                    selector = Selector(
                        source,
                        source_prefix,
                        destination,
                        prefix,
                        protocol,
                        source_port,
                        source_mask,
                        port,
                        mask,
                    )
                    found[selector] = None
                    if len(found) > MAX_SELECTOR_PAIRS:
                        raise SelectorRefusedError(
                            f"selectors need more than {MAX_SELECTOR_PAIRS} policies"
                        )
    if not found:
        raise SelectorRefusedError("no local and remote selector share an IP version and protocol")
    return list(found)


def networks_beyond(selectors: Sequence[Selector], pools: Sequence[IpNetwork]) -> list[IpNetwork]:
    """Networks behind the peer of these outbound selectors that no pool holds."""
    behind = [
        (selector.destination, selector.destination_prefix)
        for selector in selectors
        if not any(
            selector.destination in pool and selector.destination_prefix >= pool.prefixlen
            for pool in pools
        )
    ]
    return [ip_network(network) for network in dict.fromkeys(behind)]


def home_addresses(sa: ChildSa) -> list[bytes]:
    """Elements of ``vpn_fa``: the peer's selectors of a mobile node (draft 001, B.5)."""
    peers = (one.start for one in sa.remote_ts if one.start == one.end)
    return [address.packed for address in peers if address.version == 4]
