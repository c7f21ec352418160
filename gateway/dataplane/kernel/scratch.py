"""A network namespace of its own to try something in, which vanishes afterwards."""

import ctypes
import json
import os
import signal
import struct
from collections.abc import Callable
from typing import Final

from gateway.dataplane.kernel.netlink import NETLINK_ROUTE, NetlinkSocket, request

_CLONE_NEWNET: Final = 0x40000000
_NEWLINK, _LOOPBACK, _UP = 16, 1, 1
BOUND_S: Final = 20
"""A trial that takes longer is ended."""


class TrialFailedError(Exception):
    """The trial could not be made. Its text says why and what to do."""


def in_scratch_namespace(trial: Callable[[], object]) -> object:
    """What ``trial`` returns (JSON values) in a child process with no network but ``lo``, up.

    Raises :class:`TrialFailedError`, also for an OSError of the trial.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _in_child(writer, trial)
    os.close(writer)
    with os.fdopen(reader, "rb") as answers:
        answer = answers.read()
    os.waitpid(child, 0)
    try:
        found = json.loads(answer)
    except ValueError:
        raise TrialFailedError("the trial ended without an answer") from None
    if "problem" in found:
        raise TrialFailedError(found["problem"])
    result: object = found["result"]
    return result


def _in_child(writer: int, trial: Callable[[], object]) -> None:
    """Unshare, try, write the answer, and end without the parent's cleanup."""
    answer: dict[str, object] = {"problem": "an internal fault"}
    try:
        signal.alarm(BOUND_S)
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(_CLONE_NEWNET) != 0:
            why = os.strerror(ctypes.get_errno())
            answer = {"problem": f"no network namespace of its own ({why}): run as root"}
        else:
            _loopback_up()
            answer = {"result": trial()}
    except Exception as error:  # noqa: BLE001 - whatever it is, the parent tells it
        answer = {"problem": f"{type(error).__name__}: {error}"}
    finally:
        os.write(writer, json.dumps(answer).encode())
        os._exit(0)


def _loopback_up() -> None:
    body = struct.pack("=BxHiII", 0, 0, _LOOPBACK, _UP, _UP)
    NetlinkSocket(NETLINK_ROUTE).check("loopback", [request(_NEWLINK, 0, body)])
