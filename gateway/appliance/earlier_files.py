"""Files of versions before the store, taken in once and then renamed, never deleted.

``bindings.sqlite`` has the bindings of home agents, ``nar.sqlite`` the sessions of NAR servers and
their audit. What the store has already counts more.
"""

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from itertools import islice
from pathlib import Path
from typing import Final

from gateway.appliance.session_takeover import TakenOver
from gateway.domain.event import Event, Severity
from gateway.domain.nar import Delivery, NarMapping, NarProtocol, NarTuple
from gateway.store.errors import StoreError
from gateway.store.nar_leases import AuditRow

BINDINGS: Final = "bindings.sqlite"
NAR: Final = "nar.sqlite"
MAX_RECORDS: Final = 1_000_000
_FAILURES: Final = (sqlite3.Error, OSError, ValueError)
_LEASES: Final = (
    "SELECT server, user, client, client_port, protocol, address, value, remote, remote_port,"
    " peer, delivery, opened_s, closed_s, reason FROM lease ORDER BY id"
)


class UnreadableError(Exception):
    """An earlier file cannot be read."""


Emit = Callable[[Event], None]


@dataclass(slots=True)
class EarlierFile:
    """A file that is taken in."""

    file: Path
    emit: Emit = field(repr=False)

    def there(self) -> bool:
        """Whether there is anything to do."""
        return self.file.exists()

    def open(self) -> sqlite3.Connection:
        """Raises sqlite3.Error."""
        # Its write-ahead log is part of it: opened for writing, it is taken into account.
        return sqlite3.connect(f"{self.file.absolute().as_uri()}?mode=rw", uri=True, timeout=5.0)

    def done(self) -> None:
        """It was taken in: keep it under another name."""
        self._rename("imported")

    def unreadable(self, error: Exception, what: str) -> None:
        """Set it aside, and say what that means."""
        aside = self._rename("unreadable")
        text = f"{self.file} cannot be read ({error}): {what}; the file is kept as {aside}"
        fields: dict[str, object] = {"file": str(aside)}
        self.emit(Event("earlier_file_unreadable", text, Severity.WARNING, fields))

    def later(self, error: Exception) -> None:
        """The store does not take it now."""
        text = (
            f"what {self.file} holds cannot be taken into the store now ({error}): the next start"
            " tries again"
        )
        self.emit(Event("earlier_file_not_imported", text, Severity.WARNING))

    def _rename(self, ending: str) -> Path:
        aside = self.file.with_name(f"{self.file.name}.{ending}")
        number = 1
        while aside.exists():
            number += 1
            aside = self.file.with_name(f"{self.file.name}.{ending}-{number}")
        for suffix in ("", "-wal", "-shm"):
            with contextlib.suppress(OSError):
                self.file.with_name(self.file.name + suffix).replace(
                    aside.with_name(aside.name + suffix)
                )
        return aside


def take_bindings(folder: Path, taken: TakenOver, emit: Emit) -> None:
    """Bindings of home agents become records of kind ``binding:AGENT``."""
    earlier = EarlierFile(folder / BINDINGS, emit)
    if not taken.possible or not earlier.there():
        return
    select = "SELECT agent, key, record FROM binding"
    what = "mobile nodes stay unreachable until they register again"
    if _take_records(earlier, taken, select, "binding:", what):
        earlier.done()


def take_nar_sessions(folder: Path, taken: TakenOver, emit: Emit) -> EarlierFile | None:
    """NAR sessions become records of kind ``nar:SERVER``.

    Gives the file when :func:`nar_leases` of it are still to be taken.
    """
    earlier = EarlierFile(folder / NAR, emit)
    if not taken.possible or not earlier.there():
        return None
    select = "SELECT server, key, record FROM session"
    what = "clients have to ask for their leases again"
    return earlier if _take_records(earlier, taken, select, "nar:", what) else None


def _take_records(
    earlier: EarlierFile, taken: TakenOver, select: str, prefix: str, what: str
) -> bool:
    try:
        with contextlib.closing(earlier.open()) as connection:
            rows = connection.execute(select).fetchmany(MAX_RECORDS)
        records = {(f"{prefix}{name}", str(key)): bytes(record) for name, key, record in rows}
    except (*_FAILURES, TypeError) as error:
        earlier.unreadable(error, what)
        return False
    try:
        taken.take_in(records)
    except StoreError as error:
        earlier.later(error)
        return False
    return True


def nar_leases(earlier: EarlierFile) -> Iterator[list[AuditRow]]:
    """The audit, oldest first, some at a time; what makes no sense is left out.

    Raises :class:`UnreadableError`.
    """
    try:
        with contextlib.closing(earlier.open()) as connection:
            rows = iter(connection.execute(_LEASES))
            while some := list(islice(rows, 5000)):
                yield [row for row in map(_lease, some) if row is not None]
    except _FAILURES as error:
        raise UnreadableError(str(error)) from error


def _lease(row: tuple[object, ...]) -> AuditRow | None:
    try:
        server, user, client, client_port, protocol, address, value, remote, port = row[:9]
        peer, delivery, opened_s, closed_s, reason = row[9:]
        key = NarTuple(
            NarProtocol(_int(protocol)),
            IPv4Address(_int(address)),
            _int(value),
            _address(remote),
            None if port == -1 else _int(port),
        )
        host = IPv4Address(_int(client))
        mapping = NarMapping(
            str(server), key, host, Delivery(delivery), _int(client_port), _address(peer)
        )
        closed = None if closed_s is None else float(str(closed_s))
        opened = float(str(opened_s))
        return AuditRow(0, str(server), str(user), str(host), mapping, opened, closed, str(reason))
    except ValueError:
        return None


def _address(value: object) -> IPv4Address | None:
    return None if value == -1 else IPv4Address(_int(value))


def _int(value: object) -> int:
    return int(str(value))
