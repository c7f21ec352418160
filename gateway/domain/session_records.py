"""How roles remember their sessions, without knowing where."""

from typing import Protocol


class SessionRecords(Protocol):
    """Takes the records of sessions. Never waits, never raises.

    A record is opaque here, at most 64 kB, and begins with a version octet of its owner's. What
    was kept before ``kill -9`` is there for the next process; the last record of a key counts.
    """

    def keep(self, kind: str, key: str, record: bytes) -> None:
        """Remember ``record`` in place of what was there."""

    def forget(self, kind: str, key: str) -> None:
        """Remove it."""
