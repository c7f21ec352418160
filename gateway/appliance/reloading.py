"""A configuration becomes the one in force: read and judged first, then applied in one go."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from gateway.appliance.backends import BackendSettings
from gateway.appliance.factory import Factory
from gateway.appliance.mobility_plan import MobilityPlan
from gateway.config.difference import Change
from gateway.config.document import Config
from gateway.ike.mobility_authority import MobilityAuthority
from gateway.ike.policy import ConnectionPolicy


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


Prepare = Callable[[Config], Awaitable[Prepared]]
"""Raises :class:`gateway.config.ConfigError`."""
Apply = Callable[[Prepared], Awaitable[list[Change]]]
"""Put it in force: what changed."""
