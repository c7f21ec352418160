"""One-way hashes of passwords: scrypt (RFC 7914) in the text form of password files.

``$scrypt$ln=14,r=8,p=1$SALT$HASH``: the cost, then salt and hash in base64 without padding.
"""

import base64
import binascii
import hashlib
import hmac
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field

from gateway.users.settings import ScryptCost

MAX_PASSWORD_OCTETS = 1024
SALT_OCTETS = 16
HASH_OCTETS = 32
_TEXT = re.compile(
    r"\$scrypt\$ln=([0-9]{1,2}),r=([0-9]{1,2}),p=([0-9]{1,2})"
    r"\$([A-Za-z0-9+/]{11,86})\$([A-Za-z0-9+/]{22,86})"
)


class PasswordRefusedError(ValueError):
    """Nobody can have such a password; the text says why, never what was given."""


def canonical_password(password: str) -> str:
    """The password in normalisation form C, so that every keyboard makes the same octets.

    Raises:
        PasswordRefusedError: empty, too long, or with control characters.
    """
    password = unicodedata.normalize("NFC", password)
    if not password:
        raise PasswordRefusedError("the password is empty; give one")
    if any(unicodedata.category(c) in ("Cc", "Cs") for c in password):
        raise PasswordRefusedError("the password has a control character; remove it")
    if len(password.encode()) > MAX_PASSWORD_OCTETS:
        raise PasswordRefusedError(f"the password is longer than {MAX_PASSWORD_OCTETS} octets")
    return password


def canonical_octets(password: bytes) -> bytes:
    """What came from the network, as :func:`canonical_password` would have made it."""
    if password.isascii():
        return password
    try:
        return unicodedata.normalize("NFC", password.decode()).encode()
    except UnicodeDecodeError:
        return password


@dataclass(frozen=True, slots=True)
class PasswordHash:
    """A stored password."""

    cost: ScryptCost
    salt: bytes = field(repr=False)
    digest: bytes = field(repr=False)

    @classmethod
    def of(cls, password: str, cost: ScryptCost, random: Callable[[int], bytes]) -> "PasswordHash":
        """Hash a password; slow on purpose. Raises :class:`PasswordRefusedError`."""
        octets = canonical_password(password).encode()
        salt = random(SALT_OCTETS)
        return cls(cost, salt, _scrypt(octets, salt, cost, HASH_OCTETS))

    @classmethod
    def parse(cls, text: str) -> "PasswordHash":
        """Read the text form. Raises ValueError, which says what is wrong, never the value."""
        found = _TEXT.fullmatch(text)
        if found is None:
            raise ValueError("is no password hash; set it with: gateway users password NAME")
        cost = ScryptCost(int(found[1]), int(found[2]), int(found[3]))
        return cls(cost, _unbase64(found[4]), _unbase64(found[5]))

    def __str__(self) -> str:
        """The text form, for the user file alone."""
        cost = f"ln={self.cost.log2_n},r={self.cost.r},p={self.cost.p}"
        return f"$scrypt${cost}${_base64(self.salt)}${_base64(self.digest)}"

    def matches(self, password: bytes) -> bool:
        """Whether this is the password; slow, and equally slow for every answer."""
        octets = canonical_octets(password)[: MAX_PASSWORD_OCTETS + 1]
        made = _scrypt(octets, self.salt, self.cost, len(self.digest))
        return hmac.compare_digest(made, self.digest) and 0 < len(octets) <= MAX_PASSWORD_OCTETS


def decoy(cost: ScryptCost) -> PasswordHash:
    """A hash that no password has, to spend as much time on users that do not exist."""
    return PasswordHash(cost, bytes(SALT_OCTETS), bytes(HASH_OCTETS))


def _scrypt(password: bytes, salt: bytes, cost: ScryptCost, size: int) -> bytes:
    limit = cost.memory_octets + 128 * cost.r * (cost.p + 2) + 1024 * 1024
    return hashlib.scrypt(
        password, salt=salt, n=1 << cost.log2_n, r=cost.r, p=cost.p, maxmem=limit, dklen=size
    )


def _base64(octets: bytes) -> str:
    return base64.b64encode(octets).rstrip(b"=").decode()


def _unbase64(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        raise ValueError("is a damaged password hash; set the password again") from None
