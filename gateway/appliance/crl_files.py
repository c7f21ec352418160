"""Keeps the CRLs in force in step with their files: read when they change, never per handshake."""

import asyncio
import os
import stat
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from gateway.ike.auth.credentials import TrustAnchors
from gateway.ike.auth.crl import MAX_FILE_OCTETS, Crl, CrlRefused, read
from gateway.ike.outputs import Event, Severity

LOOK_EVERY_S = 60.0

_Stamp = tuple[int, int, int]
"""Time of change, size and inode: another of these is another content."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """The last look at a file. ``crls`` may stem from an earlier one, if this was refused."""

    stamp: _Stamp | None
    crls: tuple[Crl, ...]


def _utc_now() -> datetime:
    return datetime.now(UTC)


def _stamp(found: os.stat_result) -> _Stamp:
    return found.st_mtime_ns, found.st_size, found.st_ino


def _look(path: Path) -> _Stamp | None:
    try:
        return _stamp(path.stat())
    except OSError:
        return None


def _read(path: Path) -> tuple[_Stamp | None, tuple[Crl, ...]]:
    """The stamp from before reading, so that a file in the making is read again.

    Raises :class:`CrlRefused`.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise CrlRefused(f"CRL {path} is not a file")
            return _stamp(found), read(file.read(MAX_FILE_OCTETS + 1), str(path))
    except OSError as error:
        raise CrlRefused(f"CRL {path} cannot be read: {error.strerror}") from None


class CrlFiles:
    """The CRL files of all connections. Each is read once, however many name it."""

    def __init__(
        self, emit: Callable[[Event], None], wall_clock: Callable[[], datetime] = _utc_now
    ) -> None:
        self._emit = emit
        self._wall_clock = wall_clock
        self._seen: dict[Path, _Seen] = {}
        self._users: dict[Path, tuple[TrustAnchors, ...]] = {}
        self._said_stale: set[Crl] = set()

    def follow(self, anchors: Iterable[TrustAnchors]) -> Mapping[Path, str]:
        """Put the files of these anchors in force, and look after them from now on.

        For start and reload; reads what it has not read, so it takes as long as the files are
        large. Returns what is wrong with files of which nothing could be put in force: refuse the
        configuration then, and go on with the anchors before. Where an earlier content is known,
        it stays in force with a warning.
        """
        users: dict[Path, list[TrustAnchors]] = {}
        # By identity: equal anchors of two connections each have lists of their own.
        for one in {id(one): one for one in anchors}.values():
            if one.revocation is not None:
                for path in one.revocation.policy.crl_files:
                    users.setdefault(path, []).append(one)
        problems: dict[Path, str] = {}
        seen: dict[Path, _Seen] = {}
        for path, its_users in users.items():
            try:
                seen[path] = self._follow(path, its_users)
            except CrlRefused as refused:
                problems[path] = str(refused)
        if not problems:
            self._users = {path: tuple(of_path) for path, of_path in users.items()}
            self._seen = seen
        return problems

    def _follow(self, path: Path, users: Iterable[TrustAnchors]) -> _Seen:
        former = self._seen.get(path)
        stamp = _look(path)
        if former is None or former.stamp != stamp:
            try:
                stamp, crls = _read(path)
                self._put_in_force(path, crls, users)
                return _Seen(stamp, crls)
            except CrlRefused as refused:
                if former is None:
                    raise
                self._warn(path, str(refused))
        self._put_in_force(path, former.crls, users, silent=True)
        return _Seen(stamp, former.crls)

    def _put_in_force(
        self,
        path: Path,
        crls: tuple[Crl, ...],
        users: Iterable[TrustAnchors],
        *,
        silent: bool = False,
    ) -> None:
        """For all of the users or none. Raises :class:`CrlRefused`."""
        for one in users:
            one.check_crls(crls)
        for one in users:
            one.take_crls(str(path), crls)
        if not silent:
            for crl in crls:
                self._say_in_force(crl)

    async def refresh(self) -> None:
        """Look at every file once; what changed is read in a thread."""
        for path in list(self._users):
            former = self._seen[path]
            stamp = await asyncio.to_thread(_look, path)
            if stamp == former.stamp:
                continue
            crls = former.crls
            try:
                stamp, crls = await asyncio.to_thread(_read, path)
                if self._seen.get(path) is not former:  # meanwhile, the configuration was reloaded
                    continue
                self._put_in_force(path, crls, self._users[path])
            except CrlRefused as refused:
                crls = former.crls
                if self._seen.get(path) is former:
                    self._warn(path, str(refused))
            if self._seen.get(path) is former:
                self._seen[path] = _Seen(stamp, crls)
        self._warn_of_stale()

    async def run(self) -> None:
        """Look again every minute, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            await self.refresh()

    def _warn(self, path: Path, why: str) -> None:
        text = f"{why}; the one read before stays in force"
        fields: dict[str, object] = {"file": str(path), "reason": why}
        self._emit(Event("crl_refused", text, Severity.WARNING, fields))

    def _say_in_force(self, crl: Crl) -> None:
        fields: dict[str, object] = {
            "file": crl.source,
            "issuer": crl.issuer_title,
            "entries": len(crl),
            "next_update": crl.next_update.isoformat(),
        }
        text = (
            f"CRL {crl.source} of {crl.issuer_title} is in force: {len(crl)} entries, "
            f"next update {crl.next_update:%Y-%m-%d %H:%M:%S} UTC"
        )
        self._emit(Event("crl_in_force", text, fields=fields))

    def _warn_of_stale(self) -> None:
        """Say once of each list in force that its successor is overdue."""
        now = self._wall_clock()
        stale: set[Crl] = set()
        for seen in self._seen.values():
            for crl in seen.crls:
                why = crl.stale(now, timedelta())
                if why is None:
                    continue
                stale.add(crl)
                if crl not in self._said_stale:
                    text = f"CRL {crl.source} of {crl.issuer_title} {why}"
                    fields: dict[str, object] = {"file": crl.source, "issuer": crl.issuer_title}
                    self._emit(Event("crl_stale", text, Severity.WARNING, fields))
        self._said_stale = stale
