"""``gateway nar lease``: from what is wished for to a session that is held."""

import asyncio
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final, NoReturn

from gateway.cli import exits
from gateway.cli.nar_client_advice import advice, lease_table
from gateway.cli.nar_client_options import Access, WrongOptionError, address, say, told
from gateway.domain.nar import NarProtocol
from gateway.nar_host.held_lease import HeldLease
from gateway.nar_host.holding import hold
from gateway.nar_host.row import lease_row
from gateway.nar_host.session import NarSession
from gateway.nar_host.status import session_json

SPIS_OF_IKE: Final = 8
"""Each IPsec tunnel has one, and a second one while its keys are renewed."""
_KINDS: Final = ("ike", "esp", "ah", "udp", "tcp", "icmp", "ipip", "gre")
_ROWS: Final = ("ike", "esp", "ah", "udp", "tcp")
_TUNNELS: Final = {"ipip": NarProtocol.IP_IP, "gre": NarProtocol.GRE}


@dataclass(frozen=True, slots=True)
class Wish:
    """What the user asked for, as given."""

    kind: str
    peer: str | None = None
    count: int | None = None
    port: int = 0
    remote_port: int | None = None
    spi: str = "0"
    identifier: int = 0
    inner: str | None = None

    def check(self) -> None:
        """Raises :class:`WrongOptionError`."""
        if self.kind not in _KINDS:
            raise WrongOptionError(f"{self.kind!r} cannot be leased; KIND is {', '.join(_KINDS)}")
        if self.kind in ("icmp", *_TUNNELS) and self.peer is None:
            raise WrongOptionError(f"lease {self.kind} needs --peer: packets are told by it")
        if self.kind in _TUNNELS and self.inner is None:
            raise WrongOptionError(f"lease {self.kind} needs --inner, the address in the tunnel")
        if self.count is not None and self.kind not in _ROWS:
            raise WrongOptionError(f"--count does not go with {self.kind}")
        if self.remote_port is not None and self.kind not in ("tcp", "udp"):
            raise WrongOptionError(f"--remote-port does not go with {self.kind}")
        if self.remote_port is not None and self.peer is None:
            raise WrongOptionError("--remote-port needs --peer")
        self.first_spi()
        if self.inner is not None:
            address(self.inner, "--inner")
        if self.kind in ("tcp", "udp"):
            self.peer_address()

    def first_spi(self) -> int:
        """Raises :class:`WrongOptionError`."""
        try:
            value = int(self.spi, 0)
        except ValueError:
            value = -1
        if value != 0 and not 256 <= value < 1 << 32:
            raise WrongOptionError(f"--spi {self.spi!r}: give 0x100 to 0xffffffff, or 0 for any")
        return value

    def peer_address(self) -> IPv4Address | None:
        """Raises :class:`WrongOptionError` for a name."""
        return None if self.peer is None else address(self.peer, "--peer")


def lease(access: Access, wish: Wish, *, background: bool, as_json: bool) -> int:
    """Lease, say what was leased, and hold it until the end; the exit status."""

    def command() -> int:
        wish.check()
        password = access.password()
        session_of = _maker(access, wish, password)
        if background:
            return _in_background(lambda report: _hold(session_of, wish, report, as_json=as_json))
        return _hold(session_of, wish, _print, as_json=as_json)

    return told(command)


def _maker(access: Access, wish: Wish, password: bytes | None) -> Callable[[], NarSession]:
    server, delivery, tunnels = access.name(), access.delivery(), access.tunnels()
    return lambda: NarSession(
        server,
        user=access.user,
        password=password,
        peer=_target(wish.peer),
        delivery=delivery,
        title=f"lease {wish.kind}" + (f" for {wish.peer}" if wish.peer else ""),
        notify=say,
        dataplane=tunnels,
    )


def _target(peer: str | None) -> IPv4Address | str | None:
    """A name is resolved by the server."""
    try:
        return None if peer is None else IPv4Address(peer)
    except ValueError:
        return peer


def _hold(
    session_of: Callable[[], NarSession],
    wish: Wish,
    report: Callable[[str], None],
    *,
    as_json: bool,
) -> int:
    async def main() -> None:
        session = session_of()

        def ready(leases: Sequence[HeldLease]) -> None:
            if as_json:
                found = {**session_json(session), "advice": advice(session, leases)}
                report(json.dumps(found, indent=2))
            else:
                report(lease_table(session, leases))

        await hold(session, lambda one: ask(one, wish), ready)

    asyncio.run(main())
    return exits.OK


async def ask(session: NarSession, wish: Wish) -> list[HeldLease]:
    """Ask the server for it. Raises NarError, and WrongOptionError for a name as peer."""
    target = _target(wish.peer)
    peer = target if isinstance(target, IPv4Address) else None
    count = wish.count or 1
    match wish.kind:
        case "ike":
            port = await session.lease_udp(port=wish.port, peer=peer)
            count = wish.count or SPIS_OF_IKE
            spis = await session.lease_spi_row(
                NarProtocol.ESP, count, peer=peer, spi=wish.first_spi()
            )
            return [port, *spis]
        case "esp" | "ah":
            protocol = NarProtocol.ESP if wish.kind == "esp" else NarProtocol.AH
            return await session.lease_spi_row(protocol, count, peer=peer, spi=wish.first_spi())
        case "tcp" | "udp":
            return await _ports(session, wish, peer, count)
        case "icmp":
            return [await session.lease_icmp(peer=peer, identifier=wish.identifier)]
        case _:
            inner = address(wish.inner or "", "--inner")
            protocol = _TUNNELS[wish.kind]
            return [await session.lease_tunnel(protocol, inner=inner, peer=peer)]


async def _ports(
    session: NarSession, wish: Wish, peer: IPv4Address | None, count: int
) -> list[HeldLease]:
    async def one(port: int) -> HeldLease:
        if wish.remote_port is not None and peer is not None:
            if wish.kind == "tcp":
                return await session.lease_tcp(peer, wish.remote_port)
            return await session.lease_udp_to(peer, wish.remote_port)
        if wish.kind == "tcp":
            return await session.lease_tcp_server(port=port, remote=peer)
        return await session.lease_udp(port=port, peer=peer)

    if wish.remote_port is not None:
        return [await one(0) for _ in range(count)]
    return await lease_row(
        count, one, lambda held: held.local_port, session.release, wish=wish.port
    )


def _print(text: str) -> None:
    print(text, flush=True)


def _in_background(work: Callable[[Callable[[str], None]], int]) -> int:
    """Do ``work`` in a process of its own; return when it reported, or with its failure."""
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.close(reader)
        _apart(writer, work)
    os.close(writer)
    with os.fdopen(reader, "rb") as answers:
        answer = answers.read()
    status, _, text = answer.partition(b"\n")
    if not status.isdigit():
        raise OSError("the process in the background ended without a word")
    where = sys.stdout if status == b"0" else sys.stderr
    print(text.decode("utf-8", "replace"), file=where, end="")
    return int(status)


def _apart(writer: int, work: Callable[[Callable[[str], None]], int]) -> NoReturn:
    """The process in the background: without a terminal, after its report without any output."""
    os.setsid()
    errors = os.memfd_create("errors")
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.dup2(errors, 2)
    reported = False

    def report(text: str) -> None:
        nonlocal reported
        reported = True
        os.write(writer, b"0\n" + text.encode() + b"\n")
        os.close(writer)
        os.dup2(null, 2)

    status = exits.FAILED
    try:
        status = told(lambda: work(report))
    finally:
        sys.stderr.flush()
        if not reported:
            said = os.pread(errors, 65536, 0)
            os.write(writer, f"{status or exits.FAILED}\n".encode() + said)
        os._exit(status)
