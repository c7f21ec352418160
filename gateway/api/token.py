"""The API's bearer token: a file that only the API's user (and root) can read."""

import contextlib
import hmac
import os
import secrets
import stat
from pathlib import Path

MIN_CHARACTERS = 16
MAX_OCTETS = 4096


class TokenError(Exception):
    """The token file cannot be used. Its text names the file and the remedy."""


def ensure_token(path: Path, uid: int | None = None) -> bool:
    """Write a new token to ``path`` (mode 0600, owned by ``uid``) unless there is one.

    Returns whether it was written. Raises :class:`TokenError`.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except FileExistsError:
        return False
    except OSError as error:
        raise TokenError(f"cannot write the API token file {path}: {error.strerror}") from error
    try:
        os.write(descriptor, secrets.token_urlsafe(32).encode() + b"\n")
        if uid is not None and uid != os.geteuid():
            os.fchown(descriptor, uid, -1)
    except OSError as error:
        with contextlib.suppress(OSError):
            path.unlink()
        raise TokenError(f"cannot write the API token file {path}: {error.strerror}") from error
    finally:
        os.close(descriptor)
    return True


class BearerToken:
    """Compares tokens with the file's; the file may be replaced while we run."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._token = b""
        self._refresh()

    def __repr__(self) -> str:
        return f"BearerToken({str(self._path)!r})"

    def matches(self, presented: str) -> bool:
        """Whether this is the token, in constant time. A file that went bad matches nothing."""
        try:
            self._refresh()
        except TokenError:
            return False
        return hmac.compare_digest(self._token, presented.encode("utf-8", "surrogatepass"))

    def _refresh(self) -> None:
        try:
            found = self._path.stat()
            seen = (found.st_ino, found.st_mtime_ns, found.st_size)
            if seen == self._seen:
                return
            with self._path.open("rb") as file:
                token = file.read(MAX_OCTETS + 1).strip()
        except OSError as error:
            raise TokenError(
                f"cannot read the API token file {self._path}: {error.strerror}; it must be"
                " readable by the API's user"
            ) from error
        if stat.S_IMODE(found.st_mode) & 0o007:
            raise TokenError(f"everybody can read the API token file {self._path}: chmod 600 it")
        if not MIN_CHARACTERS <= len(token) <= MAX_OCTETS:
            raise TokenError(
                f"the API token file {self._path} must hold {MIN_CHARACTERS} to {MAX_OCTETS}"
                " characters; remove it and a new token is made at the next start"
            )
        self._token, self._seen = token, seen
