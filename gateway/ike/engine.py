"""The IKE engine: datagrams, timers and commands in, outputs out. No socket, no clock."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime

from gateway.domain.endpoint import Endpoint, Path
from gateway.domain.pools import AddressPool
from gateway.domain.user_auth import Answer, LocalUser
from gateway.domain.wire import WireError
from gateway.ike import commands, first_line, record_sas, restoring, snapshot, timing, users
from gateway.ike.core import Core, TimerKind
from gateway.ike.crypto.sk import IntegrityError
from gateway.ike.mobility_authority import MobilityAuthority
from gateway.ike.outputs import Output, Severity
from gateway.ike.policy import ConnectionPolicy, EngineSettings, FindUser
from gateway.ike.restoring import Restored
from gateway.ike.sa import IkeSa
from gateway.ike.snapshot import ChildSaSnapshot, IkeSaSnapshot
from gateway.ike.v1.version import Ikev1
from gateway.ike.v2.version import Ikev2
from gateway.ike.versions import Version

HEADER_OCTETS = 28
MAJOR_VERSION_AT = 17
_VERSIONS: Mapping[int, Version] = {1: Ikev1(), 2: Ikev2()}


def _nobody(_name: str) -> LocalUser | None:
    return None


class IkeEngine:
    """IKEv1 and IKEv2 for any number of peers, responder and initiator.

    Call :meth:`take_outputs` after every other call and carry the outputs out in their order.
    ``now`` is any clock in seconds that never goes back.
    """

    def __init__(
        self,
        settings: EngineSettings,
        connections: Sequence[ConnectionPolicy],
        pools: Mapping[str, AddressPool],
        *,
        random: Callable[[int], bytes],
        wall_clock: Callable[[], datetime],
        last_inbound: Callable[[int], float | None] | None = None,
        find_user: FindUser | None = None,
        mobility: MobilityAuthority | None = None,
        recording: bool = False,
    ) -> None:
        """Take the configuration.

        ``random`` gives unpredictable octets, ``wall_clock`` the time for certificates,
        ``last_inbound`` the age in seconds of the last ESP packet of an inbound SPI,
        ``find_user`` a user of the local user base, ``mobility`` the home addresses that a login
        brings. With ``recording`` established IKE SAs are recorded for :meth:`restore`.
        """
        self._core = Core(
            settings,
            connections,
            pools,
            random,
            wall_clock,
            last_inbound,
            _VERSIONS,
            find_user or _nobody,
            mobility,
        )
        self._core.families.recording = recording
        self._rests = False
        """Handed over, and the last outputs were taken."""

    # -- datagrams ------------------------------------------------------------------------

    def receive(self, message: bytes, path: Path, now: float) -> None:
        """Take a datagram, without its non-ESP marker. Never raises."""
        if self._core.resting:
            return
        self._guarded(f"a message from {path.remote}", now, self._judge, message, path, now)

    def _judge(self, message: bytes, path: Path, now: float) -> None:
        """What is wrong with a datagram is its sender's fault and costs one line at most."""
        try:
            self._receive(message, path, now)
        except IntegrityError:
            self._core.count("integrity_failures")
        except WireError as error:
            self._core.count("malformed_messages")
            self._core.emit_limited(
                f"malformed {path.remote.address}",
                now,
                "message_malformed",
                f"malformed message from {path.remote}: {error}",
                Severity.DEBUG,
                remote=str(path.remote),
                reason=str(error),
            )

    def sort(
        self, datagrams: Sequence[first_line.Datagram], share: float, now: float
    ) -> first_line.Sorted:
        """Take a first look at datagrams that came at once, before :meth:`receive`.

        Returns those that go on, the most urgent first, and answers that can be sent right away.
        What comes in a flood ends here. ``share`` from 0 to 1 is how much there is time for of
        what nobody vouches for.
        """
        return first_line.sort(self._core, datagrams, share, now)

    def _guarded(self, what: str, now: float, action: Callable[..., None], *args: object) -> None:
        """Do something; our own faults cost one message, never another peer."""
        core = self._core
        kept = len(core.outputs)
        try:
            action(*args)
        except Exception as error:  # noqa: BLE001 - the one place that keeps all peers alive
            del core.outputs[kept:]
            core.count("internal_errors")
            core.emit_limited(
                "internal error",
                now,
                "internal_error",
                f"internal error on {what}, dropped: {error!r}",
                Severity.WARNING,
                what=what,
                error=repr(error),
            )

    def _receive(self, message: bytes, path: Path, now: float) -> None:
        core = self._core
        core.counters["messages_in"] += 1
        if len(message) < HEADER_OCTETS:
            raise WireError(f"{len(message)} octets are no IKE message")
        version = core.versions.get(message[MAJOR_VERSION_AT] >> 4, core.versions[2])
        version.receive(core, message, path, now)

    # -- time -----------------------------------------------------------------------------

    def handle_timer(self, now: float) -> None:
        """Do everything that is due. Never raises."""
        core = self._core
        if core.resting:
            return
        for key in core.timers.due(now):
            self._guarded(f"the timer {key[0].value}", now, timing.fire, core, key, now)

    def next_timer(self) -> float | None:
        """When :meth:`handle_timer` is to be called next, or None."""
        return None if self._core.resting else self._core.timers.next_at()

    def take_outputs(self) -> list[Output]:
        """Everything to do since the last call, in order."""
        core = self._core
        if self._rests:
            return []
        self._rests = core.resting
        outputs, core.outputs = core.outputs, []
        if core.families.touched:
            self._guarded("records", 0.0, record_sas.put_first, core, outputs)
        return outputs

    # -- another process ------------------------------------------------------------------

    def restore(self, records: Mapping[str, bytes], now: float) -> Restored:
        """Go on with the IKE SAs of a former process, by the last :class:`RecordSa` of each key.

        To be called first of all, and only on the host's boot of then: times are its clock's.
        Requests that wait for an answer are sent again, octet by octet. An SA whose connection is
        gone or was changed ends with a Delete, as by :meth:`reconfigure`; a record that is broken
        costs an event and its peer a new login. Then take the outputs: users' sessions come as
        ``SessionOpened`` with ``resumed``, connections of ours as :class:`ClientUp`.
        """
        return restoring.restore(self._core, records, now)

    def reconcile(self, kernel_spis: Collection[int], now: float) -> set[int]:
        """After :meth:`restore`: the kernel has child SAs with these inbound SPIs, and no others.

        What it lost is replaced or deleted over the IKE SAs. Returns the SPIs that are ours; what
        else the kernel has is to be removed.
        """
        return restoring.reconcile(self._core, kernel_spis, now)

    def hand_over(self, now: float) -> None:
        """Another process takes over: from now on nothing changes and nothing is sent.

        The outputs that are taken next are the last ones, records among them. Handshakes that are
        not over are left to their initiators, who begin them again.
        """
        del now
        self._core.resting = True

    # -- commands and what the dataplane saw ----------------------------------------------

    @property
    def trace(self) -> bool:
        """Whether every change of an SA's state is an event of level debug."""
        return self._core.trace

    @trace.setter
    def trace(self, on: bool) -> None:
        self._core.trace = on

    @property
    def mobility(self) -> MobilityAuthority | None:
        """The home addresses that a login brings."""
        return self._core.mobility

    @mobility.setter
    def mobility(self, authority: MobilityAuthority | None) -> None:
        self._core.mobility = authority

    @property
    def refuse_login(self) -> Callable[[str, str], str | None] | None:
        """Why a login with an identity by a user (empty: none) is refused at all; None: it is not.

        Asked before a peer proves anything; must be quick.
        """
        return self._core.refuse_login

    @refuse_login.setter
    def refuse_login(self, refusal: Callable[[str, str], str | None] | None) -> None:
        self._core.refuse_login = refusal

    def peers(self) -> set[str]:
        """Identities of the peers of all IKE SAs that were established."""
        return {str(identity) for identity in self._core.by_peer}

    def sessions_of(self, identity: str) -> list[tuple[str, str]]:
        """Name and peer of each IKE SA of a peer, or of its user, with this identity."""
        return [
            (sa.spis, sa.peer_name)
            for sa in self._core.sas.values()
            if not sa.closed and not sa.session_initiator and users.is_of(sa, identity)
        ]

    @property
    def spi_taken(self) -> Callable[[int], bool] | None:
        """Inbound SPIs that somebody else has at our addresses, and child SAs must not get."""
        return self._core.spi_taken

    @spi_taken.setter
    def spi_taken(self, taken: Callable[[int], bool] | None) -> None:
        self._core.spi_taken = taken

    def has_child_spi(self, spi_in: int) -> bool:
        """Whether a child SA has this inbound SPI."""
        return spi_in in self._core.children

    @property
    def counters(self) -> dict[str, int]:
        """What happened how often, by name."""
        return self._core.counters

    @property
    def pools(self) -> Mapping[str, AddressPool]:
        """The pools of inner addresses, by name."""
        return self._core.pools

    def initiate(self, connection: str, now: float) -> None:
        """Bring a connection up, and keep it up; :class:`ClientUp` and :class:`ClientDown` tell.

        One that is up stays as it is. An attempt that is still under way is begun anew at once.

        Raises KeyError for an unknown name, ValueError for a connection without ``remote``.
        """
        commands.initiate_connection(self._core, connection, now)

    def reserve_reqid(self, connection: str) -> int:
        """The reqid for the trap policy of a connection; its child SA will have the same."""
        return self._core.reserve_reqid(connection)

    def traffic_waiting(self, reqid: int, now: float) -> None:
        """A packet waits for a child SA that a trap policy stands for."""
        commands.traffic_waiting(self._core, reqid, now)

    def child_expired(self, spi_in: int, hard: bool, now: float) -> None:
        """The dataplane says that a byte or packet limit was reached."""
        commands.child_expired(self._core, spi_in, hard, now)

    def child_refused(self, spi_in: int, reason: str, now: float) -> None:
        """The dataplane could not install a child SA: it is deleted on both sides."""
        commands.child_refused(self._core, spi_in, reason, now)

    def endpoint_seen(self, spi_in: int, remote: Endpoint, proof: str, now: float) -> None:
        """An authentic, new ESP packet came from an address that is not the peer's."""
        commands.endpoint_seen(self._core, spi_in, remote, proof, now)

    def user_answered(self, ticket: int, answer: Answer, now: float) -> None:
        """The answer to :class:`AskAboutUser` with this ticket; late ones change nothing."""
        args = (self._core, ticket, answer, now)
        self._guarded("an answer about a user", now, commands.user_answered, *args)

    def ocsp_answered(self, ticket: int, response: bytes | None, now: float) -> None:
        """The answer to :class:`AskOcsp` with this ticket, DER; None when there is none."""
        args = (self._core, ticket, response, now)
        self._guarded("an OCSP answer", now, commands.ocsp_answered, *args)

    def local_address_changed(
        self, ike_spi: bytes, local: Endpoint, now: float, *, mobike: bool = True
    ) -> None:
        """Our own address is ``local`` now, for the IKE SA with our SPI ``ike_spi``.

        MOBIKE tells the peer; where it was not agreed on, or without ``mobike``, it is as
        :meth:`move_local`. The SPI of :class:`ClientUp` stays good through rekeying. Calling it
        again with the same address tells the peer again, at once.
        """
        commands.local_address_changed(self._core, ike_spi, local, now, mobike=mobike)

    def move_local(self, ike_spi: bytes, local: Endpoint, now: float) -> bool:
        """Our own address is ``local`` now, and no message says so: SA endpoint update.

        Everything moves at once, and a liveness check from the new address lets the gateway
        follow (draft 001, appendix C). False when that was not agreed on: nothing moves then.
        """
        return commands.move_local(self._core, ike_spi, local, now)

    def abandon(self, connection: str, reason: str, now: float) -> None:
        """Stop bringing a connection up, and end what there is of it.

        A Delete is sent where one can be. No :class:`ClientDown` follows, and :meth:`initiate`
        begins anew at any time.
        """
        commands.abandon(self._core, connection, reason, now)

    def close_ike_sa(self, spis: str, reason: str, now: float) -> bool:
        """End an IKE SA, named by ``initiatorspi_responderspi`` in hexadecimal, with a Delete."""
        return commands.close_ike_sa(self._core, spis, reason, now)

    def rekey(self, spis: str, now: float, *, children: bool = False) -> bool:
        """Renew an IKE SA, or its child SAs, before its time."""
        return commands.rekey(self._core, spis, children, now)

    def close_all(self, now: float, reason: str = "the gateway stops") -> None:
        """End every IKE SA with a Delete and try nothing again."""
        commands.close_all(self._core, reason, now)

    def reconfigure(
        self,
        connections: Sequence[ConnectionPolicy],
        now: float,
        pools: Mapping[str, AddressPool] | None = None,
    ) -> None:
        """Use other connections; SAs of those that vanished or changed incompatibly end.

        With ``pools``, a pool whose addresses are the same keeps its leases; without, all stay.
        """
        commands.reconfigure(self._core, connections, pools, now)

    def ended_by(
        self, connections: Sequence[ConnectionPolicy], pools: Mapping[str, AddressPool]
    ) -> list[tuple[str, str]]:
        """Name and peer of each IKE SA that :meth:`reconfigure` would end. Changes nothing."""
        return [(sa.spis, sa.peer_name) for sa in commands.ended_by(self._core, connections, pools)]

    def ike_sa_names(self) -> list[tuple[str, str]]:
        """Name and connection of every IKE SA that is not closed: cheap with thousands of them."""
        return [(sa.spis, sa.connection_name) for sa in self._core.sas.values() if not sa.closed]

    def established_remotes(self) -> set[Endpoint]:
        """Where the peers of established IKE SAs are."""
        return {sa.path.remote for sa in self._core.sas.values() if sa.established}

    def child_sa_names(self) -> list[tuple[int, str, str]]:
        """Inbound SPI, IKE SA and connection of every child SA."""
        return [(spi_in, sa.spis, sa.connection_name) for spi_in, sa in self._core.children.items()]

    def ike_sas(self, now: float, names: Iterable[str] | None = None) -> list[IkeSaSnapshot]:
        """The IKE SAs of these names, or every one, as JSON-able values."""
        core = self._core
        sas = core.sas.values() if names is None else self._named(names)
        rekey_at = core.timers.deadline
        return [
            snapshot.of_ike_sa(sa, now, rekey_at((TimerKind.REKEY_IKE, sa.local_spi))) for sa in sas
        ]

    def _named(self, names: Iterable[str]) -> list[IkeSa]:
        found = []
        for name in names:
            for half in name.split("_"):
                sa = self._core.sas.get(bytes.fromhex(half))
                if sa is not None and sa.spis == name:
                    found.append(sa)
                    break
        return found

    def child_sas(self, now: float, spis_in: Iterable[int] | None = None) -> list[ChildSaSnapshot]:
        """The child SAs of these inbound SPIs, or every one, as JSON-able values."""
        children = self._core.children
        found = []
        for spi_in in children if spis_in is None else spis_in:
            sa = children.get(spi_in)
            child = sa.children.get(spi_in) if sa is not None else None
            if sa is not None and child is not None:
                found.append(snapshot.of_child(sa, child, now))
        return found
