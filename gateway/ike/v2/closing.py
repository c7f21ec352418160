"""The end of IKE SAs and child SAs: resources go back, events go out, initiators try again."""

from gateway.ike.outputs import RemoveChildSa, Severity
from gateway.ike.v2.core import Core, TimerKind
from gateway.ike.v2.refusal import report
from gateway.ike.v2.sa import Child, IkeSa, State, transition

LINGER_S = 10.0
"""How long a refused login keeps its answer for retransmissions."""
MAX_RETRY_S = 60.0
FIRST_RETRY_S = 2.0


def remove_child(core: Core, sa: IkeSa, child: Child, reason: str, now: float) -> None:
    """Forget a child SA here and in the dataplane."""
    if child.spi_in not in sa.children:
        return
    core.drop_child(sa, child)
    core.outputs.append(RemoveChildSa(child.spi_in))
    core.count("child_sas_closed")
    core.emit(
        "child_sa_closed",
        f"child SA {child.spi_in:08x} of {sa.peer_name} closed: {reason}",
        Severity.DEBUG,
        peer=sa.peer_name,
        connection=sa.connection_name,
        spi_in=f"{child.spi_in:08x}",
        reqid=child.reqid,
        reason=reason,
    )
    if not sa.children and sa.state is State.ESTABLISHED:
        core.watch_childless(sa, now)


def close(
    core: Core, sa: IkeSa, reason: str, now: float, *, severity: Severity = Severity.INFO
) -> None:
    """Forget an IKE SA with all it has, without telling the peer."""
    if sa.state is State.CLOSED:
        return
    was = sa.state
    transition(core, sa, State.CLOSED, reason)
    for child in list(sa.children.values()):
        remove_child(core, sa, child, reason, now)
    _drop_pending(core, sa, now)
    core.release_address(sa)
    _leave_half_open(core, sa)
    core.drop_sa(sa)
    sa.handshake = None
    if was in (State.ESTABLISHED, State.DELETING) and sa.rekeyed_by is None:
        core.count("ike_sas_closed")
        age = now - sa.established_at
        core.emit(
            "ike_sa_closed",
            f"{sa.peer_name} at {sa.path.remote} ({sa.connection_name}) closed after"
            f" {age:.0f} s: {reason}",
            severity,
            peer=sa.peer_name,
            connection=sa.connection_name,
            remote=str(sa.path.remote),
            spis=sa.spis,
            reason=reason,
            age_s=round(age, 3),
        )
    if sa.rekeyed_by is None and was is not State.REKEYED:
        retry_later(core, sa, now)


def _drop_pending(core: Core, sa: IkeSa, now: float) -> None:
    outstanding = sa.window.outstanding
    sa.window.outstanding = None
    waiting = list(sa.exchanges or ())
    sa.exchanges = None
    sa.reassembly = None
    if outstanding is not None:
        waiting.insert(0, outstanding.exchange)
    for exchange in waiting:
        exchange.abandoned(core, sa, now)


def _leave_half_open(core: Core, sa: IkeSa) -> None:
    handshake = sa.handshake
    if handshake is not None and handshake.half_open_key is not None:
        core.half_open.remove(handshake.half_open_key)
        handshake.half_open_key = None


def refuse_login(core: Core, sa: IkeSa, why: str, now: float) -> None:
    """Drop all of a half-open SA but its answer, which retransmitted requests still get."""
    transition(core, sa, State.CLOSED, why)
    _drop_pending(core, sa, now)
    core.release_address(sa)
    _leave_half_open(core, sa)
    sa.handshake = None
    sa.sk_d = b""
    sa.cipher_in = None
    sa.cipher_out = None
    core.timers.set((TimerKind.GIVE_UP, sa.local_spi), now + LINGER_S)


def give_up(core: Core, sa: IkeSa, now: float) -> None:
    """The time for a handshake is over, or that of a refused one's answer."""
    if sa.state is State.CLOSED:
        core.drop_sa(sa)
        return
    if sa.initiator:
        unanswered(core, sa, "IKE_SA_INIT", now)
        return
    core.count("half_open_timeouts")
    core.emit_limited(
        f"half open {sa.path.remote.address}",
        now,
        "handshake_abandoned",
        f"{sa.path.remote} sent IKE_SA_INIT and then no valid IKE_AUTH within"
        f" {core.settings.half_open_timeout_s:.0f} s",
        Severity.DEBUG,
        remote=str(sa.path.remote),
    )
    close(core, sa, "handshake timed out", now)


def unanswered(core: Core, sa: IkeSa, step: str, now: float) -> None:
    """Retransmissions ran out."""
    if sa.state in (State.INIT_SENT, State.AUTH_SENT):
        hint = sa.handshake.hint if sa.handshake is not None else ""
        reason = hint or "the peer does not answer"
        remedy = (
            "check both configurations"
            if hint
            else "check the address, UDP ports 500 and 4500 on the way, and the peer"
        )
        report(
            core,
            sa.connection_name,
            sa.path.remote,
            step,
            reason,
            remedy,
            connection=sa.connection_name,
        )
        close(core, sa, reason, now)
        return
    close(core, sa, f"peer does not answer ({step})", now, severity=Severity.WARNING)


def retry_later(core: Core, sa: IkeSa, now: float) -> None:
    """Schedule the next attempt of a connection that is to be up, a little later every time."""
    connection = sa.connection
    if connection is None or not sa.session_initiator or connection.name not in core.wanted:
        return
    key = (TimerKind.INITIATE, connection.name)
    if key in core.timers:
        return
    failures = core.wanted[connection.name]
    core.wanted[connection.name] = failures + 1
    delay = min(FIRST_RETRY_S * 2 ** min(failures, 16), MAX_RETRY_S)
    core.timers.set(key, now + delay)
