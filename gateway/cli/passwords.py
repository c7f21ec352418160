"""Passwords from a prompt or from standard input, never from the command line."""

import sys
from getpass import getpass

MAX_STDIN_OCTETS = 4096
"""More than any password."""


class PasswordNotGivenError(Exception):
    """No usable password came; the text says what to do."""


def given_password(prompt: str, *, from_stdin: bool, twice: bool) -> str:
    """From standard input, or asked for without echo, ``twice`` where a slip would be kept.

    Raises :class:`PasswordNotGivenError`.
    """
    if from_stdin:
        return _from_stdin()
    if not sys.stdin.isatty():
        raise PasswordNotGivenError(
            "no terminal to ask for the password at; pass it with --password-stdin"
        )
    try:
        first = getpass(f"{prompt}: ")
        again = getpass("Again: ") if twice else first
    except EOFError:
        raise PasswordNotGivenError("no password was given") from None
    if first != again:
        raise PasswordNotGivenError("the two passwords differ; nothing was changed")
    return first


def _from_stdin() -> str:
    data = sys.stdin.buffer.read(MAX_STDIN_OCTETS + 1)
    if len(data) > MAX_STDIN_OCTETS:
        raise PasswordNotGivenError(
            f"more than {MAX_STDIN_OCTETS} octets came on standard input; give one password"
        )
    try:
        return data.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise PasswordNotGivenError("the password is not UTF-8; convert it") from None
