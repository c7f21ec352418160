"""Exchanges after phase 1: message ids, initialization vectors, answers kept, retransmissions.

RFC 2408 section 3.1 (message id), RFC 2409 section 5.5 and appendix B (initialization vectors).
Whoever sent last and expects an answer retransmits; whoever has nothing to expect answers
repetitions from memory.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from gateway.domain.endpoint import Path
from gateway.ike import closing
from gateway.ike.core import Core, TimerKind
from gateway.ike.outputs import Severity
from gateway.ike.record_values import Record
from gateway.ike.v1 import protect
from gateway.ike.v1.codec import ExchangeType, Payload
from gateway.ike.v1.sa import REMEMBERED_IDS, IkeSa

MAX_EXCHANGES = 8
"""Exchanges of one SA that are under way at a time, those of both sides together."""
MAX_FINISHED = 4
"""Finished exchanges of one SA whose last answer is kept for repetitions."""
REPEAT_S = 60.0
"""How long it is kept."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """The authentic first message of an exchange that the peer began."""

    message_id: int
    next_iv: bytes
    digest: bytes
    """SHA-256 of the datagram."""
    path: Path


class Phase2Exchange:
    """An exchange after phase 1. Subclasses say what its messages mean.

    The receiver verifies the HASH payload of every message before it calls :meth:`receive`.
    """

    __slots__ = (
        "due",
        "finished_at",
        "hash_lead",
        "hash_prefix",
        "initiator",
        "iv",
        "message_id",
        "path",
        "sent",
        "started_at",
        "taken",
        "tries",
    )

    name: ClassVar[str] = "exchange"
    """For people, as in "quick mode"."""
    exchange_type: ClassVar[ExchangeType]
    in_record: ClassVar[str] = ""
    """Names the kind in a record; empty for exchanges that are in none."""
    goes_on: ClassVar[bool] = False
    """Whether the peer may begin something new under the message id once this one is over."""

    def __init__(self, message_id: int, *, initiator: bool, now: float) -> None:
        self.message_id = message_id
        self.initiator = initiator
        """Whether we began this exchange."""
        self.path: Path | None = None
        """Where the peer's last message came from; None before there is one."""
        self.started_at = now
        self.finished_at: float | None = None
        self.iv = b""
        """Of the next message of the exchange, whoever sends it."""
        self.taken = b""
        """SHA-256 of the last message that was taken from the peer."""
        self.sent: tuple[bytes, ...] = ()
        """Datagrams of our last message."""
        self.tries = 0
        self.due = 0.0
        """When ``sent`` is due again; 0 when no answer is awaited."""
        self.hash_lead = b""
        """What the HASH of the peer's next message covers before the message id."""
        self.hash_prefix = b""
        """What it covers between the message id and the payloads that follow the HASH."""

    def receive(
        self, core: Core, sa: IkeSa, payloads: Sequence[Payload], path: Path, now: float
    ) -> None:
        """Act on the next message, whose HASH was verified. ``payloads`` are those after it.

        Raises WireError or Refused for what ends the exchange; the caller reports it.
        """
        raise NotImplementedError

    def unanswered(self, core: Core, sa: IkeSa, now: float) -> None:
        """Nobody answered ``sent`` in the whole time; the exchange is already forgotten."""
        closing.close(
            core,
            sa,
            f"peer does not answer ({self.name})",
            now,
            severity=Severity.WARNING,
            refused=False,
        )

    def abandoned(self, core: Core, sa: IkeSa, now: float) -> None:
        """The SA goes before the exchange was over."""

    def record(self) -> Record:
        """What the subclass adds, to go on in another process."""
        return {}

    @classmethod
    def resumed(cls, message_id: int, record: Record, now: float) -> Self:
        """The exchange of a former process, without what all of them have.

        Raises what ``record_values.UNREADABLE`` names.
        """
        raise NotImplementedError

    def rejoin(self, core: Core, sa: IkeSa) -> None:
        """The SAs of the former process, and their connections, are there again."""


def new_message_id(core: Core, sa: IkeSa) -> int:
    """A message id that no exchange of the SA has; never 0."""
    while True:
        message_id = int.from_bytes(core.random(4), "big")
        if message_id and message_id not in sa.exchanges and not is_finished(sa, message_id):
            return message_id


def under_way(sa: IkeSa) -> int:
    """How many exchanges are not over."""
    return sum(1 for one in sa.exchanges.values() if one.finished_at is None)


def add(sa: IkeSa, exchange: Phase2Exchange, arrival: Arrival | None = None) -> bool:
    """Enter an exchange; False when the SA has too many under way.

    ``arrival`` is the message by which the peer began it; None for one that we begin.
    """
    if under_way(sa) >= MAX_EXCHANGES:
        return False
    if arrival is None:
        exchange.iv = protect.first_iv(sa, exchange.message_id)
    else:
        exchange.iv = arrival.next_iv
        exchange.taken = arrival.digest
        exchange.path = arrival.path
    sa.exchanges[exchange.message_id] = exchange
    return True


def send(
    core: Core,
    sa: IkeSa,
    exchange: Phase2Exchange,
    payloads: Sequence[Payload],
    now: float,
    *,
    hash_lead: bytes = b"",
    hash_prefix: bytes = b"",
    expect_answer: bool = True,
) -> None:
    """Send the next message of an exchange, with its HASH payload in front.

    HASH = prf(SKEYID_a, hash_lead | M-ID | hash_prefix | payloads): quick mode's HASH(1) needs
    neither, HASH(2) the prefix Ni_b, HASH(3) the lead of one zero octet and the prefix
    Ni_b | Nr_b. With ``expect_answer`` the message is retransmitted until the next one comes.
    """
    messages = protect.seal(
        core,
        sa,
        exchange,
        payloads,
        hash_lead=hash_lead,
        hash_prefix=hash_prefix,
    )
    exchange.sent = messages
    exchange.tries = 1
    core.touch(sa)
    core.transmit(messages, exchange.path or sa.path)
    if expect_answer:
        exchange.due = now + core.settings.retransmit_first_s
        arm(core, sa)
    else:
        exchange.due = 0.0


def send_alone(
    core: Core, sa: IkeSa, exchange_type: ExchangeType, payloads: Sequence[Payload]
) -> None:
    """Send an exchange of a single message, as informational ones are: no answer, no memory."""
    exchange = Phase2Exchange(new_message_id(core, sa), initiator=True, now=0.0)
    exchange.iv = protect.first_iv(sa, exchange.message_id)
    core.touch(sa)
    # Should somebody send it back to us, it is not the peer's.
    remember(sa, exchange.message_id)
    messages = protect.seal(core, sa, exchange, payloads, exchange_type=exchange_type)
    core.transmit(messages, sa.path)


def finish(core: Core, sa: IkeSa, exchange: Phase2Exchange, now: float) -> None:
    """The exchange is over; its last message is kept a while for repetitions of the peer's."""
    if sa.exchanges.get(exchange.message_id) is not exchange:
        return
    core.touch(sa)
    exchange.due = 0.0
    exchange.finished_at = now
    remember(sa, exchange.message_id)
    if not exchange.sent:
        del sa.exchanges[exchange.message_id]
    finished = [one for one in sa.exchanges.values() if one.finished_at is not None]
    for old in finished[:-MAX_FINISHED]:
        del sa.exchanges[old.message_id]
    arm(core, sa)


def forget(core: Core, sa: IkeSa, exchange: Phase2Exchange) -> None:
    """Drop an exchange at once; its message id is not taken again."""
    if sa.exchanges.get(exchange.message_id) is exchange:
        del sa.exchanges[exchange.message_id]
    core.touch(sa)
    remember(sa, exchange.message_id)
    arm(core, sa)


def remember(sa: IkeSa, message_id: int) -> None:
    """Take no new exchange with this message id: it was used."""
    if message_id not in sa.finished_ids:
        sa.finished_ids = (*sa.finished_ids[1 - REMEMBERED_IDS :], message_id)


def take_later(sa: IkeSa, message_id: int) -> None:
    """A message came too early or found no room: its repetition is looked at again."""
    sa.finished_ids = tuple(one for one in sa.finished_ids if one != message_id)


def is_finished(sa: IkeSa, message_id: int) -> bool:
    """Whether an exchange with this message id was over not long ago."""
    return message_id in sa.finished_ids


def arm(core: Core, sa: IkeSa) -> None:
    """Set the SA's one retransmission timer to what is due first."""
    dues = [one.due for one in sa.exchanges.values() if one.due]
    if sa.retransmit_at:
        dues.append(sa.retransmit_at)
    dues += [
        one.finished_at + REPEAT_S
        for one in sa.exchanges.values()
        if one.finished_at is not None and one.sent
    ]
    key = (TimerKind.RETRANSMIT, sa.local_spi)
    if dues:
        core.timers.set(key, min(dues))
    else:
        core.timers.cancel(key)


def retransmit(core: Core, sa: IkeSa, now: float) -> None:
    """Send again what is due, give up what was sent often enough, drop old answers."""
    settings = core.settings
    for exchange in list(sa.exchanges.values()):
        if exchange.finished_at is not None and now >= exchange.finished_at + REPEAT_S:
            core.touch(sa)
            del sa.exchanges[exchange.message_id]
        elif exchange.due and now >= exchange.due:
            if exchange.tries >= settings.retransmit_tries:
                core.count("retransmissions_exhausted")
                forget(core, sa, exchange)
                exchange.unanswered(core, sa, now)
                if sa.closed:
                    return
                continue
            exchange.tries += 1
            core.count("retransmissions")
            core.transmit(exchange.sent, exchange.path or sa.path)
            exchange.due = now + delay(core, exchange.tries)
    arm(core, sa)


def delay(core: Core, tries: int) -> float:
    """Seconds to wait for an answer after the ``tries``-th transmission (1 is the first)."""
    settings = core.settings
    return float(settings.retransmit_first_s * settings.retransmit_factor ** (tries - 1))
