"""Giving up the file system: landlock(7), by its numbers; works without privileges."""

import ctypes
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

_CREATE_RULESET: Final = 444
_ADD_RULE: Final = 445
_RESTRICT_SELF: Final = 446
"""System calls, the same numbers on all architectures."""
_RULE_PATH_BENEATH: Final = 1
_READ_FILE: Final = 1 << 2
_READ_DIR: Final = 1 << 3
_EVERYTHING: Final = (1 << 13) - 1
"""The kinds of access that the first version of landlock knows."""

_libc = ctypes.CDLL(None, use_errno=True)


class _Ruleset(ctypes.Structure):
    _fields_ = (("handled_access_fs", ctypes.c_uint64),)


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


def _call(number: int, *arguments: object) -> int:
    result: int = _libc.syscall(number, *arguments)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def only_read(folders: Iterable[Path]) -> bool:
    """From now on this process opens nothing but files below these folders, for reading.

    What is open stays open. Needs no_new_privs or CAP_SYS_ADMIN. Returns whether the kernel can;
    raises OSError when it can and refuses.
    """
    attributes = _Ruleset(_EVERYTHING)
    try:
        ruleset = _call(
            _CREATE_RULESET, ctypes.byref(attributes), ctypes.sizeof(attributes), ctypes.c_uint32(0)
        )
    except OSError:
        return False  # no landlock in this kernel, or turned off
    try:
        for folder in folders:
            _allow(ruleset, folder)
        _call(_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint32(0))
    finally:
        os.close(ruleset)
    return True


def _allow(ruleset: int, folder: Path) -> None:
    parent = os.open(folder, os.O_PATH | os.O_CLOEXEC)
    try:
        rule = _PathBeneath(_READ_FILE | _READ_DIR, parent)
        kind = ctypes.c_int(_RULE_PATH_BENEATH)
        _call(_ADD_RULE, ctypes.c_int(ruleset), kind, ctypes.byref(rule), ctypes.c_uint32(0))
    finally:
        os.close(parent)
