"""Lets the kernel join TCP segments that come out of a link pair (GRO), before its stack looks.

Most of what a packet costs beyond the forwarder is the way through the stack, and joined segments
take it once and are acknowledged once. A packet socket's packets come one by one; only a short
wait lets the kernel see several of them. Without all of this packets come out as they are.
"""

import contextlib
import ctypes
import fcntl
import socket
import struct
from typing import Final

from gateway.dataplane.kernel.netlink import (
    NLM_F_ACK,
    NLM_F_DUMP,
    NetlinkSocket,
    attribute,
    attributes,
    request,
)

WAIT_NS: Final = 50_000
"""How long the first packet waits for others. Much longer, and the link's queue of 256 packets
overflows; shorter, and there are none yet."""

_SIOCETHTOOL = 0x8946
_SET_TX_CHECKSUM, _SET_GRO = 0x17, 0x2C
_REQUEST = struct.Struct("@16sP16x")
_NETLINK_GENERIC = 16
_CONTROL, _GETFAMILY, _FAMILY_ID, _FAMILY_NAME = 16, 3, 1, 2
_GENL = struct.Struct("=BBH")
_U16, _U32 = struct.Struct("=H"), struct.Struct("=I")
_NAPI_GET, _NAPI_SET = 11, 14
_IFINDEX, _NAPI_ID, _DEFER_HARD_IRQS, _GRO_FLUSH_TIMEOUT = 1, 2, 5, 6
"""``linux/netdev.h``; settings of a NAPI instance since Linux 6.13."""


def leave_whole(name: str) -> None:
    """No checksum offload, hence no segmentation offload: what an end sends is complete.

    The kernel joins nothing from an end that could send joined packets itself. Raises OSError.
    """
    _ethtool(name, _SET_TX_CHECKSUM, 0)


def join_received(name: str) -> bool:
    """Join what comes out of an end that is up; whether the kernel does. Raises nothing."""
    with contextlib.suppress(OSError):
        _ethtool(name, _SET_GRO, 1)
        if _wait_for_more(socket.if_nametoindex(name)):
            return True
        _ethtool(name, _SET_GRO, 0)
    return False


def _ethtool(name: str, command: int, value: int) -> None:
    setting = ctypes.create_string_buffer(struct.pack("=II", command, value))
    asked = _REQUEST.pack(name.encode(), ctypes.addressof(setting))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        fcntl.ioctl(sock, _SIOCETHTOOL, asked)


def _wait_for_more(index: int) -> bool:
    """Tell the end's NAPI instances to wait. Raises OSError."""
    netlink = NetlinkSocket(_NETLINK_GENERIC)
    try:
        family = _family(netlink, b"netdev")
        if not family:
            return False
        body = _GENL.pack(_NAPI_GET, 1, 0) + attribute(_IFINDEX, _U32.pack(index))
        _, answers = netlink.transact([request(family, NLM_F_DUMP, body)])
        found = [attributes(answer, _GENL.size) for _, _, answer in answers]
        settings = attribute(_DEFER_HARD_IRQS, _U32.pack(1))
        settings += attribute(_GRO_FLUSH_TIMEOUT, _U32.pack(WAIT_NS))
        head = _GENL.pack(_NAPI_SET, 1, 0)
        asked = [
            request(family, 0, head + attribute(_NAPI_ID, one[_NAPI_ID]) + settings)
            for one in found
            if _NAPI_ID in one
        ]
        if not asked:
            return False
        refusals, _ = netlink.transact(asked)
        return not refusals
    finally:
        netlink.close()


def _family(netlink: NetlinkSocket, name: bytes) -> int:
    body = _GENL.pack(_GETFAMILY, 1, 0) + attribute(_FAMILY_NAME, name + b"\0")
    _, answers = netlink.transact([request(_CONTROL, NLM_F_ACK, body)])
    for _, _, answer in answers:
        number = attributes(answer, _GENL.size).get(_FAMILY_ID, b"")
        if len(number) == _U16.size:
            return int(_U16.unpack(number)[0])
    return 0
