"""The VPN layer of a mobile node: our IKE engine with one connection, over the kernel's IPsec.

What the node orders becomes calls of the engine; what the engine tells of its connection becomes
``vpn_up``, ``vpn_failed`` and ``vpn_down``. Retrying is the node's business: an attempt that failed
is abandoned, so that nothing goes on behind its back.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from typing import Protocol

from gateway.appliance.factory import KernelSide
from gateway.appliance.ike_service import Engine, IkeService
from gateway.domain.endpoint import Endpoint
from gateway.domain.event import Event, Severity
from gateway.ike.outputs import ClientDown, ClientUp
from gateway.ike.policy import ConnectionPolicy, EngineSettings, Feature
from gateway.ike.snapshot import IkeSaSnapshot
from gateway.ike.transport import IkeSockets
from gateway.mobile_host.tcp_encapsulation import TcpTunnel, TcpTunnelError
from gateway.mobile_node.inputs import VpnSession
from gateway.mobile_node.outputs import ConnectVpn, MoveVpn

CLIENT_TIMING = EngineSettings(
    retransmit_first_s=0.5, retransmit_factor=1.8, retransmit_tries=6, half_open_timeout_s=30.0
)
"""Gives up after 20 s: a node that moves has better things to try than an address that is gone."""
FAREWELL_S = 1.0
"""How long a Delete's answer is waited for."""
_POLL_S = 0.02
_IKE_PORT = 500


class VpnListener(Protocol):
    """Who hears of the VPN: :class:`gateway.mobile_host.node_service.NodeService`."""

    def vpn_up(self, session: VpnSession) -> None:
        """It is up, or its terms changed."""

    def vpn_failed(self, reason: str, hint: str, *, refused: bool) -> None:
        """An attempt failed."""

    def vpn_down(self, reason: str) -> None:
        """It was up."""


class ClientEngine(Engine, Protocol):
    """What this joint needs of :class:`gateway.ike.engine.IkeEngine`."""

    def initiate(self, connection: str, now: float) -> None:
        """Bring a connection up."""

    def abandon(self, connection: str, reason: str, now: float) -> None:
        """End it, and tell nothing of that."""

    def reconfigure(self, connections: Sequence[ConnectionPolicy], now: float) -> None:
        """Use other connections."""

    def local_address_changed(self, ike_spi: bytes, local: Endpoint, now: float) -> None:
        """MOBIKE."""

    def move_local(self, ike_spi: bytes, local: Endpoint, now: float) -> bool:
        """SA endpoint update."""

    def ike_sa_names(self) -> list[tuple[str, str]]:
        """Those that are not closed."""

    def ike_sas(self, now: float) -> Sequence[IkeSaSnapshot]:
        """All of them."""

    def close_all(self, now: float, reason: str) -> None:
        """Say goodbye."""


class Vpn:
    """One connection, at most one session at a time."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        engine: ClientEngine,
        dataplane: KernelSide,
        sockets: IkeSockets,
        *,
        listener: VpnListener,
        emit: Callable[[Event], None],
        mark: int,
        tcp_ports: tuple[int, ...] = (),
    ) -> None:
        """``mark`` is that of the TCP connection; ``sockets`` have theirs."""
        self._loop = loop
        self._engine = engine
        self._dataplane = dataplane
        self._sockets = sockets
        self._listener = listener
        self._emit = emit
        self._mark, self._tcp_ports = mark, tcp_ports
        self._policy: ConnectionPolicy | None = None
        self._order: ConnectVpn | None = None
        self._up: ClientUp | None = None
        self._outer = IPv4Address(0)
        """Our end of the session, wherever it has moved to."""
        self._tunnel: TcpTunnel | None = None
        self._task: asyncio.Task[None] | None = None
        self.service = IkeService(
            engine,
            dataplane,
            send=sockets.send,
            clock=loop.time,
            call_at=loop.call_at,
            emit=emit,
            client=self,
        )

    def use(self, policy: ConnectionPolicy | None, tcp_ports: tuple[int, ...] = ()) -> None:
        """Log in like this from the next time on; None while the secrets are locked.

        A session that was made with another gateway or identity ends, and the node hears of it.
        """
        before, self._policy, self._tcp_ports = self._policy, policy, tcp_ports
        order = self._order
        if order is None or policy is None or policy == before:
            return
        stand_in = self._tunnel.endpoint if self._tunnel is not None else None
        self._engine.reconfigure([_as_ordered(policy, order, stand_in)], self._loop.time())
        self.service.flush()

    def start(self) -> None:
        """Listen."""
        self._sockets.start(self._loop, self.service.receive, self.service.sort)
        for descriptor in self._dataplane.event_fds():
            self._loop.add_reader(descriptor, self._dataplane_readable)

    def _dataplane_readable(self) -> None:
        self.service.dataplane_events(self._dataplane.read_events())

    # -- orders of the node ----------------------------------------------------------------

    def connect(self, order: ConnectVpn) -> None:
        """See :class:`ConnectVpn`; the answer never comes before this returns."""
        self.close("another attempt begins")
        policy = self._policy
        if policy is None or policy.remote is None:
            self._loop.call_soon(
                self._fail_unless_ordered,
                "there is nothing to log in with",
                "unlock the profile: gateway mn unlock",
            )
            return
        self._order = order
        if order.tcp:
            self._task = self._loop.create_task(self._connect_by_tcp(order, policy))
        else:
            self._initiate(_as_ordered(policy, order))

    def _fail_unless_ordered(self, reason: str, hint: str) -> None:
        if self._order is None:
            self._listener.vpn_failed(reason, hint, refused=True)

    def _initiate(self, policy: ConnectionPolicy) -> None:
        now = self._loop.time()
        self._engine.reconfigure([policy], now)
        self._engine.initiate(policy.name, now)
        # Not at once: what the engine answers must not overtake the rest of the node's outputs.
        self._loop.call_soon(self.service.flush)

    async def _connect_by_tcp(self, order: ConnectVpn, policy: ConnectionPolicy) -> None:
        remote = policy.remote
        if remote is None or not isinstance(remote.address, IPv4Address) or not self._tcp_ports:
            self._failed(order, "the profile has no port for TCP encapsulation", refused=False)
            return
        self._tunnel = TcpTunnel(
            remote.address,
            self._tcp_ports,
            interface=None,
            mark=self._mark,
            on_down=self._tcp_down,
        )
        try:
            endpoint = await self._tunnel.open()
        except (TcpTunnelError, OSError) as error:
            self._failed(order, str(error), refused=False)
            return
        if self._order is not order:
            return
        self._initiate(_as_ordered(policy, order, endpoint))

    def _failed(self, order: ConnectVpn, reason: str, *, refused: bool, hint: str = "") -> None:
        if self._order is not order:
            return
        self._order = None
        self._drop_tcp()
        self._listener.vpn_failed(reason, hint, refused=refused)

    def _tcp_down(self, reason: str) -> None:
        """The connection broke: another one to the same stand-in carries the session on."""
        self._emit(
            Event(
                "tcp_encapsulation_down",
                f"the TCP connection to the gateway is over: {reason}",
                Severity.WARNING,
                {"reason": reason},
            )
        )
        if self._up is not None:
            self._reopen_tcp(self._up)

    def _reopen_tcp(self, up: ClientUp) -> None:
        if self._task is not None:
            self._task.cancel()
        self._task = self._loop.create_task(self._reopened(up))

    async def _reopened(self, up: ClientUp) -> None:
        tunnel = self._tunnel
        if tunnel is None:
            return
        try:
            await tunnel.open()
        except (TcpTunnelError, OSError) as error:
            if self._up is up:
                self.close(str(error))
                self._listener.vpn_down(str(error))
            return
        if self._up is up:
            # The message that proves who we are brings the gateway to the new connection.
            local = Endpoint(self._outer, CLIENT_TIMING.nat_port)
            self._tell_where(up, local, mobike=up.mobike)

    def move(self, order: MoveVpn) -> None:
        """See :class:`MoveVpn`. Without a session nothing happens."""
        up = self._up
        if up is None:
            return
        self._outer = order.outer
        if self._tunnel is not None:
            self._tunnel.drop("we moved")
            self._reopen_tcp(up)
            return
        local = Endpoint(order.outer, self._local_port())
        self._tell_where(up, local, mobike=order.mobike)

    def _tell_where(self, up: ClientUp, local: Endpoint, *, mobike: bool) -> None:
        now = self._loop.time()
        if mobike:
            self._engine.local_address_changed(up.ike_spi, local, now)
        elif not self._engine.move_local(up.ike_spi, local, now):
            self._loop.call_soon(self._lost, up, "the gateway does not follow our packets")
        # At once: the next output of the node may be a packet through the tunnel.
        self.service.flush(now)

    def _lost(self, up: ClientUp, reason: str) -> None:
        if self._up is up:
            self.close(reason)
            self._listener.vpn_down(reason)

    def _local_port(self) -> int:
        """The port that our end of the session uses now."""
        up = self._up
        for one in self._engine.ike_sas(self._loop.time()):
            if up is not None and one.connection == up.connection and one.child_sas:
                return int(one.local.rpartition(":")[2])
        return CLIENT_TIMING.nat_port

    def close(self, reason: str) -> None:
        """End what there is, with a Delete where one can be sent. Nothing is told of it."""
        self._order = self._up = None
        if self._task is not None:
            self._task.cancel()
            self._task = None
        policy = self._policy
        if policy is not None:
            self._engine.abandon(policy.name, reason, self._loop.time())
            self.service.flush()
        self._drop_tcp()

    def _drop_tcp(self) -> None:
        tunnel, self._tunnel = self._tunnel, None
        if tunnel is not None:
            tunnel.close()

    # -- news of the engine ----------------------------------------------------------------

    def client_up(self, up: ClientUp) -> None:
        """See :class:`gateway.appliance.ike_service.ClientListener`."""
        order = self._order
        if order is None:
            return
        outer, inner = up.outer, up.inner
        if not isinstance(outer, IPv4Address) or not isinstance(inner, IPv4Address):
            self._loop.call_soon(
                self._without_address, order, "the gateway gave no IPv4 address for the inside"
            )
            return
        self._up, self._outer = up, outer
        self._loop.call_soon(self._tell_up, up, _session(up, outer, inner, tcp=order.tcp))

    def _tell_up(self, up: ClientUp, session: VpnSession) -> None:
        if self._up is up:
            self._listener.vpn_up(session)

    def _without_address(self, order: ConnectVpn, reason: str) -> None:
        if self._order is order:
            self.close(reason)
            hint = "give the connection of the gateway a pool, or let it offer VPN/FA"
            self._listener.vpn_failed(reason, hint, refused=True)

    def client_down(self, down: ClientDown) -> None:
        """See :class:`gateway.appliance.ike_service.ClientListener`."""
        if self._order is None:
            return
        self._loop.call_soon(self._tell_down, self._order, down)

    def _tell_down(self, order: ConnectVpn, down: ClientDown) -> None:
        if self._order is not order:
            return
        self.close(down.reason)
        if down.was_up:
            self._listener.vpn_down(down.reason)
        else:
            self._listener.vpn_failed(down.reason, down.hint, refused=down.refused)

    # -- stop ------------------------------------------------------------------------------

    async def farewell(self) -> None:
        """Tell the gateway that we go, and wait a little for its answer."""
        self._order = self._up = None
        if self._task is not None:
            self._task.cancel()
        now = self._loop.time()
        self._engine.close_all(now, "the mobile node stops")
        self.service.flush(now)
        while self._engine.ike_sa_names():
            if self._loop.time() - now >= FAREWELL_S:
                break
            await asyncio.sleep(_POLL_S)
        self._drop_tcp()

    def stop(self) -> None:
        """Listen no more, and remove everything from the kernel."""
        self.service.stop()
        for descriptor in self._dataplane.event_fds():
            self._loop.remove_reader(descriptor)
        self._sockets.close()
        self._dataplane.close()
        self._drop_tcp()

    def counters(self) -> dict[str, dict[str, int]]:
        """What happened how often, by part."""
        return {
            "ike_service": dict(self.service.counters),
            "ike_sockets": dict(self._sockets.counters),
            "ipsec": self._dataplane.counters(),
        }


def _as_ordered(
    policy: ConnectionPolicy, order: ConnectVpn, stand_in: Endpoint | None = None
) -> ConnectionPolicy:
    """The connection with what the node chose this time; ``stand_in`` is the gateway by TCP."""
    allowed = {True: Feature.ALLOWED, False: Feature.OFF}
    # Before the first login taught one there is nothing that VPN/FA could be agreed on for.
    home_address = order.home_address if order.vpn_fa else None
    return replace(
        policy,
        remote=stand_in or policy.remote,
        local=Endpoint(order.outer, CLIENT_TIMING.nat_port if stand_in else _IKE_PORT),
        home_address=home_address,
        vpn_fa=allowed[home_address is not None and policy.vpn_fa is not Feature.OFF],
        endpoint_update=allowed[
            order.endpoint_update and policy.endpoint_update is not Feature.OFF
        ],
        mobike=order.mobike and policy.mobike,
        force_encapsulation=order.force_udp or policy.force_encapsulation or stand_in is not None,
    )


def _session(up: ClientUp, outer: IPv4Address, inner: IPv4Address, *, tcp: bool) -> VpnSession:
    return VpnSession(
        outer=outer,
        inner=inner,
        vpn_fa=up.vpn_fa,
        endpoint_update=up.endpoint_update,
        mobike=up.mobike,
        encapsulated=up.encapsulated,
        tcp=tcp,
        advertisement=up.advertisement,
        dns=tuple(one for one in up.dns if isinstance(one, IPv4Address)),
        domains=up.domains,
        subnets=tuple(one for one in up.subnets if isinstance(one, IPv4Network)),
        suite=up.suite,
        credentials=up.credentials,
    )
