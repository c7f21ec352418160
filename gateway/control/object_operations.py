"""Configured objects: create, read, change, delete, list, and try out; what devices may do."""

import re
from typing import TypedDict

from gateway.control.operation import (
    DEFAULT_PAGE,
    MAX_PAGE,
    TEXT,
    Operation,
    Parameter,
    Role,
)

OBJECT_KINDS = (
    "pools",
    "radius",
    "napt",
    "translations",
    "rules",
    "bridges",
    "profiles",
    "home_networks",
    "home_agents",
    "nar",
    "foreign_agents",
    "connections",
    "mobile_nodes",
    "redirects",
    "devices",
    "users",
)
"""As the sections of gateway.toml; a test demands that the configuration knows the same."""
MAX_DOCUMENT_OCTETS = 48 * 1024
MAX_VERSION = 2**31 - 1
OBJECT_NAME = re.compile(r"[^\x00-\x1f\x7f/]{1,63}")
_OBJECT_CURSOR = re.compile(r"[A-Za-z0-9_=-]{1,200}")
SORTS = ("name", "-name", "created_at", "-created_at", "changed_at", "-changed_at")


class ObjectKind(TypedDict):
    """One of the result of `object-kinds`."""

    kind: str
    title: str
    document_schema: dict[str, object]
    """JSON schema of the document."""
    secret_fields: list[str]
    """Paths such as ``servers.*.secret``; these are never shown."""


class StoredObject(TypedDict):
    """One configured object as it is shown."""

    kind: str
    name: str
    version: int
    """1 at first; 0 for what the file has."""
    source: str
    """``store``, or ``file``: then it is changed in gateway.toml."""
    broken: list[str]
    """Why it is not in force; empty when it is."""
    document: dict[str, object]
    """As its table of gateway.toml; each secret as ``{"secret": true}``."""
    created_at: float | None
    """Seconds since the epoch, UTC."""
    changed_at: float | None


class ObjectChange(TypedDict):
    """One difference that a change of objects makes."""

    kind: str
    """added, removed or changed."""
    key: str
    """Such as ``pools.staff.network``."""
    effect: str
    old: str | None
    new: str | None
    needs_restart: bool


class CutSession(TypedDict):
    """A session that a change ends."""

    session: str
    peer: str


class ObjectResult(TypedDict):
    """The result of a change of objects."""

    object: StoredObject | None
    """None after a deletion."""
    changes: list[ObjectChange]
    sessions_cut: list[CutSession]
    """At most 1000 of them."""
    dry_run: bool


KIND = Parameter(
    "kind",
    str,
    required=True,
    maximum=15,
    pattern=re.compile("|".join(OBJECT_KINDS)),
    allowed=f"one of {', '.join(OBJECT_KINDS)}",
)
NAME = Parameter(
    "name",
    str,
    required=True,
    maximum=63,
    pattern=OBJECT_NAME,
    allowed="1 to 63 printable characters without /",
)
_DOCUMENT = Parameter("document", dict, required=True, maximum=MAX_DOCUMENT_OCTETS)
_VERSION = Parameter("version", int, minimum=1, maximum=MAX_VERSION)
"""That was read; without it, whatever is there is changed."""
_DRY_RUN = Parameter("dry_run", bool, default=False)
_DEVICE = Parameter(
    "name",
    str,
    required=True,
    maximum=63,
    pattern=OBJECT_NAME,
    allowed="a device's name, as `devices` lists it",
)

OBJECT_OPERATIONS: tuple[Operation, ...] = (
    Operation("object-kinds", "What can be configured, and how its documents look."),
    Operation(
        "objects",
        "Configured objects of a kind, of the store and of the file, a page at a time.",
        (
            KIND,
            Parameter("q", str, maximum=253, pattern=TEXT, allowed="a part of a name or value"),
            Parameter(
                "source",
                str,
                maximum=5,
                pattern=re.compile("store|file"),
                allowed="store or file",
            ),
            Parameter(
                "sort",
                str,
                default="name",
                maximum=11,
                pattern=re.compile("|".join(SORTS)),
                allowed=f"one of {', '.join(SORTS)}",
            ),
            Parameter("limit", int, default=DEFAULT_PAGE, minimum=1, maximum=MAX_PAGE),
            Parameter(
                "cursor",
                str,
                maximum=200,
                pattern=_OBJECT_CURSOR,
                allowed="the `next` of the page before",
            ),
        ),
    ),
    Operation("object", "One configured object.", (KIND, NAME)),
    Operation(
        "object-create",
        "Store a new object and put it in force; with `dry_run`, only say what that would do.",
        (KIND, NAME, _DOCUMENT, _DRY_RUN),
        Role.ADMINISTRATOR,
        changes=True,
    ),
    Operation(
        "object-replace",
        "Put another document in place of a stored object's.",
        (KIND, NAME, _DOCUMENT, _VERSION, _DRY_RUN),
        Role.ADMINISTRATOR,
        changes=True,
    ),
    Operation(
        "object-merge",
        "Change some fields of a stored object (RFC 7396): null removes one.",
        (KIND, NAME, _DOCUMENT, _VERSION, _DRY_RUN),
        Role.ADMINISTRATOR,
        changes=True,
    ),
    Operation(
        "object-delete",
        "Remove a stored object.",
        (KIND, NAME, _VERSION, _DRY_RUN),
        Role.ADMINISTRATOR,
        changes=True,
    ),
    Operation(
        "device-block",
        "Refuse the logins of a device from now on, and end its sessions.",
        (_DEVICE,),
        Role.OPERATOR,
        changes=True,
    ),
    Operation(
        "device-unblock",
        "Let a device log in again.",
        (_DEVICE,),
        Role.OPERATOR,
        changes=True,
    ),
    Operation(
        "device-disconnect",
        "End the sessions of a device; it may log in again.",
        (_DEVICE,),
        Role.OPERATOR,
        changes=True,
    ),
    Operation(
        "stop",
        "Stop the gateway: say goodbye to every peer and clean up.",
        role=Role.ADMINISTRATOR,
        changes=True,
    ),
    Operation(
        "setup-state",
        "Whether the gateway waits for its first setup.",
        role=Role.NOBODY,
    ),
    Operation(
        "setup-basics",
        "What a gateway needs at first: a pool and a connection for devices with certificates.",
        (
            Parameter("pool", str, maximum=43, pattern=TEXT, allowed="a network: 10.83.112.0/22"),
            Parameter(
                "subnets", str, maximum=1000, pattern=TEXT, allowed="networks, commas between them"
            ),
            Parameter(
                "dns", str, maximum=200, pattern=TEXT, allowed="addresses, commas between them"
            ),
            Parameter("ca_name", str, maximum=64, pattern=TEXT, allowed="a name for the CA"),
            _DRY_RUN,
        ),
        Role.ADMINISTRATOR,
        changes=True,
    ),
)
