"""A NAR client as a library: negotiate leases, and have this host ready to use them."""

import asyncio
import errno
import os
import socket
from collections import deque
from collections.abc import Callable
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from gateway.domain.nar import Delivery, L2tpSession, NarProtocol
from gateway.nar.client.engine import NarClient
from gateway.nar.client.settings import ANY, NarClientSettings
from gateway.nar.client_outputs import (
    AddressChanged,
    Granted,
    L2tpAgreed,
    Lost,
    ModeAgreed,
    Output,
    Released,
    SessionAgreed,
)
from gateway.nar_host import plan, spis
from gateway.nar_host.attachment import AUTO, Attachment
from gateway.nar_host.enclosure import Enclosure
from gateway.nar_host.failure import NarError, NarHostError, NarRefusedError, NarUnavailableError
from gateway.nar_host.held_lease import HeldLease
from gateway.nar_host.negotiation import Negotiation
from gateway.nar_host.record import Place, Tunnel
from gateway.nar_host.registry import Registry
from gateway.nar_host.row import lease_row
from gateway.nar_host.server_name import ServerName

END_TO_END: Final = frozenset(one for one in Delivery if one.end_to_end)
_SPI_TRIES: Final = 8
_PATH_MTU: Final = 14
_DEFAULT_PATH_MTU: Final = 1500
KEPT_EVENTS: Final = 20
Notify = Callable[[str, str], None]
"""Told ``(event, sentence)`` of what happens to the session and its leases."""


class NarSession:
    """A session with a NAR server, and what of this host it needs.

    Use it as an asynchronous context manager::

        async with NarSession("nar.example", user="ann", password="...", tls=True) as session:
            lease = await session.lease_esp(peer=IPv4Address("198.51.100.7"))
            print(lease.address, f"{lease.value:#x}")
            await session.wait()

    While it is open, Nb is an address of this host (or, with ``enclosure``, of that network
    namespace) and what is sent from it goes through the tunnel with the server; leases are
    renewed, and the connection is made again when it breaks. Leaving the block gives everything
    back. In translated mode nothing is installed: packets keep this host's own address.

    Root (CAP_NET_ADMIN and CAP_SYS_ADMIN) is needed for end-to-end delivery.
    """

    def __init__(
        self,
        server: str | ServerName,
        *,
        user: str | None = None,
        password: str | bytes | None = None,
        tls: bool = False,
        ca: Path | None = None,
        peer: IPv4Address | str | None = None,
        delivery: Delivery = Delivery.IP_IP,
        enclosure: Enclosure | None = None,
        title: str = "a program",
        notify: Notify | None = None,
        registry: Registry | None = None,
        dataplane: str = AUTO,
    ) -> None:
        """Set it up, without doing anything yet.

        ``peer`` is Yb for NAR-MODE, for leases that name none themselves; a name is resolved by
        the server. ``dataplane`` says who has the tunnel: "kernel", "portable" (a process of ours),
        or "auto", the kernel where it can. Raises ValueError when ``server`` is not HOST or
        HOST:PORT.
        """
        if isinstance(server, str):
            server = ServerName.parse(server, tls=tls, ca=ca)
        self.server = server
        self._place = Place.HOST if enclosure is None else Place.COMMAND
        octets = password.encode() if isinstance(password, str) else password
        self._settings = NarClientSettings(
            user=user,
            password=octets,
            target=ANY if peer is None else peer,
            delivery=delivery,
            acceptable=frozenset(Delivery) if enclosure is None else END_TO_END,
        )
        inside = None if enclosure is None else enclosure.route
        self._attachment = Attachment(
            title,
            str(server),
            self._place,
            registry=registry,
            inside=inside,
            dataplane=dataplane,
        )
        self._notify = notify
        self._held: dict[int, HeldLease] = {}
        self._negotiation: Negotiation | None = None
        self._mode: ModeAgreed | None = None
        self._l2tp: L2tpSession | None = None
        self._ends: tuple[IPv4Address, IPv4Address] | None = None
        self._installed: tuple[object, ...] = ()
        self.events: deque[str] = deque(maxlen=KEPT_EVENTS)
        """What was told, the last few."""
        self.lease_s: int | None = None
        """How long leases live without renewal; None: as long as the connection."""

    # -- coming and going ------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def open(self) -> None:
        """Connect and agree on NAR.

        Raises:
            NarUnavailableError: no such server, or it does not answer.
            NarRefusedError: the login or NAR was refused, or a delivery is imposed that is not
                possible here.
            NarHostError: this host cannot do its part.
        """
        if self._settings.delivery.end_to_end and os.geteuid() != 0:
            text = "a tunnel, an address and routes need root: run as root, or ask for --translated"
            raise NarHostError(text, errno.EPERM)
        self._attachment.open()
        self._negotiation = Negotiation(self.server, self._settings, self)
        try:
            await self._negotiation.open()
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Give everything back, and take it from this host. Never raises."""
        try:
            if self._negotiation is not None:
                await self._negotiation.close()
        finally:
            self._attachment.close()

    async def wait(self) -> None:
        """Until the session is over for good. Raises :class:`NarError`, saying why."""
        await asyncio.wait([self._running().over])
        self._running().over.result()

    # -- what is known ---------------------------------------------------------------------

    @property
    def number(self) -> int:
        """Of this session, on this host."""
        return self._attachment.record.number

    @property
    def attachment(self) -> Attachment:
        """Our part of this host."""
        return self._attachment

    @property
    def address(self) -> IPv4Address:
        """Nb."""
        return self._agreed().address

    @property
    def delivery(self) -> Delivery:
        """What was agreed on, or imposed by the server."""
        return self._agreed().delivery

    @property
    def client_address(self) -> IPv4Address | None:
        """Xa: our own address towards the server."""
        return None if self._ends is None else self._ends[0]

    @property
    def connected(self) -> bool:
        """Whether the server hears us now."""
        return self._negotiation is not None and self._negotiation.connected

    @property
    def leases(self) -> list[HeldLease]:
        """What is lent to us now."""
        return list(self._held.values())

    def _running(self) -> Negotiation:
        if self._negotiation is None:
            raise RuntimeError("open the session first")
        return self._negotiation

    def _agreed(self) -> ModeAgreed:
        if self._mode is None:
            raise RuntimeError("open the session first")
        return self._mode

    # -- leases ----------------------------------------------------------------------------
    # All of them raise NarRefusedError when the server says no, NarUnavailableError when the
    # session is over, and NarHostError when this host cannot do its part.

    async def lease_esp(self, *, peer: IPv4Address | None = None, spi: int = 0) -> HeldLease:
        """An SPI for ESP that ``peer`` sends to us; ``spi`` is a wish. It is free here, too."""
        return await self._lease_spi(NarProtocol.ESP, spi, peer)

    async def lease_ah(self, *, peer: IPv4Address | None = None, spi: int = 0) -> HeldLease:
        """An SPI for AH that ``peer`` sends to us. Not in translated mode."""
        return await self._lease_spi(NarProtocol.AH, spi, peer)

    async def lease_spi_row(
        self, protocol: NarProtocol, count: int, *, peer: IPv4Address | None = None, spi: int = 0
    ) -> list[HeldLease]:
        """So many SPIs in a row, for a program that chooses from a range."""

        async def ask(wish: int) -> HeldLease:
            return await self._lease_spi(protocol, wish, peer)

        return await lease_row(count, ask, _value, self.release, wish=spi)

    async def lease_tcp(self, remote: IPv4Address, remote_port: int) -> HeldLease:
        """A port for a connection that we make to ``remote`` (as of CONNECT)."""
        return await self._ask(lambda engine: engine.lease_tcp(remote, remote_port))

    async def lease_tcp_server(
        self, *, port: int = 0, remote: IPv4Address | None = None
    ) -> HeldLease:
        """A port that ``remote`` (None: anybody) may connect to; ``port`` is a wish."""
        return await self._ask(lambda engine: engine.lease_tcp_server(port, remote))

    async def lease_udp(self, *, port: int = 0, peer: IPv4Address | None = None) -> HeldLease:
        """A UDP port; answers come from any address. ``port`` is a wish."""
        return await self._ask(lambda engine: engine.lease_udp(port, peer))

    async def lease_udp_to(self, remote: IPv4Address, remote_port: int) -> HeldLease:
        """A UDP port for what comes from ``remote_port``."""
        return await self._ask(lambda engine: engine.lease_udp_to(remote, remote_port))

    async def lease_icmp(
        self, *, peer: IPv4Address | None = None, identifier: int = 0
    ) -> HeldLease:
        """An identifier for echo requests to ``peer``, and from it."""
        return await self._ask(lambda engine: engine.lease_icmp(identifier, peer))

    async def lease_tunnel(
        self, protocol: NarProtocol, *, inner: IPv4Address, peer: IPv4Address | None = None
    ) -> HeldLease:
        """Tunnels (IP_IP or GRE) from ``peer`` to the address ``inner``."""
        return await self._ask(lambda engine: engine.lease_tunnel(protocol, inner, peer))

    async def release(self, held: HeldLease) -> None:
        """Give a lease back."""
        await self._running().release(held.ticket)

    async def _lease_spi(
        self, protocol: NarProtocol, spi: int, peer: IPv4Address | None
    ) -> HeldLease:
        """Unique in the spaces of both, as the draft asks (section 2.6.2)."""
        # What clashes is kept until there is another one: it would be lent again.
        clashing: list[HeldLease] = []
        try:
            while len(clashing) < _SPI_TRIES:
                wish = 0 if clashing else spi
                held = await self._ask(
                    partial(NarClient.lease_spi, protocol=protocol, spi=wish, target=peer)
                )
                towards = held.address if self.delivery.end_to_end else self.client_address
                if towards is None or held.value not in spis.used_here(towards):
                    return held
                clashing.append(held)
                self.said("spi_in_use", f"SPI {held.value:08x} is in use on this host: another one")
        finally:
            for one in clashing:
                await self.release(one)
        raise NarHostError(f"{_SPI_TRIES} SPIs of the server are in use on this host already")

    async def _ask(self, ask: Callable[[NarClient], int]) -> HeldLease:
        ticket, lease = await self._running().ask(ask)
        held = self._held.get(ticket)
        if held is None:
            raise NarRefusedError(f"{lease.tuple} was lent and taken back at once; try again")
        return held

    # -- what the negotiation tells, see Listener ------------------------------------------

    def connected_from(self, local: IPv4Address, remote: IPv4Address) -> None:
        """A connection is there, from Xa to Na."""
        before, self._ends = self._ends, (local, remote)
        if before is not None and before != self._ends:
            self.said("moved", f"this host's address is {local} now, it was {before[0]}")

    def heard(self, outputs: list[Output]) -> None:
        """What became of leases; the host follows before anybody else hears of it."""
        lost = [output for output in outputs if isinstance(output, Lost)]
        for output in outputs:
            self._take(output)
        wanted = self._wanted()
        if wanted != self._installed:
            self._install()
            self._installed = wanted
        if lost and not self._held:
            raise NarUnavailableError(f"{self.server}: nothing is left: {lost[-1].words}")

    def said(self, event: str, text: str) -> None:
        """Something worth a line to the user."""
        self.events.append(text)
        if self._notify is not None:
            self._notify(event, text)

    def _take(self, output: Output) -> None:
        match output:
            case ModeAgreed():
                self._mode_agreed(output)
            case L2tpAgreed():
                self._l2tp = output.session
            case SessionAgreed():
                self.lease_s = output.lease_s
            case Granted():
                self._held[output.ticket] = HeldLease(output.ticket, output.lease)
            case Released():
                self._drop(output.ticket, "released")
            case Lost():
                self._drop(output.ticket, output.words)
                self.said("lost", f"lost {output.lease.tuple}: {output.words}")
            case AddressChanged():
                for ticket, lease in output.leases.items():
                    if ticket in self._held:
                        self._held[ticket].lease = lease
                self.said("address", f"the address is {output.new} now, it was {output.old}")
            case _:
                pass

    def _mode_agreed(self, mode: ModeAgreed) -> None:
        before, self._mode = self._mode, mode
        if before is None and mode.delivery is not self._settings.delivery:
            text = (
                f"the server delivers by {mode.delivery.value}, not {self._settings.delivery.value}"
            )
            self.said("imposed", text)

    def _drop(self, ticket: int, why: str) -> None:
        held = self._held.pop(ticket, None)
        if held is not None:
            held.ended = why

    # -- this host -------------------------------------------------------------------------

    def _tunnel(self) -> Tunnel | None:
        mode, ends = self._mode, self._ends
        if mode is None or ends is None or not mode.delivery.end_to_end or not self._held:
            return None
        if mode.delivery is Delivery.L2TP and self._l2tp is None:
            return None
        l2tp = self._l2tp if mode.delivery is Delivery.L2TP else None
        mtu = plan.tunnel_mtu(mode.delivery, _path_mtu(ends[1]))
        return Tunnel(mode.delivery, ends[0], ends[1], mtu, l2tp)

    def _wanted(self) -> tuple[object, ...]:
        """What the host's part follows from."""
        tuples = tuple(held.lease.tuple for held in self._held.values())
        return self._ends, self._mode, self._l2tp, tuples

    def _install(self) -> None:
        tuples = [held.lease.tuple for held in self._held.values()]
        address = tuples[0].address if tuples else None
        if address is None and self._mode is not None:
            address = self._mode.address
        if any(one.address != address for one in tuples):
            text = "the server lends different addresses in one session; open one for each peer"
            raise NarHostError(text)
        try:
            self._attachment.use(address, self._tunnel(), tuples)
        except NarError:
            raise
        except OSError as error:
            raise NarHostError(f"this host: {error.strerror or error}", error.errno) from error


def _value(held: HeldLease) -> int:
    return held.value


def _path_mtu(remote: IPv4Address) -> int:
    """Of the path to the server, octets, as the kernel knows it."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((str(remote), 9))
            return probe.getsockopt(socket.IPPROTO_IP, _PATH_MTU)
    except OSError:
        return _DEFAULT_PATH_MTU
