"""The forwarder as its clients see it: what the kernel is to the kernel dataplane."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from gateway.dataplane.interface import DataplaneEvent, Refusal, Usage
from gateway.dataplane.portable.tunnel_link import TunnelLink
from gateway.domain.child_sa import ChildSa
from gateway.domain.endpoint import Endpoint


class ForwarderUnavailableError(OSError):
    """The forwarder cannot be started or does not answer; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class HeldSa:
    """A child SA as the forwarder has it. Its keys stay there."""

    sa: ChildSa
    """With empty keys, and the addresses that it has now."""
    outbound: bool
    """Whether it is used for sending."""
    soft_limit_reached: bool


@dataclass(frozen=True, slots=True)
class RefusedTunnel:
    """A tunnel link that could not be made."""

    name: str
    reason: str


class Forwarder(Protocol):
    """Verbs queue work; :meth:`commit` does it, one exchange for each process of the forwarder.

    Whatever asks the forwarder raises :class:`ForwarderUnavailableError` when it is gone; its
    answers take no longer than :data:`ANSWER_S`.
    """

    def install(self, sa: ChildSa, *, outbound: bool, output_mark: int = 0) -> None:
        """Add the inbound half and with ``outbound`` the other one; the keys go along at once.

        ``output_mark`` is the fwmark of what is sent, 0 leaves that of the inner packet (of a
        zone: none). What comes out inbound has ``marks.FROM_DEVICE | zone``, or without a zone
        the mark of the outer packet.
        """

    def activate(self, spi_in: int) -> None:
        """Send with this SA from now on. Others of its reqid only receive any more."""

    def remove(self, spi_in: int) -> None:
        """Forget both halves and the keys. Unknown ones are fine."""

    def move(
        self, spi_in: int, local: Endpoint, remote: Endpoint, *, udp_encapsulation: bool
    ) -> None:
        """Other outer addresses; keys, counters, sequence numbers and replay window stay."""

    def trap(self, sa: ChildSa) -> None:
        """Traffic for these selectors without an SA of the reqid is an event."""

    def untrap(self, reqid: int) -> None:
        """Reverse of :meth:`trap`."""

    def set_tunnel(self, link: TunnelLink) -> None:
        """Serve a tunnel link, whose interface there is, or serve it in another way."""

    def remove_tunnel(self, name: str) -> None:
        """Serve it no more; the interface is the caller's to delete."""

    def commit(self) -> tuple[list[Refusal], list[RefusedTunnel]]:
        """Carry out what was queued, in order. An SA that is refused is not there at all."""

    def held(self) -> Sequence[HeldSa]:
        """Every child SA that the forwarder has."""

    def tunnels(self) -> Sequence[TunnelLink]:
        """Every tunnel link that it serves."""

    def usage(self, spi_in: int) -> Usage | None:
        """Counters of both halves, or None for an unknown SA."""

    def before_move(self, spi_in: int) -> tuple[int, float | None] | None:
        """Packets in and the time of the last one (wall clock) when it moved last, or None."""

    def counters(self) -> dict[str, int]:
        """Packets by what became of them, all processes together."""

    def event_fds(self) -> list[int]:
        """When one is readable, call :meth:`read_events`."""

    def read_events(self) -> list[DataplaneEvent]:
        """A bounded amount of what happened."""

    def close(self, *, keep: bool) -> None:
        """End the forwarder, or leave it to the next process of ours."""


ANSWER_S = 2.0
"""A forwarder that has not answered for so long is taken for gone."""
