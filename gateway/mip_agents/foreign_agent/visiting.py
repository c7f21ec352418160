"""Visitors come, are renewed and leave; the only place that changes the visitor list."""

from gateway.domain.event import Severity
from gateway.mip_agents.codec.codes import describe
from gateway.mip_agents.foreign_agent import keepalives, records, vpn
from gateway.mip_agents.foreign_agent.answers import code_name
from gateway.mip_agents.foreign_agent.core import Core, TimerKind
from gateway.mip_agents.foreign_agent.visitors import VisitorEntry, VisitorKey
from gateway.mip_agents.outputs import Forget, Keep
from gateway.mip_agents.policy import INFINITE_LIFETIME_S


def arrive(core: Core, entry: VisitorEntry, now: float) -> None:
    """An accepted registration: enter or renew it, for the lifetime granted."""
    before = core.visitors.get(entry.home_agent, entry.home_address)
    if before is not None:
        entry.registrations = before.registrations + 1
        entry.installed = before.installed
        keepalives.stop(core, before)
    # It is back: what we said of its last registration is over.
    core.revoked.pop(entry.key, None)
    core.timers.cancel((TimerKind.REVOCATION, entry.key))
    core.visitors.put(entry)
    timer = (TimerKind.VISITOR, entry.key)
    if entry.lifetime_s == INFINITE_LIFETIME_S:
        core.timers.cancel(timer)
    else:
        core.timers.set(timer, now + entry.lifetime_s)
    same = (
        before is not None
        and before.installed
        and before.co_located == entry.co_located
        and before.delivered() == entry.delivered()
    )
    if not same:
        if before is not None and (before.nar_server or entry.nar_server):
            # Another dataplane, another tuple or another client: that of before is over.
            vpn.uninstall(core, before)
            entry.installed = False
        vpn.install(core, entry)
    keepalives.start(core, entry, now)
    core.outputs.append(Keep(records.key(core.policy.name, entry), records.write(entry)))
    _tell_arrived(core, entry, before, now)


def _tell_arrived(core: Core, entry: VisitorEntry, before: VisitorEntry | None, now: float) -> None:
    lasting = "for ever" if entry.lifetime_s == INFINITE_LIFETIME_S else f"for {entry.lifetime_s} s"
    how = f"co-located at {entry.care_of_address}" if entry.co_located else str(entry.tunnel)
    if entry.nar_server:
        how += f", which NAR server {entry.nar_server} delivers to {entry.remote.address}"
    waiting = (
        "; waits for its VPN tunnel"
        if entry.through_vpn and not entry.installed and not entry.co_located
        else ""
    )
    core.tell(
        "visitor_registered",
        now,
        f"foreign agent {core.policy.name}: {_name(entry)} registered with home agent"
        f" {entry.home_agent} {lasting}, {how}{waiting}",
        Severity.INFO if before is None else Severity.DEBUG,
        **_fields(entry),
        code=entry.code,
        code_name=code_name(entry.code),
        reason=describe(entry.code),
        lifetime_s=entry.lifetime_s,
        renewed=before is not None,
    )


def leave(
    core: Core,
    entry: VisitorEntry,
    reason: str,
    text: str,
    now: float,
    *,
    severity: Severity = Severity.INFO,
) -> None:
    """It is no visitor any more. ``reason`` is for machines, ``text`` for people."""
    core.visitors.remove(entry)
    core.outputs.append(Forget(records.key(core.policy.name, entry)))
    core.timers.cancel((TimerKind.VISITOR, entry.key))
    keepalives.stop(core, entry)
    vpn.uninstall(core, entry)
    core.counters[f"left_{reason}"] += 1
    core.tell(
        "visitor_left",
        now,
        f"foreign agent {core.policy.name}: {_name(entry)}, of home agent {entry.home_agent},"
        f" is no visitor any more: {text}",
        severity,
        **_fields(entry),
        reason=reason,
    )


def expire(core: Core, key: VisitorKey, now: float) -> None:
    """The lifetime that was granted has ended."""
    entry = core.visitors.get(*key)
    if entry is not None:
        leave(core, entry, "expired", f"its {entry.lifetime_s} s have passed", now)


def _name(entry: VisitorEntry) -> str:
    return f"{entry.nai} ({entry.home_address})" if entry.nai else str(entry.home_address)


def _fields(entry: VisitorEntry) -> dict[str, object]:
    return {
        "home_agent": str(entry.home_agent),
        "home_address": str(entry.home_address),
        "node": entry.nai or str(entry.home_address),
        "nai": entry.nai,
        "care_of_address": str(entry.care_of_address),
        "link_address": entry.link.address.hex(":"),
        "interface": entry.link.interface,
        "tunnel": "" if entry.co_located else str(entry.tunnel),
        "through_vpn": entry.through_vpn,
        "nar_server": entry.nar_server,
    }
