"""Pages of devices, filtered and sorted."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from gateway.appliance.observation.device import Device
from gateway.appliance.observation.register import Register


@dataclass(frozen=True, slots=True)
class Listing:
    """A page of devices."""

    devices: list[Device]
    following: str | None
    total: int


def list_devices(
    register: Register,
    *,
    text: str | None = None,
    where: str | None = None,
    connection: str | None = None,
    sort: str = "name",
    limit: int = 100,
    cursor: str | None = None,
) -> Listing:
    """A page of those that fit. ``sort`` is a word of the operation ``devices``."""
    found = register.matching(text, where, connection)
    word, backwards = sort.removeprefix("-"), sort.startswith("-")
    if word != "name":
        found.sort(key=_KEYS[word])
    if backwards:
        found.reverse()
    start = _start(found, cursor)
    shown = found[start : start + limit]
    end = start + len(shown)
    following = f"{end:x}_{shown[-1].number:x}" if shown and end < len(found) else None
    return Listing(shown, following, len(found))


_KEYS: Final[Mapping[str, Callable[[Device], str | float]]] = {
    "identity": lambda one: one.identity.casefold(),
    "user": lambda one: one.user.casefold(),
    "connection": lambda one: one.connection,
    "where": lambda one: one.where,
    "mode": lambda one: one.mode,
    "outer": lambda one: one.outer,
    "last_seen": lambda one: one.last_seen_s or 0.0,
    "traffic": lambda one: one.octets_in + one.octets_out,
    "handovers": lambda one: one.handovers,
}


def _start(found: list[Device], cursor: str | None) -> int:
    """Where a page begins: behind the device that the page before ended with."""
    if cursor is None:
        return 0
    end, _, number = cursor.partition("_")
    try:
        at, last = int(end, 16), int(number or "0", 16)
    except ValueError:
        return 0
    if 0 < at <= len(found) and found[at - 1].number == last:
        return at
    for place, device in enumerate(found):
        if device.number == last:
            return place + 1
    return min(at, len(found))
