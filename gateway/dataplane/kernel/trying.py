"""What trials of the kernel share."""

import errno
from typing import Final

from gateway.dataplane.interface import DataplaneUnavailableError
from gateway.dataplane.kernel.ruleset import RulesetRefusedError, run_nft

_TABLE: Final = "gateway_trial"


def try_rules(body: str) -> None:
    """Make a table with this in it and remove it, in one transaction. Raises OSError."""
    try:
        run_nft(f"table inet {_TABLE} {{ {body} }}\ndelete table inet {_TABLE}")
    except RulesetRefusedError as error:
        lines = str(error).strip().splitlines()
        raise OSError(errno.EOPNOTSUPP, lines[0].removeprefix("Error: ")) from error


def said(error: OSError | ImportError) -> str:
    """What the kernel said. Raises DataplaneUnavailableError when it lets us do nothing."""
    text = str(getattr(error, "strerror", None) or error)
    if isinstance(error, OSError) and error.errno in {errno.EPERM, errno.EACCES}:
        raise DataplaneUnavailableError(errno.EPERM, f"{text} (needs root or CAP_NET_ADMIN)")
    return text
