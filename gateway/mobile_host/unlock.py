"""Opening the profile's sealed secrets with the user's password, at a pace that guessing hates.

Scrypt takes a tenth of a second of a processor for each try; it runs beside the event loop, one
at a time, and wrong ones make the next wait.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from gateway.config.problem import ConfigError
from gateway.config.profile import Profile
from gateway.config.profile_sealing import Unlocked, WrongPasswordError
from gateway.config.to_node import NOTHING, is_locked, unlock
from gateway.control.protocol import ControlError, ErrorCode

FREE_TRIES: Final = 3
LONGEST_PAUSE_S: Final = 30.0


class Lock:
    """The secrets of one profile, in memory while it is unlocked."""

    def __init__(
        self,
        profile: Profile,
        clock: Callable[[], float],
        opener: Callable[[Profile, str], Unlocked] = unlock,
    ) -> None:
        self._profile = profile
        self._clock = clock
        self._opener = opener
        self._busy = asyncio.Lock()
        self._wrong = 0
        self._again_at = 0.0
        self.secrets: Unlocked = NOTHING

    @property
    def locked(self) -> bool:
        """Whether secrets wait for the password."""
        return is_locked(self._profile, self.secrets)

    def use(self, profile: Profile) -> None:
        """Another profile; secrets of another sealed file are forgotten."""
        if profile.sealed != self._profile.sealed:
            self.secrets = NOTHING
        self._profile = profile

    async def open(self, password: str) -> None:
        """Take the secrets out. Raises :class:`ControlError`, which says why not."""
        if self._profile.sealed is None:
            raise ControlError(ErrorCode.REFUSED, "the profile has no sealed secrets")
        async with self._busy:
            wait_s = self._again_at - self._clock()
            if wait_s > 0:
                text = f"too many wrong passwords: try again in {wait_s:.0f} s"
                raise ControlError(ErrorCode.BUSY, text)
            try:
                found = await asyncio.to_thread(self._opener, self._profile, password)
            except WrongPasswordError as error:
                self._wrong += 1
                over = max(0, self._wrong - FREE_TRIES)
                if over:
                    self._again_at = self._clock() + min(2.0**over, LONGEST_PAUSE_S)
                raise ControlError(ErrorCode.DENIED, str(error), "password") from None
            except ConfigError as error:
                text = "; ".join(str(one) for one in error.problems)
                raise ControlError(ErrorCode.REFUSED, text) from None
            self._wrong = 0
            self.secrets = found

    def close(self) -> None:
        """Forget the secrets."""
        if self._profile.sealed is None:
            text = "the profile has no sealed secrets: `gateway mn profile seal` makes them"
            raise ControlError(ErrorCode.REFUSED, text)
        self.secrets = NOTHING
