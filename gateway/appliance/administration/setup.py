"""The first setup: what a gateway needs before the first device."""

from ipaddress import IPv4Network

from gateway.appliance.administration.networks import free_network, networks_in_use
from gateway.appliance.administration.objects import Objects
from gateway.appliance.administration.side import Surroundings
from gateway.control.object_operations import ObjectChange
from gateway.control.operation import Document
from gateway.control.protocol import ControlError, ErrorCode, Request

POOL = "devices"
CONNECTION = "devices"


class Setup:
    """Says what is missing, and makes it."""

    def __init__(self, objects: Objects, surroundings: Surroundings) -> None:
        self._objects = objects
        self._around = surroundings

    async def state(self, _request: Request) -> object:
        """Whether nobody can connect yet."""
        config = self._around.config()
        proposed = self.proposed_pool()
        return {
            "needed": not config.connections,
            "name": config.gateway.name,
            "has_connection": bool(config.connections),
            "has_pool": bool(config.pools),
            "provisioning": config.provisioning.enabled,
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
        config = self._around.config()
        if CONNECTION in config.connections or POOL in config.pools:
            why = f"there is a pool or a connection named {POOL} already; change that"
            raise ControlError(ErrorCode.REFUSED, why)
        network = request.text("pool") or self.proposed_pool()
        if network is None:
            why = "pool: no part of 10.0.0.0/8 is free; name a network"
            raise ControlError(ErrorCode.REFUSED, why, "pool")
        pool: Document = {"network": str(network)}
        if dns := _listed(request.text("dns")):
            pool["dns"] = dns
        connection: Document = {
            "remote_id": "*",
            "pool": POOL,
            "local_subnets": _listed(request.text("subnets")) or ["0.0.0.0/0"],
        }
        dry_run = request.flag("dry_run")
        made = await self._objects.create("pools", POOL, pool, dry_run=dry_run)
        changes: list[ObjectChange] = list(made.changes)
        if not dry_run:
            try:
                more = await self._objects.create("connections", CONNECTION, connection)
            except ControlError:
                await self._objects.delete("pools", POOL)
                raise
            changes += more.changes
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


def _listed(text: str | None) -> list[str]:
    return [one for part in (text or "").split(",") if (one := part.strip())]
