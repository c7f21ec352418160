"""Network namespaces as file descriptors: made and entered by threads that end right after."""

import contextlib
import ctypes
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, TypeVar

from gateway.nar_host.failure import NarHostError

CLONE_NEWNET: Final = 0x4000_0000
CLONE_NEWNS: Final = 0x0002_0000
_OWN: Final = "/proc/thread-self/ns/net"
_Made = TypeVar("_Made")


def libc() -> ctypes.CDLL:
    """For system calls that the standard library does not have."""
    return ctypes.CDLL(None, use_errno=True)


def _in_thread(make: Callable[[], _Made]) -> _Made:
    made: list[_Made] = []
    failed: list[BaseException] = []

    def work() -> None:
        try:
            made.append(make())
        except BaseException as error:  # noqa: BLE001 - raised again by who waits
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return made[0]


def new() -> int:
    """A new, empty network namespace; it lives as long as somebody keeps the descriptor.

    Raises :class:`NarHostError`.
    """
    unshare = libc().unshare

    def make() -> int:
        if unshare(CLONE_NEWNET):
            number = ctypes.get_errno()
            why = os.strerror(number)
            text = f"no network namespace of its own: {why}; run as root (CAP_SYS_ADMIN)"
            raise NarHostError(text, number)
        return os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)

    return _in_thread(make)


@contextlib.contextmanager
def closing(descriptor: int) -> Iterator[None]:
    """Keep a network namespace no longer than this."""
    try:
        yield
    finally:
        os.close(descriptor)


def made_in(descriptor: int, make: Callable[[], _Made]) -> _Made:
    """What ``make`` returns when it runs in another network namespace; its sockets stay there.

    Raises OSError, and what ``make`` raises.
    """
    setns = libc().setns

    def enter_and_make() -> _Made:
        if setns(descriptor, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return make()

    return _in_thread(enter_and_make)


def of_process(pid: int, descriptor: int) -> int | None:
    """A descriptor of our own for the network namespace that another process keeps as its."""
    path = f"/proc/{pid}/fd/{descriptor}"
    try:
        if not str(Path(path).readlink()).startswith("net:["):
            return None
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
