"""Who holds leases on this host: one locked file for each session.

A file is locked as long as its process lives, however that ends, so a file that is not locked is
a leftover. Network namespaces of one machine have registries of their own, as they are hosts of
their own.
"""

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from gateway.nar_host import constants
from gateway.nar_host.failure import NarHostError
from gateway.nar_host.record import MAX_OCTETS, Record

RUN_DIR: Final = Path("/run/gateway-nar")
RUN_DIR_VARIABLE: Final = "GATEWAY_NAR_RUN_DIR"
_LOCK: Final = "lock"
_SUFFIX: Final = ".session"


def network_namespace() -> int:
    """A number that tells the network namespace of this thread from others."""
    return os.stat("/proc/thread-self/ns/net").st_ino  # noqa: PTH116 - no Path needed


def folder() -> Path:
    """Where the sessions of this network namespace are written down."""
    base = Path(os.environ.get(RUN_DIR_VARIABLE) or RUN_DIR)
    if os.geteuid() != 0:
        # Only translated sessions, which need nothing of the host.
        own = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.geteuid()}"
        base = Path(own) / RUN_DIR.name
    return base / str(network_namespace())


class Holder:
    """Our own file in the registry."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor

    def write(self, record: Record) -> None:
        """What is needed now. Only under :meth:`Registry.locked`. Raises OSError."""
        octets = record.to_json()
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, octets, 0)

    def close(self) -> None:
        """We need nothing any more. Only under :meth:`Registry.locked`. Never raises."""
        with contextlib.suppress(OSError):
            self._path.unlink()
        with contextlib.suppress(OSError):
            os.close(self._descriptor)


class Registry:
    """The sessions of this network namespace."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or folder()
        self.dead: list[Record] = []
        """Sessions whose processes ended without a word, seen since this was emptied."""

    def socket(self, number: int) -> Path:
        """The control socket of a session."""
        return self.path / f"{number}.sock"

    def record(self, number: int) -> Path:
        """The file of a session; it is there until the session begins to take everything back."""
        return self.path / f"{number}{_SUFFIX}"

    def forwarder(self, number: int) -> Path:
        """The folder of the forwarder of a session that has one."""
        return self.path / f"{number}.forwarder"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else changes the registry or the kernel meanwhile.

        Raises :class:`NarHostError` without the right to write here.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
                text = f"{self.path}: {error.strerror}; run as root"
                raise NarHostError(text, error.errno) from error
            raise
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def claim(self) -> tuple[int, Holder]:
        """A number and a file that are ours until we end. Only under :meth:`locked`."""
        taken = {record.number for record in self.living()}
        for number in range(1, constants.MAX_RECORDS + 1):
            if number in taken:
                continue
            path = self.record(number)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                continue
            return number, Holder(path, descriptor)
        text = f"{constants.MAX_RECORDS} sessions are open on this host; release some of them"
        raise NarHostError(text)

    def living(self) -> list[Record]:
        """The records of processes that live, by number; those of others are deleted.

        Only under :meth:`locked`. What the dead need undone is in :attr:`dead`.
        """
        found: list[Record] = []
        for path in sorted(self.path.glob(f"*{_SUFFIX}")):
            record, lives = _read(path)
            if record is not None:
                (found if lives else self.dead).append(record)
        numbers = {record.number for record in found}
        for path in self.path.glob("*.sock"):
            if not path.stem.isdigit() or int(path.stem) not in numbers:
                with contextlib.suppress(OSError):
                    path.unlink()
        return sorted(found, key=lambda record: record.number)

    def numbers(self) -> list[int]:
        """Sessions that answer on a control socket, or did."""
        stems = [path.stem for path in self.path.glob("*.sock")]
        return sorted(int(stem) for stem in stems if stem.isdigit())


def _read(path: Path) -> tuple[Record | None, bool]:
    """The record, and whether its process lives; the file of a dead one is deleted."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None, False
    try:
        lives = False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lives = True
        else:
            path.unlink()
        return Record.parse(os.pread(descriptor, MAX_OCTETS, 0)), lives
    except (OSError, ValueError):
        return None, False
    finally:
        os.close(descriptor)
