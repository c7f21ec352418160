"""What a process of the forwarder gives up once it has its sockets.

It reads packets of anybody and keeps keys. What is left to it: raw sockets, marks, and reading the
program's own files, as modules may be loaded late.
"""

import sysconfig
from pathlib import Path
from typing import Final

import cryptography

from gateway.domain.landlock import only_read
from gateway.domain.privileges import (
    CAP_NET_ADMIN,
    CAP_NET_RAW,
    drop_capabilities,
    no_new_privileges,
    not_dumpable,
)

CAPABILITIES: Final = frozenset({CAP_NET_ADMIN, CAP_NET_RAW})
"""Raw sockets come and go with tunnels; marks and the routes' lookups need the other one."""


def enclose() -> frozenset[int]:
    """For good; returns the capabilities that are left. Raises OSError."""
    left = drop_capabilities(CAPABILITIES)
    no_new_privileges()
    not_dumpable()
    only_read(_program_folders())
    return left


def _program_folders() -> set[Path]:
    paths = sysconfig.get_paths()
    found = {Path(paths["stdlib"]), Path(paths["platstdlib"])}
    return found | {Path(cryptography.__file__).parents[1], Path(__file__).parents[4]}
