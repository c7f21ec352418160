"""Finds the forwarder that runs, or starts one that outlives this process."""

import contextlib
import fcntl
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import gateway
from gateway.dataplane.portable.client import (
    ForwarderClient,
    OtherVersionError,
    UnusableForwarderError,
)
from gateway.dataplane.portable.forwarder import ForwarderUnavailableError
from gateway.dataplane.portable.legacy import Legacy, left_in
from gateway.dataplane.portable.messages import HELLO
from gateway.dataplane.portable.wire import links
from gateway.dataplane.portable.wire.inside import processes
from gateway.domain.privileges import keep_across_exec

MAX_WORKERS = 4
"""More processes than this are only started when they are asked for."""
START_S = 20.0
"""A forwarder that is not ready after this time is given up."""
END_S = 5.0

_PROGRAM = "from gateway.dataplane.portable.worker.__main__ import main; main()"


def default_workers() -> int:
    """One process for each processor that this one may use, up to :data:`MAX_WORKERS`."""
    return max(1, min(len(os.sched_getaffinity(0)), MAX_WORKERS))


def open_forwarder(
    folder: Path,
    *,
    interface: str,
    adopt: bool,
    workers: int | None = None,
    lasting: bool = True,
) -> ForwarderClient:
    """The forwarder of a folder, which is made if need be.

    Args:
        folder: where its sockets are; nobody else may write there.
        interface: whose packets ESP protects, of :mod:`.wire.inside` and there; empty: none.
        adopt: take over one that runs for this interface; what one of another version had goes
            on in a new one.
        workers: how many processes; :func:`default_workers` unless given; a TUN device has one.
        lasting: whether it goes on when this process ends without a word.

    Raises:
        ForwarderUnavailableError: it cannot be started; the text says why.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _alone(folder):
            running, left = _found(folder)
            if running is not None and adopt and running.interface == interface:
                return running
            if running is not None:
                running.close(keep=False)
            before = left.interface if running is None else running.interface
            if before not in {"", interface}:
                # It has another name now; the routes of the old one would be in the way.
                links.delete(before)
            _start(folder, processes(interface, workers or default_workers()), interface)
            started = ForwarderClient(folder)
            started.adopted = adopt and _restored(started, left, interface)
    except ForwarderUnavailableError:
        raise
    except OSError as error:
        raise ForwarderUnavailableError(f"forwarder in {folder}: {error}") from error
    if not lasting:
        started.bind()
    return started


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Nobody else starts a forwarder here meanwhile."""
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _found(folder: Path) -> tuple[ForwarderClient | None, Legacy]:
    """The forwarder that runs, or what one of another version left, which has ended."""
    left = Legacy()
    try:
        return ForwarderClient(folder), left
    except OtherVersionError as other:
        with contextlib.suppress(ForwarderUnavailableError):
            left = left_in(folder, HELLO)
        _end(other.process)
    except UnusableForwarderError as unusable:
        _end(unusable.process)
    except ForwarderUnavailableError:
        pass
    return None, left


def _restored(started: ForwarderClient, left: Legacy, interface: str) -> bool:
    """Let a new forwarder go on where another was; whether there was anything."""
    if left.interface != interface or not (left.states or left.links):
        return False
    for state in left.states:
        started.restore(state)
    for link in left.links:
        started.set_tunnel(link)
    # What is refused is missing when the core asks what there is.
    started.commit()
    return True


def _end(process: int) -> None:
    """End a forwarder of another version, or one that hangs, and wait for it. Raises OSError."""
    with contextlib.suppress(ProcessLookupError):
        handle = os.pidfd_open(process)
        try:
            for number in (signal.SIGTERM, signal.SIGKILL):
                signal.pidfd_send_signal(handle, number)
                if select.select([handle], [], [], END_S)[0]:
                    return
        finally:
            os.close(handle)


def _start(folder: Path, workers: int, interface: str) -> None:
    reading, writing = os.pipe()
    root = str(Path(gateway.__file__).parent.parent)
    code = f"import sys; sys.path.insert(0, {root!r}); {_PROGRAM}"
    argv = [sys.executable, "-P", "-c", code, str(folder), str(workers), str(writing)]
    try:
        started = subprocess.Popen(
            [*argv, interface] if interface else argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=(writing,),
            start_new_session=True,
            preexec_fn=keep_across_exec,  # noqa: PLW1509 - it calls the kernel, and nothing else
        )
        os.close(writing)
        writing = -1
        with os.fdopen(reading, "rb", buffering=0) as status:
            reading = -1
            said = _ready(status.fileno(), workers)
        started.wait()
    finally:
        for fd in (reading, writing):
            if fd >= 0:
                os.close(fd)
    if said != b"+" * workers:
        text = said.replace(b"+", b"").decode(errors="replace") or "it ended at once"
        raise ForwarderUnavailableError(f"the forwarder did not start: {text}")


def _ready(status: int, workers: int) -> bytes:
    """What it says: one ``+`` of each process, or why not."""
    said = b""
    until = time.monotonic() + START_S
    while said != b"+" * workers and (left := until - time.monotonic()) > 0:
        if select.select([status], [], [], left)[0]:
            octets = os.read(status, 4096)
            if not octets:
                break
            said += octets
    return said
