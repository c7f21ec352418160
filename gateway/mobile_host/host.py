"""The running mobile node: everything that was built, joined, started and stopped in order.

The switch is closed first and opened last. Whatever ends the process in between, it stays closed:
the kernel's permits run out by themselves, and the next start takes over.
"""

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from gateway.appliance.events import EventLog
from gateway.appliance.systemd import ServiceManager
from gateway.config.problem import ConfigError
from gateway.config.profile import Profile
from gateway.control.node_operations import NODE_OPERATIONS
from gateway.control.peer import Access
from gateway.control.server import ControlServer
from gateway.dataplane.kernel.node import constants
from gateway.domain.event import Event, Severity
from gateway.domain.log import Log
from gateway.domain.privileges import (
    CORE_CAPABILITIES,
    drop_capabilities,
    no_new_privileges,
    not_dumpable,
)
from gateway.mobile_host.address_command import AddressCommand
from gateway.mobile_host.control import NodeControl
from gateway.mobile_host.credential_store import CredentialStore
from gateway.mobile_host.duties import OpenService, forwards, open_services
from gateway.mobile_host.gateway_name import GatewayName
from gateway.mobile_host.leases import Leases
from gateway.mobile_host.parts import HostParts
from gateway.mobile_host.portal import PortalProbe
from gateway.mobile_host.resolver import Resolver
from gateway.mobile_host.running import Environment, RunningNode
from gateway.mobile_host.suspend import SuspendWatch
from gateway.mobile_host.terms import Terms
from gateway.mobile_host.unlock import Lock
from gateway.mobile_host.wireless import RadioWatch

FAREWELL_POLL_S = 0.02
FAREWELL_S = 1.5
"""How long a clean stop waits for home agents and the gateway to hear of it."""


class Host:
    """One mobile node process."""

    def __init__(
        self,
        profile: Profile,
        parts: HostParts,
        *,
        log: Log,
        configure_log: Callable[[Profile], Log],
        manager: ServiceManager | None = None,
        root: Path = Path("/"),
    ) -> None:
        self._parts = parts
        self._configure_log = configure_log
        self._manager = manager or ServiceManager()
        self._root = root
        loop = self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self._events = EventLog(log, loop.time, debug=profile.profile.log_level == "debug")
        self._store = CredentialStore(profile.profile.state_dir)
        self._lock = Lock(profile, loop.time)
        learnt = self._store.load(time.time()) if profile.sealed is None else ()
        self._terms = Terms(profile, self._lock, time.time, learnt)
        self._stoppers: list[Callable[[], object]] = []
        self._stoppers_async: list[Callable[[], Awaitable[object]]] = []
        self._found_closed = self._serving = self._orderly = False
        self._reloading = asyncio.Lock()
        self._reload_task: asyncio.Task[None] | None = None

    @property
    def _profile(self) -> Profile:
        return self._terms.profile

    async def run(self) -> None:
        """Start, serve until told to stop, stop. Whatever was started is stopped in any case.

        Raises what the parts raise when they cannot be set up: see
        :func:`gateway.mobile_host.start.status_of`.
        """
        self._loop.set_exception_handler(self._fault)
        try:
            await self._start()
            await self._stop.wait()
            await self._farewell()
            self._orderly = True
        finally:
            await self._shut_down()

    # -- start -----------------------------------------------------------------------------

    async def _start(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._stop.set)
        self._open_control()
        leases = Leases(self._root)
        probe = PortalProbe(self._loop, constants.NODE_PROBE)
        self._name = GatewayName(self._terms, probe, leases, self._events)
        self._name.recall()
        self._close_switch()
        self._join(self._surround(leases, probe))
        left = drop_capabilities(CORE_CAPABILITIES)
        no_new_privileges()
        not_dumpable()
        await self._serve()
        self._serving = True
        self._tell_ready(sorted(left))

    def _open_control(self) -> None:
        """First: it tells whether another node runs."""
        profile = self._profile.profile
        profile.runtime_dir.mkdir(mode=0o755, parents=True, exist_ok=True)
        profile.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._control = ControlServer(
            self._profile.control_socket,
            access=Access(),
            log=self._events.log,
            operations=NODE_OPERATIONS,
        )
        self._control.bind()
        self._stoppers_async.append(self._control.stop)
        self._events.publish = lambda event, debug: self._control.publish(event, debug=debug)

    def _close_switch(self) -> None:
        """From here on nothing of the user's leaves before something is proven."""
        if forwards(self._root):
            text = "IP forwarding is on; it is off while this host is a mobile node"
            self._events(Event("forwarding_off", text, Severity.WARNING))
        self._found_closed = self._parts.switch_left()
        dataplane = self._parts.dataplane(self._profile, self._terms.node_settings())
        dataplane.open()
        self._dataplane = dataplane
        self._stoppers.append(self._open_switch)

    def _open_switch(self) -> None:
        """Only an orderly end opens it; a start that fails leaves it as it found it."""
        wanted_closed = self._profile.profile.kill_switch == "always"
        failed_closed = not self._orderly and (self._serving or self._found_closed)
        self._dataplane.close(keep_switch=wanted_closed or failed_closed)

    def _surround(self, leases: Leases, probe: PortalProbe) -> Environment:
        """What needs no engine."""
        profile = self._profile
        resolver = Resolver(
            profile.network.dns,
            constants.HOLD,
            profile.profile.state_dir,
            self._events,
            root=self._root,
        )
        resolver.recover()
        self._stoppers_async.append(resolver.stop)
        self._commands = AddressCommand(profile.network.dhcp_command, self._events)
        self._stoppers_async.append(self._commands.stop)
        self._links = self._parts.links(self._events, leases.domain)
        self._links.start()
        self._stoppers.append(self._links.close)
        return Environment(
            events=self._events,
            terms=self._terms,
            store=self._store,
            dataplane=self._dataplane,
            links=self._links,
            leases=leases,
            probe=probe,
            name=self._name,
            resolver=resolver,
            commands=self._commands,
        )

    def _join(self, around: Environment) -> None:
        """The engine, and what listens for it."""
        loop = self._loop
        node = self._node = RunningNode(loop, around)
        self._vpn = self._parts.vpn(self._profile, node, self._events, debug=self._events.debug)
        self._stoppers.append(self._vpn.stop)
        self._vpn.use(self._terms.connection_policy(), self._terms.tcp_ports)
        self._engine = self._parts.engine(self._terms.node_policy(), self._dataplane.user_packets)
        if self._lock.locked:
            self._engine.lock(loop.time())
        signalling = self._parts.signalling(node)
        self._stoppers.append(signalling.close)
        self._service = node.join(self._engine, self._vpn, signalling)
        self._stoppers.append(node.stop)

    async def _serve(self) -> None:
        loop, node = self._loop, self._node
        self._vpn.start()
        self._watch(self._links.fileno(), node.links_readable)
        self._watch(self._dataplane.hold_fd(), node.held_readable)
        self._watch_radios()
        suspend = SuspendWatch()
        self._stoppers.append(suspend.close)
        self._watch(suspend.fileno(), lambda: self._clock_set(suspend))
        await self._control.start(NodeControl(node, loop.time).handle)
        loop.add_signal_handler(signal.SIGHUP, self._reload_by_signal)
        node.links_changed(self._links.states)
        self._watchdog()

    def _watch_radios(self) -> None:
        try:
            radios = RadioWatch()
        except OSError:
            return  # this host has none
        self._stoppers.append(radios.close)
        self._watch(radios.fileno(), lambda: self._node.radios_moved(radios))

    def _watch(self, descriptor: int, readable: Callable[[], None]) -> None:
        self._loop.add_reader(descriptor, readable)
        self._stoppers.append(lambda: self._loop.remove_reader(descriptor))

    def _clock_set(self, suspend: SuspendWatch) -> None:
        slept_s = suspend.read()
        if slept_s:
            self._node.slept(slept_s)

    def _tell_ready(self, capabilities: list[int]) -> None:
        for warning in self._profile.warnings:
            self._events.log.warning("config_warning", text=str(warning))
        services = open_services(self._root)
        if services:
            self._events(_reachable(services))
        locked = "; locked, `gateway mn unlock` lets it log in" if self._lock.locked else ""
        links = ", ".join(one.interface for one in self._links.states) or "none yet"
        self._events.log.info(
            "started",
            text=f"mobile node {self._profile.name} is ready; links: {links}{locked}",
            dataplane=self._parts.chosen,
            links=[one.interface for one in self._links.states],
            capabilities=capabilities,
            locked=self._lock.locked,
        )
        self._manager.ready(f"mobile node, links {links}{locked}")

    def _watchdog(self) -> None:
        interval = self._manager.watchdog_interval_s
        if interval is not None:
            self._manager.alive()
            self._loop.call_later(interval, self._watchdog)

    # -- reload ----------------------------------------------------------------------------

    def _reload_by_signal(self) -> None:
        self._reload_task = self._loop.create_task(self._reload())

    async def _reload(self) -> None:
        async with self._reloading:
            self._manager.reloading()
            try:
                wanted = await asyncio.to_thread(self._parts.load, self._profile.path)
            except ConfigError as error:
                for problem in error.problems:
                    self._events.log.error("reload_refused", text=f"reload refused: {problem}")
                self._events.log.error("reload_refused", text="the old profile stays in force")
            else:
                await self._adopt(wanted)
            self._manager.ready("mobile node")

    async def _adopt(self, wanted: Profile) -> None:
        before = self._profile
        for key, old, new in (
            ("profile.state_dir", before.profile.state_dir, wanted.profile.state_dir),
            ("profile.runtime_dir", before.profile.runtime_dir, wanted.profile.runtime_dir),
            ("network.mtu", before.network.mtu, wanted.network.mtu),
            ("network.dns", before.network.dns, wanted.network.dns),
            ("dataplane.kind", before.dataplane.kind, wanted.dataplane.kind),
        ):
            if old != new:
                text = f"reload: {key} = {new}: needs a restart; {old} stays in force"
                self._events.log.warning("reload_change", text=text, key=key)
        self._events.log = self._configure_log(wanted)
        self._events.debug = wanted.profile.log_level == "debug"
        self._terms.profile = wanted
        self._lock.use(wanted)
        self._name.recall()
        self._commands.use(wanted.network.dhcp_command)
        self._node.use_terms()
        self._events.log.info("reloaded", text="profile reloaded")

    # -- stop ------------------------------------------------------------------------------

    async def _farewell(self) -> None:
        """Deregister, log out, and wait a little for the answers."""
        self._manager.stopping("closing tunnels")
        now = self._loop.time()
        self._service.drive(self._engine.close)
        end = now + FAREWELL_S
        while self._engine.next_timer() is not None:
            if self._loop.time() >= end:
                break
            await asyncio.sleep(FAREWELL_POLL_S)
        await self._vpn.farewell()
        self._events.log.info("stopped", text="mobile node stopped")

    async def _shut_down(self) -> None:
        if self._reload_task is not None:
            self._reload_task.cancel()
        for end in reversed(self._stoppers_async):
            try:
                await end()
            except Exception as error:  # noqa: BLE001 - the others still have to be stopped
                self._stop_failed(error)
        for stop in reversed(self._stoppers):
            try:
                stop()
            except Exception as error:  # noqa: BLE001 - the others still have to be stopped
                self._stop_failed(error)

    def _stop_failed(self, error: Exception) -> None:
        self._events.log.error("stop_failed", text=f"stopping: {type(error).__name__}: {error}")

    def _fault(self, _loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        """A callback raised: a fault of ours, one line of it, and the node goes on.

        The switch does not rest on what failed: plaintext ends when its permit does.
        """
        error = context.get("exception")
        text = f"internal fault: {context.get('message')}"
        if isinstance(error, BaseException):
            where = error.__traceback__
            while where is not None and where.tb_next is not None:
                where = where.tb_next
            at = f" at {where.tb_frame.f_code.co_filename}:{where.tb_lineno}" if where else ""
            text = f"internal fault: {type(error).__name__}: {error}{at}"
        self._events.warning(Event("internal_fault", text, Severity.WARNING))


def _reachable(services: list[OpenService]) -> Event:
    named = ", ".join(map(str, services[:8])) + (" ..." if len(services) > 8 else "")
    return Event(
        "services_listening",
        f"{len(services)} services listen on more than loopback, behind the switch: {named}",
        Severity.INFO,
        {"services": [str(one) for one in services]},
    )
