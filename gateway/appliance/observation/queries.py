"""Answers about devices."""

from collections.abc import Callable, Mapping
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Final

from gateway.appliance.administration.side import Handler, Surroundings
from gateway.appliance.mobility_views import binding_view, visitor_view
from gateway.appliance.observation.chronicle import DAY_S, StoreSide
from gateway.appliance.observation.device import Device
from gateway.appliance.observation.following import Follower
from gateway.appliance.observation.layers import layers_view, mtu_view
from gateway.appliance.observation.listing import list_devices
from gateway.appliance.observation.register import Register
from gateway.appliance.observation.rings import COARSE_S, FINE_S, Counts, Rings
from gateway.appliance.observation.topology import topology
from gateway.appliance.observation.views import device_view, failures_of, move_view, time_text
from gateway.appliance.views import child_sa_view, ike_sa_view
from gateway.control import observation_views as shapes
from gateway.control.protocol import ControlError, ErrorCode, Page, Request

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from gateway.store.history import HistoryEntry
    from gateway.store.usage import Usage

DAYS: Final = 30
_CHILDREN: Final = 16
"""Child SAs of a device whose counters are read for one answer."""


class DeviceQueries:
    """Carries checked requests out."""

    def __init__(
        self,
        register: Register,
        rings: Rings,
        follower: Follower,
        around: Surroundings,
        *,
        store: Callable[[], StoreSide],
        refresh: Callable[[], None],
        true_names: Callable[[object], object],
    ) -> None:
        """Join them.

        ``refresh`` takes in what was configured since, ``true_names`` puts the true addresses of
        peers by TCP into a view.
        """
        self._true_names = true_names
        self._register = register
        self._rings = rings
        self._follower = follower
        self._around = around
        self._store = store
        self._refresh = refresh

    def handlers(self) -> Mapping[str, Handler]:
        """By the operation's name."""
        return {
            "devices": self._devices,
            "device": self._device,
            "device-traffic": self._traffic,
            "device-history": self._device_history,
            "history": self._history,
            "topology": self._topology,
        }

    async def _devices(self, request: Request) -> object:
        self._refresh()
        found = list_devices(
            self._register,
            text=request.text("q"),
            where=request.text("where"),
            connection=request.text("connection"),
            sort=request.text("sort") or "name",
            limit=request.number("limit"),
            cursor=request.text("cursor"),
        )
        items = [dict(device_view(device)) for device in found.devices]
        page: Page = {"items": items, "next": found.following, "total": found.total}
        return page

    def find(self, name: str, field: str = "name") -> Device:
        """The device of this name. Raises :class:`ControlError`."""
        self._refresh()
        device = self._register.named(name)
        if device is None:
            why = f'{field} = "{name}": there is no such device; see: gateway top, or `devices`'
            raise ControlError(ErrorCode.NOT_FOUND, why, field)
        return device

    async def _device(self, request: Request) -> object:
        device = self.find(str(request.text("name")))
        around, now = self._around, self._around.clock()
        sas = []
        for session in device.sessions.values():
            self._follower.look_at(device, session, now)
        for sa in around.engine.ike_sas(now, list(device.sessions)):
            view = ike_sa_view(sa)
            view["session"] = device.sessions[sa.spis].id
            sas.append(view)
        spis = [spi for session in device.sessions.values() for spi in session.children]
        children = [
            child_sa_view(sa, around.dataplane.usage(sa.spi_in))
            for sa in around.engine.child_sas(now, spis[:_CHILDREN])
        ]
        configured = device.configured
        leases = self._follower.leases
        hosts = {one for each in device.sessions.values() for one in (*each.inner, each.outer_host)}
        return {
            **device_view(device),
            "mobile_node": (configured.mobile_node or None) if configured is not None else None,
            "ike_sas": self._true_names(sas),
            "child_sas": self._true_names(children),
            "bindings": self._bindings(device),
            "visitors": self._visitors(device),
            "nar_leases": sum(leases.get(host, 0) for host in hosts),
            "layers": layers_view(device),
            "path_mtu": mtu_view(device, around.config().dataplane.mtu),
            "moves": [move_view(one) for one in device.moves or ()],
            "recent_failures": failures_of(device, around.failures),
        }

    def _bindings(self, device: Device) -> list[dict[str, object]]:
        agents, now = self._around.mobility(), self._around.clock()
        found = []
        for agent, home in device.bindings if agents is not None else ():
            side = agents.home_agents.get(agent) if agents is not None else None
            view = None if side is None else side.binding(IPv4Address(home), now)
            if view is not None:
                found.append(binding_view(view))
        return found

    def _visitors(self, device: Device) -> list[dict[str, object]]:
        agents = self._around.mobility()
        found = []
        for agent, home_agent, home in device.visitors if agents is not None else ():
            side = agents.foreign_agents.get(agent) if agents is not None else None
            if side is not None:
                view = side.visitor(IPv4Address(home_agent), IPv4Address(home))
                if view is not None:
                    found.append(visitor_view(view))
        return found

    async def _traffic(self, request: Request) -> object:
        device, span = self.find(str(request.text("name"))), request.text("span") or "1h"
        if span == "30d":
            interval_s, samples = DAY_S, await self._days(device)
        else:
            fine = span == "1h"
            interval_s = FINE_S if fine else COARSE_S
            ring = self._rings.of(device.number, fine=fine)
            found = [] if ring is None else ring.since(self._around.wall_clock())
            samples = [_sample(at, counts) for at, counts in found]
        answer: shapes.DeviceTraffic = {
            "name": device.name,
            "span": span,
            "interval_s": interval_s,
            "samples": samples,
        }
        return answer

    async def _days(self, device: Device) -> list[shapes.TrafficSample]:
        today = int(self._around.wall_clock() // DAY_S)

        def work(connection: "Connection") -> "tuple[Usage, ...]":
            from gateway.store.usage import UsageRepository  # noqa: PLC0415

            return UsageRepository(connection).of(device.identity, today - DAYS + 1, today)

        found = await self._store().run(work)
        days = {one.day: one for one in found} if isinstance(found, tuple) else {}
        samples = []
        for day in range(min(days, default=today + 1), today + 1):
            use = days.get(day)
            counts = (
                (0, 0, 0, 0)
                if use is None
                else (use.bytes_in, use.bytes_out, use.packets_in, use.packets_out)
            )
            samples.append(_sample(day * DAY_S, counts))
        return samples

    async def _device_history(self, request: Request) -> object:
        device = self.find(str(request.text("name")))
        return await self._entries(request, device.identity, None)

    async def _history(self, request: Request) -> object:
        name = request.text("device")
        identity = None if name is None else self.find(name, "device").identity
        return await self._entries(request, identity, request.text("session"))

    async def _entries(self, request: Request, identity: str | None, session: str | None) -> object:
        limit, cursor = request.number("limit"), request.text("cursor")
        since_s = request.number("since_s") if "since_s" in request.arguments else None
        before = int(cursor, 16) if cursor is not None and "_" not in cursor else None
        what = request.text("what")
        since = None if since_s is None else self._around.wall_clock() - since_s

        def work(connection: "Connection") -> "tuple[HistoryEntry, ...]":
            from gateway.store.history import HistoryRepository  # noqa: PLC0415

            return HistoryRepository(connection).find(
                identity, what=what, session=session, since=since, limit=limit + 1, before=before
            )

        found = await self._store().run(work)
        rows = found if isinstance(found, tuple) else ()
        items = [dict(self._entry(row)) for row in rows[:limit]]
        following = f"{rows[limit - 1].id:x}" if len(rows) > limit else None
        page: Page = {"items": items, "next": following, "total": len(items)}
        return page

    def _entry(self, row: "HistoryEntry") -> shapes.HistoryEntry:
        device = self._register.identified(row.device)
        return {
            "id": f"{row.id:x}",
            "at": str(time_text(row.at)),
            "device": row.device if device is None else device.name,
            "what": row.what,
            "session": row.session,
            "text": row.text,
            "fields": row.fields,
        }

    async def _topology(self, _request: Request) -> object:
        self._refresh()
        around = self._around
        listen = around.config().ike.listen
        address = next((str(one) for one in listen if not one.is_unspecified), None)
        name = around.config().gateway.name
        return topology(self._register, name, address, around.mobility())


def _sample(at_s: float, counts: Counts) -> shapes.TrafficSample:
    return {
        "at": str(time_text(at_s)),
        "bytes_in": counts[0],
        "bytes_out": counts[1],
        "packets_in": counts[2],
        "packets_out": counts[3],
    }
