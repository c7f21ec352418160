"""Giving privileges up: capabilities(7) and prctl(2), by their numbers."""

import ctypes
import os
import signal

CAP_SETGID = 6
CAP_SETUID = 7
CAP_SETPCAP = 8
CAP_NET_BIND_SERVICE = 10
CAP_NET_ADMIN = 12
CAP_NET_RAW = 13

CORE_CAPABILITIES = frozenset({CAP_NET_ADMIN, CAP_NET_RAW, CAP_NET_BIND_SERVICE})
"""What the core keeps after its start: sockets below 1024, netlink, the packet queue."""

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_CAPBSET_DROP = 24
_PR_SET_SECUREBITS = 28
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_SECBIT_NOROOT_AND_LOCKED = 0b11
_CAPABILITY_VERSION_3 = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Data(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def _check(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _prctl(option: int, *arguments: int) -> None:
    padded = [ctypes.c_ulong(value) for value in (*arguments, 0, 0, 0, 0)[:4]]
    _check(_libc.prctl(option, *padded))


def permitted() -> frozenset[int]:
    """The capabilities that this process may use."""
    header = _Header(_CAPABILITY_VERSION_3, 0)
    data = (_Data * 2)()
    _check(_libc.capget(ctypes.byref(header), data))
    bits = data[0].permitted | data[1].permitted << 32
    return frozenset(number for number in range(64) if bits >> number & 1)


def drop_capabilities(keep: frozenset[int]) -> frozenset[int]:
    """Give up everything but ``keep``, for this process and all that it starts, for good.

    Returns what is left: ``keep`` as far as we had it. Raises OSError.
    """
    have = permitted()
    if CAP_SETPCAP in have:
        for number in range(64):
            if number not in keep and _libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0) != 0:
                break  # past the last capability of this kernel
        _prctl(_PR_SET_SECUREBITS, _SECBIT_NOROOT_AND_LOCKED)
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    left = have & keep
    header = _Header(_CAPABILITY_VERSION_3, 0)
    data = (_Data * 2)()
    for number in left:
        word = data[number // 32]
        word.permitted |= 1 << number % 32
        word.effective |= 1 << number % 32
    _check(_libc.capset(ctypes.byref(header), data))
    return left


def keep_across_exec() -> None:
    """What this process may do, the program that it becomes may do as well.

    For children that do part of our work; call it between fork and exec. Raises OSError.
    """
    header = _Header(_CAPABILITY_VERSION_3, 0)
    data = (_Data * 2)()
    _check(_libc.capget(ctypes.byref(header), data))
    for word in data:
        word.inheritable = word.permitted
    _check(_libc.capset(ctypes.byref(header), data))
    for number in permitted():
        _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, number)


def no_new_privileges() -> None:
    """No program started from here on gains privileges by set-uid bits or file capabilities."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def not_dumpable() -> None:
    """Keys stay out of core dumps, and other processes of our user cannot trace us."""
    _prctl(_PR_SET_DUMPABLE, 0)


def die_with_parent() -> None:
    """Be killed when the parent process ends. Lost when credentials change: call it after."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
