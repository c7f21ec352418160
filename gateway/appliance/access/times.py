"""Times as answers have them."""

from datetime import UTC, datetime


def iso(at: float | None) -> str | None:
    """Seconds since the epoch as ISO 8601 in UTC with milliseconds."""
    if at is None:
        return None
    text = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def from_iso(text: str) -> float:
    """Seconds since the epoch; without an offset it is UTC. Raises ValueError."""
    found = datetime.fromisoformat(text)
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
