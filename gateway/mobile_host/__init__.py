"""The Linux host of the mobile node: `gateway mn run`."""

import sys
from pathlib import Path


def run(profile: Path) -> int:
    """Run the mobile node in the foreground until it is told to stop; returns the exit status.

    Raises :class:`gateway.config.ConfigError` for a profile that cannot be used.
    """
    # structlog would load rich for tracebacks that are never printed here: 5 MB.
    sys.modules.setdefault("rich", None)  # type: ignore[arg-type]
    from gateway.mobile_host.start import start  # noqa: PLC0415 - after that

    return start(profile)
