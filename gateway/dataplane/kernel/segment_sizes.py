"""Maximum segment sizes of devices whose tunnel carries less than the xfrm interface promises.

What fits depends on the suite, on the outer IP version, on UDP encapsulation and on the link that
the packets leave by. For most devices it is more than ``[dataplane] mtu``, and the ruleset's own
clamp does; the others have an element in the maps ``mss4`` and ``mss6``. Larger packets of other
protocols are answered by the kernel with ICMP, from the SA's own MTU.
"""

from dataclasses import dataclass, field
from typing import Final, Protocol

from gateway.dataplane.kernel.nft_elements import ElementChange, SetElements
from gateway.dataplane.kernel.ways import Ways
from gateway.domain.child_sa import ChildSa
from gateway.domain.endpoint import Endpoint
from gateway.domain.overhead import LEAST_MTU, segment_octets, tunnel_mtu

MSS4: Final = "mss4"
MSS6: Final = "mss6"
_NAMES: Final = {4: MSS4, 6: MSS6}
_Key = tuple[str, bytes]


class TunnelledChild(Protocol):
    """What is asked of a child SA."""

    @property
    def sa(self) -> ChildSa:
        """What it was installed with."""

    @property
    def tunnel(self) -> bool:
        """Whether its packets pass the tunnel interface."""

    local: Endpoint
    remote: Endpoint
    """Where it is now."""
    udp_encapsulation: bool


@dataclass(slots=True)
class SegmentSizes:
    """What the maps have to say. Nothing here raises: without an element, ICMP has to do."""

    sets: SetElements
    ways: Ways
    mtu: int
    """Of the xfrm interface."""
    _wanted: dict[_Key, dict[int, int]] = field(default_factory=dict)
    """Sizes by inbound SPI: during a rekeying two SAs have an address, and with NAPT many may."""
    _there: dict[_Key, int] = field(default_factory=dict)
    _of: dict[int, list[_Key]] = field(default_factory=dict)
    _fresh: dict[int, TunnelledChild] = field(default_factory=dict)
    _touched: set[_Key] = field(default_factory=set)

    def adopt(self) -> None:
        """Know what an earlier process left in the maps."""
        for name in _NAMES.values():
            try:
                found = self.sets.read(name)
            except OSError:
                continue
            for key, data in found.items():
                self._there[name, key] = int.from_bytes((data or b"")[:2], "big")
                self._touched.add((name, key))

    def look_at(self, child: TunnelledChild) -> None:
        """It is new, or somewhere else now."""
        if child.tunnel and not child.remote.stands_for_tcp:
            self._fresh[child.sa.spi_in] = child

    def forget(self, spi_in: int) -> None:
        """It is gone."""
        self._fresh.pop(spi_in, None)
        for key in self._of.pop(spi_in, ()):
            sizes = self._wanted[key]
            sizes.pop(spi_in, None)
            if not sizes:
                del self._wanted[key]
            self._touched.add(key)

    def commit(self) -> None:
        """Write what changed."""
        if self._fresh:
            fresh, self._fresh = self._fresh, {}
            children = list(fresh.values())
            ways = self.ways.of([(one.local.address, one.remote.address) for one in children])
            for child, way in zip(children, ways, strict=True):
                if way is not None:
                    self._enter(child, way.mtu)
        if self._touched:
            self._write()

    def _enter(self, child: TunnelledChild, link: int) -> None:
        spi_in = child.sa.spi_in
        self.forget(spi_in)
        outer, udp = child.remote.address, child.udp_encapsulation
        inner = tunnel_mtu(child.sa.suite, outer, udp=udp, link=link)
        if inner >= self.mtu:
            return
        keys = []
        for one in child.sa.remote_ts:
            version = one.start.version
            if one.start == one.end:
                key = _NAMES[version], one.start.packed
                size = segment_octets(max(inner, LEAST_MTU[version]), version)
                self._wanted.setdefault(key, {})[spi_in] = size
                self._touched.add(key)
                keys.append(key)
        if keys:
            self._of[spi_in] = keys

    def _write(self) -> None:
        changes: list[ElementChange] = []
        for key in sorted(self._touched):
            size = min(self._wanted.get(key, {}).values(), default=None)
            before = self._there.pop(key, None)
            if size is not None:
                self._there[key] = size
            if size == before:
                continue
            if before is not None:
                changes.append(ElementChange(*key, add=False))
            if size is not None:
                changes.append(ElementChange(*key, data=size.to_bytes(2, "big")))
        self._touched.clear()
        if changes:
            self.sets.apply(changes)
