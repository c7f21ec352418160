"""A configuration becomes the one in force: read and judged first, then applied in one go."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.appliance.administration.composition import Administration
from gateway.appliance.backends import Backends, BackendSettings
from gateway.appliance.factory import Factory, KernelSide, ManagedEngine
from gateway.appliance.ike_service import IkeService
from gateway.appliance.mobility_foresight import bindings_ended_by
from gateway.appliance.mobility_plan import MobilityPlan
from gateway.appliance.opening import Openings
from gateway.appliance.pool_overlaps import refused_pools
from gateway.appliance.remote_access.composition import RemoteAccess
from gateway.config.difference import Change, difference, in_force
from gateway.config.document import Config
from gateway.config.problem import ConfigError, Problem, shown
from gateway.control.object_operations import CutSession
from gateway.domain.log import Log
from gateway.ike.mobility_authority import MobilityAuthority
from gateway.ike.policy import ConnectionPolicy
from gateway.ike.socket_errors import TransportError

if TYPE_CHECKING:
    from gateway.appliance.mobility import Mobility
    from gateway.appliance.nar.composition import Nar


@dataclass(frozen=True, slots=True)
class Prepared:
    """A configuration with everything read that it names: applying it cannot fail any more."""

    config: Config
    plan: MobilityPlan | None
    login: MobilityAuthority | None
    connections: Sequence[ConnectionPolicy]
    backends: BackendSettings


async def prepare(factory: Factory, wanted: Config) -> Prepared:
    """Read what the configuration names. Raises :class:`gateway.config.ConfigError`."""
    # Ten thousand mobile nodes take seconds to read, which nobody else shall wait.
    return Prepared(
        wanted,
        await asyncio.to_thread(factory.mobility, wanted),
        await asyncio.to_thread(factory.mobility_login, wanted),
        await asyncio.to_thread(factory.connections, wanted),
        await asyncio.to_thread(factory.backends, wanted),
    )


def require_crls(
    backends: Backends, config: Config, connections: Sequence[ConnectionPolicy]
) -> None:
    """Follow the CRLs of these connections. Raises :class:`gateway.config.ConfigError`."""
    wrong = backends.follow_crls(connections)
    if wrong:
        raise ConfigError(
            [Problem(config.path, "crl_files", why, shown(file)) for file, why in wrong.items()]
        )


Prepare = Callable[[Config], Awaitable[Prepared]]
"""Raises :class:`gateway.config.ConfigError`."""
Apply = Callable[[Prepared], Awaitable[list[Change]]]
"""Put it in force: what changed."""


@dataclass(frozen=True, slots=True)
class Parts:
    """Parts of the core that a configuration reaches."""

    factory: Factory
    administration: Administration
    engine: ManagedEngine
    service: IkeService
    dataplane: KernelSide
    backends: Backends
    access: RemoteAccess
    mobility: "Mobility | None"
    nar: "Nar | None"


class Reload:
    """Reads the configuration, the users and the CRLs again and applies the difference."""

    def __init__(
        self,
        parts: Parts,
        *,
        config: Callable[[], Config],
        adopt: Callable[[Config], None],
        log: Callable[[], Log],
        clock: Callable[[], float],
    ) -> None:
        """``config`` is the one in force, and ``adopt`` makes another one that."""
        self._parts = parts
        self._config = config
        self._adopt = adopt
        self._log = log
        self._clock = clock
        self._openings = Openings(parts.engine, parts.dataplane)
        self.changing = asyncio.Lock()
        """Held while one is read and applied."""
        self._count = self._refused = 0
        self._last_problems: list[str] = []

    def facts(self) -> dict[str, object]:
        """For status pages."""
        return {
            "count": self._count,
            "refused": self._refused,
            "last_problems": self._last_problems,
        }

    async def run(self) -> tuple[list[str], list[str]]:
        """Read and apply: the problems of a configuration that was refused, or what changed."""
        async with self.changing:
            return await self._run()

    async def _run(self) -> tuple[list[str], list[str]]:
        parts, log = self._parts, self._log()
        self._count += 1
        try:
            load = parts.administration.load
            wanted = await asyncio.to_thread(load, parts.factory.load, self._config())
            prepared = await self.prepare(wanted)
        except ConfigError as error:
            problems = [str(problem) for problem in error.problems]
            self._refused += 1
            self._last_problems = problems
            for problem in problems:
                log.error("reload_refused", text=f"reload refused: {problem}")
            log.error("reload_refused", text="the old configuration stays in force")
            return problems, []
        changes = await self.apply(prepared)
        self._last_problems = []
        return [], [str(change) for change in changes]

    async def prepare(self, wanted: Config) -> Prepared:
        """Judge it and read what it names. Raises :class:`gateway.config.ConfigError`."""
        taken = await asyncio.to_thread(refused_pools, self._config(), wanted)
        if taken:
            raise ConfigError(taken)
        prepared = await prepare(self._parts.factory, wanted)
        require_crls(self._parts.backends, wanted, prepared.connections)
        return prepared

    def ended_by(self, prepared: Prepared) -> list[CutSession]:
        """The sessions and bindings that applying it would end."""
        parts = self._parts
        pools = parts.factory.pools(in_force(self._config(), prepared.config))
        found = parts.engine.ended_by(prepared.connections, pools)
        cut: list[CutSession] = [{"session": name, "peer": peer} for name, peer in found]
        if parts.mobility is not None and prepared.plan is not None:
            cut += bindings_ended_by(parts.mobility, prepared.plan)
        return cut

    async def apply(self, prepared: Prepared) -> list[Change]:
        """Put it in force; only while :attr:`changing` is held."""
        parts = self._parts
        changes = difference(self._config(), prepared.config)
        for change in changes:
            tell = self._log().warning if change.needs_restart else self._log().info
            tell("reload_change", text=f"reload: {change}", key=change.key)
        self._adopt(in_force(self._config(), prepared.config))
        config, log, now = self._config(), self._log(), self._clock()
        try:
            parts.dataplane.reconfigure(parts.factory.kernel_settings(config))
        except OSError as error:
            log.error("reload_change", text=f"reload: the kernel refused: {error}")
        self._reload_mobility(prepared.plan)
        await self._reload_nar()
        parts.engine.mobility = prepared.login
        parts.backends.reload(prepared.backends)
        pools = parts.factory.pools(config)
        # Before: sessions that come in with it find their rules.
        await parts.access.reconfigure(config)
        parts.engine.reconfigure(prepared.connections, now, pools)
        self.open(prepared.connections)
        parts.administration.configured(config)
        count = len(changes)
        log.info("reloaded", text=f"configuration reloaded, {count} changes", changes=count)
        return changes

    async def _reload_nar(self) -> None:
        """The first server and the end of the last one wait for a restart."""
        planner = self._parts.factory.nar(self._config())
        if self._parts.nar is None or planner is None:
            return
        try:
            await self._parts.nar.reload(planner)
        except (OSError, TransportError) as error:
            self._log().error("reload_change", text=f"reload: NAR: {error}")

    def _reload_mobility(self, plan: MobilityPlan | None) -> None:
        mobility = self._parts.mobility
        if mobility is None or plan is None:
            if (mobility is None) != (plan is None):
                text = "reload: mobility agents come and go with a restart only"
                self._log().warning("reload_change", text=text)
            return
        try:
            mobility.reload(plan)
        except OSError as error:
            self._log().error("reload_change", text=f"reload: the kernel refused: {error}")

    def open(self, connections: Sequence[ConnectionPolicy]) -> None:
        """Bring up, or trap, what these connections shall open by themselves."""
        sections = self._config().connections
        starts = {name: section.start for name, section in sections.items()}
        now = self._clock()
        self._openings.apply(connections, starts, now)
        self._parts.service.flush(now, commit=True)
