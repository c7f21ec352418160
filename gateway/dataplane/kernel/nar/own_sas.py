"""SPIs that the kernel receives by: what is leased has to be another one."""

import contextlib
import struct
from ipaddress import IPv4Address
from typing import Final

from gateway.dataplane.kernel.netlink import NETLINK_XFRM, NetlinkSocket, request
from gateway.domain.nar import NarProtocol

_GETSA: Final = 0x12
_AF_INET: Final = 2
_SA_ID = struct.Struct("=16s4sHBx")


class KernelSas:
    """The kernel's security associations, whoever made them."""

    def __init__(self) -> None:
        self._xfrm: NetlinkSocket | None = None
        # Without IPsec in the kernel there are none.
        with contextlib.suppress(OSError):
            self._xfrm = NetlinkSocket(NETLINK_XFRM)

    def has(self, protocol: NarProtocol, address: IPv4Address, spi: int) -> bool:
        """Whether there is one with this SPI towards this address. Never raises."""
        if self._xfrm is None:
            return False
        body = _SA_ID.pack(address.packed, spi.to_bytes(4, "big"), _AF_INET, protocol)
        try:
            refusals, _ = self._xfrm.transact([request(_GETSA, 0, body)])
        except OSError:
            return False
        return not refusals

    def close(self) -> None:
        """Ask no more."""
        if self._xfrm is not None:
            self._xfrm.close()
