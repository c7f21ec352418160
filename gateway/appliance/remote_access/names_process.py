"""The core's end of the process of names: started, told everything, asked for its counters."""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from gateway.appliance.accounts import Account
from gateway.names.channel import Channel

MODULE: Final = "gateway.appliance.remote_access.names_main"
MAX_LINE_OCTETS: Final = 262_144
MAX_WAITING_OCTETS: Final = 64 * 1024 * 1024
END_S: Final = 3.0
ANSWER_S: Final = 2.0
_PACKAGE_PARENT = Path(__file__).resolve().parents[3]

Message = dict[str, object]


def argv(module: str, *arguments: str) -> list[str]:
    """How a module of ours is started, wherever we were started."""
    return [sys.executable, "-P", "-m", module, *arguments]


def environment() -> dict[str, str]:
    """For processes of ours: nothing of the caller's."""
    return {
        "PATH": os.defpath,
        "LANG": "C.UTF-8",
        "PYTHONPATH": str(_PACKAGE_PARENT),
        "PYTHONUNBUFFERED": "1",
    }


class NamesProcess:
    """One process; ``heard`` gets its messages but answers, ``ended`` is told when it is gone."""

    def __init__(
        self, account: Account | None, heard: Callable[[Message], None], ended: Callable[[], None]
    ) -> None:
        """Start it. Raises OSError."""
        self._heard_outside = heard
        self._ended_outside = ended
        self._waiting: list[asyncio.Future[Message]] = []
        ours, theirs = socket.socketpair()
        with theirs:
            command = argv(MODULE, str(theirs.fileno()))
            if account is None:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                    env=environment(),
                )
            else:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                    env=environment(),
                    user=account.uid,
                    group=account.gid,
                    extra_groups=[],
                )
        self._channel = Channel(
            ours,
            self._heard,
            self._ended,
            max_line_octets=MAX_LINE_OCTETS,
            max_waiting_octets=MAX_WAITING_OCTETS,
        )

    @property
    def pid(self) -> int:
        """Of its keeper."""
        return self._process.pid

    def tell(self, message: Message, sockets: Sequence[int] = ()) -> bool:
        """Whether it could be queued; a process that does not listen is ended."""
        queued = self._channel.send(message, sockets)
        if not queued:
            self._process.kill()
        return queued

    async def facts(self) -> Message | None:
        """What it counted; None when it does not answer."""
        future: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        self._channel.send({"op": "facts"})
        try:
            async with asyncio.timeout(ANSWER_S):
                return await future
        except TimeoutError:
            return None
        finally:
            if future in self._waiting:
                self._waiting.remove(future)

    async def stop(self) -> None:
        """End it, and wait for that."""
        self._channel.close()
        await asyncio.to_thread(self._reap)

    def _reap(self) -> None:
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _heard(self, message: Message, descriptors: list[int]) -> None:
        for one in descriptors:
            os.close(one)  # it has none for us
        if message.get("what") == "facts":
            waiting, self._waiting = self._waiting, []
            for future in waiting:
                if not future.done():
                    future.set_result(message)
            return
        self._heard_outside(message)

    def _ended(self) -> None:
        self._ended_outside()
