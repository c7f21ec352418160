"""After a restart: the visitors out of the records of the last process."""

from collections.abc import Mapping

from gateway.domain.event import Event
from gateway.domain.wire import WireError
from gateway.mip_agents.foreign_agent import keepalives, records, vpn
from gateway.mip_agents.foreign_agent.advertising import Advertising
from gateway.mip_agents.foreign_agent.checks import may_use
from gateway.mip_agents.foreign_agent.core import Core, TimerKind
from gateway.mip_agents.foreign_agent.records import Advertised
from gateway.mip_agents.foreign_agent.visitors import VisitorEntry
from gateway.mip_agents.outputs import Forget
from gateway.mip_agents.policy import INFINITE_LIFETIME_S


def restore_records(
    kept: Mapping[str, bytes], core: Core, advertising: Advertising, now: float
) -> None:
    """Take up every record that is still good for something, and forget the others."""
    restored = lost = 0
    for key, octets in kept.items():
        try:
            found = records.read(octets, core.policy)
        except WireError:
            core.counters["discarded_record"] += 1
            core.outputs.append(Forget(key))
            continue
        if isinstance(found, Advertised):
            advertising.go_on_after(found.sequence)
        elif _restore(core, found, now):
            restored += 1
        else:
            lost += 1
            core.outputs.append(Forget(key))
    if restored or lost:
        text = f"foreign agent {core.policy.name} took up {restored} visitors of the last run"
        if lost:
            text += f"; {lost} were over or have no place in the configuration any more"
        fields: dict[str, object] = {
            "foreign_agent": core.policy.name,
            "restored": restored,
            "lost": lost,
        }
        core.outputs.append(Event("visitors_restored", text, fields=fields))


def _restore(core: Core, entry: VisitorEntry, now: float) -> bool:
    policy = core.policy
    # A wall clock that was set back must not prolong anything.
    left_s = min(entry.granted_at + entry.lifetime_s - core.wall_clock(), entry.lifetime_s)
    endless = entry.lifetime_s == INFINITE_LIFETIME_S
    if not endless and left_s <= 0:
        return False
    if (
        entry.tunnel.local != policy.care_of_address
        or entry.link.interface != policy.interface
        or entry.through_vpn != policy.through_vpn
        or (entry.nar_server and entry.nar_server != policy.nar_server)
        or not may_use(policy, entry.home_agent)
        or core.visitors.get(*entry.key) is not None
        or len(core.visitors) >= policy.max_visitors
    ):
        return False
    core.visitors.put(entry)
    if not endless:
        core.timers.set((TimerKind.VISITOR, entry.key), now + left_s)
    vpn.install(core, entry)
    keepalives.start(core, entry, now)
    return True
