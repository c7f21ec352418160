"""The NAR server as the outside sees it: octets and the time in, outputs out (draft 004)."""

from collections import Counter
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from gateway.domain.endpoint import Endpoint, IpAddress
from gateway.domain.event import Severity
from gateway.domain.nar import NarTuple
from gateway.domain.user_auth import Answer
from gateway.domain.wire import WireError
from gateway.nar.codec.leases import NoticeMessage
from gateway.nar.codec.numbers import Notice, Reply
from gateway.nar.codec.stream import MAX_WAITING_AFTER_LOGIN, MAX_WAITING_BEFORE_LOGIN
from gateway.nar.outputs import CloseConnection, Output
from gateway.nar.policy import NarServerPolicy
from gateway.nar.server import moving, negotiation, proxy, requests, restart, views
from gateway.nar.server.authorization import Refused, permit_target
from gateway.nar.server.connections import LOGGED_IN, Connection, State
from gateway.nar.server.core import Core
from gateway.nar.server.granting import end_lease, end_session, leave, lose
from gateway.nar.server.leases import Lease
from gateway.nar.server.listing import Listing
from gateway.nar.server.sessions import Session
from gateway.nar.service import Occupied

_READ: Final[dict[State, Callable[[Core, Connection], bool]]] = {
    State.NEGOTIATING: negotiation.read_offer,
    State.AUTHENTICATING: negotiation.read_password,
    State.READY: requests.read_request,
    State.NAR: requests.read_request,
}
"""What is read in each state; in others octets wait."""


class NarServer:
    """One NAR server. Never raises for what comes from the network.

    ``random`` yields that many random octets, ``wall_clock`` seconds since 1970, ``occupied`` tells
    what the box itself uses; every ``now`` is in seconds of a clock that never goes back. Take the
    outputs after every call. See :class:`gateway.nar.service.NarEngine` for what the calls mean.
    """

    def __init__(
        self,
        policy: NarServerPolicy,
        *,
        random: Callable[[int], bytes],
        wall_clock: Callable[[], float],
        occupied: Occupied,
    ) -> None:
        self._core = Core(policy, random, wall_clock, occupied)

    def respect(self, visiting: Callable[[NarTuple], bool]) -> None:
        """From now on, lease no tuple that a mobile node of our foreign agent has."""
        self._core.visiting = visiting

    @property
    def policy(self) -> NarServerPolicy:
        """What is in force, with the addresses as they are now."""
        return self._core.policy

    @property
    def counters(self) -> Counter[str]:
        """What happened, by the names of events, and replies by ``refused_`` and their name."""
        return self._core.counters

    # Connections

    def connected(self, client: Endpoint, local: Endpoint, now: float, *, tls: bool) -> int | None:
        """A connection came; its number, or None when it has to be closed at once (limits)."""
        core = self._core
        core.at(now)
        client, policy = _plain(client), core.policy
        if core.stopped:
            return None
        if len(core.connections) >= policy.max_connections:
            why = f"there are {policy.max_connections} connections, which is max_connections"
        elif core.connections.from_source(client.address) >= policy.max_connections_per_source:
            why = f"it has {policy.max_connections_per_source}, which is max_connections_per_source"
        else:
            connection = core.connections.add(client, _plain(local), tls=tls)
            connection.since_wall_s = core.wall_s
            core.timers.set(connection, now + policy.handshake_s)
            return connection.number
        core.hint(
            "nar_connection_refused",
            f"a connection from {client.address} was closed: {why}",
            client=str(client.address),
            reason=why,
        )
        return None

    def received(self, connection: int, data: bytes, now: float) -> None:
        """Octets of a connection that is not in relay."""
        core = self._core
        core.at(now)
        found = core.connections.by_number.get(connection)
        while data and found is not None and found.state not in (State.RELAYING, State.CLOSED):
            limit = (
                MAX_WAITING_AFTER_LOGIN if found.state in LOGGED_IN else MAX_WAITING_BEFORE_LOGIN
            )
            taken = found.feed(data, limit)
            self._read(found)
            if not taken and found.stream is not None:
                self._break_off(found, f"sent more than {limit} octets ahead of replies")
            data = data[taken:]

    def _read(self, connection: Connection) -> None:
        core = self._core
        try:
            while not connection.ticket:
                read = _READ.get(connection.state)
                if read is None or not read(core, connection):
                    break
        except WireError as error:
            self._break_off(connection, str(error))
        # Ten thousand idle connections have no buffers.
        if connection.stream is not None and not len(connection.stream):
            connection.stream = None

    def _break_off(self, connection: Connection, why: str) -> None:
        self._core.hint(
            "nar_broken_off",
            f"the connection of {connection} was closed: {why}",
            client=str(connection.client.address),
            state=connection.state.value,
            reason=why,
        )
        leave(self._core, connection)

    def disconnected(self, connection: int, now: float) -> None:
        """It ended or its client half-closed it; leases go on for the grace period."""
        core = self._core
        core.at(now)
        found = core.connections.by_number.get(connection)
        if found is None:
            return
        session, found.session = found.session, None
        core.forget(found)
        if session is not None:
            lose(core, session)

    # Answers

    def user_answered(self, ticket: int, answer: Answer, now: float) -> None:
        """The answer to AskPassword."""
        core = self._core
        core.at(now)
        connection = core.answered(ticket)
        if connection is not None:
            negotiation.user_answered(core, connection, answer)
            self._read(connection)

    def resolved(self, ticket: int, addresses: Sequence[IpAddress], now: float) -> None:
        """The answer to Resolve; empty: no such name, or no answer in time."""
        core = self._core
        core.at(now)
        connection = core.answered(ticket)
        if connection is not None:
            requests.resolved(core, connection, [_plain_address(one) for one in addresses])
            self._read(connection)

    def proxy_opened(self, connection: int, bound: Endpoint, now: float) -> None:
        """What OpenProxy asked for is there."""
        core = self._core
        core.at(now)
        found = core.connections.by_number.get(connection)
        if found is not None and found.state is State.PROXYING:
            proxy.opened(core, found, bound)

    def proxy_failed(self, connection: int, reply: Reply, why: str, now: float) -> None:
        """It is not: the client is told, and the connection ends."""
        core = self._core
        core.at(now)
        found = core.connections.by_number.get(connection)
        if found is None or found.state is not State.PROXYING:
            return
        command = 0 if found.asked is None else found.asked.command
        requests.refuse(core, found, 5, command, Refused(reply, f"was not served: {why}"))

    def may_relay_to(self, rule: str, target: IpAddress, port: int) -> bool:
        """Whether a UDP relay of this rule may send there."""
        found = self._core.rules.get(rule)
        target = _plain_address(target)
        if found is None or not found.proxy or not 0 < port <= 0xFFFF:
            return False
        if target.version == 6 and not found.proxy_ipv6:
            return False
        try:
            permit_target(found, self._core.forbidden, target)
        except Refused:
            return False
        return True

    # What changes around it

    def address_changed(self, old: IPv4Address, new: IPv4Address, now: float) -> None:
        """Nb changed (a dynamic address): leases move where they can, clients are told."""
        self._core.at(now)
        moving.move(self._core, old, new)

    def restore(self, records: Sequence[bytes], now: float) -> None:
        """Sessions of an earlier process, at start; their clients have the grace period to come."""
        self._core.at(now)
        restart.restore(self._core, records)

    def mapping_refused(self, key: NarTuple, reason: str, now: float) -> None:
        """The dataplane could not do it: the lease ends, the client is told where it can be."""
        core = self._core
        core.at(now)
        lease = core.find(key)
        if lease is None:
            return
        core.hint(
            "nar_mapping_refused",
            f"{key} of {lease.session.owner} could not be set up: {reason}",
            client=str(lease.mapping.client),
            reason=reason,
        )
        end_lease(core, lease, f"could not be set up: {reason}")

    def reconfigure(self, policy: NarServerPolicy, now: float) -> None:
        """Another policy; leases that it does not allow any more end."""
        self._core.at(now)
        moving.reconfigure(self._core, policy)

    def end_lease(self, key: NarTuple, now: float, reason: str) -> bool:
        """An administrator ends a lease; False when there is none."""
        core = self._core
        core.at(now)
        lease = core.find(key)
        if lease is None:
            return False
        core.tell("nar_lease_ended", f"{key} of {lease.session.owner} was ended: {reason}")
        end_lease(core, lease, reason)
        return True

    def end_client(self, client: IPv4Address, now: float, reason: str) -> int:
        """An administrator ends all of a client's; how many leases that were."""
        core = self._core
        core.at(now)
        host = core.sessions.hosts.get(int(client))
        if host is None:
            return 0
        ended = 0
        for owner in list(host.owners.values()):
            for session in owner.sessions:
                ended += end_session(core, session, reason)
        for connection in list(core.connections.by_number.values()):
            if connection.xa == client:
                leave(core, connection)
        core.tell("nar_client_ended", f"{ended} leases of client {client} were ended: {reason}")
        return ended

    def stopping(self, now: float) -> None:
        """The process is about to stop; leases stay for the next one, clients are told."""
        core = self._core
        core.at(now)
        core.stopped = True
        for connection in list(core.connections.by_number.values()):
            if connection.knows_leases:
                core.send(connection, NoticeMessage(Notice.STOPPING).to_octets())
            core.outputs.append(CloseConnection(connection.number))
            core.connections.remove(connection)
            core.timers.cancel(connection)
        core.tickets.clear()
        for session in core.sessions:
            session.connection = None
            core.timers.cancel(session)

    # Status, time and outputs

    @property
    def listing(self) -> Listing:
        """The same, a few at a time."""
        return Listing(self._core)

    def clients(self) -> list[dict[str, object]]:
        """Connections and sessions, see :mod:`.views`."""
        return views.clients(self._core)

    def mappings(self) -> list[dict[str, object]]:
        """Leases, see :mod:`.views`."""
        return views.mappings(self._core)

    def handle_timer(self, now: float) -> None:
        """What is due."""
        core = self._core
        core.at(now)
        for timed in core.timers.due(now):
            if isinstance(timed, Connection):
                self._late(timed)
            elif isinstance(timed, Lease):
                self._outlasted(timed)
            elif isinstance(timed, Session):
                self._expired(timed)

    def _outlasted(self, lease: Lease) -> None:
        session = lease.session
        longest_s = session.rule.max_lease_s
        if longest_s is None or (session.until is not None and session.until <= self._core.now):
            why = "the time of its login is over"
        else:
            why = f"it lasted {longest_s:g} s, its rule's max_lease_s"
        end_lease(self._core, lease, why)

    def _late(self, connection: Connection) -> None:
        policy = self._core.policy
        if connection.ticket:
            why = "a question about it was not answered"
        elif connection.state is State.NAR:
            why = f"it had no lease for {policy.idle_s:g} s"
        else:
            why = f"its first command was not there after {policy.handshake_s:g} s"
        self._core.hint(
            "nar_connection_timed_out",
            f"the connection of {connection} was closed: {why}",
            Severity.INFO,
            client=str(connection.client.address),
            state=connection.state.value,
            reason=why,
        )
        leave(self._core, connection)

    def _expired(self, session: Session) -> None:
        if session.connection is None:
            why = "the client did not come back in its grace period"
        else:
            why = "the client did not renew it"
        client, user = str(session.owner.client), session.owner.user
        ended = end_session(self._core, session, why)
        self._core.tell(
            "nar_leases_expired",
            f"{ended} leases of {session.owner} ended: {why}",
            client=client,
            user=user,
            leases=ended,
        )

    def next_timer(self) -> float | None:
        """When to call :meth:`handle_timer` again."""
        return self._core.timers.next_at()

    def outputs(self) -> list[Output]:
        """What has to be done, in this order; each once."""
        outputs, self._core.outputs = self._core.outputs, []
        return outputs


def _plain_address(address: IpAddress) -> IpAddress:
    """IPv4 in an IPv6 socket is IPv4."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _plain(endpoint: Endpoint) -> Endpoint:
    plain = _plain_address(endpoint.address)
    return endpoint if plain is endpoint.address else Endpoint(plain, endpoint.port)
