"""Processes of a lab: every one is written down with its start time, and ended by its id.

A process id alone may have been given to somebody else since; the start time from
`/proc/PID/stat` (proc(5), field 22) tells whether it is still the process we started.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO, Protocol

TERM_GRACE_S = 3.0
POLL_S = 0.01
_watching: list[bool] = []  # not empty while an `ending_on_signals` block is open


class LabError(Exception):
    """Something in the lab did not work; the text is for the person who runs it."""


def start_time(pid: int) -> int | None:
    """Clock ticks after boot at which `pid` started; None when there is no such (live) process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in {"Z", "X"} else int(fields[19])


def wait_until(condition: Callable[[], object], timeout_s: float, what: str) -> None:
    """Return as soon as `condition()` is true; raises LabError naming `what` after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    pause_s = POLL_S
    while not condition():
        if time.monotonic() > deadline:
            raise LabError(f"waited {timeout_s:g} s for {what}, in vain")
        time.sleep(pause_s)
        pause_s = min(pause_s * 1.5, 0.2)


class Child(Protocol):
    """A child process, as :class:`subprocess.Popen` shows it."""

    @property
    def pid(self) -> int:
        """Its process id."""

    def poll(self) -> int | None:
        """Its exit status, None while it runs."""

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end. Raises subprocess.TimeoutExpired."""

    def send_signal(self, number: int, /) -> None:
        """Send it a signal unless it has ended."""

    def kill(self) -> None:
        """End it at once."""


@dataclass(slots=True)
class Process:
    """A background process of the lab; `log` holds what it wrote to stdout and stderr."""

    name: str
    pid: int
    log: Path
    popen: Child

    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self.popen.poll() is None

    def wait(self, timeout_s: float) -> int:
        """Wait for its end and return the exit status; raises LabError when it takes too long."""
        try:
            return self.popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise LabError(f"{self.name} still runs after {timeout_s:g} s") from None

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal; nothing happens when it has ended."""
        if self.running():
            self.popen.send_signal(number)

    def stop(self, grace_s: float = TERM_GRACE_S) -> int:
        """SIGTERM, then SIGKILL after `grace_s`; returns the exit status."""
        self.signal(signal.SIGTERM)
        try:
            return self.popen.wait(grace_s)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            return self.popen.wait()

    def output(self) -> str:
        """What it has written so far."""
        return self.log.read_text(errors="replace")


class ProcessTable:
    """The lab's processes on disk, so that a later command (or a later run) can end them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._started: dict[int, Child] = {}

    def spawn(
        self,
        name: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        stdin: int | IO[bytes] | None = subprocess.DEVNULL,
        stdout: int | IO[bytes] | None = None,
    ) -> Process:
        """Start `argv` in a session of its own, logging to NAME.log in the table's folder."""

        def popen(sink: IO[bytes]) -> Child:
            return subprocess.Popen(
                argv,
                stdin=stdin,
                stdout=sink if stdout is None else stdout,
                stderr=sink,
                env=None if env is None else {**os.environ, **env},
                start_new_session=True,
            )

        return self.start(name, popen)

    def start(self, name: str, begin: Callable[[IO[bytes]], Child]) -> Process:
        """Start what `begin` starts with NAME.log in the table's folder for its output."""
        self._folder.mkdir(parents=True, exist_ok=True)
        log = self._folder / f"{name}.log"
        with log.open("ab") as sink:
            child = begin(sink)
        self._started[child.pid] = child
        record = {"name": name, "pid": child.pid, "start": start_time(child.pid)}
        (self._folder / f"{child.pid}.pid").write_text(json.dumps(record))
        return Process(name, child.pid, log, child)

    def running(self) -> dict[str, int]:
        """Name to process id of everything in the table that still runs."""
        return {name: pid for name, pid in self._records() if pid}

    def end_all(self, others: Callable[[], Sequence[int]] = tuple) -> None:
        """End every process of the table, and those that `others()` names, by id."""

        def alive() -> set[int]:
            for popen in self._started.values():
                popen.poll()  # reaps what has ended, so that it is not taken for a live one
            named = {pid for _, pid in self._records()} | set(others())
            return {pid for pid in named if start_time(pid) is not None}

        for number in (signal.SIGTERM, signal.SIGKILL):
            for pid in alive():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            with contextlib.suppress(LabError):
                wait_until(lambda: not alive(), TERM_GRACE_S, "the lab's processes to end")
        for record in self._folder.glob("*.pid"):
            record.unlink(missing_ok=True)
        for child in self._started.values():
            # Its first thread may have ended before the others: only then it can be reaped.
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(TERM_GRACE_S)
        self._started.clear()

    def _records(self) -> Iterator[tuple[str, int]]:
        for path in self._folder.glob("*.pid"):
            try:
                record = json.loads(path.read_text())
                name, pid, start = str(record["name"]), int(record["pid"]), record["start"]
            except (OSError, ValueError, KeyError, TypeError):
                continue  # half written by a run that was killed; its namespace still names it
            if start is not None and start_time(pid) == start:
                yield name, pid


@contextlib.contextmanager
def ending_on_signals() -> Iterator[None]:
    """Turn SIGINT, SIGTERM and SIGHUP into an exception, so that `finally` and `with` clean up.

    Raises KeyboardInterrupt or SystemExit(128 + signal) in the main thread, once; later signals
    are ignored, so that an impatient second Ctrl-C does not interrupt the cleaning. Outside the
    main thread, and within another such block, it changes nothing.
    """
    if threading.current_thread() is not threading.main_thread() or _watching:
        yield
        return
    watched = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def end(number: int, _frame: FrameType | None) -> None:
        for each in watched:
            signal.signal(each, signal.SIG_IGN)
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + number)

    before = {each: signal.signal(each, end) for each in watched}
    _watching.append(True)
    try:
        yield
    finally:
        _watching.pop()
        for each, handler in before.items():
            signal.signal(each, handler)
