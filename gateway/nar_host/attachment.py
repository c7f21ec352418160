"""One session's part of this host: made as it is needed, and taken back."""

import contextlib
import errno
import os
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

from gateway.dataplane.kernel.mobility.sysctls import filtered
from gateway.dataplane.kernel.netlink import NETLINK_ROUTE, NetlinkSocket
from gateway.domain.nar import Delivery, NarTuple
from gateway.nar_host import constants, kernel_tunnels, l2tp, plan, rtnetlink
from gateway.nar_host.failure import NarHostError
from gateway.nar_host.hub import Hub
from gateway.nar_host.kernel_tunnels import KernelTunnels
from gateway.nar_host.portable_tunnels import PortableTunnels
from gateway.nar_host.record import Place, Record, Tunnel
from gateway.nar_host.registry import Holder, Registry

AUTO: Final = "auto"
PORTABLE: Final = "portable"
DATAPLANES: Final = (AUTO, "kernel", PORTABLE)
"""Who has the tunnels: the kernel where it can, the kernel, or a forwarder."""
_MAIN_TABLE: Final = 254
_SYS: Final = Path("/proc/sys/net")
_GONE: Final = (errno.ENOENT, errno.ENODEV, errno.ESRCH, errno.EADDRNOTAVAIL)


class Attachment:
    """Our entry in the registry, and what follows from it in the kernel.

    ``inside`` is a netlink socket in the network namespace of a command, for
    :attr:`~gateway.nar_host.record.Place.COMMAND`. ``dataplane`` says who has the tunnels, see
    :data:`DATAPLANES`. Calls raise OSError, as :class:`~gateway.nar_host.failure.NarHostError`
    where there is something to say.
    """

    def __init__(
        self,
        title: str,
        server: str,
        place: Place,
        *,
        registry: Registry | None = None,
        inside: NetlinkSocket | None = None,
        dataplane: str = AUTO,
    ) -> None:
        self._dataplane = dataplane
        self._registry = registry or Registry()
        self._inside = inside
        self._hub: Hub | None = None
        self._holder: Holder | None = None
        self._host: NetlinkSocket | None = None
        self.record = Record(0, os.getpid(), title, server, place)

    @property
    def control_socket(self) -> Path:
        """Where the session may be asked about itself."""
        return self._registry.socket(self.record.number)

    def open(self) -> None:
        """Take a number, and sweep up what others left."""
        with self._registry.locked(), contextlib.ExitStack() as undo:
            self._host = NetlinkSocket(NETLINK_ROUTE)
            undo.callback(self._host.close)
            living = self._registry.living()
            sweep(self._host, self._registry, living)
            number, self._holder = self._registry.claim()
            undo.callback(self._holder.close)
            self.record = replace(self.record, number=number)
            self._holder.write(self.record)
            undo.pop_all()

    def use(
        self, address: IPv4Address | None, tunnel: Tunnel | None, tuples: Sequence[NarTuple]
    ) -> None:
        """Have what these leases need; without a tunnel nothing."""
        if self._holder is None or self._host is None:
            raise RuntimeError("open it first")
        wanted = replace(self.record, address=address, tunnel=tunnel, tuples=tuple(tuples))
        with self._registry.locked():
            others = [one for one in self._registry.living() if one.number != self.record.number]
            if tunnel is not None and self._hub is None:
                wanted = replace(wanted, apart=self._is_apart(tunnel))
            wanted = plan.placed(wanted, others)
            if wanted.attached and self._hub is None:
                self._hub = self._open_hub(wanted, others)
            if self._hub is not None:
                wanted = replace(wanted, hub=self._hub.descriptor)
            before, self.record = self.record, wanted
            self._holder.write(wanted)
            everyone = sorted([*others, wanted], key=lambda one: one.number)
            if before.tunnel not in (None, wanted.tunnel):
                self._registry.dead.append(before)
            sweep(self._host, self._registry, everyone)
            if self._hub is not None:
                together = self._together(everyone)
                self._hub.match(together)
                if wanted.attached:
                    self._connect(before)
                self._hub.join(together)

    def _is_apart(self, tunnel: Tunnel) -> bool:
        """Whether the tunnel is in user space. A session that is attached stays as it is."""
        if self._dataplane not in (AUTO, PORTABLE):
            return False
        lacks = kernel_tunnels.lacks(tunnel.delivery)
        if self._dataplane == PORTABLE and not lacks and tunnel.delivery is not Delivery.L2TP:
            # It would tell the server that nobody is there, and the server the other side.
            name = tunnel.delivery.value
            text = f"the kernel has {name} itself, and answers for tunnels that it does not know"
            raise NarHostError(f"{text}: leave out --dataplane portable", errno.EBUSY)
        return lacks or self._dataplane == PORTABLE

    def _open_hub(self, wanted: Record, others: Sequence[Record]) -> Hub:
        if wanted.apart:
            folder = self._registry.forwarder(wanted.number)
            return Hub.open([], PortableTunnels(folder))
        tunnels = KernelTunnels(NetlinkSocket(NETLINK_ROUTE))
        return Hub.open([one for one in others if not one.apart], tunnels)

    def _together(self, records: Sequence[Record]) -> list[Record]:
        """Those whose packets meet in our hub."""
        return [one for one in records if plan.shares_hub(self.record, one)]

    def _connect(self, before: Record) -> None:
        """Our own interface, its address, and the way out through it."""
        record, hub = self.record, self._hub
        user = self._inside or self._host
        if hub is None or user is None or record.tunnel is None or record.address is None:
            return
        on_host = self._inside is None
        name = plan.host_end(record.number) if on_host else constants.INSIDE
        peer = plan.hub_end(record.number)
        if peer not in rtnetlink.links(hub.route):
            made = rtnetlink.pair(name, record.tunnel.mtu, peer, hub.descriptor)
            user.check(f"interface {name}", [made])
            if on_host:
                _prepare(name)
            hub.route.check(peer, [rtnetlink.set_up(rtnetlink.links(hub.route)[peer], arp=False)])
        index = rtnetlink.links(user)[name]
        user.check(name, [rtnetlink.set_up(index, arp=False)])
        if before.address not in (None, record.address):
            user.transact([rtnetlink.delete_address(index, before.address)])
        user.check(
            f"address {record.address}",
            [rtnetlink.add_address(index, record.address)],
            errno.EEXIST,
        )
        table = record.table if on_host else _MAIN_TABLE
        user.check("the route into the tunnel", [rtnetlink.default_route(table, index)])
        if on_host:
            user.check("the route beside it", [rtnetlink.no_other_way(table)])
            rule = plan.host_rule(record)
            user.check(f"the rule for {record.address}", [rule.add()], errno.EEXIST)

    def close(self) -> None:
        """Take everything back. Never raises."""
        if self._holder is None or self._host is None:
            return
        with contextlib.suppress(OSError), self._registry.locked():
            self._holder.close()
            self._holder = None
            living = self._registry.living()
            with contextlib.suppress(OSError):
                if self.record.tunnel is not None:
                    self._registry.dead.append(self.record)
                sweep(self._host, self._registry, living)
            if self._hub is not None:
                with contextlib.suppress(OSError):
                    together = self._together(living)
                    self._hub.match(together)
                    self._hub.join(together)
        if self._hub is not None:
            self._hub.close()
            self._hub = None
        self._host.close()


def _prepare(name: str) -> None:
    """Senders are where other routes lead: a strict reverse path filter would drop them."""
    with contextlib.suppress(OSError):
        path = _SYS / "ipv4/conf" / name / "rp_filter"
        path.write_text("2" if filtered() else "0", "ascii")
    with contextlib.suppress(OSError):
        (_SYS / "ipv6/conf" / name / "disable_ipv6").write_text("1", "ascii")


def sweep(host: NetlinkSocket, registry: Registry, living: Sequence[Record]) -> list[str]:
    """Take away what no living session needs of the host; what it was, in words.

    Only with the registry locked. Raises OSError.
    """
    removed: list[str] = []
    if os.geteuid() != 0:
        return removed
    wanted = plan.host_ends(living)
    for name, index in sorted(rtnetlink.links(host).items()):
        if name.startswith(constants.PREFIX) and name not in wanted:
            host.check(f"interface {name}", [rtnetlink.delete(index)], *_GONE)
            removed.append(f"interface {name}")
    rules = plan.host_rules(living)
    for rule in sorted(rtnetlink.rules(host) - rules, key=lambda one: one.priority):
        if rule.priority in constants.HOST_PRIORITIES:
            host.check("a rule", [rule.delete()], *_GONE)
            removed.append(f"rule from {rule.source}")
    free = set(constants.HOST_TABLES) - {one.table for one in living}
    unused = [rtnetlink.delete_no_other_way(table) for table in sorted(free)]
    host.check("routes of before", unused, *_GONE)
    l2tp.clear(registry.dead, list(living))
    registry.dead.clear()
    return removed


def clear_leftovers(registry: Registry | None = None) -> list[str]:
    """What sessions left that ended without a word; what it was. Raises OSError."""
    registry = registry or Registry()
    host = NetlinkSocket(NETLINK_ROUTE)
    try:
        with registry.locked():
            return sweep(host, registry, registry.living())
    finally:
        host.close()
