"""Commands that ask the running gateway over its control socket."""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from gateway.cli import exits
from gateway.cli.mobility import Items, binding_table, visitor_table
from gateway.cli.nar_views import client_table, lease_table
from gateway.cli.output import console, duration, octets, printable, table
from gateway.control.client import ControlClient, as_page

DEFAULT_SOCKET = Path("/run/gateway/control.sock")
WATCH_INTERVAL_S = 1.0
SHOWN = 20
"""Bindings, visitors, NAR clients and leases that the status shows."""


def socket_of(socket: Path | None, config: Path | None) -> Path:
    """The control socket: named itself, or by a configuration, or where it is by default."""
    if socket is not None:
        return socket
    if config is not None:
        from gateway.config import load  # noqa: PLC0415 - only then

        return load(config, with_files=False).control_socket
    return DEFAULT_SOCKET


def last_move(move: object) -> str:
    """The last endpoint move in one cell: how long ago, from where to where, what proved it."""
    if not isinstance(move, dict):
        return "-"
    old, new, proof = (printable(move.get(name)) for name in ("old", "new", "proof"))
    return f"{duration(move.get('age_s'))} ago: {old} -> {new} ({proof})"


def _who(item: Mapping[str, object]) -> str:
    """The peer, and its user with the profile where there is one."""
    peer, user, profile = (printable(item.get(name)) for name in ("remote_id", "user", "profile"))
    who = peer if user in {"-", peer} else f"{user} ({peer})"
    return who if profile == "-" else f"{who} [{profile}]"


def _ike_view(items: list[dict[str, object]]) -> RenderableType:
    if not items:
        return Text("No IKE SA.")
    rows = [
        (
            printable(item.get("id")),
            printable(item.get("connection")),
            printable(item.get("state")),
            _who(item),
            f"IKEv{printable(item.get('version'))}, {printable(item.get('auth'))}",
            printable(item.get("remote")),
            printable(item.get("inner_addresses")),
            printable(item.get("suite")),
            duration(item.get("age_s")),
            last_move(item.get("last_move")),
        )
        for item in items
    ]
    headings = ("id", "connection", "state", "peer", "login", "at", "inner", "suite", "age")
    return table((*headings, "last move"), rows)


def _esp(item: Mapping[str, object]) -> str:
    """How packets are wrapped, and what both sides agreed on besides."""
    names = {"endpoint_update": "endpoint update", "vpn_fa": "VPN/FA"}
    features = "".join(f", {name}" for key, name in names.items() if item.get(key) is True)
    return f"{printable(item.get('encapsulation'))} {printable(item.get('suite'))}{features}"


def _child_view(items: list[dict[str, object]]) -> RenderableType:
    if not items:
        return Text("No child SA.")
    rows = [
        (
            f"{printable(item.get('spi_in'))} {printable(item.get('spi_out'))}",
            printable(item.get("connection")),
            printable(item.get("remote_id")),
            printable(item.get("remote")),
            _esp(item),
            f"{printable(item.get('local_ts'))} === {printable(item.get('remote_ts'))}",
            f"{octets(item.get('bytes_in'))}, {printable(item.get('packets_in'))}",
            f"{octets(item.get('bytes_out'))}, {printable(item.get('packets_out'))}",
            duration(item.get("age_s")),
        )
        for item in items
    ]
    headings = ("SPI in, out", "connection", "peer", "at", "suite", "selectors")
    return table((*headings, "in: octets, packets", "out: octets, packets", "age"), rows)


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
    parts: list[RenderableType] = [facts, Text(), _ike_view(ike), Text(), _child_view(children)]
    return Group(*parts, *_parts_view(client, status))


_PARTS: Mapping[str, Sequence[tuple[str, str, Callable[[Items], RenderableType]]]] = {
    "mobility": (
        ("bindings", "gateway bindings", binding_table),
        ("visitors", "gateway visitors", visitor_table),
    ),
    "nar": (
        ("nar-clients", "gateway nar clients", client_table),
        ("nar-mappings", "gateway nar mappings", lease_table),
    ),
}
"""What the status shows of parts that a gateway may have or not: operation, command, table."""


def _parts_view(client: ControlClient, status: Mapping[str, object]) -> Iterator[RenderableType]:
    """The first page of each list; all of it has a command of its own."""
    for part, lists in _PARTS.items():
        for op, command, view in lists if part in status else ():
            page = as_page(client.call(op, limit=SHOWN))
            yield Text()
            yield view(page["items"])
            if page["total"] > len(page["items"]):
                yield Text(f"{len(page['items'])} of {page['total']}; all: {command}")


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
    return _list(socket, "ike-sas", _ike_view, connection, as_json=as_json)


def list_child_sas(socket: Path, connection: str | None, *, as_json: bool) -> int:
    """Print the child SAs."""
    return _list(socket, "child-sas", _child_view, connection, as_json=as_json)


def close_ike_sa(socket: Path, ike_sa: str) -> int:
    """Close an IKE SA with its child SAs."""
    with ControlClient(socket) as client:
        client.call("close-ike-sa", id=ike_sa)
    print(f"closed {ike_sa}")
    return exits.OK


def rekey(socket: Path, ike_sa: str, *, children: bool) -> int:
    """Renew an IKE SA or its child SAs."""
    with ControlClient(socket) as client:
        client.call("rekey", id=ike_sa, children=children)
    print(f"renewing {'the child SAs of ' if children else ''}{ike_sa}")
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
    changes = result.get("changes")
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
