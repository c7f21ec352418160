"""Writes down who changed what, and answers a repeated request as it was answered before.

Handlers of operations with ``changes`` may put ``{"target": ..., "before": ..., "after": ...}``
under :data:`AUDIT` in their answer: it goes into the audit and out of the answer. Secrets have no
business there; whatever is named like one is blotted out all the same.
"""

import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from sqlalchemy import Connection

from gateway.control.protocol import ControlError, ErrorCode, Request, Role
from gateway.domain.event import Event, Severity
from gateway.domain.log import Log, RateLimit
from gateway.store.audit import AuditEntry, AuditRepository
from gateway.store.database import Store
from gateway.store.errors import (
    ExistsError,
    NotThereError,
    StoreError,
    UnavailableError,
    VersionError,
)
from gateway.store.idempotency import IdempotencyRepository, KeptAnswer

Handler = Callable[[Request], Awaitable[object]]

AUDIT: Final = "_audit"
KEEP_ANSWERS_S: Final = 24 * 3600.0
MAX_ANSWER_OCTETS: Final = 256 * 1024
MAX_DOCUMENT_OCTETS: Final = 64 * 1024
_SECRET_NAMES: Final = frozenset({
    "code", "content", "key", "nt_hash", "passphrase", "password", "pre_shared_key", "private_key",
    "psk", "qr_svg", "secret", "secrets", "session", "shared_secret", "token",
})  # fmt: skip
_TARGETS: Final = (
    "name", "id", "device", "connection", "serial", "client", "home_address", "file", "address",
)  # fmt: skip


class Audited:
    """Around the handler of every operation."""

    def __init__(
        self,
        handle: Handler,
        store: Callable[[], Store],
        *,
        log: Callable[[], Log],
        emit: Callable[[Event], None],
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
    ) -> None:
        self._handle = handle
        self._store = store
        self._log = log
        self._emit = emit
        self._clock = clock
        self._wall_clock = wall_clock
        self._limit = RateLimit()
        self._running: set[tuple[str, str]] = set()
        self.counters = {"audit_failed": 0, "answers_repeated": 0}

    def wrap(self, handle: Handler) -> None:
        """Stand around another handler."""
        self._handle = handle

    async def handle(self, request: Request) -> object:
        """The answer of the handler; raises what it raises, errors of the store as ours."""
        try:
            return await self._handled(request)
        except StoreError as error:
            raise of_store(error) from error

    async def _handled(self, request: Request) -> object:
        if not request.operation.changes or request.flag("dry_run"):
            return without_audit(await self._handle(request))[0]
        if request.key is None or request.actor.role is Role.NOBODY:  # strangers share no keys
            return await self._carry_out(request)
        return await self._once(request, request.key)

    async def write(
        self,
        request: Request,
        outcome: str,
        *,
        target: str | None = None,
        before: object = None,
        after: object = None,
        detail: str | None = None,
    ) -> None:
        """Add an entry.

        A store that cannot be written is a line in the log, no refusal: what was done is done.
        """
        entry = AuditEntry(
            at=self._wall_clock(),
            actor=request.actor.name[:253],
            remote=request.actor.remote[:45],
            action=request.operation.name,
            target=(target_of(request) if target is None else target)[:253],
            outcome=outcome,
            before=_document(before),
            after=_document(after),
            detail=None if detail is None else detail[:1000],
        )
        if outcome == "done":
            self._emit(event_of(entry))
        try:
            await self._store().run(lambda c: AuditRepository(c).append(entry), durable=False)
        except (StoreError, ControlError) as error:
            self._not_written(entry, error)

    def _not_written(self, entry: AuditEntry, error: Exception) -> None:
        self.counters["audit_failed"] += 1
        if self._limit.admit("audit_failed", self._clock()) is not None:
            self._log().error(
                "audit_failed",
                text=f"the audit cannot be written ({error}): {entry.actor} from {entry.remote}"
                f" {entry.action} {entry.target}: {entry.outcome}",
            )

    async def _carry_out(self, request: Request) -> object:
        try:
            answer, noted = without_audit(await self._told(request))
        except ControlError as error:
            # Who is nobody may try for hours, and must not fill the disk.
            known = request.actor.role is not Role.NOBODY
            if known or self._limit.admit("nobody", self._clock()) is not None:
                await self.write(request, "refused", detail=error.message)
            raise
        except Exception as error:
            await self.write(request, "failed", detail=type(error).__name__)
            raise
        if noted is None:
            noted = {"after": arguments_without_secrets(request) or None}
        target = noted.get("target")
        await self.write(
            request,
            "done",
            target=target if isinstance(target, str) else None,
            before=noted.get("before"),
            after=noted.get("after"),
        )
        return answer

    async def _told(self, request: Request) -> object:
        try:
            return await self._handle(request)
        except StoreError as error:
            raise of_store(error) from error

    async def _once(self, request: Request, key: str) -> object:
        who = f"{request.actor.name} {'' if _is_login(request) else request.actor.credential}"[:253]
        wanted = fingerprint(request)
        if (who, key) in self._running:
            text = "key: the first request with this key is still being carried out; ask again"
            raise ControlError(ErrorCode.REFUSED, text, "key")
        self._running.add((who, key))
        try:
            store = self._store()
            kept = await store.run(lambda c: IdempotencyRepository(c, store.sealer).find(who, key))
            if kept is not None and kept.at >= self._wall_clock() - KEEP_ANSWERS_S:
                return self._repeated(kept, wanted)
            answer = await self._carry_out(request)
            await self._keep(store, who, key, wanted, answer)
            return answer
        finally:
            self._running.discard((who, key))

    def _repeated(self, kept: KeptAnswer, wanted: bytes) -> object:
        if kept.fingerprint != wanted:
            text = "key: was used for another request within 24 hours; give a new one"
            raise ControlError(ErrorCode.INVALID, text, "key")
        if not kept.result:
            text = "key: this was done already; its answer was too long to be kept"
            raise ControlError(ErrorCode.REFUSED, text, "key")
        self.counters["answers_repeated"] += 1
        answer: object = json.loads(kept.result)
        return answer

    async def _keep(self, store: Store, who: str, key: str, wanted: bytes, answer: object) -> None:
        text = json.dumps(answer, separators=(",", ":")).encode()
        now = self._wall_clock()
        kept = KeptAnswer(wanted, text if len(text) <= MAX_ANSWER_OCTETS else b"", now)

        def write(connection: Connection) -> None:
            repository = IdempotencyRepository(connection, store.sealer)
            repository.delete_before(now - KEEP_ANSWERS_S)
            repository.keep(who, key, kept)

        try:
            await store.run(write, durable=False)
        except ExistsError:
            pass  # nobody else runs under this key: only a clock that went back comes here
        except StoreError as error:
            self._log().warning("answer_not_kept", text=f"an answer was not kept: {error}")


def of_store(error: StoreError) -> ControlError:
    """What the store said, as an answer."""
    match error:
        case UnavailableError():
            return ControlError(ErrorCode.BUSY, f"the database: {error}", retry_after_s=5.0)
        case NotThereError():
            return ControlError(ErrorCode.NOT_FOUND, str(error))
        case VersionError():
            return ControlError(ErrorCode.STALE, str(error), "version")
    return ControlError(ErrorCode.REFUSED, str(error))


def event_of(entry: AuditEntry) -> Event:
    """What the log and whoever listens hear of a change."""
    text = f"{entry.actor}: {entry.action} {entry.target}".rstrip()
    fields: dict[str, object] = {
        "actor": entry.actor,
        "remote": entry.remote,
        "action": entry.action,
        "target": entry.target,
    }
    return Event("administration", text, Severity.INFO, fields)


def without_audit(answer: object) -> tuple[object, Mapping[str, object] | None]:
    """The answer, and what it holds for the audit."""
    if not isinstance(answer, dict) or AUDIT not in answer:
        return answer, None
    noted = answer[AUDIT]
    rest = {name: value for name, value in answer.items() if name != AUDIT}
    return rest, noted if isinstance(noted, Mapping) else None


def fingerprint(request: Request) -> bytes:
    """What makes a request the same as another one."""
    same = {"op": request.operation.name, "args": request.arguments}
    return hashlib.sha256(json.dumps(same, sort_keys=True).encode()).digest()


def target_of(request: Request) -> str:
    """What a request is about, as far as its arguments tell."""
    kind, name = request.text("kind"), request.text("name")
    if kind is not None:
        return f"{kind}/{name or ''}"
    return next((text for one in _TARGETS if (text := request.text(one)) is not None), "")


def arguments_without_secrets(request: Request) -> dict[str, object]:
    """Arguments that are plain and no secret; documents are their handlers' business."""
    secret = {one.name for one in request.operation.parameters if one.secret}
    return {
        name: value
        for name, value in request.arguments.items()
        if name not in secret and not isinstance(value, dict) and name not in _SECRET_NAMES
    }


def blotted(value: object) -> object:
    """The same without what is named like a secret."""
    if isinstance(value, Mapping):
        return {
            str(name): (
                {"secret": True}
                if str(name).lower() in _SECRET_NAMES and isinstance(one, str | bytes | list)
                else blotted(one)
            )
            for name, one in value.items()
        }
    if isinstance(value, list | tuple):
        return [blotted(one) for one in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _document(value: object) -> dict[str, object] | None:
    if not isinstance(value, Mapping):
        return None
    found = blotted(value)
    if not isinstance(found, dict):
        return None
    octets = len(json.dumps(found))
    return found if octets <= MAX_DOCUMENT_OCTETS else {"omitted": f"{octets} octets"}


def _is_login(request: Request) -> bool:
    """Logins change; their administrator's keys stay."""
    return request.actor.name.startswith("admin ")
