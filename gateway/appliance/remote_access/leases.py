"""Inner addresses: who has which and why, who had it, and how the inside finds it."""

import contextlib
from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from typing import TYPE_CHECKING

from gateway.appliance.observation.device import seen_name
from gateway.appliance.remote_access.lease_journal import LeaseJournal
from gateway.appliance.remote_access.lease_views import Holders, LeaseListing, record
from gateway.appliance.remote_access.part import Joint, Part
from gateway.appliance.remote_access.reachability import Reachability
from gateway.control.protocol import ControlError, ErrorCode, Page, Request
from gateway.domain.remote_access import Grant, Presence
from gateway.ike.outputs import Event, Severity
from gateway.store.errors import StoreError

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from gateway.appliance.remote_access.part import Handler
    from gateway.config.document import Config
    from gateway.control import remote_access_views as shapes
    from gateway.domain.endpoint import IpAddress
    from gateway.store.lease_history import LeaseRow


def build(joint: Joint) -> Part:
    """For :mod:`gateway.appliance.remote_access.composition`."""
    return Leases(joint)


class Leases(Part):
    """Looks on: it is the engine that leases."""

    def __init__(self, joint: Joint, reach: Reachability | None = None) -> None:
        self._joint = joint
        self._config = joint.config()
        self._journal = LeaseJournal(joint.taken.database, joint.emit)
        self._reach = reach or Reachability(self._config, joint.emit)
        self._held: dict[str, Mapping[IpAddress, str]] = {}
        """By session its addresses, with the pools they are of."""
        self._grants: dict[IpAddress, Grant] = {}
        self._since: dict[tuple[str, str], float] = {}

    def open(self) -> None:
        """See :meth:`Part.open`."""
        self._reach.open()

    async def start(self) -> None:
        """Keep for those that are away what an earlier process kept for them."""
        await self._reach.start()
        held = {(session, str(one)): None for session, kept in self._held.items() for one in kept}
        now, clock = self._joint.wall_clock(), self._joint.clock()
        longest = max((pool.lease_s for pool in self._config.pools.values()), default=0.0)
        found = await self._journal.begin(held.keys(), now, now - longest)
        if found is None:
            return
        since, left = found
        for key in held:
            self._since[key] = since.get(key, self._since.get(key, now))
        for row in left:
            pool = self._joint.engine.pools.get(row.pool)
            if pool is None or row.closed_at is None:
                continue
            with contextlib.suppress(ValueError):  # whoever wrote that into the database
                # The clock may have been set back: nobody left in the future.
                age = max(0.0, now - row.closed_at)
                pool.keep(row.user or row.identity, ip_address(row.address), clock - age)

    # -- who is in -----------------------------------------------------------------------------

    def granted(self, grant: Grant) -> None:
        """See :meth:`Part.granted`."""
        before = self._held.get(grant.session, {})
        held = {one: before.get(one) or self._pool_of(grant, one) for one in grant.addresses}
        if grant.presence is Presence.NAPT:
            # Its own address, that others may have too, unless a pool of ours gave it.
            held = {one: pool for one, pool in held.items() if pool}
        self._end(grant, [one for one in before if one not in held])
        if not held:
            self._held.pop(grant.session, None)
            return
        now = self._joint.wall_clock()
        self._held[grant.session] = held
        for address, pool in held.items():
            self._grants[address] = grant
            if address in before:
                continue
            self._since[grant.session, str(address)] = now
            if grant.presence is Presence.ADDRESS:
                self._reach.add(address)
            self._note(grant, address, pool, now)

    def _pool_of(self, grant: Grant, address: "IpAddress") -> str:
        """Empty where a RADIUS server gave it, or it is the device's own."""
        for name, pool in self._joint.engine.pools.items():
            if address in pool.network and pool.holder(address) in (
                grant.user or grant.peer,
                grant.peer,
            ):
                return name
        return ""

    def ended(self, grant: Grant) -> None:
        """See :meth:`Part.ended`."""
        self._end(grant, tuple(self._held.get(grant.session, ())))
        self._held.pop(grant.session, None)

    def _end(self, grant: Grant, addresses: "Iterable[IpAddress]") -> None:
        now = self._joint.wall_clock()
        for address in addresses:
            pool = self._held[grant.session].get(address, "")
            since = self._since.pop((grant.session, str(address)), now)
            self._note(grant, address, pool, since, now)
            mine = self._grants.get(address)
            if mine is not None and mine.session == grant.session:
                del self._grants[address]
                self._reach.remove(address)

    def _note(
        self,
        grant: Grant,
        address: "IpAddress",
        pool: str,
        opened_at: float,
        closed_at: float | None = None,
    ) -> None:
        if not self._journal.possible:
            return
        from gateway.store.lease_history import ENDED, LeaseRow  # noqa: PLC0415 - loaded by now

        reason = "" if closed_at is None else ENDED
        row = LeaseRow(
            pool,
            str(address),
            grant.peer,
            grant.user,
            grant.session,
            grant.connection,
            opened_at,
            closed_at,
            reason,
        )
        self._journal.note(row)

    def commit(self) -> None:
        """See :meth:`Part.commit`."""
        self._reach.commit()

    def reconfigure(self, config: "Config") -> None:
        """See :meth:`Part.reconfigure`."""
        self._config = config
        self._reach.configure(config)

    async def stop(self, *, keep: bool) -> None:
        """See :meth:`Part.stop`."""
        await self._reach.stop(keep=keep)
        await self._journal.stop()

    # -- for people ----------------------------------------------------------------------------

    def handlers(self) -> "Mapping[str, Handler]":
        """See :meth:`Part.handlers`."""
        return {
            "leases": self._leases,
            "lease-history": self._history,
            "lease-release": self._release,
            "reachability": self._reachability,
        }

    def _name_of(self, identity: str) -> str:
        found = self._joint.configured_device(identity)
        return seen_name(identity) if found is None else found.name

    async def _leases(self, request: Request) -> object:
        offset = self._joint.wall_clock() - self._joint.clock()
        holders = Holders(self._grants, self._since, self._name_of, lambda at: at + offset)
        return await LeaseListing(self._config, self._joint.engine.pools, holders).page(request)

    async def _history(self, request: Request) -> object:
        limit, cursor = request.number("limit"), request.text("cursor")
        if cursor is not None and "_" in cursor:
            why = "cursor: give the `next` of the page before"
            raise ControlError(ErrorCode.INVALID, why, "cursor")
        before = None if cursor is None else min(int(cursor, 16), 2**63 - 1)
        pool, q = request.text("pool"), request.text("q")
        asked = request.text("address")
        address = None if asked is None else str(_address(asked))

        def work(connection: "Connection") -> "tuple[tuple[LeaseRow, ...], int]":
            from gateway.store.lease_history import LeaseHistoryRepository  # noqa: PLC0415

            history = LeaseHistoryRepository(connection)
            rows = history.find(pool=pool, address=address, q=q, limit=limit + 1, before=before)
            return rows, history.count(pool=pool, address=address, q=q)

        try:
            rows, total = await self._journal.ask(work)
        except StoreError as error:
            raise ControlError(ErrorCode.BUSY, f"the history cannot be read: {error}") from None
        page: Page = {
            "items": [dict(record(row, self._name_of)) for row in rows[:limit]],
            "next": f"{rows[limit - 1].id:x}" if len(rows) > limit else None,
            "total": total,
        }
        return page

    async def _release(self, request: Request) -> object:
        name = str(request.text("pool"))
        address = _address(str(request.text("address")))
        pool = self._joint.engine.pools.get(name)
        if pool is None:
            raise ControlError(ErrorCode.NOT_FOUND, f"pool: there is no pools.{name}", "pool")
        if address not in pool.network:
            why = f"address: {address} is not of pools.{name}, {pool.network}"
            raise ControlError(ErrorCode.INVALID, why, "address")
        holder = pool.holder(address)
        if holder is not None:
            why = f"address: {holder} is using {address}; disconnect the session first"
            raise ControlError(ErrorCode.REFUSED, why, "address")
        owner = pool.owner(address)
        if owner is not None:
            why = f"address: {address} is {owner}'s; remove it from static of pools.{name}"
            raise ControlError(ErrorCode.REFUSED, why, "address")
        number = int(address)
        identity = next((one[2] for one in pool.entries() if one[0] == number), None)
        if identity is None or not pool.forget(address):
            why = f"address: {address} is kept for nobody"
            raise ControlError(ErrorCode.NOT_FOUND, why, "address")
        self._journal.released(name, str(address))
        text = f"{address} of pool {name} is no longer kept for {identity}"
        fields: dict[str, object] = {"pool": name, "address": str(address), "identity": identity}
        self._joint.emit(Event("lease_released", text, Severity.INFO, fields))
        released: shapes.LeaseReleased = {
            "pool": name,
            "address": str(address),
            "identity": identity,
        }
        return released

    async def _reachability(self, _request: Request) -> object:
        answer: shapes.Reachability = {
            "items": await self._reach.views(),
            "pools": [
                {
                    "pool": name,
                    "network": str(pool.network),
                    "size": pool.size,
                    "in_use": pool.in_use,
                    "kept": pool.kept,
                    "static": pool.static,
                    "reserved": len(pool.reserved),
                }
                for name, pool in self._joint.engine.pools.items()
            ],
        }
        return answer

    def facts(self) -> dict[str, object]:
        """See :meth:`Part.facts`."""
        return {"sessions": len(self._held), "history": dict(self._journal.counters)}


def _address(text: str) -> "IpAddress":
    try:
        return ip_address(text)
    except ValueError:
        why = f"address: {text!r} is no IP address; give one such as 10.83.112.7"
        raise ControlError(ErrorCode.INVALID, why, "address") from None
