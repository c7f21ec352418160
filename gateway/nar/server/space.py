"""What can be leased of one address Nb, and what is (draft 004, section 2.6)."""

from collections.abc import Callable
from ipaddress import IPv4Address
from typing import Final

from gateway.domain.nar import NarProtocol, NarTuple
from gateway.nar.policy import NarServerPolicy
from gateway.nar.server.leases import Lease, Openness, claim
from gateway.nar.server.sessions import Owner
from gateway.nar.server.values import Random, Values

FIRST_SPI: Final = 256
"""1 to 255 are reserved by IANA, 0 never is on the wire (RFC 4303 section 2.1)."""


def never_leased(policy: NarServerPolicy) -> frozenset[int]:
    """Ports that no client gets."""
    return policy.occupied_ports | {0}


class AddressSpace:
    """All leases at one address. SPIs are of ESP and AH together: no two clients have the same."""

    __slots__ = ("_tunnels", "_values", "address", "used")

    def __init__(self, address: IPv4Address, policy: NarServerPolicy) -> None:
        self.address = address
        self.used = 0
        """How many leases there are."""
        never = never_leased(policy)
        spis = policy.spis
        spi = Values([range(max(spis.start, FIRST_SPI), spis.stop)], frozenset())
        self._values = {
            NarProtocol.TCP: Values(policy.ports, never),
            NarProtocol.UDP: Values(policy.ports, never),
            NarProtocol.ICMP: Values([policy.icmp_ids], frozenset({0})),
            NarProtocol.ESP: spi,
            NarProtocol.AH: spi,
        }
        self._tunnels: dict[tuple[int, int, int], Lease] = {}
        """By protocol, inner destination and outer source: there is nothing to choose."""

    @property
    def has_room(self) -> bool:
        """Whether a newcomer finds a port that nobody else has."""
        return bool(self._values[NarProtocol.TCP].room or self._values[NarProtocol.UDP].room)

    def values(self, protocol: NarProtocol) -> Values:
        """Of any protocol but tunnels."""
        return self._values[protocol]

    def find(self, key: NarTuple) -> Lease | None:
        """The lease of exactly this tuple."""
        if key.protocol.is_tunnel:
            return self._tunnels.get(_tunnel(key))
        openness, number = claim(key)
        lease = self._values[key.protocol].find(key.value, number, openness)
        return lease if lease is not None and lease.mapping.tuple == key else None

    def blocker(self, key: NarTuple, owner: Owner) -> Lease | None:
        """A lease that is in the way of this tuple."""
        if key.protocol.is_tunnel:
            return self._tunnels.get(_tunnel(key))
        openness, number = claim(key)
        return self._values[key.protocol].blocker(key.value, number, openness, owner)

    def draw(
        self, key: NarTuple, owner: Owner, random: Random, now: float, free: Callable[[int], bool]
    ) -> int | None:
        """A value for this tuple in the place of its own; None when there is none."""
        values = self._values[key.protocol]
        value = values.draw(random, now, free)
        if value is None:
            openness, number = claim(key)
            if openness is Openness.EXACT:
                value = values.draw_shared(random, number, owner, free)
        return value

    def add(self, lease: Lease) -> None:
        """Enter a lease that no :meth:`blocker` is in the way of."""
        key = lease.mapping.tuple
        self.used += 1
        if key.protocol.is_tunnel:
            self._tunnels[_tunnel(key)] = lease
        else:
            self._values[key.protocol].add(lease)

    def remove(self, lease: Lease, now: float) -> None:
        """Take a lease out, if it is in."""
        key = lease.mapping.tuple
        if not key.protocol.is_tunnel:
            self.used -= self._values[key.protocol].remove(lease, now)
        elif self._tunnels.get(_tunnel(key)) is lease:
            del self._tunnels[_tunnel(key)]
            self.used -= 1


def _tunnel(key: NarTuple) -> tuple[int, int, int]:
    return int(key.protocol), key.value, int(key.remote or 0)
