"""Traffic selectors (ranges) as the kernel's selectors (prefixes and masked ports)."""

from collections.abc import Sequence
from typing import Final

from gateway.dataplane.kernel.xfrm.encode import Selector
from gateway.domain.child_sa import IpNetwork, TrafficSelector

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


def _sides(selector: TrafficSelector) -> list[tuple[IpNetwork, int, int]]:
    any_port = (selector.start_port, selector.end_port) == (0, 0xFFFF)
    if not any_port and selector.protocol not in _WITH_PORTS:
        kind = "an ICMP type" if selector.protocol in _ICMP else "a port"
        raise SelectorRefusedError(
            f"selector {selector} limits {kind}; allowed: ports of TCP, UDP, DCCP, SCTP or UDP-Lite"
        )
    return [
        (network, port, mask)
        for network in selector.networks()
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
            for source, source_port, source_mask in _sides(ours):
                for destination, destination_port, destination_mask in _sides(theirs):
                    found[
                        Selector(
                            source.network_address,
                            source.prefixlen,
                            destination.network_address,
                            destination.prefixlen,
                            protocol,
                            source_port,
                            source_mask,
                            destination_port,
                            destination_mask,
                        )
                    ] = None
                    if len(found) > MAX_SELECTOR_PAIRS:
                        raise SelectorRefusedError(
                            f"selectors need more than {MAX_SELECTOR_PAIRS} policies"
                        )
    if not found:
        raise SelectorRefusedError("no local and remote selector share an IP version and protocol")
    return list(found)
