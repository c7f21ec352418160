"""What earlier processes left of their sessions: the table, then the journals over it."""

import contextlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, select

from gateway.store import journal
from gateway.store.database import Store
from gateway.store.errors import SealError, StoreError
from gateway.store.journal import Name
from gateway.store.schema import SESSIONS
from gateway.store.sealing import Sealer

BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")

Say = Callable[[str, str], None]
"""Tells an administrator: name of the event, and its text."""


@dataclass(frozen=True, slots=True)
class Restored:
    """What earlier processes left."""

    records: Mapping[str, Mapping[str, bytes]] = field(default_factory=dict, repr=False)
    """By kind and key."""
    stale: frozenset[Name] = frozenset()
    """Kind and key of those that were kept before the machine was booted last: their monotonic
    times mean nothing now, and the kernel's state is gone."""
    damaged: bool = False
    """Part of the journal could not be read: the last word on some record may be missing."""

    @property
    def same_boot(self) -> bool:
        """Whether everything is of this boot."""
        return not self.stale

    def of(self, kind: str, *, this_boot: bool = False) -> dict[str, bytes]:
        """Records of a kind by key; with ``this_boot`` only those that are not stale."""
        return {
            key: record
            for key, record in self.records.get(kind, {}).items()
            if not (this_boot and (kind, key) in self.stale)
        }


@dataclass(slots=True)
class Found:
    """What is in table and journals, still sealed."""

    records: dict[Name, bytes] = field(default_factory=dict, repr=False)
    stale: set[Name] = field(default_factory=set)
    in_table: set[int] = field(default_factory=set)
    """Hashes of the names that the table has."""
    changes: dict[Name, bytes | None] = field(default_factory=dict, repr=False)
    """Of the journals: what the table may not have yet."""
    journals: dict[int, int] = field(default_factory=dict)
    """Their sizes, by number."""
    damaged: bool = False
    say: Say = field(default=lambda _name, _text: None, repr=False)

    def opened(self, sealer: Sealer) -> tuple[dict[str, dict[str, bytes]], list[Name]]:
        """Records by kind and key, and the names of those that do not open."""
        records: dict[str, dict[str, bytes]] = {}
        unsealed = []
        for (kind, key), sealed in self.records.items():
            try:
                record = sealer.open(context_of(kind, key), sealed)
            except SealError:
                unsealed.append((kind, key))
            else:
                records.setdefault(kind, {})[key] = record
        if unsealed:
            self.say(
                "sessions_unsealed",
                f"{len(unsealed)} sessions of the last run do not open with this key and are left"
                " out: their devices have to connect again",
            )
        return records, unsealed


def read(store: Store, folder: Path, boot_id: str, say: Say) -> Found:
    """Waits for the disk. Raises nothing: what cannot be read is told and left out."""
    found = Found(say=say)
    _read_table(store, boot_id, found)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        files = journal.found_in(folder)
    except OSError as error:
        say(
            "sessions_unreadable",
            f"the journal of sessions in {folder} cannot be read ({error}): only what the database"
            " has is taken over",
        )
        return found
    for number, file in files:
        _read_journal(number, file, boot_id, found)
    return found


def _read_table(store: Store, boot_id: str, found: Found) -> None:
    try:
        rows = store.do(_all_rows)
    except StoreError as error:
        found.say(
            "sessions_unreadable",
            f"sessions of the last run cannot be read from the database ({error}): only those of"
            " the journal are taken over",
        )
        return
    found.records = {(row[0], row[1]): row[2] for row in rows}
    found.stale = {(row[0], row[1]) for row in rows if row[3] != boot_id}
    found.in_table = set(map(hash, found.records))


def _read_journal(number: int, file: Path, boot_id: str, found: Found) -> None:
    try:
        contents = journal.read(file)
        found.journals[number] = file.stat().st_size
    except OSError as error:
        found.damaged = True
        _set_aside(file, str(error), found.say)
        return
    if contents.damaged_octets:
        found.damaged = True
        _set_aside(file, f"{contents.damaged_octets} octets make no sense", found.say)
    for name, record in contents.changes.items():
        found.changes[name] = record
        found.stale.discard(name)
        if record is None:
            found.records.pop(name, None)
            continue
        found.records[name] = record
        if contents.boot_id != boot_id:
            found.stale.add(name)


def _set_aside(file: Path, why: str, say: Say) -> None:
    aside = file.with_suffix(".damaged")
    with contextlib.suppress(OSError):
        aside.unlink(missing_ok=True)
        os.link(file, aside)
    say(
        "sessions_damaged",
        f"the journal of sessions {file} is damaged ({why}): what can be read of it is taken over;"
        f" it is kept as {aside}",
    )


def read_boot_id() -> str:
    """Of this boot; without /proc every start counts as a boot."""
    try:
        return BOOT_ID.read_text("ascii").strip()
    except OSError:
        return f"unknown-{os.urandom(14).hex()}"


def _all_rows(connection: Connection) -> list[tuple[str, str, bytes, str]]:
    columns = (SESSIONS.c.kind, SESSIONS.c.key, SESSIONS.c.record, SESSIONS.c.boot)
    rows = connection.execute(select(*columns).order_by(SESSIONS.c.kind, SESSIONS.c.key))
    return [(row.kind, row.key, bytes(row.record), row.boot) for row in rows]


def context_of(kind: str, key: str) -> str:
    """What a record is sealed for."""
    return f"session/{kind}/{key}"
