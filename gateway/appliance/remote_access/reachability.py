"""How the inside learns where the pools are: ARP is answered, FRR announces, or a hint is given."""

import asyncio
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final, Protocol

from gateway.appliance.remote_access import frr
from gateway.appliance.remote_access.route_hints import route_hints
from gateway.dataplane.kernel.routes_in_use import Route as InUse
from gateway.dataplane.kernel.routes_in_use import routes_in_use
from gateway.domain.endpoint import IpAddress
from gateway.domain.event import Event, Severity

if TYPE_CHECKING:
    from gateway.config.document import Config
    from gateway.config.sections import PoolSection
    from gateway.control.remote_access_views import PoolReachability
    from gateway.dataplane.kernel.neighbour_proxies import NeighbourProxies, Place
    from gateway.domain.child_sa import IpNetwork

LOOK_S: Final = 60.0
"""How often it is looked whether all is still there: interfaces come and go, FRR restarts."""


class HandOver(Protocol):
    """:func:`gateway.appliance.remote_access.frr.hand_over`."""

    def __call__(self, networks: "list[IpNetwork]") -> frr.Running:
        """Waits."""


class Reachability:
    """Follows who has an address, and the configuration."""

    def __init__(
        self,
        config: "Config",
        emit: Callable[[Event], None],
        *,
        make_proxies: "Callable[[], NeighbourProxies] | None" = None,
        hand_over: HandOver = frr.hand_over,
        routes: Callable[[], list[InUse]] = routes_in_use,
    ) -> None:
        self._config = config
        self._emit = emit
        self._make_proxies = make_proxies or _make_proxies
        self._hand_over = hand_over
        self._routes = routes
        self._proxies: NeighbourProxies | None = None
        self._frr: frr.Running | None = None
        self._frr_used = False
        """FRR may have something of ours."""
        self._frr_trouble: str | None = None
        self._addresses: dict[IpAddress, None] = {}
        self._told: set[str] = set()
        self._started = False
        self._task: asyncio.Task[None] | None = None
        self._look = asyncio.Event()

    # -- begin and end -----------------------------------------------------------------------

    def open(self) -> None:
        """What needs privileges. Raises OSError."""
        if self._by_frr():
            frr.join_group()
        if self._interfaces():
            self._open_proxies()

    def _open_proxies(self) -> "NeighbourProxies":
        if self._proxies is None:
            self._proxies = self._make_proxies()
        self._proxies.prepare(self._interfaces())
        return self._proxies

    async def start(self) -> None:
        """Everybody who was in before is known by now: what nobody has any more goes."""
        self._started = True
        if self._proxies is not None:
            self._proxies.settle()
            self._tell()
        self._task = asyncio.get_running_loop().create_task(self._look_after())
        self._look.set()

    async def stop(self, *, keep: bool) -> None:
        """With ``keep`` the kernel goes on answering, and FRR announcing."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._frr_used and not keep:
            self._frr_used = False
            try:
                await asyncio.to_thread(self._hand_over, [])
            except OSError as error:
                self._trouble(f"FRR: {error}")
        if self._proxies is not None:
            self._proxies.close(keep=keep)
            self._proxies = None

    def configure(self, config: "Config") -> None:
        """Another configuration is in force. Raises OSError."""
        self._config = config
        if self._interfaces() or self._proxies is not None:
            proxies = self._open_proxies()
            wanted = dict.fromkeys(self._places(self._addresses))
            for place in [one for one in proxies.wanted if one not in wanted]:
                proxies.remove(place)
            for place in wanted:
                proxies.add(place)
            self.commit()
        self._look.set()

    # -- who has an address -------------------------------------------------------------------

    def add(self, address: IpAddress) -> None:
        """Somebody has it."""
        self._addresses[address] = None
        if self._proxies is not None:
            for place in self._places([address]):
                self._proxies.add(place)

    def remove(self, address: IpAddress) -> None:
        """Nobody has it."""
        if self._addresses.pop(address, self) is self or self._proxies is None:
            return
        for place in self._places([address]):
            self._proxies.remove(place)

    def commit(self) -> None:
        """What was queued goes to the kernel. Before the start all of it waits for the rest."""
        if self._proxies is not None and self._started:
            try:
                self._proxies.commit()
            except OSError as error:
                self._trouble(f"ARP for leased addresses: {error}")
            self._tell()

    def _places(self, addresses: Iterable[IpAddress]) -> "Iterable[Place]":
        pools = [
            (pool.network, pool.inside_interface)
            for pool in self._config.pools.values()
            if pool.advertise == "proxy-arp" and pool.inside_interface is not None
        ]
        for address in addresses:
            for network, interface in pools:
                if address in network:
                    yield interface, address

    def _interfaces(self) -> set[str]:
        return {
            pool.inside_interface
            for pool in self._config.pools.values()
            if pool.advertise == "proxy-arp" and pool.inside_interface is not None
        }

    def _by_frr(self) -> "list[IpNetwork]":
        return [one.network for one in self._config.pools.values() if one.advertise == "frr"]

    # -- whether it is so ---------------------------------------------------------------------

    async def _look_after(self) -> None:
        while True:
            try:
                async with asyncio.timeout(LOOK_S):
                    await self._look.wait()
            except TimeoutError:
                pass
            self._look.clear()
            self._settle()
            await self._to_frr()

    def _settle(self) -> None:
        if self._proxies is None:
            return
        try:
            self._proxies.prepare(self._interfaces())
            self._proxies.settle()
        except OSError as error:
            self._trouble(f"ARP for leased addresses: {error}")
        self._tell()

    async def _to_frr(self) -> None:
        networks = self._by_frr()
        if not networks and not self._frr_used:
            return
        self._frr_used = True
        try:
            self._frr = await asyncio.to_thread(self._hand_over, networks)
        except OSError as error:
            self._frr, self._frr_trouble = None, str(error)
            self._trouble(f"FRR does not announce the pools: {error}")
            return
        self._frr_trouble = None
        self._frr_used = bool(networks)
        self._told = {one for one in self._told if not one.startswith("FRR")}

    def _tell(self) -> None:
        """Each trouble once, until it is over."""
        missing = self._proxies.missing if self._proxies is not None else {}
        for interface, why in missing.items():
            self._trouble(f"{interface}: nobody answers ARP for leased addresses there: {why}")
        self._told = {
            one for one in self._told if one.startswith("FRR") or one.partition(":")[0] in missing
        }

    def _trouble(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            self._emit(Event("reachability_failed", text, Severity.WARNING))

    # -- for people ---------------------------------------------------------------------------

    async def views(self) -> "list[PoolReachability]":
        """Of every pool."""
        routes = await asyncio.to_thread(self._routes)
        return [self._view(name, pool, routes) for name, pool in self._config.pools.items()]

    def _view(self, name: str, pool: "PoolSection", routes: list[InUse]) -> "PoolReachability":
        announced, hints = 0, route_hints(self._config, name)
        if pool.advertise == "proxy-arp":
            state, detail, announced = self._of_proxies(pool, routes)
            hints = []
        elif pool.advertise == "frr":
            state, detail = self._of_frr(pool)
            announced = int(state == "ok")
            hints = [] if announced else hints
        elif pool.advertise == "route-hint":
            state, detail = "todo", f"enter on the inside router: {_commands(hints)}"
        else:
            state = "unknown"
            detail = (
                "nothing tells the inside; where its routers do not know the pool yet, set"
                f" advertise in pools.{name}, or enter: {_commands(hints)}"
            )
        return {
            "pool": name,
            "network": str(pool.network),
            "advertise": pool.advertise,
            "interface": pool.inside_interface,
            "state": state,
            "detail": detail,
            "announced": announced,
            "routes": hints,
        }

    def _of_proxies(self, pool: "PoolSection", routes: list[InUse]) -> tuple[str, str, int]:
        interface = str(pool.inside_interface)
        proxies = self._proxies
        why = (
            "nothing is answered yet" if proxies is None else proxies.missing.get(interface)
        ) or not_on_link(pool.network, interface, routes)
        if proxies is None or why is not None:
            return "failed", str(why), 0
        count = sum(1 for name, one in proxies.wanted if name == interface and one in pool.network)
        return "ok", f"answers on {interface} for {count} leased addresses", count

    def _of_frr(self, pool: "PoolSection") -> tuple[str, str]:
        if self._frr_trouble is not None:
            return "failed", self._frr_trouble
        if self._frr is None:
            return "unknown", "FRR has not answered yet"
        by = frr.announces(self._frr, pool.network.version)
        if by:
            return "ok", f"FRR announces it by: {', '.join(by)}"
        return "todo", "FRR has no router that announces it; configure one, such as: router ospf"


def not_on_link(network: "IpNetwork", interface: str, routes: Iterable[InUse]) -> str | None:
    """Why nobody on the link of ``interface`` asks for addresses of ``network``; None: they do."""
    linked = [one.network for one in routes if one.interface == interface and one.connected]
    of_version = [one for one in linked if one.version == network.version]
    if any(int(a[0]) <= int(network[0]) and int(network[-1]) <= int(a[-1]) for a in of_version):
        return None
    shown = ", ".join(map(str, of_version))
    return (
        f"{network} is no part of the network of {interface} ({shown or 'it has none'}): its hosts"
        ' send to their router instead; choose a pool inside of it, or advertise = "route-hint"'
    )


def _commands(hints: Iterable[object]) -> str:
    return "; ".join(str(one["command"]) for one in hints if isinstance(one, dict))


def _make_proxies() -> "NeighbourProxies":
    from gateway.dataplane.kernel.neighbour_proxies import NeighbourProxies  # noqa: PLC0415

    return NeighbourProxies()
