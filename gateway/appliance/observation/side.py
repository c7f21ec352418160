"""Observation as a side of the administration: follows events, samples traffic, answers."""

import asyncio
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from gateway.appliance.administration.side import Handler, Side, Surroundings
from gateway.appliance.observation.chronicle import DAY_S, Chronicle
from gateway.appliance.observation.device import Configured
from gateway.appliance.observation.following import Follower
from gateway.appliance.observation.queries import DeviceQueries
from gateway.appliance.observation.register import Register
from gateway.appliance.observation.rings import Rings
from gateway.appliance.observation.sampling import TURN_S, Sampler
from gateway.appliance.observation.tally import Tally
from gateway.appliance.observation.views import time_text
from gateway.control.protocol import Request
from gateway.domain.event import Event

if TYPE_CHECKING:
    from gateway.appliance.administration.composition import Administration
    from gateway.appliance.administration.devices import Device as Described
    from gateway.appliance.administration.devices import Devices
    from gateway.appliance.observation.captures import Captures
    from gateway.appliance.observation.metrics import Metrics
    from gateway.appliance.observation.support import Support
    from gateway.config.document import Config

LAST_EVENTS: Final = 300
"""That a support bundle has."""
RESTORED_PER_TURN: Final = 100
"""IKE SAs that are taken in before others get their turn."""


def build(administration: "Administration", surroundings: Surroundings) -> "Observation":
    """The side, not started."""
    return Observation(administration, surroundings)


class Observation(Side):
    """Who is where and how."""

    def __init__(self, administration: "Administration", around: Surroundings) -> None:
        self._administration = administration
        self._around = around
        self._config: Config | None = None
        self.register = Register()
        self.rings = Rings()
        self.chronicle = Chronicle(
            lambda: administration.store,
            around.emit,
            wall_clock=around.wall_clock,
            clock=around.clock,
            history_s=around.config().store.history_days * DAY_S,
        )
        self.sampler = Sampler(
            self.register,
            self.rings,
            self.chronicle,
            usage=around.dataplane.usage,
            clock=around.clock,
            wall_clock=around.wall_clock,
        )
        self.follower = Follower(
            self.register,
            self.chronicle,
            around.engine,
            around.mobility,
            clock=around.clock,
            wall_clock=around.wall_clock,
            true_place=lambda text: str(self.true_names(text)),
        )
        self.sampler.look = self.follower.look_at
        self.follower.before_move = around.dataplane.before_move
        self.queries = DeviceQueries(
            self.register,
            self.rings,
            self.follower,
            around,
            store=lambda: administration.store,
            refresh=self.refresh,
            true_names=self.true_names,
        )
        self.tally = Tally()
        self.follower.gaps_s = self.tally.gaps.add
        self._tasks: list[asyncio.Task[None]] = []
        self._faults = 0
        self._last: deque[tuple[float, Event]] = deque(maxlen=LAST_EVENTS)
        self.lag_s = 0.0
        """How late the last turn of the event loop came."""
        self._metrics: Metrics | None = None
        self._captures: Captures | None = None
        self._support: Support | None = None

    # -- life --------------------------------------------------------------------------------

    async def start(self) -> None:
        """Take in what is there, then follow."""
        around = self._around
        self.refresh()
        devices = self._devices()
        if devices is not None:
            self.register.configure({one.name: _configured(one) for one in devices})
        around.emit.annotate = self
        around.service.before_removal = self.sampler.ending
        try:
            await self._restore()
        except Exception as error:  # noqa: BLE001 - the gateway starts all the same
            self._fault("taking in what is there", error)
        self.chronicle.start()
        self._tasks.append(asyncio.get_running_loop().create_task(self._sample()))

    async def _restore(self) -> None:
        names = [name for name, _ in self._around.engine.ike_sa_names()]
        for first in range(0, len(names), RESTORED_PER_TURN):
            self.follower.restore(names[first : first + RESTORED_PER_TURN])
            await asyncio.sleep(0)
        self.follower.restore_mobility()
        self._restore_leases()

    def _restore_leases(self) -> None:
        nar = self._around.nar()
        for server in nar.servers.values() if nar is not None else ():
            listing = server.listing
            for place in listing.sessions(None, None):
                self.follower.restore_leases(place.client, listing.lease_count(place.number))

    async def stop(self) -> None:
        """Follow no more, and write down what is not written yet."""
        self._around.emit.annotate = None
        self._around.service.before_removal = _nothing
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._captures is not None:
            await self._captures.stop()
        await self.chronicle.stop()

    async def _sample(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() + TURN_S
        while True:
            await asyncio.sleep(max(0.0, due - loop.time()))
            self.lag_s = max(0.0, loop.time() - due)
            due = max(due + TURN_S, loop.time())
            try:
                self.refresh()
                self.sampler.turn()
            except Exception as error:  # noqa: BLE001 - a fault of ours costs one sample
                self._fault("sampling", error)

    # -- events ------------------------------------------------------------------------------

    def __call__(self, event: Event) -> Event:
        """Follow an event, and say whose it is. Never raises: the gateway's work goes on."""
        try:
            wall_s = self._around.wall_clock()
            self.tally.hear(event, wall_s)
            told = self.follower(event)
            self._last.append((wall_s, told))
            return told
        except Exception as error:  # noqa: BLE001 - see above
            self._fault(event.name, error)
            return event

    def true_names(self, value: object) -> object:
        """A JSON value with the true addresses of peers by TCP."""
        rename = self._around.emit.rename
        if rename is None:
            return value
        return rename(Event("names", "", fields={"value": value})).fields["value"]

    def _fault(self, where: str, error: Exception) -> None:
        self._faults += 1
        if self._faults <= 5 and where != "internal_fault":
            text = f"internal fault in observation ({where}): {type(error).__name__}: {error}"
            self._around.emit.log.warning("internal_fault", text=text)

    # -- configuration -----------------------------------------------------------------------

    def refresh(self) -> None:
        """Take in what the configuration says of us, when it is not what it was."""
        config = self._around.config()
        if config is self._config:
            return
        self._config = config
        self.chronicle.history_s = config.store.history_days * DAY_S

    def _devices(self) -> "Devices | None":
        """Those that administrators describe."""
        return getattr(self._administration.side("objects"), "devices", None)

    def identity_of(self, name: str) -> str | None:
        """The identity of a device, one that was only seen included."""
        device = self.register.named(name)
        return None if device is None else device.identity

    def device_changed(self, name: str) -> None:
        """An administrator described a device, differently, or not any more."""
        devices = self._devices()
        device = None if devices is None else devices.get(name)
        if device is None:
            self.register.unconfigure_one(name)
        else:
            self.register.configure_one(_configured(device))

    # -- operations --------------------------------------------------------------------------

    def handlers(self) -> Mapping[str, Handler]:
        """By the operation's name."""
        return {
            **self.queries.handlers(),
            "metrics": self._answer_metrics,
            "captures": self._capture,
            "capture-start": self._capture,
            "capture-stop": self._capture,
            "capture-read": self._capture,
            "support": self._answer_support,
        }

    @property
    def metrics(self) -> "Metrics":
        """Loaded when somebody first asks."""
        if self._metrics is None:
            from gateway.appliance.observation.metrics import Metrics  # noqa: PLC0415

            self._metrics = Metrics(self, self._around)
        return self._metrics

    @property
    def captures(self) -> "Captures":
        """Loaded when somebody first asks."""
        if self._captures is None:
            from gateway.appliance.observation.captures import Captures  # noqa: PLC0415

            self._captures = Captures(self.queries.find, self._around)
        return self._captures

    @property
    def last_events(self) -> list[dict[str, object]]:
        """What happened last, the oldest first."""
        return [
            {"at": time_text(at), "name": one.name, "text": one.text, "fields": one.fields}
            for at, one in self._last
        ]

    @property
    def captures_running(self) -> int:
        """Packet captures that run."""
        return 0 if self._captures is None else self._captures.running

    async def _answer_metrics(self, request: Request) -> object:
        return await self.metrics.answer(devices=request.flag("devices"))

    async def _capture(self, request: Request) -> object:
        return await self.captures.handle(request)

    async def _answer_support(self, request: Request) -> object:
        if self._support is None:
            from gateway.appliance.observation.support import Support  # noqa: PLC0415

            self._support = Support(self, self._around)
        return await self._support.answer(request)


def _configured(device: "Described") -> Configured:
    section = device.section
    return Configured(
        name=device.name,
        identity=device.identity,
        source=device.source,
        connection=section.connection or "",
        user=section.user or "",
        platform=section.platform,
        note=section.note,
        blocked=section.blocked,
        mobile_node=section.mobile_node or "",
    )


def _nothing(_spi_in: int) -> None:
    return None
