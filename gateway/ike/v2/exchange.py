"""Sending requests and responses inside an IKE SA, one request at a time."""

from collections import deque
from collections.abc import Sequence
from typing import ClassVar, Self

from gateway.ike import closing
from gateway.ike.codec import Payload
from gateway.ike.core import Core, TimerKind
from gateway.ike.record_values import Record
from gateway.ike.registry import ExchangeType
from gateway.ike.v2 import failing, protect
from gateway.ike.v2.sa import IkeSa, State
from gateway.ike.v2.view import Payloads, Request
from gateway.ike.v2.window import LAST_MESSAGE_ID, Outstanding, retransmission_delay

MAX_QUEUED = 64
"""Exchanges of ours that wait for the window of one SA."""


class Exchange:
    """An exchange that we begin: makes the request and takes the response."""

    __slots__ = ()
    name: ClassVar[str]
    exchange_type: ClassVar[ExchangeType]
    in_record: ClassVar[str] = ""
    """Names the kind in a record; empty for exchanges of a login, which are in none."""

    def request(self, core: Core, sa: IkeSa, now: float) -> Sequence[Payload] | None:
        """The request's payloads, or None when there is nothing to do any more."""
        raise NotImplementedError

    def response(self, core: Core, sa: IkeSa, view: Payloads, now: float) -> None:
        """Act on the authenticated response."""
        raise NotImplementedError

    def no_answer(self, core: Core, sa: IkeSa, tries: int, now: float) -> None:
        """The request was sent ``tries`` times without an answer and is about to be again."""

    def abandoned(self, core: Core, sa: IkeSa, now: float) -> None:
        """The SA goes before the response came."""

    def record(self) -> Record:
        """What :meth:`resumed` needs to take the response in another process."""
        raise NotImplementedError

    @classmethod
    def resumed(cls, record: Record) -> Self:
        """The exchange of a record. Raises what ``record_values.UNREADABLE`` names."""
        raise NotImplementedError

    def rejoin(self, core: Core, sa: IkeSa) -> None:
        """All IKE SAs of the former process are there again."""


def begin(core: Core, sa: IkeSa, exchange: Exchange, now: float) -> None:
    """Start an exchange, or queue it behind the one that is under way."""
    if sa.window.outstanding is None:
        _start(core, sa, exchange, now)
        return
    if sa.exchanges is None:
        sa.exchanges = deque()
    if len(sa.exchanges) >= MAX_QUEUED:
        core.count("exchanges_not_queued")
        exchange.abandoned(core, sa, now)
        return
    sa.exchanges.append(exchange)
    core.touch(sa)


def _start(core: Core, sa: IkeSa, exchange: Exchange, now: float) -> bool:
    payloads = exchange.request(core, sa, now)
    if payloads is None:
        return False
    if sa.window.next_request >= LAST_MESSAGE_ID:
        closing.close(core, sa, "message ids are used up", now)
        return False
    messages = protect.seal(
        sa,
        exchange.exchange_type,
        sa.window.next_request,
        payloads,
        response=False,
        fragment_size=core.settings.fragment_size,
    )
    send_request(core, sa, exchange, messages, now)
    return True


def send_request(
    core: Core, sa: IkeSa, exchange: Exchange, messages: tuple[bytes, ...], now: float
) -> None:
    """Send a request's datagrams and wait for the response."""
    outstanding = Outstanding(exchange, messages)
    outstanding.sent_at = now
    sa.window.begin(outstanding)
    core.touch(sa)
    core.transmit(messages, sa.path)
    core.timers.set((TimerKind.RETRANSMIT, sa.local_spi), now + core.settings.retransmit_first_s)


def continue_with_next(core: Core, sa: IkeSa, now: float) -> None:
    """Start the next queued exchange, if the window is free."""
    core.touch(sa)
    while sa.exchanges and sa.window.outstanding is None and sa.state is not State.CLOSED:
        exchange = sa.exchanges.popleft()
        _start(core, sa, exchange, now)
    if not sa.exchanges:
        sa.exchanges = None


def finish(core: Core, sa: IkeSa, view: Payloads, now: float) -> None:
    """The response to the outstanding request came and is authentic."""
    outstanding = sa.window.outstanding
    if outstanding is None:
        return
    sa.window.outstanding = None
    if outstanding.sent_at is not None:
        sa.rtt_s = max(0.0, now - outstanding.sent_at)
    core.timers.cancel((TimerKind.RETRANSMIT, sa.local_spi))
    outstanding.exchange.response(core, sa, view, now)
    continue_with_next(core, sa, now)


def retransmit(core: Core, sa: IkeSa, now: float) -> None:
    """Nobody answered in time: send again, or give the SA up."""
    outstanding = sa.window.outstanding
    if outstanding is None:
        return
    settings = core.settings
    if outstanding.tries >= settings.retransmit_tries:
        core.count("retransmissions_exhausted")
        failing.unanswered(core, sa, outstanding.exchange.name, now)
        return
    outstanding.exchange.no_answer(core, sa, outstanding.tries, now)
    outstanding.tries += 1
    outstanding.sent_at = None  # which of both the answer is to, nobody can tell
    core.count("retransmissions")
    core.transmit(outstanding.messages, sa.path)
    delay = retransmission_delay(
        outstanding.tries, settings.retransmit_first_s, settings.retransmit_factor
    )
    core.timers.set((TimerKind.RETRANSMIT, sa.local_spi), now + delay)


def resume(core: Core, sa: IkeSa, now: float) -> None:
    """The request of a former process that waits for its answer goes again, with all its time."""
    if sa.window.outstanding is not None:
        sa.window.outstanding.tries = 0
        core.timers.set((TimerKind.RETRANSMIT, sa.local_spi), now)


def hurry(core: Core, sa: IkeSa, now: float) -> bool:
    """Send the request that waits for its answer again from where we are, with all its time.

    False when none waits.
    """
    outstanding = sa.window.outstanding
    if outstanding is None:
        return False
    outstanding.tries, outstanding.sent_at = 1, None
    core.transmit(outstanding.messages, sa.path)
    core.timers.set((TimerKind.RETRANSMIT, sa.local_spi), now + core.settings.retransmit_first_s)
    return True


def respond(core: Core, sa: IkeSa, request: Request, payloads: Sequence[Payload]) -> None:
    """Answer the expected request, to where it came from, and remember the answer."""
    messages = protect.seal(
        sa,
        request.exchange_type,
        sa.window.expected,
        payloads,
        response=True,
        fragment_size=core.settings.fragment_size,
    )
    sa.window.answer(request.digest, messages)
    core.touch(sa)
    core.transmit(messages, request.path)
