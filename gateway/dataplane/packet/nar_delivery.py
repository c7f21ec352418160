"""Packets of NAR on their way out: to clients, to the outside, and what senders are told."""

from collections import Counter
from dataclasses import dataclass

from gateway.dataplane.packet import fragments, icmp, ipv4, nar_marks, nar_tunnel
from gateway.dataplane.packet.fragments import FragmentationNeededError
from gateway.dataplane.packet.nar_tables import ClientEnd, Entry
from gateway.dataplane.packet.nar_translate import to_client
from gateway.dataplane.packet.outbound import ERRORS_PER_S, Send
from gateway.domain.nar import Delivery
from gateway.domain.token_bucket import TokenBucket


@dataclass(slots=True)
class NarSend(Send):
    """A packet to send, and what is to be known when it turns out not to fit."""

    about: bytes = b""
    """As it came, for errors; empty for errors of ours."""
    entry: Entry | None = None
    outward: bool = False
    """From the client."""


class NarDelivery:
    """Makes what is to be sent of a packet and its mapping. ``identification``: where to start."""

    def __init__(self, counters: Counter[str], mtu: int, identification: int) -> None:
        self._counters = counters
        self._identification = identification & 0xFFFF
        self._icmp = TokenBucket(ERRORS_PER_S, ERRORS_PER_S)
        self.mtu = mtu
        """The longest packet in IP-in-IP when no router has said otherwise."""
        self.now = 0.0
        """Seconds."""
        self.l2tp_devices: dict[bytes, int] = {}
        """Interface indexes by client."""
        self.sends: list[NarSend] = []

    def deliver(self, entry: Entry, octets: bytes) -> None:
        """Send a packet from outside to the client of its mapping."""
        if octets[8] <= 1:
            self._counters["ttl_exceeded"] += 1
            self.tell_outside(entry, octets, icmp.TIME_EXCEEDED, 0)
            return
        if entry.mapping.delivery is Delivery.TRANSLATED:
            made = to_client(ipv4.decremented(octets), entry)
            self.sends.append(NarSend(made, nar_marks.SENT, 0, octets, entry))
        else:
            self.into_tunnel(entry, octets)

    def into_tunnel(self, entry: Entry, octets: bytes) -> None:
        """Encapsulate for the client, in pieces where it has to be; with one less TTL."""
        end, delivery = entry.end, entry.mapping.delivery
        longest = nar_tunnel.limit(end, delivery, self.mtu, self.now)
        inner = ipv4.decremented(octets)
        if len(inner) <= longest:
            self.wrap(end, delivery, inner, octets, entry)
            return
        try:
            pieces = fragments.fragment(inner, longest)
        except FragmentationNeededError:
            self._counters["too_long"] += 1
            kind = icmp.DESTINATION_UNREACHABLE
            self.tell_outside(entry, octets, kind, icmp.FRAGMENTATION_NEEDED, longest)
            return
        self._counters["fragmented"] += 1
        for piece in pieces:
            self.wrap(end, delivery, piece, octets, entry)

    def wrap(
        self,
        end: ClientEnd,
        delivery: Delivery,
        inner: bytes,
        about: bytes = b"",
        entry: Entry | None = None,
    ) -> None:
        """Send a packet in the client's tunnel as it is."""
        device = 0
        if delivery is Delivery.L2TP:
            device = self.l2tp_devices.get(end.address, 0)
            if not device:
                self._counters["no_l2tp_session"] += 1
                return
        self._identification = identification = self._identification + 1 & 0xFFFF
        made = nar_tunnel.wrap(end, delivery, inner, identification)
        self.sends.append(NarSend(made, nar_marks.SENT, device, about, entry))

    def outward(self, entry: Entry, octets: bytes, made: bytes) -> None:
        """Send what a client sends on: ``octets`` is its packet, ``made`` as others see it."""
        if octets[8] <= 1:
            self._counters["ttl_exceeded"] += 1
            self.tell_client(entry, octets, icmp.TIME_EXCEEDED, 0)
            return
        self._counters["sent"] += 1
        made = ipv4.decremented(made)
        self.sends.append(NarSend(made, nar_marks.SENT, 0, octets, entry, outward=True))

    def tell_outside(self, entry: Entry, about: bytes, kind: int, code: int, mtu: int = 0) -> None:
        """An ICMP error from Nb about a packet on its way to the client."""
        made = self._error(entry.address, about, kind, code, mtu)
        if made is not None:
            self.sends.append(NarSend(made, nar_marks.SENT))

    def tell_client(self, entry: Entry, about: bytes, kind: int, code: int, mtu: int = 0) -> None:
        """An ICMP error from Na: the client would not believe one of its own address."""
        made = self._error(entry.end.local, about, kind, code, mtu)
        if made is None:
            return
        if entry.mapping.delivery is Delivery.TRANSLATED:
            self.sends.append(NarSend(made, nar_marks.SENT))
        else:
            self.wrap(entry.end, entry.mapping.delivery, made)

    def _error(self, source: bytes, about: bytes, kind: int, code: int, mtu: int) -> bytes | None:
        made = icmp.error(source, about, kind, code, mtu)
        if made is None:
            return None
        if not self._icmp.take(self.now):
            self._counters["errors_not_sent"] += 1
            return None
        self._counters["errors_sent"] += 1
        return made

    def too_long(self, one: NarSend, mtu: int) -> None:
        """It does not fit the link: in pieces then, or its sender is told.

        Raises :class:`~gateway.domain.wire.WireError`.
        """
        self._counters["too_long"] += 1
        entry = one.entry
        if entry is None:
            return
        delivery = entry.mapping.delivery
        tunnelled = delivery.end_to_end and not one.outward
        overhead = nar_tunnel.overhead_octets(delivery) if tunnelled else 0
        try:
            pieces = fragments.fragment(one.octets[overhead:], mtu - overhead)
        except FragmentationNeededError:
            tell = self.tell_client if one.outward else self.tell_outside
            kind = icmp.DESTINATION_UNREACHABLE
            tell(entry, one.about, kind, icmp.FRAGMENTATION_NEEDED, mtu - overhead)
            return
        if len(pieces) == 1:
            return
        for piece in pieces:
            if tunnelled:
                self.wrap(entry.end, delivery, piece)
            else:
                self.sends.append(NarSend(piece, one.mark, one.device))
