"""What the exchanges of one engine share: tables, timers, randomness, outputs, counters."""

import enum
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.serialization import Encoding

from gateway.domain.endpoint import IpAddress, Path
from gateway.domain.pools import AddressPool
from gateway.domain.timers import Timers
from gateway.domain.user_auth import Question
from gateway.eap.tls import TlsParty
from gateway.ike import access
from gateway.ike.auth.credentials import LocalCredential, TrustAnchors
from gateway.ike.auth.identity import Identity
from gateway.ike.client import Client
from gateway.ike.crypto.proposals import EspSelection, Selection
from gateway.ike.families import Families
from gateway.ike.half_open import Cookies, FailedLogins, HalfOpenLimits, PerSecond
from gateway.ike.home_addresses import HomeAddresses
from gateway.ike.outputs import ActivateOutbound, AskAboutUser, Event, Output, Severity, Transmit
from gateway.ike.policy import ConnectionPolicy, EngineSettings, FindUser
from gateway.ike.sa import Child, IkeSa
from gateway.ike.transport_hosts import TransportHosts
from gateway.ike.versions import Version

if TYPE_CHECKING:
    from gateway.ike.mobility_authority import MobilityAuthority

FIRST_REQID = 0x47000001
LAST_REQID = 0x47FFFFFF
FIRST_CHILD_SPI = 0x1000
"""Smaller SPIs are reserved by IANA (to 255) or handed out by people."""
MAX_LIMITED_EVENTS = 1024
EVENT_INTERVAL_S = 10.0
ANSWERS_IN_THE_CLEAR_PER_S = 10
"""Unauthenticated answers to requests without an SA, all peers together."""
CHILDLESS_S = 30.0
"""How long an IKE SA may have no child SA before it is closed."""


class TimerKind(enum.Enum):
    """What a deadline is for. The timer key is (kind, SPI or name)."""

    RETRANSMIT = "retransmit"
    GIVE_UP = "give up"
    LIVENESS = "liveness"
    REKEY_IKE = "rekey IKE SA"
    EXPIRE_IKE = "IKE SA expires"
    CHILDLESS = "childless"
    SESSION = "session time of the user"
    REAUTHENTICATE = "log in again"
    KEEPALIVE = "NAT keepalive"
    REKEY_CHILD = "rekey child SA"
    EXPIRE_CHILD = "child SA expires"
    ACTIVATE = "activate outbound"
    REMOVE = "remove old child SA"
    RETIRE = "delete replaced child SA"
    INITIATE = "initiate connection"


TimerKey = tuple[TimerKind, bytes | int | str]


class Core:
    """The shared part of an engine; the exchange modules are functions over it."""

    spi_taken: Callable[[int], bool] | None = None
    """Inbound SPIs that somebody else has at our addresses (clients of a NAR server)."""
    refuse_login: Callable[[str, str], str | None] | None = None
    """Why a login with this identity by this user is refused at all; None: it is not."""

    def __init__(  # noqa: PLR0915, PLR0917 - one fact each
        self,
        settings: EngineSettings,
        connections: Sequence[ConnectionPolicy],
        pools: Mapping[str, AddressPool],
        random: Callable[[int], bytes],
        wall_clock: Callable[[], datetime],
        last_inbound: Callable[[int], float | None] | None,
        versions: Mapping[int, Version],
        find_user: FindUser,
        mobility: "MobilityAuthority | None" = None,
    ) -> None:
        self.versions = versions
        self.find_user = find_user
        self.mobility = mobility
        self.settings = settings
        self.connections = {connection.name: connection for connection in connections}
        self.pools = pools
        self.random = random
        self.wall_clock = wall_clock
        self.last_inbound = last_inbound
        self.trace = False
        """Whether changes of state are reported as DEBUG events."""
        self.outputs: list[Output] = []
        self.timers: Timers[TimerKey] = Timers()
        self.counters: defaultdict[str, int] = defaultdict(int)
        self.sas: dict[bytes, IkeSa] = {}
        """By our own SPI."""
        self.children: dict[int, IkeSa] = {}
        """The IKE SA of each child SA, by the child's inbound SPI."""
        self.home_addresses = HomeAddresses()
        """Of mobile nodes with VPN/FA."""
        self.transport_hosts = TransportHosts()
        self.own_addresses: set[IpAddress] = set()
        """Addresses that datagrams were sent to; bounded by what the adapter binds."""
        self.by_peer: dict[Identity, set[bytes]] = {}
        """Our SPIs of established IKE SAs, by the peer's identity."""
        self.lingering: dict[bytes, None] = {}
        """Our SPIs of refused logins that only answer repetitions, oldest first."""
        self.cookies = Cookies(random)
        self.half_open = HalfOpenLimits()
        self.key_exchanges = PerSecond(settings.key_exchanges_per_s)
        self.failed_logins = FailedLogins(settings.failed_logins_per_minute)
        self.framed: dict[IpAddress, bytes] = {}
        """Our SPI of the IKE SA whose user got this address from RADIUS."""
        self.zones = access.Zones()
        self.asked: dict[int, bytes] = {}
        """Our SPI of the IKE SA that each question waits for, by ticket."""
        self._last_ticket = 0
        self.wanted: dict[str, int] = {}
        """Connections that are to be up, with the number of failures in a row."""
        self.clients: dict[str, Client] = {}
        """Connections that we initiated and that are up, or about to be; see ``client``."""
        self.trap_reqids: dict[str, int] = {}
        """By connection; see :meth:`reserve_reqid`."""
        self._reqids: dict[int, int] = {}
        self._next_reqid = FIRST_REQID
        self._der: dict[int, tuple[LocalCredential, tuple[bytes, ...]]] = {}
        self.tls_parties: dict[str, tuple[LocalCredential, TrustAnchors, TlsParty]] = {}
        """What EAP-TLS needs, by connection."""
        self.families = Families()
        self.touch = self.families.touch
        """To be called with each IKE SA of which something changes that is recorded."""
        self.resting = False
        """Handed over to another process: nothing may change any more."""
        self._limited: dict[str, tuple[float, int]] = {}
        self._clear_answers = (0.0, 0)
        self.selections: dict[object, tuple[Selection, tuple[ConnectionPolicy, ...]]] = {}
        self.esp_selections: dict[object, EspSelection] = {}

    # -- outputs --------------------------------------------------------------------------

    def count(self, name: str) -> None:
        """Add one to a counter."""
        self.counters[name] += 1

    def emit(
        self, name: str, text: str, severity: Severity = Severity.INFO, **fields: object
    ) -> None:
        """Report an event."""
        self.outputs.append(Event(name, text, severity, fields))

    def emit_limited(
        self,
        key: str,
        now: float,
        name: str,
        text: str,
        severity: Severity,
        *,
        recorded: bool = False,
        **fields: object,
    ) -> None:
        """Report an event, at most one per ``key`` in ten seconds; the next says how many more.

        With ``recorded`` the others are reported too, as events that the log leaves out.
        """
        last, suppressed = self._limited.get(key, (-EVENT_INTERVAL_S, 0))
        if now - last < EVENT_INTERVAL_S:
            self._limited[key] = (last, suppressed + 1)
            if recorded:
                self.outputs.append(Event(name, text, severity, fields, logged=False))
            return
        if len(self._limited) >= MAX_LIMITED_EVENTS:
            self._limited.clear()
        self._limited[key] = (now, 0)
        if suppressed:
            text += f" ({suppressed} more like this were not reported)"
        self.outputs.append(Event(name, text, severity, fields))

    def transmit(self, messages: tuple[bytes, ...], path: Path) -> None:
        """Send the datagrams of one message."""
        for message in messages:
            self.outputs.append(Transmit(message, path))

    def may_answer(self, now: float) -> bool:
        """Whether one more request that belongs to no SA may get an answer."""
        begun, used = self._clear_answers
        if now - begun >= 1.0 or now < begun:
            begun, used = now, 0
        self._clear_answers = (begun, used + 1)
        return used < ANSWERS_IN_THE_CLEAR_PER_S

    # -- names ----------------------------------------------------------------------------

    def new_ike_spi(self) -> bytes:
        """An unused, non-zero SPI of ours for an IKE SA."""
        while True:
            spi = self.random(8)
            if any(spi) and spi not in self.sas:
                return spi

    def new_child_spi(self) -> int:
        """An unused inbound SPI for a child SA."""
        while True:
            spi = int.from_bytes(self.random(4), "big")
            if spi < FIRST_CHILD_SPI or spi in self.children:
                continue
            if self.spi_taken is None or not self.spi_taken(spi):
                return spi

    def take_reqid(self, connection: str) -> int:
        """A reqid that no child SA uses: the connection's reserved one, else a fresh one."""
        reserved = self.trap_reqids.get(connection)
        if reserved is not None and reserved not in self._reqids:
            return reserved
        return self._fresh_reqid()

    def reserve_reqid(self, connection: str) -> int:
        """The reqid of a connection's trap policy and of the child SA that will replace it."""
        if connection not in self.trap_reqids:
            self.trap_reqids[connection] = self._fresh_reqid()
        return self.trap_reqids[connection]

    def _fresh_reqid(self) -> int:
        taken = set(self.trap_reqids.values())
        while self._next_reqid in self._reqids or self._next_reqid in taken:
            self._advance_reqid()
        reqid = self._next_reqid
        self._advance_reqid()
        return reqid

    def _advance_reqid(self) -> None:
        self._next_reqid = FIRST_REQID if self._next_reqid >= LAST_REQID else self._next_reqid + 1

    # -- questions to the outside ----------------------------------------------------------

    def ask(self, sa: IkeSa, question: Question) -> None:
        """Ask about the user of an IKE SA; it has one question at a time."""
        self.outputs.append(AskAboutUser(self.take_ticket(sa), question))

    def take_ticket(self, sa: IkeSa) -> int:
        """A new ticket, in place of the one that the SA may hold."""
        self.asked.pop(sa.ticket, None)
        self._last_ticket += 1
        sa.ticket = self._last_ticket
        self.asked[sa.ticket] = sa.local_spi
        return sa.ticket

    def answered(self, ticket: int) -> IkeSa | None:
        """The IKE SA that still waits for this ticket's answer."""
        sa = self.sas.get(self.asked.pop(ticket, b""))
        if sa is None or sa.ticket != ticket:
            return None
        sa.ticket = 0
        return sa

    # -- tables ---------------------------------------------------------------------------

    def version_of(self, sa: IkeSa) -> Version:
        """The code of an IKE SA's version."""
        return self.versions[sa.version]

    def add_sa(self, sa: IkeSa) -> None:
        """Enter a new IKE SA under our SPI."""
        self.sas[sa.local_spi] = sa

    def add_peer(self, sa: IkeSa) -> None:
        """Enter an established IKE SA under its peer's identity."""
        self.families.enter(sa)
        if sa.peer_id is not None:
            self.by_peer.setdefault(sa.peer_id, set()).add(sa.local_spi)

    def of_peer(self, sa: IkeSa) -> list[IkeSa]:
        """The established IKE SAs of the same peer."""
        spis = self.by_peer.get(sa.peer_id, ()) if sa.peer_id is not None else ()
        return [self.sas[spi] for spi in spis]

    def drop_sa(self, sa: IkeSa) -> None:
        """Take an IKE SA out of every table, with its timers."""
        self.sas.pop(sa.local_spi, None)
        self.families.leave(sa)
        self.lingering.pop(sa.local_spi, None)
        self.asked.pop(sa.ticket, None)
        spis = self.by_peer.get(sa.peer_id) if sa.peer_id is not None else None
        if spis is not None and sa.peer_id is not None:
            spis.discard(sa.local_spi)
            if not spis:
                del self.by_peer[sa.peer_id]
        for kind in _IKE_TIMERS:
            self.timers.cancel((kind, sa.local_spi))

    def add_child(self, sa: IkeSa, child: Child) -> None:
        """Enter a child SA; its reqid is in use until the last child with it goes."""
        self.touch(sa)
        sa.children[child.spi_in] = child
        self.children[child.spi_in] = sa
        self._reqids[child.reqid] = self._reqids.get(child.reqid, 0) + 1
        if child.vpn_fa and not sa.session_initiator:
            self.home_addresses.take(child.remote_ts, sa.peer_id)
        self.transport_hosts.take(child, sa.peer_id)

    def drop_child(self, sa: IkeSa, child: Child) -> None:
        """Take a child SA out of every table, with its timers."""
        if sa.children.pop(child.spi_in, None) is None:
            return
        self.touch(sa)
        self.children.pop(child.spi_in, None)
        if child.vpn_fa and not sa.session_initiator:
            self.home_addresses.release(child.remote_ts)
        self.transport_hosts.release(child)
        left = self._reqids[child.reqid] - 1
        if left:
            self._reqids[child.reqid] = left
        else:
            del self._reqids[child.reqid]
        for kind in _CHILD_TIMERS:
            self.timers.cancel((kind, child.spi_in))

    def activate(self, child: Child) -> None:
        """Send on a child SA that only received so far."""
        self.timers.cancel((TimerKind.ACTIVATE, child.spi_in))
        if not child.outbound_active:
            child.outbound_active = True
            owner = self.children.get(child.spi_in)
            if owner is not None:
                self.touch(owner)
            self.outputs.append(ActivateOutbound(child.spi_in))

    def certificates_of(self, credential: LocalCredential) -> tuple[bytes, ...]:
        """The DER octets of our certificates, leaf first; encoded once."""
        known = self._der.get(id(credential))
        if known is None or known[0] is not credential:
            der = tuple(one.public_bytes(Encoding.DER) for one in credential.certificates)
            known = self._der[id(credential)] = (credential, der)
        return known[1]

    def forget_choices(self) -> None:
        """Drop what was worked out from the former configuration."""
        self.selections.clear()
        self.esp_selections.clear()
        self._der.clear()
        self.tls_parties.clear()

    def watch_childless(self, sa: IkeSa, now: float) -> None:
        """Close an IKE SA without child SAs unless one comes in time, or none is needed."""
        if sa.connection is not None and sa.connection.childless:
            return
        self.timers.set((TimerKind.CHILDLESS, sa.local_spi), now + CHILDLESS_S)

    def fraction(self) -> float:
        """A random number from 0 to 1."""
        return int.from_bytes(self.random(2), "big") / 65535

    def release_address(self, sa: IkeSa) -> None:
        """Give back the inner addresses, and whatever else the session had inside."""
        access.release(self, sa)

    def hand_over_address(self, old: IkeSa, new: IkeSa) -> None:
        """A successor takes them, and the session's grant."""
        access.hand_over(self, old, new)


_IKE_TIMERS = (
    TimerKind.RETRANSMIT,
    TimerKind.GIVE_UP,
    TimerKind.LIVENESS,
    TimerKind.REKEY_IKE,
    TimerKind.EXPIRE_IKE,
    TimerKind.CHILDLESS,
    TimerKind.SESSION,
    TimerKind.REAUTHENTICATE,
    TimerKind.KEEPALIVE,
)
_CHILD_TIMERS = (
    TimerKind.REKEY_CHILD,
    TimerKind.EXPIRE_CHILD,
    TimerKind.ACTIVATE,
    TimerKind.REMOVE,
    TimerKind.RETIRE,
)
