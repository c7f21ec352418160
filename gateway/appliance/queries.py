"""What the control socket answers: queries and commands on the running appliance."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from gateway import __version__
from gateway.appliance.views import child_sa_view, ike_sa_view
from gateway.control.protocol import ControlError, ErrorCode, Page, Request
from gateway.dataplane.interface import Dataplane
from gateway.ike.v2.snapshot import ChildSaSnapshot, IkeSaSnapshot

T = TypeVar("T")

USAGES_PER_TURN = 16
"""Counters read from the dataplane before others get their turn."""


class Core(Protocol):
    """What queries need of :class:`gateway.ike.v2.engine.IkeEngine`."""

    @property
    def counters(self) -> Mapping[str, int]:
        """What happened how often."""

    def ike_sas(self, now: float) -> Sequence[IkeSaSnapshot]:
        """All IKE SAs."""

    def child_sas(self, now: float) -> Sequence[ChildSaSnapshot]:
        """All child SAs."""

    def close_ike_sa(self, spis: str, reason: str, now: float) -> bool:
        """Close one; whether there was one."""

    def initiate(self, connection: str, now: float) -> None:
        """Start a connection."""


Facts = Callable[[], dict[str, object]]
Reload = Callable[[], Awaitable[dict[str, object]]]


class Queries:
    """Carries checked requests out."""

    def __init__(
        self,
        engine: Core,
        dataplane: Dataplane,
        *,
        flush: Callable[[], None],
        clock: Callable[[], float],
        facts: Facts,
        reload: Reload,
    ) -> None:
        self._engine = engine
        self._dataplane = dataplane
        self._flush = flush
        self._clock = clock
        self._facts = facts
        self._reload = reload
        self._started = clock()
        self._started_at = time.time()
        self._handlers: dict[str, Callable[[Request], Awaitable[object]]] = {
            "health": self._health,
            "status": self._status,
            "ike-sas": self._ike_sas,
            "child-sas": self._child_sas,
            "close-ike-sa": self._close_ike_sa,
            "initiate": self._initiate,
            "reload": self._reload_now,
        }

    async def handle(self, request: Request) -> object:
        """The result of a request; raises :class:`ControlError`."""
        return await self._handlers[request.operation.name](request)

    async def _health(self, _request: Request) -> object:
        return {"status": "ok"}

    async def _status(self, _request: Request) -> object:
        return {
            "version": __version__,
            "pid": os.getpid(),
            "started_at": self._started_at,
            "uptime_s": round(self._clock() - self._started, 3),
            "rss_kib": _resident_kib(),
            **self._facts(),
        }

    async def _ike_sas(self, request: Request) -> object:
        now = self._clock()
        wanted, connection = request.text("id"), request.text("connection")
        found = [
            sa
            for sa in self._engine.ike_sas(now)
            if (wanted is None or sa.spis == wanted)
            and (connection is None or sa.connection == connection)
        ]
        if wanted is not None and not found:
            raise ControlError(ErrorCode.NOT_FOUND, f"there is no IKE SA {wanted}", "id")
        shown, following = _page(found, lambda sa: sa.spis, request)
        items = [ike_sa_view(sa) for sa in shown]
        page: Page = {"items": items, "next": following, "total": len(found)}
        return page

    async def _child_sas(self, request: Request) -> object:
        now = self._clock()
        ike_sa, connection = request.text("ike_sa"), request.text("connection")
        found = [
            sa
            for sa in self._engine.child_sas(now)
            if (ike_sa is None or sa.ike_spis == ike_sa)
            and (connection is None or sa.connection == connection)
        ]
        shown, following = _page(found, lambda sa: f"{sa.spi_in:08x}", request)
        items = []
        for number, sa in enumerate(shown):
            if number % USAGES_PER_TURN == USAGES_PER_TURN - 1:
                await asyncio.sleep(0)
            items.append(child_sa_view(sa, self._dataplane.usage(sa.spi_in)))
        page: Page = {"items": items, "next": following, "total": len(found)}
        return page

    async def _close_ike_sa(self, request: Request) -> object:
        wanted = str(request.text("id"))
        if not self._engine.close_ike_sa(wanted, "closed by the administrator", self._clock()):
            raise ControlError(ErrorCode.NOT_FOUND, f"there is no IKE SA {wanted}", "id")
        self._flush()
        return {"closed": wanted}

    async def _initiate(self, request: Request) -> object:
        connection = str(request.text("connection"))
        try:
            self._engine.initiate(connection, self._clock())
        except KeyError:
            raise ControlError(
                ErrorCode.NOT_FOUND, f"there is no connection {connection}", "connection"
            ) from None
        except ValueError as error:
            raise ControlError(ErrorCode.REFUSED, str(error), "connection") from error
        finally:
            self._flush()
        return {"initiated": connection}

    async def _reload_now(self, _request: Request) -> object:
        return await self._reload()


def _page(found: list[T], key: Callable[[T], str], request: Request) -> tuple[list[T], str | None]:
    """The items after the cursor in the order of their keys, and the next cursor."""
    cursor, limit = request.text("cursor"), request.number("limit")
    if cursor is not None:
        found = [item for item in found if key(item) > cursor]
    shown = sorted(found, key=key)[: limit + 1]
    if len(shown) > limit:
        return shown[:limit], key(shown[limit - 1])
    return shown, None


def _resident_kib() -> int:
    pages = int(Path("/proc/self/statm").read_bytes().split()[1])
    return pages * (os.sysconf("SC_PAGE_SIZE") // 1024)
