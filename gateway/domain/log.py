"""Logging: one line per event, for people or as JSON, and a limit on what a flood may write.

Lines for people are the event's text alone; JSON lines carry the name and the facts as well.
Under systemd the line starts with its syslog level, and journald adds the time itself.
"""

import json
import os
import sys
from collections.abc import Callable, Mapping, MutableMapping
from typing import Protocol, TextIO

import structlog

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
"""Levels of the configuration, and their numbers in :mod:`logging`."""

_SYSLOG = {"debug": "<7>", "info": "<6>", "warning": "<4>", "error": "<3>", "critical": "<2>"}

MAX_LINE_CHARACTERS = 4096
"""Longer lines for people are cut; nothing that a peer sends can fill a disk with one line."""


class Log(Protocol):
    """What the appliance needs of a logger: a stable event name, a sentence, its facts."""

    def debug(self, event: str, **fields: object) -> object:
        """Write at this level."""

    def info(self, event: str, **fields: object) -> object:
        """Write at this level."""

    def warning(self, event: str, **fields: object) -> object:
        """Write at this level."""

    def error(self, event: str, **fields: object) -> object:
        """Write at this level."""


def one_line(text: str) -> str:
    """``text`` with everything escaped that could end the line or drive a terminal."""
    if text.isprintable():
        return text[:MAX_LINE_CHARACTERS]
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode("ascii")
        for c in text[:MAX_LINE_CHARACTERS]
    )[:MAX_LINE_CHARACTERS]


def _render_text(
    _logger: object, _method: str, line: MutableMapping[str, object], *, journal: bool
) -> str:
    level = str(line.pop("level", "info"))
    time = line.pop("timestamp", "")
    name = str(line.pop("event", ""))
    text = line.pop("text", None)
    if text is None:
        facts = " ".join(f"{key}={value}" for key, value in line.items())
        text = f"{name} {facts}" if facts else name
    if journal:
        return _SYSLOG.get(level, "<6>") + one_line(str(text))
    return f"{time} {level:<7} {one_line(str(text))}"


def _render_json(_logger: object, _method: str, line: MutableMapping[str, object]) -> str:
    time = line.pop("timestamp", "")
    return json.dumps({"time": time, **line}, default=str, separators=(",", ":"))


def configure(*, style: str = "human", level: str = "info", stream: TextIO | None = None) -> Log:
    """Set the process's logging up and return its logger.

    ``style`` is ``"human"`` or ``"json"``; ``level`` one of :data:`LEVELS`; ``stream`` defaults to
    standard error. Raises KeyError for another level.
    """
    journal = "JOURNAL_STREAM" in os.environ

    def text(logger: object, method: str, line: MutableMapping[str, object]) -> str:
        return _render_text(logger, method, line, journal=journal)

    render: Callable[[object, str, MutableMapping[str, object]], str]
    render = _render_json if style == "json" else text
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(file=stream or sys.stderr),
        cache_logger_on_first_use=False,
    )
    log: Log = structlog.get_logger().bind()
    return log


class RateLimit:
    """Lets ``burst`` lines of a name through, then ``per_s`` a second; counts the rest.

    Keys are event names of the program, never anything a peer chose, so the table stays small.
    """

    __slots__ = ("_burst", "_per_s", "_state")

    def __init__(self, burst: int = 20, per_s: float = 1.0) -> None:
        self._burst = float(burst)
        self._per_s = per_s
        self._state: dict[str, list[float]] = {}  # name -> [tokens, when, suppressed]

    def admit(self, name: str, now: float) -> int | None:
        """How many lines of this name were suppressed before this one, or None to suppress it."""
        state = self._state.get(name)
        if state is None:
            self._state[name] = [self._burst - 1.0, now, 0]
            return 0
        tokens = min(self._burst, state[0] + (now - state[1]) * self._per_s)
        state[1] = now
        if tokens < 1.0:
            state[0] = tokens
            state[2] += 1
            return None
        suppressed = int(state[2])
        state[0], state[2] = tokens - 1.0, 0
        return suppressed


def with_suppressed(text: str, suppressed: int) -> str:
    """``text``, saying how many like it were left out before."""
    return f"{text} ({suppressed} more like this were suppressed)" if suppressed else text


def fields_without(fields: Mapping[str, object], *taken: str) -> dict[str, object]:
    """The facts under names that do not collide with a line's own."""
    return {(f"{k}_" if k in taken else k): v for k, v in fields.items()}
