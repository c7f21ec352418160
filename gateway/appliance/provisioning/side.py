"""The operations of provisioning, and what the CA renews by itself."""

import asyncio
import contextlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

from gateway.appliance.administration.side import Handler, Side, Surroundings

if TYPE_CHECKING:
    from gateway.appliance.administration.composition import Administration
    from gateway.appliance.provisioning.office import Office
    from gateway.config.document import Config

LOOK_EVERY_S = 5.0
"""Whether another configuration is in force, with other names of the gateway."""
RENEW_EVERY_S = 600.0


class ProvisioningSide(Side):
    """Imports what it needs when provisioning is enabled or asked for."""

    def __init__(self, administration: "Administration", surroundings: Surroundings) -> None:
        self._administration = administration
        self._surroundings = surroundings
        self._made: Office | None = None
        self._task: asyncio.Task[None] | None = None
        self._seen: Config | None = None

    @property
    def office(self) -> "Office":
        """Where everything is done."""
        if self._made is None:
            from gateway.appliance.provisioning.office import Office  # noqa: PLC0415 - see class

            self._made = Office(self._administration, self._surroundings)
        return self._made

    def handlers(self) -> Mapping[str, Handler]:
        """Of :data:`gateway.control.provisioning_operations.PROVISIONING_OPERATIONS`."""
        return self.office.handlers()

    async def start(self) -> None:
        """Begin to look after what ends by itself."""
        self._seen = self._surroundings.config()
        self._task = asyncio.get_running_loop().create_task(self._look_after())

    async def stop(self) -> None:
        """End that."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def device_gone(self, name: str) -> None:
        """A device was removed: revoke its certificates and void its links."""
        if self._surroundings.config().provisioning.enabled:
            await self.office.forget_device(name)

    async def _look_after(self) -> None:
        surroundings = self._surroundings
        renewed = surroundings.clock()
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            config = surroundings.config()
            due = surroundings.clock() - renewed >= RENEW_EVERY_S
            if not config.provisioning.enabled or not (due or config is not self._seen):
                continue
            self._seen, renewed = config, surroundings.clock()
            await self.office.renew()


def build(administration: "Administration", surroundings: Surroundings) -> ProvisioningSide:
    """The side, not started."""
    return ProvisioningSide(administration, surroundings)
