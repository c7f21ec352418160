"""The channel between core and process: sockets go along, what is hostile ends it."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Callable, Coroutine

import pytest

from gateway.names.channel import Channel


class End:
    """One end, and what it heard."""

    def __init__(self, sock: socket.socket, *, most: int = 1000) -> None:
        self.heard: asyncio.Queue[tuple[dict[str, object], list[int]]] = asyncio.Queue()
        self.ended = asyncio.Event()
        self.channel = Channel(
            sock,
            lambda message, sockets: self.heard.put_nowait((message, sockets)),
            self.ended.set,
            max_line_octets=most,
            max_waiting_octets=100_000,
        )


def run(test: Callable[[End, socket.socket], Coroutine[object, object, None]]) -> None:
    """Run a test with an end and the raw other one."""

    async def inside() -> None:
        ours, theirs = socket.socketpair()
        end = End(ours)
        theirs.setblocking(False)
        try:
            async with asyncio.timeout(20):
                await test(end, theirs)
        finally:
            end.channel.close()
            theirs.close()

    asyncio.run(inside())


def test_sockets_come_with_their_message() -> None:
    async def test(end: End, raw: socket.socket) -> None:
        other = End(raw)
        with socket.socket() as first, socket.socket() as second:
            names = [one.fileno() for one in (first, second)]
            inodes = [os.fstat(one).st_ino for one in names]
            other.channel.send({"n": 1})
            other.channel.send({"n": 2}, names)
            other.channel.send({"n": 3})
        found = [await end.heard.get() for _ in range(3)]
        assert [message["n"] for message, _ in found] == [1, 2, 3]
        assert [len(sockets) for _, sockets in found] == [0, 2, 0]
        assert [os.fstat(one).st_ino for one in found[1][1]] == inodes
        for one in found[1][1]:
            os.close(one)
        other.channel.close()
        await end.ended.wait()

    run(test)


@pytest.mark.parametrize(
    "line", [b"nonsense\n", b"[1]\n", b'"x"\n', b"x" * 1001, b"[" * 900 + b"\n", b"\xff\n"]
)
def test_what_is_no_message_ends_it(line: bytes) -> None:
    async def test(end: End, raw: socket.socket) -> None:
        raw.send(line)
        await end.ended.wait()
        assert end.heard.empty()
        assert not end.channel.send({"n": 1})

    run(test)


@pytest.mark.parametrize("count", [-1, 1, 10**9, "x", None, True])
def test_a_wrong_number_of_sockets_is_harmless(count: object) -> None:
    async def test(end: End, raw: socket.socket) -> None:
        raw.send(json.dumps({"sockets": count}).encode() + b"\n")
        _, sockets = await end.heard.get()
        assert not sockets

    run(test)


def test_who_does_not_read_is_not_waited_for() -> None:
    async def test(end: End, _raw: socket.socket) -> None:
        sent = 0
        while end.channel.send({"text": "x" * 900}):
            sent += 1
            assert sent < 10_000

    run(test)
