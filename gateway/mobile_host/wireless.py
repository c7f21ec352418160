"""Hears of radios that went to another access point (nl80211's multicast group "mlme").

A roaming radio may keep its carrier and its address: then rtnetlink says nothing, or only where
the kernel has the old wireless extensions. Layouts: ``linux/genetlink.h``, ``linux/nl80211.h``.
"""

import struct
from typing import Final

from gateway.dataplane.kernel.netlink import (
    NetlinkSocket,
    attribute,
    attributes,
    messages,
    request,
)

NETLINK_GENERIC: Final = 16
MESSAGES_PER_WAKE_UP: Final = 256
_GENL = struct.Struct("=BBH")
_U32 = struct.Struct("=I")
_CONTROL, _GET_FAMILY = 16, 3
_FAMILY_NAME, _MULTICAST_GROUPS, _GROUP_NAME, _GROUP_ID = 2, 7, 1, 2
_IFINDEX = 3
MOVES: Final = frozenset({38, 39, 40, 46, 47, 48})
"""Associate, deauthenticate, disassociate, connect, roam, disconnect."""


class RadioWatch:
    """A subscription. Raises OSError from the constructor, as where there is no radio."""

    def __init__(self) -> None:
        self._events = NetlinkSocket(NETLINK_GENERIC, [_mlme_group()])

    def fileno(self) -> int:
        """Readable when a radio moved."""
        return self._events.fileno()

    def read(self) -> tuple[frozenset[int], bool]:
        """The numbers of the interfaces whose radios moved, and whether news were lost."""
        datagrams, overrun = self._events.read_datagrams(MESSAGES_PER_WAKE_UP)
        found = {
            index
            for datagram in datagrams
            for _, _, _, _, body in messages(datagram)
            if (index := moved(body))
        }
        return frozenset(found), overrun

    def close(self) -> None:
        """Unsubscribe."""
        self._events.close()


def moved(body: bytes) -> int:
    """The number of the interface whose radio moved by this message, or 0."""
    if len(body) < _GENL.size or _GENL.unpack_from(body)[0] not in MOVES:
        return 0
    index = attributes(body, _GENL.size).get(_IFINDEX, b"")
    return int(_U32.unpack(index)[0]) if len(index) == _U32.size else 0


def _mlme_group() -> int:
    sock = NetlinkSocket(NETLINK_GENERIC)
    try:
        body = _GENL.pack(_GET_FAMILY, 1, 0) + attribute(_FAMILY_NAME, b"nl80211\0")
        _, answers = sock.transact([request(_CONTROL, 0, body)])
    finally:
        sock.close()
    for _, _, answer in answers:
        found = group_of(answer, b"mlme")
        if found:
            return found
    raise OSError(95, "the kernel has no nl80211")


def group_of(answer: bytes, name: bytes) -> int:
    """The number of a multicast group in the description of a family, or 0."""
    groups = attributes(answer, _GENL.size).get(_MULTICAST_GROUPS, b"")
    for each in attributes(groups, 0).values():
        group = attributes(each, 0)
        if group.get(_GROUP_NAME, b"").rstrip(b"\0") == name:
            number = group.get(_GROUP_ID, b"")
            return int(_U32.unpack(number)[0]) if len(number) == _U32.size else 0
    return 0
