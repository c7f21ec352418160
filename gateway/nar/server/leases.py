"""A lease: one mapping, who has it, and how mappings can be in each other's way."""

import enum
from typing import TYPE_CHECKING

from gateway.domain.nar import NarMapping, NarProtocol, NarTuple

if TYPE_CHECKING:
    from gateway.nar.server.sessions import Session


class Openness(enum.IntEnum):
    """How much of a value (a port, an identifier, an SPI) a tuple takes for itself."""

    EXACT = 0
    """One remote only: others may have the same value with another remote."""
    FROM_ONE = 1
    """TCP from any port of one remote, or an SPI of ESP or AH: only the same client may have the
    value beside it, for another remote or the other protocol."""
    FROM_ANY = 2
    """All of the value."""


class Lease:
    """One mapping of one session. Nothing else refers to it than its session and its space."""

    __slots__ = ("held", "mapping", "number", "opened_wall_s", "session")

    def __init__(
        self, session: "Session", number: int, mapping: NarMapping, opened_wall_s: float
    ) -> None:
        self.session = session
        self.number = number
        """Within its session, never used again there."""
        self.mapping = mapping
        self.opened_wall_s = opened_wall_s
        self.held = False
        """The port is outside the server's ranges and kept from the box's own sockets."""


def claim(key: NarTuple) -> tuple[Openness, int]:
    """What a tuple takes of its value: how much, and which remote (of SPIs: protocol) as a number.

    Tuples of the same kind, address and value with different numbers have no packet in common, if
    none is FROM_ANY (draft 004, section 2.6).
    """
    protocol = key.protocol
    if protocol is NarProtocol.TCP:
        if key.remote is None:
            return Openness.FROM_ANY, 0
        if key.remote_port is None:
            return Openness.FROM_ONE, int(key.remote)
        return Openness.EXACT, int(key.remote) << 16 | key.remote_port
    if protocol is NarProtocol.UDP:
        if key.remote_port is None:
            return Openness.FROM_ANY, 0
        return Openness.EXACT, key.remote_port
    if protocol is NarProtocol.ICMP and key.remote is not None:
        return Openness.EXACT, int(key.remote)
    return Openness.FROM_ONE, int(protocol)
