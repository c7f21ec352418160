"""Sides of the administration: built when they are needed, and what a broken one costs."""

import asyncio
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from gateway.appliance.administration.composition import Administration
from gateway.appliance.administration.side import Side, SideOf
from gateway.domain.event import Event, Severity


class Broken(Side):
    async def start(self) -> None:
        raise ValueError("no such column")


class Sound(Side):
    def __init__(self) -> None:
        self.began = False

    async def start(self) -> None:
        self.began = True


def side(monkeypatch: pytest.MonkeyPatch, name: str, built: Side, *, at_start: bool) -> SideOf:
    module = ModuleType(f"tests_side_{name}")
    module.build = lambda *_: built  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return SideOf(name, module.__name__, (), at_start=at_start)


def test_a_side_that_cannot_start_is_an_event_and_the_others_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sound, lazy = Sound(), Sound()
    sides = (
        side(monkeypatch, "broken", Broken(), at_start=True),
        side(monkeypatch, "sound", sound, at_start=True),
        side(monkeypatch, "lazy", lazy, at_start=False),
    )
    events: list[Event] = []

    async def main() -> None:
        administration = Administration(sides=sides)
        surroundings: Any = SimpleNamespace(emit=events.append)
        administration.join(surroundings)
        await administration.start()
        await asyncio.sleep(0)

    asyncio.run(main())
    assert sound.began
    assert not lazy.began
    (told,) = events
    assert told.name == "side_failed"
    assert told.severity is Severity.WARNING
    assert told.text == "the broken side cannot start: ValueError: no such column"


def test_devices_are_known_before_the_start_and_a_fault_there_waits_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    objects = Sound()
    sides = (side(monkeypatch, "objects", objects, at_start=True),)
    events: list[Event] = []

    async def main() -> None:
        administration = Administration(sides=sides)
        administration.know_devices()  # the core has not joined: nothing is built, nothing raised
        surroundings: Any = SimpleNamespace(emit=events.append)
        administration.join(surroundings)
        administration.know_devices()
        assert administration._built == {"objects": objects}
        assert not objects.began

    asyncio.run(main())
    assert events == []
