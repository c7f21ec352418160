"""Notices when somebody else takes the switch away (``nft flush ruleset``).

Layout of ``linux/nfnetlink.h`` and ``linux/netfilter/nf_tables.h``.
"""

import errno
import select
import struct
from typing import Final

from gateway.dataplane.kernel.netlink import (
    NETLINK_NETFILTER,
    NetlinkError,
    NetlinkSocket,
    attribute,
    messages,
    request,
)
from gateway.dataplane.kernel.nft_elements import NFPROTO_INET
from gateway.dataplane.kernel.node import constants

_GROUP_NFTABLES: Final = 7
_GETTABLE, _DELTABLE = 10 << 8 | 1, 10 << 8 | 2
_TABLE_NAME: Final = 1
_GENERIC = struct.Struct("!BBH")
_DATAGRAMS: Final = 64
_NAME: Final = constants.TABLE.encode() + b"\0"


class Watch:
    """One descriptor that is readable for the TUN device and for changes of the ruleset.

    Raises OSError from the constructor.
    """

    def __init__(self, tun: int) -> None:
        self._ask = NetlinkSocket(NETLINK_NETFILTER)
        try:
            self._events = NetlinkSocket(NETLINK_NETFILTER, (_GROUP_NFTABLES,))
            self._both = select.epoll()
            self._both.register(tun, select.EPOLLIN)
            self._both.register(self._events.fileno(), select.EPOLLIN)
        except OSError:
            self._ask.close()
            raise

    def fileno(self) -> int:
        """For selectors."""
        return self._both.fileno()

    def disturbed(self) -> bool:
        """Whether a table has been deleted since the last call, or events were lost."""
        datagrams, overrun = self._events.read_datagrams(_DATAGRAMS)
        return (
            overrun
            or len(datagrams) == _DATAGRAMS
            or any(
                kind == _DELTABLE and _NAME in body
                for datagram in datagrams
                for kind, _, _, _, body in messages(datagram)
            )
        )

    def in_place(self) -> bool:
        """Whether the switch is there now. Raises OSError."""
        body = _GENERIC.pack(NFPROTO_INET, 0, 0) + attribute(_TABLE_NAME, _NAME)
        refusals, _ = self._ask.transact([request(_GETTABLE, 0, body)])
        if not refusals:
            return True
        if refusals[0].errno == errno.ENOENT:
            return False
        raise NetlinkError(f"table {constants.TABLE}", refusals[0])

    def close(self) -> None:
        """Close the descriptors of its own."""
        self._both.close()
        self._events.close()
        self._ask.close()
