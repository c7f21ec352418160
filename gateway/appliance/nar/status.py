"""The NAR servers in a few words, and as facts for a status page."""

from collections.abc import Container

from gateway.appliance.nar.fleet import Fleet
from gateway.appliance.nar.plan import NarPlan
from gateway.appliance.nar.service import NarService


def summary(plan: NarPlan, serving: Container[str]) -> str:
    """All of them, and which wait."""
    names = [one.policy.name for one in plan.servers]
    waiting = [name for name in names if name not in serving]
    text = f"NAR server{'s' * (len(names) > 1)} {', '.join(names)}"
    return text + (f" ({', '.join(waiting)} without an address yet)" if waiting else "")


def status(plan: NarPlan, fleet: Fleet, service: NarService) -> dict[str, object]:
    """Servers, connections and leases."""
    servers: dict[str, object] = {}
    for one in plan.servers:
        name = one.policy.name
        running, listener = fleet.running.get(name), fleet.listeners.get(name)
        servers[name] = {
            "listen": [str(where) for where in (listener.listening if listener else ())],
            **({"state": "waiting for an address"} if running is None else running.facts()),
        }
    return {
        "servers": servers,
        "leases": len(service.held),
        "foreign_mappings": len(service.foreign),
    }
