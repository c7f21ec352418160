"""The token in a file that only root (or the gateway's own user) can read: an administrator's."""

import contextlib
import hashlib
import hmac
import os
import secrets
import stat
from dataclasses import replace
from pathlib import Path

from gateway.control.actor import NOBODY, Actor
from gateway.control.protocol import ControlError, ErrorCode, Role

MIN_CHARACTERS = 16
MAX_OCTETS = 4096
PREFIX = "gw_"


class TokenFileError(Exception):
    """The token file cannot be used. Its text names the file and the remedy."""


def ensure_token(path: Path) -> bool:
    """Write a new token to ``path`` (mode 0600) unless there is one.

    Returns whether it was written. Raises :class:`TokenFileError`.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except FileExistsError:
        return False
    except OSError as error:
        raise TokenFileError(f"cannot write the API token file {path}: {error.strerror}") from error
    try:
        os.write(descriptor, (PREFIX + secrets.token_urlsafe(32)).encode() + b"\n")
    except OSError as error:
        with contextlib.suppress(OSError):
            path.unlink()
        raise TokenFileError(f"cannot write the API token file {path}: {error.strerror}") from error
    finally:
        os.close(descriptor)
    return True


class TokenFile:
    """Compares credentials with the file's. The file may be replaced while we run."""

    def __init__(self, path: Path) -> None:
        """Raises :class:`TokenFileError`."""
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._digest = b""
        self.refresh()

    def __repr__(self) -> str:
        return f"TokenFile({str(self._path)!r})"

    def has(self, digest: bytes) -> bool:
        """Whether this is the SHA-256 of the token, in constant time."""
        return hmac.compare_digest(self._digest, digest)

    def authenticate(self, credential: str, remote: str) -> Actor:
        """Who shows this, where only the file is known; raises :class:`ControlError`."""
        if not credential:
            return replace(NOBODY, remote=remote)
        if self.has(hashlib.sha256(credential.encode("utf-8", "surrogatepass")).digest()):
            return self.actor(remote)
        raise ControlError(ErrorCode.UNAUTHENTICATED, "the token is not valid")

    @staticmethod
    def actor(remote: str) -> Actor:
        """Who shows this token."""
        return Actor("token-file", Role.ADMINISTRATOR, remote, "file")

    def refresh(self) -> None:
        """Read the file again if it has changed.

        Raises :class:`TokenFileError`; the token that was read before then stays.
        """
        try:
            found = self._path.stat()
            seen = (found.st_ino, found.st_mtime_ns, found.st_size)
            if seen == self._seen:
                return
            with self._path.open("rb") as file:
                token = file.read(MAX_OCTETS + 1).strip()
        except OSError as error:
            raise TokenFileError(
                f"cannot read the API token file {self._path}: {error.strerror}; it must be"
                " readable by the gateway's user"
            ) from error
        if stat.S_IMODE(found.st_mode) & 0o007:
            raise TokenFileError(
                f"everybody can read the API token file {self._path}: chmod 600 it"
            )
        if not MIN_CHARACTERS <= len(token) <= MAX_OCTETS:
            raise TokenFileError(
                f"the API token file {self._path} must hold {MIN_CHARACTERS} to {MAX_OCTETS}"
                " characters; remove it and a new token is made at the next start"
            )
        self._digest, self._seen = hashlib.sha256(token).digest(), seen
