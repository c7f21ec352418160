"""Server-sent events: one subscription at the core, given to everybody who listens.

The last :data:`RING` events are kept, so that who was away shortly gets what they missed: browsers
say in ``Last-Event-ID`` what they have seen. Who reads too slowly is disconnected, and comes again.
"""

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Final, Protocol

from gateway.api.caller import Client
from gateway.control.async_client import Caller
from gateway.control.client import ControlUnavailableError
from gateway.control.protocol import ControlError, ErrorCode

RING: Final = 1000
MAX_LISTENERS: Final = 200
MAX_LISTENERS_OF_ONE: Final = 50
MAX_WAITING: Final = 500
HEARTBEAT_S: Final = 15.0
AGAIN_S: Final = 1.0
LINGER_S: Final = 30.0
"""The subscription outlives its last listener for so long: a page that is loaded again misses
nothing."""

_LOST: Final[dict[str, object]] = {
    "name": "events_lost",
    "severity": "info",
    "text": "some events were missed: read again what is shown",
    "fields": {},
}


_OUT: Final = frozenset({ErrorCode.UNAUTHENTICATED, ErrorCode.DENIED, ErrorCode.TOO_MANY})
"""What the core says of credentials that do not count, the last one when it has said so often."""


class Subscribable(Client, Protocol):
    """What events need of :class:`gateway.control.async_client.AsyncControlClient`."""

    def events(
        self, caller: Caller | None = None, *, debug: bool = False
    ) -> AsyncIterator[dict[str, object]]:
        """Events from now on."""


class _Listener:
    """One client, and what it has not been sent yet."""

    def __init__(self, caller: Caller) -> None:
        self.caller = caller
        self.waiting: deque[bytes] = deque()
        self.wake = asyncio.Event()
        self.is_slow = False
        self.is_out = False
        """Its credential does not count any more."""

    def offer(self, message: bytes) -> None:
        if len(self.waiting) >= MAX_WAITING:
            self.is_slow = True
        else:
            self.waiting.append(message)
        self.wake.set()


class EventHub:
    """Fans events out."""

    def __init__(self, core: Subscribable, epoch: str) -> None:
        """``epoch`` is new with each process: numbers of an older one mean nothing."""
        self._core = core
        self._epoch = epoch
        self._number = 0
        self._ring: deque[tuple[int, bytes]] = deque(maxlen=RING)
        self._listeners: set[_Listener] = set()
        self._task: asyncio.Task[None] | None = None

    async def join(self, caller: Caller, last_id: str | None) -> AsyncIterator[bytes]:
        """What a listener is sent, without end.

        Raises :class:`ControlError`: the core does not let it, or there are too many.
        """
        await self._core.request("whoami", {}, caller)
        of_one = sum(1 for one in self._listeners if one.caller.remote == caller.remote)
        if len(self._listeners) >= MAX_LISTENERS or of_one >= MAX_LISTENERS_OF_ONE:
            text = "too many listen to events already: close other pages"
            raise ControlError(ErrorCode.TOO_MANY, text, retry_after_s=10.0)
        listener = _Listener(caller)
        for message in self._missed(last_id):
            listener.offer(message)
        self._listeners.add(listener)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._follow())
        return self._stream(listener)

    def publish(self, event: dict[str, object]) -> None:
        """Give an event to everybody."""
        self._number += 1
        text = json.dumps(event, separators=(",", ":"))
        message = f"id: {self._epoch}-{self._number}\ndata: {text}\n\n".encode()
        self._ring.append((self._number, message))
        for listener in self._listeners:
            listener.offer(message)

    async def stop(self) -> None:
        """End the subscription."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _missed(self, last_id: str | None) -> list[bytes]:
        epoch, _, text = (last_id or "").partition("-")
        if not last_id:
            return []
        number = int(text) if text.isascii() and text.isdigit() and len(text) <= 15 else -1
        first = self._ring[0][0] if self._ring else self._number + 1
        if epoch != self._epoch or number < first - 1 or number > self._number:
            return [f"data: {json.dumps(_LOST)}\n\n".encode()]
        return [message for at, message in self._ring if at > number]

    async def _stream(self, listener: _Listener) -> AsyncIterator[bytes]:
        clock = asyncio.get_running_loop().time
        asked_at = clock()
        try:
            yield b"retry: 2000\n\n"
            while not listener.is_slow:
                with suppress(TimeoutError):
                    async with asyncio.timeout(HEARTBEAT_S):
                        await listener.wake.wait()
                # However many events there are: whoever may not listen any more hears none.
                if clock() - asked_at >= HEARTBEAT_S:
                    if not await self._may_stay(listener):
                        return
                    asked_at = clock()
                if listener.is_out:
                    return
                if not listener.wake.is_set():
                    yield b": still here\n\n"
                    continue
                listener.wake.clear()
                messages = b"".join(listener.waiting)
                listener.waiting.clear()  # before they are sent: more may come meanwhile
                yield messages
        finally:
            self._listeners.discard(listener)

    async def _may_stay(self, listener: _Listener) -> bool:
        """Whether its credential still counts. Asking this does not keep a login alive."""
        try:
            await self._core.request("health", {}, listener.caller)
        except ControlError as error:
            return error.code not in _OUT
        except ControlUnavailableError:
            return True  # the core starts again; it will be asked again
        return True

    async def _follow(self) -> None:
        """Keep a subscription as long as somebody listens."""
        while self._listeners:
            listener = next(iter(self._listeners))
            try:
                await self._read(listener.caller)
            except ControlError as error:
                if error.code in _OUT:
                    self._put_out(listener)  # others may listen: with the credential of the next
                    continue
                self.publish(_LOST)
            except (ControlUnavailableError, StopAsyncIteration):
                self.publish(_LOST)
            await asyncio.sleep(AGAIN_S)

    def _put_out(self, listener: _Listener) -> None:
        self._listeners.discard(listener)
        listener.is_out = True
        listener.wake.set()

    async def _read(self, caller: Caller) -> None:
        events = self._core.events(caller)
        alone_since: float | None = None
        clock = asyncio.get_running_loop().time
        pending = asyncio.ensure_future(anext(events))
        try:
            while alone_since is None or clock() - alone_since < LINGER_S:
                done, _ = await asyncio.wait({pending}, timeout=LINGER_S / 3)
                if done:
                    self.publish(pending.result())
                    pending = asyncio.ensure_future(anext(events))
                if self._listeners:
                    alone_since = None
                elif alone_since is None:
                    alone_since = clock()
        finally:
            pending.cancel()
            await asyncio.gather(pending, return_exceptions=True)
