"""Brings accounting records to a server: in order, again until one has them, within bounds."""

from collections import OrderedDict
from dataclasses import dataclass, field

from gateway.domain.endpoint import Endpoint
from gateway.domain.timers import Timers
from gateway.domain.wire import WireError
from gateway.radius import accounting
from gateway.radius.accounting import Record
from gateway.radius.attributes import Code, StatusType
from gateway.radius.packet import accounting_request, check_answer, parse
from gateway.radius.servers import Identifiers, Ignored, Liveness, SendDatagram, ServerChanged
from gateway.radius.settings import RadiusSettings

MAX_IN_FLIGHT = 64
"""Requests at the same time; the rest wait in order."""


@dataclass(frozen=True, slots=True)
class Lost:
    """Records that no server took: the queue was full, or their time was over."""

    count: int
    reason: str


Output = SendDatagram | ServerChanged | Ignored | Lost


@dataclass(slots=True)
class _Flight:
    """A record on its way. A late answer to any transmission to this server counts."""

    record: Record
    server: Endpoint
    began_at: float
    tried: list[Endpoint] = field(default_factory=list)
    sent: dict[tuple[int, int], bytes] = field(default_factory=dict)
    """Slot and identifier of each transmission to ``server``, with its authenticator."""


class AccountingClient:
    """The accounting servers of one backend.

    Records of a session never overtake one another, and nothing overtakes Accounting-On or -Off:
    the next is sent when the one before it is answered. A repeated request says how late it is
    by now (Acct-Delay-Time), so it is a new request with a new identifier (RFC 2866 section 4.1);
    a server knows one that it has already by session, status and time.
    """

    def __init__(self, settings: RadiusSettings) -> None:
        servers = {s.accounting: s.secret for s in settings.servers if s.accounting is not None}
        self._settings = settings
        self._secrets = servers
        self._liveness = Liveness(servers, settings.hold_s)
        self._numbers: dict[Endpoint, Identifiers[int]] = {one: Identifiers() for one in servers}
        self._waiting: OrderedDict[int, Record] = OrderedDict()
        self._flights: dict[int, _Flight] = {}
        self._busy: set[str] = set()
        self._serial = 0
        self._timers: Timers[int] = Timers()
        self._outputs: list[Output] = []
        self.counters = dict.fromkeys(
            ("records", "requests", "answered", "lost", "ignored", "failovers"), 0
        )

    @property
    def enabled(self) -> bool:
        """Whether any server takes accounting."""
        return bool(self._secrets)

    @property
    def waiting(self) -> int:
        """Records that no server has yet."""
        return len(self._waiting) + len(self._flights)

    def add(self, record: Record, now: float) -> None:
        """Queue a record. An interim one replaces an older one that still waits."""
        if not self._secrets:
            return
        self.counters["records"] += 1
        if record.session is not None and record.status in (StatusType.INTERIM, StatusType.STOP):
            self._drop_interim(record.session.session_id)
        if len(self._waiting) >= self._settings.accounting_max_waiting:
            self._make_room()
        self._serial += 1
        self._waiting[self._serial] = record
        self._send_more(now)

    def take_records(self) -> list[Record]:
        """Everything that no server has yet, in order, for another client to bring there."""
        for key, flight in list(self._flights.items()):
            self._done(key, flight)
            self._waiting[key] = flight.record
        records = [self._waiting[key] for key in sorted(self._waiting)]
        self._waiting.clear()
        return records

    def receive(self, datagram: bytes, server: Endpoint, source_slot: int, now: float) -> None:
        """A datagram of ``server`` to the socket of ``source_slot``. Never raises."""
        try:
            self._receive(datagram, server, source_slot, now)
        except WireError as error:
            self.counters["ignored"] += 1
            self._outputs.append(Ignored(server, str(error)))
        self._send_more(now)
        self._report()

    def handle_timer(self, now: float) -> None:
        """Send again, or to another server; forget records that are too old."""
        for key in self._timers.due(now):
            flight = self._flights.get(key)
            if flight is None:
                continue
            if len(flight.sent) >= self._settings.tries:
                self._liveness.silent(flight.server, flight.began_at, now)
                flight.tried.append(flight.server)
                self._forget(flight)
            self._again(key, flight, now)
        self._send_more(now)
        self._report()

    def refused(self, server: Endpoint, now: float) -> None:
        """The server's host says that nobody listens (ICMP): use another, if there is one."""
        for key, flight in list(self._flights.items()):
            left = self._secrets.keys() - {*flight.tried, server}
            if flight.server == server and flight.sent and left:
                self._liveness.silent(server, flight.began_at, now)
                flight.tried.append(server)
                self._forget(flight)
                self._again(key, flight, now)
        self._report()

    def next_timer(self) -> float | None:
        """When to call :meth:`handle_timer`."""
        return self._timers.next_at()

    def take_outputs(self) -> list[Output]:
        """What to do, in order."""
        outputs, self._outputs = self._outputs, []
        return outputs

    # -- the queue -----------------------------------------------------------------------

    def _drop_interim(self, session_id: str) -> None:
        for key, record in self._waiting.items():
            session = record.session
            if record.replaceable and session is not None and session.session_id == session_id:
                del self._waiting[key]
                return

    def _make_room(self) -> None:
        interim = (key for key, record in self._waiting.items() if record.replaceable)
        key = next(interim, None)
        del self._waiting[next(iter(self._waiting)) if key is None else key]
        self._lose("the queue of accounting records is full")

    def _lose(self, reason: str) -> None:
        self.counters["lost"] += 1
        self._outputs.append(Lost(1, reason))

    def _send_more(self, now: float) -> None:
        """Start what may be started, in order; with every server dead, one record at a time."""
        if not self._waiting or len(self._flights) >= MAX_IN_FLIGHT:
            return
        all_dead = len(self._liveness.dead()) == len(self._secrets)
        limit = 1 if all_dead else MAX_IN_FLIGHT
        held_back = False
        for key in list(self._waiting):
            if len(self._flights) >= limit or _ALONE in self._busy:
                break
            record = self._waiting[key]
            lane = _lane(record)
            if lane == _ALONE and (self._flights or held_back):
                break
            if lane in self._busy:
                held_back = True
                continue
            del self._waiting[key]
            self._busy.add(lane)
            server = self._liveness.choose(now) or next(iter(self._secrets))
            self._send(key, _Flight(record, server, now), now)

    # -- requests ------------------------------------------------------------------------

    def _again(self, key: int, flight: _Flight, now: float) -> None:
        if now - flight.record.at >= self._settings.accounting_keep_s:
            self._done(key, flight)
            self._lose("no accounting server answered")
            return
        if not flight.sent:
            server = self._liveness.choose(now, flight.tried)
            if server is None:  # all were tried: begin again when one may be back
                flight.tried.clear()
                self._timers.set(key, now + self._settings.hold_s)
                return
            self.counters["failovers"] += 1
            flight.server, flight.began_at = server, now
        self._send(key, flight, now)

    def _send(self, key: int, flight: _Flight, now: float) -> None:
        settings, server = self._settings, flight.server
        place = self._numbers[server].take(key)
        self._flights[key] = flight
        if place is None:  # all numbers are in flight: later
            self._timers.set(key, now + settings.hold_s)
            return
        slot, identifier = place
        attributes = accounting.encode(settings, flight.record, now)
        data = accounting_request(identifier, attributes, self._secrets[server])
        wait = settings.retransmit_first_s * settings.retransmit_factor ** len(flight.sent)
        flight.sent[place] = data[4:20]
        self._timers.set(key, now + wait)
        self.counters["requests"] += 1
        self._outputs.append(SendDatagram(server, data, slot))

    def _forget(self, flight: _Flight) -> None:
        for place in flight.sent:
            self._numbers[flight.server].free(*place)
        flight.sent.clear()

    def _done(self, key: int, flight: _Flight) -> None:
        self._forget(flight)
        del self._flights[key]
        self._busy.discard(_lane(flight.record))
        self._timers.cancel(key)

    def _receive(self, datagram: bytes, server: Endpoint, slot: int, now: float) -> None:
        numbers = self._numbers.get(server)
        if numbers is None:
            raise WireError("not one of our RADIUS servers")
        packet = parse(datagram)
        key = numbers.find(slot, packet.identifier)
        flight = self._flights.get(key) if key is not None else None
        if key is None or flight is None:
            raise WireError(f"answers no request (identifier {packet.identifier})")
        if packet.code != Code.ACCOUNTING_RESPONSE:
            raise WireError(f"code {packet.code} answers no Accounting-Request")
        check_answer(datagram, packet, flight.sent[slot, packet.identifier], self._secrets[server])
        self._liveness.answered(server, now)
        self.counters["answered"] += 1
        self._done(key, flight)

    def _report(self) -> None:
        self._outputs += self._liveness.changes
        self._liveness.changes.clear()


_ALONE = ""
"""The lane of Accounting-On and -Off, which end sessions at the server: nothing overtakes them."""


def _lane(record: Record) -> str:
    """Records of one lane are sent one after the other."""
    return record.session.session_id if record.session is not None else _ALONE
