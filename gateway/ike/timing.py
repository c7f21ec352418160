"""What happens when a timer fires, whichever version of IKE it belongs to."""

from gateway.ike import client
from gateway.ike.core import Core, TimerKey, TimerKind
from gateway.ike.outputs import RemoveChildSa, Severity, TransmitKeepalive
from gateway.ike.sa import Child, IkeSa

_UNRECORDED = frozenset({TimerKind.LIVENESS, TimerKind.KEEPALIVE, TimerKind.RETRANSMIT})
"""What they are for is set anew in another process; what they do touches the SA by itself."""


def fire(core: Core, key: TimerKey, now: float) -> None:
    """Act on a timer; what it was for may be gone meanwhile."""
    kind, name = key
    if isinstance(name, str):
        _initiate(core, name, now)
    elif isinstance(name, int):
        sa = core.children.get(name)
        child = sa.children.get(name) if sa is not None else None
        if sa is not None and child is not None:
            _fire_child(core, kind, sa, child, now)
    else:
        ike_sa = core.sas.get(name)
        if ike_sa is not None:
            _fire_ike(core, kind, ike_sa, now)


def _initiate(core: Core, name: str, now: float) -> None:
    connection = core.connections.get(name)
    if connection is None or name not in core.wanted:
        return
    if client.stands(core, name):
        return
    core.versions[connection.version].initiate(core, connection, now)


def _fire_ike(core: Core, kind: TimerKind, sa: IkeSa, now: float) -> None:
    version = core.version_of(sa)
    if kind not in _UNRECORDED:
        core.touch(sa)
    if kind is TimerKind.CHILDLESS:
        if not sa.children and sa.established:
            version.delete_ike_sa(core, sa, "no child SA for too long", now)
    elif kind is TimerKind.SESSION:
        if sa.established:
            version.delete_ike_sa(core, sa, "the session time of its user is over", now)
    elif kind is TimerKind.KEEPALIVE:
        if sa.established and sa.local_natted:
            core.outputs.append(TransmitKeepalive(sa.path))
            core.timers.set(
                (TimerKind.KEEPALIVE, sa.local_spi), now + core.settings.nat_keepalive_s
            )
    else:
        version.fire(core, kind, sa, now)


def _fire_child(core: Core, kind: TimerKind, sa: IkeSa, child: Child, now: float) -> None:
    version = core.version_of(sa)
    core.touch(sa)
    if kind is TimerKind.ACTIVATE:
        core.activate(child)
    elif kind is TimerKind.REMOVE:
        core.drop_child(sa, child)
        core.outputs.append(RemoveChildSa(child.spi_in))
        core.count("child_sas_closed")
    elif kind is TimerKind.REKEY_CHILD:
        version.rekey_child(core, sa, child, now)
    elif kind is TimerKind.EXPIRE_CHILD:
        core.emit(
            "child_sa_expired",
            f"child SA {child.spi_in:08x} of {sa.peer_name} was not rekeyed in time",
            Severity.WARNING,
            peer=sa.peer_name,
            session=sa.session_id,
            spis=sa.spis,
            connection=sa.connection_name,
            spi_in=f"{child.spi_in:08x}",
        )
        version.delete_child(core, sa, child, "its lifetime is over", now)
    else:
        version.fire_child(core, kind, sa, child, now)


def watch_peer(core: Core, sa: IkeSa, now: float) -> None:
    """An SA is established: look after its peer, and keep the NAT in front of us open."""
    connection = sa.connection
    if connection is not None and connection.liveness_s > 0:
        core.timers.set((TimerKind.LIVENESS, sa.local_spi), now + connection.liveness_s)
    if sa.local_natted:
        core.timers.set((TimerKind.KEEPALIVE, sa.local_spi), now + core.settings.nat_keepalive_s)
