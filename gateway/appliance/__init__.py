"""Composition: builds what is configured, starts it, stops it."""

import sys
from pathlib import Path

from gateway.appliance.keeper import fork_keeper


def run(config: Path) -> int:
    """Run the gateway in the foreground until it is told to stop; returns the exit status.

    Raises :class:`gateway.config.ConfigError` for a configuration that cannot be used.
    """
    keeper = fork_keeper()  # first: it shares what is imported now, and nothing secret
    # structlog would load rich for tracebacks that are never printed here: 5 MB.
    sys.modules.setdefault("rich", None)  # type: ignore[arg-type]
    try:
        from gateway.appliance.start import start  # noqa: PLC0415 - not in the keeper

        return start(config, keeper)
    finally:
        keeper.stop()
