"""Opens the store, builds the sides of the administration, and joins them with the core."""

import importlib
import importlib.util
from collections.abc import Mapping
from typing import TYPE_CHECKING

from gateway.appliance.administration.side import Handler, Side, SideOf, Surroundings
from gateway.control.access_operations import ACCESS_OPERATIONS
from gateway.control.object_operations import OBJECT_OPERATIONS
from gateway.control.observation_operations import OBSERVATION_OPERATIONS
from gateway.control.protocol import ControlError, ErrorCode, Request
from gateway.control.provisioning_operations import PROVISIONING_OPERATIONS
from gateway.control.store_operations import STORE_OPERATIONS

if TYPE_CHECKING:
    from gateway.store.store import Store

SIDES = (
    SideOf(
        "objects", "gateway.appliance.administration.objects_side", OBJECT_OPERATIONS, at_start=True
    ),
    SideOf("access", "gateway.appliance.access.side", ACCESS_OPERATIONS, at_start=True),
    SideOf("provisioning", "gateway.appliance.provisioning.side", PROVISIONING_OPERATIONS),
    SideOf(
        "observation", "gateway.appliance.observation.side", OBSERVATION_OPERATIONS, at_start=True
    ),
    SideOf("state", "gateway.appliance.state.side", STORE_OPERATIONS),
)


class Administration:
    """The store and everything that works on it."""

    def __init__(self, store: "Store | None" = None, sides: tuple[SideOf, ...] = SIDES) -> None:
        """``store`` is open; None when it could not be opened, which `status` says."""
        self._store = store
        self._sides = {one.name: one for one in sides if _exists(one.module)}
        self._built: dict[str, Side] = {}
        self._surroundings: Surroundings | None = None

    @property
    def store(self) -> "Store":
        """The store; raises :class:`ControlError` where there is none."""
        if self._store is None:
            why = "the store is not open; `gateway status` says why"
            raise ControlError(ErrorCode.REFUSED, why)
        return self._store

    def join(self, surroundings: Surroundings) -> None:
        """Meet the core, whose parts are built by now."""
        self._surroundings = surroundings

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
            return await side.handlers()[operation](request)

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
        if name in self._built:
            return self._built[name]
        side = self.side(name)
        await side.start()
        return side

    async def start(self) -> None:
        """Build and start the sides that begin with the gateway."""
        for one in self._sides.values():
            if one.at_start:
                await self.started(one.name)

    async def stop(self) -> None:
        """End the sides, the last one first; the store stays open for who stops later."""
        for side in reversed(self._built.values()):
            await side.stop()

    def hear(self, event: dict[str, object], *, debug: bool) -> None:
        """Tell the sides of an event."""
        for side in self._built.values():
            side.hear(event, debug=debug)


def _exists(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False
