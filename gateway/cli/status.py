"""`gateway status`: what is up, what is wrong, and what to do next."""

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from gateway.cli import control, exits
from gateway.cli.output import console, duration, octets, printable, table
from gateway.control.client import ControlClient, as_page
from gateway.control.protocol import ControlError

WATCH_INTERVAL_S = 1.0
RECENT_S = 3600
SHOWN = 20
EXPIRY_S = 30 * 86_400
_SAMPLE = re.compile(r"(\w+)(?:\{(.*)\})? (\S+)")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something that is wrong, and what to do about it."""

    what: str
    remedy: str
    serious: bool = True


@dataclass(frozen=True, slots=True)
class Picture:
    """What the gateway said."""

    status: Mapping[str, object]
    topology: Mapping[str, object]
    devices: Sequence[Mapping[str, object]]
    connected: int
    failures: Sequence[Mapping[str, object]]
    denials: Sequence[Mapping[str, object]]
    metrics: Mapping[tuple[str, tuple[str, ...]], float]
    store: Mapping[str, object]


def look(client: ControlClient) -> Picture:
    """Ask for all of it."""
    devices = as_page(client.call("devices", sort="-last_seen", limit=SHOWN))
    topology = client.call("topology")
    where = topology.get("where")
    counts = where if isinstance(where, Mapping) else {}
    connected = sum(
        count
        for name, count in counts.items()
        if name not in {"offline", "blocked", "failed"} and isinstance(count, int)
    )
    return Picture(
        client.call("status"),
        topology,
        devices["items"],
        connected,
        as_page(client.call("ike-failures", within_s=RECENT_S, limit=3))["items"],
        as_page(client.call("registration-failures", within_s=RECENT_S, limit=3))["items"],
        samples(str(client.call("metrics").get("text", ""))),
        _store_facts(client),
    )


def _store_facts(client: ControlClient) -> Mapping[str, object]:
    try:
        return client.call("store")
    except ControlError as error:
        return {"state": "not available", "reason": error.message}


def samples(text: str) -> dict[tuple[str, tuple[str, ...]], float]:
    """Values by name and values of labels, from the text for Prometheus."""
    found: dict[tuple[str, tuple[str, ...]], float] = {}
    for line in text.splitlines():
        match = None if line.startswith("#") else _SAMPLE.fullmatch(line)
        if match is not None:
            labels = tuple(value for _, value in _LABEL.findall(match[2] or ""))
            found[match[1], labels] = float(match[3])
    return found


def troubles(picture: Picture) -> Iterator[Trouble]:
    """What is wrong, the worst first."""
    status = picture.status
    yield from _store(picture)
    reloads = _mapping(status.get("reloads"))
    for problem in _list(reloads.get("last_problems")):
        what = f"the configuration was refused, the old one stays: {problem}"
        yield Trouble(what, "correct it, then: gateway reload")
    api = _mapping(status.get("api"))
    if api.get("state") in {"waiting", "lost"}:
        again = "gateway stop, and start it again" if api.get("state") == "lost" else "see the log"
        yield Trouble(f"the API does not run ({printable(api.get('state'))})", again)
    for (name, labels), left_s in picture.metrics.items():
        if name == "gateway_certificate_expiry_seconds" and left_s < EXPIRY_S:
            file = labels[0] if labels else "?"
            gone = left_s < 0
            what = f"certificate {file} " + (
                "has expired" if gone else f"expires in {duration(left_s)}"
            )
            yield Trouble(what, "renew it, then: gateway reload", serious=gone)
    if _mapping(_mapping(status.get("dataplane")).get("forwarder")).get("lost"):
        what = "the forwarder has ended and no other one could be started: no packet passes"
        yield Trouble(what, "see the log: gateway log; then: systemctl restart gateway")
    yield from _network(picture)
    for item in picture.failures:
        who = f"{printable(item.get('peer'))} from {printable(item.get('remote'))}"
        what = f"login of {who} failed ({printable(item.get('count'))}x): "
        what += printable(item.get("reason"))
        yield Trouble(what, printable(item.get("remedy")), serious=False)
    for item in picture.denials:
        what = f"registration of {printable(item.get('node'))} was denied: "
        what += printable(item.get("reason"))
        yield Trouble(what, printable(item.get("remedy")), serious=False)


def _store(picture: Picture) -> Iterator[Trouble]:
    state = picture.store.get("state")
    if state not in {None, "good"}:
        what = f"the store is {printable(state)}: {printable(picture.store.get('reason'))}"
        yield Trouble(what, "check that the disk has room and state_dir is the gateway's own")
    for name in _list(picture.status.get("broken")):
        what = f"stored object {printable(name)} does not fit any more and is left out"
        yield Trouble(what, "correct or delete it: gateway get, gateway set")


def _network(picture: Picture) -> Iterator[Trouble]:
    used = {
        labels[0]: count
        for (name, labels), count in picture.metrics.items()
        if name == "gateway_pool_addresses_used" and labels
    }
    for (name, labels), size in picture.metrics.items():
        if name == "gateway_pool_addresses" and labels and used.get(labels[0], 0) >= size > 0:
            what = f"pool {labels[0]} is used up: all {size:.0f} addresses are given out"
            yield Trouble(what, f"make pools.{labels[0]}.network larger")
    waiting = picture.metrics.get(("gateway_store_rows_waiting", ()), 0)
    if waiting > 1000:
        what = f"{waiting:.0f} rows wait to be written to the store"
        yield Trouble(what, "check the disk, and the database's log", serious=False)


def next_steps(picture: Picture, found: Sequence[Trouble]) -> list[str]:
    """Commands that say more."""
    steps: list[str] = []
    other_roles = "mobility" in picture.status or "nar" in picture.status
    if not other_roles and not _list(picture.status.get("connections")):
        steps.append("no connection is configured yet: gateway setup")
    elif not picture.devices:
        steps.append("no device was seen yet: gateway device add NAME")
    if picture.failures:
        steps.append("why logins failed: gateway ike explain")
    if picture.denials:
        steps.append("why registrations were denied: gateway explain")
    if picture.connected:
        steps.append("live: gateway top; one device's log: gateway log --device NAME")
    if any(one.serious for one in found):
        steps.append("for a report: gateway support")
    return steps


def status_view(picture: Picture, width: int) -> RenderableType:
    """All of it for people."""
    found = list(troubles(picture))
    parts: list[RenderableType] = [_head(picture, found), Text()]
    parts += [_up(picture), Text()]
    if found:
        parts.append(Text("Wrong", style="bold"))
        for one in found:
            style = "bold red" if one.serious else "yellow"
            parts.append(Text("  ! ", style=style) + Text(one.what))
            if one.remedy not in {"", "-"}:
                parts.append(Text(f"    do: {one.remedy}"))
        parts.append(Text())
    if picture.devices:
        parts += [device_table(picture.devices, width), Text()]
    steps = next_steps(picture, found)
    if steps:
        parts.append(Text("Next", style="bold"))
        parts += [Text(f"  {step}") for step in steps]
    return Group(*parts)


def _head(picture: Picture, found: Sequence[Trouble]) -> Text:
    status = picture.status
    serious = any(one.serious for one in found)
    head = Text(f"{printable(status.get('name'))} ", style="bold")
    head.append("has a problem" if serious else "is up", "bold red" if serious else "bold green")
    memory = status.get("rss_kib")
    size = octets(memory * 1024) if isinstance(memory, int) else "-"
    head.append(
        f"  gateway {printable(status.get('version'))}, for {duration(status.get('uptime_s'))},"
        f" process {printable(status.get('pid'))}, {size}"
    )
    return head


def _up(picture: Picture) -> RenderableType:
    status = picture.status
    sessions = {
        labels[0]: count
        for (name, labels), count in picture.metrics.items()
        if name == "gateway_sessions" and labels
    }
    rows = [("devices", _counts(picture.topology.get("where")) or "none")]
    modes = _counts(picture.topology.get("modes"))
    if modes:
        rows.append(("access modes", modes))
    rows.append(
        (
            "connections",
            ", ".join(f"{name}: {count:.0f} sessions" for name, count in sessions.items())
            or "none configured",
        )
    )
    rows.append(("IKE on", printable(status.get("listen"))))
    rows.append(("packets", _carried(_mapping(status.get("dataplane")))))
    mobility = _mapping(status.get("mobility"))
    for kind, what, count in (
        ("home_agents", "home agent", "bindings"),
        ("foreign_agents", "foreign agent", "visitors"),
    ):
        for name, facts in _mapping(mobility.get(kind)).items():
            rows.append((f"{what} {name}", f"{_mapping(facts).get(count)} {count}"))
    if "nar" in status:
        nar = _mapping(status["nar"])
        servers = ", ".join(_mapping(nar.get("servers")))
        rows.append(("NAR servers", f"{servers}: {printable(nar.get('leases'))} leases"))
    api = _mapping(status.get("api"))
    rows.append(("API", f"{printable(api.get('state'))}, {printable(api.get('listen'))}"))
    shown = table(("", ""), rows)
    shown.show_header = False
    return shown


def _carried(dataplane: Mapping[str, object]) -> str:
    """Who carries the packets, and why."""
    said = f"{printable(dataplane.get('kind'))} dataplane"
    if dataplane.get("why"):
        said += f": {printable(dataplane['why'])}"
    forwarder = _mapping(dataplane.get("forwarder"))
    if forwarder:
        said += f"; {len(_list(forwarder.get('processes')))} processes"
        said += f", restarted {printable(forwarder.get('restarts'))} times"
    return said


def _counts(value: object) -> str:
    return ", ".join(f"{count} {printable(name)}" for name, count in _mapping(value).items())


def fitting(
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    width: int,
    dispensable: Sequence[str],
) -> RenderableType:
    """A table with whole cells: what a narrow terminal has no room for goes, in this order."""
    kept = list(range(len(headings)))
    widths = [
        max(len(heading), *(len(row[place]) for row in rows)) if rows else len(heading)
        for place, heading in enumerate(headings)
    ]
    for heading in dispensable:
        if sum(widths[place] + 2 for place in kept) - 2 <= width:
            break
        kept.remove(list(headings).index(heading))
    return table([headings[one] for one in kept], [[row[one] for one in kept] for row in rows])


def device_table(devices: Sequence[Mapping[str, object]], width: int) -> RenderableType:
    """One line each."""
    headings = ("device", "user", "where", "mode", "outer address", "inner", "in", "out", "moves")
    rows = [
        (
            printable(one.get("name")),
            printable(one.get("user") or one.get("identity")),
            printable(one.get("where")),
            printable(one.get("mode")),
            printable(one.get("outer")),
            printable(one.get("inner_addresses")),
            octets(one.get("bytes_in")),
            octets(one.get("bytes_out")),
            printable(one.get("handovers")),
        )
        for one in devices
    ]
    return fitting(headings, rows, width, ("user", "inner", "moves", "mode", "where"))


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


def _list(value: object) -> Sequence[object]:
    return value if isinstance(value, list | tuple) else ()


def status(socket: Path, *, as_json: bool, watch: bool, everything: bool) -> int:
    """Print what runs; with ``watch``, again and again until interrupted."""
    if as_json or everything:
        return control.status(socket, as_json=as_json, watch=watch)
    with ControlClient(socket) as client:
        out = console()
        if not watch:
            out.print(status_view(look(client), out.width))
            return exits.OK
        with Live(console=out, screen=out.is_terminal, auto_refresh=False) as live:
            while True:
                live.update(status_view(look(client), out.width), refresh=True)
                time.sleep(WATCH_INTERVAL_S)
