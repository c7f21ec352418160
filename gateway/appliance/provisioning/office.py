"""Every operation of provisioning, joined."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from gateway.appliance.administration.side import Handler
from gateway.appliance.provisioning.authorities import Authorities
from gateway.appliance.provisioning.desk import LinkDesk
from gateway.appliance.provisioning.devices import Devices
from gateway.appliance.provisioning.registry import Registry
from gateway.control.protocol import ControlError, ErrorCode, Request

if TYPE_CHECKING:
    from gateway.appliance.administration.composition import Administration
    from gateway.appliance.administration.side import Surroundings


class Office:
    """Every handler raises :class:`ControlError`."""

    def __init__(self, administration: "Administration", surroundings: "Surroundings") -> None:
        registry = Registry(administration, surroundings)
        self._desk = LinkDesk(
            lambda: registry.store,
            clock=surroundings.clock,
            wall_clock=surroundings.wall_clock,
            random=surroundings.random,
        )
        self._authorities = Authorities(registry)
        self._devices = Devices(registry, self._authorities, self._desk)

    def handlers(self) -> Mapping[str, Handler]:
        """Of :data:`gateway.control.provisioning_operations.PROVISIONING_OPERATIONS`."""
        return {
            **self._authorities.handlers(),
            **self._devices.handlers(),
            "links": self._links,
            "link-look": self._look,
            "link-take": self._take,
        }

    async def renew(self) -> None:
        """Renew what is due, wipe links that expired. Never raises."""
        await self._authorities.renew()
        await self._desk.sweep()

    async def forget_device(self, name: str) -> None:
        """A device was removed. Never raises."""
        if name in self._devices.taken_back:
            return
        await self._authorities.forget_device(name)

    async def _links(self, _request: Request) -> object:
        """All of them."""
        items = await self._desk.all()
        return {"items": items, "next": None, "total": len(items)}

    async def _look(self, request: Request) -> object:
        """What is behind one."""
        return await self._desk.look(str(request.text("token")), request.actor.remote)

    async def _take(self, request: Request) -> object:
        """What is behind it."""
        if request.key is not None:  # its answer would be kept, and holds a device's key
            why = "key: a link is taken once; send none"
            raise ControlError(ErrorCode.INVALID, why, "key")
        taken = await self._desk.take(str(request.text("token")), request.actor.remote)
        noted = {"file_name": taken["file_name"]}
        return {**taken, "_audit": {"target": f"devices/{taken['device']}", "after": noted}}
