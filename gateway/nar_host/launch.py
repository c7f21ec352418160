"""Starts a command inside a network namespace, with name servers of its own."""

import asyncio
import ctypes
import os
import pwd
import signal
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.nar_host import netns

_MS_BIND, _MS_REC, _MS_SLAVE = 0x1000, 0x4000, 0x80000
_PR_SET_PDEATHSIG: Final = 1
_RESOLVER: Final = b"/etc/resolv.conf"


@dataclass(frozen=True, slots=True)
class User:
    """Who runs the command."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    name: str
    home: str

    @classmethod
    def named(cls, name: str) -> "User":
        """Raises KeyError when there is none."""
        found = pwd.getpwnam(name)
        groups = tuple(os.getgrouplist(name, found.pw_gid))
        return cls(found.pw_uid, found.pw_gid, groups, name, found.pw_dir)

    def environment(self) -> dict[str, str]:
        """What login would set."""
        return {"HOME": self.home, "USER": self.name, "LOGNAME": self.name}


async def launch(
    argv: Sequence[str],
    namespace: int,
    environment: Mapping[str, str],
    *,
    resolver: str | None,
    user: User | None = None,
) -> asyncio.subprocess.Process:
    """Run ``argv`` there; it inherits our standard streams and ends with us.

    ``resolver`` is what it sees as /etc/resolv.conf. Raises OSError.
    """
    given = {**os.environ, **(user.environment() if user else {}), **environment}
    path = None
    if resolver is not None:
        descriptor, name = tempfile.mkstemp(prefix="gateway-nar-")
        path = Path(name)
        with os.fdopen(descriptor, "w") as file:
            file.write(resolver)
        path.chmod(0o644)
    try:
        return await asyncio.create_subprocess_exec(
            *argv, env=given, preexec_fn=_before(namespace, path, user)
        )
    finally:
        if path is not None:
            # Mounted by now; the mount keeps it.
            path.unlink()


def _before(namespace: int, resolver: Path | None, user: User | None) -> Callable[[], None]:
    """What the child does before it becomes the command. All is looked up beforehand."""
    libc = netns.libc()
    setns, unshare, mount, prctl = libc.setns, libc.unshare, libc.mount, libc.prctl
    source = None if resolver is None else os.fsencode(resolver)

    def check(result: int, what: str) -> None:
        if result:
            number = ctypes.get_errno()
            raise OSError(number, f"{what}: {os.strerror(number)}")

    def enter() -> None:
        check(setns(namespace, netns.CLONE_NEWNET), "network namespace")
        if source is not None and Path("/etc/resolv.conf").exists():
            check(unshare(netns.CLONE_NEWNS), "mount namespace")
            check(mount(b"none", b"/", None, _MS_REC | _MS_SLAVE, None), "mounts")
            check(mount(source, _RESOLVER, None, _MS_BIND, None), "/etc/resolv.conf")
        if user is not None:
            os.setgroups(user.groups)
            os.setgid(user.gid)
            os.setuid(user.uid)
        prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)

    return enter
