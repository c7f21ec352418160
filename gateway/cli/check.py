"""``gateway check``: what this kernel and this configuration can do, and what is missing."""

import json
import pwd
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from gateway.cli import exits
from gateway.cli.certificate_checks import certificate_verdicts
from gateway.cli.dataplane_checks import choose, dataplane_verdicts, for_chosen
from gateway.cli.host_checks import (
    addresses_and_ports,
    api_user,
    forwarding,
    pools_and_inside,
    pools_and_routes,
    privileges,
)
from gateway.cli.mobility_host_checks import (
    kernel_verdicts,
    mobility_verdicts,
    outside_verdicts,
)
from gateway.cli.nar_host_checks import nar_kernel_verdicts, nar_verdicts
from gateway.cli.output import console
from gateway.cli.store_checks import (
    api_verdicts,
    has_stored_connection,
    object_verdicts,
    store_verdicts,
)
from gateway.cli.verdict import State, Verdict
from gateway.config import Config, ConfigError, Problem, load
from gateway.control.client import ControlClient
from gateway.control.protocol import ControlError
from gateway.dataplane.choice import IPSEC, Choice, Kind
from gateway.dataplane.kernel.routes_in_use import routes_in_use

if TYPE_CHECKING:
    from gateway.dataplane.kernel.probe import Capability

_STYLES = {"ok": "green", "warn": "yellow", "missing": "bold red"}
_AREAS = ("configuration", "host", "network", "dataplane", "kernel")
_CERTIFICATE_KEYS = (".certificate", ".ca_certificates")


def gateway_runs(socket: Path) -> bool:
    """Whether a gateway answers on a control socket."""
    try:
        with ControlClient(socket, timeout_s=2.0) as client:
            client.call("health")
    except ControlError:
        return True
    except OSError:
        return False
    return True


def of_problem(problem: Problem, state: State) -> Verdict:
    """A line of the configuration's part."""
    detail, _, remedy = problem.why.partition("; ")
    if problem.value is not None:
        detail = f"{problem.value}: {detail}"
    name = problem.key or str(problem.file)
    return Verdict("configuration", name, state, detail, remedy or f"correct {problem.file}")


def _about_validity(warning: Problem) -> bool:
    words = ("expired at", "expires at", "is valid from")
    return warning.key.endswith(_CERTIFICATE_KEYS) and any(word in warning.why for word in words)


def _configured(config: Config) -> Iterator[Verdict]:
    counts = f"connections: {len(config.connections)}, pools: {len(config.pools)}"
    if config.has_mobility_agents:
        counts += f", home agents: {len(config.own_home_agents)}"
        counts += f", foreign agents: {len(config.foreign_agents)}"
    if config.needs_nar:
        counts += f", NAR servers: {len(config.nar)}"
    yield Verdict("configuration", str(config.path), "ok", counts)
    runs = gateway_runs(config.control_socket)
    stored = runs and has_stored_connection(config.control_socket)
    for warning in config.warnings:
        if stored and warning.key == "connections":
            continue
        if not _about_validity(warning):  # certificates have verdicts of their own
            yield of_problem(warning, "warn")
    yield from certificate_verdicts(config)
    yield from api_verdicts(config)
    if runs:
        yield from object_verdicts(config.control_socket)
    yield from store_verdicts(config)
    user = api_user(config, pwd.getpwnam)
    if user is not None:
        yield user
    routes = routes_in_use()
    yield from addresses_and_ports(config, ours=runs)
    yield from mobility_verdicts(config, routes, ours=runs)
    yield from nar_verdicts(config, routes, ours=runs)
    yield from forwarding(config)
    yield from pools_and_routes(config, routes)
    yield from pools_and_inside(config, routes)
    yield from outside_verdicts(config)


def _kernel(config: Config | None) -> Iterator[Verdict]:
    from gateway.config.to_dataplane import kernel_needs  # noqa: PLC0415 - with the next
    from gateway.dataplane.kernel.probe import probe  # noqa: PLC0415 - costs pyroute2

    kind = "auto" if config is None else config.dataplane.kind
    needs = IPSEC if config is None else kernel_needs(config)
    capabilities = probe()
    made = choose(capabilities, kind, needs)
    if len(capabilities) > 1:
        yield from dataplane_verdicts(capabilities, kind, needs)
    for capability in for_chosen(capabilities, made):
        yield of_capability(capability)
    if config is not None:
        portable = isinstance(made, Choice) and made.kind is Kind.PORTABLE
        yield from kernel_verdicts(config, portable=portable)
        yield from nar_kernel_verdicts(config, portable=portable)


def of_capability(capability: "Capability") -> Verdict:
    """A line of the kernel's part; what the gateway can do without is a warning."""
    if capability.ok:
        return Verdict("kernel", capability.name, "ok", capability.detail)
    state: State = "missing" if capability.required else "warn"
    said = f" (kernel: {capability.detail})" if capability.detail else ""
    return Verdict("kernel", capability.name, state, f"{capability.cost}{said}", capability.remedy)


def verdicts(path: Path | None) -> tuple[list[Verdict], int]:
    """All verdicts and the exit status; without a path, of the host alone."""
    found: list[Verdict] = []
    status = exits.OK
    config: Config | None = None
    if path is not None:
        try:
            config = load(path)
            found += _configured(config)
        except ConfigError as error:
            found += [of_problem(problem, "missing") for problem in error.problems]
            status = exits.BAD_CONFIG
    found.append(privileges(Path("/proc/self/status").read_text()))
    found += _kernel(config)
    if status == exits.OK and any(verdict.state == "missing" for verdict in found):
        status = exits.FAILED
    return ordered(found), status


def ordered(found: list[Verdict]) -> list[Verdict]:
    """The verdicts by area, in the order in which a reader wants them."""
    return sorted(found, key=lambda verdict: _AREAS.index(verdict.area))


def verdict_table(found: list[Verdict]) -> Table:
    """All verdicts, a line each."""
    table = Table(box=None, pad_edge=False, show_edge=False, header_style="bold")
    for column in ("", "state", "detail", "remedy"):
        table.add_column(column, overflow="fold")
    area = ""
    for verdict in found:
        if verdict.area != area:
            area = verdict.area
            table.add_row(Text(area, "bold"))
        table.add_row(
            Text(f"  {verdict.name}"),
            Text(verdict.state, _STYLES[verdict.state]),
            Text(verdict.detail),
            Text(verdict.remedy),
        )
    return table


def summary(found: list[Verdict], status: int) -> str:
    """The last line: ready or not."""
    missing = sum(verdict.state == "missing" for verdict in found)
    warned = sum(verdict.state == "warn" for verdict in found)
    counts = f"{missing} missing, {warned} to look at"
    if status == exits.BAD_CONFIG:
        return f"The configuration cannot be used: {counts}."
    return f"Not ready: {counts}." if missing else f"Ready: {counts}."


def check(path: Path | None, *, as_json: bool) -> int:
    """Print all verdicts; returns 0 when nothing is missing, 78 for a bad configuration, else 1."""
    found, status = verdicts(path)
    return tell(found, status, as_json=as_json)


def tell(found: list[Verdict], status: int, *, as_json: bool) -> int:
    """Print verdicts and what follows from them; returns ``status``."""
    if as_json:
        body = {"ok": status == exits.OK, "verdicts": [v.as_json() for v in found]}
        print(json.dumps(body, indent=2))
        return status
    out = console()
    out.print(verdict_table(found))
    out.print(summary(found, status), style="bold")
    return status


def check_difference(path: Path, running: Path, *, as_json: bool) -> int:
    """Print what a reload from ``running`` to ``path`` would do."""
    from gateway.config.difference import difference  # noqa: PLC0415

    changes = difference(load(running, with_files=False), load(path))
    if as_json:
        rows = [
            {
                "kind": change.kind,
                "key": change.key,
                "old": change.old,
                "new": change.new,
                "effect": change.effect,
                "needs_restart": change.needs_restart,
            }
            for change in changes
        ]
        print(json.dumps({"changes": rows}, indent=2))
        return exits.OK
    out = console()
    if not changes:
        out.print("No difference.")
        return exits.OK
    table = Table(box=None, pad_edge=False, show_edge=False, header_style="bold")
    for column in ("change", "key", "from", "to", "effect"):
        table.add_column(column, overflow="fold")
    for change in changes:
        style = "yellow" if change.needs_restart else ""
        cells = (change.kind, change.key, change.old or "", change.new or "")
        table.add_row(*map(Text, cells), Text(change.effect, style))
    out.print(table)
    return exits.OK
