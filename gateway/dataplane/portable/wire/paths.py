"""How large packets may be on their way, and which address of ours they have: the kernel knows.

A connected UDP socket says both and sends nothing. What routers tell by ICMP about packets of raw
sockets the kernel keeps with its routes.
"""

import contextlib
import socket
from collections.abc import Iterator
from typing import Final

from gateway.dataplane.portable.wire.batches import SO_MARK
from gateway.domain.endpoint import IpAddress

_IP_MTU: Final = 14
_SOL_IPV6, _IPV6_MTU = 41, 24
_DISCARD: Final = 9
_FAMILIES: Final = {4: socket.AF_INET, 6: socket.AF_INET6}


class KernelPaths:
    """Implements :class:`gateway.dataplane.portable.esp.path_sizes.Paths`."""

    def mtu(self, local: IpAddress, remote: IpAddress, mark: int) -> int:
        """See :meth:`Paths.mtu`."""
        with contextlib.suppress(OSError), _towards(remote, mark, local) as asking:
            if remote.version == 4:
                return asking.getsockopt(socket.IPPROTO_IP, _IP_MTU)
            return asking.getsockopt(_SOL_IPV6, _IPV6_MTU)
        return 0

    def source(self, destination: IpAddress) -> bytes | None:
        """See :meth:`Paths.source`."""
        with contextlib.suppress(OSError), _towards(destination) as asking:
            return socket.inet_pton(_FAMILIES[destination.version], asking.getsockname()[0])
        return None


@contextlib.contextmanager
def _towards(
    to: IpAddress, mark: int = 0, local: IpAddress | None = None
) -> Iterator[socket.socket]:
    """A fresh one for each question: once connected, it would keep its address. Raises OSError."""
    with socket.socket(_FAMILIES[to.version], socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as asking:
        if mark:
            asking.setsockopt(socket.SOL_SOCKET, SO_MARK, mark)
        if local is not None:
            asking.bind((str(local), 0))
        asking.connect((str(to), _DISCARD))
        yield asking
