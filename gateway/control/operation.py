"""One operation of a control socket: its name, its arguments and what they may be."""

import enum
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

MAX_PAGE = 200
DEFAULT_PAGE = 100


class Role(enum.IntEnum):
    """What a client may do; each role includes the ones below it."""

    NOBODY = 0
    """The API process by itself: only what needs no login. With each request it shows the
    credential of the one who asks, and that one's role counts."""
    READ_ONLY = 1
    """Look at everything but secrets."""
    OPERATOR = 2
    """Also disconnect, block, capture, test: what can be undone."""
    ADMINISTRATOR = 3
    """Everything: root, the gateway's own user and those that the configuration names."""

    @property
    def words(self) -> str:
        """The name that people read and tokens are made with."""
        return "admin" if self is Role.ADMINISTRATOR else self.name.lower().replace("_", "-")

    @classmethod
    def named(cls, words: str) -> "Role":
        """The role of a name: admin, operator or read-only. Raises KeyError for another one."""
        return ROLES[words]


ROLES: Final[Mapping[str, Role]] = {
    role.words: role for role in (Role.ADMINISTRATOR, Role.OPERATOR, Role.READ_ONLY)
}
"""The roles that somebody can be given."""


class ErrorCode(enum.StrEnum):
    """Why an operation was not carried out."""

    INVALID = "invalid"
    """The request is malformed; ``field`` names the part."""
    UNKNOWN_OPERATION = "unknown-operation"
    DENIED = "denied"
    NOT_FOUND = "not-found"
    REFUSED = "refused"
    """The gateway understood and will not; the message says why."""
    BUSY = "busy"
    INTERNAL = "internal"
    UNAUTHENTICATED = "unauthenticated"
    """Nobody in particular asks, or with a credential that is not, or no longer, valid."""
    TOO_MANY = "too-many"
    """Ask again after ``retry_after_s``."""
    STALE = "stale"
    """The object has another version by now than the one that was named."""


@dataclass(frozen=True, slots=True)
class FieldError:
    """One of several things that are wrong with a request."""

    message: str
    field: str | None = None


class ControlError(Exception):
    """An operation failed; its text is meant for an administrator.

    ``errors`` are the single faults where there are several; ``retry_after_s`` says when it makes
    sense to ask again.
    """

    def __init__(
        self,
        code: ErrorCode | str,
        message: str,
        field: str | None = None,
        *,
        errors: Sequence[FieldError] = (),
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.field = field
        self.errors = tuple(errors)
        self.retry_after_s = retry_after_s


Document = dict[str, object]
Value = str | int | bool | Document


_WORDS: Mapping[str, str] = {
    "str": "a text",
    "int": "an integer",
    "bool": "true or false",
    "dict": "an object",
}


@dataclass(frozen=True, slots=True)
class Parameter:
    """One argument of an operation."""

    name: str
    kind: type[str] | type[int] | type[bool] | type[dict[str, object]]
    required: bool = False
    default: Value | None = None
    minimum: int = 0
    maximum: int = 0
    """Largest integer, longest text, or most octets of a document as JSON."""
    pattern: re.Pattern[str] | None = None
    allowed: str = ""
    """What is allowed, in words, when a pattern decides."""
    secret: bool = False
    """The value is never repeated, whatever is wrong with it."""

    def check(self, value: object) -> Value:
        """The value, or :class:`ControlError` that names the field and what is allowed."""
        if type(value) is not self.kind:
            raise self._invalid(value)
        if isinstance(value, str):
            if len(value) > self.maximum:
                raise self._wrong(f"{len(value)} characters, at most {self.maximum} are allowed")
            if self.pattern is not None and not self.pattern.fullmatch(value):
                raise self._wrong(f"{self._shown(value)}: {self.allowed}")
            return value
        if isinstance(value, bool):
            return value
        if isinstance(value, dict):
            octets = len(json.dumps(value))
            if octets > self.maximum:
                raise self._wrong(f"{octets} octets, at most {self.maximum} are allowed")
            return value
        if isinstance(value, int) and self.minimum <= value <= self.maximum:
            return value
        raise self._wrong(f"{self._shown(value)}: {self.minimum} to {self.maximum} is allowed")

    def _invalid(self, value: object) -> ControlError:
        return self._wrong(f"{self._shown(value)}: must be {_WORDS[self.kind.__name__]}")

    def _shown(self, value: object) -> str:
        return "(hidden)" if self.secret else shorten(value)

    def _wrong(self, why: str) -> ControlError:
        return ControlError(ErrorCode.INVALID, f"{self.name} = {why}", self.name)


def shorten(value: object) -> str:
    """A value that a client gave, short and on one line."""
    try:
        text = json.dumps(value)
    except (TypeError, ValueError):
        text = type(value).__name__
    return text if len(text) <= 80 else text[:77] + "..."


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing that a client can ask for."""

    name: str
    purpose: str
    parameters: tuple[Parameter, ...] = ()
    role: Role = Role.READ_ONLY
    changes: bool = False
    """Whether it changes anything: then the audit has it, and it takes an idempotency key."""

    def check(self, arguments: object) -> dict[str, Value]:
        """The arguments with defaults filled in; raises :class:`ControlError`."""
        if arguments is None:
            arguments = {}
        if not isinstance(arguments, dict):
            raise ControlError(ErrorCode.INVALID, "args: must be an object", "args")
        known = {parameter.name: parameter for parameter in self.parameters}
        for name in arguments:
            if name not in known:
                allowed = ", ".join(known) or "no argument"
                raise ControlError(
                    ErrorCode.INVALID,
                    f"args.{shorten(name)}: unknown for {self.name}, which takes {allowed}",
                    str(name)[:80],
                )
        checked: dict[str, Value] = {}
        for parameter in self.parameters:
            value = arguments.get(parameter.name, parameter.default)
            if value is None:
                if parameter.required:
                    raise ControlError(
                        ErrorCode.INVALID, f"{parameter.name}: is missing", parameter.name
                    )
                continue
            checked[parameter.name] = parameter.check(value)
        return checked


NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
TEXT = re.compile(r"[^\x00-\x1f\x7f]{1,253}")
ADDRESS = re.compile(r"[0-9A-Fa-f:.]{2,45}")
ADDRESS4 = re.compile(r"\d{1,3}(\.\d{1,3}){3}", re.ASCII)
CURSOR = re.compile(r"[0-9a-f_]{1,40}")

PAGE = (
    Parameter("limit", int, default=DEFAULT_PAGE, minimum=1, maximum=MAX_PAGE),
    Parameter("cursor", str, maximum=40, pattern=CURSOR, allowed="the `next` of the page before"),
)
"""What every list takes."""


def ipv4(name: str, *, required: bool = False) -> Parameter:
    """An argument that is an IPv4 address."""
    return Parameter(
        name, str, required=required, maximum=15, pattern=ADDRESS4, allowed="an IPv4 address"
    )
