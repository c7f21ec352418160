"""Operations on the durable state as a whole."""

import asyncio
import base64
import binascii
import math
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gateway import __version__
from gateway.appliance.administration.side import Handler, Side, Surroundings
from gateway.appliance.state.transfers import Transfers
from gateway.config.kinds import KINDS
from gateway.control.protocol import ControlError, ErrorCode, Request
from gateway.control.store_operations import (
    Backup,
    ExportedFile,
    FilePart,
    ImportResult,
    StoreFacts,
    TakenPart,
)
from gateway.domain.event import Event, Severity
from gateway.store import importing
from gateway.store.backup import copy_sqlite
from gateway.store.errors import ImportRefusedError, StoreError, UnavailableError, WrongKeyError
from gateway.store.export import AsTheyAre, Secrets, UnderPassphrase, export
from gateway.store.importing import Import, Outcome
from gateway.store.objects import StoredObject
from gateway.store.opening import BACKUPS
from gateway.store.upkeep import Upkeep

if TYPE_CHECKING:
    from gateway.appliance.access.side import AccessSide
    from gateway.appliance.administration.composition import Administration
    from gateway.appliance.administration.objects_side import ObjectsSide
    from gateway.store.database import Store

MAX_NAMED: Final = 1000
_ENDINGS: Final = (".sqlite", ".jsonl")


class StateSide(Side):
    """Export, import, backup, and what is done every day."""

    def __init__(self, administration: "Administration", surroundings: Surroundings) -> None:
        self._administration = administration
        self._around = surroundings
        self._upkeep: Upkeep | None = None
        self._reading: asyncio.Task[list[str]] | None = None

    @cached_property
    def _transfers(self) -> Transfers:
        return Transfers(self._store.state_dir, self._around.clock)

    @property
    def _store(self) -> "Store":
        store: Store = self._administration.store
        return store

    def _retention(self) -> tuple[float, float]:
        store = self._around.config().store
        return store.history_days, store.audit_days

    async def start(self) -> None:
        """Files of an earlier process go; old rows, from now on, too."""
        try:
            store = self._store
        except ControlError:
            return  # whoever could not open it has told why
        await asyncio.to_thread(self._transfers.clear)
        self._upkeep = Upkeep(
            store,
            self._around.emit,
            retention=self._retention,
            wall_clock=self._around.wall_clock,
        )
        self._upkeep.start()

    async def stop(self) -> None:
        """No more."""
        if self._reading is not None:
            self._reading.cancel()
        if self._upkeep is not None:
            await self._upkeep.stop()
            self._transfers.clear()

    def hear(self, event: dict[str, object], *, debug: bool) -> None:
        """A database that could not be opened is there again: what it has comes into force."""
        del debug
        if event.get("name") != "store_recovered" or self._reading is not None:
            return
        fields = event.get("fields")
        if isinstance(fields, dict) and fields.get("reopened"):
            self._reading = asyncio.get_running_loop().create_task(self._read_again())
            self._reading.add_done_callback(self._read)

    def _read(self, task: "asyncio.Task[list[str]]") -> None:
        self._reading = None
        if not task.cancelled() and (error := task.exception()) is not None:
            text = f"what is stored could not be read again ({error}); say: gateway reload"
            self._around.emit(Event("store_not_read", text, Severity.WARNING))

    async def _read_again(self) -> list[str]:
        objects: ObjectsSide = self._administration.side("objects")  # type: ignore[assignment]
        access: AccessSide = self._administration.side("access")  # type: ignore[assignment]
        await access.read_again()
        return await objects.read_again()

    def handlers(self) -> Mapping[str, Handler]:
        """Of :data:`gateway.control.store_operations.STORE_OPERATIONS`."""
        return {
            "store": self._facts,
            "export": self._export,
            "export-read": self._export_read,
            "import-part": self._import_part,
            "import": self._import,
            "backup": self._backup,
        }

    async def _facts(self, _request: Request) -> StoreFacts:
        store = self._store
        return {
            "database": store.name,
            "state": store.state.value,
            "reason": store.reason,
            "counters": dict(store.counters),
            "backups": await asyncio.to_thread(_backups, store.state_dir / BACKUPS),
        }

    # -- out -------------------------------------------------------------------------------

    async def _export(self, request: Request) -> ExportedFile:
        store, passphrase = self._store, request.text("passphrase")
        if passphrase is not None and not passphrase:
            why = "passphrase: is empty; leave it out to leave secrets out"
            raise ControlError(ErrorCode.INVALID, why, "passphrase")
        secrets = Secrets()
        if passphrase is not None:
            secrets = await asyncio.to_thread(UnderPassphrase, store.sealer, passphrase)
        name, file = self._transfers.begin(incoming=False)
        try:
            done = await store.run(
                lambda c: export(
                    c, file, secrets, records=request.flag("records"), program=__version__
                )
            )
        except StoreError as error:
            self._transfers.end(name)
            raise _refusal(error) from error
        return {
            "id": name,
            "octets": done.octets,
            "rows": done.rows,
            "sha256": done.sha256,
            "has_secrets": passphrase is not None,
        }

    async def _export_read(self, request: Request) -> FilePart:
        part, following = await asyncio.to_thread(
            self._transfers.read, _given(request, "id"), request.number("offset")
        )
        return {"content": base64.b64encode(part).decode(), "next": following}

    async def _backup(self, request: Request) -> Backup:
        store, now = self._store, self._around.wall_clock()
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
        stem = request.text("file") or f"backup-{stamp}"
        source = store.sqlite_file
        ending = ".jsonl" if source is None else ".sqlite"
        target = store.state_dir / BACKUPS / f"{stem.removesuffix(ending)}{ending}"
        if target.exists():
            why = f"file: {target} is there already; choose another name"
            raise ControlError(ErrorCode.REFUSED, why, "file")
        try:
            if source is not None:
                await asyncio.to_thread(copy_sqlite, source, target)
            else:
                secrets = AsTheyAre(store.sealer)
                await store.run(
                    lambda c: export(c, target, secrets, records=True, program=__version__)
                )
        except StoreError as error:
            raise _refusal(error) from error
        return _backup_of(target)

    # -- in --------------------------------------------------------------------------------

    async def _import_part(self, request: Request) -> TakenPart:
        name = request.text("id")
        try:
            part = base64.b64decode(_given(request, "content"), validate=True)
        except binascii.Error:
            raise ControlError(ErrorCode.INVALID, "content: is no base64", "content") from None
        offset = request.number("offset")
        if name is None:
            name, _ = self._transfers.begin(incoming=True)
            offset = 0 if offset == 0 else -1
        octets = await asyncio.to_thread(self._transfers.append, name, offset, part)
        return {"id": name, "octets": octets}

    async def _import(self, request: Request) -> ImportResult:
        name, dry_run = _given(request, "id"), request.flag("dry_run")
        file = self._transfers.incoming(name)
        try:
            wanted = await asyncio.to_thread(
                importing.read, file, self._store.sealer, request.text("passphrase")
            )
            result = await self._take(wanted, dry_run=dry_run)
        except StoreError as error:
            raise _refusal(error) from error
        if not dry_run:
            self._transfers.end(name)
        return result

    async def _take(self, wanted: Import, *, dry_run: bool) -> ImportResult:
        store, now = self._store, self._around.wall_clock()
        objects: ObjectsSide = self._administration.side("objects")  # type: ignore[assignment]
        async with self._around.changing:
            changes = await objects.judge_all(self._as_stored(wanted, now))
            outcome = await store.run(
                lambda c: importing.apply(c, wanted, store.sealer, now=now, dry_run=dry_run)
            )
        problems = [] if dry_run else await self._read_again()
        return _result(wanted, outcome, [dict(one) for one in changes], problems, dry_run=dry_run)

    def _as_stored(self, wanted: Import, now: float) -> list[StoredObject]:
        """What is to be judged; where the file has no secrets, with those that are there."""
        found = []
        for (kind, name), (document, secrets) in wanted.objects.items():
            if kind not in KINDS:
                raise ImportRefusedError(f"{kind}/{name}", "there is no such kind of object")
            there = self._administration.known.get(kind, name) if secrets is None else None
            known = there.secrets if there is not None else secrets or {}
            found.append(StoredObject(kind, name, 1, document, now, now, known))
        return found


def build(administration: "Administration", surroundings: Surroundings) -> Side:
    """The side, not started."""
    return StateSide(administration, surroundings)


def _given(request: Request, name: str) -> str:
    value = request.text(name)
    if value is None:
        raise ControlError(ErrorCode.INVALID, f"{name}: is missing", name)
    return value


def _result(
    wanted: Import,
    outcome: Outcome,
    changes: list[dict[str, object]],
    problems: list[str],
    *,
    dry_run: bool,
) -> ImportResult:
    return {
        "dry_run": dry_run,
        "made_at": _time(wanted.made_at),
        "program": wanted.program,
        "created": _named(outcome.created),
        "changed": _named(outcome.changed),
        "removed": _named(outcome.removed),
        "rows": dict(outcome.rows),
        "left_out": dict(outcome.left_out),
        "changes": changes[:MAX_NAMED],
        "problems": problems,
    }


def _named(objects: Iterable[tuple[str, str]]) -> list[str]:
    return [f"{kind}/{name}" for kind, name in objects][:MAX_NAMED]


def _backups(folder: Path) -> list[Backup]:
    try:
        files = [one for one in folder.iterdir() if one.suffix in _ENDINGS and one.name[0] != "."]
        found = sorted(files, key=lambda one: one.stat().st_mtime, reverse=True)
        return [_backup_of(one) for one in found[:100]]
    except OSError:
        return []


def _backup_of(file: Path) -> Backup:
    status = file.stat()
    return {"file": str(file), "octets": status.st_size, "made_at": _time(status.st_mtime)}


def _time(at: float) -> str:
    if not math.isfinite(at) or not 0 <= at < 32_503_680_000:
        return "unknown"
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _refusal(error: StoreError) -> ControlError:
    match error:
        case ImportRefusedError():
            return ControlError(ErrorCode.INVALID, str(error), error.field or "id")
        case WrongKeyError():
            return ControlError(ErrorCode.INVALID, str(error), "passphrase")
        case UnavailableError():
            return ControlError(ErrorCode.BUSY, str(error))
    return ControlError(ErrorCode.REFUSED, str(error))
