"""Network namespaces by name, as iproute2 keeps them under /run/netns."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from gateway.lab.processes import LabError

Made = TypeVar("Made")

FOLDER = Path("/run/netns")
CLONE_NEWNET = 0x40000000
# ctnetlink: subsystem 1, message 2 deletes; without a tuple it deletes everything.
CTNETLINK_DELETE_ALL = (1 << 8) | 2
NLM_F_REQUEST_ACK = 0x1 | 0x4
NLMSG_ERROR = 2
NETLINK_NETFILTER = 12


def inside(name: str, argv: Sequence[str]) -> list[str]:
    """The command that runs `argv` in the network namespace `name`."""
    return ["nsenter", f"--net={FOLDER / name}", "--", *argv]


def command(argv: Sequence[str], stdin: str = "") -> str:
    """Run a command to its end and return its output; raises LabError with what it complained."""
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False)
    if done.returncode:
        complaint = (done.stderr or done.stdout).strip()
        raise LabError(f"`{' '.join(argv)}` failed ({done.returncode}): {complaint}")
    return done.stdout


def existing(prefix: str) -> list[str]:
    """Names of the namespaces that begin with `prefix`."""
    return sorted(path.name for path in FOLDER.glob(f"{prefix}*")) if FOLDER.is_dir() else []


def processes_in(names: Sequence[str]) -> list[int]:
    """Ids of the processes that live in any of the namespaces."""
    wanted = set()
    for name in names:
        with contextlib.suppress(OSError):
            wanted.add((FOLDER / name).stat().st_ino)  # one nsfs for all: the number tells
    found = []
    # No Path objects: the lab's end looks at every process several times.
    for entry in os.scandir("/proc") if wanted else ():
        with contextlib.suppress(OSError):
            path = f"{entry.path}/ns/net"
            if entry.name.isdigit() and os.stat(path).st_ino in wanted:  # noqa: PTH116
                found.append(int(entry.name))
    return [pid for pid in found if pid != os.getpid()]


def write_sysctls(name: str, settings: Mapping[str, object]) -> None:
    """Set sysctls of the namespace, each named as under /proc/sys with dots. Raises LabError."""

    def write() -> None:
        for key, value in settings.items():
            Path("/proc/sys", *key.split(".")).write_text(f"{value}\n")

    made_inside(name, write)


def enter(name: str) -> None:
    """Move the calling thread into the namespace, for good. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    with (FOLDER / name).open("rb") as handle:
        if libc.setns(handle.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def made_inside(name: str, make: Callable[[], Made]) -> Made:
    """What `make` returns when it runs in the namespace, while the calling process stays outside.

    Raises LabError when the namespace does not exist or may not be entered, or `make` fails with
    an OSError.
    """
    result: list[Made] = []
    failure: list[OSError] = []

    def enter_and_make() -> None:
        # setns(2) moves one thread; this one ends right after, so nobody else notices.
        try:
            enter(name)
            result.append(make())
        except OSError as error:
            failure.append(error)

    thread = threading.Thread(target=enter_and_make)
    thread.start()
    thread.join()
    if failure:
        raise LabError(f"not made in namespace {name}: {failure[0]}")
    return result[0]


def socket_in(name: str, family: int, kind: int, protocol: int = 0) -> socket.socket:
    """A socket that lives in the namespace; raises LabError like :func:`made_inside`."""
    return made_inside(name, lambda: socket.socket(family, kind, protocol))


def flush_conntrack(name: str) -> None:
    """Forget every connection the namespace tracks, NAT mappings included."""
    with socket_in(name, socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER) as netlink:
        body = struct.pack("=BBH", socket.AF_INET, 0, 0)
        header = struct.pack("=IHHII", 20, CTNETLINK_DELETE_ALL, NLM_F_REQUEST_ACK, 1, 0)
        netlink.sendto(header + body, (0, 0))
        reply = netlink.recv(4096)
    kind, error = struct.unpack_from("=4xH10xi", reply)
    if kind == NLMSG_ERROR and error:
        raise LabError(f"cannot flush the connections of {name}: {os.strerror(-error)}")
