"""What the process of names does: the forwarder and the registrar, as the core tells it."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Coroutine
from typing import Final

from gateway.names.channel import Channel
from gateway.names.forwarder import Forwarder
from gateway.names.registering import Order, Registrar
from gateway.names.serving import Serving
from gateway.names.settings import ForwarderSettings, RegistrarSettings

MAX_LINE_OCTETS: Final = 64 * 1024 * 1024
"""Of the core, which is trusted."""
MAX_WAITING_OCTETS: Final = 16 * 1024 * 1024
MAX_SERVERS_SHOWN: Final = 64
FINISH_S: Final = 60.0

Message = dict[str, object]


class Worker:
    """Obeys the core; ends when it does."""

    def __init__(self, sock: socket.socket) -> None:
        """``sock`` leads to the core."""
        self._ended = asyncio.Event()
        self._forwarder = Forwarder(ForwarderSettings(), os.urandom)
        self._serving = Serving(self._forwarder)
        self._registrar: Registrar | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._channel = Channel(
            sock,
            self._heard,
            self._ended.set,
            max_line_octets=MAX_LINE_OCTETS,
            max_waiting_octets=MAX_WAITING_OCTETS,
        )
        self._does: dict[object, Callable[[Message, list[int]], None]] = {
            "listen": self._listen,
            "forwarder": self._reconfigure,
            "registrar": self._register_at,
            "register": self._order,
            "withdraw": self._order,
            "facts": self._facts,
        }

    async def run(self) -> None:
        """Until the core ends the channel."""
        self._tell({"what": "hello", "pid": os.getpid()})
        await self._ended.wait()
        await self._serving.stop_listening()
        if self._registrar is not None:
            self._registrar.stop()

    def _tell(self, message: Message) -> None:
        if not self._channel.send(message):
            self._ended.set()  # the core does not listen any more: begin anew

    def _heard(self, message: Message, descriptors: list[int]) -> None:
        does = self._does.get(message.get("op"))
        try:
            if does is not None:
                does(message, descriptors)
        except (ValueError, KeyError, TypeError) as error:
            self._tell({"what": "fault", "detail": f"{message.get('op')}: {error}"})
        for one in descriptors:
            os.close(one)

    def _listen(self, _message: Message, descriptors: list[int]) -> None:
        taken = list(descriptors)
        descriptors.clear()

        async def listen() -> None:
            await self._serving.listen(taken)
            self._tell({"what": "listening", "sockets": len(taken)})

        self._spawn(listen())

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _reconfigure(self, message: Message, _descriptors: list[int]) -> None:
        self._forwarder.reconfigure(ForwarderSettings.from_json(message))

    def _register_at(self, message: Message, _descriptors: list[int]) -> None:
        if self._registrar is not None:
            self._spawn(self._registrar.finish(FINISH_S))  # it has names to withdraw
            self._registrar = None
        if message.get("server") is not None:
            self._registrar = Registrar(RegistrarSettings.from_json(message), self._tell)
            self._registrar.start()

    def _order(self, message: Message, _descriptors: list[int]) -> None:
        if self._registrar is not None:
            self._registrar.order(Order.from_json(message))

    def _facts(self, _message: Message, _descriptors: list[int]) -> None:
        servers = [
            {
                "address": str(one.endpoint.address),
                "port": one.endpoint.port,
                "asked": one.asked,
                "answered": one.answered,
                "failed": one.failed,
                "last_answered": not one.failures,
            }
            for one in self._forwarder.servers[:MAX_SERVERS_SHOWN]
        ]
        registrar = self._registrar
        self._tell(
            {
                "what": "facts",
                "pid": os.getpid(),
                "cached": self._forwarder.cached,
                "counters": dict(self._forwarder.counters),
                "servers": servers,
                "registrations": {} if registrar is None else dict(registrar.counters),
                "waiting": 0 if registrar is None else registrar.waiting,
            }
        )


async def work(sock: socket.socket) -> None:
    """Be the worker until the core ends the channel."""
    worker = Worker(sock)
    with contextlib.suppress(asyncio.CancelledError):
        await worker.run()
