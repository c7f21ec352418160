"""The language of the control socket.

Each line is a JSON object in UTF-8, ended by a newline, in both directions.

A request names an operation and its arguments, and may carry an id that comes back::

    {"op": "ike-sas", "id": 1, "args": {"limit": 50}}

The REST interface asks for others. Its requests also carry ``as``, the credential that it was
shown (empty when there was none: then only what needs no login is answered), and ``from``, the
address of who showed it. A request with ``key`` is carried out once: asked again with the same
key, it gets the same answer::

    {"op": "reload", "as": "gw_...", "from": "192.0.2.7", "key": "f00d"}

The answer is either of ::

    {"id": 1, "ok": true, "result": {...}}
    {"id": 1, "ok": false, "error": {"code": "invalid", "field": "limit", "message": "..."}}

An error may also have ``errors``, a list of ``field`` and ``message``, and ``retry_after_s``.

Requests of a connection are answered one after the other. After ``events`` the connection carries
``{"event": {...}}`` lines until one side closes it; a subscriber that does not keep up gets
``{"notice": "dropped", "message": "..."}`` and is disconnected.

:data:`OPERATIONS` is the whole list. Lists come in pages: give ``cursor`` the ``next`` of the page
before, and stop at ``null``.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NotRequired, TypedDict

from gateway.control.access_operations import ACCESS_OPERATIONS
from gateway.control.actor import NOBODY, Actor
from gateway.control.nar_operations import NAR_OPERATIONS
from gateway.control.object_operations import OBJECT_OPERATIONS
from gateway.control.observation_operations import OBSERVATION_OPERATIONS
from gateway.control.operation import (
    ADDRESS,
    DEFAULT_PAGE,
    MAX_PAGE,
    NAME,
    PAGE,
    TEXT,
    ControlError,
    Document,
    ErrorCode,
    FieldError,
    Operation,
    Parameter,
    Role,
    Value,
    ipv4,
    shorten,
)
from gateway.control.provisioning_operations import PROVISIONING_OPERATIONS
from gateway.control.remote_access_operations import REMOTE_ACCESS_OPERATIONS
from gateway.control.store_operations import STORE_OPERATIONS

__all__ = [
    "DEFAULT_PAGE",
    "IKE_SA_ID",
    "MAX_PAGE",
    "MAX_REPLY_OCTETS",
    "MAX_REQUEST_OCTETS",
    "OPERATIONS",
    "ControlError",
    "Envelope",
    "ErrorBody",
    "ErrorCode",
    "FieldError",
    "Operation",
    "Page",
    "Parameter",
    "Request",
    "Role",
    "Value",
    "answer",
    "check_request",
    "dump",
    "envelope_of",
    "is_key",
    "parse_line",
    "refusal",
    "request_id",
    "result_of",
    "shorten",
]

MAX_REQUEST_OCTETS = 256 * 1024
MAX_REPLY_OCTETS = 4 * 1024 * 1024
"""What a client accepts as one line; the largest page is well below."""


MAX_CREDENTIAL_CHARACTERS = 256
MAX_KEY_CHARACTERS = 128
_KEY = re.compile(r"[\x21-\x7e]{1,128}")
_REMOTE = re.compile(r"[0-9A-Fa-f:.]{2,45}(%[A-Za-z0-9._-]{1,15})?")
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
"""A character that may be half of one: such a text cannot be stored or sent."""
_ENVELOPE = frozenset({"op", "id", "args", "as", "from", "key"})


class OneError(TypedDict):
    """One of several faults."""

    message: str
    field: str | None


class ErrorBody(TypedDict):
    """The ``error`` of an answer."""

    code: str
    message: str
    field: str | None
    errors: NotRequired[list[OneError]]
    retry_after_s: NotRequired[float]


class Page(TypedDict):
    """The result of a list."""

    items: list[dict[str, object]]
    next: str | None
    total: int


IKE_SA_ID = re.compile(r"[0-9a-f]{16}_[0-9a-f]{16}")

_ID_WORDS = "two SPIs of 16 hexadecimal digits joined by an underscore, as `ike-sas` lists them"


def _ike_sa_id(*, required: bool, name: str = "id") -> Parameter:
    return Parameter(name, str, required=required, maximum=33, pattern=IKE_SA_ID, allowed=_ID_WORDS)


_CONNECTION = Parameter(
    "connection",
    str,
    maximum=63,
    pattern=NAME,
    allowed="a connection's name as in the configuration",
)


_HOME_AGENT = Parameter(
    "home_agent",
    str,
    maximum=63,
    pattern=NAME,
    allowed="a home agent's name as in the configuration",
)
_FOREIGN_AGENT = Parameter(
    "foreign_agent",
    str,
    maximum=63,
    pattern=NAME,
    allowed="a foreign agent's name as in the configuration",
)
_AGENT = Parameter(
    "agent", str, maximum=63, pattern=NAME, allowed="an agent's name as in the configuration"
)

OPERATIONS: dict[str, Operation] = {
    operation.name: operation
    for operation in (
        Operation("health", "Whether the core answers.", role=Role.NOBODY),
        Operation("status", "Version, uptime, what is configured, counters of every part."),
        Operation(
            "ike-sas",
            "The IKE SAs, a page at a time, or the one with this id.",
            (_ike_sa_id(required=False), _CONNECTION, *PAGE),
        ),
        Operation(
            "child-sas",
            "The child SAs with their traffic counters, a page at a time.",
            (_ike_sa_id(required=False, name="ike_sa"), _CONNECTION, *PAGE),
        ),
        Operation(
            "close-ike-sa",
            "Close an IKE SA and its child SAs; the peer is told.",
            (_ike_sa_id(required=True),),
            Role.OPERATOR,
            changes=True,
        ),
        Operation(
            "rekey",
            "Renew an IKE SA now, or with `children` its child SAs.",
            (_ike_sa_id(required=True), Parameter("children", bool, default=False)),
            Role.OPERATOR,
            changes=True,
        ),
        Operation(
            "ike-failures",
            "Why logins failed, the newest first, a page at a time.",
            (
                Parameter("who", str, maximum=253, pattern=TEXT, allowed="a part of a name"),
                Parameter("remote", str, maximum=45, pattern=ADDRESS, allowed="an IP address"),
                Parameter("within_s", int, minimum=1, maximum=365 * 86_400),
                _CONNECTION,
                *PAGE,
            ),
        ),
        Operation(
            "bindings",
            "Where mobile nodes are: a home agent's bindings, a page at a time.",
            (
                _HOME_AGENT,
                Parameter("node", str, maximum=253, pattern=TEXT, allowed="a part of a name"),
                ipv4("home_address"),
                ipv4("care_of_address"),
                *PAGE,
            ),
        ),
        Operation(
            "binding",
            "The binding of one home address.",
            (ipv4("home_address", required=True), _HOME_AGENT),
        ),
        Operation(
            "revoke-binding",
            "End a binding; the foreign agent or the mobile node is told.",
            (ipv4("home_address", required=True), _HOME_AGENT),
            Role.OPERATOR,
            changes=True,
        ),
        Operation(
            "visitors",
            "Mobile nodes that are registered by way of a foreign agent, a page at a time.",
            (_FOREIGN_AGENT, ipv4("home_address"), ipv4("home_agent_address"), *PAGE),
        ),
        Operation("home-networks", "The home networks and how many are away.", (_HOME_AGENT,)),
        Operation(
            "registration-failures",
            "Why registrations were denied, the newest first, a page at a time.",
            (
                Parameter("who", str, maximum=253, pattern=TEXT, allowed="a part of a name"),
                Parameter("within_s", int, minimum=1, maximum=365 * 86_400),
                _AGENT,
                *PAGE,
            ),
        ),
        *NAR_OPERATIONS,
        *OBJECT_OPERATIONS,
        *ACCESS_OPERATIONS,
        *PROVISIONING_OPERATIONS,
        *OBSERVATION_OPERATIONS,
        *STORE_OPERATIONS,
        *REMOTE_ACCESS_OPERATIONS,
        Operation(
            "initiate",
            "Start a connection that has a remote address.",
            (
                Parameter(
                    "connection",
                    str,
                    required=True,
                    maximum=63,
                    pattern=NAME,
                    allowed="a connection's name as in the configuration",
                ),
            ),
            Role.OPERATOR,
            changes=True,
        ),
        Operation(
            "reload",
            "Read the configuration again and apply the difference.",
            role=Role.ADMINISTRATOR,
            changes=True,
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
    actor: Actor = NOBODY
    key: str | None = None
    """Idempotency key: the same request with the same key is carried out once."""

    def document(self, name: str) -> Document:
        """A document that is required."""
        value = self.arguments[name]
        return value if isinstance(value, dict) else {}

    def flag(self, name: str) -> bool:
        """Whether a flag is set."""
        return self.arguments.get(name) is True

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
        value: object = json.loads(line)
        if _SURROGATE.search(line):
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise ControlError(ErrorCode.INVALID, f"not a JSON line: {type(error).__name__}") from None
    return value


@dataclass(frozen=True, slots=True)
class Envelope:
    """For whom a request is made, and its idempotency key."""

    credential: str | None = field(default=None, repr=False)
    """None: the request is its sender's own. Empty: of somebody who showed nothing."""
    remote: str | None = None
    key: str | None = None


def is_key(text: str) -> bool:
    """Whether this may be an idempotency key."""
    return _KEY.fullmatch(text) is not None


def envelope_of(line: object) -> Envelope:
    """The envelope of a parsed line; raises :class:`ControlError`."""
    if not isinstance(line, dict):
        raise ControlError(ErrorCode.INVALID, "a request is a JSON object")
    for name in line:
        if name not in _ENVELOPE:
            raise ControlError(
                ErrorCode.INVALID,
                f"{shorten(name)}: unknown, allowed are op, id, args, as, from and key",
            )
    credential, remote, key = line.get("as"), line.get("from"), line.get("key")
    if credential is not None and (
        not isinstance(credential, str) or len(credential) > MAX_CREDENTIAL_CHARACTERS
    ):
        raise ControlError(ErrorCode.INVALID, "as: must be a token or a session", "as")
    if remote is not None and not (isinstance(remote, str) and _REMOTE.fullmatch(remote)):
        raise ControlError(ErrorCode.INVALID, f"from = {shorten(remote)}: no IP address", "from")
    if key is not None and not (isinstance(key, str) and _KEY.fullmatch(key)):
        raise ControlError(
            ErrorCode.INVALID,
            f"key = {shorten(key)}: 1 to {MAX_KEY_CHARACTERS} visible ASCII characters are allowed",
            "key",
        )
    return Envelope(credential, remote, key)


def check_request(
    line: object, who: Actor | Role, operations: Mapping[str, Operation] = OPERATIONS
) -> Request:
    """The request in a parsed line; raises :class:`ControlError` naming what is wrong.

    ``operations`` is what this socket answers: a gateway's, or those of
    :mod:`gateway.control.node_operations`.
    """
    envelope = envelope_of(line)
    actor = Actor("somebody", who) if isinstance(who, Role) else who
    if not isinstance(line, dict):  # envelope_of() has made sure
        raise TypeError
    name = line.get("op")
    operation = operations.get(name) if isinstance(name, str) else None
    if operation is None:
        whose = "" if operations is OPERATIONS else " to a mobile node"
        raise ControlError(
            ErrorCode.UNKNOWN_OPERATION,
            f"op = {shorten(name)}: unknown{whose}, allowed are {', '.join(operations)}",
            "op",
        )
    if actor.role < operation.role and operation.name not in actor.also:
        raise _denied(actor, operation)
    arguments = operation.check(line.get("args"))
    return Request(operation, arguments, request_id(line), actor, envelope.key)


def _denied(actor: Actor, operation: Operation) -> ControlError:
    if actor.role is Role.NOBODY:
        return ControlError(
            ErrorCode.UNAUTHENTICATED, f"{operation.name}: log in, or show a token", "op"
        )
    return ControlError(
        ErrorCode.DENIED,
        f"{operation.name} is for {operation.role.words}s; {actor.name} is {actor.role.words}",
        "op",
    )


def dump(value: object) -> bytes:
    """One line."""
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def answer(given: int | str | None, result: object) -> bytes:
    """The line of a success."""
    return dump({"id": given, "ok": True, "result": result})


def refusal(given: int | str | None, error: ControlError) -> bytes:
    """The line of a failure."""
    body: ErrorBody = {"code": str(error.code), "message": error.message, "field": error.field}
    if error.errors:
        body["errors"] = [{"message": one.message, "field": one.field} for one in error.errors]
    if error.retry_after_s is not None:
        body["retry_after_s"] = error.retry_after_s
    return dump({"id": given, "ok": False, "error": body})


def result_of(line: object) -> object:
    """The result in an answer; raises :class:`ControlError` with the error that it carries."""
    if isinstance(line, dict) and line.get("ok") is True:
        return line.get("result")
    error = line.get("error") if isinstance(line, dict) else None
    if not isinstance(error, dict):
        raise ControlError(ErrorCode.INTERNAL, "the gateway's answer makes no sense")
    retry, several = error.get("retry_after_s"), error.get("errors")
    raise ControlError(
        str(error.get("code")),
        str(error.get("message")),
        _text(error.get("field")),
        errors=[
            FieldError(str(one.get("message")), _text(one.get("field")))
            for one in (several if isinstance(several, list) else ())
            if isinstance(one, dict)
        ],
        retry_after_s=float(retry) if isinstance(retry, int | float) else None,
    )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
