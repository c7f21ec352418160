"""Set elements of our nftables table, written to netlink directly: one batch for many changes.

Layout of ``linux/netfilter/nf_tables.h``. libnftables takes over a millisecond for each call.
"""

import errno
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.dataplane.kernel.netlink import (
    NETLINK_NETFILTER,
    NLM_F_CREATE,
    NetlinkRefusal,
    NetlinkSocket,
    attribute,
    nested,
    request,
)

_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_NFT = 10
_NEWSETELEM = _NFT << 8 | 12
_DELSETELEM = _NFT << 8 | 14
_NFPROTO_INET = 1
_LIST_TABLE, _LIST_SET, _LIST_ELEMENTS = 1, 2, 3
_LIST_ELEM = 1
_ELEM_KEY = 1
_DATA_VALUE = 1
_GENERIC = struct.Struct("!BBH")
_BEGIN = request(_BATCH_BEGIN, 0, _GENERIC.pack(0, 0, _NFT))
_END = request(_BATCH_END, 0, _GENERIC.pack(0, 0, _NFT))
_CHUNK = 512
"""Changes in one kernel transaction, so that a batch fits one send."""


@dataclass(frozen=True, slots=True)
class ElementChange:
    """Add ``key`` to the set ``name``, or with ``add=False`` remove it."""

    name: str
    key: bytes
    """Each part of a concatenation padded to four octets, in network order."""
    add: bool = True


def encode_change(table: str, change: ElementChange) -> bytes:
    """One NEWSETELEM or DELSETELEM request."""
    body = (
        _GENERIC.pack(_NFPROTO_INET, 0, 0)
        + attribute(_LIST_TABLE, table.encode() + b"\0")
        + attribute(_LIST_SET, change.name.encode() + b"\0")
        + nested(
            _LIST_ELEMENTS,
            nested(_LIST_ELEM, nested(_ELEM_KEY, attribute(_DATA_VALUE, change.key))),
        )
    )
    if change.add:
        return request(_NEWSETELEM, NLM_F_CREATE, body)
    return request(_DELSETELEM, 0, body)


class SetElements:
    """Writes elements of the sets of one table (family inet)."""

    def __init__(self, table: str) -> None:
        self._table = table
        self._socket = NetlinkSocket(NETLINK_NETFILTER)

    def close(self) -> None:
        """Close the socket; the elements stay."""
        self._socket.close()

    def apply(self, changes: Sequence[ElementChange]) -> NetlinkRefusal | None:
        """Apply all changes or none (of each 512).

        Adding what is there is fine. A batch that removes what is not there is repeated without
        those removals.
        """
        for start in range(0, len(changes), _CHUNK):
            refusal = self._apply(changes[start : start + _CHUNK])
            if refusal is not None:
                return refusal
        return None

    def _apply(self, changes: Sequence[ElementChange]) -> NetlinkRefusal | None:
        while changes:
            requests = [
                _BEGIN,
                *(encode_change(self._table, change) for change in changes),
                _END,
            ]
            refusals, _ = self._socket.transact(requests, acknowledge=-2)
            gone = {
                refusal.index - 1
                for refusal in refusals
                if refusal.errno == errno.ENOENT
                and 1 <= refusal.index <= len(changes)
                and not changes[refusal.index - 1].add
            }
            for refusal in refusals:
                if refusal.index - 1 not in gone:
                    return refusal
            if not gone:
                return None
            changes = [change for index, change in enumerate(changes) if index not in gone]
        return None
