"""Packets on their way into tunnels, and what their senders are told when they do not fit."""

from collections import Counter
from dataclasses import dataclass
from typing import Final

from gateway.dataplane.packet import fragments, icmp, marks
from gateway.dataplane.packet.fragments import FragmentationNeededError
from gateway.dataplane.packet.mobility_tables import Guest, Home
from gateway.dataplane.packet.tunnel_errors import TunnelErrors
from gateway.domain.token_bucket import TokenBucket

ERRORS_PER_S: Final = 200.0
"""ICMP errors of ours (RFC 1812 section 4.3.2.8)."""


@dataclass(slots=True)
class Send:
    """A packet to send."""

    octets: bytes
    mark: int
    device: int = 0
    """Interface index of the link to send it on; 0: as it is routed."""


class Outbound:
    """Encapsulates, fragmenting before where needed."""

    def __init__(self, errors: TunnelErrors, counters: Counter[str], identification: int) -> None:
        self._errors = errors
        self._identification = identification & 0xFFFF
        self._icmp = TokenBucket(ERRORS_PER_S, ERRORS_PER_S)
        self.counters = counters
        self.now = 0.0
        """Seconds."""
        self.sends: list[Send] = []

    def next_identification(self) -> int:
        """For the next outer header."""
        self._identification = self._identification + 1 & 0xFFFF
        return self._identification

    def tunnel(
        self, owner: Home | Guest, inner: bytes, nesting: int, *, quiet: bool = False
    ) -> None:
        """Send a packet through all tunnels of a binding, or the one of a visitor.

        ``quiet``: its sender is told nothing, because it was for many.
        """
        if inner[8] == 0:
            self.counters["ttl_zero"] += 1
            return
        mark = marks.SENT + 1 + nesting
        limit = owner.limit_octets
        for end in owner.ends:
            if self._errors.states:
                limit = self._errors.limit(end, owner.limit_octets, self.now)
                if self._errors.take_unreachable(end, self.now) and not quiet:
                    self.tell(owner, inner, icmp.HOST_UNREACHABLE)
            if len(inner) <= limit:
                self._identification = identification = self._identification + 1 & 0xFFFF
                self.sends.append(Send(end.wrap(inner, identification), mark))
                self.counters["encapsulated"] += 1
                continue
            try:
                pieces = fragments.fragment(inner, limit)
            except FragmentationNeededError:
                self.counters["too_long"] += 1
                if not quiet:
                    self.tell(owner, inner, icmp.FRAGMENTATION_NEEDED, limit)
                continue
            self.counters["fragmented"] += 1
            for piece in pieces:
                self.sends.append(Send(end.wrap(piece, self.next_identification()), mark))
            self.counters["encapsulated"] += len(pieces)

    def tell(self, owner: Home | Guest, inner: bytes, code: int, mtu: int = 0) -> None:
        """ICMP "destination unreachable" to the sender of what was, or should be, in a tunnel."""
        if isinstance(owner, Guest):
            # Visitors are only reached by the routes that the mark chooses.
            source, mark = owner.care_of, marks.DELIVER
        else:
            source, mark = owner.agent, marks.SENT + 1
        made = icmp.error(source, inner, icmp.DESTINATION_UNREACHABLE, code, mtu)
        if made is None:
            return
        if not self._icmp.take(self.now):
            self.counters["errors_not_sent"] += 1
            return
        self.counters["errors_sent"] += 1
        self.sends.append(Send(made, mark))
