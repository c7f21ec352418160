"""Devices as they are now, their traffic and failures, metrics, captures, support bundles.

What the answers look like is in :mod:`gateway.control.observation_views`.
"""

import re

from gateway.control.operation import NAME, PAGE, TEXT, Operation, Parameter, Role

MAX_CAPTURE_S = 300
MAX_CAPTURE_OCTETS = 64 * 1024 * 1024
CHUNK_OCTETS = 512 * 1024
"""Of a capture or a support bundle, in one answer, before base64."""

WHERES = ("inside", "outside", "behind-fa", "away", "offline", "blocked", "failed")
"""Where a device can be: see ``where`` of :class:`gateway.control.observation_views.Device`."""
SORTS = (
    "name",
    "identity",
    "user",
    "connection",
    "where",
    "mode",
    "outer",
    "last_seen",
    "traffic",
    "handovers",
)
WHATS = ("connected", "moved", "failed", "disconnected")
SPANS = ("1h", "24h", "30d")

DEVICE_NAME = re.compile(r"~[0-9a-f]{16}|[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
"""A device of the configuration, or ``~`` and 16 digits of one that was only seen."""
SESSION_ID = re.compile(r"[A-Za-z0-9_-]{1,63}")
CAPTURE_ID = re.compile(r"[0-9a-f]{16}")


def _device(name: str = "name") -> Parameter:
    return Parameter(
        name,
        str,
        required=True,
        maximum=63,
        pattern=DEVICE_NAME,
        allowed="a device's name, as `devices` lists it",
    )


def _one_of(name: str, words: tuple[str, ...], default: str | None = None) -> Parameter:
    return Parameter(
        name,
        str,
        default=default,
        maximum=max(map(len, words)),
        pattern=re.compile("|".join(map(re.escape, words))),
        allowed=f"one of {', '.join(words)}",
    )


_CAPTURE = Parameter(
    "id",
    str,
    required=True,
    maximum=16,
    pattern=CAPTURE_ID,
    allowed="the id of a capture, as `captures` lists it",
)
_OFFSET = Parameter("offset", int, default=0, maximum=2**40)

OBSERVATION_OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "devices",
        "Devices as they are now, those that are configured and those that were seen, by pages.",
        (
            Parameter("q", str, maximum=253, pattern=TEXT, allowed="a part of a name or address"),
            _one_of("where", WHERES),
            Parameter("connection", str, maximum=63, pattern=NAME, allowed="a connection's name"),
            _one_of("sort", (*SORTS, *(f"-{one}" for one in SORTS)), "name"),
            *PAGE,
        ),
    ),
    Operation(
        "device",
        "One device: where it is and how, layers and MTU, handovers, failures with remedies.",
        (_device(),),
    ),
    Operation(
        "device-traffic",
        "Octets and packets of a device over time.",
        (_device(), _one_of("span", SPANS, "1h")),
    ),
    Operation(
        "device-history",
        "What happened to a device, the newest first, a page at a time.",
        (
            _device(),
            _one_of("what", WHATS),
            Parameter("since_s", int, minimum=1, maximum=3650 * 86_400),
            *PAGE,
        ),
    ),
    Operation(
        "history",
        "What happened to devices, the newest first, a page at a time.",
        (
            Parameter(
                "device",
                str,
                maximum=63,
                pattern=DEVICE_NAME,
                allowed="a device's name, as `devices` lists it",
            ),
            Parameter(
                "session",
                str,
                maximum=63,
                pattern=SESSION_ID,
                allowed="a correlation id: `session` in the log",
            ),
            _one_of("what", WHATS),
            Parameter("since_s", int, minimum=1, maximum=3650 * 86_400),
            *PAGE,
        ),
    ),
    Operation("topology", "The places devices can be at, how they hang together, who is where."),
    Operation(
        "metrics",
        "Every metric of docs/observability.md, in the text format of Prometheus.",
        (Parameter("devices", bool, default=False),),
    ),
    Operation(
        "captures",
        "Packet captures: those that run, and those that are done and can still be read.",
        role=Role.ADMINISTRATOR,
    ),
    Operation(
        "capture-start",
        "Record the packets of one device, for a bounded time and size.",
        (
            _device("device"),
            Parameter("seconds", int, default=60, minimum=1, maximum=MAX_CAPTURE_S),
            Parameter(
                "octets",
                int,
                default=16 * 1024 * 1024,
                minimum=4096,
                maximum=MAX_CAPTURE_OCTETS,
            ),
        ),
        Role.ADMINISTRATOR,
        changes=True,
    ),
    Operation(
        "capture-stop",
        "End a capture; with `remove`, delete what it has recorded as well.",
        (_CAPTURE, Parameter("remove", bool, default=False)),
        Role.ADMINISTRATOR,
        changes=True,
    ),
    Operation(
        "capture-read",
        "A piece of a capture's file (pcapng).",
        (_CAPTURE, _OFFSET),
        Role.ADMINISTRATOR,
    ),
    Operation(
        "support",
        "Collect what a bug report needs, without secrets; answers with its id, or a piece of it.",
        (
            Parameter(
                "id", str, maximum=16, pattern=CAPTURE_ID, allowed="an id that `support` gave"
            ),
            _OFFSET,
        ),
        Role.ADMINISTRATOR,
    ),
)
