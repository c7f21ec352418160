"""Commands about mobile nodes: bindings, visitors, home networks."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rich.console import RenderableType
from rich.text import Text

from gateway.cli import exits
from gateway.cli.output import console, duration, printable, table
from gateway.control.client import ControlClient

Items = Sequence[Mapping[str, object]]


def binding_table(items: Items) -> RenderableType:
    """One line for each care-of address."""
    if not items:
        return Text("No binding: nobody is away and registered.")
    headings = ("home address", "node", "home agent", "at", "tunnel", "since", "ends in")
    rows = [row for item in items for row in _care_of_rows(item)]
    return table((*headings, "remarks"), rows)


def _care_of_rows(item: Mapping[str, object]) -> list[tuple[str, ...]]:
    care_ofs = item.get("care_of_addresses")
    places = (
        [one for one in care_ofs if isinstance(one, dict)] if isinstance(care_ofs, list) else []
    )
    return [
        (
            printable(item.get("home_address")),
            printable(item.get("node")),
            printable(item.get("home_agent")),
            printable(place.get("address")),
            printable(place.get("tunnel")),
            duration(item.get("registered_for_s")),
            _ending(place.get("expires_in_s")),
            _remarks(item, place),
        )
        for place in places
    ]


def _ending(seconds: object) -> str:
    return "never" if seconds is None else duration(seconds)


def _remarks(item: Mapping[str, object], place: Mapping[str, object]) -> str:
    words: list[str] = []
    if item.get("dynamic") is True:
        words.append("dynamic address")
    if place.get("nat") is True:
        words.append("behind a NAT")
    if place.get("via_foreign_agent") is not None:
        words.append(f"by foreign agent {printable(place['via_foreign_agent'])}")
    if item.get("zero_overhead") is not None:
        words.append(f"zero overhead to {printable(item['zero_overhead'])}")
    if item.get("last_code") not in {0, 1, None}:
        words.append(f"last denied with code {printable(item['last_code'])}")
    return ", ".join(words) or "-"


def visitor_table(items: Items) -> RenderableType:
    """One line for each visitor."""
    if not items:
        return Text("No visitor.")
    headings = ("home address", "NAI", "foreign agent", "on", "home agent", "tunnel", "ends in")
    rows = [
        (
            printable(item.get("home_address")),
            printable(item.get("nai")),
            printable(item.get("foreign_agent")),
            f"{printable(item.get('interface'))} {printable(item.get('link_address'))}",
            printable(item.get("home_agent")),
            printable(item.get("tunnel")),
            _ending(item.get("expires_in_s")),
            printable(item.get("flags")),
            printable(item.get("installed")),
        )
        for item in items
    ]
    return table((*headings, "flags", "carried"), rows)


def network_table(items: Items) -> RenderableType:
    """One line for each home network."""
    if not items:
        return Text("No home network.")
    headings = ("home network", "addresses", "link", "home agent", "placement", "away", "leased")
    rows = [
        (
            printable(item.get("name")),
            printable(item.get("network")),
            printable(item.get("interface") or "virtual"),
            f"{printable(item.get('home_agent'))} {printable(item.get('home_agent_address'))}",
            printable(item.get("placement")),
            printable(item.get("bindings")),
            _leased(item),
        )
        for item in items
    ]
    return table(headings, rows)


def _leased(item: Mapping[str, object]) -> str:
    used, size = (item.get(f"dynamic_addresses{end}") for end in ("_in_use", ""))
    return f"{printable(used)} of {printable(size)}" if size else "-"


def _list(
    socket: Path,
    op: str,
    view: Callable[[Items], RenderableType],
    filters: Mapping[str, str | None],
    *,
    as_json: bool,
) -> int:
    with ControlClient(socket) as client:
        items = list(client.pages(op, **filters))
    if as_json:
        print(json.dumps(items, indent=2))
    else:
        console().print(view(items))
    return exits.OK


def list_bindings(socket: Path, node: str | None, home_agent: str | None, *, as_json: bool) -> int:
    """Print where mobile nodes are."""
    filters = {"node": node, "home_agent": home_agent}
    return _list(socket, "bindings", binding_table, filters, as_json=as_json)


def list_visitors(socket: Path, foreign_agent: str | None, *, as_json: bool) -> int:
    """Print who is registered by way of a foreign agent."""
    filters = {"foreign_agent": foreign_agent}
    return _list(socket, "visitors", visitor_table, filters, as_json=as_json)


def list_home_networks(socket: Path, *, as_json: bool) -> int:
    """Print the home networks."""
    with ControlClient(socket) as client:
        items = client.call("home-networks").get("items")
    found = items if isinstance(items, list) else []
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        console().print(network_table(found))
    return exits.OK


def revoke_binding(socket: Path, home_address: str, home_agent: str | None) -> int:
    """End a binding."""
    with ControlClient(socket) as client:
        done = client.call("revoke-binding", home_address=home_address, home_agent=home_agent)
    node, agent = printable(done.get("node")), printable(done.get("home_agent"))
    print(f"revoked {printable(done.get('revoked'))} ({node}) at {agent}")
    return exits.OK
