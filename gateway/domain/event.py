"""What engines tell about themselves."""

import enum
from dataclasses import dataclass, field


class Severity(enum.Enum):
    """How loud a log line is."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Event:
    """Something an administrator or another role may want to know.

    ``name`` is stable and machine-readable (``ike_sa_established``, ``endpoint_moved``,
    ``registered``, ``registration_denied`` ...); ``text`` is the one log line; ``fields`` are
    its facts, all of them plain JSON values without secrets.
    """

    name: str
    text: str
    severity: Severity = Severity.INFO
    fields: dict[str, object] = field(default_factory=dict)
    logged: bool = True
    """False when the log has enough lines of this kind; counted and recorded all the same."""
