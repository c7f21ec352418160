"""The language of the control socket.

Each line is a JSON object in UTF-8, ended by a newline, in both directions.

A request names an operation and its arguments, and may carry an id that comes back::

    {"op": "ike-sas", "id": 1, "args": {"limit": 50}}

The answer is either of ::

    {"id": 1, "ok": true, "result": {...}}
    {"id": 1, "ok": false, "error": {"code": "invalid", "field": "limit", "message": "..."}}

Requests of a connection are answered one after the other. After ``events`` the connection carries
``{"event": {...}}`` lines until one side closes it; a subscriber that does not keep up gets
``{"notice": "dropped", "message": "..."}`` and is disconnected.

:data:`OPERATIONS` is the whole list. Lists come in pages: give ``cursor`` the ``next`` of the page
before, and stop at ``null``.
"""

import enum
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypedDict

MAX_REQUEST_OCTETS = 16 * 1024
MAX_REPLY_OCTETS = 4 * 1024 * 1024
"""What a client accepts as one line; the largest page is well below."""
MAX_PAGE = 200
DEFAULT_PAGE = 100


class Role(enum.IntEnum):
    """What a client may do; each role includes the ones below it."""

    VIEWER_AND_CLOSER = 1
    """The API process: look, and close an SA."""
    ADMINISTRATOR = 2
    """Root, the gateway's own user and those that the configuration names."""


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


class ControlError(Exception):
    """An operation failed; its text is meant for an administrator."""

    def __init__(self, code: ErrorCode | str, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.field = field


class ErrorBody(TypedDict):
    """The ``error`` of an answer."""

    code: str
    message: str
    field: str | None


class Page(TypedDict):
    """The result of a list."""

    items: list[dict[str, object]]
    next: str | None
    total: int


Value = str | int | bool


@dataclass(frozen=True, slots=True)
class Parameter:
    """One argument of an operation."""

    name: str
    kind: type[str] | type[int] | type[bool]
    required: bool = False
    default: Value | None = None
    minimum: int = 0
    maximum: int = 0
    """Largest integer, or longest text."""
    pattern: re.Pattern[str] | None = None
    allowed: str = ""
    """What is allowed, in words, when a pattern decides."""
    secret: bool = False
    """The value is never repeated, whatever is wrong with it."""

    def check(self, value: object) -> Value:
        """The value, or :class:`ControlError` that names the field and what is allowed."""
        if type(value) is not self.kind:
            raise self._invalid(value, {str: "a text", int: "an integer", bool: "true or false"})
        if isinstance(value, str):
            if len(value) > self.maximum:
                raise self._wrong(f"{len(value)} characters, at most {self.maximum} are allowed")
            if self.pattern is not None and not self.pattern.fullmatch(value):
                raise self._wrong(f"{self._shown(value)}: {self.allowed}")
            return value
        if isinstance(value, bool):
            return value
        if isinstance(value, int) and self.minimum <= value <= self.maximum:
            return value
        raise self._wrong(f"{self._shown(value)}: {self.minimum} to {self.maximum} is allowed")

    def _invalid(self, value: object, words: Mapping[type, str]) -> ControlError:
        return self._wrong(f"{self._shown(value)}: must be {words[self.kind]}")

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


IKE_SA_ID = re.compile(r"[0-9a-f]{16}_[0-9a-f]{16}")

_ID_WORDS = "two SPIs of 16 hexadecimal digits joined by an underscore, as `ike-sas` lists them"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_TEXT = re.compile(r"[^\x00-\x1f\x7f]{1,253}")
_ADDRESS = re.compile(r"[0-9A-Fa-f:.]{2,45}")
_ADDRESS4 = re.compile(r"\d{1,3}(\.\d{1,3}){3}", re.ASCII)
_CURSOR = re.compile(r"[0-9a-f_]{1,40}")


def _ike_sa_id(*, required: bool, name: str = "id") -> Parameter:
    return Parameter(name, str, required=required, maximum=33, pattern=IKE_SA_ID, allowed=_ID_WORDS)


_PAGE = (
    Parameter("limit", int, default=DEFAULT_PAGE, minimum=1, maximum=MAX_PAGE),
    Parameter("cursor", str, maximum=40, pattern=_CURSOR, allowed="the `next` of the page before"),
)
_CONNECTION = Parameter(
    "connection",
    str,
    maximum=63,
    pattern=_NAME,
    allowed="a connection's name as in the configuration",
)


_HOME_AGENT = Parameter(
    "home_agent",
    str,
    maximum=63,
    pattern=_NAME,
    allowed="a home agent's name as in the configuration",
)
_FOREIGN_AGENT = Parameter(
    "foreign_agent",
    str,
    maximum=63,
    pattern=_NAME,
    allowed="a foreign agent's name as in the configuration",
)
_AGENT = Parameter(
    "agent", str, maximum=63, pattern=_NAME, allowed="an agent's name as in the configuration"
)


def _ipv4(name: str, *, required: bool = False) -> Parameter:
    return Parameter(
        name, str, required=required, maximum=15, pattern=_ADDRESS4, allowed="an IPv4 address"
    )


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing that a client can ask for."""

    name: str
    purpose: str
    parameters: tuple[Parameter, ...] = ()
    role: Role = Role.VIEWER_AND_CLOSER

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


OPERATIONS: dict[str, Operation] = {
    operation.name: operation
    for operation in (
        Operation("health", "Whether the core answers."),
        Operation("status", "Version, uptime, what is configured, counters of every part."),
        Operation(
            "ike-sas",
            "The IKE SAs, a page at a time, or the one with this id.",
            (_ike_sa_id(required=False), _CONNECTION, *_PAGE),
        ),
        Operation(
            "child-sas",
            "The child SAs with their traffic counters, a page at a time.",
            (_ike_sa_id(required=False, name="ike_sa"), _CONNECTION, *_PAGE),
        ),
        Operation(
            "close-ike-sa",
            "Close an IKE SA and its child SAs; the peer is told.",
            (_ike_sa_id(required=True),),
        ),
        Operation(
            "rekey",
            "Renew an IKE SA now, or with `children` its child SAs.",
            (_ike_sa_id(required=True), Parameter("children", bool, default=False)),
            Role.ADMINISTRATOR,
        ),
        Operation(
            "ike-failures",
            "Why logins failed, the newest first, a page at a time.",
            (
                Parameter("who", str, maximum=253, pattern=_TEXT, allowed="a part of a name"),
                Parameter("remote", str, maximum=45, pattern=_ADDRESS, allowed="an IP address"),
                Parameter("within_s", int, minimum=1, maximum=365 * 86_400),
                _CONNECTION,
                *_PAGE,
            ),
        ),
        Operation(
            "bindings",
            "Where mobile nodes are: a home agent's bindings, a page at a time.",
            (
                _HOME_AGENT,
                Parameter("node", str, maximum=253, pattern=_TEXT, allowed="a part of a name"),
                _ipv4("home_address"),
                _ipv4("care_of_address"),
                *_PAGE,
            ),
        ),
        Operation(
            "binding",
            "The binding of one home address.",
            (_ipv4("home_address", required=True), _HOME_AGENT),
        ),
        Operation(
            "revoke-binding",
            "End a binding; the foreign agent or the mobile node is told.",
            (_ipv4("home_address", required=True), _HOME_AGENT),
        ),
        Operation(
            "visitors",
            "Mobile nodes that are registered by way of a foreign agent, a page at a time.",
            (_FOREIGN_AGENT, _ipv4("home_address"), _ipv4("home_agent_address"), *_PAGE),
        ),
        Operation("home-networks", "The home networks and how many are away.", (_HOME_AGENT,)),
        Operation(
            "registration-failures",
            "Why registrations were denied, the newest first, a page at a time.",
            (
                Parameter("who", str, maximum=253, pattern=_TEXT, allowed="a part of a name"),
                Parameter("within_s", int, minimum=1, maximum=365 * 86_400),
                _AGENT,
                *_PAGE,
            ),
        ),
        Operation(
            "initiate",
            "Start a connection that has a remote address.",
            (
                Parameter(
                    "connection",
                    str,
                    required=True,
                    maximum=63,
                    pattern=_NAME,
                    allowed="a connection's name as in the configuration",
                ),
            ),
            Role.ADMINISTRATOR,
        ),
        Operation(
            "reload",
            "Read the configuration again and apply the difference.",
            role=Role.ADMINISTRATOR,
        ),
        Operation(
            "events",
            "Subscribe to events from now on.",
            (Parameter("debug", bool, default=False),),
        ),
    )
}


@dataclass(frozen=True, slots=True)
class Request:
    """A request that may be carried out."""

    operation: Operation
    arguments: dict[str, Value]
    id: int | str | None = None

    def text(self, name: str) -> str | None:
        """A text argument, or None when it was not given."""
        value = self.arguments.get(name)
        return value if isinstance(value, str) else None

    def number(self, name: str) -> int:
        """An integer argument that is required or has a default."""
        value = self.arguments[name]
        return value if isinstance(value, int) else 0


def request_id(line: object) -> int | str | None:
    """The id of a request, for its answer; anything else than a short text or integer is none."""
    given = line.get("id") if isinstance(line, dict) else None
    if isinstance(given, str) and len(given) <= 64:
        return given
    return given if type(given) is int and abs(given) < 2**53 else None


def parse_line(line: bytes) -> object:
    """The JSON value of a line; raises :class:`ControlError`."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ControlError(ErrorCode.INVALID, f"not a JSON line: {type(error).__name__}") from None


def check_request(
    line: object, role: Role, operations: Mapping[str, Operation] = OPERATIONS
) -> Request:
    """The request in a parsed line; raises :class:`ControlError` naming what is wrong.

    ``operations`` is what this socket answers: a gateway's, or those of
    :mod:`gateway.control.node_operations`.
    """
    if not isinstance(line, dict):
        raise ControlError(ErrorCode.INVALID, "a request is a JSON object")
    for key in line:
        if key not in {"op", "id", "args"}:
            raise ControlError(
                ErrorCode.INVALID, f"{shorten(key)}: unknown, allowed are op, id and args"
            )
    name = line.get("op")
    operation = operations.get(name) if isinstance(name, str) else None
    if operation is None:
        whose = "" if operations is OPERATIONS else " to a mobile node"
        raise ControlError(
            ErrorCode.UNKNOWN_OPERATION,
            f"op = {shorten(name)}: unknown{whose}, allowed are {', '.join(operations)}",
            "op",
        )
    if role < operation.role:
        raise ControlError(ErrorCode.DENIED, f"{operation.name} is for administrators", "op")
    return Request(operation, operation.check(line.get("args")), request_id(line))


def dump(value: object) -> bytes:
    """One line."""
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def answer(given: int | str | None, result: object) -> bytes:
    """The line of a success."""
    return dump({"id": given, "ok": True, "result": result})


def refusal(given: int | str | None, error: ControlError) -> bytes:
    """The line of a failure."""
    body: ErrorBody = {"code": str(error.code), "message": error.message, "field": error.field}
    return dump({"id": given, "ok": False, "error": body})


def result_of(line: object) -> object:
    """The result in an answer; raises :class:`ControlError` with the error that it carries."""
    if isinstance(line, dict) and line.get("ok") is True:
        return line.get("result")
    error = line.get("error") if isinstance(line, dict) else None
    if not isinstance(error, dict):
        raise ControlError(ErrorCode.INTERNAL, "the gateway's answer makes no sense")
    field = error.get("field")
    raise ControlError(
        str(error.get("code")),
        str(error.get("message")),
        field if isinstance(field, str) else None,
    )
