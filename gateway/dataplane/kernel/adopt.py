"""What an earlier run left in the kernel: found by our marks, others' never touched.

Marks: states by reqid range, policies by if_id or reqid range, the interface by kind and if_id,
the nftables table by name. Routes go with the interface.
"""

import errno
from dataclasses import dataclass

from gateway.dataplane.kernel.links import Link, Links
from gateway.dataplane.kernel.netlink import NetlinkSocket
from gateway.dataplane.kernel.xfrm import decode, encode
from gateway.dataplane.kernel.xfrm.constants import (
    IF_ID,
    IPPROTO_ESP,
    REQID_FIRST,
    REQID_LAST,
    XfrmMessage,
)


@dataclass(frozen=True, slots=True)
class Leftovers:
    """How much was cleared."""

    states: int
    policies: int
    interface: bool

    def __bool__(self) -> bool:
        return bool(self.states or self.policies or self.interface)


class InterfaceTakenError(OSError):
    """An interface of our name exists and is not ours."""


def is_ours(reqid: int) -> bool:
    """Whether a reqid of the kernel's is in the range of this gateway."""
    return REQID_FIRST <= reqid <= REQID_LAST


def own_states(xfrm: NetlinkSocket) -> list[decode.State]:
    """Our ESP states."""
    states = (decode.state(body) for _, body in xfrm.dump(XfrmMessage.GETSA, b""))
    return [s for s in states if s is not None and is_ours(s.reqid) and s.protocol == IPPROTO_ESP]


def own_policies(xfrm: NetlinkSocket) -> list[decode.Policy]:
    """Our policies."""
    policies = (decode.policy(body) for _, body in xfrm.dump(XfrmMessage.GETPOLICY, b""))
    return [
        p for p in policies if p is not None and (p.if_id == IF_ID or any(map(is_ours, p.reqids)))
    ]


def clear_xfrm(xfrm: NetlinkSocket) -> tuple[int, int]:
    """Delete our states and policies; returns how many of each."""
    policies = own_policies(xfrm)
    states = own_states(xfrm)
    requests = [encode.delete_policy_index(p.direction, p.index, p.if_id, p.mark) for p in policies]
    requests += [encode.delete_state(s.destination, s.spi) for s in states]
    if requests:
        xfrm.check("clearing leftovers", requests, errno.ESRCH, errno.ENOENT)
    return len(states), len(policies)


def own_interface(links: Links, interface: str) -> Link | None:
    """Our xfrm interface, if it is there.

    Raises :class:`InterfaceTakenError` when ``interface`` belongs to someone else.
    """
    link = links.find(interface)
    if link is not None and link.if_id != IF_ID:
        raise InterfaceTakenError(
            errno.EEXIST,
            f"interface {interface} exists and is not ours (kind {link.kind or 'unknown'}); "
            "set another xfrm_interface",
        )
    return link


def clear(xfrm: NetlinkSocket, links: Links, interface: str) -> Leftovers:
    """Clear states, policies and the interface.

    Raises :class:`InterfaceTakenError` before anything is touched when ``interface`` belongs to
    someone else. The nftables table is replaced when the ruleset is loaded.
    """
    link = own_interface(links, interface)
    if link is not None:
        links.delete(link.index)
    states, policies = clear_xfrm(xfrm)
    return Leftovers(states, policies, link is not None)
