"""Endpoint moves of one IKE SA and its children, by policy (see ``endpoint_update``)."""

from gateway.domain.child_sa import ANY_IPV4, ANY_IPV6, IpNetwork, Mode
from gateway.domain.endpoint import Endpoint, Path
from gateway.ike import child_sas, endpoint_update, presence
from gateway.ike.core import Core, TimerKind
from gateway.ike.endpoint_update import MovePolicy
from gateway.ike.outputs import Severity, TransmitKeepalive
from gateway.ike.policy import ConnectionPolicy
from gateway.ike.sa import IkeSa

_EVERYTHING = (ANY_IPV4, ANY_IPV6)


def policy(core: Core, sa: IkeSa, *, allowed: bool) -> MovePolicy:
    """What moves are allowed for this SA."""
    inner: list[IpNetwork] = [pool.network for pool in core.pools.values()]
    for child in sa.children.values():
        if child.mode is Mode.TRANSPORT:
            continue
        for selector in child.remote_ts:
            if selector.start in sa.own_addresses and selector.start == selector.end:
                continue  # Its address in the tunnel is the one that it has outside as well.
            if (selector.start, selector.end) not in {(s.start, s.end) for s in _EVERYTHING}:
                inner += selector.networks()
    return MovePolicy(allowed, core.own_addresses, inner, core.settings.max_moves_per_minute)


def follow(  # noqa: PLR0917 - one fact each
    core: Core,
    sa: IkeSa,
    remote: Endpoint,
    proof: str,
    now: float,
    local: Endpoint | None = None,
) -> bool:
    """Move the peer to where an authenticated packet came from, if policy allows it.

    ``local`` is where that packet came to: our end moves there when the IP version is another.
    """
    if sa.connection is None or not sa.movable:
        return False
    if remote == sa.path.remote:
        return False
    if remote.address != sa.path.remote.address and _is_bound(sa):
        wrong = "in transport mode the address is the peer's side"
        refused(core, sa, remote, wrong, proof, now)
        return False
    here = sa.path.local
    if local is not None and remote.address.version != here.address.version:
        here = local
    return _move_if_allowed(
        core,
        sa,
        Path(here, remote),
        proof,
        now,
        # A new TCP connection of the peer's has a new address in any case (RFC 9329 section 6.1).
        policy(core, sa, allowed=remote.stands_for_tcp or _follows(sa, sa.connection)),
    )


def _is_bound(sa: IkeSa) -> bool:
    return any(child.mode is Mode.TRANSPORT for child in sa.children.values())


def _follows(sa: IkeSa, connection: ConnectionPolicy) -> bool:
    if not sa.children:
        return child_sas.plain_follows(sa, connection)
    return any(child_sas.follows(sa, connection, child) for child in sa.children.values())


def move_on_request(core: Core, sa: IkeSa, path: Path, proof: str, now: float) -> str | None:
    """Move the peer as it asked for in an authenticated request (MOBIKE). Why not, or None."""
    if path == sa.path:
        return None
    rules = policy(core, sa, allowed=True)
    wrong = endpoint_update.wrong_address(path.remote, path.local, rules)
    if wrong is not None:
        return wrong
    if sa.move_budget is None:
        sa.move_budget = endpoint_update.MoveBudget(rules.per_minute, now)
    if not sa.move_budget.take(rules.per_minute, now):
        return f"more than {rules.per_minute} moves in a minute"
    perform(core, sa, path, proof, now)
    return None


def _move_if_allowed(  # noqa: PLR0917 - one fact each
    core: Core, sa: IkeSa, path: Path, proof: str, now: float, rules: MovePolicy
) -> bool:
    wrong = endpoint_update.objection(sa, path, rules, now)
    if wrong is not None:
        refused(core, sa, path.remote, wrong, proof, now)
        return False
    perform(core, sa, path, proof, now)
    return True


def perform(core: Core, sa: IkeSa, path: Path, proof: str, now: float) -> None:
    """Move everything of the peer."""
    core.touch(sa)
    for child in sa.children.values():
        child.udp_encapsulation = sa.encapsulate
    core.count("endpoint_moves")
    if path.remote.address != sa.path.remote.address:
        presence.moved(core, sa, now)
    endpoint_update.move(sa, path, proof, now, core.outputs)


def move_ourselves(core: Core, sa: IkeSa, local: Endpoint, now: float) -> None:
    """Move our own end of everything; the peer follows what comes from there."""
    if local != sa.path.local:
        perform(core, sa, Path(local, sa.path.remote), "our own address", now)
    if sa.encapsulate:
        # There may be a NAT in front of the new address, and nobody tells us.
        sa.local_natted = True
        core.outputs.append(TransmitKeepalive(sa.path))
        again = now + core.settings.nat_keepalive_s
        core.timers.set((TimerKind.KEEPALIVE, sa.local_spi), again)


def refused(core: Core, sa: IkeSa, remote: Endpoint, reason: str, proof: str, now: float) -> None:  # noqa: PLR0917 - one fact each
    """Count and report, limited in rate, a move that does not happen."""
    core.count("endpoint_moves_refused")
    core.emit_limited(
        f"move {sa.spis}",
        now,
        "endpoint_move_refused",
        f"{sa.peer_name} ({sa.connection_name}) stays at {sa.path.remote}, not moved to {remote}:"
        f" {reason}",
        Severity.WARNING,
        peer=sa.peer_name,
        session=sa.session_id,
        spis=sa.spis,
        connection=sa.connection_name,
        old=str(sa.path.remote),
        new=str(remote),
        proof=proof,
        reason=reason,
    )
