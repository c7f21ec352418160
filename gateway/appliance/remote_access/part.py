"""One part of remote access, and what it sees of the running core."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.domain.remote_access import Grant

if TYPE_CHECKING:
    from gateway.appliance.administration.devices import Device as Configured
    from gateway.appliance.factory import KernelSide, ManagedEngine
    from gateway.appliance.observation.device import Device
    from gateway.appliance.session_takeover import TakenOver
    from gateway.config.document import Config
    from gateway.control.protocol import Request
    from gateway.ike.outputs import Event

    Handler = Callable[[Request], Awaitable[object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Joint:
    """The running core, as the parts of remote access see it. All on the event loop's thread."""

    config: "Callable[[], Config]"
    """In force."""
    grants: Callable[[], Mapping[str, Grant]]
    """The sessions that are in, by name."""
    engine: "ManagedEngine"
    dataplane: "KernelSide"
    emit: "Callable[[Event], None]"
    find_device: "Callable[[str], Device]"
    """By the name that ``devices`` lists, with its sessions. Raises ControlError NOT_FOUND."""
    configured_device: "Callable[[str], Configured | None]"
    """The configured device, of the store or the file, that proves this identity."""
    clock: Callable[[], float]
    """Monotonic, in seconds."""
    wall_clock: Callable[[], float]
    """Seconds since the epoch."""
    call_at: Callable[[float, Callable[[], None]], object]
    """As :meth:`asyncio.loop.call_at`."""
    taken_over: bool
    """A former process may have left sessions, whose kernel state goes on."""
    taken: "TakenOver"
    """Records that outlive the process: read before the end of :meth:`Part.start`."""


class Part:
    """A part of remote access. Its module has ``build(joint) -> Part``.

    Kernel work is queued by :meth:`granted` and :meth:`ended` and done by :meth:`commit`, before
    any message of the round leaves. What waits for the outside runs in tasks of the part's own.
    """

    def open(self) -> None:
        """Make what needs privileges, with what a former process left still forwarding.

        Raises OSError, :class:`gateway.config.ConfigError` or DataplaneUnavailableError.
        """

    async def start(self) -> None:
        """Everything that was in before has been granted again: begin, remove leftovers."""

    def granted(self, grant: Grant) -> None:
        """A session is in, or its grant is another one now."""

    def ended(self, grant: Grant) -> None:
        """It is over."""

    def commit(self) -> None:
        """Do in the kernel what was queued; log what it refuses."""

    def device_changed(self, name: str, identity: str | None) -> None:
        """A configured device came, changed or went; ``identity`` is what it proves now."""

    def reconfigure(self, config: "Config") -> None:
        """Another configuration is in force. Sessions that it does not touch notice nothing."""

    async def stop(self, *, keep: bool) -> None:
        """End; with ``keep`` the kernel goes on with what is there, for the next process."""

    def handlers(self) -> "Mapping[str, Handler]":
        """Who carries out which operation, by its name."""
        return {}

    def facts(self) -> dict[str, object]:
        """For ``status`` and metrics: few and cheap."""
        return {}
