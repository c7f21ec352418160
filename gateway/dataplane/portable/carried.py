"""A child SA that the forwarder carries, as far as rules and routes need to know it."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from gateway.dataplane.kernel import selectors
from gateway.dataplane.kernel.xfrm.encode import Selector
from gateway.dataplane.portable.forwarder import HeldSa
from gateway.domain.child_sa import ChildSa, IpNetwork, Mode
from gateway.domain.endpoint import Endpoint


@dataclass(slots=True)
class CarriedChild:
    """One child SA."""

    sa: ChildSa
    selectors: list[Selector]
    """Outbound direction."""
    outbound: bool = False
    local: Endpoint = field(init=False)
    remote: Endpoint = field(init=False)
    udp_encapsulation: bool = field(init=False)
    routed: tuple[IpNetwork, ...] = ()
    """Networks that have a route because of this SA."""

    def __post_init__(self) -> None:
        self.local, self.remote = self.sa.local, self.sa.remote
        self.udp_encapsulation = self.sa.udp_encapsulation

    @classmethod
    def of(cls, sa: ChildSa) -> "CarriedChild":
        """Raises :class:`gateway.dataplane.kernel.selectors.SelectorRefusedError`."""
        return cls(sa, selectors.outbound(sa.local_ts, sa.remote_ts))

    @property
    def tunnel(self) -> bool:
        """Whether its inner packets are others' than the outer ones."""
        return self.sa.mode is Mode.TUNNEL

    @property
    def home_addresses(self) -> list[bytes]:
        """See :func:`selectors.home_addresses`."""
        return selectors.home_addresses(self.sa)

    def networks_beyond(self, pools: Sequence[IpNetwork]) -> list[IpNetwork]:
        """Networks behind the peer that no pool holds."""
        return selectors.networks_beyond(self.selectors, pools)

    def is_at(self, local: Endpoint, remote: Endpoint, *, udp_encapsulation: bool) -> bool:
        """Whether it has these outer addresses."""
        return (self.local, self.remote, self.udp_encapsulation) == (
            local,
            remote,
            udp_encapsulation,
        )

    def place(self, local: Endpoint, remote: Endpoint, *, udp_encapsulation: bool) -> None:
        """It has moved."""
        self.local, self.remote, self.udp_encapsulation = local, remote, udp_encapsulation


def serves(held: HeldSa, sa: ChildSa) -> bool:
    """Whether what the forwarder has is this child SA, wherever it is."""
    return _same(held.sa) == _same(sa)


def _same(sa: ChildSa) -> tuple[object, ...]:
    selectors_of = frozenset(sa.local_ts), frozenset(sa.remote_ts)
    return sa.spi_in, sa.spi_out, sa.reqid, sa.suite, sa.mode, sa.zone, *selectors_of
