"""What the control socket answers about NAR servers."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Protocol

from gateway.appliance.nar.collected import Collected
from gateway.appliance.nar.views import (
    PROTOCOLS,
    AuditRow,
    audit_cursor,
    audit_view,
    client_cursor,
    client_view,
    mapping_view,
    parse_value,
    session_cursor,
)
from gateway.appliance.paging import page
from gateway.control.protocol import ControlError, ErrorCode, Page, Request
from gateway.domain.nar import NarProtocol, NarTuple

if TYPE_CHECKING:  # most gateways have no NAR server, and need not load it
    from gateway.nar.server.listing import Listing

Handler = Callable[[Request], Awaitable[object]]

BY_ADMINISTRATOR = "ended by the administrator"
LEASES_PER_TURN = 2000
"""Looked at before others get their turn."""


class ServerSide(Protocol):
    """What queries need of :class:`gateway.nar.service.NarEngine`."""

    @property
    def listing(self) -> "Listing":
        """Clients and leases."""

    def end_lease(self, key: NarTuple, now: float, reason: str) -> bool:
        """End one; whether there was one."""

    def end_client(self, client: IPv4Address, now: float, reason: str) -> int:
        """End all of a client's; how many there were."""


class AuditSide(Protocol):
    """What queries need of the store of the audit. Both read in a thread of their own."""

    async def find(
        self,
        *,
        server: str | None,
        address: IPv4Address | None,
        protocol: NarProtocol | None,
        value: int | None,
        at_s: float | None,
        user: str | None,
        client: IPv4Address | None,
        before: int | None,
        limit: int,
    ) -> Sequence[AuditRow]:
        """The entries that fit, the newest first; ids below ``before``."""

    async def count(
        self,
        *,
        server: str | None,
        address: IPv4Address | None,
        protocol: NarProtocol | None,
        value: int | None,
        at_s: float | None,
        user: str | None,
        client: IPv4Address | None,
    ) -> int:
        """How many fit."""


class NarSide(Protocol):
    """What queries need of the NAR servers of this box."""

    @property
    def servers(self) -> Mapping[str, ServerSide]:
        """By name."""

    @property
    def audit(self) -> AuditSide | None:
        """None: nothing is written down."""

    def flush(self, now: float) -> None:
        """Carry out what the engines ask for."""


class NarQueries:
    """Carries checked requests out; without servers, every list is empty."""

    def __init__(
        self,
        nar: Callable[[], NarSide | None],
        clock: Callable[[], float],
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._nar = nar
        self._clock = clock
        self._wall_clock = wall_clock

    def handlers(self) -> dict[str, Handler]:
        """By name of the operation."""
        return {
            "nar-clients": self._clients,
            "nar-mappings": self._mappings,
            "nar-audit": self._audit,
            "nar-end-lease": self._end_lease,
            "nar-end-client": self._end_client,
        }

    def _servers(self, request: Request) -> Iterator[tuple[int, ServerSide]]:
        """Those that are meant, with a number for cursors."""
        nar, wanted = self._nar(), request.text("server")
        servers = dict(nar.servers) if nar is not None else {}
        for number, (name, server) in enumerate(sorted(servers.items())):
            if wanted in {None, name}:
                yield number, server

    async def _clients(self, request: Request) -> object:
        client, user = _address(request, "client"), request.text("user")
        found = {
            client_cursor(number, place): (server.listing, place)
            for number, server in self._servers(request)
            for place in server.listing.clients(client, user)
        }
        shown, following = page(list(found), request)
        wall_s = self._wall_clock()
        views = (found[key][0].client(found[key][1]) for key in shown)
        items = [client_view(view, wall_s) for view in views if view is not None]
        result: Page = {"items": items, "next": following, "total": len(found)}
        return result

    async def _mappings(self, request: Request) -> object:
        """In the order of clients, sessions and leases; only what is shown is put into words."""
        collected = Collected(request.text("cursor") or "", request.number("limit"))
        client, user = _address(request, "client"), request.text("user")
        wanted = _tuple_filter(request)
        looked_at = 0
        for number, server in self._servers(request):
            listing = server.listing
            for place in listing.sessions(client, user):
                looked_at += collected.session(
                    session_cursor(number, place), listing, place, wanted
                )
                if looked_at >= LEASES_PER_TURN:
                    looked_at = 0
                    await asyncio.sleep(0)
        wall_s = self._wall_clock()
        items = [mapping_view(view, wall_s) for view in collected.views()]
        result: Page = {"items": items, "next": collected.following, "total": collected.total}
        return result

    async def _audit(self, request: Request) -> object:
        nar = self._nar()
        audit = nar.audit if nar is not None else None
        if audit is None:
            why = "nothing is written down here: there is no NAR server, or nar_settings.audit is"
            raise ControlError(ErrorCode.REFUSED, f"{why} false")
        cursor, limit = request.text("cursor"), request.number("limit")
        protocol, value = request.text("protocol"), request.text("value")
        server, user = request.text("server"), request.text("user")
        address, client = _address(request, "address"), _address(request, "client")
        kind = None if protocol is None else PROTOCOLS[protocol]
        number = None if value is None else _value(value)
        at_s = _time(request.text("at"))
        try:
            rows = await audit.find(
                server=server,
                address=address,
                protocol=kind,
                value=number,
                at_s=at_s,
                user=user,
                client=client,
                before=_before(cursor),
                limit=limit + 1,
            )
            total = await audit.count(
                server=server,
                address=address,
                protocol=kind,
                value=number,
                at_s=at_s,
                user=user,
                client=client,
            )
        except OSError as error:
            why = f"the audit cannot be read: {error.strerror or error}"
            raise ControlError(ErrorCode.REFUSED, why) from error
        shown = rows[:limit]
        following = audit_cursor(shown[-1].id) if len(rows) > limit else None
        items = [audit_view(row) for row in shown]
        result: Page = {"items": items, "next": following, "total": total}
        return result

    async def _end_lease(self, request: Request) -> object:
        from gateway.nar.server.views import parse_id  # noqa: PLC0415 - most have no NAR server

        name = str(request.text("id"))
        now = self._clock()
        try:
            key = parse_id(name)
        except ValueError:
            key = None
        ended = key is not None and any(
            server.end_lease(key, now, BY_ADMINISTRATOR) for _, server in self._servers(request)
        )
        if not ended:
            raise ControlError(ErrorCode.NOT_FOUND, f"there is no lease {name}", "id")
        self._flush(now)
        return {"ended": name, "lease": str(key)}

    async def _end_client(self, request: Request) -> object:
        client = _address(request, "client")
        now, leases = self._clock(), 0
        known = False
        for _, server in self._servers(request):
            if client is not None:
                known = known or bool(server.listing.clients(client, None))
                leases += server.end_client(client, now, BY_ADMINISTRATOR)
        if not known and not leases:
            why = f"there is no NAR client {client}"
            raise ControlError(ErrorCode.NOT_FOUND, why, "client")
        self._flush(now)
        return {"ended": str(client), "leases": leases}

    def _flush(self, now: float) -> None:
        nar = self._nar()
        if nar is not None:
            nar.flush(now)


def _tuple_filter(request: Request) -> Callable[[NarTuple], bool] | None:
    """Whether a lease is meant; None: all are."""
    word, address = request.text("protocol"), _address(request, "address")
    given = request.text("value")
    protocol = None if word is None else PROTOCOLS[word]
    value = None if given is None else _value(given)
    if protocol is None and address is None and value is None:
        return None

    def fits(key: NarTuple) -> bool:
        return (
            protocol in {None, key.protocol}
            and address in {None, key.address}
            and value in {None, key.value}
        )

    return fits


def _address(request: Request, name: str) -> IPv4Address | None:
    text = request.text(name)
    if text is None:
        return None
    try:
        return IPv4Address(text)
    except ValueError:
        why = f'{name} = "{text}": not an IPv4 address; give one such as 192.0.2.1'
        raise ControlError(ErrorCode.INVALID, why, name) from None


def _value(text: str) -> int:
    try:
        value = parse_value(text)
    except ValueError:
        value = -1
    if not 0 <= value <= 0xFFFF_FFFF:
        why = f'value = "{text}": not a port, an identifier, an SPI or an address'
        raise ControlError(ErrorCode.INVALID, why, "value")
    return value


def _time(text: str | None) -> float | None:
    """Seconds since 1970; a time without a zone is UTC."""
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
        zoned = found if found.tzinfo is not None else found.replace(tzinfo=UTC)
        return zoned.timestamp()
    except (ValueError, OverflowError):
        why = f'at = "{text}": no such time; give one such as 2026-01-31T12:00:00Z'
        raise ControlError(ErrorCode.INVALID, why, "at") from None


def _before(cursor: str | None) -> int | None:
    if cursor is None:
        return None
    try:
        found = int(cursor.replace("_", "g"), 16)
    except ValueError:
        found = -1
    if not 0 <= found < 1 << 63:
        why = "cursor: the `next` of the page before is allowed"
        raise ControlError(ErrorCode.INVALID, why, "cursor")
    return found
