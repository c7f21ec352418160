"""Dead peer detection (RFC 3706): R-U-THERE and its acknowledgement, both ways.

Used only with peers that sent the vendor id. Sequence numbers go up by one with each question of
a side, so an old message says nothing.
"""

from gateway.domain.endpoint import Path
from gateway.ike import closing, moving
from gateway.ike.core import Core, TimerKind
from gateway.ike.outputs import Severity
from gateway.ike.v1 import exchange
from gateway.ike.v1.codec import ExchangeType, Notify, NotifyType, ProtocolId
from gateway.ike.v1.sa import IkeSa, State

SEQUENCE_OCTETS = 4
_WRAP = 1 << 32
_WINDOW = 1 << 31


class DeadPeerDetection:
    """The numbers of both sides: ``sa.dpd``."""

    __slots__ = ("asked_at", "last_theirs", "ours", "tries")

    def __init__(self, ours: int) -> None:
        self.ours = ours
        """Of our last question."""
        self.tries = 0
        """Transmissions of a question that is not answered yet; 0 when none is open."""
        self.asked_at = 0.0
        self.last_theirs: int | None = None


def _of(core: Core, sa: IkeSa) -> DeadPeerDetection:
    if not isinstance(sa.dpd, DeadPeerDetection):
        # Half of the range, so that peers which compare plainly see no wrap for long.
        core.touch(sa)
        sa.dpd = DeadPeerDetection(int.from_bytes(core.random(SEQUENCE_OCTETS), "big") >> 1)
    return sa.dpd


def _sequence(sa: IkeSa, notify: Notify) -> int | None:
    """The number of an R-U-THERE or its answer; None when it is not of this SA."""
    if notify.spi and notify.spi != sa.initiator_spi + sa.responder_spi:
        return None
    if len(notify.data) != SEQUENCE_OCTETS:
        return None
    return int.from_bytes(notify.data, "big")


def _send(core: Core, sa: IkeSa, kind: NotifyType, sequence: int) -> None:
    notify = Notify(
        kind,
        sequence.to_bytes(SEQUENCE_OCTETS, "big"),
        ProtocolId.ISAKMP,
        sa.initiator_spi + sa.responder_spi,
    )
    exchange.send_alone(core, sa, ExchangeType.INFORMATIONAL, [notify])


def asked(core: Core, sa: IkeSa, notify: Notify, path: Path, now: float) -> None:
    """The peer asks whether we are there.

    A question is new if its number is, so it comes from where the peer is now: it may have moved
    without any traffic of its own to show it (draft 001, appendix C).
    """
    sequence = _sequence(sa, notify)
    if sequence is None or sa.state is not State.ESTABLISHED:
        core.count("dpd_ignored")
        return
    mine = _of(core, sa)
    if mine.last_theirs is not None and (sequence - mine.last_theirs) % _WRAP >= _WINDOW:
        core.count("dpd_replayed")
        return
    mine.last_theirs = sequence
    sa.last_inbound = now
    moving.follow(core, sa, path.remote, "dead peer detection", now, path.local)
    _send(core, sa, NotifyType.R_U_THERE_ACK, sequence)


def answered(core: Core, sa: IkeSa, notify: Notify, path: Path, now: float) -> None:
    """The peer is there, if this is the answer to our last question."""
    mine = sa.dpd
    if (
        not isinstance(mine, DeadPeerDetection)
        or not mine.tries
        or _sequence(sa, notify) != mine.ours
    ):
        core.count("dpd_ignored")
        return
    mine.tries = 0
    sa.last_inbound = now
    # Nobody else knows the number of our question, so this is where the peer is now.
    moving.follow(core, sa, path.remote, "answer to dead peer detection", now, path.local)
    _come_back(core, sa, now)


def _come_back(core: Core, sa: IkeSa, now: float) -> None:
    if sa.connection is not None and sa.connection.liveness_s > 0:
        core.timers.set((TimerKind.LIVENESS, sa.local_spi), now + sa.connection.liveness_s)


def check(core: Core, sa: IkeSa, now: float) -> None:
    """The liveness timer: ask the peer if nothing authentic came for too long."""
    connection = sa.connection
    if (
        connection is None
        or connection.liveness_s <= 0
        or sa.state is not State.ESTABLISHED
        or not sa.peer.dpd
    ):
        return
    mine = _of(core, sa)
    last = _last_inbound(core, sa, now)
    if mine.tries:
        if last > mine.asked_at:
            mine.tries = 0
            _come_back(core, sa, now)
        else:
            _ask_again(core, sa, mine, now)
        return
    due = last + connection.liveness_s
    if due > now:
        core.timers.set((TimerKind.LIVENESS, sa.local_spi), due)
        return
    _ask(core, sa, mine, now)


def ask(core: Core, sa: IkeSa, now: float) -> None:
    """Check the peer now, with all the time that it has to answer."""
    if sa.state is State.ESTABLISHED and sa.peer.dpd:
        mine = _of(core, sa)
        mine.tries = 0
        _ask(core, sa, mine, now)


def _ask(core: Core, sa: IkeSa, mine: DeadPeerDetection, now: float) -> None:
    core.count("liveness_checks")
    mine.ours = (mine.ours + 1) % _WRAP
    mine.asked_at = now
    _transmit(core, sa, mine, now)


def _ask_again(core: Core, sa: IkeSa, mine: DeadPeerDetection, now: float) -> None:
    if mine.tries >= core.settings.retransmit_tries:
        core.count("retransmissions_exhausted")
        reason = "peer does not answer (dead peer detection)"
        closing.close(core, sa, reason, now, severity=Severity.WARNING, refused=False)
        return
    core.count("retransmissions")
    _transmit(core, sa, mine, now)


def _transmit(core: Core, sa: IkeSa, mine: DeadPeerDetection, now: float) -> None:
    mine.tries += 1
    _send(core, sa, NotifyType.R_U_THERE, mine.ours)
    again = now + exchange.delay(core, mine.tries)
    core.timers.set((TimerKind.LIVENESS, sa.local_spi), again)


def _last_inbound(core: Core, sa: IkeSa, now: float) -> float:
    """When the last authentic message or ESP packet came."""
    last = sa.last_inbound
    if core.last_inbound is not None:
        for spi_in in sa.children:
            age = core.last_inbound(spi_in)
            if age is not None:
                last = max(last, now - age)
    return last
