"""Asks RADIUS servers about users: failover, retransmission, deadlines. No sockets, no clock."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

from gateway.domain.endpoint import Endpoint
from gateway.domain.timers import Timers
from gateway.domain.user_auth import (
    Answer,
    Challenged,
    EapQuestion,
    Question,
    Rejected,
    Unavailable,
)
from gateway.domain.wire import WireError
from gateway.radius import answers, questions
from gateway.radius.attributes import Code
from gateway.radius.packet import AUTHENTICATOR_OCTETS, check_answer, parse
from gateway.radius.servers import Identifiers, Ignored, Liveness, SendDatagram, ServerChanged
from gateway.radius.settings import RadiusSettings

_ANSWERS = frozenset({Code.ACCESS_ACCEPT, Code.ACCESS_REJECT, Code.ACCESS_CHALLENGE})
_TAG_OCTETS = 4


@dataclass(frozen=True, slots=True)
class Answered:
    """The one answer to :meth:`RadiusClient.ask` of this ticket."""

    ticket: int
    answer: Answer


Output = SendDatagram | Answered | ServerChanged | Ignored


@dataclass(slots=True)
class _Request:
    """A question on its way, and its transmission to the server that is asked now."""

    ticket: int
    question: Question = field(repr=False)
    state: bytes
    deadline: float
    bound_to: Endpoint | None
    """An EAP conversation goes on with the server that began it."""
    tried: list[Endpoint] = field(default_factory=list)
    slot: int = 0
    identifier: int = 0
    authenticator: bytes = b""
    data: bytes = field(default=b"", repr=False)
    sent_at: float = 0.0
    """When this server was first asked."""
    tries: int = 0
    complaint: str = ""
    """What was wrong with an answer that looked like the server's."""

    @property
    def server(self) -> Endpoint:
        return self.tried[-1]


class RadiusClient:
    """The servers of one backend.

    Drive it like the other engines: :meth:`ask`, :meth:`receive` and :meth:`handle_timer`, then
    carry out :meth:`take_outputs` and come back at :meth:`next_timer`. Every question gets one
    :class:`Answered`, :class:`Unavailable` after ``deadline_s`` at the latest.

    The ``state`` of a :class:`Challenged` names the server besides the server's own State, so that
    the next :class:`EapQuestion` finds it; the client itself remembers no conversation.
    """

    def __init__(self, settings: RadiusSettings, random: Callable[[int], bytes]) -> None:
        self._settings = settings
        self._random = random
        self._secrets = {one.authentication: one.secret for one in settings.servers}
        self._tags = {_tag(server): server for server in self._secrets}
        self._liveness = Liveness(self._secrets, settings.hold_s)
        self._flying: dict[Endpoint, Identifiers[_Request]] = {
            server: Identifiers() for server in self._secrets
        }
        self._requests: dict[int, _Request] = {}
        self._timers: Timers[int] = Timers()
        self._outputs: list[Output] = []
        self.counters = dict.fromkeys(
            (
                "questions",
                "requests",
                "retransmissions",
                "accepts",
                "rejects",
                "challenges",
                "unavailable",
                "ignored",
                "failovers",
            ),
            0,
        )

    def __repr__(self) -> str:
        return f"<RadiusClient {self._settings.name}, {len(self._requests)} questions>"

    @property
    def waiting(self) -> int:
        """Questions without an answer."""
        return len(self._requests)

    def dead_servers(self) -> tuple[Endpoint, ...]:
        """Servers that do not answer now."""
        return self._liveness.dead()

    def ask(self, ticket: int, question: Question, now: float) -> None:
        """Ask the servers. A ticket that is still waiting must not be used again."""
        self.counters["questions"] += 1
        if ticket in self._requests:
            raise ValueError(f"ticket {ticket} is waiting already")
        if len(self._requests) >= self._settings.max_waiting:
            self._answer(ticket, Unavailable(f"{len(self._requests)} questions wait already"))
            return
        state, bound_to = b"", None
        if isinstance(question, EapQuestion) and question.state:
            state = question.state[_TAG_OCTETS:]
            bound_to = self._tags.get(question.state[:_TAG_OCTETS])
            if bound_to is None:
                reason = "the RADIUS server that began this login is not configured any more"
                self._answer(ticket, Unavailable(reason))
                return
        try:
            questions.check(question)
        except questions.QuestionRefusedError as error:
            self._answer(ticket, Rejected(str(error)))
            return
        request = _Request(ticket, question, state, now + self._settings.deadline_s, bound_to)
        self._requests[ticket] = request
        self._next_server(request, now)

    def receive(self, datagram: bytes, server: Endpoint, source_slot: int, now: float) -> None:
        """A datagram of ``server`` to the socket of ``source_slot``. Never raises."""
        try:
            self._receive(datagram, server, source_slot, now)
        except WireError as error:
            self.counters["ignored"] += 1
            self._outputs.append(Ignored(server, str(error)))
        self._report()

    def handle_timer(self, now: float) -> None:
        """Send again, ask another server, or give up."""
        for ticket in self._timers.due(now):
            request = self._requests.get(ticket)
            if request is None:
                continue
            if request.tries < self._settings.tries and now < request.deadline:
                self.counters["retransmissions"] += 1
                self._transmit(request, now)
            else:
                if request.tries >= self._settings.tries:  # it had its full time
                    self._liveness.silent(request.server, request.sent_at, now)
                self._release(request)
                self._next_server(request, now)
        self._report()

    def refused(self, server: Endpoint, now: float) -> None:
        """The server's host says that nobody listens (ICMP): ask another at once, if there is one.

        ICMP proves nothing, so it ends no question and cuts no conversation.
        """
        for request in list(self._requests.values()):
            left = self._secrets.keys() - set(request.tried)
            if request.server == server and request.bound_to is None and left:
                self._liveness.silent(server, request.sent_at, now)
                self._release(request)
                self._next_server(request, now)
        self._report()

    def next_timer(self) -> float | None:
        """When to call :meth:`handle_timer`."""
        return self._timers.next_at()

    def take_outputs(self) -> list[Output]:
        """What to do, in order."""
        outputs, self._outputs = self._outputs, []
        return outputs

    def close(self, reason: str) -> None:
        """Answer every question with :class:`Unavailable`."""
        for request in list(self._requests.values()):
            self._finish(request, Unavailable(reason))

    # -- requests ------------------------------------------------------------------------

    def _next_server(self, request: _Request, now: float) -> None:
        if now >= request.deadline:
            self._finish(request, _unanswered(request, "no answer in time"))
            return
        if request.bound_to is not None:
            server = None if request.tried else request.bound_to
        else:
            server = self._liveness.choose(now, request.tried)
        if server is None:
            self._finish(request, _unanswered(request, "no answer"))
            return
        if request.tried:
            self.counters["failovers"] += 1
        request.tried.append(server)
        place = self._flying[server].take(request)
        if place is None:
            request.tried.pop()
            reason = f"too many requests to RADIUS server {server} are without an answer"
            self._finish(request, Unavailable(reason))
            return
        request.slot, request.identifier = place
        request.authenticator = self._random(AUTHENTICATOR_OCTETS)
        try:
            request.data = questions.encode(
                self._settings,
                request.question,
                state=request.state,
                identifier=request.identifier,
                authenticator=request.authenticator,
                secret=self._secrets[server],
            )
        except questions.QuestionRefusedError as error:
            self._finish(request, Rejected(str(error)))
            return
        request.sent_at, request.tries = now, 0
        self.counters["requests"] += 1
        self._transmit(request, now)

    def _transmit(self, request: _Request, now: float) -> None:
        settings = self._settings
        wait = settings.retransmit_first_s * settings.retransmit_factor**request.tries
        request.tries += 1
        self._timers.set(request.ticket, min(now + wait, request.deadline))
        self._outputs.append(SendDatagram(request.server, request.data, request.slot))

    def _release(self, request: _Request) -> None:
        if request.tried:
            self._flying[request.server].free(request.slot, request.identifier)

    def _finish(self, request: _Request, answer: Answer) -> None:
        flying = self._flying[request.server] if request.tried else None
        if flying is not None and flying.find(request.slot, request.identifier) is request:
            flying.free(request.slot, request.identifier)
        self._requests.pop(request.ticket, None)
        self._timers.cancel(request.ticket)
        self._answer(request.ticket, answer)

    def _answer(self, ticket: int, answer: Answer) -> None:
        if isinstance(answer, Unavailable):
            self.counters["unavailable"] += 1
        self._outputs.append(Answered(ticket, answer))

    def _report(self) -> None:
        self._outputs += self._liveness.changes
        self._liveness.changes.clear()

    # -- answers -------------------------------------------------------------------------

    def _receive(self, datagram: bytes, server: Endpoint, slot: int, now: float) -> None:
        flying = self._flying.get(server)
        if flying is None:
            raise WireError("not one of our RADIUS servers")
        packet = parse(datagram)
        request = flying.find(slot, packet.identifier)
        if request is None:
            raise WireError(f"answers no request (identifier {packet.identifier})")
        if packet.code not in _ANSWERS:
            raise WireError(f"code {packet.code} answers no Access-Request")
        secret = self._secrets[server]
        try:
            check_answer(datagram, packet, request.authenticator, secret)
        except WireError as error:
            request.complaint = str(error)
            raise
        self._liveness.answered(server, now)
        answer = answers.read(
            self._settings, request.question, packet, request.authenticator, secret
        )
        self._count(packet.code)
        if isinstance(answer, Challenged):
            answer = Challenged(answer.eap, _tag(server) + answer.state)
        self._finish(request, answer)

    def _count(self, code: int) -> None:
        name = {Code.ACCESS_ACCEPT: "accepts", Code.ACCESS_REJECT: "rejects"}
        self.counters[name.get(Code(code), "challenges")] += 1


def _unanswered(request: _Request, what: str) -> Unavailable:
    names = ", ".join(map(str, request.tried))
    but = f"; what came was ignored: {request.complaint}" if request.complaint else ""
    return Unavailable(f"{what} from RADIUS server {names}{but}")


def _tag(server: Endpoint) -> bytes:
    """A few octets that name a server, whatever the order in the configuration."""
    return hashlib.sha256(str(server).encode()).digest()[:_TAG_OCTETS]
