"""``gateway nar run``: a command with a leased address of its own."""

import asyncio
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final

from gateway.cli.failure import complain
from gateway.cli.nar_client_options import Access, WrongOptionError, address, say, told
from gateway.nar_host.command import (
    NOT_EXECUTABLE,
    NOT_FOUND,
    RunOptions,
    run_in,
)
from gateway.nar_host.enclosure import Enclosure
from gateway.nar_host.failure import NarError, NarHostError
from gateway.nar_host.launch import User
from gateway.nar_host.session import NarSession

NOT_STARTED: Final = 125
"""As `env`, `timeout` and others have it: the trouble is ours, not the command's."""


_QUIET: Final = ("disconnected", "unreachable", "stopping")
"""While a server restarts, packets go on; `gateway nar list --json` has these lines."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What the user asked for, as given."""

    argv: tuple[str, ...]
    peers: tuple[str, ...] = ()
    ports: int = 32
    port: int = 0
    udp: bool = False
    dns: str = "host"
    run_as: str | None = None

    def options(self) -> RunOptions:
        """Raises :class:`WrongOptionError`."""
        if not self.argv:
            raise WrongOptionError("no command; give it behind --, for example: -- ssh ann@host")
        peers = tuple(address(one, "--peer") for one in self.peers)
        if self.dns not in ("host", "keep"):
            address(self.dns, "--dns (host, keep, or an address)")
        user = None
        if self.run_as is not None:
            try:
                user = User.named(self.run_as)
            except KeyError:
                raise WrongOptionError(f"--as {self.run_as!r}: no such user here") from None
        return RunOptions(
            self.argv, self.ports, self.udp, _distinct(peers), self.port, self.dns, user
        )


def _distinct(peers: tuple[IPv4Address, ...]) -> tuple[IPv4Address, ...]:
    return tuple(dict.fromkeys(peers))


def run(access: Access, wish: Wish) -> int:
    """Run it; its exit status, or :data:`NOT_STARTED`."""
    started = False

    def command() -> int:
        nonlocal started
        options = wish.options()
        server, delivery, tunnels = access.name(), access.delivery(), access.tunnels()
        password = access.password()
        title = "run " + " ".join(options.argv)[:200]

        async def main() -> int:
            enclosure = Enclosure()
            try:
                peer = options.peers[0] if len(options.peers) == 1 else None
                async with NarSession(
                    server,
                    user=access.user,
                    password=password,
                    peer=peer,
                    delivery=delivery,
                    enclosure=enclosure,
                    title=title,
                    notify=_say,
                    dataplane=tunnels,
                ) as session:
                    return await _run(session, enclosure, options)
            finally:
                enclosure.close()

        status = asyncio.run(main())
        started = True
        return status

    status = told(command)
    return status if started else NOT_STARTED


def _say(event: str, text: str) -> None:
    """Only what the command's user has to know: it has the terminal."""
    if event not in _QUIET:
        say(event, text)


async def _run(session: NarSession, enclosure: Enclosure, options: RunOptions) -> int:
    try:
        return await run_in(session, enclosure, options)
    except NarError:
        raise
    except FileNotFoundError:
        complain(f"{options.argv[0]}: no such command")
        return NOT_FOUND
    except PermissionError as error:
        complain(f"{options.argv[0]}: {error.strerror}")
        return NOT_EXECUTABLE
    except OSError as error:
        raise NarHostError(f"{options.argv[0]}: {error.strerror or error}", error.errno) from error
