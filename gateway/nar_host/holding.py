"""Holds a session until somebody ends it: a signal, `gateway nar release`, or the server."""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from gateway.nar_host.control import SessionControl
from gateway.nar_host.session import NarSession

_END_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_Made = TypeVar("_Made")


async def hold(
    session: NarSession,
    begin: Callable[[NarSession], Awaitable[_Made]],
    ready: Callable[[_Made], None],
) -> None:
    """Open the session, ``begin`` it, say ``ready``, and hold it until it is ended.

    Raises NarError when it cannot be had, or ends against our will.
    """
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    for number in _END_SIGNALS:
        loop.add_signal_handler(number, ended.set)
    end = loop.create_task(ended.wait())
    work = loop.create_task(_held(session, begin, ready, ended))
    try:
        await asyncio.wait([end, work], return_when=asyncio.FIRST_COMPLETED)
    finally:
        end.cancel()
        work.cancel()
        result = (await asyncio.gather(work, return_exceptions=True))[0]
        for number in _END_SIGNALS:
            loop.remove_signal_handler(number)
    if isinstance(result, BaseException) and not isinstance(result, asyncio.CancelledError):
        raise result


async def _held(
    session: NarSession,
    begin: Callable[[NarSession], Awaitable[_Made]],
    ready: Callable[[_Made], None],
    ended: asyncio.Event,
) -> None:
    async with session:
        asked = SessionControl(session, ended.set)
        made = await begin(session)
        await asked.open()
        try:
            ready(made)
            await session.wait()
        finally:
            await asked.close()
