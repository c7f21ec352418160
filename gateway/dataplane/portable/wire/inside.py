"""The tunnels' interface: a pair of virtual Ethernet devices, or a TUN device where there is none.

A pair has marks and serves several processes; a TUN device needs less of a kernel.
"""

import errno
import os
import socket
from typing import Final

from gateway.dataplane.portable.wire import links, tun
from gateway.dataplane.portable.wire.batches import ReceiveBatch
from gateway.dataplane.portable.wire.tun import TunLink
from gateway.dataplane.portable.wire.veth import VethLink

VARIABLE: Final = "GATEWAY_LAB_LINKS"
"""``tun`` in the environment: as if the kernel had no pairs. For tests."""

Inside = VethLink | TunLink
"""The interface as the forwarder has it."""

_NO_SUCH_KIND: Final = frozenset((errno.EOPNOTSUPP, errno.ENODEV))


def refuse_pairs() -> None:
    """Raises OSError where pairs are not to be used."""
    if os.environ.get(VARIABLE) == "tun":
        raise OSError(errno.EOPNOTSUPP, f"not to be used, by {VARIABLE}")


def make(name: str, mtu: int) -> None:
    """Make the interface, a pair if that can be had. Raises OSError."""
    try:
        refuse_pairs()
        links.make_pair(name, mtu)
    except OSError as error:
        if error.errno not in _NO_SUCH_KIND:
            raise
        tun.make_device(name, mtu)


def delete(name: str) -> None:
    """Delete it; routes through it go as well. It may be gone already. Raises NetlinkError."""
    links.delete(name)


def exists(name: str) -> bool:
    """Whether there is one of ours."""
    return links.exists(name) or tun.exists(name)


def is_tun(name: str) -> bool:
    """Whether it is a TUN device of ours."""
    return tun.exists(name)


def served(name: str) -> bool:
    """Whether a forwarder has it, as far as one can tell."""
    return tun.served(name) if tun.exists(name) else links.served(name)


def opened(name: str, receive: ReceiveBatch, workers: int) -> list[Inside]:
    """One end for each process. Raises OSError.

    All of them before the processes part: their order says which packets each of them gets.
    """
    if is_tun(name):
        if workers > 1:
            raise OSError(errno.EINVAL, f"{name}: a TUN device is for one process")
        return [TunLink(name)]
    group = socket.if_nametoindex(links.peer_name(name)) & 0xFFFF
    return [VethLink(name, receive, group=group if workers > 1 else None) for _ in range(workers)]


def processes(name: str, wanted: int) -> int:
    """How many processes can serve it, at most ``wanted``. Raises OSError."""
    return 1 if name and is_tun(name) else wanted
