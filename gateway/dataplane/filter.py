"""The dataplane's verbs for who may reach what."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from gateway.domain.endpoint import IpAddress
from gateway.domain.filtering import Box, Direction, Placement, RuleSet, Span


@dataclass(frozen=True, slots=True)
class GatewayServices:
    """What of the gateway devices reach without rules."""

    protocols: frozenset[int] = frozenset()
    """All of these IP protocols."""
    ports: frozenset[tuple[int, Span]] = frozenset()
    """Protocol and ports."""
    everything: bool = False


@dataclass(frozen=True, slots=True)
class Count:
    """What was counted."""

    packets: int = 0
    octets: int = 0

    def __add__(self, other: "Count") -> "Count":
        return Count(self.packets + other.packets, self.octets + other.octets)


@dataclass(frozen=True, slots=True)
class DeviceUsage:
    """Traffic of a device, since it was placed."""

    from_device: Count
    """That passed the rules."""
    to_device: Count
    refused: int
    """Packets of either direction."""


@dataclass(frozen=True, slots=True)
class RefusedPacket:
    """One that was refused, of those that are logged."""

    direction: Direction
    source: IpAddress
    destination: IpAddress
    protocol: int
    port: int
    """Of the destination; 0 where there is none."""
    zone: int = 0


class FilterDataplane(Protocol):
    """Enforces rule sets. Verbs are queued; :meth:`commit` carries them out."""

    def open(self) -> None:
        """Adopt or make what enforces, after :meth:`configure`. Raises OSError."""

    def define(self, number: int, rule_set: RuleSet) -> None:
        """There is a rule set, or it says something else now: only the difference is changed."""

    def undefine(self, number: int) -> None:
        """Nobody is under it any more."""

    def place(self, session: str, placement: Placement) -> None:
        """A session is in, or is under other rule sets now."""

    def displace(self, session: str) -> None:
        """It is over."""

    def configure(
        self,
        services: GatewayServices,
        *,
        isolate: bool,
        rules: bool,
        helpers: frozenset[str] = frozenset(),
    ) -> None:
        """What holds without rules; with ``rules`` there may be some, with these ``helpers``."""

    def commit(self) -> list[str]:
        """Do it; returns what the kernel refused."""

    def settle(self) -> list[str]:
        """All who were in before are placed: remove what an earlier process left besides."""

    def counts(self) -> Mapping[tuple[int, Box], Count]:
        """Of every entry of the rule sets. Blocks; may be called in a thread."""

    def usage(self, placement: Placement) -> DeviceUsage:
        """Of one device."""

    def refused(self) -> list[RefusedPacket]:
        """What was refused since the last call, a bounded amount of it."""

    def fileno(self) -> int:
        """Readable when :meth:`refused` has something."""

    def counters(self) -> Mapping[str, int]:
        """Packets by what became of them."""

    def close(self, *, keep: bool) -> None:
        """End; with ``keep`` the kernel goes on enforcing."""
