"""Who may reach what, between the engine that decides and the dataplane that enforces."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Final

from gateway.domain.child_sa import IpNetwork
from gateway.domain.endpoint import IpAddress

Span = tuple[int, int]
"""First and last."""
ANY_PROTOCOL: Final[Span] = (0, 255)
ANY_PORT: Final[Span] = (0, 65_535)
EVERYWHERE: Final = (ip_network("0.0.0.0/0"), ip_network("::/0"))
WITH_PORTS: Final = frozenset({6, 17, 33, 132})
"""TCP, UDP, DCCP, SCTP."""


class Direction(enum.Enum):
    """Who opens the flow, and to whom."""

    TO_INSIDE = "to-inside"
    FROM_INSIDE = "from-inside"
    BETWEEN_DEVICES = "between-devices"
    TO_GATEWAY = "to-gateway"


@dataclass(frozen=True, slots=True, order=True)
class Box:
    """Flows: the other side, protocol, and port of the side that is connected to."""

    network: IpNetwork
    protocols: Span = ANY_PROTOCOL
    ports: Span = ANY_PORT

    def holds(self, address: IpAddress, protocol: int, port: int) -> bool:
        """Whether a flow is one of these."""
        return (
            address.version == self.network.version
            and self.protocols[0] <= protocol <= self.protocols[1]
            and self.ports[0] <= port <= self.ports[1]
            and address in self.network
        )


@dataclass(frozen=True, slots=True)
class RuleSet:
    """What some devices may do in one direction. The boxes of each kind do not overlap."""

    refuse: frozenset[Box] = frozenset()
    """Comes first."""
    allow: frozenset[Box] = frozenset()
    closed: bool = False
    """Nothing else is allowed."""
    helpers: Mapping[str, frozenset[Box]] = field(default_factory=dict)
    """For which flows a helper reads the payload, by its name; of each they do not overlap."""


@dataclass(frozen=True, slots=True)
class Placement:
    """A session in the filter."""

    addresses: tuple[IpAddress, ...]
    zone: int = 0
    """Not 0: addresses say nothing, the zone does (:class:`gateway.domain.remote_access.Grant`)."""
    rule_sets: Mapping[Direction, int] = field(default_factory=dict)
    """The numbers of the rule sets; directions without rules are not there."""
    up_kbit_s: int | None = None
    """From the device."""
    down_kbit_s: int | None = None
