"""Pages of inner addresses that are held, and of who had them."""

import asyncio
import heapq
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.appliance.observation.views import time_text
from gateway.control.protocol import ControlError, ErrorCode, Page, Request
from gateway.domain.pools import Held, Hold

if TYPE_CHECKING:
    from gateway.config.document import Config
    from gateway.control.remote_access_views import Lease, LeaseRecord
    from gateway.domain.endpoint import IpAddress
    from gateway.domain.pools import AddressPool
    from gateway.domain.remote_access import Grant
    from gateway.store.lease_history import LeaseRow

SLICE = 500
"""Addresses that are looked at before others have their turn."""
_POSITION_DIGITS = 38
"""Of a pool's place (5), an address (32) and what is listed there (1), in hexadecimal."""
_RESERVED, _HELD = 0, 1


@dataclass(frozen=True, slots=True)
class Holders:
    """Who is in, as far as a list of leases tells of them."""

    grants: "Mapping[IpAddress, Grant]"
    """Whose sessions have addresses."""
    since: Mapping[tuple[str, str], float]
    """Wall-clock time, by session and address."""
    name_of: Callable[[str], str]
    """What ``devices`` calls who proves an identity."""
    to_wall: Callable[[float], float]
    """From a pool's clock."""


class LeaseListing:
    """Everything that is held, in the order of pools and addresses."""

    def __init__(
        self, config: "Config", pools: "Mapping[str, AddressPool]", holders: Holders
    ) -> None:
        self._config = config
        self._pools = pools
        self._holders = holders

    async def page(self, request: Request) -> Page:
        """See the operation ``leases``. Raises :class:`ControlError`."""
        pool, limit = request.text("pool"), request.number("limit")
        if pool is not None and pool not in self._pools:
            raise ControlError(ErrorCode.NOT_FOUND, f"pool: there is no pools.{pool}", "pool")
        wanted = (request.text("q") or "").casefold()
        after = _position(request.text("cursor"))
        total, rest = 0, []
        for number, one in enumerate(self._all(pool)):
            if number % SLICE == SLICE - 1:
                await asyncio.sleep(0)
            if wanted and not self._fits(one, wanted):
                continue
            total += 1
            if one.place > after:
                rest.append(one)
        some = heapq.nsmallest(limit + 1, rest, key=lambda found: found.place)
        following = f"{some[limit - 1].place:0{_POSITION_DIGITS}x}" if len(some) > limit else None
        items = [dict(self._view(one)) for one in some[:limit]]
        return {"items": items, "next": following, "total": total}

    def _all(self, pool: str | None) -> "Iterator[_Entry]":
        for place, (name, one) in enumerate(self._pools.items()):
            if pool is not None and pool != name:
                continue
            section = self._config.pools.get(name)
            for network in section.reserved if section is not None else ():
                shown = str(network[0] if network.num_addresses == 1 else network)
                yield _Entry(_place(place, int(network[0]), _RESERVED), name, one, reserved=shown)
            # A copy: others go on while this waits.
            for entry in list(one.entries()):
                yield _Entry(_place(place, entry[0], _HELD), name, one, entry)

    def _fits(self, one: "_Entry", wanted: str) -> bool:
        if one.entry is None:
            return wanted in one.reserved
        if wanted in one.entry[2].casefold():
            return True
        address = one.pool.address(one.entry[0])
        if wanted in str(address):
            return True
        grant = self._holders.grants.get(address) if one.entry[1] is Hold.IN_USE else None
        if grant is None:
            return False
        words = (grant.peer, grant.user, grant.session, self._holders.name_of(grant.peer))
        return any(wanted in word.casefold() for word in words)

    def _view(self, one: "_Entry") -> "Lease":
        if one.entry is None:
            return _view(one.name, one.reserved, "reserved", f"reserved in pools.{one.name}")
        held = Held(one.pool.address(one.entry[0]), *one.entry[1:])
        grant = self._holders.grants.get(held.address) if held.why is Hold.IN_USE else None
        address = str(held.address)
        view = _view(one.name, address, held.why.value, "")
        view["identity"] = held.identity if grant is None else grant.peer
        view["device"] = self._holders.name_of(str(view["identity"]))
        match held.why:
            case Hold.STATIC:
                view["why"] = f"nobody but {held.identity} gets it; away"
            case Hold.KEPT if not math.isfinite(held.until):
                view["why"] = f"kept for {held.identity}"
            case Hold.KEPT:
                until = self._holders.to_wall(held.until)
                view["until"] = time_text(until)
                view["since"] = time_text(until - one.pool.lease_s)
                view["why"] = f"kept for {held.identity} until {view['until']}"
            case Hold.IN_USE:
                view["why"] = f"in use by {held.identity}, who is connecting or leaving"
        if grant is not None:
            view["user"], view["session"] = grant.user or None, grant.session
            view["since"] = time_text(self._holders.since.get((grant.session, address)))
            view["why"] = f"in use by session {grant.session}"
        return view


@dataclass(frozen=True, slots=True)
class _Entry:
    place: int
    name: str
    pool: "AddressPool"
    entry: tuple[int, Hold, str, float] | None = None
    """As the pool has it."""
    reserved: str = ""
    """An address or a network, where nobody can hold it."""


def _view(pool: str, address: str, state: str, why: str) -> "Lease":
    return {
        "pool": pool,
        "address": address,
        "state": state,
        "why": why,
        "identity": None,
        "user": None,
        "device": None,
        "session": None,
        "since": None,
        "until": None,
    }


def _place(pool: int, address: int, what: int) -> int:
    return (pool << 128 | address) << 4 | what


def _position(cursor: str | None) -> int:
    if cursor is None:
        return -1
    if "_" in cursor:
        raise ControlError(
            ErrorCode.INVALID, "cursor: give the `next` of the page before", "cursor"
        )
    return int(cursor, 16)


def record(row: "LeaseRow", name_of: Callable[[str], str]) -> "LeaseRecord":
    """A row of the history."""
    return {
        "pool": row.pool,
        "address": row.address,
        "identity": row.identity,
        "user": row.user or None,
        "device": name_of(row.identity),
        "session": row.session or None,
        "first_at": str(time_text(row.opened_at)),
        "last_at": time_text(row.closed_at),
        "reason": row.reason or None,
    }
