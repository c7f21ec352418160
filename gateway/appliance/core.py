"""The running core: everything that was built, joined, started and stopped in order."""

import asyncio
import gc
import signal
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, cast

from gateway.appliance.access.side import access_side
from gateway.appliance.access.token_file import TokenFile, ensure_token
from gateway.appliance.accounts import control_access, group_ids
from gateway.appliance.administration.composition import Administration
from gateway.appliance.administration.side import Surroundings
from gateway.appliance.administration.source import Source
from gateway.appliance.api_process import account_for_api, api_command, make_api_folder
from gateway.appliance.backends import Backends
from gateway.appliance.events import EventLog
from gateway.appliance.factory import Factory
from gateway.appliance.failures import Failures
from gateway.appliance.held_sockets import HeldSockets
from gateway.appliance.ike_service import IkeService
from gateway.appliance.keeper import ApiCommand, Keeper
from gateway.appliance.queries import Queries
from gateway.appliance.reloading import Parts, Reload, require_crls
from gateway.appliance.remote_access.composition import RemoteAccess
from gateway.appliance.remote_access.part import Joint
from gateway.appliance.systemd import ServiceManager
from gateway.appliance.tcp_encapsulation import TcpEncapsulation, open_tcp
from gateway.appliance.vpn_fa import VpnFaSessions
from gateway.config.document import Config
from gateway.control.protocol import ControlError, ErrorCode
from gateway.control.server import ControlServer
from gateway.domain.log import Log
from gateway.domain.privileges import (
    CORE_CAPABILITIES,
    drop_capabilities,
    no_new_privileges,
    not_dumpable,
)
from gateway.domain.remote_access import Grant
from gateway.ike.outputs import Event, Severity

if TYPE_CHECKING:
    from gateway.appliance.administration.devices import Device as Configured
    from gateway.appliance.administration.objects_side import ObjectsSide
    from gateway.appliance.mobility import Mobility
    from gateway.appliance.nar.composition import Nar
    from gateway.appliance.observation.device import Device
    from gateway.appliance.observation.side import Observation

FAREWELL_S = 1.0
"""How long a clean stop waits for peers to confirm that their SAs are gone."""
FAREWELL_POLL_S = 0.02


class Appliance:
    """One core process."""

    def __init__(
        self,
        config: Config,
        factory: Factory,
        keeper: Keeper,
        *,
        log: Log,
        configure_log: Callable[[Config], Log],
        manager: ServiceManager | None = None,
        administration: Administration | None = None,
    ) -> None:
        self._config = config
        self._factory = factory
        self._keeper = keeper
        self._log = log
        self._configure_log = configure_log
        self._manager = manager or ServiceManager()
        self._administration = administration or Administration(Source(config.path, factory.load))
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self._keep = False
        """The sessions go on in the next process: nothing is said to peers, nothing is removed."""
        self._control: ControlServer | None = None
        self._stoppers: list[Callable[[], object]] = []
        self._stoppers_async: list[Callable[[], Awaitable[object]]] = []
        self._reload_task: asyncio.Task[object] | None = None
        self._api: dict[str, object] = {"state": "off"}
        self._failures = Failures()
        self._mobility: Mobility | None = None
        self._nar: Nar | None = None
        self._tcp: TcpEncapsulation | None = None
        self._token_file: TokenFile | None = None
        self._events = EventLog(log, self._loop.time, debug=config.gateway.log_level == "debug")

    async def run(self) -> None:
        """Start, serve until told to stop, stop. Whatever was started is stopped in any case.

        Raises what the parts raise when they cannot be set up: see
        :func:`gateway.appliance.start.status_of`.
        """
        self._loop.set_exception_handler(self._fault)
        try:
            await self._start()
            await self._stop.wait()
            if self._keep:
                self._hand_over()
            else:
                await self._farewell()
        finally:
            await self._shut_down()

    # -- start ---------------------------------------------------------------------------

    async def _start(self) -> None:
        self._loop.add_signal_handler(signal.SIGTERM, self._terminate)
        self._loop.add_signal_handler(signal.SIGINT, self._stop.set)
        api = self._open_control()
        self._taken = self._factory.taken_over(self._config, self._administration, self._events)
        self._stoppers_async.append(self._taken.stop)
        # A start that fails leaves sessions as they are for another try.
        self._keep = self._taken.anything
        await self._open_network()
        self._join()
        left = drop_capabilities(CORE_CAPABILITIES)
        no_new_privileges()
        not_dumpable()
        await self._serve()
        self._keep = False
        self._tell_ready(left)
        # Last: its start would take the processor from ours, and nobody waits for it.
        if api is not None:
            self._keeper.start(api, self._loop, self._api_report)
            self._api = {"state": "starting"}

    def _open_control(self) -> ApiCommand | None:
        """The control socket comes first: it tells whether another gateway runs.

        Returns the command of the API's process, if there shall be one.
        """
        config = self._config
        config.gateway.runtime_dir.mkdir(mode=0o755, parents=True, exist_ok=True)
        account = account_for_api(config, self._log) if config.api.enabled else None
        gids = group_ids(config.control.allowed_groups, config.path)
        if config.api.enabled:
            make_api_folder(config, account, self._log)
            ensure_token(config.api_token_file)
            self._token_file = TokenFile(config.api_token_file)
        allowed = control_access(config.control.allowed_uids, gids, account)
        control = ControlServer(
            config.control_socket,
            access=allowed.access,
            log=self._log,
            group=allowed.group,
            mode=allowed.mode,
        )
        if self._token_file is not None:
            control.authenticate = self._token_file.authenticate
        control.bind()
        self._control = control
        return api_command(config, account, allowed.group) if config.api.enabled else None

    async def _open_network(self) -> None:
        """What needs privileges: sockets and the kernel; and what stands behind the engine."""
        config = self._config
        self._held = HeldSockets(config.gateway.runtime_dir, self._manager)
        self._sockets = self._factory.sockets(config, self._held.take())
        self._stoppers.append(self._sockets.close)
        self._stoppers.append(lambda: self._held.close() if self._keep else self._held.end())
        self._tcp = open_tcp(config, self._events)
        if self._tcp is not None:
            self._stoppers.append(self._tcp.close)
        self._dataplane = self._factory.dataplane(config)
        self._stoppers.append(lambda: self._dataplane.close(keep=self._keep))
        self._connections = self._factory.connections(config)
        self._sessions = VpnFaSessions(self._loop.time, self._loop.call_soon)
        self._login = self._factory.mobility_login(config)
        plan = self._factory.mobility(config)
        if plan is not None:
            self._mobility = self._factory.mobility_agents(
                plan, self._sessions, self._events, self._taken
            )
            mobility = self._mobility
            self._stoppers.append(lambda: mobility.close(keep=self._keep))
            self._stoppers_async.append(lambda: mobility.stop(keep=self._keep))
        self._backends = Backends(
            await asyncio.to_thread(self._factory.backends, config),
            usage=self._dataplane.usage,
            emit=self._events,
            records=self._taken.records,
        )
        if self._tcp is not None:
            self._backends.true_remote = self._tcp.names.true_remote
        self._stoppers_async.append(lambda: self._backends.stop(keep=self._keep))
        self._open_nar(config)
        require_crls(self._backends, config, self._connections)

    def _open_nar(self, config: Config) -> None:
        planner = self._factory.nar(config)
        if planner is None:
            return
        self._nar = self._factory.nar_servers(
            planner,
            ask_user=self._backends.ask_password,
            spi_in_use=self._ike_has_spi,
            emit=self._events,
            taken=self._taken,
        )
        self._stoppers.append(self._nar.close)
        self._stoppers_async.append(self._nar.stop)
        if self._mobility is not None:
            self._mobility.meet(self._nar)

    def _ike_has_spi(self, spi: int) -> bool:
        return self._engine.has_child_spi(spi)

    def _join(self) -> None:
        dataplane, loop = self._dataplane, self._loop
        self._engine = self._factory.engine(
            self._config,
            self._connections,
            dataplane,
            self._backends.find_user,
            debug=self._events.debug,
            recording=self._taken.possible,
        )
        self._engine.mobility = self._login
        if self._nar is not None:
            self._engine.spi_taken = self._nar.spi_taken
        self._access = RemoteAccess(self._joint)
        self._stoppers_async.append(lambda: self._access.stop(keep=self._keep))
        self._access.open()
        self._service = IkeService(
            self._engine,
            dataplane,
            send=self._sockets.send,
            clock=loop.time,
            call_at=loop.call_at,
            emit=self._events,
            outside=self._backends,
            watcher=self._sessions,
            records=self._taken.records,
            admission=self._access,
        )
        self._backends.join(self._engine, self._service.flush)
        self._stoppers += [self._unwatch_dataplane, self._service.stop]
        self._reload = self._reloader()
        self._administration.join(self._surroundings())
        self._administration.watch_devices = self._device_changed
        self._stoppers_async.append(self._administration.stop)
        self._queries = Queries(
            self._engine,
            dataplane,
            flush=self._service.flush,
            clock=loop.time,
            facts=self._facts,
            reload=self._reload_by_control,
            failures=self._failures,
            agents=lambda: self._mobility,
            nar=lambda: self._nar,
            administration={**self._administration.handlers(), **self._access.handlers()},
            **({} if self._tcp is None else {"named": self._tcp.names.in_view}),
        )
        self._events.record = self._failures
        self._events.publish = self._publish
        self._backends.resume(self._taken.of("accounting"))
        self._taken.ike_sas(self._engine, dataplane, self._service, loop.time())

    def _reloader(self) -> Reload:
        return Reload(
            Parts(
                self._factory,
                self._administration,
                self._engine,
                self._service,
                self._dataplane,
                self._backends,
                self._access,
                self._mobility,
                self._nar,
            ),
            config=lambda: self._config,
            adopt=self._adopt,
            log=lambda: self._log,
            clock=self._loop.time,
        )

    def _joint(self, grants: Callable[[], Mapping[str, Grant]]) -> Joint:
        return Joint(
            config=lambda: self._config,
            grants=grants,
            engine=self._engine,
            dataplane=self._dataplane,
            emit=self._events,
            find_device=self._find_device,
            configured_device=self._configured_device,
            clock=self._loop.time,
            wall_clock=time.time,
            call_at=self._loop.call_at,
            taken_over=self._taken.possible,
            taken=self._taken,
        )

    def _find_device(self, name: str) -> "Device":
        side = cast("Observation", self._administration.side("observation"))
        return side.queries.find(name, "device")

    def _configured_device(self, identity: str) -> "Configured | None":
        try:
            side = cast("ObjectsSide", self._administration.side("objects"))
        except Exception:  # noqa: BLE001 - its start tries again, and tells
            return None
        return side.devices.of_identity(identity)

    def _device_changed(self, name: str) -> None:
        side = cast("ObjectsSide", self._administration.side("objects"))
        device = side.devices.get(name)
        self._access.device_changed(name, None if device is None else device.identity)

    def _surroundings(self) -> Surroundings:
        return Surroundings(
            config=lambda: self._config,
            engine=self._engine,
            service=self._service,
            dataplane=self._dataplane,
            backends=self._backends,
            sessions=self._sessions,
            failures=self._failures,
            emit=self._events,
            mobility=lambda: self._mobility,
            nar=lambda: self._nar,
            facts=self._facts,
            reload=self._reload.run,
            changing=self._reload.changing,
            prepare=self._reload.prepare,
            apply=self._reload.apply,
            ended_by=self._reload.ended_by,
            call_later=self._loop.call_later,
            stop=self._stop.set,
            clock=self._loop.time,
        )

    async def _serve(self) -> None:
        loop = self._loop
        self._taken.start()
        if self._taken.possible:
            self._held.keep(self._sockets.sockets)
        self._administration.know_devices()
        self._sockets.start(loop, self._service.receive, self._service.sort)
        if self._tcp is not None:
            await self._tcp.start(self._engine.established_remotes)
        for descriptor in self._dataplane.event_fds():
            loop.add_reader(descriptor, self._dataplane_readable)
        if self._mobility is not None:
            self._mobility.start()
        if self._nar is not None:
            await self._nar.start()
        await self._access.start()
        await self._administration.start()
        if self._control is not None:
            access = access_side(self._administration, self._token_file)
            self._control.authenticate = access.authenticate
            await self._control.start(access.around(self._queries.handle))
        loop.add_signal_handler(signal.SIGHUP, self._reload_by_signal)
        self._reload.open(self._connections)
        self._backends.start()
        self._taken.release()
        gc.collect()
        gc.freeze()
        self._watchdog()

    def _tell_ready(self, capabilities: Iterable[int]) -> None:
        config = self._config
        where = ", ".join(map(str, self._sockets.local_endpoints))
        if self._tcp is not None:
            where += ", TCP " + ", ".join(map(str, self._tcp.listening))
        agents = "" if self._mobility is None else f"; {self._mobility.summary()}"
        agents += "" if self._nar is None else f"; {self._nar.summary()}"
        plane = self._factory.plane
        chosen = {} if plane is None else {"dataplane": str(plane.choice.kind), "why": plane.why}
        if plane is not None:
            agents += f"; {plane.choice.kind} dataplane: {plane.why}"
        self._log.info(
            "started",
            text=f"gateway is ready: {len(config.connections)} connections, IKE on {where}{agents}",
            connections=len(config.connections),
            capabilities=sorted(capabilities),
            **chosen,
        )
        for warning in config.warnings:
            self._log.warning("config_warning", text=str(warning))
        self._manager.ready(f"{len(config.connections)} connections")

    def _publish(self, event: dict[str, object], debug: bool) -> None:
        self._administration.hear(event, debug=debug)
        if self._control is not None:
            self._control.publish(event, debug=debug)

    def _dataplane_readable(self) -> None:
        self._service.dataplane_events(self._dataplane.read_events())

    def _watchdog(self) -> None:
        interval = self._manager.watchdog_interval_s
        if interval is not None:
            self._manager.alive()
            self._loop.call_later(interval, self._watchdog)

    # -- stop ----------------------------------------------------------------------------

    def _terminate(self) -> None:
        """SIGTERM: the service manager restarts us, or somebody wants us to end.

        Who is stopping already goes on as begun: peers may have been told that it is over.
        """
        if self._stop.is_set():
            return
        self._keep = self._config.gateway.on_sigterm == "keep" and self._taken.possible
        self._stop.set()

    def _hand_over(self) -> None:
        """Write down how things are; the kernel goes on forwarding without us."""
        self._manager.stopping("handing over")
        now = self._loop.time()
        self._engine.hand_over(now)
        self._service.flush(now)
        # Held by others, they keep what comes from now on for the next process.
        self._sockets.close()
        text = f"gateway stopped, and left {len(self._engine.ike_sa_names())} IKE SAs to the next"
        self._log.info("stopped", text=text)

    async def _farewell(self) -> None:
        """Tell the peers, and wait a little for their answers."""
        self._manager.stopping("closing tunnels")
        now = self._loop.time()
        self._engine.close_all(now)
        self._service.flush(now)
        while self._engine.ike_sa_names():
            if self._loop.time() - now >= FAREWELL_S:
                break
            await asyncio.sleep(FAREWELL_POLL_S)
        self._log.info("stopped", text="gateway stopped")

    def _unwatch_dataplane(self) -> None:
        for descriptor in self._dataplane.event_fds():
            self._loop.remove_reader(descriptor)

    async def _shut_down(self) -> None:
        if self._control is not None:
            await self._control.stop()
        for end in reversed(self._stoppers_async):
            try:
                await end()
            except Exception as error:  # noqa: BLE001 - the others still have to be stopped
                self._log.error("stop_failed", text=f"stopping: {type(error).__name__}: {error}")
        for stop in reversed(self._stoppers):
            try:
                stop()
            except Exception as error:  # noqa: BLE001 - the others still have to be stopped
                self._log.error("stop_failed", text=f"stopping: {type(error).__name__}: {error}")

    # -- reload --------------------------------------------------------------------------

    def _reload_by_signal(self) -> None:
        self._reload_task = self._loop.create_task(self._reload_and_tell())

    async def _reload_and_tell(self) -> None:
        self._manager.reloading()
        await self._reload.run()
        self._manager.ready(f"{len(self._config.connections)} connections")

    async def _reload_by_control(self) -> dict[str, object]:
        problems, changes = await self._reload.run()
        if problems:
            raise ControlError(ErrorCode.REFUSED, "\n".join(problems))
        return {"changes": changes}

    def _adopt(self, wanted: Config) -> None:
        self._config = wanted
        self._log = self._events.log = self._configure_log(wanted)
        self._events.debug = self._engine.trace = wanted.gateway.log_level == "debug"

    # -- facts ---------------------------------------------------------------------------

    def _facts(self) -> dict[str, object]:
        config = self._config
        counters: dict[str, Mapping[str, int]] = {
            "ike": self._engine.counters,
            "sockets": self._sockets.counters,
            "service": self._service.counters,
            "control": self._control.counters if self._control is not None else {},
            "log": self._events.counters,
            **({"tcp": self._tcp.counters} if self._tcp is not None else {}),
        }
        return {
            "name": config.gateway.name,
            "config": str(config.path),
            "connections": list(config.connections),
            "listen": [str(endpoint) for endpoint in self._sockets.local_endpoints],
            "ike_sas": len(self._engine.ike_sa_names()),
            "child_sas": len(self._engine.child_sa_names()),
            "pools": [
                {
                    "name": name,
                    "network": str(pool.network),
                    "size": pool.size,
                    "in_use": pool.in_use,
                }
                for name, pool in self._engine.pools.items()
            ],
            "counters": {name: dict(values) for name, values in counters.items()},
            "dataplane": {**self._plane_facts(), "counters": self._dataplane.counters()},
            "api": {"listen": str(config.api.listen), **self._api},
            "reloads": self._reload.facts(),
            "backends": self._backends.facts(),
            "failed_logins": self._failures.total,
            "taken_over": dict(self._taken.facts),
            "remote_access": self._access.facts(),
            "broken": [f"{kind}/{name}" for kind, name in config.broken],
            **({"tcp": self._tcp.facts()} if self._tcp is not None else {}),
            **({"mobility": self._mobility.facts()} if self._mobility is not None else {}),
            **({"nar": self._nar.facts()} if self._nar is not None else {}),
        }

    def _plane_facts(self) -> dict[str, object]:
        plane = self._factory.plane
        return {"kind": "kernel"} if plane is None else plane.facts()

    def _api_report(self, report: dict[str, object]) -> None:
        what = report.get("what")
        if what == "started":
            self._api = {"state": "running", "pid": report.get("pid")}
            self._log.debug("api_started", text=f"API process {report.get('pid')} started")
        elif what == "ended":
            self._api = {"state": "waiting", "status": report.get("status")}
            pause = report.get("again_in_s")
            text = f"the API process ended with status {report.get('status')}; again in {pause} s"
            self._events.warning(Event("api_ended", text, Severity.WARNING, dict(report)))
        elif what == "keeper_ended":
            self._api = {"state": "lost"}
            text = "the API's keeper ended; restart the gateway to have the API back"
            self._events.warning(Event("api_lost", text, Severity.WARNING))

    def _fault(self, _loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        """A callback raised: a fault of ours, one line of it, and the service goes on."""
        error = context.get("exception")
        if isinstance(error, BaseException):
            where = error.__traceback__
            while where is not None and where.tb_next is not None:
                where = where.tb_next
            at = f" at {where.tb_frame.f_code.co_filename}:{where.tb_lineno}" if where else ""
            text = f"internal fault: {type(error).__name__}: {error}{at}"
        else:
            text = f"internal fault: {context.get('message')}"
        self._events.warning(Event("internal_fault", text, Severity.WARNING))
