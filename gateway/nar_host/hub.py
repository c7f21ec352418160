"""The hub: a network namespace where the tunnels of NAR clients end, and packets are told apart.

Several sessions of a host may have one address of one server, hence one tunnel. The host itself
could not tell their packets apart: what is addressed to an address of its own it takes. The hub
has no such address; it forwards each packet to whose it is. Nothing of the host's own routing,
forwarding or firewall is changed for that.

The hub lives as long as a session that uses it: the sessions' processes keep it open, and when
the last one ends, in whatever way, the kernel takes it away with all that is in it.
"""

import contextlib
import errno
import os
import time
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

from gateway.dataplane.kernel.netlink import NETLINK_ROUTE, NetlinkError, NetlinkSocket
from gateway.dataplane.kernel.ruleset import RulesetRefusedError, run_nft
from gateway.domain.nar import Delivery
from gateway.nar_host import constants, l2tp, netns, plan, rtnetlink
from gateway.nar_host.demultiplex import ruleset
from gateway.nar_host.failure import NarHostError
from gateway.nar_host.record import Record, Tunnel

_SYSCTLS: Final = (
    ("ip_forward", "1"),
    ("conf/all/rp_filter", "0"),
    ("conf/default/rp_filter", "0"),
    ("conf/all/send_redirects", "0"),
    ("conf/default/send_redirects", "0"),
)
_VANISHING_S: Final = 3.0
"""A tunnel whose hub is gone is removed by the kernel within this time, as a rule at once."""
_AGAIN_S: Final = 0.05
_OPTIONS: Final = {
    Delivery.IP_IP: "IP-in-IP (CONFIG_NET_IPIP, module ipip); try --gre",
    Delivery.GRE: "GRE (CONFIG_NET_IPGRE, module ip_gre); try without --gre",
}


class Hub:
    """The hub of this host's network namespace. Raises OSError or :class:`NarHostError`."""

    def __init__(self, descriptor: int, *, fresh: bool) -> None:
        self.descriptor = descriptor
        with contextlib.ExitStack() as undo:
            undo.callback(os.close, descriptor)
            self._host = NetlinkSocket(NETLINK_ROUTE)
            undo.callback(self._host.close)
            self.route = netns.made_in(descriptor, lambda: NetlinkSocket(NETLINK_ROUTE))
            undo.callback(self.route.close)
            if fresh:
                self._prepare()
            undo.pop_all()

    @classmethod
    def open(cls, living: Iterable[Record]) -> "Hub":
        """The one that another session keeps, else a new one."""
        for record in living:
            if record.hub >= 0:
                descriptor = netns.of_process(record.pid, record.hub)
                if descriptor is not None:
                    return cls(descriptor, fresh=False)
        return cls(netns.new(), fresh=True)

    def close(self) -> None:
        """Keep it no longer."""
        self.route.close()
        self._host.close()
        os.close(self.descriptor)

    def _prepare(self) -> None:
        def write() -> None:
            for name, value in _SYSCTLS:
                (Path("/proc/sys/net/ipv4") / name).write_text(value, "ascii")
            with contextlib.suppress(OSError):
                Path("/proc/sys/net/ipv6/conf/default/disable_ipv6").write_text("1", "ascii")

        netns.made_in(self.descriptor, write)
        own = IPv4Address(constants.HUB_ADDRESS)
        requests = [
            rtnetlink.set_up(rtnetlink.LOOPBACK),
            rtnetlink.add_address(rtnetlink.LOOPBACK, own),
        ]
        self.route.check("the hub's loopback", requests, errno.EEXIST)

    def match(self, records: Sequence[Record]) -> None:
        """Have what these sessions need, but for their interfaces, and nothing else."""
        wanted = plan.tunnels(records)
        self._drop(wanted.keys() | plan.hub_ends(records))
        for name, tunnel in wanted.items():
            if name not in rtnetlink.links(self.route):
                self._make(name, tunnel)

    def join(self, records: Sequence[Record]) -> None:
        """Lead packets between the interfaces that are there, and to nowhere else."""
        links = rtnetlink.links(self.route)
        ways = [way for way in plan.exits(records) if way.interface in links]
        routes = [rtnetlink.default_route(way.table, links[way.interface]) for way in ways]
        self.route.check("the hub's routes", routes) if routes else None
        rules = [way.rule.add() for way in ways]
        self.route.check("the hub's rules", rules, errno.EEXIST) if rules else None
        text = ruleset(plan.members(records))
        try:
            netns.made_in(self.descriptor, lambda: run_nft(text))
        except RulesetRefusedError as error:
            raise NarHostError(f"nftables refused the hub's rules: {error}", error.errno) from error

    def _drop(self, wanted: Iterable[str]) -> None:
        keep = set(wanted)
        for name, index in rtnetlink.links(self.route).items():
            if name.startswith(constants.PREFIX) and name not in keep:
                self.route.transact([rtnetlink.delete(index)])

    def _make(self, name: str, tunnel: Tunnel) -> None:
        if tunnel.l2tp is not None:
            index = l2tp.make(name, tunnel, self._host)
        else:
            self._create(name, tunnel)
            index = rtnetlink.links(self._host)[name]
        moved = rtnetlink.move(index, self.descriptor)
        try:
            self._host.check(f"moving {name}", [moved])
        except NetlinkError:
            self._host.transact([rtnetlink.delete(index)])
            raise
        index = rtnetlink.links(self.route)[name]
        self.route.check(name, [rtnetlink.set_up(index, arp=tunnel.l2tp is None)])

    def _create(self, name: str, tunnel: Tunnel) -> None:
        made = rtnetlink.tunnel(name, tunnel.delivery, tunnel.local, tunnel.remote, tunnel.mtu)
        left = rtnetlink.links(self._host).get(name)
        if left is not None:
            self._host.transact([rtnetlink.delete(left)])
        until = time.monotonic() + _VANISHING_S
        while True:
            refusals, _ = self._host.transact([made])
            if not refusals:
                return
            if refusals[0].errno != errno.EEXIST or time.monotonic() > until:
                raise _explained(tunnel, refusals[0].errno, str(refusals[0]))
            time.sleep(_AGAIN_S)


def _explained(tunnel: Tunnel, number: int, words: str) -> NarHostError:
    ends = f"{tunnel.local} and {tunnel.remote}"
    if number == errno.EEXIST:
        text = f"there is another tunnel between {ends} on this host: remove it (`ip tunnel`)"
    elif number in (errno.EOPNOTSUPP, errno.ENOENT):
        text = f"the kernel has no {_OPTIONS.get(tunnel.delivery, tunnel.delivery.value)}"
    elif number in (errno.EPERM, errno.EACCES):
        text = "no permission to make a tunnel: run as root (CAP_NET_ADMIN)"
    else:
        text = f"the tunnel between {ends} was refused: {words}"
    return NarHostError(text, number)
