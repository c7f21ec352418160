"""From a configuration's path to the running core, and from what went wrong to an exit status."""

import asyncio
import errno
import sys
from pathlib import Path

from gateway.appliance.access.token_file import TokenFileError
from gateway.appliance.administration.composition import Administration
from gateway.appliance.core import Appliance
from gateway.appliance.keeper import Keeper
from gateway.appliance.mip_sockets import MipSocketError
from gateway.appliance.parts import Parts
from gateway.config.document import Config
from gateway.control.server import SocketInUseError
from gateway.dataplane.interface import DataplaneUnavailableError
from gateway.domain.log import Log, configure
from gateway.ike.socket_errors import (
    KernelLacksError,
    PortInUseError,
    TransportDeniedError,
    TransportError,
)

EXIT_OK = 0
EXIT_KERNEL_LACKS = 69
EXIT_OS_ERROR = 71
"""A port or the control socket is in use, or an address is not there: may be better later."""
EXIT_NO_PERMISSION = 77


def configure_log(config: Config) -> Log:
    """Logging as the configuration wants it."""
    return configure(style=config.gateway.log_format, level=config.gateway.log_level)


def status_of(error: Exception) -> tuple[int, str] | None:
    """Exit status and message of a failure to start that an administrator can mend."""
    match error:
        case DataplaneUnavailableError() | PermissionError() if error.errno in {
            errno.EPERM,
            errno.EACCES,
        }:
            where = f"{error.filename}: " if error.filename else ""
            text = f"{where}{error.strerror}: start the gateway as root or by systemd"
            return EXIT_NO_PERMISSION, text
        case DataplaneUnavailableError():
            what = str(error.strerror).partition("\n")[0].removeprefix("Error: ")
            hint = "`gateway check` says what is missing"
            return EXIT_KERNEL_LACKS, f"the dataplane cannot be set up: {what}; {hint}"
        case TransportDeniedError() | TokenFileError():
            return EXIT_NO_PERMISSION, str(error)
        case KernelLacksError():
            return EXIT_KERNEL_LACKS, str(error)
        case PortInUseError() | SocketInUseError() | TransportError() | MipSocketError():
            return EXIT_OS_ERROR, str(error)
        case OSError():
            where = f"{error.filename}: " if error.filename else ""
            return EXIT_OS_ERROR, f"{where}{error.strerror or error}"
    return None


def start(path: Path, keeper: Keeper) -> int:
    """Run the core until it is told to stop; returns the exit status.

    Raises :class:`gateway.config.ConfigError`.
    """
    administration = Administration()
    parts = Parts(administration.node_refusal)
    config = administration.begin(path, parts.load)
    log = configure_log(config)

    async def serve() -> None:
        await Appliance(
            config,
            parts,
            keeper,
            log=log,
            configure_log=configure_log,
            administration=administration,
        ).run()

    try:
        asyncio.run(serve())
    except (OSError, TransportError, SocketInUseError, TokenFileError, MipSocketError) as error:
        found = status_of(error)
        if found is None:
            raise
        status, text = found
        print(f"gateway: {text}", file=sys.stderr)
        return status
    finally:
        administration.close()
    return EXIT_OK
