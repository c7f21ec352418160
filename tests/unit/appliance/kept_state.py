"""The store and session records of one process after another, in one folder."""

from collections.abc import Callable
from pathlib import Path

from gateway.appliance.session_takeover import TakenOver
from gateway.domain.event import Event
from gateway.store.database import Store, StoreSettings
from gateway.store.sessions import SessionStore


class KeptState:
    """What one process has: :attr:`taken` of the one before it, and where its own goes."""

    def __init__(self, folder: Path, emit: Callable[[Event], None] = lambda _event: None) -> None:
        self.store = Store(StoreSettings(folder, runtime_dir=folder / "run"), emit)
        self.store.open()
        self.sessions = SessionStore(self.store, folder / "run" / "sessions", emit)
        self.taken = TakenOver(self.sessions, emit)

    def start(self) -> None:
        """In the event loop."""
        self.taken.start()

    async def stop(self) -> None:
        """As a process that ends in order."""
        await self.taken.stop()
        self.store.close()

    def records(self, kind: str) -> dict[str, bytes]:
        """What the last process left."""
        return self.taken.of(kind)
