"""One side of the administration, and what it sees of the running core."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from gateway.control.protocol import Operation, Request

if TYPE_CHECKING:
    from gateway.appliance.administration.composition import Administration
    from gateway.appliance.backends import Backends
    from gateway.appliance.events import EventLog
    from gateway.appliance.factory import KernelSide, ManagedEngine
    from gateway.appliance.failures import Failures
    from gateway.appliance.ike_service import IkeService
    from gateway.appliance.mobility import Mobility
    from gateway.appliance.nar.composition import Nar
    from gateway.appliance.reloading import Apply, Prepare, Prepared
    from gateway.appliance.vpn_fa import VpnFaSessions
    from gateway.config.document import Config
    from gateway.control.object_operations import CutSession

Handler = Callable[[Request], Awaitable[object]]
"""Carries one operation out; raises :class:`gateway.control.protocol.ControlError`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """The running core. Everything here belongs to the event loop's thread."""

    config: "Callable[[], Config]"
    """The configuration in force: of the file and of stored objects."""
    engine: "ManagedEngine"
    service: "IkeService"
    dataplane: "KernelSide"
    backends: "Backends"
    sessions: "VpnFaSessions"
    failures: "Failures"
    emit: "EventLog"
    """Call it with an event."""
    mobility: "Callable[[], Mobility | None]"
    nar: "Callable[[], Nar | None]"
    facts: Callable[[], dict[str, object]]
    """What `status` says."""
    reload: Callable[[], Awaitable[tuple[list[str], list[str]]]]
    """Read everything again and apply the difference: problems, or changes."""
    changing: asyncio.Lock
    """Held while the configuration changes."""
    prepare: "Prepare"
    """Read what a configuration names; raises :class:`gateway.config.ConfigError`."""
    apply: "Apply"
    """Put it in force; only while :attr:`changing` is held."""
    ended_by: "Callable[[Prepared], list[CutSession]]"
    """The sessions that applying it would end."""
    call_later: Callable[[float, Callable[[], object]], object]
    """After so many seconds."""
    stop: Callable[[], None]
    """Stop the gateway, saying goodbye to peers and cleaning up."""
    clock: Callable[[], float]
    """Monotonic, in seconds."""
    wall_clock: Callable[[], float] = field(default=time.time)
    """Seconds since the epoch."""
    random: Callable[[int], bytes] = field(default=os.urandom)


class Side:
    """A part of the administration with operations of its own.

    Its module has ``build(administration, surroundings) -> Side``.
    """

    def handlers(self) -> Mapping[str, Handler]:
        """Who carries out which operation, by the operation's name."""
        raise NotImplementedError

    async def start(self) -> None:
        """Begin what goes on by itself."""

    async def stop(self) -> None:
        """End it; the store is still open."""

    def configured(self, config: "Config") -> None:
        """Another configuration is in force. Must return at once."""

    def node_refusal(self, _mobile_node: str) -> str | None:
        """Why a mobile node of this name may not register. Must be quick."""
        return None

    def identity_of(self, _name: str) -> str | None:
        """The identity of a device that was only seen, by its name with ``~``."""
        return None

    def device_changed(self, name: str) -> None:
        """A configured device came, changed or went: look at the objects side's `devices`.

        Must return at once.
        """

    async def device_gone(self, name: str) -> None:
        """A device was deleted. Never raises."""

    def hear(self, event: dict[str, object], *, debug: bool) -> None:
        """An event as `events` tells it. Must return at once."""


class Build(Protocol):
    """``build`` of a side's module."""

    def __call__(self, administration: "Administration", surroundings: Surroundings) -> Side:
        """The side, not started."""


@dataclass(frozen=True, slots=True)
class SideOf:
    """Where a side comes from."""

    name: str
    module: str
    operations: tuple[Operation, ...]
    at_start: bool = False
    """Built and started with the gateway; the others when one of their operations is asked for,
    so that what they import takes no memory before."""
