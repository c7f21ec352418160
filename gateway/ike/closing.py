"""The end of IKE SAs and child SAs: resources go back, events go out, initiators try again."""

from gateway.ike import client
from gateway.ike.core import Core, TimerKind
from gateway.ike.outputs import RemoveChildSa, SessionClosed, Severity
from gateway.ike.sa import Child, IkeSa

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
        session=sa.session_id,
        spis=sa.spis,
        connection=sa.connection_name,
        spi_in=f"{child.spi_in:08x}",
        reqid=child.reqid,
        reason=reason,
    )
    if not sa.children and sa.established:
        core.watch_childless(sa, now)


def close(
    core: Core,
    sa: IkeSa,
    reason: str,
    now: float,
    *,
    severity: Severity = Severity.INFO,
    refused: bool = True,
    hint: str = "",
) -> None:
    """Forget an IKE SA with all it has, without telling the peer.

    ``refused`` False says that the peer did not answer; ``hint`` what to do about it.
    """
    if sa.closed:
        return
    had_session, replaced = sa.had_session, sa.replaced
    core.version_of(sa).let_go(core, sa, reason, now)
    for child in list(sa.children.values()):
        remove_child(core, sa, child, reason, now)
    core.release_address(sa)
    core.drop_sa(sa)
    if had_session:
        _report(core, sa, reason, now, severity)
    client.ended(core, sa, reason, refused=refused, hint=hint)
    if not replaced:
        retry_later(core, sa, now)


def _report(core: Core, sa: IkeSa, reason: str, now: float, severity: Severity) -> None:
    core.count("ike_sas_closed")
    session = sa.session_id
    if sa.session is not None:
        core.outputs.append(SessionClosed(sa.session.session_id, reason))
        sa.session = None
    age = now - sa.established_at
    core.emit(
        "ike_sa_closed",
        f"{sa.peer_name} at {sa.path.remote} ({sa.connection_name}) closed after"
        f" {age:.0f} s: {reason}",
        severity,
        peer=sa.peer_name,
        session=session,
        connection=sa.connection_name,
        remote=str(sa.path.remote),
        spis=sa.spis,
        reason=reason,
        age_s=round(age, 3),
    )


def retry_later(core: Core, sa: IkeSa, now: float) -> None:
    """Schedule the next attempt of a connection that is to be up, a little later every time."""
    connection = sa.connection
    if connection is None or not sa.session_initiator or connection.name not in core.wanted:
        return
    key = (TimerKind.INITIATE, connection.name)
    if key in core.timers or client.stands(core, connection.name):
        return
    failures = core.wanted[connection.name]
    core.wanted[connection.name] = failures + 1
    delay = min(FIRST_RETRY_S * 2 ** min(failures, 16), MAX_RETRY_S)
    core.timers.set(key, now + delay)
