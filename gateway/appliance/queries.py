"""What the control socket answers: queries and commands on the running appliance."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from gateway import __version__
from gateway.appliance.failures import Failures
from gateway.appliance.mobility_queries import Agents, MobilityQueries
from gateway.appliance.nar.queries import NarQueries, NarSide
from gateway.appliance.paging import page
from gateway.appliance.views import child_sa_view, ike_sa_view
from gateway.control.protocol import ControlError, ErrorCode, Page, Request
from gateway.dataplane.interface import Dataplane
from gateway.ike.snapshot import ChildSaSnapshot, IkeSaSnapshot

USAGES_PER_TURN = 16
"""Counters read from the dataplane before others get their turn."""


class Core(Protocol):
    """What queries need of :class:`gateway.ike.engine.IkeEngine`."""

    @property
    def counters(self) -> Mapping[str, int]:
        """What happened how often."""

    def ike_sa_names(self) -> Sequence[tuple[str, str]]:
        """Name and connection of each IKE SA."""

    def child_sa_names(self) -> Sequence[tuple[int, str, str]]:
        """Inbound SPI, IKE SA and connection of each child SA."""

    def ike_sas(self, now: float, names: Iterable[str]) -> Sequence[IkeSaSnapshot]:
        """The IKE SAs of these names."""

    def child_sas(self, now: float, spis_in: Iterable[int]) -> Sequence[ChildSaSnapshot]:
        """The child SAs of these inbound SPIs."""

    def close_ike_sa(self, spis: str, reason: str, now: float) -> bool:
        """Close one; whether there was one."""

    def rekey(self, spis: str, now: float, *, children: bool = False) -> bool:
        """Renew one, or its child SAs; whether there was one."""

    def initiate(self, connection: str, now: float) -> None:
        """Bring a connection up and keep it up."""


Handler = Callable[[Request], Awaitable[object]]
Facts = Callable[[], dict[str, object]]
Reload = Callable[[], Awaitable[dict[str, object]]]


def _no_agents() -> None:
    return None


def _no_nar() -> None:
    return None


def _as_it_is(view: dict[str, object]) -> dict[str, object]:
    return view


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
        failures: Failures,
        agents: Callable[[], Agents | None] = _no_agents,
        nar: Callable[[], NarSide | None] = _no_nar,
        administration: Mapping[str, Handler] | None = None,
        named: Callable[[dict[str, object]], dict[str, object]] = _as_it_is,
    ) -> None:
        """Join them.

        ``agents`` finds the mobility agents and ``nar`` the NAR servers, which a configuration may
        have or not; ``named`` puts the true addresses of TCP peers into a view.
        ``administration`` carries out what works on the store.
        """
        self._named = named
        self._failures = failures
        self._engine = engine
        self._dataplane = dataplane
        self._flush = flush
        self._clock = clock
        self._facts = facts
        self._reload = reload
        self._started = clock()
        self._started_at = time.time()
        self._handlers: dict[str, Handler] = {
            "health": self._health,
            "status": self._status,
            "ike-sas": self._ike_sas,
            "child-sas": self._child_sas,
            "ike-failures": self._ike_failures,
            "close-ike-sa": self._close_ike_sa,
            "rekey": self._rekey,
            "initiate": self._initiate,
            "reload": self._reload_now,
            **MobilityQueries(agents, failures.registrations, clock).handlers(),
            **NarQueries(nar, clock).handlers(),
            **(administration or {}),
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
        wanted, connection = request.text("id"), request.text("connection")
        found = [
            name
            for name, of in self._engine.ike_sa_names()
            if wanted in {None, name} and connection in {None, of}
        ]
        if wanted is not None and not found:
            raise ControlError(ErrorCode.NOT_FOUND, f"there is no IKE SA {wanted}", "id")
        shown, following = page(found, request)
        sas = self._engine.ike_sas(self._clock(), shown)
        items = [self._named(ike_sa_view(sa)) for sa in sas]
        result: Page = {"items": items, "next": following, "total": len(found)}
        return result

    async def _child_sas(self, request: Request) -> object:
        ike_sa, connection = request.text("ike_sa"), request.text("connection")
        found = [
            f"{spi_in:08x}"
            for spi_in, name, of in self._engine.child_sa_names()
            if ike_sa in {None, name} and connection in {None, of}
        ]
        shown, following = page(found, request)
        items: list[dict[str, object]] = []
        for first in range(0, len(shown), USAGES_PER_TURN):
            if first:
                await asyncio.sleep(0)
            spis = [int(spi, 16) for spi in shown[first : first + USAGES_PER_TURN]]
            items += [
                self._named(child_sa_view(sa, self._dataplane.usage(sa.spi_in)))
                for sa in self._engine.child_sas(self._clock(), spis)
            ]
        result: Page = {"items": items, "next": following, "total": len(found)}
        return result

    async def _ike_failures(self, request: Request) -> object:
        found = {
            one.cursor: one
            for one in self._failures.find(
                who=request.text("who"),
                remote=request.text("remote"),
                connection=request.text("connection"),
                within_s=request.number("within_s") if "within_s" in request.arguments else None,
            )
        }
        shown, following = page(list(found), request)
        items = [found[cursor].view() for cursor in shown]
        result: Page = {"items": items, "next": following, "total": len(found)}
        return result

    async def _close_ike_sa(self, request: Request) -> object:
        wanted = str(request.text("id"))
        if not self._engine.close_ike_sa(wanted, "closed by the administrator", self._clock()):
            raise ControlError(ErrorCode.NOT_FOUND, f"there is no IKE SA {wanted}", "id")
        self._flush()
        return {"closed": wanted}

    async def _rekey(self, request: Request) -> object:
        wanted, children = str(request.text("id")), request.arguments["children"] is True
        if not self._engine.rekey(wanted, self._clock(), children=children):
            raise ControlError(
                ErrorCode.NOT_FOUND, f"there is no established IKE SA {wanted}", "id"
            )
        self._flush()
        return {"rekeying": wanted}

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


def _resident_kib() -> int:
    pages = int(Path("/proc/self/statm").read_bytes().split()[1])
    return pages * (os.sysconf("SC_PAGE_SIZE") // 1024)
