"""The one-time code with which the first administrator is made in a browser.

Only its SHA-256 is stored. It has 100 random bits, ends after an hour, and is used up by the first
administrator made with it.
"""

import hashlib
import hmac
from collections.abc import Callable, Mapping

from gateway.control.protocol import ControlError, ErrorCode
from gateway.store.database import Store
from gateway.store.settings import SettingRepository

SETTING = "setup-code"
LIFE_S = 3600.0
_ALPHABET = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"
"""Nothing that looks like something else; 32 letters, so that an octet's lowest 5 bits choose."""
_GROUPS, _GROUP = 4, 5


class SetupCode:
    """Makes and takes the code."""

    def __init__(self, store: Callable[[], Store], random: Callable[[int], bytes]) -> None:
        self._store = store
        self._random = random

    async def make(self, now: float) -> tuple[str, float]:
        """A new code, in place of an older one, and when it ends."""
        letters = [_ALPHABET[octet & 31] for octet in self._random(_GROUPS * _GROUP)]
        code = "-".join("".join(letters[at : at + _GROUP]) for at in range(0, len(letters), _GROUP))
        value = {"hash": _digest(code).hex(), "expires_at": now + LIFE_S}
        await self._store().run(lambda c: SettingRepository(c).put(SETTING, value))
        return code, now + LIFE_S

    async def check(self, code: str, now: float) -> None:
        """Raises :class:`ControlError` unless it is the code."""
        if not _fits(
            await self._store().run(lambda c: SettingRepository(c).get(SETTING)), code, now
        ):
            raise _wrong()

    async def take(self, code: str, now: float) -> None:
        """Use it up: of two who bring it at once, one gets it. Raises as :meth:`check`."""
        kept = await self._store().run(lambda c: SettingRepository(c).take(SETTING))
        if not _fits(kept, code, now):
            raise _wrong()


def _fits(kept: object, code: str, now: float) -> bool:
    if not isinstance(kept, Mapping):
        return False
    digest, expires_at = kept.get("hash"), kept.get("expires_at")
    if not isinstance(digest, str) or not isinstance(expires_at, int | float):
        return False
    return hmac.compare_digest(digest, _digest(code).hex()) and now < expires_at


def _digest(code: str) -> bytes:
    plain = "".join(code.upper().replace("-", "").split())
    return hashlib.sha256(plain.encode("utf-8", "replace")).digest()


def _wrong() -> ControlError:
    return ControlError(
        ErrorCode.UNAUTHENTICATED,
        "code: not the setup code, or it was used or has ended; make one with `gateway admin code`",
        "code",
    )
