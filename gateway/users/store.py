"""The user base in memory, as logins use it."""

import stat
from collections import Counter
from collections.abc import Mapping

from gateway.domain.user_auth import Accepted, LocalUser, Rejected
from gateway.users.document import MAX_FILE_OCTETS, UserEntry, UserFileError, parse
from gateway.users.names import NameRefusedError, canonical_name
from gateway.users.passwords import decoy
from gateway.users.sealing import Sealing, SealingError, read_key
from gateway.users.settings import ScryptCost, UserBaseSettings


class UserBase:
    """Users by name. Never changes: a reload makes another one, and fails as a whole or not."""

    __slots__ = ("_decoy", "_sealing", "_users")

    def __init__(
        self,
        users: Mapping[str, UserEntry],
        sealing: Sealing | None = None,
        cost: ScryptCost | None = None,
    ) -> None:
        """Raises :class:`UserFileError` for a sealed value that does not open."""
        self._users = dict(users)
        self._sealing = sealing
        costs = Counter(user.password.cost for user in users.values() if user.password is not None)
        usual = costs.most_common(1)
        self._decoy = decoy(usual[0][0] if usual else cost or ScryptCost())
        for user in users.values():
            self._nt_hash(user)

    @classmethod
    def load(cls, settings: UserBaseSettings) -> "UserBase":
        """Read the files; a missing user file is a base without users.

        Raises:
            UserFileError: with the file's name, and the line and field that are wrong.
        """
        try:
            users = parse(read_text(settings))
            sealed = any(user.nt_hash is not None for user in users.values())
            sealing = read_key(settings.key_path) if sealed else None
            return cls(users, sealing, settings.cost)
        except SealingError as error:
            raise UserFileError(str(error)) from None
        except UserFileError as error:
            raise UserFileError(f"{settings.path}: {error}") from None

    def __len__(self) -> int:
        return len(self._users)

    def __repr__(self) -> str:
        return f"<UserBase of {len(self._users)} users>"

    def _nt_hash(self, user: UserEntry) -> bytes | None:
        if user.nt_hash is None:
            return None
        if self._sealing is None:
            raise UserFileError(
                f"user {user.name}, nt_hash: the key file is missing; restore it, or set the"
                " password again"
            )
        try:
            return self._sealing.open(user.name, user.nt_hash)
        except SealingError as error:
            raise UserFileError(f"user {user.name}, nt_hash: {error}") from None

    def _lookup(self, name: str) -> UserEntry | None:
        try:
            return self._users.get(canonical_name(name))
        except NameRefusedError:
            return None

    @property
    def entries(self) -> Mapping[str, UserEntry]:
        """All of them, by name."""
        return self._users

    def __contains__(self, name: str) -> bool:
        return self._lookup(name) is not None

    def find(self, name: str) -> LocalUser | None:
        """An enabled user, or None. Quick: no password is checked."""
        user = self._lookup(name)
        if user is None or not user.enabled:
            return None
        return LocalUser(user.name, user.groups, self._nt_hash(user), user.password is not None)

    def verify(self, name: str, password: bytes) -> Accepted | Rejected:
        """Whether this is the password of an enabled user.

        Slow on purpose (call it in a thread), and as slow for users that do not exist, are
        disabled or have no password.
        """
        user = self._lookup(name)
        stored = user.password if user is not None else None
        right = (stored or self._decoy).matches(password)
        if user is None:
            return Rejected("no such user in the local user base")
        if stored is None:
            return Rejected("only an NT hash is stored for the user: MSCHAPv2 alone works")
        if not right:
            return Rejected("wrong password")
        if not user.enabled:
            return Rejected("the user is disabled")
        return Accepted(user.name, user.groups)


def read_text(settings: UserBaseSettings) -> str:
    """The text of the user file, empty when there is none. Raises :class:`UserFileError`."""
    try:
        with settings.path.open("rb") as file:
            found = settings.path.stat()
            data = file.read(MAX_FILE_OCTETS + 1)
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise UserFileError(f"cannot be read: {error.strerror}") from None
    if stat.S_IMODE(found.st_mode) & 0o007:
        raise UserFileError("everybody may read or write the users' secrets; chmod 600 it")
    if len(data) > MAX_FILE_OCTETS:
        raise UserFileError(f"is larger than {MAX_FILE_OCTETS} octets")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserFileError(f"line {line}: is not UTF-8 text") from None
