"""A lease that a program of this host holds."""

from dataclasses import dataclass
from ipaddress import IPv4Address

from gateway.domain.nar import NarTuple
from gateway.nar.client_outputs import Lease


@dataclass(slots=True, eq=False)
class HeldLease:
    """A lease as it is now: Nb may change while it is held."""

    ticket: int
    lease: Lease
    ended: str = ""
    """Why it is ours no longer; empty while it is."""

    @property
    def tuple(self) -> NarTuple:
        """What incoming packets have in common (draft 004, section 2.6)."""
        return self.lease.tuple

    @property
    def address(self) -> IPv4Address:
        """Nb."""
        return self.lease.tuple.address

    @property
    def value(self) -> int:
        """The port, identifier, SPI or inner address that was leased."""
        return self.lease.tuple.value

    @property
    def local_port(self) -> int:
        """TCP, UDP: the port that a program here binds to."""
        return self.lease.local_port
