"""The gateway's side of TCP encapsulation: listeners, and bounds on who may keep a connection.

To the engine and the dataplane each TCP connection is a peer at an endpoint of its own (see
:mod:`gateway.ike.tcp_relay`). Its address is a keyed digest of the true source, so whatever counts
by source counts TCP peers by source as well; its port tells connections apart.
"""

import asyncio
import contextlib
import errno
import hashlib
import os
import resource
import socket
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

from gateway.appliance.events import EventLog
from gateway.appliance.tcp_names import TcpNames
from gateway.config.document import Config
from gateway.domain.endpoint import TCP_PEERS, Endpoint, IpAddress
from gateway.domain.event import Event, Severity
from gateway.ike.half_open import PerSecond
from gateway.ike.socket_errors import PortInUseError, TransportDeniedError, TransportError
from gateway.ike.tcp_relay import COUNTERS, RelaySocket, TcpConnection

BACKLOG = 128
SWEEP_S = 2.0
ESTABLISHED_S = 0.5
"""How old our knowledge of who has an IKE SA may be: a flood must not make it costly."""
EVENTS_PER_S = 5
"""Of connections that end or are refused; all are counted."""
SPARE_DESCRIPTORS = 256
"""Of the process's, left for everything else."""


@dataclass(frozen=True, slots=True)
class TcpLimits:
    """How much strangers may take."""

    connections: int = 1000
    per_source: int = 100
    """By IPv4 address or IPv6 /64; many devices may share one."""
    first_message_s: float = 10.0
    """From the connection to the first whole message."""
    rest_s: float = 10.0
    """From the first octet of a message to its last, as long as no IKE SA is established."""
    idle_s: float = 60.0
    """Without any message and without an established IKE SA."""
    login_s: float = 300.0
    """In all without an established IKE SA."""


def engine_address(accepted: IpAddress, listen: Sequence[IpAddress]) -> IPv4Address:
    """The address of our IKE sockets that stands for us towards who connected to ``accepted``.

    The same, where there is an IKE socket: a peer that changes to UDP then stays with it. Raises
    ValueError without any IPv4 address in ``listen``.
    """
    ours = [address for address in listen if isinstance(address, IPv4Address)]
    if not ours:
        raise ValueError("no IKE socket has an IPv4 address")
    anywhere = any(address.is_unspecified for address in ours)
    if isinstance(accepted, IPv4Address) and (accepted in ours or anywhere):
        return accepted
    return next((one for one in ours if not one.is_unspecified), IPv4Address("127.0.0.1"))


def forgeable_interfaces(root: Path = Path("/proc/sys/net/ipv4/conf")) -> list[str]:
    """Interfaces that let packets with loopback addresses in: there, peers could be invented."""
    found = []
    for one in sorted(root.glob("*/route_localnet")):
        with contextlib.suppress(OSError):
            if one.read_text().strip() != "0" and one.parent.name != "lo":
                found.append(one.parent.name)
    return found


class TcpEncapsulation:
    """Listens, relays, and ends what takes without giving."""

    def __init__(
        self,
        listen: Sequence[Endpoint],
        *,
        ike_listen: Sequence[IpAddress],
        nat_port: int,
        limits: TcpLimits,
        emit: Callable[[Event], None],
        random: Callable[[int], bytes],
    ) -> None:
        """Prepare; nothing is opened before :meth:`bind`.

        ``ike_listen`` and ``nat_port`` are of our own IKE sockets, ``random`` gives unpredictable
        octets. Half of the process's file descriptors bound the connections as well.
        """
        self._listen = listen
        self._ike_listen = ike_listen
        self._nat_port = nat_port
        self._emit = emit
        self._key = random(32)
        spare = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - SPARE_DESCRIPTORS
        self.limits = replace(limits, connections=max(min(limits.connections, spare // 2), 1))
        self._sockets: list[socket.socket] = []
        self._servers: list[asyncio.Server] = []
        self._open: dict[TcpConnection, int] = {}
        """With the number of the source of each, the oldest first."""
        self._by_source: Counter[int] = Counter()
        self.names = TcpNames()
        self._proven: tuple[float, Collection[Endpoint]] = (float("-inf"), frozenset())
        self._may_report = PerSecond(EVENTS_PER_S)
        self._established: Callable[[], Collection[Endpoint]] = frozenset
        self._sweeping: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.counters = dict.fromkeys(
            (*COUNTERS, "accepted", "refused", "crowded_out", "timeouts", "protocol_errors"), 0
        )

    # -- start and stop -----------------------------------------------------------------------

    def bind(self) -> None:
        """Take the ports. Raises :class:`gateway.ike.socket_errors.TransportError`."""
        try:
            for where in self._listen:
                self._sockets.append(_listening(where))
        except BaseException:
            self.close()
            raise

    @property
    def listening(self) -> list[Endpoint]:
        """Where peers can connect to."""
        found = []
        for sock in self._sockets:
            address, port = sock.getsockname()[:2]
            found.append(Endpoint(ip_address(address), port))
        return found

    async def start(self, established: Callable[[], Collection[Endpoint]]) -> None:
        """Begin to accept. ``established`` tells where the peers of IKE SAs are."""
        self._established = established
        loop = self._loop = asyncio.get_running_loop()
        for sock in self._sockets:
            server = await loop.create_server(self._connection, sock=sock, backlog=BACKLOG)
            self._servers.append(server)
        self._sweeping = loop.call_later(SWEEP_S, self._sweep_again)
        if names := forgeable_interfaces():
            text = (
                f"route_localnet is on for {', '.join(names)}: hosts there can send packets that"
                " seem to come from our own TCP relay; switch it off"
            )
            self._emit(Event("tcp_forgeable", text, Severity.WARNING, {"interfaces": names}))

    def close(self) -> None:
        """End everything; what waits to be sent still goes out if it can."""
        if self._sweeping is not None:
            self._sweeping.cancel()
        for server in self._servers:
            server.close()
        for sock in self._sockets:
            sock.close()
        for connection in list(self._open):
            connection.end("the gateway stops", gently=True)
        self._servers.clear()
        self._sockets.clear()

    # -- connections --------------------------------------------------------------------------

    def _connection(self) -> TcpConnection:
        return TcpConnection(
            asyncio.get_running_loop(),
            self.counters,
            accepted=True,
            relay=self._relay,
            ended=self._ended,
            begun=self._begun,
        )

    def _begun(self, connection: TcpConnection) -> bool:
        self.counters["accepted"] += 1
        if not connection.remote[0]:
            return False
        source = _source(connection.remote[0])
        if self._by_source[source] >= self.limits.per_source:
            self._refuse(connection, "its source has too many connections")
            return False
        if len(self._open) >= self.limits.connections and not self._make_room(source):
            self._refuse(connection, "there are too many connections")
            return False
        self._open[connection] = source
        self._by_source[source] += 1
        return True

    def _refuse(self, connection: TcpConnection, why: str) -> None:
        self.counters["refused"] += 1
        where = _text(connection.remote)
        fields: dict[str, object] = {"remote": where, "reason": why}
        text = f"TCP connection of {where} refused: {why}"
        self._report(Event("tcp_refused", text, Severity.WARNING, fields))

    def _report(self, event: Event) -> None:
        if self._may_report.may(asyncio.get_running_loop().time()):
            self._emit(event)

    def _with_ike_sa(self) -> Collection[Endpoint]:
        """Where the peers of IKE SAs are, as of a moment ago."""
        now = asyncio.get_running_loop().time()
        if now - self._proven[0] > ESTABLISHED_S:
            self._proven = (now, self._established())
        return self._proven[1]

    def _make_room(self, newcomer: int) -> bool:
        """End the oldest connection without an IKE SA of the source that has the most of them."""
        proven = self._with_ike_sa()
        strangers = [one for one in self._open if one.endpoint not in proven]
        crowds = Counter(self._open[one] for one in strangers)
        most = max(crowds.values(), default=0)
        if not strangers or crowds[newcomer] >= most > 1:
            return False
        victim = next(one for one in strangers if crowds[self._open[one]] == most)
        self.counters["crowded_out"] += 1
        victim.end("others need the place")
        return True

    def _relay(self, connection: TcpConnection) -> RelaySocket:
        accepted = ip_address(connection.local[0].partition("%")[0])
        mapped = accepted.ipv4_mapped if isinstance(accepted, IPv6Address) else None
        engine = engine_address(mapped or accepted, self._ike_listen)
        relay = RelaySocket(
            self._stand_in(_source(connection.remote[0])),
            engine=Endpoint(engine, self._nat_port),
        )
        self.names.add(relay.endpoint, _text(connection.remote), connection.remote[0])
        return relay

    def _stand_in(self, source: int) -> IPv4Address:
        digest = hashlib.blake2s(source.to_bytes(17, "big"), key=self._key, digest_size=4).digest()
        # The first and the last one look like a network's and a broadcast address.
        room = TCP_PEERS.num_addresses - 2
        return TCP_PEERS[1 + int.from_bytes(digest, "big") % room]

    def _ended(self, connection: TcpConnection, why: str, broken: bool) -> None:
        source = self._open.pop(connection, None)
        if source is not None:
            self._by_source[source] -= 1
            if self._by_source[source] <= 0:
                del self._by_source[source]
        if connection.endpoint is not None:
            self.names.ended(connection.endpoint)
        where = _text(connection.remote)
        if broken:
            self.counters["protocol_errors"] += 1
        text = f"TCP connection of {where} ended: {why}"
        severity = Severity.WARNING if broken else Severity.DEBUG
        name = "tcp_protocol_error" if broken else "tcp_closed"
        self._report(Event(name, text, severity, {"remote": where, "reason": why}))

    # -- time -----------------------------------------------------------------------------------

    def _sweep_again(self) -> None:
        if self._loop is not None:
            self._sweeping = self._loop.call_later(SWEEP_S, self._sweep_again)
            self.sweep(self._loop.time())

    def sweep(self, now: float) -> None:
        """End the connections of those whose time is over."""
        if not self._open:
            return
        proven = self._established()
        late = []
        for one in self._open:
            one.trusted = one.endpoint in proven
            if not one.trusted and (why := self._objection(one, now)):
                late.append((one, why))
        for one, why in late:
            self.counters["timeouts"] += 1
            one.end(why)

    def _objection(self, one: TcpConnection, now: float) -> str | None:
        limits = self.limits
        if one.endpoint is None and now - one.opened_at > limits.first_message_s:
            return "no message in time"
        if one.waiting_since is not None and now - one.waiting_since > limits.rest_s:
            return "half a message, and no rest of it"
        if now - one.heard_at > limits.idle_s:
            return "idle without an IKE SA"
        if now - one.opened_at > limits.login_s:
            return "no IKE SA in time"
        return None

    # -- what others see --------------------------------------------------------------------------

    def facts(self) -> dict[str, object]:
        """For status."""
        return {
            "listen": [str(one) for one in self.listening],
            "connections": len(self._open),
            "limit": self.limits.connections,
        }


def open_tcp(config: Config, events: EventLog) -> TcpEncapsulation | None:
    """What the configuration wants, its ports taken; None where it wants nothing.

    Raises :class:`gateway.ike.socket_errors.TransportError`.
    """
    ike = config.ike
    if not ike.tcp_listen:
        return None
    made = TcpEncapsulation(
        ike.tcp_listen,
        ike_listen=ike.listen,
        nat_port=ike.nat_port,
        limits=TcpLimits(ike.tcp_connections, ike.tcp_connections_per_source),
        emit=events,
        random=os.urandom,
    )
    made.bind()
    events.rename = made.names.in_event
    return made


def _listening(where: Endpoint) -> socket.socket:
    family = socket.AF_INET if where.address.version == 4 else socket.AF_INET6
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((str(where.address), where.port))
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise _bind_error(error, where) from error
    return sock


def _bind_error(error: OSError, where: Endpoint) -> TransportError:
    if error.errno == errno.EADDRINUSE:
        return PortInUseError(
            f"TCP port {where.port} of {where.address} is in use: stop what listens there"
            f" (`ss -tlpn sport = :{where.port}` names it) or choose another in ike.tcp_listen"
        )
    if error.errno in {errno.EPERM, errno.EACCES}:
        return TransportDeniedError(
            f"TCP port {where.port} of {where.address} needs CAP_NET_BIND_SERVICE:"
            " start the gateway as root or by systemd"
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return TransportError(
            f"no interface has the address {where.address}: configure it, or correct ike.tcp_listen"
        )
    return TransportError(f"cannot listen on TCP {where}: {error.strerror}")


def _source(host: str) -> int:
    """One number for each source: an IPv4 address or an IPv6 /64."""
    address = ip_address(host.partition("%")[0])
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is None:
            return (int(address) >> 64) + 2**32
        address = address.ipv4_mapped
    return int(address)


def _text(where: tuple[str, int]) -> str:
    host, port = where
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
