"""Pools of inner addresses that are leased to authenticated peers."""

from collections import OrderedDict
from collections.abc import Iterable

from gateway.domain.child_sa import IpNetwork
from gateway.domain.endpoint import IpAddress

MAX_REMEMBERED = 65_536
"""Identities whose last address is kept for their next visit."""


class PoolExhausted(Exception):  # noqa: N818 - named for what it is
    """Every address of the pool is leased. Its text names the pool and its size."""


class AddressPool:
    """Leases single addresses of ``network``; the same identity gets the same address again.

    The first and last address of an IPv4 network larger than /31, the first of an IPv6 network
    larger than /127, and everything in ``reserved`` are never leased. A lease costs O(1)
    amortised, whatever the size of the network, and the pool's memory grows with what was
    leased, not with the network.
    """

    __slots__ = ("_free", "_leased", "_next", "_remembered", "name", "network", "reserved", "size")

    def __init__(self, name: str, network: IpNetwork, reserved: Iterable[IpAddress] = ()) -> None:
        self.name = name
        self.network = network
        kept = {int(address) for address in reserved if address in network}
        count = network.num_addresses
        if network.version == 4 and network.prefixlen < 31:
            kept |= {int(network[0]), int(network[-1])}
        elif network.version == 6 and network.prefixlen < 127:
            kept.add(int(network[0]))
        self.reserved = frozenset(kept)
        self.size = count - len(kept)
        """How many addresses can be leased at the same time."""
        self._next = int(network[0])
        self._free: OrderedDict[int, None] = OrderedDict()
        self._leased: dict[int, str] = {}
        self._remembered: OrderedDict[str, int] = OrderedDict()

    @property
    def in_use(self) -> int:
        """How many addresses are leased now."""
        return len(self._leased)

    def same_addresses(self, other: "AddressPool") -> bool:
        """Whether both lease the same addresses, so that leases of one are good in the other."""
        return (self.network, self.reserved) == (other.network, other.reserved)

    def holder(self, address: IpAddress) -> str | None:
        """The identity that holds an address, or None."""
        return self._leased.get(int(address)) if address in self.network else None

    def lease(self, identity: str, wanted: IpAddress | None = None) -> IpAddress:
        """Lease an address to ``identity``: the one it had last, else ``wanted``, else any.

        An address that somebody holds is never given out again before it is released, so an
        identity that connects twice gets two addresses.

        Raises:
            PoolExhausted: nothing is left.
        """
        number = self._remembered.get(identity)
        if number is None or number in self._leased:
            number = self._acceptable(wanted)
        if number is None:
            number = self._unused()
        self._lease(identity, number)
        address: IpAddress = self.network[number - int(self.network[0])]
        return address

    def reclaim(self, identity: str, address: IpAddress) -> bool:
        """Lease exactly this address to whom it was leased before; False when it cannot be."""
        if address not in self.network:
            return False
        number = int(address)
        if number in self.reserved or number in self._leased:
            return False
        self._lease(identity, number)
        return True

    def _lease(self, identity: str, number: int) -> None:
        self._free.pop(number, None)
        self._leased[number] = identity
        self._remembered[identity] = number
        self._remembered.move_to_end(identity)
        if len(self._remembered) > MAX_REMEMBERED:
            self._remembered.popitem(last=False)

    def release(self, address: IpAddress) -> None:
        """Take an address back; one that is not leased is fine."""
        number = int(address)
        if address.version == self.network.version and self._leased.pop(number, None) is not None:
            self._free[number] = None

    def _acceptable(self, wanted: IpAddress | None) -> int | None:
        if wanted is None or wanted not in self.network:
            return None
        number = int(wanted)
        if number in self.reserved or number in self._leased:
            return None
        # Somebody else's last address is theirs as long as there are others.
        return number if number >= self._next else None

    def _unused(self) -> int:
        last = int(self.network[-1])
        while self._next <= last:
            number = self._next
            self._next += 1
            if number not in self.reserved and number not in self._leased:
                return number
        if not self._free:
            raise PoolExhausted(
                f"pool {self.name} ({self.network}) has no free address: all {self.size} are leased"
            )
        # The longest unused one goes first, so a short absence keeps its address.
        return self._free.popitem(last=False)[0]
