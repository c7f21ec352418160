"""What the roles ask of a dataplane, in the drafts' own verbs. The kernel is one implementation."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from gateway.domain.child_sa import ChildSa
from gateway.domain.endpoint import Endpoint


@dataclass(frozen=True, slots=True)
class Refusal:
    """The dataplane could not do what was asked."""

    spi_in: int
    reason: str


@dataclass(frozen=True, slots=True)
class Usage:
    """Counters of one child SA."""

    bytes_in: int
    packets_in: int
    bytes_out: int
    packets_out: int
    last_in_age_s: float | None
    """Seconds since the last packet came in, None when none ever did or the kernel does not say."""


@dataclass(frozen=True, slots=True)
class EndpointSeen:
    """An authenticated packet of this SA came from an outer address that is not its own.

    ``proof`` says what authenticated it: ``"esp-in-udp mapping"`` or ``"esp icv, sequence N"``.
    """

    spi_in: int
    remote: Endpoint
    proof: str


@dataclass(frozen=True, slots=True)
class EndpointRejected:
    """A packet from a new outer address that proved nothing: forged, replayed or out of order."""

    spi_in: int
    remote: Endpoint
    reason: str


@dataclass(frozen=True, slots=True)
class SaExpired:
    """A byte or packet limit was reached; ``hard`` means the kernel removed the SA."""

    spi_in: int
    hard: bool


@dataclass(frozen=True, slots=True)
class TrafficWaiting:
    """A packet matched a trap policy (``reqid``) that has no SA yet."""

    reqid: int


@dataclass(frozen=True, slots=True)
class DataplaneTrouble:
    """Something is wrong with the dataplane itself."""

    text: str
    there: tuple[int, ...] | None = None
    """Inbound SPIs of the child SAs that it still has; None: all of them."""


DataplaneEvent = EndpointSeen | EndpointRejected | SaExpired | TrafficWaiting | DataplaneTrouble


class DataplaneUnavailableError(OSError):
    """The kernel or the process cannot do it; the text says what is missing."""


class Dataplane(Protocol):
    """Verbs queue work; :meth:`commit` does it in one batch. All calls return quickly."""

    def install_child_sa(self, sa: ChildSa, *, outbound: bool = True) -> None:
        """Add the inbound SA, and with ``outbound`` the outbound SA and its policies.

        A child SA that replaces another has the same ``reqid``: its policies stay in place.
        """

    def activate_outbound(self, spi_in: int) -> None:
        """Add the outbound half of an SA installed with ``outbound=False``."""

    def remove_child_sa(self, spi_in: int) -> None:
        """Remove both directions; policies go with the last SA of their reqid."""

    def move_child_sa(
        self, spi_in: int, local: Endpoint, remote: Endpoint, *, udp_encapsulation: bool
    ) -> None:
        """Give both directions new outer addresses; keys, counters and replay state stay."""

    def trap(self, sa: ChildSa) -> None:
        """Install policies without an SA: traffic for them raises :class:`TrafficWaiting`.

        Only ``reqid``, selectors and outer addresses of ``sa`` count.
        """

    def untrap(self, reqid: int) -> None:
        """Remove trap policies."""

    def commit(self) -> list[Refusal]:
        """Apply everything queued since the last commit; report what was refused."""

    def usage(self, spi_in: int) -> Usage | None:
        """Counters now, or None for an unknown SA."""

    def adopt(self, children: Sequence[tuple[ChildSa, bool]]) -> list[int]:
        """Take over what an earlier process left, before any other verb.

        ``children`` are the child SAs that there should be, without keys, and whether each one is
        used for sending. They stay as they are, keys, counters and replay state, and move to the
        addresses they have here. What else the earlier process installed is removed. Returns the
        inbound SPIs of those that are not there any more.
        """

    def close(self, *, keep: bool = False) -> None:
        """Remove everything this dataplane installed; or leave it to a process that adopts it."""
