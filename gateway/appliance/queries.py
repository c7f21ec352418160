"""What the control socket answers: queries and commands on the running appliance."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from gateway import __version__
from gateway.control.protocol import ControlError, ErrorCode, Page, Request
from gateway.dataplane.interface import Dataplane

T = TypeVar("T")

USAGES_PER_TURN = 16
"""Counters read from the dataplane before others get their turn."""


class IkeSaView(Protocol):
    """What is needed of :class:`gateway.ike.v2.snapshot.IkeSaSnapshot`."""

    @property
    def id(self) -> str:
        """Both SPIs."""

    @property
    def connection(self) -> str:
        """Name of the connection."""


class ChildSaView(Protocol):
    """What is needed of :class:`gateway.ike.v2.snapshot.ChildSaSnapshot`."""

    @property
    def spi_in(self) -> str:
        """Eight hexadecimal digits."""

    @property
    def ike_sa(self) -> str:
        """Id of the IKE SA."""

    @property
    def connection(self) -> str:
        """Name of the connection."""


class Core(Protocol):
    """What queries need of :class:`gateway.ike.v2.engine.IkeEngine`."""

    counters: Mapping[str, int]

    def ike_sas(self, now: float) -> Sequence[IkeSaView]:
        """All IKE SAs."""

    def child_sas(self, now: float) -> Sequence[ChildSaView]:
        """All child SAs."""

    def close_ike_sa(self, ike_sa: str, now: float, reason: str) -> bool:
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
            if (wanted is None or sa.id == wanted)
            and (connection is None or sa.connection == connection)
        ]
        if wanted is not None and not found:
            raise ControlError(ErrorCode.NOT_FOUND, f"there is no IKE SA {wanted}", "id")
        shown, following = _page(found, lambda sa: sa.id, request)
        items = [plain(sa) for sa in shown]
        page: Page = {"items": items, "next": following, "total": len(found)}
        return page

    async def _child_sas(self, request: Request) -> object:
        now = self._clock()
        ike_sa, connection = request.text("ike_sa"), request.text("connection")
        found = [
            sa
            for sa in self._engine.child_sas(now)
            if (ike_sa is None or sa.ike_sa == ike_sa)
            and (connection is None or sa.connection == connection)
        ]
        shown, following = _page(found, lambda sa: sa.spi_in, request)
        items = []
        for number, sa in enumerate(shown):
            if number % USAGES_PER_TURN == USAGES_PER_TURN - 1:
                await asyncio.sleep(0)
            items.append(plain(sa) | self._usage(int(sa.spi_in, 16)))
        page: Page = {"items": items, "next": following, "total": len(found)}
        return page

    def _usage(self, spi_in: int) -> dict[str, object]:
        usage = self._dataplane.usage(spi_in)
        if usage is None:
            names = ("bytes_in", "packets_in", "bytes_out", "packets_out", "last_in_age_s")
            return dict.fromkeys(names)
        return asdict(usage)

    async def _close_ike_sa(self, request: Request) -> object:
        wanted = str(request.text("id"))
        if not self._engine.close_ike_sa(wanted, self._clock(), "closed by the administrator"):
            raise ControlError(ErrorCode.NOT_FOUND, f"there is no IKE SA {wanted}", "id")
        self._flush()
        return {"closed": wanted}

    async def _initiate(self, request: Request) -> object:
        connection = str(request.text("connection"))
        try:
            self._engine.initiate(connection, self._clock())
        except (LookupError, ValueError) as error:
            raise ControlError(ErrorCode.REFUSED, _sentence(error), "connection") from error
        finally:
            self._flush()
        return {"initiated": connection}

    async def _reload_now(self, _request: Request) -> object:
        return await self._reload()


def _sentence(error: Exception) -> str:
    return str(error.args[0]) if error.args else str(error)


def _page(found: list[T], key: Callable[[T], str], request: Request) -> tuple[list[T], str | None]:
    """The items after the cursor in the order of their keys, and the next cursor."""
    cursor, limit = request.text("cursor"), request.number("limit")
    if cursor is not None:
        found = [item for item in found if key(item) > cursor]
    shown = sorted(found, key=key)[: limit + 1]
    if len(shown) > limit:
        return shown[:limit], key(shown[limit - 1])
    return shown, None


def plain(snapshot: object) -> dict[str, object]:
    """A snapshot as JSON values."""
    if not is_dataclass(snapshot) or isinstance(snapshot, type):
        raise TypeError(f"{type(snapshot).__name__} is no snapshot")
    return asdict(snapshot)


def _resident_kib() -> int:
    pages = int(Path("/proc/self/statm").read_bytes().split()[1])
    return pages * (os.sysconf("SC_PAGE_SIZE") // 1024)
