"""Secrets at rest: AES-256-GCM with a key that lies outside the database.

What is sealed is bound to its place by a context (``object/users/anna``): moved elsewhere, it does
not open. Each message has a key of its own, HMAC-SHA-256 of the file's key over 16 random octets,
so that no number of messages wears a key out (SP 800-38D, 8.3, allows 2^32 with random nonces).

Shape: version 1 (one octet), salt (16), nonce (12), ciphertext, tag (16).
"""

import hashlib
import hmac
import os
import secrets
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.store.errors import SealError, UnavailableError, WrongKeyError

KEY_OCTETS: Final = 32
OVERHEAD_OCTETS: Final = 1 + 16 + 12 + 16
_VERSION: Final = b"\x01"
_SALT: Final = 16
_NONCE: Final = 12
_HEAD: Final = 1 + _SALT + _NONCE
_LABEL: Final = b"gateway store sealing 1\0"


class Sealer:
    """Seals and opens with one key."""

    def __init__(self, key: bytes, *, random: Callable[[int], bytes] = os.urandom) -> None:
        if len(key) != KEY_OCTETS:
            raise WrongKeyError(f"a key of {len(key)} octets; it has {KEY_OCTETS}")
        self._key = key
        self._random = random

    def seal(self, context: str, plain: bytes) -> bytes:
        """``plain`` for this place only; :data:`OVERHEAD_OCTETS` longer."""
        salt, nonce = self._random(_SALT), self._random(_NONCE)
        sealed = self._cipher(salt).encrypt(nonce, plain, context.encode())
        return b"".join((_VERSION, salt, nonce, sealed))

    def open(self, context: str, sealed: bytes) -> bytes:
        """What was sealed for this place. Raises :class:`SealError`."""
        if len(sealed) < OVERHEAD_OCTETS or sealed[:1] != _VERSION:
            raise SealError(f"what is kept for {context} is not sealed as this version does it")
        salt, nonce = sealed[1 : 1 + _SALT], sealed[1 + _SALT : _HEAD]
        try:
            return self._cipher(salt).decrypt(nonce, sealed[_HEAD:], context.encode())
        except InvalidTag:
            raise SealError(
                f"what is kept for {context} does not open: it was changed, or sealed elsewhere"
            ) from None

    def _cipher(self, salt: bytes) -> AESGCM:
        return AESGCM(hmac.digest(self._key, _LABEL + salt, "sha256"))


def passphrase_sealer(passphrase: str, salt: bytes) -> Sealer:
    """A sealer whose key is made of a passphrase (scrypt, N=2^15, r=8, p=1: 32 MB, 0.1 s)."""
    key = hashlib.scrypt(
        passphrase.encode(), salt=salt, n=1 << 15, r=8, p=1, maxmem=1 << 26, dklen=KEY_OCTETS
    )
    return Sealer(key)


def read_key(file: Path) -> bytes | None:
    """The key in ``file``, None when there is no such file.

    Raises :class:`WrongKeyError` when it holds no key or others may read it, and
    :class:`UnavailableError` when it cannot be read.
    """
    try:
        with file.open("rb") as opened:
            mode = os.fstat(opened.fileno()).st_mode
            text = opened.read(2 * KEY_OCTETS + 3)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UnavailableError(f"store.key_file: {file} cannot be read ({error})") from error
    if not stat.S_ISREG(mode) or mode & 0o077:
        raise WrongKeyError(
            f"store.key_file: others may read {file} (mode {stat.S_IMODE(mode):04o});"
            f" say: chmod 600 {file}"
        )
    try:
        key = bytes.fromhex(text.decode("ascii").strip())
    except ValueError:
        key = b""
    if len(key) != KEY_OCTETS:
        raise WrongKeyError(
            f"store.key_file: {file} holds no key; a key is {2 * KEY_OCTETS} hexadecimal digits."
            " Restore the file from your backup"
        )
    return key


def make_key(file: Path) -> bytes:
    """A new key, written before it is used; of two that make one at once, the first one's counts.

    Raises :class:`UnavailableError`.
    """
    key = secrets.token_bytes(KEY_OCTETS)
    new = file.with_name(f".{file.name}.{secrets.token_hex(8)}")
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as opened:
                opened.write(key.hex().encode() + b"\n")
                opened.flush()
                os.fsync(opened.fileno())
            with suppress(FileExistsError):
                os.link(new, file)
        finally:
            new.unlink(missing_ok=True)
        sync_folder(file.parent)
    except OSError as error:
        raise UnavailableError(f"store.key_file: {file} cannot be written ({error})") from error
    there = read_key(file)
    if there is None:
        raise UnavailableError(f"store.key_file: {file} vanished while it was made")
    return there


def sync_folder(folder: Path) -> None:
    """A file that was made or renamed in it is there after a power cut. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
