"""What happens when a timer fires."""

from collections.abc import Callable

from gateway.ike.outputs import RemoveChildSa, Severity, TransmitKeepalive
from gateway.ike.v2 import closing, deleting, exchange, informational, initiate, rekey, rekey_ike
from gateway.ike.v2.core import Core, TimerKey, TimerKind
from gateway.ike.v2.sa import Child, IkeSa, State

RESTART_S = 5.0
"""A connection that is to be up is tried again this soon when it cannot be tried now."""


def fire(core: Core, key: TimerKey, now: float) -> None:
    """Act on a timer; what it was for may be gone meanwhile."""
    kind, name = key
    if isinstance(name, str):
        _initiate(core, name, now)
    elif isinstance(name, int):
        sa = core.children.get(name)
        child = sa.children.get(name) if sa is not None else None
        if sa is not None and child is not None:
            _CHILD[kind](core, sa, child, now)
    else:
        ike_sa = core.sas.get(name)
        if ike_sa is not None:
            _IKE[kind](core, ike_sa, now)


def _initiate(core: Core, name: str, now: float) -> None:
    connection = core.connections.get(name)
    if connection is None or name not in core.wanted:
        return
    if any(sa.connection is connection and sa.session_initiator for sa in core.sas.values()):
        return
    initiate.start(core, connection, now)


def _childless(core: Core, sa: IkeSa, now: float) -> None:
    if not sa.children and sa.state is State.ESTABLISHED:
        deleting.delete_ike_sa(core, sa, "no child SA for too long", now)


def _expire_ike(core: Core, sa: IkeSa, now: float) -> None:
    if sa.state in (State.ESTABLISHED, State.REKEYED):
        deleting.delete_ike_sa(core, sa, "its lifetime is over", now)


def _keepalive(core: Core, sa: IkeSa, now: float) -> None:
    if sa.state is State.ESTABLISHED and sa.local_natted:
        core.outputs.append(TransmitKeepalive(sa.path))
        core.timers.set((TimerKind.KEEPALIVE, sa.local_spi), now + core.settings.nat_keepalive_s)


def _expire_child(core: Core, sa: IkeSa, child: Child, now: float) -> None:
    core.emit(
        "child_sa_expired",
        f"child SA {child.spi_in:08x} of {sa.peer_name} was not rekeyed in time",
        Severity.WARNING,
        peer=sa.peer_name,
        connection=sa.connection_name,
        spi_in=f"{child.spi_in:08x}",
    )
    deleting.delete_child(core, sa, child, "its lifetime is over", now)


def _activate(core: Core, sa: IkeSa, child: Child, now: float) -> None:
    del sa, now
    core.activate(child)


def _remove(core: Core, sa: IkeSa, child: Child, now: float) -> None:
    del now
    core.drop_child(sa, child)
    core.outputs.append(RemoveChildSa(child.spi_in))
    core.count("child_sas_closed")


_IKE: dict[TimerKind, Callable[[Core, IkeSa, float], None]] = {
    TimerKind.RETRANSMIT: exchange.retransmit,
    TimerKind.GIVE_UP: closing.give_up,
    TimerKind.LIVENESS: informational.check_liveness,
    TimerKind.REKEY_IKE: rekey_ike.rekey_ike,
    TimerKind.EXPIRE_IKE: _expire_ike,
    TimerKind.CHILDLESS: _childless,
    TimerKind.KEEPALIVE: _keepalive,
}
_CHILD: dict[TimerKind, Callable[[Core, IkeSa, Child, float], None]] = {
    TimerKind.REKEY_CHILD: rekey.rekey_child,
    TimerKind.EXPIRE_CHILD: _expire_child,
    TimerKind.ACTIVATE: _activate,
    TimerKind.REMOVE: _remove,
}
