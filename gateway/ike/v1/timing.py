"""What happens when a timer of an ISAKMP SA fires."""

from collections.abc import Callable

from gateway.ike.core import Core, TimerKind
from gateway.ike.v1 import exchange, failing, phase1, phase2, renew
from gateway.ike.v1.sa import IkeSa, State


def _retransmit(core: Core, sa: IkeSa, now: float) -> None:
    phase1.retransmit(core, sa, now)
    if not sa.closed:
        exchange.retransmit(core, sa, now)


def _expire(core: Core, sa: IkeSa, now: float) -> None:
    if sa.state in (State.ESTABLISHED, State.REPLACED):
        reason = "its lifetime is over" if sa.state is State.ESTABLISHED else "replaced"
        failing.wrap_up(core, sa, reason, now)


_TIMERS: dict[TimerKind, Callable[[Core, IkeSa, float], None]] = {
    TimerKind.RETRANSMIT: _retransmit,
    TimerKind.GIVE_UP: failing.give_up,
    TimerKind.LIVENESS: phase2.check_liveness,
    TimerKind.REKEY_IKE: renew.renew,
    TimerKind.EXPIRE_IKE: _expire,
}


def fire(core: Core, kind: TimerKind, sa: IkeSa, now: float) -> None:
    """Act on a timer; others than these do not exist here."""
    action = _TIMERS.get(kind)
    if action is not None:
        action(core, sa, now)
