"""IPv4 packets of a link, below routing and ARP: read by a filter, sent to link-layer addresses."""

import ctypes
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

ETHERTYPE_IPV4: Final = 0x0800
MAX_OCTETS: Final = 4096
PACKETS_PER_WAKE_UP: Final = 64
_SO_ATTACH_FILTER = 26
_SOL_PACKET, _PACKET_ADD_MEMBERSHIP, _PACKET_MR_MULTICAST = 263, 1, 0
_MEMBERSHIP = struct.Struct("=iHH8s")

Program = Sequence[tuple[int, int, int, int]]
"""Classic BPF on the IP header: code, jump if true, jump if false, operand."""


class LinkPacket(NamedTuple):
    """A packet as a link brought it."""

    octets: bytes
    kind: int
    """To whom it went, PACKET_HOST and so on (packet(7))."""
    link_address: bytes
    """Of the sender."""


def attach_filter(sock: socket.socket, program: Program) -> None:
    """Let the kernel drop what a classic BPF program returns 0 for. Raises OSError."""
    code = b"".join(struct.pack("=HBBI", *step) for step in program)
    buffer = ctypes.create_string_buffer(code)
    described = struct.pack("@HP", len(program), ctypes.addressof(buffer))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, described)


class PacketSocket:
    """A packet socket on one interface. Raises OSError from the constructor."""

    def __init__(self, interface: str, program: Program, groups: Sequence[bytes]) -> None:
        """``groups`` are Ethernet addresses to listen to besides the interface's own."""
        self.interface = interface
        self._socket = socket.socket(
            socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, 0
        )
        try:
            attach_filter(self._socket, program)
            index = socket.if_nametoindex(interface)
            self._socket.bind((interface, ETHERTYPE_IPV4))
            for group in groups:
                asked = _MEMBERSHIP.pack(index, _PACKET_MR_MULTICAST, len(group), group)
                self._socket.setsockopt(_SOL_PACKET, _PACKET_ADD_MEMBERSHIP, asked)
        except OSError:
            self._socket.close()
            raise

    def fileno(self) -> int:
        """For selectors."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def packets(self, count: Callable[[str], None]) -> Iterator[LinkPacket]:
        """What waits, up to a bound; errors are counted."""
        for _ in range(PACKETS_PER_WAKE_UP):
            try:
                octets, sender = self._socket.recvfrom(MAX_OCTETS)
            except BlockingIOError:
                return
            except OSError:
                count("receive_errors")
                return
            yield LinkPacket(octets, sender[2], bytes(sender[4]))

    def send_packet(self, packet: bytes, link_address: bytes) -> OSError | None:
        """Send an IPv4 packet to a link-layer address, or return why not."""
        try:
            self._socket.sendto(packet, (self.interface, ETHERTYPE_IPV4, 0, 0, link_address))
        except OSError as error:
            return error
        return None
