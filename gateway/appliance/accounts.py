"""Users and groups of the configuration, as numbers."""

import grp
import os
import pwd
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from gateway.config.problem import ConfigError, Problem
from gateway.control.peer import Access
from gateway.domain.privileges import CAP_SETGID, CAP_SETUID, permitted

_MAX_LINKS = 40
"""As many links as the kernel follows (path_resolution(7))."""


@dataclass(frozen=True, slots=True)
class ControlAccess:
    """Who may use the control socket, and what its file looks like."""

    access: Access
    group: int | None
    mode: int


@dataclass(frozen=True, slots=True)
class Account:
    """A user that a process can become."""

    uid: int
    gid: int


def api_account(user: str, config: Path, key: str = "api.user") -> Account | None:
    """The user of the API process, or None when we cannot become another one.

    ``key`` is where the configuration names it. Raises :class:`ConfigError` for an unknown user.
    """
    if not permitted() >= {CAP_SETUID, CAP_SETGID}:
        return None
    try:
        found = pwd.getpwnam(user)
    except KeyError:
        why = "no such user; create it, or name one that exists"
        raise ConfigError([Problem(config, key, why, user)]) from None
    return Account(found.pw_uid, found.pw_gid) if found.pw_uid != os.geteuid() else None


def out_of_reach(paths: Iterable[Path], account: Account) -> Path | None:
    """The first folder on the way to ``paths`` that the account may not enter, or None.

    Judged by owner, group and mode, which is what installations differ in.
    """
    for path in paths:
        for folder in _folders_to(path):
            found = folder.stat()
            bit = 64 if found.st_uid == account.uid else 8 if found.st_gid == account.gid else 1
            if not found.st_mode & bit:
                return folder
    return None


def _folders_to(path: Path) -> Iterator[Path]:
    """Every folder that opening ``path`` passes, those behind links on the way included."""
    for _ in range(_MAX_LINKS):
        parent = path.parent.resolve()
        for folder in path.parent, *path.parent.parents:  # a link may be any part of the way
            real = folder.resolve()
            yield from reversed((real, *real.parents))
        if not path.is_symlink():
            return
        path = parent / path.readlink()


def group_ids(names: Iterable[str], config: Path) -> tuple[int, ...]:
    """The groups' numbers. Raises :class:`ConfigError` for an unknown group."""
    numbers = []
    for name in names:
        try:
            numbers.append(grp.getgrnam(name).gr_gid)
        except KeyError:
            why = "no such group; create it, or name one that exists"
            raise ConfigError([Problem(config, "control.allowed_groups", why, name)]) from None
    return tuple(numbers)


def control_access(
    uids: Iterable[int], gids: tuple[int, ...], api: Account | None
) -> ControlAccess:
    """Who may connect, and the group and mode of the socket file.

    The file belongs to the first allowed group, which the API process joins. Where more must be
    able to open it than one group can say, anybody can open it: the kernel tells us who connects,
    and that decides in any case.
    """
    allowed = frozenset(uids)
    access = Access(allowed, frozenset(gids), api.uid if api is not None else None)
    group = gids[0] if gids else (api.gid if api is not None else None)
    return ControlAccess(access, group, 0o666 if allowed or len(gids) > 1 else 0o660)
