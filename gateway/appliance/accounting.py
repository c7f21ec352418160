"""RADIUS accounting of users' sessions: start, interim, stop, with the traffic of their child SAs.

How to wire it, where an engine's outputs are carried out::

    accounting = AccountingService(backends, usage=dataplane.usage, emit=event_log)
    accounting.start()                                        # once, when the gateway is ready

    InstallChildSa   ->  accounting.child_installed(output.sa.spi_in, output.session_id)
    RemoveChildSa    ->  accounting.child_removed(output.spi_in)     # before the dataplane does it
    SessionOpened    ->  accounting.session_opened(output.session)
    SessionClosed    ->  accounting.session_closed(output.session_id, output.reason)

    await accounting.stop()          # at the end, after the engine closed its SAs, before the loop

Sessions of backends without accounting servers, and those of local users, cost nothing here.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from gateway.appliance import accounting_records
from gateway.appliance.accounting_records import Account
from gateway.appliance.radius_link import RadiusLink
from gateway.dataplane.interface import Usage
from gateway.domain.endpoint import IpAddress
from gateway.domain.session_records import SessionRecords
from gateway.domain.user_auth import Session
from gateway.ike.outputs import Event, Severity
from gateway.radius.accounting import Record, Traffic, cause_of
from gateway.radius.accounting_client import AccountingClient, Lost, Output
from gateway.radius.attributes import StatusType, TerminateCause
from gateway.radius.settings import RadiusSettings

STOP_WAIT_S = 1.0
"""How long a clean stop waits for the servers."""
_POLL_S = 0.02

_Link = RadiusLink[Output]


@dataclass(slots=True)
class _Tracked:
    """A session that a server is told about."""

    session: Session
    opened_at: float
    ended: Traffic = field(default_factory=Traffic)
    """Of child SAs that are gone."""
    interim: asyncio.TimerHandle | None = None


class AccountingService:
    """Accounting of all backends. Give it a running event loop."""

    def __init__(
        self,
        backends: Mapping[str, RadiusSettings],
        *,
        usage: Callable[[int], Usage | None],
        emit: Callable[[Event], None],
        local: IpAddress | None = None,
        wall_clock: Callable[[], float] = time.time,
        records: SessionRecords | None = None,
    ) -> None:
        """``local`` is our address in what belongs to no session.

        ``records`` has the open sessions, for the next process.
        """
        self._records = records
        self._resumed: dict[str, Account] = {}
        self._usage = usage
        self._emit = emit
        self._local = local
        self._wall_clock = wall_clock
        self._loop = asyncio.get_running_loop()
        self._links: dict[str, tuple[RadiusSettings, AccountingClient, _Link]] = {}
        self._sessions: dict[str, _Tracked] = {}
        self._session_of: dict[int, str] = {}
        self._spis: dict[str, set[int]] = {}
        self._seen: dict[int, Traffic] = {}
        self._set_backends(backends)

    def resume(self, records: Mapping[str, bytes]) -> None:
        """Sessions that the last process has told of; before any of them is opened again."""
        for key, record in records.items():
            try:
                account = accounting_records.read(record)
            except accounting_records.RecordRefusedError:
                self._forget(key)
            else:
                self._resumed[account.session.session_id] = account

    def start(self) -> None:
        """Tell the servers that we begin: whatever they think is open is over (RFC 2866).

        That would end the sessions that were taken over, so it is not said when there are some;
        then those that were not are ended one by one.
        """
        resumed, self._resumed = self._resumed, {}
        if not self._sessions:
            for name in self._links:
                self._note(name, self._record(StatusType.ACCOUNTING_ON))
        for session_id, account in resumed.items():
            self._take_up(account)
            self._end(session_id, TerminateCause.NAS_REBOOT)
            self._forget(session_id)

    def _take_up(self, account: Account) -> _Tracked | None:
        session = account.session
        if session.backend not in self._links:
            return None
        age_s = max(0.0, self._wall_clock() - account.opened_wall_s)
        tracked = _Tracked(session, self._loop.time() - age_s, account.ended)
        self._sessions[session.session_id] = tracked
        return tracked

    def session_opened(self, session: Session, *, resumed: bool = False) -> None:
        """A login is complete; or was, in the last process, which told of it."""
        if session.backend not in self._links or session.session_id in self._sessions:
            return
        account = self._resumed.pop(session.session_id, None)
        if account is None or not resumed:
            account = Account(session, self._wall_clock(), Traffic())
        tracked = self._take_up(account)
        if tracked is None:
            return
        if not resumed:
            self._note(session.backend, self._record(StatusType.START, tracked))
        self._keep(tracked)
        self._arm_interim(tracked)

    def _keep(self, tracked: _Tracked) -> None:
        if self._records is None:
            return
        opened_wall_s = self._wall_clock() - (self._loop.time() - tracked.opened_at)
        account = Account(tracked.session, opened_wall_s, tracked.ended)
        record = accounting_records.write(account)
        self._records.keep(accounting_records.KIND, tracked.session.session_id, record)

    def _forget(self, session_id: str) -> None:
        if self._records is not None:
            self._records.forget(accounting_records.KIND, session_id)

    def session_closed(self, session_id: str, reason: str) -> None:
        """The session is over; its child SAs were removed before."""
        self._end(session_id, cause_of(reason))

    def child_installed(self, spi_in: int, session_id: str) -> None:
        """A child SA that may belong to a session."""
        if self._links and session_id:
            self._session_of[spi_in] = session_id
            self._spis.setdefault(session_id, set()).add(spi_in)

    def child_removed(self, spi_in: int) -> None:
        """A child SA is about to be removed: its last counters are read now."""
        session_id = self._session_of.pop(spi_in, None)
        if session_id is None:
            return
        spis = self._spis.get(session_id, set())
        spis.discard(spi_in)
        if not spis:
            self._spis.pop(session_id, None)
        tracked = self._sessions.get(session_id)
        if tracked is not None:
            tracked.ended += self._traffic_of(spi_in)
            self._keep(tracked)
        self._seen.pop(spi_in, None)

    def reload(self, backends: Mapping[str, RadiusSettings]) -> None:
        """Use other backends; sessions of one that is gone are not accounted any more."""
        self._set_backends(backends)
        for session_id, tracked in list(self._sessions.items()):
            if tracked.session.backend not in self._links:
                _cancel(tracked)
                del self._sessions[session_id]

    async def stop(self, wait_s: float = STOP_WAIT_S, *, keep: bool = False) -> None:
        """Stop what is open, tell the servers that we end, and give them a moment.

        With ``keep`` nothing is stopped: the next process goes on.
        """
        if not keep:
            for session_id in list(self._sessions):
                self._end(session_id, TerminateCause.NAS_REBOOT)
            for name in self._links:
                self._note(name, self._record(StatusType.ACCOUNTING_OFF))
        for tracked in self._sessions.values():
            _cancel(tracked)
        end = self._loop.time() + wait_s
        while left := self._waiting():
            if self._loop.time() >= end:
                break
            await asyncio.sleep(_POLL_S)
        if left:
            text = f"{left} RADIUS accounting records reached no server before the end"
            self._emit(Event("accounting_lost", text, Severity.WARNING, {"records": left}))
        for _, _, link in self._links.values():
            link.close()
        self._links.clear()

    def facts(self) -> dict[str, object]:
        """What a status page shows."""
        return {
            "sessions": len(self._sessions),
            "radius": {
                name: {"waiting": client.waiting, "counters": dict(client.counters)}
                for name, (_, client, _) in self._links.items()
            },
        }

    # -- records -------------------------------------------------------------------------

    def _waiting(self) -> int:
        return sum(client.waiting for _, client, _ in self._links.values())

    def _record(
        self,
        status: StatusType,
        tracked: _Tracked | None = None,
        cause: TerminateCause | None = None,
    ) -> Record:
        now, wall = self._loop.time(), int(self._wall_clock())
        if tracked is None:
            return Record(status, now, wall, self._local)
        traffic = tracked.ended
        for spi_in in self._spis.get(tracked.session.session_id, ()):
            traffic += self._traffic_of(spi_in)
        seconds = int(now - tracked.opened_at)
        return Record(status, now, wall, None, tracked.session, traffic, seconds, cause)

    def _traffic_of(self, spi_in: int) -> Traffic:
        found = self._usage(spi_in)
        if found is None:  # the kernel removed it at a limit: what was seen last
            return self._seen.get(spi_in, Traffic())
        traffic = Traffic(found.bytes_in, found.packets_in, found.bytes_out, found.packets_out)
        self._seen[spi_in] = traffic
        return traffic

    def _end(self, session_id: str, cause: TerminateCause) -> None:
        tracked = self._sessions.pop(session_id, None)
        if tracked is None:
            return
        _cancel(tracked)
        self._note(tracked.session.backend, self._record(StatusType.STOP, tracked, cause))
        self._forget(session_id)

    def _arm_interim(self, tracked: _Tracked) -> None:
        settings = self._links[tracked.session.backend][0]
        every = tracked.session.interim_interval_s or settings.interim_interval_s
        if every is not None:
            tracked.interim = self._loop.call_later(every, self._interim, tracked)

    def _interim(self, tracked: _Tracked) -> None:
        if tracked.session.backend in self._links:
            self._note(tracked.session.backend, self._record(StatusType.INTERIM, tracked))
            self._arm_interim(tracked)

    def _note(self, backend: str, record: Record) -> None:
        found = self._links.get(backend)
        if found is not None:
            _, client, link = found
            client.add(record, self._loop.time())
            link.flush()

    # -- backends ------------------------------------------------------------------------

    def _set_backends(self, backends: Mapping[str, RadiusSettings]) -> None:
        left: dict[str, list[Record]] = {}
        for name, (settings, client, link) in list(self._links.items()):
            if backends.get(name) != settings:
                left[name] = client.take_records()
                link.close()
                del self._links[name]
        for name, settings in backends.items():
            client = AccountingClient(settings)
            if name not in self._links and client.enabled:
                link = RadiusLink(client, name, rest=self._rest, emit=self._emit)
                self._links[name] = (settings, client, link)
                for record in left.pop(name, ()):
                    self._note(name, record)
        for name, records in left.items():
            if records:
                self._lost(Lost(len(records), f"RADIUS backend {name} is gone"))

    def _rest(self, output: Output) -> None:
        if isinstance(output, Lost):
            self._lost(output)

    def _lost(self, lost: Lost) -> None:
        text = f"RADIUS accounting record lost: {lost.reason}"
        facts: dict[str, object] = {"records": lost.count, "reason": lost.reason}
        self._emit(Event("accounting_lost", text, Severity.WARNING, facts))


def _cancel(tracked: _Tracked) -> None:
    if tracked.interim is not None:
        tracked.interim.cancel()
        tracked.interim = None
