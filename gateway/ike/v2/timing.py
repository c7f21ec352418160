"""What happens when a timer of an IKEv2 SA fires that the shared part does not know."""

from collections.abc import Callable

from gateway.ike.core import Core, TimerKind
from gateway.ike.v2 import deleting, exchange, failing, informational, reauthentication, rekey_ike
from gateway.ike.v2.sa import IkeSa, State


def fire(core: Core, kind: TimerKind, sa: IkeSa, now: float) -> None:
    """Act on a timer of an IKE SA."""
    _IKE[kind](core, sa, now)


def _expire_ike(core: Core, sa: IkeSa, now: float) -> None:
    if sa.state in (State.ESTABLISHED, State.REKEYED):
        over = "its lifetime is over" if sa.rekeyed_by is None else "replaced"
        deleting.delete_ike_sa(core, sa, over, now)


def _renew_ike(core: Core, sa: IkeSa, now: float) -> None:
    connection = sa.connection
    if connection is None or not connection.reauthenticate:
        rekey_ike.rekey_ike(core, sa, now)
    elif sa.session_initiator:
        reauthentication.start(core, sa, now)


_IKE: dict[TimerKind, Callable[[Core, IkeSa, float], None]] = {
    TimerKind.RETRANSMIT: exchange.retransmit,
    TimerKind.GIVE_UP: failing.give_up,
    TimerKind.LIVENESS: informational.check_liveness,
    TimerKind.REKEY_IKE: _renew_ike,
    TimerKind.REAUTHENTICATE: reauthentication.start,
    TimerKind.EXPIRE_IKE: _expire_ike,
}
