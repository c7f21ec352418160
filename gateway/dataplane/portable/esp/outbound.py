"""The sending half of a child SA."""

import math
import struct
from collections.abc import Callable
from typing import Final

from gateway.dataplane.packet.esp_keyed import keyed
from gateway.dataplane.portable.esp.limits import Limits
from gateway.dataplane.portable.esp.outer import ESP, UDP, outer_of
from gateway.dataplane.portable.esp.state import OutboundState
from gateway.dataplane.portable.esp.transport import TransportOuter, upper_layer_of
from gateway.domain.child_sa import ChildSa, Mode
from gateway.domain.endpoint import Endpoint

_HEADER = struct.Struct("!4sI")
_LOW: Final = 0xFFFFFFFF
_NEXT_HEADER: Final = {4: 4, 6: 41}
_SOURCE_AT: Final = {4: slice(12, 16), 6: slice(8, 24)}


def trailer(octets: int, block: int, next_header: int) -> bytes:
    """Padding, pad length and next header of a payload (RFC 4303 section 2.4)."""
    padding = -(octets + 2) % block
    return bytes(range(1, padding + 1)) + bytes((padding, next_header))


class Outbound:
    """Seals packets. Sequence numbers and IVs never repeat, moved or not."""

    NO_LIMIT: Final = 1 << 16

    __slots__ = (
        "_block",
        "_cipher",
        "_counted",
        "_mask",
        "_outer",
        "_port",
        "_random",
        "_spi",
        "_trailers",
        "keys",
        "limit",
        "limit_until",
        "limits",
        "local",
        "mark",
        "output_mark",
        "remote",
        "sequence",
        "source",
        "source_at",
        "spi_in",
        "suite",
        "transport",
        "udp",
    )

    def __init__(self, sa: ChildSa, before: OutboundState, random: Callable[[int], bytes]) -> None:
        """Raises :class:`ValueError` for keys that are none of the suite."""
        self.keys = sa.keys_out
        self._cipher = keyed(sa.suite, sa.keys_out)
        self._block = self._cipher.block
        self._spi = sa.spi_out.to_bytes(4, "big")
        self._random = random
        self._counted = sa.suite.encryption.is_aead
        self._mask = before.iv_mask or int.from_bytes(random(8), "big")
        """So that an SA that is installed once more with the same keys has other IVs."""
        self._trailers = {
            version: tuple(trailer(rest, self._block, protocol) for rest in range(self._block))
            for version, protocol in _NEXT_HEADER.items()
        }
        self.suite = sa.suite
        self.transport = sa.mode is Mode.TRANSPORT
        self.spi_in = sa.spi_in
        self.sequence = before.sequence
        """The number of the last packet."""
        self.limits = Limits(sa, before.carried)
        self.output_mark = output_mark = before.output_mark
        self.mark = output_mark if output_mark or sa.zone or sa.vpn_fa else None
        """The fwmark of what is sent; None is that of the inner packet. Marks that routed it here,
        of a zone or by the foreign agent, are none for the way out."""
        self.move(sa.local, sa.remote, udp=sa.udp_encapsulation)

    def move(self, local: Endpoint, remote: Endpoint, *, udp: bool) -> None:
        """Send between these from now on."""
        self.local, self.remote, self.udp = local.address, remote, udp
        self.source = local.address.packed
        self.source_at = _SOURCE_AT[local.address.version]
        """Where it is in the packets that are sent."""
        self._port = local.port.to_bytes(2, "big")
        self.limit = self.NO_LIMIT
        """Octets of the largest inner packet that fits; longer ones may have to be cut up."""
        self.limit_until = -math.inf
        """How long to believe that."""
        self._outer = (
            TransportOuter(local, remote, udp=udp)
            if self.transport
            else outer_of(local, remote, udp=udp)
        )

    def has_sent(self, packet: bytes, version: int) -> bool:
        """Whether a packet from :attr:`source` looks like one of our own ESP packets.

        Their way then leads into the tunnel, and each of them would be sealed again, for ever.
        """
        if version != self.local.version:
            return False
        protocol, at = (packet[9], (packet[0] & 15) * 4) if version == 4 else (packet[6], 40)
        if self.udp and protocol == UDP:
            return packet[at : at + 2] == self._port
        return protocol == ESP

    def state(self) -> OutboundState:
        """What another half needs to go on from here."""
        return OutboundState(self.sequence, self._mask, self.output_mark, self.limits.carried)

    def seal(self, packet: bytes, version: int) -> bytes | None:
        """The packet for the wire; None when it would be too long, or is a fragment.

        The caller has seen to :attr:`limits`, which end before the sequence numbers do.
        """
        if self.transport:
            found = upper_layer_of(packet, version)
            if found is None:
                return None
            payload, next_header = found
            plain = payload + trailer(len(payload), self._block, next_header)
        else:
            plain = packet + self._trailers[version][len(packet) % self._block]
        self.sequence = sequence = self.sequence + 1
        iv = (sequence ^ self._mask).to_bytes(8, "big") if self._counted else self._random(16)
        header = _HEADER.pack(self._spi, sequence & _LOW)
        sealed = self._cipher.seal(header, sequence, iv, plain)
        limits = self.limits
        limits.packets += 1
        limits.octets += len(packet)
        return self._outer.wrap(packet, version, header, sealed)
