"""NT hashes at rest: AES-256-GCM under a key outside the user file, bound to the user's name.

MSCHAPv2 needs the MD4 of the password itself, which is as good as the password. Whoever has the
user file alone (a backup, a copy) gets nothing; and a sealed value of one user is void for another.
"""

import base64
import binascii
import contextlib
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_OCTETS = 32
NONCE_OCTETS = 12
NT_HASH_OCTETS = 16
_TAG_OCTETS = 16
_TEXT = re.compile(r"\$aes256gcm\$([A-Za-z0-9+/]{58,60}={0,2})")
_CONTEXT = b"gateway nt-hash 1\0"


class SealingError(Exception):
    """The key file or a sealed value cannot be used; the text names the remedy."""


class Sealing:
    """Seals and opens NT hashes with one key."""

    __slots__ = ("_cipher",)

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_OCTETS:
            raise SealingError(f"the key has {len(key)} octets instead of {KEY_OCTETS}")
        self._cipher = AESGCM(key)

    def seal(self, user: str, nt_hash: bytes, random: Callable[[int], bytes]) -> str:
        """The text for the user file. Raises ValueError for another length than 16 octets."""
        if len(nt_hash) != NT_HASH_OCTETS:
            raise ValueError(f"an NT hash has {NT_HASH_OCTETS} octets, not {len(nt_hash)}")
        nonce = random(NONCE_OCTETS)
        sealed = nonce + self._cipher.encrypt(nonce, nt_hash, _CONTEXT + user.encode())
        return "$aes256gcm$" + base64.b64encode(sealed).decode()

    def open(self, user: str, text: str) -> bytes:
        """The 16 octets. Raises :class:`SealingError` when it is not this user's under our key."""
        found = _TEXT.fullmatch(text)
        try:
            sealed = base64.b64decode(found[1], validate=True) if found is not None else b""
        except binascii.Error:
            sealed = b""
        if len(sealed) != NONCE_OCTETS + NT_HASH_OCTETS + _TAG_OCTETS:
            raise SealingError("is no sealed NT hash; set the password again")
        nonce, rest = sealed[:NONCE_OCTETS], sealed[NONCE_OCTETS:]
        try:
            return self._cipher.decrypt(nonce, rest, _CONTEXT + user.encode())
        except InvalidTag:
            raise SealingError(
                "was sealed for another user or with another key; restore the key file, or set"
                " the password again"
            ) from None


def read_key(path: Path) -> Sealing | None:
    """The key of a file, or None when there is none. Raises :class:`SealingError`."""
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            text = file.read(256).strip()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SealingError(f"{path}: cannot be read: {error.strerror}") from None
    if mode & 0o077:
        raise SealingError(f"{path}: others may read the key; chmod 600 it")
    try:
        return Sealing(binascii.unhexlify(text))
    except (binascii.Error, ValueError):
        raise SealingError(f"{path}: holds no key of {KEY_OCTETS} octets in hex") from None


def ensure_key(path: Path, random: Callable[[int], bytes]) -> Sealing:
    """The key of the file, which is made (mode 0600) when missing. Raises :class:`SealingError`.

    The file appears complete or not at all: who loses the race to make it reads the winner's.
    """
    found = read_key(path)
    if found is not None:
        return found
    new = path.with_name(f".{path.name}.{random(8).hex()}")
    try:
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            os.fchmod(descriptor, 0o600)
            os.write(descriptor, random(KEY_OCTETS).hex().encode() + b"\n")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        with contextlib.suppress(FileExistsError):
            os.link(new, path)
        _sync(path.parent)  # before anything is sealed with it
    except OSError as error:
        raise SealingError(f"{path}: cannot be written: {error.strerror}") from None
    finally:
        with contextlib.suppress(OSError):
            new.unlink()
    made = read_key(path)
    if made is None:
        raise SealingError(f"{path}: vanished while it was made")
    return made


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
