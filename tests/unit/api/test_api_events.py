"""Server-sent events: one subscription for everybody, what was missed, who is slow, who may."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.api import events
from gateway.api.events import MAX_LISTENERS_OF_ONE, MAX_WAITING, RING, EventHub
from gateway.control.async_client import Caller
from gateway.control.client import ControlUnavailableError
from gateway.control.protocol import ControlError, ErrorCode

ANN = Caller("ann", "192.0.2.7")


class Core:
    """Answers who it knows, and gives events from a queue."""

    def __init__(self) -> None:
        self.known = {"ann", "bob"}
        self.queue: asyncio.Queue[dict[str, object] | Exception] = asyncio.Queue()
        self.subscriptions: list[str] = []
        self.open = 0
        self.asked: list[str] = []
        self.code = ErrorCode.UNAUTHENTICATED
        self.refuses_events = False

    async def request(
        self, op: str, args: Any, caller: Any = None, *, timeout_s: Any = None
    ) -> dict[str, object]:
        self.asked.append(op)
        if caller.credential not in self.known:
            raise ControlError(self.code, "not valid")
        return {}

    async def events(self, caller: Any = None, *, debug: bool = False) -> AsyncIterator[Any]:
        if self.refuses_events and caller.credential not in self.known:
            raise ControlError(self.code, "not valid")
        self.subscriptions.append(caller.credential)
        self.open += 1
        try:
            while True:
                event = await self.queue.get()
                if isinstance(event, Exception):
                    raise event
                yield event
        finally:
            self.open -= 1


def run(coroutine: Any) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(30):
            await coroutine

    asyncio.run(bounded())


async def take(stream: AsyncIterator[bytes], count: int) -> list[dict[str, Any]]:
    """So many events of a stream."""
    found: list[dict[str, Any]] = []
    while len(found) < count:
        for message in (await anext(stream)).decode().split("\n\n"):
            fields = dict(line.split(": ", 1) for line in message.splitlines() if ": " in line)
            if "data" in fields:
                found.append({**json.loads(fields["data"]), "id": fields.get("id")})
    return found


def test_everybody_gets_every_event_by_one_subscription() -> None:
    async def scenario() -> None:
        core = Core()
        hub = EventHub(core, "e")
        streams = [await hub.join(ANN, None) for _ in range(20)]
        for number in range(3):
            core.queue.put_nowait({"name": "moved", "number": number})
        for stream in streams:
            found = await take(stream, 3)
            assert [one["number"] for one in found] == [0, 1, 2]
            assert [one["id"] for one in found] == ["e-1", "e-2", "e-3"]
        assert core.subscriptions == ["ann"]
        await hub.stop()

    run(scenario())


def test_what_was_missed_comes_first_and_what_is_gone_is_said() -> None:
    async def scenario() -> None:
        hub = EventHub(Core(), "e")
        for number in range(RING + 10):
            hub.publish({"name": "moved", "number": number})
        (first,) = await take(await hub.join(ANN, f"e-{RING + 9}"), 1)
        assert first["number"] == RING + 9
        for old in ("e-5", "other-7", "e-999999", "e-x", "\x00", "e-" + "9" * 60):
            (lost,) = await take(await hub.join(ANN, old), 1)
            assert lost["name"] == "events_lost", old
        await hub.stop()

    run(scenario())


def test_who_is_not_known_does_not_listen() -> None:
    async def scenario() -> None:
        hub = EventHub(Core(), "e")
        with pytest.raises(ControlError, match="not valid"):
            await hub.join(Caller("eve", "192.0.2.7"), None)
        await hub.stop()

    run(scenario())


def test_a_login_that_ends_ends_its_stream_and_is_not_kept_alive(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(events, "HEARTBEAT_S", 0.01)

    async def scenario() -> None:
        core = Core()
        hub = EventHub(core, "e")
        stream = await hub.join(ANN, None)
        await anext(stream)
        assert await anext(stream) == b": still here\n\n"
        assert core.asked == ["whoami", "health"]
        core.known.discard("ann")
        assert [one async for one in stream] in ([], [b": still here\n\n"])
        await hub.stop()

    run(scenario())


@pytest.mark.parametrize("code", [ErrorCode.UNAUTHENTICATED, ErrorCode.TOO_MANY])
def test_a_login_that_ends_ends_its_stream_however_many_events_there_are(
    monkeypatch: pytest.MonkeyPatch, code: ErrorCode
) -> None:
    monkeypatch.setattr(events, "HEARTBEAT_S", 0.01)

    async def scenario() -> None:
        core = Core()
        core.code = code
        hub = EventHub(core, "e")
        stream = await hub.join(ANN, None)
        await anext(stream)
        core.known.discard("ann")
        with contextlib.suppress(StopAsyncIteration):
            while True:  # never a pause for a heartbeat
                hub.publish({"name": "moved"})
                await anext(stream)
        await hub.stop()

    run(scenario())


def test_a_listener_whose_login_ended_does_not_keep_others_from_their_events(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(events, "AGAIN_S", 0.0)

    async def scenario() -> None:
        core = Core()
        core.refuses_events = True
        hub = EventHub(core, "e")
        streams = [await hub.join(Caller(who, "192.0.2.7"), None) for who in ("ann", "bob")]
        for stream in streams:
            await anext(stream)
        core.known.discard("ann")
        core.queue.put_nowait(ControlUnavailableError("the core started again"))
        core.queue.put_nowait({"name": "moved"})
        while (await take(streams[1], 1))[0]["name"] != "moved":
            pass
        await hub.stop()

    run(scenario())


def test_who_reads_too_slowly_is_disconnected_and_others_are_not() -> None:
    async def scenario() -> None:
        hub = EventHub(Core(), "e")
        slow = await hub.join(ANN, None)
        await anext(slow)
        quick = await hub.join(ANN, None)
        await anext(quick)
        for number in range(MAX_WAITING + 2):
            hub.publish({"name": "moved", "number": number})
            if number % 100 == 0:
                await anext(quick)
        assert [one async for one in slow] == []
        assert len(await take(quick, 1)) >= 1
        await hub.stop()

    run(scenario())


def test_listeners_of_one_address_are_bounded() -> None:
    async def scenario() -> None:
        hub = EventHub(Core(), "e")
        for _ in range(MAX_LISTENERS_OF_ONE):
            await hub.join(ANN, None)
        with pytest.raises(ControlError) as caught:
            await hub.join(ANN, None)
        assert caught.value.code == ErrorCode.TOO_MANY
        assert await hub.join(Caller("bob", "192.0.2.8"), None)
        await hub.stop()

    run(scenario())


def test_when_the_core_starts_again_listeners_are_told_and_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(events, "AGAIN_S", 0.001)

    async def scenario() -> None:
        core = Core()
        hub = EventHub(core, "e")
        stream = await hub.join(ANN, None)
        core.queue.put_nowait(ControlUnavailableError("gone"))
        core.queue.put_nowait({"name": "moved"})
        assert [one["name"] for one in await take(stream, 2)] == ["events_lost", "moved"]
        assert core.subscriptions == ["ann", "ann"]
        await hub.stop()

    run(scenario())


def test_without_listeners_the_subscription_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "LINGER_S", 0.03)
    monkeypatch.setattr(events, "AGAIN_S", 0.001)

    async def scenario() -> None:
        core = Core()
        hub = EventHub(core, "e")
        stream = await hub.join(ANN, None)
        core.queue.put_nowait({"name": "moved"})
        await take(stream, 1)
        await stream.aclose()  # type: ignore[attr-defined]
        while core.open:  # noqa: ASYNC110 - bounded by run()
            await asyncio.sleep(0.005)
        again = await hub.join(ANN, None)
        core.queue.put_nowait({"name": "moved"})
        assert await take(again, 1)
        await hub.stop()

    run(scenario())
