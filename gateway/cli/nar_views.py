"""What the server side of ``gateway nar`` prints: clients, leases, the audit."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

from rich.console import RenderableType
from rich.text import Text

from gateway.cli import exits
from gateway.cli.output import console, duration, printable, table
from gateway.control.client import ControlClient

Items = Sequence[Mapping[str, object]]

AUDIT_SHOWN = 50
"""Entries of the audit that are printed unless all are wanted."""


def client_table(items: Items) -> RenderableType:
    """One line for each connection, or session without one."""
    if not items:
        return Text("No NAR client.")
    headings = ("client", "user", "server", "state", "address", "for", "delivery", "leases")
    rows = [
        (
            printable(item.get("client")),
            printable(item.get("user")),
            f"{printable(item.get('server'))} [{printable(item.get('rule'))}]",
            _state(item),
            printable(item.get("address")),
            _target(item),
            printable(item.get("delivery")),
            printable(item.get("leases")),
            _when(item.get("since")),
            _ending(item.get("expires_in_s")),
        )
        for item in items
    ]
    return table((*headings, "since", "ends in"), rows)


def _state(item: Mapping[str, object]) -> str:
    words = [printable(item.get("state"))]
    if item.get("state") == "lost":
        words.append("may come back")
    elif item.get("tls") is True:
        words.append("TLS")
    if item.get("resumable") is True:
        words.append("renews")
    return ", ".join(words)


def _target(item: Mapping[str, object]) -> str:
    if item.get("state") != "nar":
        return "-"
    return printable(item.get("target") or "any")


def _when(time: object) -> str:
    """A time without fractions of a second."""
    text = printable(time)
    return text[:19].replace("T", " ") if len(text) > 19 else text


def _ending(seconds: object) -> str:
    return "-" if seconds is None else duration(seconds)


def lease_table(items: Items) -> RenderableType:
    """One line for each lease."""
    if not items:
        return Text("No lease.")
    headings = ("lease", "what", "from", "client", "user", "delivery", "peer", "since", "ends in")
    rows = [
        (
            printable(item.get("id")),
            lease_text(item),
            _remote(item),
            _client(item),
            printable(item.get("user")),
            printable(item.get("delivery")),
            printable(item.get("peer") or "any"),
            _when(item.get("since")),
            _ending(item.get("expires_in_s")),
        )
        for item in items
    ]
    found = table(headings, rows)
    found.columns[0].no_wrap = True  # to be copied
    return found


def lease_text(item: Mapping[str, object]) -> str:
    """``tcp 203.0.113.5:20010``, ``esp 203.0.113.5 SPI 0x41f3a2c7``."""
    protocol, address, value = (
        printable(item.get(name)) for name in ("protocol", "address", "value")
    )
    match protocol:
        case "tcp" | "udp":
            return f"{protocol} {address}:{value}"
        case "icmp":
            return f"icmp {address} id {value}"
        case "esp" | "ah":
            return f"{protocol} {address} SPI {value}"
        case _:
            return f"{protocol} {address} inner {value}"


def _remote(item: Mapping[str, object]) -> str:
    remote, port = item.get("remote"), item.get("remote_port")
    text = printable(remote or "any")
    return text if port is None else f"{text}:{printable(port)}"


def _client(item: Mapping[str, object]) -> str:
    port = item.get("client_port")
    text = printable(item.get("client"))
    return text if port is None else f"{text}:{printable(port)}"


def audit_table(items: Items, *, more: bool) -> RenderableType:
    """One line for each entry; ``more`` says that there are others."""
    if not items:
        return Text("Nothing is written down about it.")
    headings = ("what", "from", "client", "user", "server", "since", "until", "ended by")
    rows = [
        (
            lease_text(item),
            _remote(item),
            _client(item),
            printable(item.get("user")),
            printable(item.get("server")),
            _when(item.get("since")),
            "still" if item.get("until") is None else _when(item.get("until")),
            printable(item.get("ended_by")),
        )
        for item in items
    ]
    found = table(headings, rows)
    if more:
        found.caption = f"The newest {len(items)}; all: --all"
        found.caption_justify = "left"
    return found


def _print(items: Items, view: Callable[[Items], RenderableType], *, as_json: bool) -> int:
    if as_json:
        print(json.dumps(items, indent=2))
    else:
        console().print(view(items))
    return exits.OK


def list_clients(socket: Path, filters: Mapping[str, str | None], *, as_json: bool) -> int:
    """Print who has parts of our addresses."""
    with ControlClient(socket) as client:
        items = list(client.pages("nar-clients", **filters))
    return _print(items, client_table, as_json=as_json)


def list_mappings(socket: Path, filters: Mapping[str, str | None], *, as_json: bool) -> int:
    """Print what is leased."""
    with ControlClient(socket) as client:
        items = list(client.pages("nar-mappings", **filters))
    return _print(items, lease_table, as_json=as_json)


def show_audit(
    socket: Path, filters: Mapping[str, str | None], *, everything: bool, as_json: bool
) -> int:
    """Print who held what."""
    with ControlClient(socket) as client:
        entries: Iterator[dict[str, object]] = iter(client.pages("nar-audit", **filters))
        found = list(entries if everything else islice(entries, AUDIT_SHOWN + 1))
    more = not everything and len(found) > AUDIT_SHOWN
    items = found[:AUDIT_SHOWN] if more else found

    def view(shown: Items) -> RenderableType:
        return audit_table(shown, more=more)

    return _print(items, view, as_json=as_json)


def end(socket: Path, what: str, server: str | None) -> int:
    """End one lease by its id, or everything of a client by its address."""
    with ControlClient(socket) as client:
        if "," in what:
            done = client.call("nar-end-lease", id=what)
            print(f"ended {printable(done.get('lease'))}")
        else:
            done = client.call("nar-end-client", client=what, server=server)
            count = printable(done.get("leases"))
            print(f"ended everything of {printable(done.get('ended'))}: {count} leases")
    return exits.OK
