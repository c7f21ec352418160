"""Opens the store, builds the sides of the administration, and joins them with the core."""

import asyncio
import contextlib
import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.appliance.administration.known import KnownObjects
from gateway.appliance.administration.side import Handler, Side, SideOf, Surroundings
from gateway.appliance.administration.source import Load, Source
from gateway.config.document import Config
from gateway.config.loader import read_tables
from gateway.control.access_operations import ACCESS_OPERATIONS
from gateway.control.object_operations import OBJECT_OPERATIONS
from gateway.control.observation_operations import OBSERVATION_OPERATIONS
from gateway.control.protocol import ControlError, ErrorCode, Request
from gateway.control.provisioning_operations import PROVISIONING_OPERATIONS
from gateway.control.store_operations import STORE_OPERATIONS
from gateway.domain.event import Event, Severity

if TYPE_CHECKING:
    from gateway.store.database import Store

SIDES = (
    SideOf(
        "objects", "gateway.appliance.administration.objects_side", OBJECT_OPERATIONS, at_start=True
    ),
    SideOf("access", "gateway.appliance.access.side", ACCESS_OPERATIONS, at_start=True),
    SideOf(
        "provisioning",
        "gateway.appliance.provisioning.side",
        PROVISIONING_OPERATIONS,
        at_start=True,
    ),
    SideOf(
        "observation", "gateway.appliance.observation.side", OBSERVATION_OPERATIONS, at_start=True
    ),
    SideOf("state", "gateway.appliance.state.side", STORE_OPERATIONS, at_start=True),
)
MAX_EARLY_EVENTS = 100


class Administration:
    """The store and everything that works on it: :meth:`begin` before the core, then join it."""

    def __init__(self, source: Source | None = None, sides: tuple[SideOf, ...] = SIDES) -> None:
        self.known = KnownObjects()
        """The stored objects, in memory."""
        self.source = source
        self._store: Store | None = None
        self._sides = {one.name: one for one in sides}
        self._built: dict[str, Side] = {}
        self._starting: dict[str, asyncio.Task[None]] = {}
        self._surroundings: Surroundings | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._early: list[Event] = []
        self.watch_devices: Callable[[str], None] = _nobody
        """Told the name of each configured device that came, changed or went."""

    # -- before the event loop runs --------------------------------------------------------

    def begin(self, path: Path, load: Load) -> Config:
        """Open the store and read the configuration. Waits for disk and database.

        Raises :class:`gateway.config.ConfigError`: the file is wrong by itself, or the store is
        another one's.
        """
        from gateway.appliance.administration.opening import open_store  # noqa: PLC0415 - 16 MB

        self.source = Source(path, load)
        self._store = open_store(path, read_tables(path), self._emit)
        self.known.read(self._store)
        return self.load(load, None, path)

    def load(self, load: Load, running: Config | None, path: Path | None = None) -> Config:
        """Read the file anew, with the stored objects. In a thread, or before the loop runs.

        What is in force of ``running`` must not be lost. Raises
        :class:`gateway.config.ConfigError`.
        """
        if self.source is None:
            self.source = Source(path or (running.path if running is not None else Path()), load)
        required: set[tuple[str, str]] = set()
        if running is not None:
            required = self.known.heavy_keys() - set(running.broken)
        self._provision(self.source.path)
        return self.source.read(self.known.heavy(), required)

    def _provision(self, path: Path) -> None:
        """What the CA makes is there before the files are read that the configuration names."""
        tables = read_tables(path)
        section = tables.get("provisioning")
        if self._store is None or not isinstance(section, dict) or not section.get("enabled"):
            return
        from gateway.appliance.provisioning.first import prepare  # noqa: PLC0415 - when needed
        from gateway.config.loader import load  # noqa: PLC0415

        objects = self.known.heavy()
        prepare(
            self._store,
            load(path, with_files=False, objects=objects, tables=tables, required=()),
        )

    # -- the store -------------------------------------------------------------------------

    @property
    def store(self) -> "Store":
        """The store; raises :class:`ControlError` where there is none."""
        if self._store is None:
            raise ControlError(ErrorCode.REFUSED, "this gateway runs without a store")
        return self._store

    @property
    def has_store(self) -> bool:
        """Whether there is one."""
        return self._store is not None

    def in_file(self, kind: str) -> Mapping[str, object]:
        """What the file has of a kind, by name."""
        return self.source.in_file(kind) if self.source is not None else {}

    def close(self) -> None:
        """Write what waits, and close the store. Waits for the disk."""
        if self._store is not None:
            self._store.close()

    def _emit(self, event: Event) -> None:
        """An event of the store, from any thread."""
        if self._loop is None:
            if len(self._early) < MAX_EARLY_EVENTS:
                self._early.append(event)
        else:
            self._loop.call_soon_threadsafe(self._tell, event)

    def _tell(self, event: Event) -> None:
        if self._surroundings is not None:
            self._surroundings.emit(event)

    # -- the core --------------------------------------------------------------------------

    def join(self, surroundings: Surroundings) -> None:
        """Meet the core, whose parts are built by now."""
        self._surroundings = surroundings
        self._loop = asyncio.get_running_loop()
        for event in self._early:
            surroundings.emit(event)
        self._early.clear()

    def know_devices(self) -> None:
        """Know users and who is blocked, before anybody is heard. Never raises."""
        with contextlib.suppress(Exception):  # start() tries again, and tells
            if "objects" in self._sides:
                self.side("objects")

    def handlers(self) -> Mapping[str, Handler]:
        """Of every side, by the operation's name."""
        found: dict[str, Handler] = {}
        for one in self._sides.values():
            for operation in one.operations:
                found[operation.name] = self._handler(one, operation.name)
        return found

    def _handler(self, one: SideOf, operation: str) -> Handler:
        async def handle(request: Request) -> object:
            side = await self.started(one.name)
            handler = side.handlers().get(operation)
            if handler is None:
                raise ControlError(ErrorCode.REFUSED, f"{operation}: not possible here")
            return await handler(request)

        return handle

    def side(self, name: str) -> Side:
        """The side of this name; built now when it was not."""
        side = self._built.get(name)
        if side is None:
            if self._surroundings is None:
                raise RuntimeError("the core has not joined the administration")
            module = importlib.import_module(self._sides[name].module)
            side = self._built[name] = module.build(self, self._surroundings)
        return side

    async def started(self, name: str) -> Side:
        """The side of this name, built and started."""
        side = self.side(name)
        task = self._starting.get(name)
        if task is None:
            task = self._starting[name] = asyncio.create_task(side.start())
        await asyncio.shield(task)
        return side

    async def start(self) -> None:
        """Build and start the sides that begin with the gateway.

        A fault of one of them costs its operations, never the sessions of the devices.
        """
        for one in self._sides.values():
            if not one.at_start:
                continue
            try:
                await self.started(one.name)
            except Exception as error:  # noqa: BLE001 - see above
                text = f"the {one.name} side cannot start: {type(error).__name__}: {error}"
                self._emit(Event("side_failed", text, Severity.WARNING, {"side": one.name}))

    def node_refusal(self, mobile_node: str) -> str | None:
        """Why a mobile node may not register; None when it may."""
        for side in self._built.values():
            why = side.node_refusal(mobile_node)
            if why is not None:
                return why
        return None

    def identity_of(self, name: str) -> str | None:
        """The identity of a device that was only seen; None when no side knows it."""
        for side in self._built.values():
            identity = side.identity_of(name)
            if identity is not None:
                return identity
        return None

    def device_changed(self, name: str) -> None:
        """Tell the sides of a configured device that came, changed or went."""
        for side in self._built.values():
            side.device_changed(name)
        self.watch_devices(name)

    async def device_gone(self, name: str) -> None:
        """A device was deleted: what was issued for it ends too."""
        provisioning = await self.started("provisioning") if "provisioning" in self._sides else None
        if provisioning is not None:
            await provisioning.device_gone(name)

    async def stop(self) -> None:
        """End the sides, the last one first; the store stays open for who stops later."""
        for side in reversed(self._built.values()):
            await side.stop()

    def configured(self, config: Config) -> None:
        """Another configuration is in force."""
        for side in self._built.values():
            side.configured(config)

    def hear(self, event: dict[str, object], *, debug: bool) -> None:
        """Tell the sides of an event."""
        for side in self._built.values():
            side.hear(event, debug=debug)


def _nobody(_name: str) -> None:
    pass
