"""Changes to the user file: read, edit, check, replace; all of it or nothing."""

import contextlib
import fcntl
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from gateway.users.document import UserEntry, UserFileError, parse, with_user, without_user
from gateway.users.names import NameRefusedError, canonical_name
from gateway.users.passwords import PasswordHash, PasswordRefusedError
from gateway.users.sealing import SealingError, ensure_key
from gateway.users.settings import UserBaseSettings
from gateway.users.store import read_text


class UserFile:
    """The user file, for an administrator's commands. Every method reads it anew.

    All methods raise :class:`UserFileError`, whose text an administrator can be shown.
    """

    def __init__(
        self, settings: UserBaseSettings, random: Callable[[int], bytes] = os.urandom
    ) -> None:
        self._settings = settings
        self._random = random

    def list(self) -> tuple[UserEntry, ...]:
        """All users, in the order of the file."""
        with self._named():
            return tuple(parse(read_text(self._settings)).values())

    def add_user(
        self,
        name: str,
        password: str,
        *,
        groups: Iterable[str] = (),
        nt_hash: bytes | None = None,
        enabled: bool = True,
    ) -> UserEntry:
        """Add a user.

        ``nt_hash`` only where MSCHAPv2 is used: 16 octets, the MD4 of what
        :func:`gateway.users.passwords.canonical_password` makes of the same password.
        """
        with self._named():
            name = canonical_name(name)
            entry = UserEntry(name, _groups(groups), enabled)
            entry = self._with_password(entry, password, nt_hash)

            def add(text: str) -> str:
                if name in parse(text):
                    raise UserFileError(f"there is a user {name} already; set its password instead")
                return with_user(text, entry)

            self._edit(add)
            return entry

    def set_password(self, name: str, password: str, *, nt_hash: bytes | None = None) -> UserEntry:
        """Replace the password.

        A stored NT hash is of the old password: it is replaced by ``nt_hash`` or removed.
        """
        with self._named():
            made = self._with_password(UserEntry(canonical_name(name)), password, nt_hash)
            return self._change(
                name, lambda old: replace(old, password=made.password, nt_hash=made.nt_hash)
            )

    def set_groups(self, name: str, groups: Iterable[str]) -> UserEntry:
        """Replace the groups."""
        with self._named():
            wanted = _groups(groups)
            return self._change(name, lambda old: replace(old, groups=wanted))

    def set_enabled(self, name: str, *, enabled: bool) -> UserEntry:
        """Let the user log in, or no more."""
        with self._named():
            return self._change(name, lambda old: replace(old, enabled=enabled))

    def remove_user(self, name: str) -> None:
        """Remove a user with everything that proves it."""
        with self._named():
            name = canonical_name(name)

            def remove(text: str) -> str:
                _known(text, name)
                return without_user(text, name)

            self._edit(remove)

    def _with_password(self, entry: UserEntry, password: str, nt_hash: bytes | None) -> UserEntry:
        hashed = PasswordHash.of(password, self._settings.cost, self._random)
        sealed = None
        if nt_hash is not None:
            sealing = ensure_key(self._settings.key_path, self._random)
            sealed = sealing.seal(entry.name, nt_hash, self._random)
        return replace(entry, password=hashed, nt_hash=sealed)

    def _change(self, name: str, change: Callable[[UserEntry], UserEntry]) -> UserEntry:
        name = canonical_name(name)
        changed: list[UserEntry] = []

        def edit(text: str) -> str:
            changed.append(change(_known(text, name)))
            return with_user(text, changed[0])

        self._edit(edit)
        return changed[0]

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except (NameRefusedError, PasswordRefusedError, SealingError) as error:
            raise UserFileError(str(error)) from None
        except UserFileError as error:
            raise UserFileError(f"{self._settings.path}: {error}") from None
        except OSError as error:
            raise UserFileError(f"{self._settings.path}: {error.strerror}") from None

    def _edit(self, change: Callable[[str], str]) -> None:
        """Replace the file behind any link; our own tools wait for one another."""
        path = self._settings.path.resolve()
        if not path.parent.is_dir():
            raise UserFileError(f"there is no folder {path.parent}; create it")
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            before = _stat(path)
            text = change(read_text(self._settings))
            self._replace(path, text, before)
            os.fsync(folder)
        finally:
            os.close(folder)

    def _replace(self, path: Path, text: str, before: os.stat_result | None) -> None:
        new = path.with_name(f".{path.name}.{self._random(8).hex()}")
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                if before is not None:
                    made = os.fstat(file.fileno())
                    if (made.st_uid, made.st_gid) != (before.st_uid, before.st_gid):
                        os.fchown(file.fileno(), before.st_uid, before.st_gid)
                    os.fchmod(file.fileno(), stat.S_IMODE(before.st_mode))
                file.write(text.encode())
                file.flush()
                os.fsync(file.fileno())
            now = _stat(path)
            if _version(now) != _version(before):
                raise UserFileError("was changed by somebody else meanwhile; try again")
            new.replace(path)
        finally:
            with contextlib.suppress(OSError):
                new.unlink()


def _groups(groups: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(canonical_name(group, "group name") for group in groups))


def _known(text: str, name: str) -> UserEntry:
    found = parse(text).get(name)
    if found is None:
        raise UserFileError(f"there is no user {name}; see: gateway users list")
    return found


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _version(found: os.stat_result | None) -> tuple[int, int, int] | None:
    return None if found is None else (found.st_ino, found.st_mtime_ns, found.st_size)
