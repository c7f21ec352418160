"""Commands that ask the running gateway over its control socket."""

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from gateway.cli import exits
from gateway.cli.output import console, duration, field, octets, printable, table
from gateway.control.client import ControlClient

DEFAULT_SOCKET = Path("/run/gateway/control.sock")
WATCH_INTERVAL_S = 1.0


def socket_of(socket: Path | None, config: Path | None) -> Path:
    """The control socket: named itself, or by a configuration, or where it is by default."""
    if socket is not None:
        return socket
    if config is not None:
        from gateway.config import load  # noqa: PLC0415 - only then

        return load(config, with_files=False).control_socket
    return DEFAULT_SOCKET


def _ike_rows(items: list[dict[str, object]]) -> RenderableType:
    if not items:
        return Text("No IKE SA.")
    rows = [
        (
            printable(field(item, "id")),
            printable(field(item, "connection")),
            printable(field(item, "state")),
            printable(field(item, "remote_id")),
            printable(field(item, "remote")),
            printable(field(item, "inner_addresses", "inner_address")),
            printable(field(item, "suite")),
            duration(field(item, "age_s")),
        )
        for item in items
    ]
    headings = ("id", "connection", "state", "peer", "at", "inner address", "suite", "age")
    return table(headings, rows)


def _child_rows(items: list[dict[str, object]]) -> RenderableType:
    if not items:
        return Text("No child SA.")
    rows = []
    for item in items:
        received = f"{octets(field(item, 'bytes_in'))} {printable(field(item, 'packets_in'))}p"
        sent = f"{octets(field(item, 'bytes_out'))} {printable(field(item, 'packets_out'))}p"
        rows.append(
            (
                f"{printable(field(item, 'spi_in'))} {printable(field(item, 'spi_out'))}",
                printable(field(item, "connection")),
                printable(field(item, "remote")),
                printable(field(item, "suite")),
                f"{printable(field(item, 'local_ts'))} === {printable(field(item, 'remote_ts'))}",
                received,
                sent,
                duration(field(item, "age_s")),
                printable(field(item, "last_move")),
            )
        )
    headings = ("spi in, out", "connection", "peer", "suite", "selectors", "in", "out", "age")
    return table((*headings, "last move"), rows)


def _flat(value: Mapping[str, object], prefix: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for key, inner in value.items():
        name = f"{prefix}{key}"
        if isinstance(inner, dict):
            rows += _flat(inner, f"{name}.")
        elif key.endswith("_s"):
            rows.append((name.removesuffix("_s"), duration(inner)))
        else:
            rows.append((name, printable(inner)))
    return rows


def _status_view(client: ControlClient) -> RenderableType:
    status = client.call("status")
    ike = list(client.pages("ike-sas"))
    children = list(client.pages("child-sas"))
    facts = table(("", ""), _flat(status))
    facts.show_header = False
    return Group(facts, Text(), _ike_rows(ike), Text(), _child_rows(children))


def status(socket: Path, *, as_json: bool, watch: bool) -> int:
    """Print what runs; with ``watch``, again and again until interrupted."""
    with ControlClient(socket) as client:
        if as_json:
            return _status_json(client, watch=watch)
        out = console()
        if not watch:
            out.print(_status_view(client))
            return exits.OK
        with Live(console=out, screen=out.is_terminal, auto_refresh=False) as live:
            while True:
                live.update(_status_view(client), refresh=True)
                time.sleep(WATCH_INTERVAL_S)


def _status_json(client: ControlClient, *, watch: bool) -> int:
    while True:
        body = {
            "status": client.call("status"),
            "ike_sas": list(client.pages("ike-sas")),
            "child_sas": list(client.pages("child-sas")),
        }
        print(json.dumps(body, indent=None if watch else 2), flush=True)
        if not watch:
            return exits.OK
        time.sleep(WATCH_INTERVAL_S)


def _list(
    socket: Path,
    op: str,
    view: Callable[[list[dict[str, object]]], RenderableType],
    connection: str | None,
    *,
    as_json: bool,
) -> int:
    with ControlClient(socket) as client:
        items = list(client.pages(op, connection=connection))
    if as_json:
        print(json.dumps(items, indent=2))
    else:
        console().print(view(items))
    return exits.OK


def list_ike_sas(socket: Path, connection: str | None, *, as_json: bool) -> int:
    """Print the IKE SAs."""
    return _list(socket, "ike-sas", _ike_rows, connection, as_json=as_json)


def list_child_sas(socket: Path, connection: str | None, *, as_json: bool) -> int:
    """Print the child SAs."""
    return _list(socket, "child-sas", _child_rows, connection, as_json=as_json)


def close_ike_sa(socket: Path, ike_sa: str) -> int:
    """Close an IKE SA with its child SAs."""
    with ControlClient(socket) as client:
        client.call("close-ike-sa", id=ike_sa)
    print(f"closed {ike_sa}")
    return exits.OK


def initiate(socket: Path, connection: str) -> int:
    """Open a connection."""
    with ControlClient(socket) as client:
        client.call("initiate", connection=connection)
    print(f"opening {connection}; see: gateway ike list")
    return exits.OK


def reload(socket: Path) -> int:
    """Have the gateway read its configuration again; print what changed."""
    with ControlClient(socket, timeout_s=30.0) as client:
        result = client.call("reload")
    changes = field(result, "changes")
    if isinstance(changes, list) and changes:
        for change in changes:
            print(printable(change))
    elif isinstance(changes, list):
        print("no difference")
    else:
        print("reloaded")
    return exits.OK


def follow_events(socket: Path, *, debug: bool) -> int:
    """Print events as JSON lines until interrupted."""
    with ControlClient(socket) as client:
        for event in client.events(debug=debug):
            print(json.dumps(event), flush=True)
    return exits.OK
