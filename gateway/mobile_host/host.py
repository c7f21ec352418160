"""The running mobile node: everything that was built, joined, started and stopped in order.

The switch is closed first and opened last. Whatever ends the process in between, it stays closed:
the kernel's permits run out by themselves, and the next start takes over.
"""

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

from gateway.appliance.events import EventLog
from gateway.appliance.privileges import (
    CORE_CAPABILITIES,
    drop_capabilities,
    no_new_privileges,
    not_dumpable,
)
from gateway.appliance.systemd import ServiceManager
from gateway.config.problem import ConfigError
from gateway.config.profile import Profile
from gateway.control.node_operations import NODE_OPERATIONS
from gateway.control.peer import Access
from gateway.control.server import ControlServer
from gateway.dataplane.kernel.node import constants
from gateway.dataplane.node import LayerStack
from gateway.domain.endpoint import Endpoint
from gateway.domain.event import Event, Severity
from gateway.domain.log import Log
from gateway.domain.mobility_credential import MobilityCredential
from gateway.mobile_host.address_command import AddressCommand
from gateway.mobile_host.control import NodeControl
from gateway.mobile_host.credential_store import CredentialStore
from gateway.mobile_host.duties import OpenService, forwards, open_services
from gateway.mobile_host.gateway_name import GatewayName
from gateway.mobile_host.leases import Leases
from gateway.mobile_host.node_service import NodeService, watch_held
from gateway.mobile_host.parts import HostParts
from gateway.mobile_host.portal import PortalProbe, ProbeTarget
from gateway.mobile_host.resolver import Names, Resolver
from gateway.mobile_host.signalling import Signalling
from gateway.mobile_host.terms import Terms
from gateway.mobile_host.unlock import Lock
from gateway.mobile_node.inputs import LinkState, VpnSession
from gateway.mobile_node.status import NodeStatus

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
        self._leases = Leases(root)
        self._probe = PortalProbe(loop, constants.NODE_PROBE)
        self._probes: dict[str, asyncio.Task[None]] = {}
        self._session: VpnSession | None = None
        self._stoppers: list[Callable[[], object]] = []
        self._stoppers_async: list[Callable[[], Awaitable[object]]] = []
        self._tasks: set[asyncio.Task[object]] = set()
        self._reloading = asyncio.Lock()

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
        finally:
            await self._shut_down()

    # -- start -----------------------------------------------------------------------------

    async def _start(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._stop.set)
        self._open_control()
        self._name = GatewayName(self._terms, self._probe, self._leases, self._events)
        await self._name.look_up()
        self._close_switch()
        self._build()
        left = drop_capabilities(CORE_CAPABILITIES)
        no_new_privileges()
        not_dumpable()
        await self._serve()
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
        dataplane = self._parts.dataplane(self._terms.node_settings())
        dataplane.open()
        self._dataplane = dataplane
        self._stoppers.append(self._open_switch)

    def _open_switch(self) -> None:
        keep = self._profile.profile.kill_switch == "always"
        self._dataplane.close(keep_switch=keep)

    def _build(self) -> None:
        """Everything else that needs privileges, and the engine."""
        profile, loop = self._profile, self._loop
        self._resolver = Resolver(
            profile.network.dns,
            constants.HOLD,
            profile.profile.state_dir,
            self._events,
            root=self._root,
        )
        self._resolver.recover()
        self._stoppers_async.append(self._resolver.stop)
        self._commands = AddressCommand(profile.network.dhcp_command, self._events)
        self._stoppers_async.append(self._commands.stop)
        self._links = self._parts.links(self._events, self._leases.domain)
        first = self._links.start()
        self._stoppers.append(self._links.close)
        self._vpn = self._parts.vpn(profile, self, self._events, debug=self._events.debug)
        self._stoppers.append(self._vpn.stop)
        self._vpn.use(self._terms.connection_policy(), self._terms.tcp_ports)
        self._engine = self._parts.engine(self._terms.node_policy(), self._dataplane.user_packets)
        if self._lock.locked:
            self._engine.lock(loop.time())
        self._signalling = Signalling(
            loop, self, link_mark=constants.NODE_LINK, inner_mark=constants.NODE_INNER
        )
        self._stoppers.append(self._signalling.close)
        self._signalling.open_inner(constants.XFRM_INTERFACE)
        self.service = NodeService(
            self._engine,
            self._dataplane,
            signals=self._signalling,
            vpn=self._vpn,
            host=self,
            clock=loop.time,
            call_at=loop.call_at,
            emit=self._events,
        )
        self._stoppers.append(self.service.stop)
        self._listen_on(first)

    async def _serve(self) -> None:
        loop = self._loop
        self._vpn.start()
        loop.add_reader(self._links.fileno(), self._links_readable)
        self._stoppers.append(lambda: loop.remove_reader(self._links.fileno()))
        self._stoppers.append(watch_held(loop, self._dataplane, self.service))
        await self._control.start(NodeControl(self, loop.time).handle)
        loop.add_signal_handler(signal.SIGHUP, self._reload_by_signal)
        self._links_changed(self._links.states)
        self._watchdog()

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

    # -- links -----------------------------------------------------------------------------

    def _links_readable(self) -> None:
        found = self._links.read()
        if found is not None:
            self._links_changed(found)

    def _links_changed(self, links: list[LinkState]) -> None:
        self._listen_on(links)
        # The engine first: what a change forbids must not wait for anything.
        self.service.links_changed(links)
        self._commands.links(links)
        if self._name.missing and any(one.carrier and one.address for one in links):
            self._spawn(self._ask_for_gateway(links))

    def _listen_on(self, links: list[LinkState]) -> None:
        indices = {one.interface: self._links.index(one.interface) for one in links}
        for name, error in self._signalling.use_links(indices).items():
            text = f"cannot listen on {name}: {error.strerror}"
            fields: dict[str, object] = {"interface": name, "reason": str(error.strerror)}
            self._events(Event("link_unusable", text, Severity.DEBUG, fields))

    async def _ask_for_gateway(self, links: list[LinkState]) -> None:
        usable = [(self._links.index(one.interface), one) for one in links if one.address]
        if await self._name.ask_on(usable):
            self._use_terms()

    # -- what comes in from the parts ------------------------------------------------------

    def registration(self, message: bytes, interface: str | None, source: Endpoint) -> None:
        """See :class:`gateway.mobile_host.signalling.Receiver`."""
        self.service.registration(message, interface, source)

    def advertisement(
        self, interface: str, source: IPv4Address, link_address: bytes, octets: bytes
    ) -> None:
        """See :class:`gateway.mobile_host.signalling.Receiver`."""
        self.service.advertisement(interface, source, link_address, octets)

    def vpn_up(self, session: VpnSession) -> None:
        """See :class:`gateway.mobile_host.vpn.VpnListener`."""
        session = replace(session, credentials=self._terms.wanted(session.credentials))
        self._session = session
        self.service.vpn_up(session)

    def vpn_failed(self, reason: str, hint: str, *, refused: bool) -> None:
        """See :class:`gateway.mobile_host.vpn.VpnListener`."""
        self._session = None
        self.service.vpn_failed(reason, hint, refused=refused)

    def vpn_down(self, reason: str) -> None:
        """See :class:`gateway.mobile_host.vpn.VpnListener`."""
        self._session = None
        self.service.vpn_down(reason)

    # -- what the engine asks of the host --------------------------------------------------

    def probe_portal(self, interface: str) -> None:
        """See :class:`gateway.mobile_host.node_service.Surroundings`."""
        running = self._probes.get(interface)
        if running is not None and not running.done():
            return
        self._probes[interface] = self._loop.create_task(self._probed(interface))

    async def _probed(self, interface: str) -> None:
        target = ProbeTarget(self._profile.network.portal_probe, self._name.address)
        servers = self._leases.name_servers(self._links.index(interface), interface)
        found = await self._probe.probe(interface, target, servers)
        fields: dict[str, object] = {"interface": interface, "verdict": found.verdict.value}
        if found.redirect_host:
            fields["redirect_host"] = found.redirect_host
        text = f"{interface}: {found.text}"
        self._events(Event("portal_probed", text, Severity.INFO, fields))
        self.service.portal(interface, found.verdict)

    def keep_credentials(self, credentials: tuple[MobilityCredential, ...]) -> None:
        """See :class:`gateway.mobile_host.node_service.Surroundings`."""
        if not self._terms.learn(credentials):
            return
        if self._terms.keeps_on_disk:
            try:
                self._store.keep(self._terms.credentials)
            except OSError as error:
                text = f"{self._store.path}: cannot be written: {error.strerror}"
                self._events(Event("credentials_unsaved", text, Severity.WARNING))
        # At once: the next output may be a registration with a home agent that is new.
        self._use_settings()

    def stack_applied(self, stack: LayerStack) -> None:
        """See :class:`gateway.mobile_host.node_service.Surroundings`."""
        session = self._session
        if stack.mode.through_vpn and session is not None:
            domains = self._profile.network.split_domains or session.domains
            self._resolver.use(Names(session.dns, domains))
        elif stack.mode.inside:
            self._resolver.use(Names())

    def _use_terms(self) -> None:
        """Give every part its share of the terms as they are now."""
        try:
            policy, connection = self._terms.node_policy(), self._terms.connection_policy()
        except ConfigError as error:
            for problem in error.problems:
                self._events.log.error("profile_unusable", text=str(problem))
            return
        self._use_settings()
        self._vpn.use(connection, self._terms.tcp_ports)
        now = self._loop.time()
        self._engine.reconfigure(policy, now)
        self.service.flush(now)

    def _use_settings(self) -> None:
        try:
            self._dataplane.reconfigure(self._terms.node_settings())
        except OSError as error:
            text = f"the kernel refused other peers: {error.strerror}"
            self._events(Event("dataplane_refused", text, Severity.WARNING))

    # -- what the user asks for ------------------------------------------------------------

    def status(self) -> NodeStatus:
        """See :class:`gateway.mobile_host.control.Node`."""
        return self._engine.status(self._loop.time())

    async def unlock(self, password: str) -> None:
        """See :class:`gateway.mobile_host.control.Node`."""
        await self._lock.open(password)
        self._use_terms()
        now = self._loop.time()
        self._engine.unlock(now)
        self.service.flush(now)
        self._events(Event("unlocked", "the profile's secrets are unlocked"))

    def lock(self) -> None:
        """See :class:`gateway.mobile_host.control.Node`."""
        self._lock.close()
        now = self._loop.time()
        # First with the keys that are known: it deregisters and logs out.
        self._engine.lock(now)
        self.service.flush(now)
        self._use_terms()
        self._events(Event("locked", "locked: nothing of the user's leaves"))

    def reconnect(self) -> None:
        """See :class:`gateway.mobile_host.control.Node`."""
        self._engine.reconnect(self._loop.time())
        self._links_changed(self._links.refresh())

    # -- reload ----------------------------------------------------------------------------

    def _reload_by_signal(self) -> None:
        self._spawn(self._reload())

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
        ):
            if old != new:
                text = f"reload: {key} = {new}: needs a restart; {old} stays in force"
                self._events.log.warning("reload_change", text=text, key=key)
        self._events.log = self._configure_log(wanted)
        self._events.debug = wanted.profile.log_level == "debug"
        self._terms.profile = wanted
        self._lock.use(wanted)
        await self._name.look_up()
        self._commands.use(wanted.network.dhcp_command)
        self._use_terms()
        self._events.log.info("reloaded", text="profile reloaded")

    # -- stop ------------------------------------------------------------------------------

    async def _farewell(self) -> None:
        """Deregister, log out, and wait a little for the answers."""
        self._manager.stopping()
        now = self._loop.time()
        self._engine.close(now)
        self.service.flush(now)
        end = now + FAREWELL_S
        while self._engine.next_timer() is not None:
            if self._loop.time() >= end:
                break
            await asyncio.sleep(FAREWELL_POLL_S)
        await self._vpn.farewell()
        self._events.log.info("stopped", text="mobile node stopped")

    async def _shut_down(self) -> None:
        for task in (*self._probes.values(), *self._tasks):
            task.cancel()
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

    def _spawn(self, work: Awaitable[object]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

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
