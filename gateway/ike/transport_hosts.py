"""Who has which traffic of a host in transport mode (RFC 3948 section 5.2).

Two devices behind one NAT have the same address here. Where their selectors overlap, what is meant
for the one would be encrypted for the other: the second one is refused, unless it is the same one
that comes again.
"""

from gateway.domain.child_sa import Mode, TrafficSelector
from gateway.domain.endpoint import IpAddress
from gateway.ike.auth.identity import Identity
from gateway.ike.sa import Child

_Held = tuple[tuple[TrafficSelector, ...], tuple[TrafficSelector, ...], Identity | None]


class TransportHosts:
    """Child SAs in transport mode, by the peer's address."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held: dict[IpAddress, dict[int, _Held]] = {}

    def take(self, child: Child, identity: Identity | None) -> None:
        """A child SA was made; those in tunnel mode do not count."""
        if child.mode is Mode.TRANSPORT and child.remote_ts:
            at_host = self._held.setdefault(child.remote_ts[0].start, {})
            at_host[child.spi_in] = (child.local_ts, child.remote_ts, identity)

    def release(self, child: Child) -> None:
        """It is gone."""
        if child.mode is Mode.TRANSPORT and child.remote_ts:
            address = child.remote_ts[0].start
            at_host = self._held.get(address, {})
            at_host.pop(child.spi_in, None)
            if not at_host:
                self._held.pop(address, None)

    def other_holder(
        self,
        local_ts: tuple[TrafficSelector, ...],
        remote_ts: tuple[TrafficSelector, ...],
        identity: Identity | None,
    ) -> Identity | None:
        """Who else has some of this traffic."""
        at_host = self._held.get(remote_ts[0].start, {}) if remote_ts else {}
        for ours, theirs, holder in at_host.values():
            if holder != identity and _overlap(ours, local_ts) and _overlap(theirs, remote_ts):
                return holder
        return None


def _overlap(some: tuple[TrafficSelector, ...], others: tuple[TrafficSelector, ...]) -> bool:
    return any(one.intersect(other) is not None for one in some for other in others)
