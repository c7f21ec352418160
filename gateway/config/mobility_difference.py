"""What a reload does about changed tables of the mobility agents."""

from typing import Literal

from gateway.config.mobility import MobilitySection

Kind = Literal["added", "removed", "changed"]

RESTART_KEYS = ("state_dir", "offload", "queue", "queue_length")
"""Of ``[mobility]``: opened once, at start."""
TABLES = ("home_networks", "home_agents", "mobile_nodes", "foreign_agents")

_ENDS = "bindings of it end and are revoked; devices register again"
_ADDED = {
    "home_networks": "home agents can have it at once",
    "home_agents": "devices can register at once",
    "mobile_nodes": "it can register at once",
    "foreign_agents": "devices can register at once",
}
_REMOVED = {
    "home_networks": _ENDS,
    "home_agents": _ENDS,
    "mobile_nodes": "its binding ends and is revoked",
    "foreign_agents": "its visitors are dropped; devices register elsewhere",
}
_ENDING_KEYS = {
    "home_networks": frozenset({"network"}),
    "home_agents": frozenset({"address", "placement", "home_networks", "remote"}),
    "mobile_nodes": frozenset({"home_address", "nai", "home_network", "home_agents"}),
    "foreign_agents": frozenset({"care_of_address", "interface", "through_vpn", "nar_server"}),
}
_CHANGED_ENDING = {
    "home_networks": _ENDS,
    "home_agents": _ENDS,
    "mobile_nodes": "its binding ends and is revoked; it registers again",
    "foreign_agents": "its visitors are dropped; devices register again",
}
_CHANGED_STAYING = {
    "home_networks": "from now on, bindings stay",
    "home_agents": "the next registrations use it, bindings stay",
    "mobile_nodes": "its next registration uses it, its binding stays",
    "foreign_agents": "the next registrations use it, visitors stay",
}


def effect(table: str, kind: Kind, key: str = "") -> str:
    """What happens to a table that was added or removed, or a changed ``key`` of one."""
    if kind == "added":
        return _ADDED[table]
    if kind == "removed":
        return _REMOVED[table]
    ends = key.partition(".")[0] in _ENDING_KEYS[table]
    return _CHANGED_ENDING[table] if ends else _CHANGED_STAYING[table]


def kept_until_restart(running: MobilitySection, wanted: MobilitySection) -> MobilitySection:
    """``[mobility]`` as it is after a reload."""
    return wanted.model_copy(update={name: getattr(running, name) for name in RESTART_KEYS})
