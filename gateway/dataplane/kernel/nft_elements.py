"""Set elements of our nftables table, written to netlink directly: one batch for many changes.

Layout of ``linux/netfilter/nf_tables.h``. libnftables takes over a millisecond for each call.
"""

import errno
import functools
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from gateway.dataplane.kernel.netlink import (
    NETLINK_NETFILTER,
    NLM_F_CREATE,
    NetlinkRefusal,
    NetlinkSocket,
    attribute,
    attributes,
    nested,
    request,
)

_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_NFT = 10
_NEWSETELEM = _NFT << 8 | 12
_GETSETELEM = _NFT << 8 | 13
_DELSETELEM = _NFT << 8 | 14
NFPROTO_INET, NFPROTO_IPV4 = 1, 2
_LIST_TABLE, _LIST_SET, _LIST_ELEMENTS = 1, 2, 3
_LIST_ELEM = 1
_ELEM_KEY, _ELEM_DATA, _ELEM_TIMEOUT, _ELEM_EXPRESSION, _ELEM_KEY_END = 1, 2, 4, 7, 10
_DATA_VALUE = 1
_GENERIC = struct.Struct("!BBH")
_U64 = struct.Struct("!Q")
_ATTRIBUTE = struct.Struct("=HH")
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
    timeout_ms: int = 0
    """After this the element is gone; 0: it stays. An element that is there keeps its own: remove
    it in the same transaction."""
    key_end: bytes | None = None
    """In a set of intervals of concatenations: the last value of each part."""
    expression: bytes = b""
    """The element's own expression (a limit), as attributes, where the set has such ones."""


def encode_change(table: str, change: ElementChange, family: int = NFPROTO_INET) -> bytes:
    """One NEWSETELEM or DELSETELEM request."""
    element = nested(_ELEM_KEY, attribute(_DATA_VALUE, change.key))
    if change.key_end is not None:
        element += nested(_ELEM_KEY_END, attribute(_DATA_VALUE, change.key_end))
    if change.expression and change.add:
        element += nested(_ELEM_EXPRESSION, change.expression)
    if change.data is not None and change.add:
        element += nested(_ELEM_DATA, attribute(_DATA_VALUE, change.data))
    if change.timeout_ms and change.add:
        element += attribute(_ELEM_TIMEOUT, _U64.pack(change.timeout_ms))
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

    def read(self, name: str) -> dict[bytes, bytes | None]:
        """Keys of the set or map ``name`` and what it says for them. Raises OSError."""
        found: dict[bytes, bytes | None] = {}
        for kind, body in self._socket.dump(_GETSETELEM, _place(self._family, self._table, name)):
            if kind == _NEWSETELEM:
                listed = attributes(body, _GENERIC.size).get(_LIST_ELEMENTS, b"")
                found.update(_elements(listed))
        return found

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


def _elements(listed: bytes) -> Iterator[tuple[bytes, bytes | None]]:
    """Key and data of each element of a list of them."""
    offset = 0
    while offset + 4 <= len(listed):
        size, _ = _ATTRIBUTE.unpack_from(listed, offset)
        if size < 4:
            return
        values = attributes(listed, offset + 4, offset + size)
        key = attributes(values.get(_ELEM_KEY, b""), 0).get(_DATA_VALUE)
        data = attributes(values.get(_ELEM_DATA, b""), 0).get(_DATA_VALUE)
        if key is not None:
            yield key, data
        offset += size + 3 & ~3
