"""Foreseeable failures as one clear message and an exit status, never a traceback."""

import errno
import os
import sys
from collections.abc import Callable

from gateway.cli import exits


def complain(message: object) -> None:
    """Print to standard error, each line under the program's name."""
    for line in str(message).splitlines() or [""]:
        print(f"gateway: {line}", file=sys.stderr)


def _is_config_error(error: BaseException) -> bool:
    module = sys.modules.get("gateway.config.problem")
    return module is not None and isinstance(error, module.ConfigError)


def _is_control_error(error: BaseException) -> bool:
    module = sys.modules.get("gateway.control.protocol")
    return module is not None and isinstance(error, module.ControlError)


def status_of(error: Exception) -> int | None:
    """The exit status of a foreseeable error, None for one that is our own fault."""
    if _is_config_error(error):
        return exits.BAD_CONFIG
    if _is_control_error(error):
        return exits.FAILED
    if isinstance(error, PermissionError) or isinstance(error.__cause__, PermissionError):
        return exits.NO_PERMISSION
    if isinstance(error, ConnectionError):
        return exits.UNAVAILABLE
    if isinstance(error, OSError):
        return exits.OS_ERROR
    return None


def _text_of(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno is not None and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        hint = "; run as root" if error.errno in (errno.EPERM, errno.EACCES) else ""
        return f"{where}{error.strerror}{hint}"
    return str(error)


def guarded(command: Callable[[], int]) -> int:
    """Run a command; turn foreseeable errors into a message and their exit status."""
    try:
        return command()
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of our output went away, as "head" does: nothing is left to tell it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return exits.OK
    except Exception as error:
        status = status_of(error)
        if status is None:
            raise
        complain(_text_of(error))
        return status
