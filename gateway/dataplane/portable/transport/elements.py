"""What a child SA's selectors are as elements of the table's sets."""

from typing import Final

from gateway.dataplane.kernel.selectors import SelectorRefusedError, outbound
from gateway.dataplane.kernel.xfrm.encode import Selector
from gateway.domain.child_sa import ChildSa

Element = tuple[str, str]
"""Name of the set, and the element in nft's words."""
SETS: Final = tuple(
    f"{name}{version}"
    for name in ("hosts", "protocol", "near", "far", "both")
    for version in (4, 6)
)
MAX_ELEMENTS: Final = 1024
"""Of one child SA; ranges of ports have one for each."""
_ONE_PORT: Final = 0xFFFF


def elements_of(sa: ChildSa) -> frozenset[Element]:
    """Of the packets from us to the peer. Raises :class:`SelectorRefusedError`."""
    found: set[Element] = set()
    for selector in outbound(sa.local_ts, sa.remote_ts):
        found.update(_of_selector(selector))
        if len(found) > MAX_ELEMENTS:
            raise SelectorRefusedError(f"selectors hold more than {MAX_ELEMENTS} pairs of ports")
    return frozenset(found)


def _of_selector(selector: Selector) -> list[Element]:
    version = selector.source.version
    hosts = 32 if version == 4 else 128
    if (selector.source_prefix, selector.destination_prefix) != (hosts, hosts):
        raise SelectorRefusedError("transport mode is for the hosts themselves, not for networks")
    words = f"{selector.source} . {selector.destination}"
    if not selector.protocol:
        return [(f"hosts{version}", words)]
    words += f" . {selector.protocol}"
    near = _ports(selector.source_port, selector.source_port_mask)
    far = _ports(selector.destination_port, selector.destination_port_mask)
    if len(near) * len(far) > MAX_ELEMENTS:
        raise SelectorRefusedError(f"selectors hold more than {MAX_ELEMENTS} pairs of ports")
    if near and far:
        return [(f"both{version}", f"{words} . {one} . {two}") for one in near for two in far]
    if near or far:
        name = "near" if near else "far"
        return [(f"{name}{version}", f"{words} . {one}") for one in near or far]
    return [(f"protocol{version}", words)]


def _ports(port: int, mask: int) -> range:
    """Those of a block; none stands for any."""
    return range(port, port + (_ONE_PORT & ~mask) + 1) if mask else range(0)
