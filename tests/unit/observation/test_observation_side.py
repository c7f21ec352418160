"""The side as a whole: it answers every operation in the shape that is promised."""

import asyncio
from types import SimpleNamespace
from typing import Any, get_type_hints

import pytest
from observation_fakes import Clock, Engine, failed, usage

from gateway.appliance.failures import Failures
from gateway.appliance.observation.device import seen_name
from gateway.appliance.observation.side import Observation, build
from gateway.config.administration import DeviceSection
from gateway.control import observation_views as shapes
from gateway.control.observation_operations import OBSERVATION_OPERATIONS
from gateway.control.protocol import OPERATIONS, ControlError, ErrorCode, Request
from gateway.domain.event import Event


class Emit:
    def __init__(self) -> None:
        self.annotate: Any = None
        self.rename: Any = None
        self.told: list[Event] = []
        self.log = SimpleNamespace(warning=lambda *_, **__: None)

    def __call__(self, event: Event) -> None:
        self.told.append(self.annotate(event) if self.annotate is not None else event)


class Devices:
    """What the objects side has."""

    def __init__(self) -> None:
        self.by_name: dict[str, Any] = {}

    def put(self, name: str, identity: str, **changed: Any) -> None:
        section = DeviceSection(identity=identity, **changed)
        self.by_name[name] = SimpleNamespace(
            name=name, identity=identity, section=section, source="store"
        )

    def get(self, name: str) -> Any:
        return self.by_name.get(name)

    def __iter__(self) -> Any:
        return iter(self.by_name.values())


class Bed:
    def __init__(self) -> None:
        self.clock, self.engine, self.emit = Clock(), Engine(), Emit()
        self.devices, self.failures = Devices(), Failures()
        self.usages: dict[int, Any] = {}
        self.config = SimpleNamespace(
            store=SimpleNamespace(history_days=90.0),
            dataplane=SimpleNamespace(mtu=1400),
            gateway=SimpleNamespace(name="gw"),
            ike=SimpleNamespace(listen=()),
            connections={},
        )
        dataplane = SimpleNamespace(usage=self.usages.get, before_move=lambda _spi: None)
        around: Any = SimpleNamespace(
            config=lambda: self.config,
            engine=self.engine,
            service=SimpleNamespace(before_removal=None),
            dataplane=dataplane,
            emit=self.emit,
            failures=self.failures,
            mobility=lambda: None,
            nar=lambda: None,
            facts=lambda: {"ike_sas": 1},
            clock=self.clock,
            wall_clock=self.clock.wall,
            random=bytes,
        )
        administration: Any = SimpleNamespace(
            store=SimpleNamespace(run=self.run),
            side=lambda _name: SimpleNamespace(devices=self.devices),
        )
        self.rows: tuple[Any, ...] = ()
        self.side: Observation = build(administration, around)

    async def run(self, work: Any) -> Any:
        return self.rows

    async def ask(self, op: str, **arguments: Any) -> Any:
        operation = OPERATIONS[op]
        return await self.side.handlers()[op](Request(operation, operation.check(arguments)))


def conforms(view: Any, shape: Any) -> None:
    """Exactly the keys that the shape has."""
    assert set(view) == set(get_type_hints(shape))


def play(scenario: Any) -> None:
    async def whole() -> None:
        bed = Bed()
        try:
            await scenario(bed)
        finally:
            await bed.side.stop()

    asyncio.run(whole())


def test_every_operation_has_a_handler() -> None:
    async def scenario(bed: Bed) -> None:
        assert set(bed.side.handlers()) == {one.name for one in OBSERVATION_OPERATIONS}

    play(scenario)


def test_answers_have_the_shapes_that_are_promised() -> None:
    async def scenario(bed: Bed) -> None:
        bed.devices.put("laptop", "ann", note="blue", mobile_node="m")
        await bed.side.start()
        event = bed.engine.connect("ann", remote="198.51.100.7:4500")
        bed.emit(event)
        bed.failures(failed("ann"))
        (spi,) = bed.engine.children
        bed.usages[spi] = usage(100, 200, 1, 2)
        bed.clock.now += 20
        bed.side.sampler.turn()
        bed.emit(bed.engine.move(event, "203.0.113.5:1"))

        page = await bed.ask("devices", q="LAPTOP", where="outside")
        (item,) = page["items"]
        conforms(item, shapes.Device)
        assert (item["name"], item["bytes_in"], item["source"]) == ("laptop", 100, "store")
        conforms(item["last_move"], shapes.Move)

        detail = await bed.ask("device", name="laptop")
        conforms(detail, shapes.DeviceDetail)
        for layer in detail["layers"]:
            conforms(layer, shapes.Layer)
            conforms(layer["headers"][0], shapes.Header)
        conforms(detail["path_mtu"], shapes.Mtu)
        conforms(detail["recent_failures"][0], shapes.DeviceFailure)
        assert detail["recent_failures"][0]["remedy"]
        assert detail["ike_sas"][0]["session"] == "session-1"
        assert detail["path_mtu"]["configured"] == 1400

        traffic = await bed.ask("device-traffic", name="laptop")
        conforms(traffic, shapes.DeviceTraffic)
        conforms(traffic["samples"][-1], shapes.TrafficSample)
        assert sum(one["bytes_out"] for one in traffic["samples"]) == 200
        assert (await bed.ask("device-traffic", name="laptop", span="30d"))["samples"] == []

        picture = await bed.ask("topology")
        conforms(picture, shapes.Topology)
        for place in picture["places"]:
            conforms(place, shapes.Place)
        (internet,) = [one for one in picture["places"] if one["id"] == "internet"]
        assert internet["devices"] == 1
        assert internet["first"][0]["name"] == "laptop"
        ids = {one["id"] for one in picture["places"]}
        assert all({edge["a"], edge["b"]} <= ids for edge in picture["edges"])

    play(scenario)


def test_history_is_paged_and_names_devices() -> None:
    async def scenario(bed: Bed) -> None:
        bed.devices.put("laptop", "ann")
        await bed.side.start()
        bed.rows = tuple(
            SimpleNamespace(
                id=number,
                at=1.0,
                device="ann",
                what="moved",
                session="s",
                text="t",
                fields={},
            )
            for number in (30, 20, 10)
        )
        page = await bed.ask("device-history", name="laptop", limit=2)
        conforms(page["items"][0], shapes.HistoryEntry)
        assert page["next"] == "14"
        assert page["items"][0]["device"] == "laptop"
        assert len((await bed.ask("history", session="s"))["items"]) == 3

    play(scenario)


def test_devices_that_administrators_change_are_known_at_once() -> None:
    async def scenario(bed: Bed) -> None:
        await bed.side.start()
        bed.emit(bed.engine.connect("ann"))
        assert bed.emit.told[-1].fields["device"] == seen_name("ann")
        assert bed.side.identity_of(seen_name("ann")) == "ann"
        bed.devices.put("laptop", "ann")
        bed.side.device_changed("laptop")
        assert (await bed.ask("device", name="laptop"))["where"] == "outside"
        bed.devices.put("laptop", "ann", blocked=True)
        bed.side.device_changed("laptop")
        assert (await bed.ask("device", name="laptop"))["blocked"] is True
        del bed.devices.by_name["laptop"]
        bed.side.device_changed("laptop")
        with pytest.raises(ControlError) as unknown:
            await bed.ask("device", name="laptop")
        assert unknown.value.code is ErrorCode.NOT_FOUND

    play(scenario)


def test_sessions_of_before_are_taken_in_without_a_login() -> None:
    async def scenario(bed: Bed) -> None:
        for number in range(1, 251):
            bed.engine.connect(f"u{number}", number, inner_address=f"10.9.0.{number}", session="s")
        await bed.side.start()
        assert (await bed.ask("devices", where="outside"))["total"] == 250
        assert bed.side.chronicle.waiting == 0

    play(scenario)


def test_a_fault_while_starting_keeps_nobody_from_starting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario(bed: Bed) -> None:
        def broken() -> None:
            raise RuntimeError("a fault")

        monkeypatch.setattr(bed.side.follower, "restore_mobility", broken)
        bed.engine.connect("ann")
        await bed.side.start()
        assert (await bed.ask("devices"))["total"] == 1

    play(scenario)


def test_a_fault_of_ours_costs_no_event(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(bed: Bed) -> None:
        await bed.side.start()

        def broken(_event: Event) -> Event:
            raise RuntimeError("a fault")

        monkeypatch.setattr(bed.side, "follower", broken)
        event = failed("ann")
        assert bed.side(event) is event

    play(scenario)
