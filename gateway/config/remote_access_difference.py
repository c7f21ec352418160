"""What a reload does about changed tables of remote access."""

from typing import Literal

Kind = Literal["added", "removed", "changed"]

TABLES = ("napt", "redirects", "translations", "rules", "bridges")
SECTIONS = ("filtering", "names")

_ADDED = {
    "napt": "connections can use it at once",
    "redirects": "from now on",
    "translations": "connections can use it at once",
    "rules": "from now on, for the sessions that are there too",
    "bridges": "connections can use it at once",
}
_REMOVED = {
    "napt": "new connections through it appear otherwise",
    "redirects": "no new connection comes by it; those that are there end by themselves",
    "translations": "its addresses lead nowhere",
    "rules": "no longer applied, at once; what only it allowed stops",
    "bridges": "what is not IP no longer passes",
}
_CHANGED = {
    "napt": "connections through it that are there stay as they are, new ones use it",
    "redirects": "from now on",
    "translations": "from now on; devices learn the addresses when they reconnect",
    "rules": "from now on, for the sessions that are there too",
    "bridges": "from now on",
}
_SECTIONS = {
    "filtering.isolate_devices": "from now on, for the sessions that are there too",
    "filtering.to_gateway": "from now on, for the sessions that are there too",
    "filtering.log_refusals": "from now on",
    "filtering.log_refusals_per_minute": "from now on",
    "names.listen": "the forwarder starts anew; sessions stay",
    "names.port": "the forwarder starts anew; sessions stay",
    "names.servers": "the next questions use it",
    "names.forward": "the next questions use it",
    "names.cache_entries": "from now on, with an empty cache",
    "names.user": "used from the next start",
    "names.registration": "names are registered anew; sessions stay",
    "names.published": "names-verify uses it",
}


def effect(table: str, kind: Kind) -> str:
    """What happens to a table that was added, removed or changed."""
    return {"added": _ADDED, "removed": _REMOVED, "changed": _CHANGED}[kind][table]


def section_effect(key: str) -> str:
    """What a reload does about a key of ``[filtering]`` or ``[names]``."""
    return _SECTIONS[".".join(key.split(".")[:2])]


ACCESS_KEYS = {
    "rules": "from now on, for the sessions that are there too",
    "bandwidth_up_kbit_s": "from now on, for the sessions that are there too",
    "bandwidth_down_kbit_s": "from now on, for the sessions that are there too",
    "napt": "new connections through the tunnels use it, sessions stay",
}
"""Of connections and profiles: sessions that are there have them at once."""
POOL_KEYS = {
    "dns": "devices learn it when they reconnect",
    "lease_s": "from now on, also for addresses that are kept",
    "static": "from now on; who has somebody else's address is disconnected",
    "advertise": "the inside learns it at once",
    "inside_interface": "addresses are answered for there at once",
}
"""Of pools: sessions stay. With all others, sessions with an address of the pool end."""
