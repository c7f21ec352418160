"""What was made or revoked comes into force at once, in the running gateway."""

import asyncio
from typing import TYPE_CHECKING

from gateway.domain.event import Event, Severity

if TYPE_CHECKING:
    from gateway.appliance.administration.side import Surroundings

SAS_PER_TURN = 64
"""Looked at before others get their turn."""


async def use_credentials(surroundings: "Surroundings") -> None:
    """Read certificates and keys again; sessions go on.

    Raises :class:`gateway.config.ConfigError` where they cannot be used.
    """
    async with surroundings.changing:
        prepared = await surroundings.prepare(surroundings.config())
        await surroundings.apply(prepared)


async def use_crl(surroundings: "Surroundings") -> None:
    """Read the CRL again."""
    await surroundings.backends.refresh_crls()


async def end_sessions(surroundings: "Surroundings", identity: str, why: str) -> int:
    """End every session that proved an identity; how many."""
    engine, ended = surroundings.engine, 0
    names = [name for name, _connection in engine.ike_sa_names()]
    for first in range(0, len(names), SAS_PER_TURN):
        some = names[first : first + SAS_PER_TURN]
        now = surroundings.clock()
        for sa in engine.ike_sas(now, some):
            if sa.peer == identity and engine.close_ike_sa(sa.spis, why, now):
                ended += 1
        surroundings.service.flush()
        await asyncio.sleep(0)
    return ended


def tell(surroundings: "Surroundings", name: str, text: str, **fields: object) -> None:
    """An event."""
    surroundings.emit(Event(name, text, fields=fields))


def warn(surroundings: "Surroundings", name: str, text: str, **fields: object) -> None:
    """An event that somebody should look at."""
    surroundings.emit(Event(name, text, Severity.WARNING, fields))
