"""Tunnels with servers as devices of the kernel: made on the host, then given to the hub."""

import errno
import time
from typing import Final

from gateway.dataplane.kernel.l2tp import L2tpNetlink
from gateway.dataplane.kernel.netlink import NETLINK_ROUTE, NetlinkSocket
from gateway.domain.nar import Delivery
from gateway.nar_host import l2tp, netns, rtnetlink
from gateway.nar_host.failure import NarHostError
from gateway.nar_host.record import Tunnel

_VANISHING_S: Final = 3.0
"""A tunnel whose hub is gone is removed by the kernel within this time, as a rule at once."""
_AGAIN_S: Final = 0.05
_OPTIONS: Final = {
    Delivery.IP_IP: "IP-in-IP (CONFIG_NET_IPIP, module ipip); try --gre",
    Delivery.GRE: "GRE (CONFIG_NET_IPGRE, module ip_gre); try without --gre",
}
_NO_SUCH_KIND: Final = (errno.EOPNOTSUPP, errno.ENOENT)


class KernelTunnels:
    """Makes them. Methods raise OSError, as NarHostError where there is something to say."""

    def __init__(self, host: NetlinkSocket) -> None:
        """``host`` is of the host's network namespace, and ours from now on."""
        self._host = host

    def make(self, name: str, tunnel: Tunnel) -> int:
        """The index of the device, on the host."""
        if tunnel.l2tp is not None:
            return l2tp.make(name, tunnel, self._host)
        made = rtnetlink.tunnel(name, tunnel.delivery, tunnel.local, tunnel.remote, tunnel.mtu)
        left = rtnetlink.links(self._host).get(name)
        if left is not None:
            self._host.transact([rtnetlink.delete(left)])
        until = time.monotonic() + _VANISHING_S
        while True:
            refusals, _ = self._host.transact([made])
            if not refusals:
                return rtnetlink.links(self._host)[name]
            if refusals[0].errno != errno.EEXIST or time.monotonic() > until:
                raise _explained(tunnel, refusals[0].errno, str(refusals[0]))
            time.sleep(_AGAIN_S)

    def dropped(self, name: str) -> None:
        """A device of ours is gone; there is nothing else to do."""

    def close(self) -> None:
        """Devices go with their hub."""
        self._host.close()


def lacks(delivery: Delivery) -> bool:
    """Whether the kernel has no devices for it, found out by making one where nobody is."""
    if delivery is Delivery.TRANSLATED:
        return False
    if delivery is Delivery.L2TP:
        return _lacks_l2tp()
    nowhere = netns.new()
    with netns.closing(nowhere):
        route = netns.made_in(nowhere, lambda: NetlinkSocket(NETLINK_ROUTE))
        try:
            ends = rtnetlink.EXAMPLE_ENDS
            refusals, _ = route.transact([rtnetlink.tunnel("trial", delivery, *ends, 1400)])
        finally:
            route.close()
    return any(one.errno in _NO_SUCH_KIND for one in refusals)


def _lacks_l2tp() -> bool:
    netlink = L2tpNetlink()
    try:
        return not l2tp.find_family(netlink)
    finally:
        netlink.close()


def _explained(tunnel: Tunnel, number: int, words: str) -> NarHostError:
    ends = f"{tunnel.local} and {tunnel.remote}"
    if number == errno.EEXIST:
        text = f"there is another tunnel between {ends} on this host: remove it (`ip tunnel`)"
    elif number in _NO_SUCH_KIND:
        text = f"the kernel has no {_OPTIONS.get(tunnel.delivery, tunnel.delivery.value)}"
    elif number in (errno.EPERM, errno.EACCES):
        text = "no permission to make a tunnel: run as root (CAP_NET_ADMIN)"
    else:
        text = f"the tunnel between {ends} was refused: {words}"
    return NarHostError(text, number)
