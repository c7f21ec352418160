"""The NAR client on a Linux host: `gateway nar lease`, `run`, and the library behind them.

::

    from gateway import nar_host

    async with nar_host.NarSession("nar.example", user="ann", password="...", tls=True) as session:
        lease = await session.lease_esp(peer=IPv4Address("198.51.100.7"))

Importing this package costs nothing: what it offers is loaded when it is named.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from gateway.domain.nar import Delivery, NarProtocol, NarTuple
    from gateway.nar_host.enclosure import Enclosure
    from gateway.nar_host.failure import (
        NarError,
        NarHostError,
        NarRefusedError,
        NarUnavailableError,
    )
    from gateway.nar_host.held_lease import HeldLease
    from gateway.nar_host.server_name import ServerName
    from gateway.nar_host.session import NarSession

_WHERE: Final = {
    "Delivery": "gateway.domain.nar",
    "Enclosure": "gateway.nar_host.enclosure",
    "HeldLease": "gateway.nar_host.held_lease",
    "NarError": "gateway.nar_host.failure",
    "NarHostError": "gateway.nar_host.failure",
    "NarProtocol": "gateway.domain.nar",
    "NarRefusedError": "gateway.nar_host.failure",
    "NarSession": "gateway.nar_host.session",
    "NarTuple": "gateway.domain.nar",
    "NarUnavailableError": "gateway.nar_host.failure",
    "ServerName": "gateway.nar_host.server_name",
}

__all__ = [
    "Delivery",
    "Enclosure",
    "HeldLease",
    "NarError",
    "NarHostError",
    "NarProtocol",
    "NarRefusedError",
    "NarSession",
    "NarTuple",
    "NarUnavailableError",
    "ServerName",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - as importing has it
    where = _WHERE.get(name)
    if where is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(where), name)
