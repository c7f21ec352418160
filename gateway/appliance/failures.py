"""Why logins and registrations failed: a record for every kind of failure, the newest first.

Fed by the engines' events, also by those that the log leaves out. Equal failures of one address
are one record with a count, and whoever causes many different ones pushes out only its own.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import ip_address

from gateway.appliance.remedies import remedy_of_login
from gateway.ike.outputs import Event

MAX_FAILURES = 1000
MAX_OF_ADDRESS = 50
MAX_TEXT = 2000
"""Characters of one field: a peer's proposals can be long."""
_ABANDONED = "handshake_abandoned"
_NAMES = frozenset({"handshake_failed", _ABANDONED})
_ABANDONED_REMEDY = (
    "if the device says that the gateway does not answer: check that UDP port 4500 and IP fragments"
    " pass between them; otherwise it gave up, or was a scanner"
)
_DENIALS = {"registration_denied": "home_agent", "visitor_denied": "foreign_agent"}
"""Events of denied registrations, and the field that names the agent."""
_NEWEST = 0xFFFFFFFFFFFF

_Key = tuple[str, str, str, str, str]


@dataclass(slots=True)
class Failure:
    """A failed login, or as many as failed in the same way."""

    id: str
    sequence: int
    """Of the last time; the larger, the newer."""
    first_at: datetime
    last_at: datetime
    count: int
    remote: str
    """Address and port of the last time."""
    peer: str
    connection: str
    step: str
    reason: str
    theirs: str
    ours: str
    remedy: str

    code: int = 0
    """Of a registration's reply."""

    @property
    def cursor(self) -> str:
        """Sorts the newest first."""
        return f"{_NEWEST - self.sequence:012x}"

    def view(self) -> dict[str, object]:
        """As :class:`gateway.api.models.IkeFailure` describes it."""
        return {
            "id": self.id,
            "first_at": self.first_at.isoformat(timespec="milliseconds"),
            "last_at": self.last_at.isoformat(timespec="milliseconds"),
            "count": self.count,
            "remote": self.remote,
            "peer": self.peer,
            "connection": self.connection or None,
            "step": self.step,
            "reason": self.reason,
            "theirs": self.theirs or None,
            "ours": self.ours or None,
            "remedy": remedy_of_login(self.step, self.reason, self.remedy),
        }


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Records:
    """Failures of one sort, bounded in number and for each address."""

    def __init__(self, wall_clock: Callable[[], datetime] = _utc_now) -> None:
        self._wall_clock = wall_clock
        self._found: OrderedDict[_Key, Failure] = OrderedDict()
        """The newest last."""
        self._of_address: dict[str, OrderedDict[_Key, None]] = {}
        self._sequence = 0
        self.total = 0
        """How many since the start."""

    def __len__(self) -> int:
        return len(self._found)

    def record(self, fields: dict[str, str], code: int = 0) -> None:
        """Note a failure; ``fields`` are named as those of :class:`Failure`."""
        remote = fields.get("remote", "")
        address = remote.rpartition(":")[0] or remote
        key = (
            address,
            fields.get("peer", ""),
            fields.get("connection", ""),
            fields.get("step", ""),
            fields.get("reason", ""),
        )
        self.total += 1
        self._sequence += 1
        now = self._wall_clock()
        known = self._found.pop(key, None)
        if known is None:
            self._make_room(address)
            known = Failure(
                id=f"{self._sequence:08x}",
                sequence=0,
                first_at=now,
                last_at=now,
                count=0,
                remote=remote,
                peer=key[1],
                connection=key[2],
                step=key[3],
                reason=key[4],
                theirs="",
                ours="",
                remedy="",
            )
        known.sequence, known.last_at, known.remote = self._sequence, now, remote
        known.count += 1
        known.theirs, known.ours = fields.get("theirs", ""), fields.get("ours", "")
        known.remedy, known.code = fields.get("remedy", ""), code
        self._found[key] = known
        of_address = self._of_address.setdefault(address, OrderedDict())
        of_address[key] = None
        of_address.move_to_end(key)

    def _make_room(self, address: str) -> None:
        mine = self._of_address.get(address)
        if mine is not None and len(mine) >= MAX_OF_ADDRESS:
            self._drop(next(iter(mine)))
        elif len(self._found) >= MAX_FAILURES:
            self._drop(next(iter(self._found)))

    def _drop(self, key: _Key) -> None:
        self._found.pop(key, None)
        of_address = self._of_address.get(key[0])
        if of_address is not None:
            of_address.pop(key, None)
            if not of_address:
                del self._of_address[key[0]]

    def find(
        self,
        *,
        who: str | None = None,
        remote: str | None = None,
        connection: str | None = None,
        within_s: int | None = None,
    ) -> Iterator[Failure]:
        """The records that fit, the newest first.

        ``who`` is part of the peer's name or of the reason, which names users, or an address;
        ``remote`` an address.
        """
        now = self._wall_clock()
        wanted = who.casefold() if who is not None else None
        for failure in reversed(self._found.values()):
            if within_s is not None and (now - failure.last_at).total_seconds() > within_s:
                return
            if connection is not None and failure.connection != connection:
                continue
            if remote is not None and not _is_at(failure.remote, remote):
                continue
            if wanted is not None and not (
                wanted in failure.peer.casefold()
                or wanted in failure.reason.casefold()
                or _is_at(failure.remote, wanted)
            ):
                continue
            yield failure


class Failures(Records):
    """Failed logins, and beside them denied registrations. Call it with every event."""

    def __init__(self, wall_clock: Callable[[], datetime] = _utc_now) -> None:
        super().__init__(wall_clock)
        self.registrations = Records(wall_clock)
        """Of mobile nodes; ``connection`` is the agent, ``step`` its kind."""

    def __call__(self, event: Event) -> None:
        """Record a failure; every other event is ignored."""
        if event.name in _DENIALS:
            self._registration(event)
        elif event.name in _NAMES:
            self._login(event)

    def _login(self, event: Event) -> None:
        fields = {name: str(value)[:MAX_TEXT] for name, value in event.fields.items()}
        if event.name == _ABANDONED:
            fields = {
                "remote": fields.get("remote", ""),
                "peer": "(unknown)",
                "step": "IKE_AUTH",
                "reason": event.text[:MAX_TEXT],
                "remedy": _ABANDONED_REMEDY,
            }
        self.record(fields)

    def _registration(self, event: Event) -> None:
        given = {name: str(value)[:MAX_TEXT] for name, value in event.fields.items()}
        kind = _DENIALS[event.name]
        code = event.fields.get("code")
        names = dict.fromkeys(given.get(one) for one in ("node", "nai", "home_address"))
        fields = {
            "remote": given.get("source") or given.get("home_address", ""),
            "peer": ", ".join(one for one in names if one and one != "0.0.0.0"),  # noqa: S104
            "connection": given.get(kind, ""),
            "step": kind,
            "reason": given.get("reason", ""),
            "remedy": given.get("hint", ""),
        }
        self.registrations.record(fields, code if isinstance(code, int) else 0)


def _is_at(remote: str, address: str) -> bool:
    host = remote.rpartition(":")[0].strip("[]") or remote
    try:
        return ip_address(host) == ip_address(address)
    except ValueError:
        return False
