"""Objects of administrators: tried out, written, put in force - in this order.

What is not written is not in force, and what was answered with success is written. One change at
a time: whoever comes second judges against what the first one made.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from gateway.appliance.administration.judging import check_depth, check_name
from gateway.appliance.administration.views import of_store
from gateway.config.kinds import KINDS, secret_paths
from gateway.config.secrets import SecretError, keep, merge_patch, without_nulls
from gateway.control.object_operations import CutSession, ObjectChange, StoredObject
from gateway.control.operation import Document
from gateway.control.protocol import ControlError, ErrorCode

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from gateway.appliance.administration.known import KnownObjects
    from gateway.store.database import Store
    from gateway.store.objects import StoredObject as Kept

Make = Callable[["Kept | None"], Document | None]
"""The document that is wanted, with its secrets, from the one that is there."""
MAX_OBJECTS = 200_000
"""Of all kinds: they are held in memory."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A change that was judged and may be written."""

    document: Document | None
    """Masked; None to delete it."""
    secrets: Document = field(repr=False)
    changes: list[ObjectChange]
    cut: list[CutSession]
    apply: "Callable[[Kept | None], Awaitable[None]]" = field(repr=False)
    """Puts it in force, once it is written."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a change did, or would do."""

    object: StoredObject | None
    before: Document | None
    """Masked."""
    after: Document | None
    changes: list[ObjectChange]
    cut: list[CutSession]
    dry_run: bool


class Judge(Protocol):
    """Knows one kind, or several."""

    async def judge(
        self, kind: str, name: str, old: "Kept | None", document: Document | None
    ) -> Wanted:
        """The change to ``document``, which holds its secrets; None deletes.

        Changes nothing. Raises :class:`ControlError`.
        """

    def in_file(self, kind: str, name: str) -> bool:
        """Whether the file has one of this name."""


class Objects:
    """Creates, replaces, merges and deletes."""

    def __init__(
        self,
        known: "KnownObjects",
        store: "Callable[[], Store]",
        changing: asyncio.Lock,
        judges: "Callable[[str], Judge]",
    ) -> None:
        """``judges`` finds who judges a kind."""
        self._known = known
        self._store = store
        self._changing = changing
        self._judges = judges
        self.running: set[asyncio.Task[Outcome]] = set()
        """Changes that are under way."""

    async def create(
        self, kind: str, name: str, document: Document, *, dry_run: bool = False
    ) -> Outcome:
        """Store a new object. Raises :class:`ControlError`."""
        new = _clean(document)

        def make(_old: "Kept | None") -> Document:
            return _kept(kind, new, None)

        return await self._change(kind, name, make, new=True, dry_run=dry_run)

    async def replace(
        self,
        kind: str,
        name: str,
        document: Document,
        *,
        version: int | None = None,
        dry_run: bool = False,
    ) -> Outcome:
        """Put a document in place of another; masks keep the secrets that are there.

        ``version`` is the one that was read. Raises :class:`ControlError`.
        """
        new = _clean(document)

        def make(old: "Kept | None") -> Document:
            return _kept(kind, new, old)

        return await self._change(kind, name, make, version=version, dry_run=dry_run)

    async def merge(
        self,
        kind: str,
        name: str,
        patch: Document,
        *,
        version: int | None = None,
        dry_run: bool = False,
    ) -> Outcome:
        """Change some fields (RFC 7396). Raises :class:`ControlError`."""
        check_depth(patch)

        def make(old: "Kept | None") -> Document:
            found = merge_patch(old.document if old is not None else {}, patch)
            return _kept(kind, _clean(found), old)

        return await self._change(kind, name, make, version=version, dry_run=dry_run)

    async def delete(
        self, kind: str, name: str, *, version: int | None = None, dry_run: bool = False
    ) -> Outcome:
        """Remove an object. Raises :class:`ControlError`."""
        return await self._change(kind, name, lambda _old: None, version=version, dry_run=dry_run)

    async def _change(
        self,
        kind: str,
        name: str,
        make: Make,
        *,
        new: bool = False,
        version: int | None = None,
        dry_run: bool,
    ) -> Outcome:
        name = check_name(kind, name)

        async def work() -> Outcome:
            async with self._changing:
                old = self._admit(kind, name, new=new, version=version)
                wanted = await self._judges(kind).judge(kind, name, old, make(old))
                return await self._carry_out(kind, name, old, wanted, dry_run=dry_run)

        # Whoever asked may go away; what was written is put in force all the same.
        task = asyncio.get_running_loop().create_task(work())
        self.running.add(task)
        task.add_done_callback(self.running.discard)
        return await asyncio.shield(task)

    def _admit(self, kind: str, name: str, *, new: bool, version: int | None) -> "Kept | None":
        old = self._known.get(kind, name)
        in_file = self._judges(kind).in_file(kind, name)
        if new:
            if old is not None or in_file:
                where = "gateway.toml" if in_file else "the store"
                why = f"{kind}/{name}: is in {where} already; choose another name"
                raise ControlError(ErrorCode.REFUSED, why, "name")
            if len(self._known) >= MAX_OBJECTS:
                why = f"{MAX_OBJECTS} objects are stored; delete some first"
                raise ControlError(ErrorCode.REFUSED, why)
            return None
        if old is None and in_file:
            why = f"{kind}/{name}: is in gateway.toml; change it there, and reload"
            raise ControlError(ErrorCode.REFUSED, why, "name")
        if old is None:
            raise ControlError(ErrorCode.NOT_FOUND, f"there is no {kind}/{name}", "name")
        if version is not None and version != old.version:
            raise _stale(kind, name, version, old.version)
        return old

    async def _carry_out(
        self, kind: str, name: str, old: "Kept | None", wanted: Wanted, *, dry_run: bool
    ) -> Outcome:
        before = old.document if old is not None else None
        if dry_run:
            view = _tried(kind, name, old, wanted.document)
            return Outcome(view, before, wanted.document, wanted.changes, wanted.cut, dry_run)
        kept = await self._write(kind, name, old, wanted)
        if kept is None:
            self._known.remove(kind, name)
        else:
            self._known.put(kept)
        await wanted.apply(kept)
        view = None if kept is None else of_store(kept)
        return Outcome(view, before, wanted.document, wanted.changes, wanted.cut, dry_run)

    async def _write(
        self, kind: str, name: str, old: "Kept | None", wanted: Wanted
    ) -> "Kept | None":
        """Durably. Raises :class:`ControlError`; then nothing was written."""
        from gateway.store.errors import (  # noqa: PLC0415 - costs SQLAlchemy
            ExistsError,
            NotThereError,
            StoreError,
            VersionError,
        )
        from gateway.store.objects import ObjectRepository  # noqa: PLC0415

        store = self._store()
        document, secrets = wanted.document, wanted.secrets

        def write(connection: "Connection") -> "Kept | None":
            objects = ObjectRepository(connection, store.sealer)
            if old is None:
                return objects.create(kind, name, document or {}, secrets)
            if document is None:
                objects.delete(kind, name, version=old.version)
                return None
            return objects.replace(kind, name, document, secrets, version=old.version)

        try:
            return await store.run(write)
        except VersionError as error:
            raise ControlError(ErrorCode.STALE, str(error), "version") from None
        except NotThereError as error:
            raise ControlError(ErrorCode.NOT_FOUND, str(error), "name") from None
        except ExistsError as error:
            raise ControlError(ErrorCode.REFUSED, str(error), "name") from None
        except StoreError as error:
            why = f"not stored, so nothing was changed: {error}"
            raise ControlError(ErrorCode.BUSY, why) from None


def _stale(kind: str, name: str, given: int, there: int) -> ControlError:
    why = f"{kind}/{name}: version {given} was changed meanwhile, {there} is there; read it again"
    return ControlError(ErrorCode.STALE, why, "version")


def _clean(document: object) -> Document:
    check_depth(document)
    found = without_nulls(document)
    if not isinstance(found, dict):
        raise ControlError(ErrorCode.INVALID, "document: must be an object", "document")
    return found


def _kept(kind: str, new: Document, old: "Kept | None") -> Document:
    """``new`` with its masks filled from what is there."""
    try:
        return keep(
            new,
            old.document if old is not None else {},
            old.secrets if old is not None else {},
            secret_paths(KINDS[kind].model),
        )
    except SecretError as error:
        raise ControlError(ErrorCode.INVALID, f"{error.field}: {error}", error.field) from None


def _tried(
    kind: str, name: str, old: "Kept | None", document: Document | None
) -> StoredObject | None:
    if document is None:
        return None
    return {
        "kind": kind,
        "name": name,
        "version": 1 if old is None else old.version + 1,
        "source": "store",
        "broken": [],
        "document": document,
        "created_at": None if old is None else old.created_at,
        "changed_at": None,
    }
