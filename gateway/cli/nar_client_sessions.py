"""``gateway nar list`` and ``release``: the sessions of this host."""

import json
import time
from typing import Final

from gateway.cli import exits
from gateway.cli.failure import complain
from gateway.cli.nar_client_options import told
from gateway.nar_host.attachment import clear_leftovers
from gateway.nar_host.control import ask, sessions
from gateway.nar_host.failure import NarHostError
from gateway.nar_host.registry import Registry

_END_S: Final = 10.0
_LOOK_S: Final = 0.05


def list_sessions(*, as_json: bool) -> int:
    """Print them."""

    def command() -> int:
        found = sessions(_registry())
        if as_json:
            print(json.dumps({"sessions": found}, indent=2))
            return exits.OK
        if not found:
            print("nothing is leased; lease with `gateway nar lease` or `gateway nar run`")
            return exits.OK
        from gateway.cli.output import console, printable, table  # noqa: PLC0415 - costs rich

        rows = [
            [
                str(one["session"]),
                printable(one["title"]),
                printable(one["server"]),
                printable(one["address"]),
                printable(one["delivery"]),
                _summary(one["leases"]),
                "connected" if one["connected"] is True else "connecting",
            ]
            for one in found
        ]
        headings = ("SESSION", "FOR", "SERVER", "ADDRESS", "DELIVERY", "LEASES", "STATE")
        console().print(table(headings, rows))
        return exits.OK

    return told(command)


def _summary(leases: object) -> str:
    """Numbers in a row as one range."""
    by_protocol: dict[str, list[int]] = {}
    words: list[str] = []
    for one in leases if isinstance(leases, list) else []:
        value = one.get("port", one.get("id", one.get("spi")))
        number = int(value, 16) if isinstance(value, str) else value
        if isinstance(number, int):
            by_protocol.setdefault(str(one["protocol"]), []).append(number)
        else:
            words.append(f"{one['protocol']} {one.get('inner')}")
    for protocol, numbers in by_protocol.items():
        shown = "#010x" if protocol in ("esp", "ah") else "d"
        low, high = min(numbers), max(numbers)
        words.append(f"{protocol} {low:{shown}}" + (f"-{high:{shown}}" if high != low else ""))
    return ", ".join(words) or "-"


def release(number: int | None) -> int:
    """End one session, or with None all of them and what killed ones left."""

    def command() -> int:
        registry = _registry()
        numbers = registry.numbers() if number is None else [number]
        ended = [one for one in numbers if _end(registry, one)]
        for one in ended:
            print(f"released session {one}")
        removed = clear_leftovers(registry)
        for what in removed:
            print(f"removed {what}, which was left")
        if number is not None and not ended:
            complain(f"there is no session {number}; `gateway nar list` shows those there are")
            return exits.FAILED
        if not ended and not removed:
            print("nothing was leased, and nothing was left")
        return exits.OK

    return told(command)


def _end(registry: Registry, number: int) -> bool:
    """Tell it and see it end; whether there was one.

    When its file is gone it has the registry's lock until the host is as it was.
    """
    path, record = registry.socket(number), registry.record(number)
    if ask(path, "nar-session-end") is None:
        return False
    until = time.monotonic() + _END_S
    while path.exists() or record.exists():
        if time.monotonic() > until:
            raise NarHostError(f"session {number} does not end; see its process")
        time.sleep(_LOOK_S)
    return True


def _registry() -> Registry:
    """Of whoever asks: root's sessions are root's."""
    return Registry()
