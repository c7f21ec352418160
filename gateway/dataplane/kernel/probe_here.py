"""Whether this kernel can do what is needed, found out where the gateway is about to work.

:mod:`gateway.dataplane.kernel.probe` tries in a network namespace of its own, which a service
may not make. What is tried here is made and removed at once, and nobody else's changes.
"""

import contextlib
import errno
import secrets
from collections.abc import Callable, Collection
from typing import Final

from gateway.dataplane.kernel import probe
from gateway.dataplane.kernel.links import Links
from gateway.dataplane.kernel.mobility.devices import NETLINK_GENERIC, load_fou
from gateway.dataplane.kernel.netlink import (
    NETLINK_XFRM,
    NetlinkError,
    NetlinkSocket,
    attribute,
    request,
)
from gateway.dataplane.kernel.nfqueue import Queue
from gateway.dataplane.kernel.trying import said, try_rules
from gateway.dataplane.kernel.xfrm import encode

_TRIAL_QUEUE: Final = 64_999
_CONTROL, _GET_FAMILY, _FAMILY_NAME = 16, 3, 2
_THERE: Final = (errno.EEXIST, errno.EBUSY)
"""Somebody has one already: the kernel can."""

Problems = dict[str, str]
"""What is missing by the capability's name, and what the kernel said."""


def missing_here(needs: Collection[str]) -> Problems:
    """What of ``needs`` this kernel cannot do. Names without a trial here count as there.

    Raises :class:`DataplaneUnavailableError` without privileges.
    """
    found = {}
    for name, attempt in _ATTEMPTS.items():
        if name in needs:
            try:
                attempt()
            except (OSError, ImportError) as error:
                found[name] = said(error)
    return found


def _xfrm() -> None:
    with contextlib.closing(NetlinkSocket(NETLINK_XFRM)) as xfrm:
        xfrm.check("xfrm", [encode.get_thresholds()])


def _link(kind: bytes, *data: bytes) -> None:
    """Make an interface of this kind, down, and remove it."""
    name = f"gw-{secrets.token_hex(4)}"
    try:
        probe.try_link(kind, name.encode(), *data)
    except NetlinkError as error:
        if error.errno in _THERE:
            return
        raise
    with contextlib.closing(Links()) as links:
        link = links.find(name)
        if link is not None:
            links.delete(link.index)


def _queue() -> None:
    chain = "type filter hook prerouting priority raw;"
    try_rules(f"chain c {{ {chain} ip protocol esp queue num {_TRIAL_QUEUE}; }};")
    try:
        Queue(_TRIAL_QUEUE, 16).close()
    except NetlinkError as error:
        if error.errno not in {*_THERE, errno.EPERM}:
            raise


def _fou() -> None:
    load_fou()
    body = bytes((_GET_FAMILY, 1, 0, 0)) + attribute(_FAMILY_NAME, b"fou\0")
    with contextlib.closing(NetlinkSocket(NETLINK_GENERIC)) as generic:
        generic.check("FOU", [request(_CONTROL, 0, body)])


_ATTEMPTS: Final[dict[str, Callable[[], None]]] = {
    "xfrm": _xfrm,
    "esp-aes-gcm": probe.try_aes_gcm,
    "esp-aes-cbc": probe.try_aes_cbc,
    "esp-chacha20": probe.try_chacha20,
    "udp-encapsulation": probe.try_encapsulation,
    "xfrm-interface": lambda: _link(b"xfrm", probe.XFRM_INTERFACE_DATA),
    "nftables-esp-sets": lambda: try_rules("set s { typeof ip saddr . esp spi; };"),
    "nft-queue": _queue,
    "ipip": lambda: _link(b"ipip", probe.IPIP_DATA),
    "gre": lambda: _link(b"gre", probe.GRE_DATA),
    "fou": _fou,
}
