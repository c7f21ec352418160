"""Secrets of a profile under its user's password: scrypt (RFC 7914), then AES-256-GCM.

One line, ``$mn-sealed-1$ln=15,r=8,p=1$SALT$SEALED``: the cost, the salt, and nonce with
ciphertext, both in base64. The plaintext is JSON, secrets by the key of the profile that they stand
for. Whoever has the file alone can only try passwords, each at the cost of 32 MB and a tenth of a
second.
"""

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.config.credential_files import FileRefusedError, read_file
from gateway.users.passwords import canonical_password
from gateway.users.settings import ScryptCost

MAX_SEALED_OCTETS = 128 * 1024
SEALED_KEYS = (
    "login.psk",
    "login.password",
    "login.private_key",
    "login.ppk",
    "inside.key",
    "outside.key",
)
"""What may be in it, by the key of the profile; ``login.private_key`` is the PEM itself."""
DEFAULT_COST = ScryptCost(15)
_SALT_OCTETS = 16
_NONCE_OCTETS = 12
_CONTEXT = b"gateway mn sealed 1\0"
_TEXT = re.compile(
    r"\$mn-sealed-1\$ln=([0-9]{1,2}),r=([0-9]{1,2}),p=([0-9]{1,2})"
    r"\$([A-Za-z0-9+/]{22}==)\$([A-Za-z0-9+/]{40,}={0,2})"
)
_REMEDY = "seal the profile again: gateway mn profile seal FILE"


class WrongPasswordError(Exception):
    """The password does not open the sealed secrets."""

    def __init__(self) -> None:
        super().__init__("the password is wrong; try again")


@dataclass(frozen=True, slots=True)
class Unlocked:
    """What a password opened. Lives in memory only."""

    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)

    def get(self, key: str) -> str | None:
        """The secret that stands for a key of the profile."""
        return self.secrets.get(key)


NOTHING = Unlocked()


@dataclass(frozen=True, slots=True)
class Sealed:
    """A sealed file, taken apart."""

    cost: ScryptCost
    salt: bytes
    box: bytes = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> "Sealed":
        """Read the line. Raises ValueError, which says what is wrong."""
        found = _TEXT.fullmatch(text.strip())
        if found is None:
            raise ValueError(f"holds no sealed secrets; {_REMEDY}")
        try:
            cost = ScryptCost(int(found[1]), int(found[2]), int(found[3]))
            salt, box = (base64.b64decode(found[n], validate=True) for n in (4, 5))
        except (ValueError, binascii.Error) as error:
            raise ValueError(f"is damaged ({error}); {_REMEDY}") from None
        return cls(cost, salt, box)

    @classmethod
    def of(
        cls,
        secrets: Mapping[str, str],
        password: str,
        random: Callable[[int], bytes],
        cost: ScryptCost = DEFAULT_COST,
    ) -> "Sealed":
        """Seal secrets; slow on purpose.

        Raises PasswordRefusedError (a ValueError), and ValueError for a key not of SEALED_KEYS.
        """
        unknown = sorted(set(secrets) - set(SEALED_KEYS))
        if unknown:
            raise ValueError(f"{unknown[0]} is not among the secrets of a profile")
        salt, nonce = random(_SALT_OCTETS), random(_NONCE_OCTETS)
        plain = json.dumps(dict(secrets), sort_keys=True).encode()
        box = nonce + AESGCM(_key(password, salt, cost)).encrypt(nonce, plain, _bound(cost))
        return cls(cost, salt, box)

    def __str__(self) -> str:
        cost = f"ln={self.cost.log2_n},r={self.cost.r},p={self.cost.p}"
        salt, box = (base64.b64encode(octets).decode() for octets in (self.salt, self.box))
        return f"$mn-sealed-1${cost}${salt}${box}"

    def open(self, password: str) -> Unlocked:
        """The secrets; slow on purpose. Raises :class:`WrongPasswordError`."""
        try:
            cipher = AESGCM(_key(password, self.salt, self.cost))
        except ValueError:  # no password that anybody can have
            raise WrongPasswordError from None
        nonce, box = self.box[:_NONCE_OCTETS], self.box[_NONCE_OCTETS:]
        try:
            found = json.loads(cipher.decrypt(nonce, box, _bound(self.cost)))
        except (InvalidTag, ValueError):
            raise WrongPasswordError from None
        return Unlocked({key: str(found[key]) for key in SEALED_KEYS if key in found})


def _bound(cost: ScryptCost) -> bytes:
    return _CONTEXT + f"{cost.log2_n},{cost.r},{cost.p}".encode()


def _key(password: str, salt: bytes, cost: ScryptCost) -> bytes:
    return hashlib.scrypt(
        canonical_password(password).encode(),
        salt=salt,
        n=1 << cost.log2_n,
        r=cost.r,
        p=cost.p,
        maxmem=2 * cost.memory_octets + (1 << 20),
        dklen=32,
    )


def read_sealed(path: Path) -> Sealed:
    """The sealed file. Raises :class:`FileRefusedError`, which says why not."""
    try:
        return Sealed.parse(read_file(path, MAX_SEALED_OCTETS).decode())
    except ValueError as error:  # UnicodeDecodeError as well
        why = f"is no text; {_REMEDY}" if isinstance(error, UnicodeDecodeError) else str(error)
        raise FileRefusedError(why) from None
