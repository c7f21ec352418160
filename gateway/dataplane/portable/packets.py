"""What passes between the engines of a forwarder and the sockets around them."""

from collections.abc import Sequence
from typing import Protocol

Inner = tuple[bytes, int]
"""A whole IP packet on a link of ours, its checksums complete, and its fwmark."""
Outer = tuple[bytes, int]
"""A whole IP packet from or for the wire, IPv4 or IPv6, never a fragment, and its fwmark.

Of what arrives the kernel has checked addresses and header. Of what is sent the kernel fills in
IPv4's identification and header checksum; the wire cuts it up where it does not fit."""

Delivery = tuple[str, bytes, int]
"""The link that a packet comes out of, the packet, and its fwmark."""


class Engine(Protocol):
    """Takes batches of packets, and says what becomes of them. Raises nothing for their sake."""

    sends: list[Outer]
    """To the wire, in order; the caller empties it."""

    delivers: list[Delivery]
    """Out of our links, in order; the caller empties it."""

    def advance(self, now: float) -> None:
        """Tell the time in seconds of a clock that only goes forward, once for each batch."""

    def leaving(self, link: str, packets: Sequence[Inner]) -> None:
        """Packets that were routed to the link."""

    def arrived(self, packets: Sequence[Outer]) -> None:
        """Packets from the wire that the engine asked for."""
