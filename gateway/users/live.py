"""Users of the store in memory: they come, change and go while the gateway runs."""

from dataclasses import dataclass, field

from gateway.domain.user_auth import Accepted, LocalUser, Rejected
from gateway.users.names import NameRefusedError, canonical_name
from gateway.users.passwords import PasswordHash, decoy
from gateway.users.settings import ScryptCost


@dataclass(frozen=True, slots=True)
class LiveUser:
    """One of them."""

    name: str
    groups: tuple[str, ...] = ()
    enabled: bool = True
    password: PasswordHash | None = field(default=None, repr=False)
    nt_hash: bytes | None = field(default=None, repr=False)


class LiveUsers:
    """By name. Changes come from one thread; password checks run in others."""

    def __init__(self, cost: ScryptCost | None = None) -> None:
        """``cost`` of checks for users that do not exist."""
        self._users: dict[str, LiveUser] = {}
        self._decoy = decoy(cost or ScryptCost())

    def __len__(self) -> int:
        return len(self._users)

    def __contains__(self, name: str) -> bool:
        return self._lookup(name) is not None

    def put(self, user: LiveUser) -> None:
        """Add it, or put it in place of the one with its name."""
        self._users[user.name] = user

    def remove(self, name: str) -> None:
        """Forget it."""
        self._users.pop(name, None)

    def find(self, name: str) -> LocalUser | None:
        """An enabled user, or None."""
        user = self._lookup(name)
        if user is None or not user.enabled:
            return None
        return LocalUser(user.name, user.groups, user.nt_hash, user.password is not None)

    def verify(self, name: str, password: bytes) -> Accepted | Rejected:
        """Whether this is the password of an enabled user; slow, for every name alike."""
        user = self._lookup(name)
        stored = user.password if user is not None else None
        right = (stored or self._decoy).matches(password)
        if user is None:
            return Rejected("no such user in the local user base")
        if stored is None:
            return Rejected("no password is set for the user")
        if not right:
            return Rejected("wrong password")
        if not user.enabled:
            return Rejected("the user is disabled")
        return Accepted(user.name, user.groups)

    def _lookup(self, name: str) -> LiveUser | None:
        try:
            return self._users.get(canonical_name(name))
        except NameRefusedError:
            return None
