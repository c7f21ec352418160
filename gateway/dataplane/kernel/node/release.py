"""What a mobile node that is no more left in the kernel: seen, taken away; a trial of it all."""

import errno
from collections.abc import Callable
from ipaddress import IPv4Address
from typing import Final

from gateway.dataplane.kernel import adopt, ruleset
from gateway.dataplane.kernel.links import Links
from gateway.dataplane.kernel.mobility.devices import Devices
from gateway.dataplane.kernel.netlink import NETLINK_ROUTE, NETLINK_XFRM, NetlinkSocket
from gateway.dataplane.kernel.node import constants, leftovers, switch, tunnels
from gateway.dataplane.kernel.node.node import KernelNode
from gateway.dataplane.kernel.ruleset import RulesetRefusedError
from gateway.dataplane.kernel.scratch import TrialFailedError, in_scratch_namespace
from gateway.dataplane.node import NodeDataplane, NodeSettings, Peers

_PEERS: Final = Peers(
    (IPv4Address("192.0.2.1"),), (IPv4Address("192.0.2.2"),), (IPv4Address("192.0.2.3"),)
)
"""For the trial (RFC 5737)."""


def is_left() -> bool:
    """Whether the switch is in place, by a node that runs or one that ran. Raises OSError."""
    try:
        ruleset.run_nft(f"list table inet {constants.TABLE}")
    except RulesetRefusedError as error:
        if "No such file or directory" in str(error):
            return False
        raise
    return True


def release() -> list[str]:
    """Take everything of a node away, the switch last; what it was, in words.

    Only while no node runs. Raises OSError when an interface of our name is somebody else's, or
    the kernel refuses.
    """
    removed: list[str] = []
    route, devices, links = NetlinkSocket(NETLINK_ROUTE), Devices(), Links()
    try:
        present = {one.name: one.index for one in devices.every().values()}
        index = present.get(constants.HOLD)
        leftovers.clear(route, devices, keep=())
        removed += [f"interface {name}" for name in constants.TUNNELS if name in present]
        removed += _vpn(links)
        if index is not None:
            gone = (errno.ENODEV, errno.ENOENT)
            route.check(constants.HOLD, [tunnels.delete(index)], *gone)
            removed.append(f"interface {constants.HOLD}")
    finally:
        links.close()
        devices.close()
        route.close()
    if is_left():
        switch.remove()
        removed.append("the kill switch")
    return removed


def _vpn(links: Links) -> list[str]:
    """The VPN layer: its device tells a node's IPsec from a gateway's on the same host."""
    if links.find(constants.XFRM_INTERFACE) is None:
        return []
    xfrm = NetlinkSocket(NETLINK_XFRM)
    try:
        found = adopt.clear(xfrm, links, constants.XFRM_INTERFACE)
    finally:
        xfrm.close()
    ruleset.remove()
    counts = f"{found.states} IPsec states, {found.policies} policies"
    return [f"interface {constants.XFRM_INTERFACE}, {counts}"]


def try_start() -> str | None:
    """Open and close the dataplane in a network namespace of its own; why it cannot, or None."""
    return try_start_with(KernelNode)


def try_start_with(make: Callable[[NodeSettings], NodeDataplane]) -> str | None:
    """As :func:`try_start`, with what ``make`` makes."""
    try:
        problem = in_scratch_namespace(lambda: _start(make(NodeSettings(_PEERS))))
    except TrialFailedError as error:
        return str(error)
    return None if problem is None else str(problem)


def _start(node: NodeDataplane) -> str | None:
    try:
        node.open()
    except OSError as error:
        return error.strerror or str(error)
    node.close(keep_switch=False)
    return "something was left behind" if is_left() else None
