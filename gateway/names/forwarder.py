"""The forwarder: devices' questions go to the servers that know, answers are kept. Sans-IO.

Datagrams and the time go in (:meth:`Forwarder.receive`, :meth:`~Forwarder.answered`,
:meth:`~Forwarder.failed`, :meth:`~Forwarder.handle_timer`), outputs come out. It is transparent:
DNSSEC's records and flags pass, what is not a plain question is refused.
"""

import heapq
import itertools
from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Final

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype

from gateway.domain.endpoint import Endpoint, IpAddress
from gateway.names.cache import Cache, Kept, Question, fill, kept_of
from gateway.names.settings import ForwarderSettings
from gateway.names.upstream import Server, Upstream

HEADER_OCTETS: Final = 12
MAX_QUERY_OCTETS: Final = 4096
UDP_PAYLOAD: Final = 1232
"""What passes everywhere without fragments (DNS flag day 2020)."""
PLAIN_PAYLOAD: Final = 512
"""RFC 1035 section 4.2.1."""
TRY_S: Final = 1.5
DEADLINE_S: Final = 6.0
MAX_PENDING: Final = 1000
"""Questions that are asked at the same time."""
MAX_PENDING_PER_CLIENT: Final = 100
MAX_WAITERS: Final = 32
"""Clients that wait for the same answer."""
COUNTERS: Final = (
    *("queries", "from_cache", "asked", "answered", "failed"),
    *("refused", "malformed", "dropped", "wrong_answers"),
)
_NOT_FORWARDED = frozenset(
    {
        dns.rdatatype.AXFR,
        dns.rdatatype.IXFR,
        dns.rdatatype.MAILA,
        dns.rdatatype.MAILB,
        dns.rdatatype.TSIG,
        dns.rdatatype.TKEY,
        dns.rdatatype.OPT,
    }
)
_TRY_ANOTHER = frozenset(
    {dns.rcode.SERVFAIL, dns.rcode.REFUSED, dns.rcode.NOTIMP, dns.rcode.FORMERR}
)


@dataclass(frozen=True, slots=True)
class Client:
    """Who asks; ``way`` is the adapter's."""

    address: IpAddress
    way: Hashable
    tcp: bool = False


@dataclass(frozen=True, slots=True)
class Reply:
    """Send this to a client."""

    client: Client
    wire: bytes


@dataclass(frozen=True, slots=True)
class Ask:
    """Send this to a server from a new port; its answer comes back with the ticket."""

    ticket: int
    server: Endpoint
    wire: bytes
    tcp: bool


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Nobody waits for the answer to this ticket any more."""

    ticket: int


Output = Reply | Ask | GiveUp


@dataclass(slots=True)
class _Pending:
    """A question that is being asked."""

    question: Question
    servers: list[Server]
    """Those left to ask, the next first."""
    cached: bool
    deadline: float
    waiters: list[tuple[dns.message.Message, Client]] = field(default_factory=list)
    server: Server | None = None
    query: dns.message.Message | None = None
    tcp: bool = False
    ticket: int = 0
    last: Kept | None = None
    """The best that servers that could not answer said."""


class Forwarder:
    """See the module. ``random`` gives so many unpredictable octets."""

    def __init__(self, settings: ForwarderSettings, random: Callable[[int], bytes]) -> None:
        self._random = random
        self._upstream = Upstream.of(settings)
        self._cache = Cache(settings.cache_entries)
        self._pending: dict[Question, _Pending] = {}
        self._tickets: dict[int, _Pending] = {}
        self._next_ticket = itertools.count(1)
        self._per_client: Counter[IpAddress] = Counter()
        self._timers: list[tuple[float, int]] = []
        self._outputs: list[Output] = []
        self.counters = dict.fromkeys(COUNTERS, 0)

    def reconfigure(self, settings: ForwarderSettings) -> None:
        """Other settings; what is being asked goes on, what was kept is forgotten."""
        self._upstream = Upstream.of(settings, self._upstream)
        self._cache = Cache(settings.cache_entries)

    @property
    def servers(self) -> list[Server]:
        """All that are configured, with their counters."""
        return list(self._upstream.known.values())

    @property
    def cached(self) -> int:
        """Answers that are kept."""
        return len(self._cache)

    def take_outputs(self) -> list[Output]:
        """What to do, in order."""
        outputs, self._outputs = self._outputs, []
        return outputs

    # -- clients ---------------------------------------------------------------------------

    def receive(self, wire: bytes, client: Client, now: float) -> None:
        """A message of a client."""
        if len(wire) < HEADER_OCTETS or wire[2] & 0x80:
            self.counters["dropped"] += 1  # answering answers would never end
            return
        self.counters["queries"] += 1
        if wire[2] >> 3 & 15 != dns.opcode.QUERY:
            self.counters["refused"] += 1
            self._outputs.append(Reply(client, _header_only(wire, dns.rcode.NOTIMP)))
            return
        try:
            if len(wire) > MAX_QUERY_OCTETS:
                raise dns.exception.FormError
            query = dns.message.from_wire(wire)
        except (dns.exception.DNSException, ValueError):
            self.counters["malformed"] += 1
            self._outputs.append(Reply(client, _header_only(wire, dns.rcode.FORMERR)))
            return
        refusal = _refusal(query)
        if refusal is not None:
            self.counters["refused"] += 1
            self._refuse(query, client, refusal)
            return
        self._ask_for(query, client, now)

    def _ask_for(self, query: dns.message.Message, client: Client, now: float) -> None:
        question = _question(query)
        kept = self._cache.find(question, now)
        if kept is not None:
            self.counters["from_cache"] += 1
            self._reply(query, client, kept, now)
            return
        pending = self._pending.get(question)
        crowded = self._per_client[client.address] >= MAX_PENDING_PER_CLIENT
        if pending is None:
            servers = self._upstream.servers_of(question[0])
            if not servers.servers:
                self.counters["refused"] += 1
                self._refuse(query, client, dns.rcode.REFUSED)
                return
            if crowded or len(self._pending) >= MAX_PENDING:
                self.counters["dropped"] += 1
                return
            order = servers.in_order(now)
            # Each twice: a datagram may be lost.
            pending = _Pending(question, order * 2, servers.cached, now + DEADLINE_S)
            self._pending[question] = pending
            pending.waiters.append((query, client))
            self._per_client[client.address] += 1
            self._try_next(pending, now)
        elif len(pending.waiters) < MAX_WAITERS and not crowded:
            pending.waiters.append((query, client))
            self._per_client[client.address] += 1
        else:
            self.counters["dropped"] += 1

    # -- servers ---------------------------------------------------------------------------

    def answered(self, ticket: int, wire: bytes, now: float) -> None:
        """A server said this; what does not answer the question is not looked at further."""
        pending = self._tickets.get(ticket)
        if pending is None or pending.query is None or pending.server is None:
            return
        try:
            message = dns.message.from_wire(wire)
        except (dns.exception.DNSException, ValueError):
            message = None
        if message is None or not pending.query.is_response(message):
            self.counters["wrong_answers"] += 1
            if pending.tcp:
                self.failed(ticket, now)
            return
        if message.flags & dns.flags.TC and not pending.tcp:
            self._ask(pending, pending.server, now, tcp=True)
            return
        if message.rcode() in _TRY_ANOTHER:
            pending.last = kept_of(message, now)
            self.failed(ticket, now)
            return
        pending.server.succeeded()
        kept = kept_of(message, now)
        if pending.cached:
            self._cache.keep(pending.question, kept, len(wire))
        self._settle(pending, kept, now)

    def failed(self, ticket: int, now: float) -> None:
        """A server cannot be reached, or hung up."""
        pending = self._tickets.get(ticket)
        if pending is None:
            return
        if pending.server is not None:
            pending.server.did_not_answer(now)
        self._try_next(pending, now)

    def next_timer(self) -> float | None:
        """When :meth:`handle_timer` wants to be called."""
        while self._timers and self._timers[0][1] not in self._tickets:
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    def handle_timer(self, now: float) -> None:
        """Go on where servers did not answer in time."""
        while self._timers and self._timers[0][0] <= now:
            self.failed(heapq.heappop(self._timers)[1], now)

    def _try_next(self, pending: _Pending, now: float) -> None:
        if now < pending.deadline and pending.servers:
            self._ask(pending, pending.servers.pop(0), now, tcp=False)
            return
        self.counters["failed"] += 1
        nothing = Kept(dns.rcode.SERVFAIL, False, ([], [], []), now, now)
        self._settle(pending, pending.last or nothing, now)

    def _ask(self, pending: _Pending, server: Server, now: float, *, tcp: bool) -> None:
        self._forget(pending)
        name, rdtype, dnssec, unchecked = pending.question
        query = dns.message.make_query(
            pending.waiters[0][0].question[0].name if pending.waiters else name,
            dns.rdatatype.RdataType.make(rdtype),
            use_edns=0,
            want_dnssec=dnssec,
            payload=UDP_PAYLOAD,
            id=int.from_bytes(self._random(2)),
        )
        if unchecked:
            query.flags |= dns.flags.CD
        ticket = pending.ticket = next(self._next_ticket)
        pending.server, pending.query, pending.tcp = server, query, tcp
        self._tickets[ticket] = pending
        heapq.heappush(self._timers, (min(now + TRY_S, pending.deadline), ticket))
        server.asked += 1
        self.counters["asked"] += 1
        self._outputs.append(Ask(ticket, server.endpoint, query.to_wire(), tcp))

    def _forget(self, pending: _Pending) -> None:
        if self._tickets.pop(pending.ticket, None) is not None:
            self._outputs.append(GiveUp(pending.ticket))

    def _settle(self, pending: _Pending, kept: Kept, now: float) -> None:
        self._forget(pending)
        del self._pending[pending.question]
        for query, client in pending.waiters:
            self._per_client[client.address] -= 1
            if not self._per_client[client.address]:
                del self._per_client[client.address]
            self.counters["answered"] += 1
            self._reply(query, client, kept, now)

    # -- replies ---------------------------------------------------------------------------

    def _reply(self, query: dns.message.Message, client: Client, kept: Kept, now: float) -> None:
        reply = _reply_to(query)
        fill(reply, kept, now)
        self._send(reply, query, client)

    def _refuse(self, query: dns.message.Message, client: Client, rcode: dns.rcode.Rcode) -> None:
        reply = _reply_to(query)
        reply.set_rcode(rcode)
        self._send(reply, query, client)

    def _send(self, reply: dns.message.Message, query: dns.message.Message, client: Client) -> None:
        wire = _wire(reply, 65_535 if client.tcp else _payload(query))
        self._outputs.append(Reply(client, wire))


def _question(query: dns.message.Message) -> Question:
    asked = query.question[0]
    dnssec = query.edns >= 0 and bool(query.ednsflags & dns.flags.DO)
    name = asked.name.to_text(omit_final_dot=True).lower()
    return name, int(asked.rdtype), dnssec, bool(query.flags & dns.flags.CD)


def _refusal(query: dns.message.Message) -> dns.rcode.Rcode | None:
    """Why a message is not forwarded; None: it is."""
    if len(query.question) != 1 or query.answer or query.authority:
        return dns.rcode.FORMERR
    if query.edns > 0:
        return dns.rcode.BADVERS
    asked = query.question[0]
    if asked.rdclass != dns.rdataclass.IN or asked.rdtype in _NOT_FORWARDED:
        return dns.rcode.REFUSED
    return None


def _reply_to(query: dns.message.Message) -> dns.message.Message:
    reply = dns.message.Message(id=query.id)
    reply.flags = dns.flags.QR | dns.flags.RA | (query.flags & (dns.flags.RD | dns.flags.CD))
    reply.question = list(query.question)
    if query.edns >= 0:
        reply.use_edns(0, query.ednsflags & dns.flags.DO, UDP_PAYLOAD)
    return reply


def _payload(query: dns.message.Message) -> int:
    if query.edns < 0:
        return PLAIN_PAYLOAD
    return max(PLAIN_PAYLOAD, min(query.payload, UDP_PAYLOAD))


def _wire(reply: dns.message.Message, most: int) -> bytes:
    """As octets; what does not fit is left out, and the client told to come by TCP."""
    try:
        return reply.to_wire(max_size=most)
    except (dns.exception.TooBig, dns.exception.DNSException):
        reply.answer, reply.authority, reply.additional = [], [], []
        reply.flags |= dns.flags.TC
        return reply.to_wire(max_size=65_535)


def _header_only(wire: bytes, rcode: dns.rcode.Rcode) -> bytes:
    """The header of a message back, with nothing behind."""
    flags = bytes([0x80 | wire[2] & 0x79, 0x80 | rcode])
    return wire[:2] + flags + bytes(8)
