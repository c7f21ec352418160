"""A process that writes, and says what was acknowledged; the power-cut tests kill it."""

import asyncio
import sys
from pathlib import Path

from sqlalchemy import Connection

from gateway.store.audit import AuditEntry, AuditRepository
from gateway.store.database import Store, StoreSettings
from gateway.store.objects import ObjectRepository
from gateway.store.sessions import SessionStore


async def write(folder: Path, url: str | None, begin: int) -> None:
    """Objects with their audit, and sessions, until killed."""
    store = Store(StoreSettings(folder / "state", url, runtime_dir=folder / "run"), _complain)
    store.open()
    sessions = SessionStore(store, folder / "run" / "sessions", _complain)
    sessions.open()
    sessions.start()
    print("ready", flush=True)
    number = begin
    while True:
        await store.run(lambda c, n=number: _store(c, store, n))
        print(f"object {number}", flush=True)
        for some in range(20):
            sessions.keep("ike", str(some), f"{number}.{some}".encode())
            print(f"session {some} {number}.{some}", flush=True)
        number += 1


def _store(connection: Connection, store: Store, number: int) -> None:
    objects = ObjectRepository(connection, store.sealer)
    objects.create("devices", f"d{number}", {"note": "x" * 500}, {"password": f"p{number}"})
    entry = AuditEntry(float(number), "test", "local", "create", f"devices/d{number}", "done")
    AuditRepository(connection).append(entry)


def _complain(event: object) -> None:
    print(f"event {event}", flush=True)


if __name__ == "__main__":
    asyncio.run(write(Path(sys.argv[1]), sys.argv[2] or None, int(sys.argv[3])))
