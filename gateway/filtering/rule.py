"""A rule, as boxes of flows."""

import enum
from dataclasses import dataclass, field
from ipaddress import collapse_addresses
from itertools import product
from typing import Final

from gateway.domain.child_sa import IpNetwork
from gateway.domain.filtering import (
    ANY_PORT,
    ANY_PROTOCOL,
    EVERYWHERE,
    WITH_PORTS,
    Box,
    Direction,
    Span,
)

MAX_BOXES: Final = 4096
"""Of one rule: networks times protocols times spans of ports, once those that touch are merged."""
TimeOfWeek = tuple[frozenset[int], int, int]
"""Days (0 is Monday), minute of the day from which, and up to which."""


class Action(enum.Enum):
    """What a rule does with its flows."""

    ALLOW = "allow"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule; see :class:`gateway.config.remote_access.RuleSection`."""

    name: str
    action: Action = Action.ALLOW
    direction: Direction = Direction.TO_INSIDE
    networks: tuple[IpNetwork, ...] = ()
    protocols: tuple[int, ...] = ()
    ports: tuple[Span, ...] = ()
    times: tuple[TimeOfWeek, ...] = ()
    helper: str | None = None
    log: bool = False
    users: frozenset[str] = field(default=frozenset())
    groups: frozenset[str] = field(default=frozenset())
    devices: frozenset[str] = field(default=frozenset())

    def in_force(self, day: int, minute: int) -> bool:
        """Whether it is on that day of the week (0 is Monday), at that minute of the day."""
        return not self.times or any(
            day in days and first <= minute < last for days, first, last in self.times
        )


def merged(spans: tuple[Span, ...]) -> list[Span]:
    """The same numbers in as few spans as possible, in order."""
    found: list[Span] = []
    for first, last in sorted(spans):
        if found and first <= found[-1][1] + 1:
            found[-1] = found[-1][0], max(found[-1][1], last)
        else:
            found.append((first, last))
    return found


def merged_networks(networks: tuple[IpNetwork, ...]) -> list[IpNetwork]:
    """The same addresses in as few networks as possible."""
    if not networks:
        return [*EVERYWHERE]
    v4 = collapse_addresses(network for network in networks if network.version == 4)
    v6 = collapse_addresses(network for network in networks if network.version == 6)
    return [*v4, *v6]


def _services(rule: Rule) -> list[tuple[Span, Span]]:
    """Protocols and ports. Ports without protocols are those of TCP and UDP."""
    if not rule.ports:
        spans = merged(tuple((one, one) for one in rule.protocols)) or [ANY_PROTOCOL]
        return [(span, ANY_PORT) for span in spans]
    protocols = [one for one in rule.protocols if one in WITH_PORTS]
    protocols = protocols if rule.protocols else [6, 17]
    spans = merged(tuple((one, one) for one in protocols))
    return list(product(spans, merged(rule.ports)))


def boxes(rule: Rule) -> list[Box]:
    """Its flows; they do not overlap. Raises ValueError beyond :data:`MAX_BOXES`."""
    networks, services = merged_networks(rule.networks), _services(rule)
    count = len(networks) * len(services)
    if count > MAX_BOXES:
        raise ValueError(
            f"{len(networks)} networks with {len(services)} protocols and spans of ports are"
            f" {count} entries; give at most {MAX_BOXES}: fewer ports, or several rules"
        )
    return [Box(network, *service) for network in networks for service in services]
