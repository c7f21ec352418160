"""Events become log lines, limited where a flood could fill the disk, and go to subscribers."""

from collections.abc import Callable
from datetime import UTC, datetime

from gateway.domain.log import Log, RateLimit, fields_without, with_suppressed
from gateway.ike.outputs import Event, Severity

Publish = Callable[[dict[str, object], bool], None]
"""Takes an event and whether it is a debug event."""


class EventLog:
    """Where all events of the appliance go. Call it with an event."""

    def __init__(self, log: Log, clock: Callable[[], float], *, debug: bool = False) -> None:
        self.log = log
        self.debug = debug
        """Whether debug events are logged; the engine makes none otherwise."""
        self.publish: Publish | None = None
        self.record: Callable[[Event], None] | None = None
        """Told of every event, those included that the log leaves out."""
        self.rename: Callable[[Event], Event] | None = None
        """Puts the true addresses in; see :mod:`gateway.appliance.tcp_names`."""
        self.annotate: Callable[[Event], Event] | None = None
        """Says whose an event is: ``device`` and ``session`` among its fields."""
        self.counters: dict[str, int] = {"lines_suppressed": 0}
        self._clock = clock
        self._limit = RateLimit()

    def __call__(self, event: Event) -> None:
        """Log and publish."""
        if self.rename is not None:
            event = self.rename(event)
        if self.annotate is not None:
            event = self.annotate(event)
        severity = event.severity
        if self.record is not None:
            self.record(event)
        if not event.logged:
            self.counters["lines_suppressed"] += 1
            return
        if self.publish is not None:
            self.publish(
                {
                    "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
                    "name": event.name,
                    "severity": severity.value,
                    "text": event.text,
                    "fields": event.fields,
                },
                severity is Severity.DEBUG,
            )
        if severity is Severity.INFO:
            self.log.info(event.name, **_line(event, event.text))
        elif severity is Severity.WARNING:
            self.warning(event)
        elif self.debug:
            self.log.debug(event.name, **_line(event, event.text))

    def warning(self, event: Event) -> None:
        """Log a warning unless too many of its name came before it."""
        suppressed = self._limit.admit(event.name, self._clock())
        if suppressed is None:
            self.counters["lines_suppressed"] += 1
        else:
            self.log.warning(event.name, **_line(event, with_suppressed(event.text, suppressed)))


def _line(event: Event, text: str) -> dict[str, object]:
    return {"text": text, **fields_without(event.fields, "text", "event", "level", "timestamp")}
