"""Where the user's packets wait: a TUN device that keeps the node's home address.

The device outlives the process, so that sessions and routes do.
"""

import contextlib
import errno
import fcntl
import os
import struct
from collections import deque
from typing import Final

from gateway.dataplane.kernel.mobility.raw_sender import PacketTooLongError, RawSender
from gateway.dataplane.kernel.node import constants
from gateway.dataplane.packet.fragments import fragment
from gateway.dataplane.packet.outbound import Send
from gateway.domain.wire import WireError

MAX_PACKETS: Final = 64
MAX_OCTETS: Final = 128 * 1024
"""What comes after these bounds is dropped: senders repeat it."""
_READS_AT_ONCE: Final = 256
_TUNSETIFF: Final = 0x400454CA
_TUNSETPERSIST: Final = 0x400454CB
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000
_REQUEST = struct.Struct("=16sH22x")
_LARGEST: Final = 65535
_SMALLEST: Final = 20


class HeldPackets:
    """A bounded first-in-first-out of whole IPv4 packets."""

    def __init__(self) -> None:
        self._packets: deque[bytes] = deque()
        self._octets = 0
        self.dropped = 0
        """Packets beyond the bounds."""

    def __len__(self) -> int:
        return len(self._packets)

    def keep(self, packet: bytes) -> bool:
        """Whether it was kept: IPv4, and within the bounds."""
        if len(packet) < _SMALLEST or packet[0] >> 4 != 4:
            return False
        if len(self._packets) >= MAX_PACKETS or self._octets + len(packet) > MAX_OCTETS:
            self.dropped += 1
            return False
        self._packets.append(packet)
        self._octets += len(packet)
        return True

    def take(self) -> list[bytes]:
        """All of them, oldest first; none is left."""
        taken = list(self._packets)
        self._packets.clear()
        self._octets = 0
        return taken


class Hold:
    """The TUN device, made or taken over. Raises OSError from the constructor."""

    def __init__(self) -> None:
        self._packets = HeldPackets()
        self._sender = RawSender(range(1))
        try:
            self._tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            self._sender.close()
            raise OSError(
                error.errno, f"/dev/net/tun: {error.strerror}; load the module tun (CONFIG_TUN)"
            ) from error
        try:
            name = constants.HOLD.encode()
            try:
                fcntl.ioctl(self._tun, _TUNSETIFF, _REQUEST.pack(name, _IFF_TUN | _IFF_NO_PI))
            except OSError as error:
                if error.errno == errno.EBUSY:
                    text = f"interface {constants.HOLD} is in use; end the other mobile node"
                    raise OSError(errno.EBUSY, text) from error
                raise
            fcntl.ioctl(self._tun, _TUNSETPERSIST, 1)
        except OSError:
            self.close(remove=False)
            raise

    def fileno(self) -> int:
        """For selectors; readable when packets wait."""
        return self._tun

    @property
    def dropped(self) -> int:
        """Packets that were not kept for want of room."""
        return self._packets.dropped

    def read(self) -> int:
        """Keep what waits; how many packets of IPv4 came, kept or not. Never waits."""
        came = 0
        for _ in range(_READS_AT_ONCE):
            try:
                packet = os.read(self._tun, _LARGEST)
            except OSError:
                break
            came += bool(packet) and packet[0] >> 4 == 4
            self._packets.keep(packet)
        return came

    def release(self) -> int:
        """Send what is kept as it is routed now.

        How many packets went; what cannot be sent is dropped, as any router may.
        """
        return sum(self._send(packet) for packet in self._packets.take())

    def _send(self, packet: bytes) -> bool:
        try:
            try:
                self._sender.send(Send(packet, 0))
            except PacketTooLongError as error:
                for piece in fragment(packet, error.mtu):
                    self._sender.send(Send(piece, 0))
        except (WireError, OSError):
            # With DF set its sender finds the path MTU by itself with the next packet.
            return False
        return True

    def close(self, *, remove: bool) -> None:
        """Close the device; with ``remove`` it goes away."""
        if remove:
            with contextlib.suppress(OSError):
                fcntl.ioctl(self._tun, _TUNSETPERSIST, 0)
        os.close(self._tun)
        self._sender.close()
