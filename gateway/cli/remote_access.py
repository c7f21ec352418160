"""What the running gateway says of leases, rules, port forwards, names and MTU, for people."""

import itertools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Group, RenderableType
from rich.text import Text

from gateway.cli import exits
from gateway.cli.failure import complain
from gateway.cli.output import console, octets, printable, table
from gateway.control.client import ControlClient

Item = Mapping[str, object]
NEWEST = 100
"""Entries of the past that are shown without ``--all``."""
PATIENCE_S = 90.0
"""For what waits for the network: probes, and name servers elsewhere."""
PROTOCOLS = {
    "icmp": 1,
    "ipip": 4,
    "tcp": 6,
    "udp": 17,
    "dccp": 33,
    "gre": 47,
    "esp": 50,
    "ah": 51,
    "icmpv6": 58,
    "sctp": 132,
}


@dataclass(frozen=True, slots=True)
class Flow:
    """What a rule is asked about."""

    direction: str
    address: str
    protocol: str
    port: int


def _cells(item: Item, *keys: str) -> list[str]:
    return [printable(item.get(key)) for key in keys]


def _items(value: object) -> list[Item]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _part(value: object) -> Item:
    return value if isinstance(value, dict) else {}


def _listed(
    items: Iterable[Item],
    headings: Sequence[str],
    row: Callable[[Item], Sequence[str]],
    nothing: str,
    *,
    as_json: bool,
) -> int:
    found = list(items)
    if as_json:
        print(json.dumps(found, indent=2))
        return exits.OK
    console().print(table(headings, map(row, found)) if found else Text(nothing))
    return exits.OK


def _lines(value: object, before: str = "") -> list[Text]:
    return [Text(f"{before}{printable(one)}") for one in value] if isinstance(value, list) else []


def _told(
    socket: Path, op: str, view: Callable[[Item], RenderableType], *, as_json: bool, **args: object
) -> dict[str, object]:
    with ControlClient(socket, timeout_s=PATIENCE_S) as client:
        found = client.call(op, **args)
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        console().print(view(found))
    return found


# -- inner addresses


def leases(socket: Path, pool: str | None, search: str | None, *, as_json: bool) -> int:
    """List what is held."""
    with ControlClient(socket) as client:
        items = list(client.pages("leases", pool=pool, q=search))
    keys = ("address", "pool", "state", "identity", "user", "since", "until", "why")
    return _listed(
        items, keys, lambda one: _cells(one, *keys), "No address is held.", as_json=as_json
    )


def lease_history(
    socket: Path, wanted: Mapping[str, str | None], *, everything: bool, as_json: bool
) -> int:
    """List who had what."""
    with ControlClient(socket) as client:
        pages = client.pages("lease-history", **wanted)
        items = list(pages if everything else itertools.islice(pages, NEWEST))
    keys = ("address", "pool", "identity", "user", "first_at", "last_at", "reason")
    headings = ("address", "pool", "identity", "user", "from", "until", "ended by")
    nothing = "Nobody had an address yet."
    return _listed(items, headings, lambda one: _cells(one, *keys), nothing, as_json=as_json)


def release(socket: Path, pool: str, address: str) -> int:
    """Give an address free."""
    with ControlClient(socket) as client:
        found = client.call("lease-release", pool=pool, address=address)
    print(f"{printable(found.get('address'))} is free; it was {printable(found.get('identity'))}'s")
    return exits.OK


def reachability(socket: Path, *, as_json: bool) -> int:
    """How full pools are and how the inside finds them."""
    _told(socket, "reachability", _reachability, as_json=as_json)
    return exits.OK


def _reachability(found: Item) -> RenderableType:
    uses = _items(found.get("pools"))
    keys = ("pool", "network", "size", "in_use", "kept", "static", "reserved")
    headings = ("pool", "network", "size", "in use", "kept", "static", "reserved")
    parts: list[RenderableType] = [table(headings, (_cells(one, *keys) for one in uses))]
    for one in _items(found.get("items")):
        pool, state, detail = _cells(one, "pool", "state", "detail")
        parts += [Text(), Text(f"{pool}: {state}, by {printable(one.get('advertise'))}: {detail}")]
        parts += [
            Text(f"  {printable(route.get('command'))}") for route in _items(one.get("routes"))
        ]
    return Group(*parts) if uses else Text("No pool is configured.")


# -- presence


def redirects(socket: Path, *, as_json: bool) -> int:
    """List port forwards."""
    with ControlClient(socket) as client:
        items = list(client.pages("redirects"))

    def row(one: Item) -> Sequence[str]:
        inside = f"{printable(one.get('address') or '*')} {printable(one.get('protocol'))}"
        return (
            *_cells(one, "name"),
            f"{inside} {printable(one.get('ports'))}",
            *_cells(one, "device", "state", "leads_to", "connections"),
            octets(one.get("bytes")),
        )

    headings = ("name", "inside", "device", "state", "leads to", "connections", "carried")
    nothing = "No port forward; see: gateway create redirects"
    return _listed(items, headings, row, nothing, as_json=as_json)


def napt(socket: Path, search: str | None, *, as_json: bool) -> int:
    """List sessions without inner addresses."""
    with ControlClient(socket) as client:
        items = list(client.pages("napt-sessions", q=search))
    keys = ("session", "identity", "user", "addresses", "seen_as", "napt", "zone", "since")
    headings = ("session", "identity", "user", "own address", "seen as", "napt", "zone", "since")
    nothing = 'No session has presence = "napt".'
    return _listed(items, headings, lambda one: _cells(one, *keys), nothing, as_json=as_json)


# -- rules


def rules(socket: Path, search: str | None, *, as_json: bool) -> int:
    """List rules with their counters."""
    with ControlClient(socket) as client:
        items = list(client.pages("rule-counters", q=search))

    def row(one: Item) -> Sequence[str]:
        carried = (printable(one.get("packets")), octets(one.get("bytes")))
        return (*_cells(one, "name", "in_force", "sessions"), *carried, *_cells(one, "words"))

    headings = ("name", "in force", "sessions", "packets", "octets", "what")
    return _listed(items, headings, row, "No rule; see: gateway create rules", as_json=as_json)


def rules_of(socket: Path, device: str, *, as_json: bool) -> int:
    """What applies to a device."""
    _told(socket, "rules-of", _rules_of, as_json=as_json, device=device)
    return exits.OK


def _rules_of(found: Item) -> RenderableType:
    name = printable(found.get("device"))
    connected = "connected" if found.get("connected") else "not connected"
    parts: list[RenderableType] = [Text(f"{name}: {connected}, {_cells(found, 'addresses')[0]}")]
    applying = _items(found.get("rules"))
    if applying:
        rows = (
            [
                *_cells(one, "name", "in_force", "packets"),
                octets(one.get("bytes")),
                *_cells(one, "words", "why"),
            ]
            for one in applying
        )
        headings = ("rule", "in force", "packets", "octets", "what", "applies by")
        parts.append(table(headings, rows))
    for direction, words in _part(found.get("otherwise")).items():
        parts.append(Text(f"otherwise {printable(direction)}: {printable(words)}"))
    for key, word in (("bandwidth_up_kbit_s", "up"), ("bandwidth_down_kbit_s", "down")):
        if found.get(key) is not None:
            parts.append(Text(f"at most {printable(found[key])} kbit/s {word}"))
    usage = _part(found.get("usage"))
    if usage:
        came, went = octets(usage.get("bytes_in")), octets(usage.get("bytes_out"))
        refused = printable(usage.get("refused"))
        parts.append(Text(f"since it connected: {came} in, {went} out, {refused} packets refused"))
    return Group(*parts)


def rule_test(socket: Path, device: str, flow: Flow, *, as_json: bool) -> int:
    """Whether a flow may pass; the exit status says so, too."""
    protocol = _protocol(flow.protocol)
    if protocol is None:
        allowed = f"choose one of {', '.join(PROTOCOLS)}, or a number from 1 to 255"
        complain(f"PROTOCOL {printable(flow.protocol)}: {allowed}")
        return exits.USAGE
    found = _told(
        socket,
        "rule-test",
        _verdict,
        as_json=as_json,
        device=device,
        direction=flow.direction,
        address=flow.address,
        protocol=protocol,
        port=flow.port,
    )
    return exits.OK if found.get("allowed") is True else exits.FAILED


def _protocol(text: str) -> int | None:
    number = text.isascii() and text.isdecimal() and 1 <= int(text) <= 255
    return int(text) if number else PROTOCOLS.get(text.lower())


def _verdict(found: Item) -> RenderableType:
    word = "allowed" if found.get("allowed") is True else "refused"
    rule = f" by rules.{printable(found['rule'])}" if found.get("rule") else ""
    why = printable(found.get("why")).removeprefix(f"{word}: ")
    note = "" if found.get("sessions") else " (as if it connected now)"
    return Text(f"{word}{rule}: {why}{note}")


# -- names


def names(socket: Path, *, as_json: bool) -> int:
    """Forwarder and registration."""
    _told(socket, "names", _names, as_json=as_json)
    return exits.OK


def _names(found: Item) -> RenderableType:
    forwarder, registration = _part(found.get("forwarder")), _part(found.get("registration"))
    parts: list[RenderableType] = [
        Text(f"forwarder: {' '.join(_cells(forwarder, 'state', 'detail'))}")
    ]
    if forwarder.get("listen"):
        listen, port, asked, cached = _cells(forwarder, "listen", "port", "questions", "from_cache")
        failures = printable(forwarder.get("failures"))
        counts = f"{asked} questions, {cached} from memory, {failures} failed"
        parts.append(Text(f"  at {listen} port {port}: {counts}"))
    for one in _items(forwarder.get("forward")):
        domains = _cells(one, "domains")[0] if one.get("domains") else "all others"
        answering = {True: "answering", False: "silent"}.get(one.get("answering") is True)
        state = "not asked yet" if one.get("answering") is None else answering
        parts.append(Text(f"  {domains}: {_cells(one, 'servers')[0]} ({state})"))
    parts.append(Text(f"registration: {' '.join(_cells(registration, 'state', 'detail'))}"))
    items = _items(found.get("items"))
    if items:
        keys = ("name", "addresses", "identity", "state", "detail")
        parts += [Text(), table(keys, (_cells(one, *keys) for one in items))]
    return Group(*parts)


def names_verify(socket: Path, *, as_json: bool) -> int:
    """Whether public DNS leads here."""
    found = _told(socket, "names-verify", _records, as_json=as_json)
    return exits.OK if found.get("ok") is True else exits.FAILED


def _records(found: Item) -> RenderableType:
    rows = (_cells(one, "state", "record", "found", "detail") for one in _items(found.get("items")))
    records = table(("state", "record", "found", "what to do"), rows)
    return Group(records, *_lines(found.get("advice")))


# -- MTU


def mtu(socket: Path, device: str, *, as_json: bool) -> int:
    """The arithmetic."""
    _told(socket, "mtu", _mtu, as_json=as_json, device=device)
    return exits.OK


def _mtu(found: Item) -> RenderableType:
    rows = [["path", "", *_cells(found, "path")]]
    for one in _items(found.get("steps")):
        taken = one.get("octets")
        number = -taken if isinstance(taken, int) else None
        rows.append([printable(one.get("what")), printable(number), printable(one.get("left"))])
    effective, mss4, mss6 = _cells(found, "effective", "mss_ipv4", "mss_ipv6")
    parts: list[RenderableType] = [table(("what", "octets", "left"), rows)]
    parts.append(Text(f"MTU {effective}, TCP MSS {mss4} (IPv4), {mss6} (IPv6)"))
    parts += _lines(found.get("published"))
    parts += _lines(found.get("warnings"), "warning: ")
    return Group(*parts)


def path_test(socket: Path, device: str, *, as_json: bool) -> int:
    """Probe a path."""
    found = _told(socket, "path-test", _path, as_json=as_json, device=device)
    return exits.OK if found.get("ok") is True else exits.FAILED


def _path(found: Item) -> RenderableType:
    rows = (
        _cells(one, "octets", "arrived", "rtt_ms", "detail") for one in _items(found.get("probes"))
    )
    probes = table(("octets", "arrived", "ms", ""), rows)
    return Group(probes, Text(printable(found.get("summary"))))
