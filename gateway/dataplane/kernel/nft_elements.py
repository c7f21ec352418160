"""Set elements of our nftables table, written to netlink directly: one batch for many changes.

Layout of ``linux/netfilter/nf_tables.h``. libnftables takes over a millisecond for each call.
"""

import errno
import functools
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

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
NFPROTO_INET, NFPROTO_IPV4 = 1, 2
_LIST_TABLE, _LIST_SET, _LIST_ELEMENTS = 1, 2, 3
_LIST_ELEM = 1
_ELEM_KEY, _ELEM_DATA = 1, 2
_DATA_VALUE = 1
_GENERIC = struct.Struct("!BBH")
_BEGIN = request(_BATCH_BEGIN, 0, _GENERIC.pack(0, 0, _NFT))
_END = request(_BATCH_END, 0, _GENERIC.pack(0, 0, _NFT))
CHUNK: Final = 512
"""Changes in one kernel transaction, so that a batch fits one send."""


@dataclass(frozen=True, slots=True)
class ElementChange:
    """Add ``key`` to the set or map ``name``, or with ``add=False`` remove it."""

    name: str
    key: bytes
    """Each part of a concatenation padded to four octets, in network order."""
    add: bool = True
    data: bytes | None = None
    """What a map says for the key; marks are in host order. None in a set."""


def encode_change(table: str, change: ElementChange, family: int = NFPROTO_INET) -> bytes:
    """One NEWSETELEM or DELSETELEM request."""
    element = nested(_ELEM_KEY, attribute(_DATA_VALUE, change.key))
    if change.data is not None and change.add:
        element += nested(_ELEM_DATA, attribute(_DATA_VALUE, change.data))
    body = _place(family, table, change.name) + nested(_LIST_ELEMENTS, nested(_LIST_ELEM, element))
    if change.add:
        return request(_NEWSETELEM, NLM_F_CREATE, body)
    return request(_DELSETELEM, 0, body)


@functools.cache
def _place(family: int, table: str, name: str) -> bytes:
    """The part of a request that names the set. There are few of them."""
    return (
        _GENERIC.pack(family, 0, 0)
        + attribute(_LIST_TABLE, table.encode() + b"\0")
        + attribute(_LIST_SET, name.encode() + b"\0")
    )


class SetElements:
    """Writes elements of the sets and maps of one table."""

    def __init__(self, table: str, family: int = NFPROTO_INET) -> None:
        self._table = table
        self._family = family
        self._socket = NetlinkSocket(NETLINK_NETFILTER)

    def close(self) -> None:
        """Close the socket; the elements stay."""
        self._socket.close()

    def apply(self, changes: Sequence[ElementChange]) -> NetlinkRefusal | None:
        """Apply all changes or none (of each :data:`CHUNK`).

        Adding what is there is fine, unless a map says something else for the key: remove it
        first. A batch that removes what is not there is repeated without those removals. The
        refusal's ``index`` is the place in ``changes``, or -1 when the kernel blames no change.
        """
        for start in range(0, len(changes), CHUNK):
            refusal = self._apply(changes[start : start + CHUNK])
            if refusal is not None:
                index = -1 if refusal.index < 0 else start + refusal.index
                return replace(refusal, index=index)
        return None

    def _apply(self, changes: Sequence[ElementChange]) -> NetlinkRefusal | None:
        places = list(range(len(changes)))
        while places:
            requests = [
                _BEGIN,
                *(encode_change(self._table, changes[place], self._family) for place in places),
                _END,
            ]
            refusals, _ = self._socket.transact(requests, acknowledge=-2)
            gone = {
                refusal.index - 1
                for refusal in refusals
                if refusal.errno == errno.ENOENT
                and 1 <= refusal.index <= len(places)
                and not changes[places[refusal.index - 1]].add
            }
            for refusal in refusals:
                if refusal.index - 1 not in gone:
                    blamed = 1 <= refusal.index <= len(places)
                    return replace(refusal, index=places[refusal.index - 1] if blamed else -1)
            if not gone:
                return None
            places = [place for index, place in enumerate(places) if index not in gone]
        return None
