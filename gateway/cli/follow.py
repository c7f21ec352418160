"""`gateway log`: what happened to a device or in a session, and what happens now."""

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path

from gateway.cli import exits
from gateway.cli.output import printable
from gateway.control.client import ControlClient
from gateway.control.protocol import ControlError

MAX_HISTORY = 1000
"""Entries of the past that are shown."""


def follow(
    socket: Path,
    session: str | None,
    device: str | None,
    since_s: int | None,
    *,
    live: bool,
    debug: bool,
    as_json: bool,
) -> int:
    """Print the past, then the present until interrupted."""
    with ControlClient(socket) as client, ControlClient(socket) as listener:
        if device is not None:
            client.call("device", name=device)
        events = listener.events(debug=debug) if live else iter(())
        for entry in _past(client, session, device, since_s):
            _print(entry, as_json=as_json)
        for event in events:
            if concerns(event, session, device):
                _print(event, as_json=as_json)
    return exits.OK


def _past(
    client: ControlClient, session: str | None, device: str | None, since_s: int | None
) -> Iterator[dict[str, object]]:
    found: list[dict[str, object]] = []
    try:
        for item in client.pages("history", session=session, device=device, since_s=since_s):
            found.append(item)
            if len(found) == MAX_HISTORY:
                break
    except ControlError as error:
        # Without a store there is no past; what happens now can be told all the same.
        found.append({"at": "", "text": f"(no history: {error})", "fields": {}})
    for item in reversed(found):
        yield {
            "time": item.get("at"),
            "name": item.get("what", ""),
            "text": item.get("text"),
            "fields": {
                **_mapping(item.get("fields")),
                "device": item.get("device"),
                "session": item.get("session"),
            },
        }


def concerns(event: Mapping[str, object], session: str | None, device: str | None) -> bool:
    """Whether an event is about the session or device that was asked for."""
    fields = _mapping(event.get("fields"))
    if session is not None and fields.get("session") != session:
        return False
    return device is None or fields.get("device") == device


def _print(event: Mapping[str, object], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(event), flush=True)
        return
    fields = _mapping(event.get("fields"))
    who = " ".join(printable(fields[name]) for name in ("device", "session") if fields.get(name))
    print(f"{_local(event.get('time'))}  {printable(event.get('text'))}  [{who}]", flush=True)


def _local(value: object) -> str:
    try:
        return f"{datetime.fromisoformat(str(value)).astimezone():%Y-%m-%d %H:%M:%S}"
    except ValueError:
        return "-" * 19


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}
