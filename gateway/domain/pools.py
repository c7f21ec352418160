"""Pools of inner addresses that are leased to authenticated peers."""

import enum
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from gateway.domain.child_sa import IpNetwork
from gateway.domain.endpoint import IpAddress

MAX_KEPT = 65_536
"""Addresses that are kept for identities that are away; of more the longest left are free."""


class PoolExhausted(Exception):  # noqa: N818 - named for what it is
    """Every address of the pool is leased. Its text names the pool and its size."""


class Hold(enum.Enum):
    """Why an address is not simply free."""

    IN_USE = "in-use"
    KEPT = "kept"
    """For whoever had it last."""
    STATIC = "static"
    """For the one identity that gets it, which is not here."""


@dataclass(frozen=True, slots=True)
class Held:
    """An address that somebody has, or that waits for somebody."""

    address: IpAddress
    why: Hold
    identity: str
    until: float = math.inf
    """With :attr:`Hold.KEPT`: by the pool's clock."""


class AddressPool:
    """Leases single addresses of ``network``; the same identity gets the same address again.

    The first and last address of an IPv4 network larger than /31, the first of an IPv6 network
    larger than /127, and everything in ``reserved`` are never leased. A lease costs O(1)
    amortised, whatever the size of the network, and the pool's memory grows with what was
    leased, not with the network.

    An address that was left is kept for its identity for ``lease_s``. Others get it before only
    when nothing else is left: of those that are kept, the one that was left the longest ago.
    """

    __slots__ = (
        "_clock",
        "_idle",
        "_kept",
        "_kept_of",
        "_leased",
        "_next",
        "_owners",
        "_static",
        "lease_s",
        "name",
        "network",
        "reserved",
        "size",
    )

    def __init__(
        self,
        name: str,
        network: IpNetwork,
        reserved: Iterable[IpAddress] = (),
        *,
        static: Mapping[str, IpAddress] | None = None,
        lease_s: float = math.inf,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``static``: identities with an address each that nobody else gets. Several may share one.

        ``clock`` counts seconds.
        """
        self.name = name
        self.network = network
        kept = {int(address) for address in reserved if address in network}
        count = network.num_addresses
        if network.version == 4 and network.prefixlen < 31:
            kept |= {int(network[0]), int(network[-1])}
        elif network.version == 6 and network.prefixlen < 127:
            kept.add(int(network[0]))
        self._static: dict[str, int] = {}
        self._owners: dict[int, tuple[str, ...]] = {}
        self._use_static(static or {})
        # A static address may be one of the reserved ones: its owner gets it all the same.
        self.reserved = frozenset(kept)
        self.size = count - len(kept)
        """How many addresses can be leased at the same time, reserved ones apart."""
        self.lease_s = lease_s
        self._clock = clock
        self._next = int(network[0])
        self._idle: OrderedDict[int, None] = OrderedDict()
        self._kept: OrderedDict[int, tuple[str, float]] = OrderedDict()
        """Whose, and since when, in the order of leaving."""
        self._kept_of: dict[str, int] = {}
        self._leased: dict[int, str] = {}

    def _use_static(self, static: Mapping[str, IpAddress]) -> None:
        self._static = {who: int(one) for who, one in static.items() if one in self.network}
        owners: dict[int, tuple[str, ...]] = {}
        for who, number in self._static.items():
            owners[number] = (*owners.get(number, ()), who)
        self._owners = owners

    # -- what there is ---------------------------------------------------------------------

    @property
    def in_use(self) -> int:
        """How many addresses are leased now."""
        return len(self._leased)

    @property
    def kept(self) -> int:
        """How many wait for whoever had them last."""
        self._expire()
        return len(self._kept)

    @property
    def static(self) -> int:
        """How many addresses belong to one identity each."""
        return len(self._owners)

    @property
    def static_addresses(self) -> dict[str, IpAddress]:
        """By identity."""
        return {who: self.address(number) for who, number in self._static.items()}

    def holder(self, address: IpAddress) -> str | None:
        """The identity that holds an address, or None."""
        return self._leased.get(int(address)) if address in self.network else None

    def owner(self, address: IpAddress) -> str | None:
        """The identity whose static address this is, or None."""
        owners = self._owners.get(int(address)) if address in self.network else None
        return owners[0] if owners else None

    def held(self) -> Iterator[Held]:
        """Every address that is leased, kept or static, in no order. Costs as much as it gives."""
        for number, why, identity, until in self.entries():
            yield Held(self.address(number), why, identity, until)

    def entries(self) -> Iterator[tuple[int, Hold, str, float]]:
        """As :meth:`held`, with addresses as numbers, which is much quicker."""
        self._expire()
        for number, identity in self._leased.items():
            yield number, Hold.IN_USE, identity, math.inf
        for number, (identity, left_at) in self._kept.items():
            yield number, Hold.KEPT, identity, left_at + self.lease_s
        for number, owners in self._owners.items():
            if number not in self._leased:
                yield number, Hold.STATIC, owners[0], math.inf

    def address(self, number: int) -> IpAddress:
        """Of a number of this pool's network."""
        found: IpAddress = self.network[number - int(self.network[0])]
        return found

    # -- another configuration -------------------------------------------------------------

    def same_addresses(self, other: "AddressPool") -> bool:
        """Whether both lease the same addresses, so that leases of one are good in the other."""
        return (self.network, self.reserved) == (other.network, other.reserved)

    def adopt(self, other: "AddressPool") -> None:
        """Lease on the terms of ``other``, which has the same addresses. Nobody loses a lease.

        Who holds what is somebody else's static address by now: :meth:`is_anothers` tells.
        """
        self.lease_s = other.lease_s
        former = self._owners
        self._use_static(other.static_addresses)
        for number in former.keys() - self._owners.keys():
            if number < self._next and number not in self._leased and number not in self.reserved:
                self._idle[number] = None
        for number in self._owners:
            self._idle.pop(number, None)
            self._give_up(number)

    def take_over(self, former: "AddressPool") -> None:
        """Go on with the leases of the pool that this one replaces, as far as it has them.

        Call it before anything is leased. :meth:`fits` says beforehand which ones that are.
        """
        for held in sorted(former.held(), key=lambda one: one.until):
            if held.why is Hold.IN_USE and self.fits(held.address):
                self._lease(held.identity, int(held.address))
            elif held.why is Hold.KEPT:
                self.keep(held.identity, held.address, held.until - former.lease_s)

    def fits(self, address: IpAddress) -> bool:
        """Whether it is one that this pool leases, to whomever."""
        if address not in self.network:
            return False
        return int(address) not in self.reserved or int(address) in self._owners

    def is_anothers(self, address: IpAddress, identity: str, device: str = "") -> bool:
        """Whether this is a static address, of neither ``identity`` nor ``device``."""
        owners = self._owners.get(int(address)) if address in self.network else None
        return owners is not None and identity not in owners and device not in owners

    # -- leases ----------------------------------------------------------------------------

    def lease(
        self, identity: str, wanted: IpAddress | None = None, *, device: str = ""
    ) -> IpAddress:
        """Lease an address: the static one, the one ``identity`` had last, ``wanted``, or any.

        ``identity`` is who logs in, ``device`` the identity of the device where that is another:
        either may have the static address. An address that somebody holds is never given out
        again before it is released, so an identity that connects twice gets two addresses.

        Raises:
            PoolExhausted: nothing is left.
        """
        self._expire()
        number = self._own(identity, device)
        if number is None:
            number = self._acceptable(identity, wanted)
        if number is None:
            number = self._unused()
        self._lease(identity, number)
        return self.address(number)

    def reclaim(self, identity: str, address: IpAddress, *, device: str = "") -> bool:
        """Lease exactly this address to whom it was leased before; False when it cannot be."""
        if not self.fits(address) or self.is_anothers(address, identity, device):
            return False
        number = int(address)
        if number in self._leased:
            return False
        self._lease(identity, number)
        return True

    def keep(self, identity: str, address: IpAddress, left_at: float) -> bool:
        """Keep an address for whoever left it before this process began; False: it cannot be.

        Give those that were left first first. ``left_at`` is by the pool's clock.
        """
        number = int(address)
        if address not in self.network or number in self.reserved or number in self._owners:
            return False
        if (
            number in self._leased
            or number in self._kept
            or left_at + self.lease_s <= self._clock()
        ):
            return False
        self._keep(number, identity, left_at)
        return True

    def release(self, address: IpAddress) -> None:
        """Take an address back; one that is not leased is fine."""
        number = int(address)
        identity = None
        if address.version == self.network.version:
            identity = self._leased.pop(number, None)
        if identity is not None and number not in self._owners:
            self._keep(number, identity, self._clock())

    def forget(self, address: IpAddress) -> bool:
        """Keep an address for nobody any more; False: it was not kept."""
        number = int(address)
        if address not in self.network or number not in self._kept:
            return False
        self._give_up(number)
        self._idle[number] = None
        return True

    def _lease(self, identity: str, number: int) -> None:
        self._idle.pop(number, None)
        self._give_up(number)
        self._leased[number] = identity

    def _keep(self, number: int, identity: str, left_at: float) -> None:
        if self.lease_s <= 0:
            self._idle[number] = None
            return
        self._idle.pop(number, None)
        self._kept[number] = (identity, left_at)
        self._kept_of[identity] = number
        if len(self._kept) > MAX_KEPT:
            self._free_oldest()

    def _give_up(self, number: int) -> None:
        identity, _ = self._kept.pop(number, ("", 0.0))
        if self._kept_of.get(identity) == number:
            del self._kept_of[identity]

    def _free_oldest(self) -> None:
        number = next(iter(self._kept))
        self._give_up(number)
        self._idle[number] = None

    def _expire(self) -> None:
        """Each address once after each of its leases, so it costs O(1) amortised."""
        before = self._clock() - self.lease_s
        while self._kept and next(iter(self._kept.values()))[1] <= before:
            self._free_oldest()

    def _own(self, identity: str, device: str) -> int | None:
        """The static address, or the one that is kept."""
        for who in (identity, device):
            number = self._static.get(who)
            if number is not None and number not in self._leased:
                return number
        return self._kept_of.get(identity)

    def _acceptable(self, identity: str, wanted: IpAddress | None) -> int | None:
        if wanted is None or wanted not in self.network:
            return None
        number = int(wanted)
        if number in self.reserved or number in self._leased or number in self._owners:
            return None
        # Somebody else's last address is theirs as long as there are others.
        kept_for, _ = self._kept.get(number, (identity, 0.0))
        return number if kept_for == identity else None

    def _unused(self) -> int:
        last = int(self.network[-1])
        while self._next <= last:
            number = self._next
            self._next += 1
            taken = number in self._leased or number in self._kept or number in self._owners
            if not taken and number not in self.reserved:
                return number
        # The longest unused one goes first, so a short absence keeps its address.
        if not self._idle:
            if not self._kept:
                raise PoolExhausted(self._exhausted())
            self._free_oldest()
        return self._idle.popitem(last=False)[0]

    def _exhausted(self) -> str:
        others = f", {self.static} belong to one identity each" if self.static else ""
        return (
            f"pool {self.name} ({self.network}) has no free address: all {self.size} are"
            f" leased{others}"
        )
