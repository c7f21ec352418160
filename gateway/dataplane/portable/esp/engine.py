"""What a forwarder process does with ESP: packets in, packets and events out.

Nothing here raises for what is in a packet, and nothing but a packet whose ICV was right changes
what is known of an SA.
"""

import time
from collections.abc import Callable, Sequence
from typing import Final

from gateway.dataplane.interface import (
    DataplaneEvent,
    EndpointRejected,
    EndpointSeen,
    SaExpired,
    TrafficWaiting,
)
from gateway.dataplane.packet.ipv4 import congestion_marked
from gateway.dataplane.portable.esp.associations import Associations, Reqid
from gateway.dataplane.portable.esp.held_back import HeldBack
from gateway.dataplane.portable.esp.inbound import Inbound, content
from gateway.dataplane.portable.esp.inner import version_of
from gateway.dataplane.portable.esp.outbound import Outbound
from gateway.dataplane.portable.esp.outer import ESP, UDP
from gateway.dataplane.portable.esp.path_sizes import ALWAYS_FITS, Paths, PathSizes
from gateway.dataplane.portable.esp.transport import behind_nat, unwrapped
from gateway.dataplane.portable.packets import Delivery, Inner, Outer

REPEAT_S: Final = 1.0
"""The same news of an SA or a reqid are told again only after this time."""
MAPPING_PROOF: Final = "esp-in-udp mapping"
_VERSIONS: Final = {4: 4, 41: 6}
"""Of inner packets by the next header that says so."""
_DUMMY: Final = 59
_NOT_WHOLE: Final = 0x3FFF
_IPV6_HEADER: Final = 40
_ESP_HEADER: Final = 8

_Arrival = tuple[bytes, int, int, bytes, int, int]
"""A packet, where its ESP begins and ends, its source as an SA has it, its fwmark, and where its
IP header ends."""


class EspEngine(Associations):
    """Implements :class:`gateway.dataplane.portable.packets.Engine` for one link.

    ``random`` gives that many unpredictable octets. The lists are the caller's to empty.
    """

    def __init__(
        self,
        link: str,
        worker: int,
        workers: int,
        random: Callable[[int], bytes],
        *,
        now: float = 0.0,
        wall_clock: Callable[[], float] = time.time,
        paths: Paths | None = None,
    ) -> None:
        """Without ``paths`` no packet is too long for its tunnel."""
        super().__init__(worker, workers, random, wall_clock)
        self.link = link
        self.now = now
        self.sends: list[Outer] = []
        self.delivers: list[Delivery] = []
        self.handovers: list[tuple[int, bytes, int]] = []
        """Packets routed to the link that another process has to seal: its number, the packet,
        and its fwmark. There, :meth:`handed_over` takes them."""
        self.events: list[DataplaneEvent] = []
        self._held_back = HeldBack()
        self._sizes = PathSizes(paths)
        self.refused: dict[int, int] = {}
        """Packets that were no good by SPI, those of no SA as 0; the caller empties it."""
        self.counters: dict[str, int] = {}
        """Packets that were dropped, by why. Besides, with the names that the kernel dataplane has
        for them, what came from other addresses than the peer's."""

    def _count(self, why: str) -> None:
        self.counters[why] = self.counters.get(why, 0) + 1

    def _refuse(self, why: str, spi: int) -> None:
        self._count(why)
        self.refused[spi] = self.refused.get(spi, 0) + 1

    def advance(self, now: float) -> None:
        """See :meth:`gateway.dataplane.portable.packets.Engine.advance`."""
        self.now = now
        if self._held_back.due is not None:
            self.delivers += self._held_back.overdue(now)

    @property
    def due(self) -> float | None:
        """When to call :meth:`advance` if nothing else happens before; None: at any time."""
        return self._held_back.due

    def release(self, spi_in: int) -> None:
        """The SA has moved, its other half in another process too: what waited for that comes out.

        Any sooner, an answer could overtake the move and go to where the peer no longer is.
        """
        self.delivers += self._held_back.release(spi_in)

    def remove(self, spi_in: int) -> None:
        """See :meth:`gateway.dataplane.portable.forwarder.Forwarder.remove`."""
        super().remove(spi_in)
        self.delivers += self._held_back.release(spi_in)

    # -- out ---------------------------------------------------------------------------------

    def leaving(self, link: str, packets: Sequence[Inner]) -> None:
        """See :meth:`gateway.dataplane.portable.packets.Engine.leaving`."""
        if link == self.link:
            self._leaving(packets, hand_over=True)

    def handed_over(self, packets: Sequence[Inner]) -> None:
        """Packets that another process took for this one's. They are not passed on again."""
        self._leaving(packets, hand_over=False)

    def _leaving(self, packets: Sequence[Inner], *, hand_over: bool) -> None:
        find, sends, now = self._routing.find, self.sends, self.now
        for packet, mark in packets:
            version = version_of(packet)
            if not version:
                self._count("malformed_inner")
                continue
            reqid = find(packet, version, mark)
            if reqid is None:
                self._count("no_policy")
                continue
            sender = reqid.sender
            if sender is None:
                self._without_sender(reqid, packet, mark, hand_over=hand_over)
                continue
            if packet[sender.source_at] == sender.source and sender.has_sent(packet, version):
                self._count("loop")
                continue
            limits = sender.limits
            if limits.packets >= limits.packets_free or limits.octets >= limits.octets_free:
                self._outbound_limit(reqid, sender)
            if limits.hard:
                self._count("expired")
                continue
            out = mark if sender.mark is None else sender.mark
            if (now >= sender.limit_until or len(packet) > sender.limit) and not self._fits(
                sender, packet, version, out
            ):
                continue
            outer = sender.seal(packet, version)
            if outer is None:
                self._count("unsealable")
                continue
            sends.append((outer, out))

    def _fits(self, sender: Outbound, packet: bytes, version: int, mark: int) -> bool:
        """Whether it can be sent; otherwise its sender is told."""
        if len(packet) <= ALWAYS_FITS:
            return True
        if self.now >= sender.limit_until:
            self._sizes.look_up(sender, mark, self.now)
        if self._sizes.fits(packet, version, sender.limit):
            return True
        self._count("too_long")
        told = self._sizes.error(packet, version, sender.limit, self.now)
        if told is not None:
            self.sends.append((told, 0))
        return False

    def narrowed(self, remote: bytes) -> bool:
        """A packet to this outer address did not fit: whether that is news, and known from now on.

        Looks at all SAs, so not more often than :data:`.path_sizes.SEARCHES_PER_S`.
        """
        if not self._sizes.may_search(self.now):
            return False
        found = False
        for reqid in self._reqids.values():
            sender = reqid.sender
            if sender is not None and sender.remote.address.packed == remote:
                found = self._sizes.narrowed(sender, self.now) or found
        return found

    def _without_sender(self, reqid: Reqid, packet: bytes, mark: int, *, hand_over: bool) -> None:
        sending = reqid.sending
        if hand_over and sending is not None and sending.owner != self.worker:
            self.handovers.append((sending.owner, packet, mark))
            return
        self._count("no_sa")
        if reqid.trap is not None and self.now - reqid.told_at >= REPEAT_S:
            reqid.told_at = self.now
            self.events.append(TrafficWaiting(reqid.reqid))

    def _outbound_limit(self, reqid: Reqid, sender: Outbound) -> None:
        hard = sender.limits.reached()
        if hard is not None:
            self.events.append(SaExpired(sender.spi_in, hard))
        if sender.limits.hard:
            reqid.sender = None

    # -- in ----------------------------------------------------------------------------------

    def arrived(self, packets: Sequence[Outer]) -> None:
        """See :meth:`gateway.dataplane.portable.packets.Engine.arrived`."""
        halves = self._inbound
        for packet, mark in packets:
            size = len(packet)
            if size < 28:
                self._count("malformed_outer")
                continue
            if packet[0] >> 4 == 4:
                start = (packet[0] & 15) * 4
                end = packet[2] << 8 | packet[3]
                protocol = packet[9]
                source, local = packet[12:16], packet[16:20]
                whole = not (packet[6] << 8 | packet[7]) & _NOT_WHOLE
            else:
                start, end = _IPV6_HEADER, _IPV6_HEADER + (packet[4] << 8 | packet[5])
                protocol = packet[6]
                source, local = packet[8:24], packet[24:40]
                whole = packet[0] >> 4 == 6
            ip_end = start
            if protocol == UDP and start + 16 <= end <= size:
                source += packet[start : start + 2]
                end = min(end, start + (packet[start + 4] << 8 | packet[start + 5]))
                start += 8
            elif protocol != ESP:
                whole = False
            if not whole or start < 20 or not start + _ESP_HEADER <= end <= size:
                self._count("malformed_outer")
                continue
            half = halves.get(packet[start : start + 4])
            if half is None or half.local != local:
                self._refuse("unknown_spi", 0)
            elif half.udp != (protocol == UDP):
                self._refuse("wrong_encapsulation", half.spi_in)
            else:
                self._open(half, (packet, start, end, source, mark, ip_end))

    def _open(self, half: Inbound, arrival: _Arrival) -> None:
        packet, start, end, source, _, _ = arrival
        window = half.window
        low = int.from_bytes(packet[start + 4 : start + 8], "big")
        number = window.full(low)
        if number < 0:
            self._refuse("replayed", half.spi_in)
            if source != half.source:
                self._reject(half, source, "late", _late(low, window.highest))
            return
        elsewhere = source != half.source
        if elsewhere and source != half.claimed and not half.budget.take(source, self.now):
            self._refuse("unchecked", half.spi_in)
            self._reject(half, source, "unchecked", "too many packets to check")
            return
        limits = half.limits
        if limits.packets >= limits.packets_free or limits.octets >= limits.octets_free:
            self._inbound_limit(half)
        if limits.hard:
            self._count("expired")
            return
        if end - start < half.shortest:
            plain = None
        else:
            plain = half.cipher.open(packet, start, end, number)
        if plain is None:
            self._refuse("forged", half.spi_in)
            if elsewhere:
                half.budget.suspect(source)
                self._reject(half, source, "forged", "integrity check failed")
            return
        if elsewhere:
            self._proven_elsewhere(half, source, number, low)
        window.accept(number)
        half.last_at = self.now
        limits.packets += 1
        payload = content(plain)
        if payload is None:
            self._count("wrong_padding")
            return
        limits.octets += len(payload)
        self._deliver(half, payload, plain[-1], arrival)

    def _deliver(self, half: Inbound, payload: bytes, next_header: int, arrival: _Arrival) -> None:
        """Give out what was in a packet if the SA's selectors allow it."""
        if next_header == _DUMMY:
            return
        packet, _, _, source, mark, ip_end = arrival
        if half.transport:
            if half.udp:
                ends = packet[12:20] if packet[0] >> 4 == 4 else packet[8:40]
                payload = behind_nat(payload, next_header, ends)
            inner = unwrapped(packet, ip_end, payload, next_header)
            version = version_of(inner)
        else:
            inner, version = payload, version_of(payload)
            if version != _VERSIONS.get(next_header):
                version = 0
        if not version:
            self._count("malformed_inner")
            return
        if not half.guard.allows(inner, version):
            self._count("selectors")
            return
        outside = packet[1] if packet[0] >> 4 == 4 else packet[1] >> 4
        if outside & 3 == 3 and not half.transport:
            inner = _congested(inner, version)
        delivery = self.link, inner, mark if half.mark is None else half.mark
        if not (half.waits and source == half.claimed and self._waits(half, delivery)):
            self.delivers.append(delivery)

    def _waits(self, half: Inbound, delivery: Delivery) -> bool:
        half.waits = self._held_back.keep(half.spi_in, delivery)
        return half.waits

    def _inbound_limit(self, half: Inbound) -> None:
        hard = half.limits.reached()
        if hard is not None:
            self.events.append(SaExpired(half.spi_in, hard))

    # -- packets from elsewhere --------------------------------------------------------------

    def _proven_elsewhere(self, half: Inbound, source: bytes, number: int, low: int) -> None:
        """The peer has sent this packet from another address, and may be there now."""
        highest = half.window.highest
        if number <= highest:
            if half.udp:
                self._count("late_mappings")
            reason = "the packet was late" if half.udp else _late(low, highest)
            self._reject(half, source, "late", reason)
            return
        fresh = source != half.claimed
        if fresh:
            half.claimed = source
            if half.watched and not half.udp:
                self._count("slow_path_proven")
        if half.tells and half.may_tell(source, self.now, REPEAT_S):
            proof = MAPPING_PROOF if half.udp else f"esp icv, sequence {number}"
            self.events.append(EndpointSeen(half.spi_in, half.endpoint(source), proof))
            if fresh:
                half.waits = True
                self._held_back.begin(half.spi_in, self.now)

    def _reject(self, half: Inbound, source: bytes, what: str, reason: str) -> None:
        """Tell of a packet that moves nothing. It is counted as the kernel's slow path does."""
        if half.watched and not half.udp:
            self._count(f"slow_path_{what}")
        if half.tells and half.budget.rejections.take(self.now):
            endpoint = half.endpoint(source)
            self.events.append(EndpointRejected(half.spi_in, endpoint, reason))


def _late(low: int, highest: int) -> str:
    return f"sequence {low} is not above {highest & 0xFFFFFFFF}"


def _congested(inner: bytes, version: int) -> bytes:
    """With the congestion mark of the outer header; as it is where its sender knows of none.

    RFC 6040 would drop that one; the kernel does not.
    """
    if version == 4:
        return congestion_marked(inner) or inner
    if not inner[1] & 0x30:
        return inner
    return inner[:1] + bytes((inner[1] | 0x30,)) + inner[2:]
