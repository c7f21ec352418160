"""The first setup: what a gateway needs before the first device."""

import asyncio
from dataclasses import replace
from ipaddress import IPv4Network
from typing import TYPE_CHECKING

from gateway.appliance.administration.devices import Devices
from gateway.appliance.administration.judging import invalid
from gateway.appliance.administration.networks import free_network, networks_in_use
from gateway.appliance.administration.objects import Objects
from gateway.appliance.administration.side import Surroundings
from gateway.config.kinds import Stored
from gateway.config.problem import ConfigError
from gateway.control.object_operations import ObjectChange
from gateway.control.operation import Document
from gateway.control.protocol import OPERATIONS, ControlError, ErrorCode, FieldError, Request

if TYPE_CHECKING:
    from gateway.appliance.administration.composition import Administration

POOL = "devices"
CONNECTION = "devices"
_FIELDS = {"network": "pool", "local_subnets": "subnets", "dns": "dns"}
"""Arguments by the fields of the objects that they become."""


class Setup:
    """Says what is missing, and makes it."""

    def __init__(
        self,
        administration: "Administration",
        objects: Objects,
        devices: Devices,
        surroundings: Surroundings,
    ) -> None:
        self._administration = administration
        self._objects = objects
        self._devices = devices
        self._around = surroundings

    async def state(self, _request: Request) -> object:
        """Whether nobody can connect yet."""
        config = self._around.config()
        # Strangers may ask this: on a gateway with ten thousand routes it must cost nothing.
        proposed = None if config.connections else self.proposed_pool()
        return {
            "needed": not config.connections,
            "name": config.gateway.name,
            "has_connection": bool(config.connections),
            "has_pool": bool(config.pools),
            "provisioning": config.provisioning.enabled,
            "devices": len(self._devices),
            "proposed_pool": None if proposed is None else str(proposed),
        }

    def proposed_pool(self) -> IPv4Network | None:
        """A network of 10.0.0.0/8 that nothing here has."""
        config = self._around.config()
        taken: list[object] = [pool.network for pool in config.pools.values()]
        taken += [network for network in config.offered_networks if network.prefixlen > 8]
        taken += [home.network for home in config.home_networks.values()]
        return free_network([*taken, *networks_in_use()])

    async def basics(self, request: Request) -> object:
        """Pool and connection for devices with certificates of the built-in CA."""
        self._possible()
        network = request.text("pool") or self.proposed_pool()
        if network is None:
            why = "pool: no part of 10.0.0.0/8 is free; name a network"
            raise ControlError(ErrorCode.REFUSED, why, "pool")
        pool: Document = {"network": str(network)}
        if dns := _listed(request.text("dns")):
            pool["dns"] = dns
        subnets = _listed(request.text("subnets")) or ["0.0.0.0/0"]
        connection: Document = {"remote_id": "*", "pool": POOL, "local_subnets": subnets}
        dry_run = request.flag("dry_run")
        try:
            await self._try(pool, connection)
            changes = [] if dry_run else await self._make(request, pool, connection)
        except ControlError as error:
            raise _renamed(error) from None
        return {
            "created": [f"pools/{POOL}", f"connections/{CONNECTION}"],
            "changes": changes,
            "dry_run": dry_run,
            "_audit": {
                "before": None,
                "after": {"pool": pool, "connection": connection},
                "target": f"connections/{CONNECTION}",
            },
        }

    def _possible(self) -> None:
        config = self._around.config()
        if CONNECTION in config.connections or POOL in config.pools:
            why = f"there is a pool or a connection named {POOL} already; change that"
            raise ControlError(ErrorCode.REFUSED, why)
        if not config.provisioning.enabled and config.credentials.certificate is None:
            why = (
                "the gateway has no certificate; put enabled = true into the table [provisioning] "
                "of gateway.toml and restart it, or give it one in [credentials]"
            )
            raise ControlError(ErrorCode.REFUSED, why)

    async def _try(self, pool: Document, connection: Document) -> None:
        """Raises :class:`ControlError` when the two make no configuration."""
        source, known = self._administration.source, self._administration.known
        if source is None:
            return
        new = [Stored("pools", POOL, pool), Stored("connections", CONNECTION, connection)]
        required = {(one.kind, one.name) for one in new}
        objects = [*known.heavy(), *new]
        try:
            async with self._around.changing:
                await asyncio.to_thread(source.judge, objects, required)
        except ConfigError as error:
            raise invalid("pools", POOL, error.problems) from None

    async def _make(
        self, request: Request, pool: Document, connection: Document
    ) -> list[ObjectChange]:
        name = request.text("ca_name")
        if name is not None and self._around.config().provisioning.enabled:
            await self._name_authority(request, name)
        made = await self._objects.create("pools", POOL, pool)
        try:
            more = await self._objects.create("connections", CONNECTION, connection)
        except ControlError:
            await self._objects.delete("pools", POOL)
            raise
        return [*made.changes, *more.changes]

    async def _name_authority(self, request: Request, name: str) -> None:
        """The CA that was made at the start gets its name, while nobody has anything of it."""
        side = await self._administration.started("provisioning")
        handlers = side.handlers()
        asked = replace(request, operation=OPERATIONS["ca"], arguments={}, key=None)
        found = await handlers["ca"](asked)
        authorities = found.get("authorities") if isinstance(found, dict) else None
        if any(name in str(one.get("title")) for one in authorities or () if one.get("current")):
            return
        operation = OPERATIONS["ca-create"]
        arguments = operation.check({"name": name})
        await handlers["ca-create"](replace(asked, operation=operation, arguments=arguments))


def _renamed(error: ControlError) -> ControlError:
    """The fields of the objects as the arguments that they came from."""
    errors = [FieldError(one.message, _argument(one.field)) for one in error.errors]
    return ControlError(error.code, error.message, _argument(error.field), errors=errors)


def _argument(field: str | None) -> str | None:
    last = (field or "").rpartition(".")[2].partition("[")[0]
    return _FIELDS.get(last, field)


def _listed(text: str | None) -> list[str]:
    return [one for part in (text or "").split(",") if (one := part.strip())]
