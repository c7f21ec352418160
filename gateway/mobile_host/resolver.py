"""The name servers that a login taught, made known to this host, and taken back.

With systemd-resolved they belong to our device alone, so names outside of the split domains go on
asking whom they asked before. Without it ``/etc/resolv.conf`` is rewritten, and it knows no split:
all names ask inside then. What was there before is kept beside our state and put back on stop, or
by the next start after a crash.
"""

import asyncio
import contextlib
import json
import os
import re
import shutil
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final, Literal

from gateway.domain.event import Event, Severity

Way = Literal["auto", "resolvectl", "resolv.conf", "off"]
MAX_OCTETS: Final = 64 * 1024
MAX_SERVERS: Final = 3
"""What libc looks at (resolv.conf(5))."""
COMMAND_S: Final = 5.0
_MARK: Final = "# Written by the mobile node; the former file comes back when it stops."
_BACKUP: Final = "resolv.conf.before"
_DOMAIN: Final = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?")
"""What a gateway assigns may hold any character; a line of resolv.conf must not end in it."""

Run = Callable[[Sequence[str]], Awaitable[str]]
"""Runs a command and returns what it complained of; empty when it did not."""


@dataclass(frozen=True, slots=True)
class Names:
    """Who answers for which names."""

    servers: tuple[IPv4Address, ...] = ()
    domains: tuple[str, ...] = ()
    """Only these and what is below them; empty: all names."""


async def run_command(argv: Sequence[str]) -> str:
    """Run it with a bound on its time."""
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
    except OSError as error:
        return f"{argv[0]}: {error.strerror}"
    try:
        async with asyncio.timeout(COMMAND_S):
            _, complaint = await process.communicate()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        return f"{argv[0]} took longer than {COMMAND_S:g} s"
    if process.returncode == 0:
        return ""
    return complaint.decode("utf-8", "replace").strip()[:300] or f"status {process.returncode}"


class Resolver:
    """Name servers of this host, as the node's mode wants them."""

    def __init__(
        self,
        way: Way,
        device: str,
        state_dir: Path,
        emit: Callable[[Event], None],
        *,
        root: Path = Path("/"),
        run: Run = run_command,
    ) -> None:
        """``device`` is the interface that the servers belong to for systemd-resolved."""
        self._device = device
        self._file = root / "etc/resolv.conf"
        self._backup = state_dir / _BACKUP
        self._emit = emit
        self._run = run
        self._way = _chosen(way, root)
        self._wanted = self._there = Names()
        self._task: asyncio.Task[None] | None = None

    @property
    def way(self) -> str:
        """``resolvectl``, ``resolv.conf`` or ``off``."""
        return self._way

    def recover(self) -> None:
        """Put back what an earlier process that was killed left rewritten."""
        if self._backup.exists():
            self._put_back()

    def use(self, names: Names) -> None:
        """Ask these servers from now on; without servers, as the host did before. Never waits."""
        domains = (one.strip(".") for one in names.domains)
        names = Names(names.servers, tuple(one for one in domains if _DOMAIN.fullmatch(one)))
        if self._way == "off" or names == self._wanted:
            return
        self._wanted = names
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._carry_out())

    async def _carry_out(self) -> None:
        while self._there != self._wanted:
            names = self._wanted
            complaint = await self._apply(names)
            self._there = names
            if complaint:
                self._complain(complaint)

    async def _apply(self, names: Names) -> str:
        if self._way == "resolvectl":
            return await self._by_resolvectl(names)
        try:
            if names.servers:
                self._rewrite(names)
            else:
                self._put_back()
        except OSError as error:
            return f"{self._file}: {error.strerror}"
        return ""

    async def _by_resolvectl(self, names: Names) -> str:
        if not names.servers:
            return await self._run(["resolvectl", "revert", self._device])
        servers = [str(one) for one in names.servers[:MAX_SERVERS]]
        domains = [f"~{one}" for one in names.domains] or ["~."]
        complaint = await self._run(["resolvectl", "dns", self._device, *servers])
        return complaint or await self._run(["resolvectl", "domain", self._device, *domains])

    def _rewrite(self, names: Names) -> None:
        self._remember()
        lines = [_MARK, *(f"nameserver {one}" for one in names.servers[:MAX_SERVERS])]
        if names.domains:
            lines.append("search " + " ".join(names.domains[:6]))
        _write(self._file, "\n".join(lines) + "\n")

    def _remember(self) -> None:
        """Keep what is there, unless it is ours: a link, a file, or nothing."""
        before: dict[str, str | None] = {"link": None, "text": None}
        if self._file.is_symlink():
            before["link"] = str(self._file.readlink())
        else:
            with contextlib.suppress(FileNotFoundError), self._file.open("rb") as file:
                before["text"] = file.read(MAX_OCTETS).decode("utf-8", "surrogateescape")
        if before["text"] is not None and before["text"].startswith(_MARK):
            return
        self._backup.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write(self._backup, json.dumps(before), mode=0o600)

    def _put_back(self) -> None:
        try:
            before = json.loads(self._backup.read_bytes()[: 4 * MAX_OCTETS])
            link, text = before["link"], before["text"]
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return
        if self._is_ours():
            if link is not None:
                new = self._file.with_name(".resolv.conf.new")
                new.unlink(missing_ok=True)
                new.symlink_to(link)
                new.replace(self._file)
            elif text is not None:
                _write(self._file, text)
            else:
                self._file.unlink(missing_ok=True)
        self._backup.unlink(missing_ok=True)

    def _is_ours(self) -> bool:
        """Nobody else has written the file since: then it stays as it is."""
        try:
            with self._file.open("rb") as file:
                return file.read(len(_MARK)) == _MARK.encode()
        except OSError:
            return False

    async def stop(self) -> None:
        """As the host did before we came."""
        if self._way == "off":
            return
        self._wanted = Names()
        if self._task is not None:
            await self._task
        await self._carry_out()

    def _complain(self, why: str) -> None:
        text = f"the name servers of the inside could not be set: {why}"
        self._emit(Event("dns_failed", text, Severity.WARNING, {"way": self._way, "reason": why}))


def restore_dns(state_dir: Path, root: Path = Path("/")) -> bool:
    """Put back what a node that was killed left in resolv.conf; whether there was anything.

    What it told systemd-resolved went with its device. Raises OSError.
    """
    left = (state_dir / _BACKUP).exists()
    Resolver("resolv.conf", "", state_dir, _ignore, root=root).recover()
    return left


def _ignore(_event: Event) -> None:
    return


def _chosen(way: Way, root: Path) -> Way:
    if way != "auto":
        return way
    resolved = (root / "run/systemd/resolve").is_dir() and shutil.which("resolvectl") is not None
    return "resolvectl" if resolved else "resolv.conf"


def _write(path: Path, text: str, mode: int = 0o644) -> None:
    """Complete or not at all."""
    new = path.with_name(f".{path.name.lstrip('.')}.new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape") as file:
        os.fchmod(descriptor, mode)
        file.write(text)
        file.flush()
        os.fsync(descriptor)
    new.replace(path)
