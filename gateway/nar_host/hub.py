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
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final, Protocol

from gateway.dataplane.kernel.netlink import NETLINK_ROUTE, NetlinkError, NetlinkSocket
from gateway.dataplane.kernel.ruleset import RulesetRefusedError, run_nft
from gateway.nar_host import constants, netns, plan, rtnetlink
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


class Tunnels(Protocol):
    """Makes the devices of tunnels. Methods raise OSError."""

    def make(self, name: str, tunnel: Tunnel) -> int:
        """The index of the device, on the host."""

    def dropped(self, name: str) -> None:
        """A device of ours is gone."""

    def close(self) -> None:
        """No more of them, and those that are left end with the hub."""


class Hub:
    """The hub of this host's network namespace. Raises OSError or :class:`NarHostError`."""

    def __init__(self, descriptor: int, tunnels: Tunnels, *, fresh: bool) -> None:
        """``descriptor`` and ``tunnels`` are the hub's from now on."""
        self.descriptor = descriptor
        self._tunnels = tunnels
        with contextlib.ExitStack() as undo:
            undo.callback(os.close, descriptor)
            undo.callback(tunnels.close)
            self._host = NetlinkSocket(NETLINK_ROUTE)
            undo.callback(self._host.close)
            self.route = netns.made_in(descriptor, lambda: NetlinkSocket(NETLINK_ROUTE))
            undo.callback(self.route.close)
            if fresh:
                self._prepare()
            undo.pop_all()

    @classmethod
    def open(cls, living: Iterable[Record], tunnels: Tunnels) -> "Hub":
        """The one that another session keeps, else a new one."""
        for record in living:
            if record.hub >= 0:
                descriptor = netns.of_process(record.pid, record.hub)
                if descriptor is not None:
                    return cls(descriptor, tunnels, fresh=False)
        return cls(netns.new(), tunnels, fresh=True)

    def close(self) -> None:
        """Keep it no longer."""
        self._tunnels.close()
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
        routes = [rtnetlink.default_route(way.table, links[way.interface], way.mtu) for way in ways]
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
                if name.startswith(constants.TUNNEL):
                    self._tunnels.dropped(name)

    def _make(self, name: str, tunnel: Tunnel) -> None:
        index = self._tunnels.make(name, tunnel)
        moved = rtnetlink.move(index, self.descriptor)
        try:
            self._host.check(f"moving {name}", [moved])
        except NetlinkError:
            self._host.transact([rtnetlink.delete(index)])
            raise
        index = rtnetlink.links(self.route)[name]
        self.route.check(name, [rtnetlink.set_up(index, arp=tunnel.l2tp is None)])
