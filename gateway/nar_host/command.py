"""`gateway nar run`: a command whose only address is a leased one."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final

from gateway.nar_host.control import SessionControl
from gateway.nar_host.dns_relay import DnsRelay, host_servers, resolver_file
from gateway.nar_host.enclosure import Enclosure
from gateway.nar_host.failure import NarError, NarRefusedError
from gateway.nar_host.held_lease import HeldLease
from gateway.nar_host.launch import User, launch
from gateway.nar_host.row import lease_row
from gateway.nar_host.session import NarSession

NOT_FOUND: Final = 127
NOT_EXECUTABLE: Final = 126
_SIGNALLED: Final = 128
_FORWARDED: Final = (
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGINT,
    signal.SIGQUIT,
)
_KEYBOARD: Final = (signal.SIGINT, signal.SIGQUIT)
_LAST_WORDS_S: Final = 5.0
"""For the command to end after its leases have."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What the user asked for."""

    argv: tuple[str, ...]
    ports: int = 32
    udp: bool = False
    peers: tuple[IPv4Address, ...] = ()
    """Whom it talks to; empty: anybody, if the server's rules allow that."""
    port: int = 0
    """The first port, a wish."""
    dns: str = "host"
    """"host": this host's name servers; "keep": /etc/resolv.conf as it is; or an address."""
    user: User | None = None


@dataclass(frozen=True, slots=True)
class _Slot:
    """All leases of one port."""

    port: int
    leases: tuple[HeldLease, ...]


def _port_of(slot: _Slot) -> int:
    return slot.port


async def lease_ports(session: NarSession, options: RunOptions) -> list[int]:
    """Ports in a row, TCP and if wanted UDP. Raises NarError."""
    remotes: tuple[IPv4Address | None, ...] = options.peers or (None,)
    udp_peer = options.peers[0] if len(options.peers) == 1 else None

    async def ask(wish: int) -> _Slot:
        first = await session.lease_tcp_server(port=wish, remote=remotes[0])
        leases = [first]
        port = first.value
        more: list[Callable[[], Awaitable[HeldLease]]] = [
            lambda remote=remote: session.lease_tcp_server(port=port, remote=remote)  # type: ignore[misc]
            for remote in remotes[1:]
        ]
        if options.udp:
            more.append(lambda: session.lease_udp(port=port, peer=udp_peer))
        try:
            for one in more:
                held = await one()
                leases.append(held)
        except NarRefusedError:
            await give_back(_Slot(port, tuple(leases)))
            raise
        same = all(one.value == port for one in leases)
        # A port that only some of the leases have is no port: it fits no row.
        return _Slot(port if same else -1, tuple(leases))

    async def give_back(slot: _Slot) -> None:
        for one in slot.leases:
            await session.release(one)

    try:
        row = await lease_row(options.ports, ask, _port_of, give_back, wish=options.port)
    except NarRefusedError as error:
        if options.peers:
            raise
        hint = "ports that anybody may answer to need any_remote; or name the other side: --peer"
        raise NarRefusedError(f"{error} ({hint})") from error
    return [slot.port for slot in row]


async def run_in(session: NarSession, enclosure: Enclosure, options: RunOptions) -> int:
    """Lease, start the command and pass everything on; its exit status.

    Raises NarError, and OSError when the command cannot be started.
    """
    ports = await lease_ports(session, options)
    enclosure.use_ports(ports)
    environment = {
        "NAR_ADDRESS": str(session.address),
        "NAR_PORTS": f"{ports[0]}-{ports[-1]}",
        "NAR_SERVER": str(session.server),
    }
    if options.peers:
        environment["NAR_PEER"] = " ".join(map(str, options.peers))
        identifier = await _icmp(session, options.peers)
        if identifier is not None:
            environment["NAR_ICMP_ID"] = str(identifier)
    relay = None
    resolver = None
    if options.dns == "host":
        servers = host_servers()
        if servers:
            relay = DnsRelay(servers)
            await relay.open(enclosure.descriptor)
            resolver = resolver_file()
    elif options.dns != "keep":
        resolver = f"nameserver {options.dns}\n" + ("" if options.udp else "options use-vc\n")
    ended = asyncio.Event()
    control = SessionControl(session, ended.set)
    await control.open()
    try:
        process = await launch(
            options.argv,
            enclosure.descriptor,
            environment,
            resolver=resolver,
            user=options.user,
        )
        return await _accompany(process, session, ended)
    finally:
        await control.close()
        if relay is not None:
            relay.close()


async def _icmp(session: NarSession, peers: Sequence[IPv4Address]) -> int | None:
    """One identifier towards all peers; None and a word when the server does not lend it."""
    identifier = 0
    for peer in peers:
        try:
            held = await session.lease_icmp(peer=peer, identifier=identifier)
        except NarRefusedError as error:
            session.said("no_icmp", f"{peer}: {error}")
            return identifier or None
        if identifier and held.value != identifier:
            session.said("no_icmp", f"{peer}: ping -e {held.value}, not {identifier}")
        identifier = identifier or held.value
    return identifier or None


async def _accompany(
    process: asyncio.subprocess.Process, session: NarSession, told: asyncio.Event
) -> int:
    loop = asyncio.get_running_loop()

    def forward(number: signal.Signals) -> None:
        # The terminal tells all of its foreground processes by itself.
        if number in _KEYBOARD and _in_foreground():
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)

    for number in _FORWARDED:
        loop.add_signal_handler(number, forward, number)
    ended = loop.create_task(process.wait())
    over = loop.create_task(_until_over(session, told))
    try:
        await asyncio.wait([ended, over], return_when=asyncio.FIRST_COMPLETED)
        if not ended.done():
            session.said("over", f"{over.result()}: ending the command")
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            await asyncio.wait([ended], timeout=_LAST_WORDS_S)
            if not ended.done():
                process.kill()
        status = await ended
    finally:
        over.cancel()
        for number in _FORWARDED:
            loop.remove_signal_handler(number)
    return status if status >= 0 else _SIGNALLED - status


async def _until_over(session: NarSession, told: asyncio.Event) -> str:
    """Why the command has to end."""
    asked = asyncio.ensure_future(told.wait())
    lost = asyncio.ensure_future(session.wait())
    try:
        await asyncio.wait([asked, lost], return_when=asyncio.FIRST_COMPLETED)
        if not lost.done():
            return "the session was released"
        await lost
    except NarError as error:
        return str(error)
    finally:
        asked.cancel()
        lost.cancel()
    return "the session is over"


def _in_foreground() -> bool:
    try:
        return os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except (OSError, ValueError):
        return False
