"""How a client gets at its NAR server: what the options mean."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

from gateway.cli import exits
from gateway.cli.failure import complain
from gateway.cli.passwords import MAX_STDIN_OCTETS, PasswordNotGivenError, given_password
from gateway.domain.nar import Delivery
from gateway.nar_host.attachment import AUTO, DATAPLANES
from gateway.nar_host.failure import NarError, NarHostError, NarUnavailableError
from gateway.nar_host.server_name import ServerName

PASSWORD_VARIABLE: Final = "GATEWAY_NAR_PASSWORD"  # noqa: S105 - a name
_NO_PERMISSION: Final = (1, 13)
"""EPERM and EACCES."""


class WrongOptionError(Exception):
    """Options that make no sense; the text says which, and what is allowed."""


@dataclass(frozen=True, slots=True)
class Access:
    """The options of every command that needs a server."""

    server: str
    user: str | None
    password_file: Path | None
    tls: bool | None
    """None: not said, then there is none, and no password leaves either."""
    ca: Path | None
    translated: bool = False
    gre: bool = False
    l2tp: bool = False
    dataplane: str = AUTO

    def name(self) -> ServerName:
        """Where it is. Raises :class:`WrongOptionError`."""
        try:
            return ServerName.parse(self.server, tls=self._has_tls, ca=self.ca)
        except ValueError as error:
            raise WrongOptionError(f"--{error}") from None

    @property
    def _has_tls(self) -> bool:
        return bool(self.tls) or self.ca is not None

    def delivery(self) -> Delivery:
        """What to ask for. Raises :class:`WrongOptionError`."""
        asked = [
            delivery
            for wanted, delivery in (
                (self.translated, Delivery.TRANSLATED),
                (self.gre, Delivery.GRE),
                (self.l2tp, Delivery.L2TP),
            )
            if wanted
        ]
        if len(asked) > 1:
            raise WrongOptionError("--translated, --gre and --l2tp exclude each other: give one")
        return asked[0] if asked else Delivery.IP_IP

    def tunnels(self) -> str:
        """Who has them. Raises :class:`WrongOptionError`."""
        if self.dataplane not in DATAPLANES:
            allowed = ", ".join(DATAPLANES)
            raise WrongOptionError(f"--dataplane {self.dataplane!r}: give one of {allowed}")
        return self.dataplane

    def password(self) -> bytes | None:
        """From the file, the environment or a prompt. Raises :class:`WrongOptionError`, OSError."""
        given = os.environ.pop(PASSWORD_VARIABLE, None)
        if self.user is None:
            if self.password_file is not None:
                raise WrongOptionError("--password-file needs --user")
            return None
        if self.tls is None and not self._has_tls:
            raise WrongOptionError(
                f"--user {self.user} without TLS: anybody on the way could read the password; add "
                "--tls, or --no-tls where nobody listens"
            )
        if self.password_file is not None:
            octets = _first_line(self.password_file)
        elif given is not None:
            octets = given.encode()
        else:
            try:
                prompt = f"Password of {self.user} at {self.server}"
                octets = given_password(prompt, from_stdin=False, twice=False).encode()
            except PasswordNotGivenError:
                raise WrongOptionError(
                    f"no password for --user {self.user}: give --password-file FILE, or set "
                    f"${PASSWORD_VARIABLE}"
                ) from None
        if not 1 <= len(octets) <= 255:
            raise WrongOptionError("the password has to have 1 to 255 octets (RFC 1929)")
        return octets


def _first_line(path: Path) -> bytes:
    if str(path) == "-":
        data = sys.stdin.buffer.read(MAX_STDIN_OCTETS)
    else:
        with path.open("rb") as file:
            data = file.read(MAX_STDIN_OCTETS)
    return data.partition(b"\n")[0].removesuffix(b"\r")


def address(text: str, option: str) -> IPv4Address:
    """An address that was given. Raises :class:`WrongOptionError`."""
    try:
        return IPv4Address(text)
    except ValueError:
        raise WrongOptionError(f"{option} {text!r}: give an IPv4 address") from None


def status_of(error: NarError) -> int:
    """The exit status that says what went wrong."""
    if isinstance(error, NarUnavailableError):
        return exits.UNAVAILABLE
    if isinstance(error, NarHostError):
        return exits.NO_PERMISSION if error.errno in _NO_PERMISSION else exits.OS_ERROR
    return exits.FAILED


def told(command: Callable[[], int]) -> int:
    """Run a command of the client; what goes wrong becomes a sentence and an exit status."""
    try:
        return command()
    except WrongOptionError as error:
        complain(error)
        return exits.USAGE
    except NarError as error:
        complain(error)
        return status_of(error)


def say(_event: str, text: str) -> None:
    """A line about a session, for who looks on."""
    complain(text)
