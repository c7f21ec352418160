"""Address switching: a packet keeps its content and gets other addresses (draft 001, appendix D).

    packet of the mobile node    care-of address -> home agent      on the way there
                                 home address -> destination        after the home agent

and the same backwards. Checksums that cover the addresses are changed with them.
"""

from typing import Final

from gateway.domain.checksum import difference, updated
from gateway.domain.mobility import MIP_PORT

_NOT_WHOLE: Final = 0x3FFF
"""More fragments, or an offset."""
_UDP, _UDP_LITE = 17, 136
_CHECKSUM_AT: Final = {6: 16, _UDP: 6, 33: 6, _UDP_LITE: 6}
"""Octets into TCP, UDP, DCCP and UDP-Lite: the checksums with a pseudo header."""


def may_switch(packet: bytes) -> bool:
    """Whether the packet is whole and no registration: never fragments, never UDP port 434."""
    if (packet[6] << 8 | packet[7]) & _NOT_WHOLE:
        return False
    if packet[9] != _UDP:
        return True
    at = (packet[0] & 15) * 4
    if len(packet) < at + 8:
        return False
    return MIP_PORT not in (
        packet[at] << 8 | packet[at + 1],
        packet[at + 2] << 8 | packet[at + 3],
    )


class AddressSwitch:
    """Replaces one pair of addresses, source and destination, by another."""

    __slots__ = ("_change", "_new")

    def __init__(self, old: bytes, new: bytes) -> None:
        self._new = new
        self._change = difference(old, new)

    def apply(self, packet: bytes) -> bytes | None:
        """The packet with the new addresses, or None if it may not be switched."""
        if not may_switch(packet):
            return None
        length = (packet[0] & 15) * 4
        checksum_at = _CHECKSUM_AT.get(packet[9])
        if checksum_at is not None and length + checksum_at + 2 > len(packet):
            return None
        return self.rewrite(packet)

    def rewrite(self, packet: bytes) -> bytes:
        """Like :meth:`apply` for what an ICMP error quotes: the end of the packet may lack."""
        length = (packet[0] & 15) * 4
        change = self._change
        checksum = updated(packet[10] << 8 | packet[11], change)
        head = packet[:10] + checksum.to_bytes(2, "big") + self._new + packet[20:length]
        into = _CHECKSUM_AT.get(packet[9])
        if into is None or (packet[6] << 8 | packet[7]) & 0x1FFF:
            return head + packet[length:]
        at = length + into
        if at + 2 > len(packet):
            return head + packet[length:]
        old = packet[at] << 8 | packet[at + 1]
        if packet[9] == _UDP and old == 0:
            return head + packet[length:]
        new = updated(old, change)
        if packet[9] in (_UDP, _UDP_LITE):
            new = new or 0xFFFF
        return head + packet[length:at] + new.to_bytes(2, "big") + packet[at + 2 :]
