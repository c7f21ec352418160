"""From a profile's path to the running node, and from what went wrong to an exit status."""

import asyncio
import errno
import sys
from pathlib import Path

from gateway.config.profile import Profile
from gateway.control.server import SocketInUseError
from gateway.dataplane.interface import DataplaneUnavailableError
from gateway.domain.log import Log, configure
from gateway.ike.socket_errors import KernelLacksError, TransportDeniedError, TransportError
from gateway.mobile_host.host import Host
from gateway.mobile_host.parts import HostParts, Parts

EXIT_OK = 0
EXIT_KERNEL_LACKS = 69
EXIT_OS_ERROR = 71
EXIT_NO_PERMISSION = 77


def configure_log(profile: Profile) -> Log:
    """Logging as the profile wants it."""
    return configure(style=profile.profile.log_format, level=profile.profile.log_level)


def status_of(error: Exception) -> tuple[int, str] | None:
    """Exit status and message of a failure to start that an administrator can mend."""
    match error:
        case OSError() if error.errno in {errno.EPERM, errno.EACCES}:
            where = f"{error.filename}: " if error.filename else ""
            text = f"{where}{error.strerror}: start the mobile node as root or by systemd"
            return EXIT_NO_PERMISSION, text
        case DataplaneUnavailableError():
            what = str(error.strerror).partition("\n")[0].removeprefix("Error: ")
            hint = "`gateway mn check` says what is missing"
            return EXIT_KERNEL_LACKS, f"the dataplane cannot be set up: {what}; {hint}"
        case TransportDeniedError():
            return EXIT_NO_PERMISSION, str(error)
        case KernelLacksError():
            return EXIT_KERNEL_LACKS, str(error)
        case SocketInUseError() | TransportError():
            return EXIT_OS_ERROR, str(error)
        case OSError():
            where = f"{error.filename}: " if error.filename else ""
            return EXIT_OS_ERROR, f"{where}{error.strerror or error}"
    return None


def run_host(profile: Profile, parts: HostParts | None = None) -> int:
    """Run a mobile node until it is told to stop; returns the exit status.

    Raises :class:`gateway.config.ConfigError` when a file that the profile names is unusable.
    """

    async def serve() -> None:
        log = configure_log(profile)
        await Host(profile, parts or Parts(), log=log, configure_log=configure_log).run()

    try:
        asyncio.run(serve())
    except (OSError, TransportError, SocketInUseError) as error:
        found = status_of(error)
        if found is None:
            raise
        status, text = found
        print(f"gateway mn: {text}", file=sys.stderr)
        return status
    return EXIT_OK


def start(path: Path) -> int:
    """Read the profile and run; see :func:`run_host`."""
    parts = Parts()
    return run_host(parts.load(path), parts)
