"""What the portable dataplane needs of a kernel, found out by doing it."""

import contextlib
import errno
import secrets
import socket
import struct
from collections.abc import Callable, Collection
from typing import Final

from gateway.dataplane.kernel.links import Links
from gateway.dataplane.kernel.netlink import (
    NETLINK_ROUTE,
    NLM_F_CREATE,
    NLM_F_EXCL,
    NetlinkSocket,
    attribute,
    nested,
    request,
)
from gateway.dataplane.kernel.trying import said, try_rules
from gateway.dataplane.portable.wire import inside, tun

SO_RCVMARK: Final = 75
"""``asm-generic/socket.h``, Linux 5.19."""
_RTM_NEWLINK: Final = 16
_IFLA_IFNAME, _IFLA_LINKINFO, _INFO_KIND, _INFO_DATA, _VETH_PEER = 3, 18, 1, 2, 1
_INFO = struct.Struct("=BxHiII")

Trial = tuple[str, bool, str, str, Callable[[], None]]
"""Name, whether nothing goes without it, what does not work without it, what to do, the attempt."""


def _raw_sockets() -> None:
    for kind, protocol in ((socket.AF_INET, 50), (socket.AF_INET6, 50)):
        socket.socket(kind, socket.SOCK_RAW, protocol).close()
    socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0).close()


def _veth() -> None:
    inside.refuse_pairs()
    name = f"gw-{secrets.token_hex(4)}"
    peer = _INFO.pack(0, 0, 0, 0, 0) + attribute(_IFLA_IFNAME, f"{name}p".encode() + b"\0")
    body = (
        _INFO.pack(0, 0, 0, 0, 0)
        + attribute(_IFLA_IFNAME, name.encode() + b"\0")
        + nested(
            _IFLA_LINKINFO,
            attribute(_INFO_KIND, b"veth"),
            nested(_INFO_DATA, attribute(_VETH_PEER, peer)),
        )
    )
    with contextlib.closing(NetlinkSocket(NETLINK_ROUTE)) as route:
        made = request(_RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body)
        route.check("a pair of virtual Ethernet devices", [made])
    with contextlib.closing(Links()) as links:
        link = links.find(name)
        if link is not None:
            links.delete(link.index)


def _links() -> None:
    try:
        _veth()
    except OSError as error:
        if error.errno == errno.EPERM:
            raise
        try:
            tun.try_device(f"gw-{secrets.token_hex(4)}")
        except OSError as also:
            text = f"no veth ({error.strerror}), and no TUN ({also.strerror})"
            raise OSError(also.errno, text) from also


def _marks() -> None:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as packets:
        packets.setsockopt(socket.SOL_SOCKET, SO_RCVMARK, 1)


def _kernel(option: str) -> str:
    return f"use a kernel with {option} (load its module, or rebuild)"


TRIALS: Final[tuple[Trial, ...]] = (
    (
        "portable-sockets",
        True,
        "no IPsec in user space",
        "grant CAP_NET_RAW and CAP_NET_ADMIN, and " + _kernel("CONFIG_PACKET"),
        _raw_sockets,
    ),
    (
        "portable-links",
        True,
        "no tunnels in user space: their packets pass a pair of devices, or a TUN device",
        _kernel("CONFIG_VETH") + ", or with CONFIG_TUN, and allow /dev/net/tun",
        _links,
    ),
    (
        "portable-pairs",
        False,
        "no NAPT sessions, no VPN/FA, no Mobile IPv4, no NAR in user space: TUN tells no marks",
        _kernel("CONFIG_VETH"),
        _veth,
    ),
    (
        "portable-marks",
        False,
        "no NAPT sessions, no VPN/FA, no Mobile IPv4 and no NAR in user space: they go by marks",
        "use Linux 5.19 or later",
        _marks,
    ),
    (
        "portable-rules",
        True,
        "no protection against spoofed inner addresses",
        "install libnftables1, and " + _kernel("CONFIG_NF_TABLES_INET"),
        lambda: try_rules("chain c { type filter hook prerouting priority raw; counter; };"),
    ),
    (
        "portable-log",
        False,
        "no Mobile IPv4 and no NAR in user space: rules hand packets over by their log",
        _kernel("CONFIG_NFT_LOG and CONFIG_NETFILTER_NETLINK_LOG"),
        lambda: try_rules(
            "chain c { type filter hook prerouting priority raw;"
            " ip protocol esp log group 4757 drop; };"
        ),
    ),
)


TUNNEL_NEEDS: Final = frozenset({"portable-pairs", "portable-marks", "portable-log"})
"""What takes the place of tunnel devices needs these as well."""


def required(needs: Collection[str]) -> frozenset[str]:
    """What is needed in user space for what :mod:`gateway.dataplane.choice` calls so."""
    found = frozenset(name for name, always, *_ in TRIALS if always)
    return found | (TUNNEL_NEEDS if "ipip" in needs else frozenset())


def missing(needs: Collection[str] = ("ipip",)) -> dict[str, str]:
    """What is missing by name, and what the kernel said. Leaves nothing behind.

    Raises :class:`gateway.dataplane.interface.DataplaneUnavailableError` without privileges.
    """
    found = {}
    wanted = required(needs)
    for name, _, _, _, attempt in TRIALS:
        if name not in wanted:
            continue
        try:
            attempt()
        except (OSError, ImportError) as error:
            found[name] = said(error)
    return found
