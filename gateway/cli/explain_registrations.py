"""`gateway explain`: what a code of a registration means, and why registrations were denied."""

import json
from pathlib import Path

from rich.console import Group, RenderableType
from rich.text import Text

from gateway.cli import exits
from gateway.cli.explain import line, print_newest, when
from gateway.cli.output import console, printable
from gateway.control.client import ControlClient
from gateway.mip_agents.codec.advice import advice
from gateway.mip_agents.codec.codes import ReplyCode, describe

LAST_CODE = 255


def explain_code(code: int, *, as_json: bool) -> int:
    """Print what a code means and what to do about it."""
    if as_json:
        body = {"code": code, "name": _name(code), "what": describe(code), "do": advice(code)}
        print(json.dumps(body, indent=2))
        return exits.OK
    head = Text()
    head.append(f"code {code}", style="bold")
    head.append(f", {_name(code)}")
    out = console()
    out.print(head)
    out.print(line("what", Text(describe(code))))
    out.print(line("do", Text(advice(code), style="bold")))
    return exits.OK


def _name(code: int) -> str:
    try:
        return ReplyCode(code).name.lower()
    except ValueError:
        return "unknown"


def explain_registrations(
    socket: Path, who: str | None, agent: str | None, *, everything: bool, as_json: bool
) -> int:
    """Print why registrations were denied: of ``who`` (a name, an address), or of everybody."""
    with ControlClient(socket) as client:
        items = list(client.pages("registration-failures", who=who, agent=agent))
    if as_json:
        print(json.dumps(items, indent=2))
        return exits.OK
    out = console()
    if not items:
        whose = f" of {printable(who)}" if who else ""
        out.print(f"No denied registration{whose} since the gateway started.")
        return exits.OK
    print_newest(out, items, _record, everything=everything, command="gateway explain --all")
    return exits.OK


def _record(item: dict[str, object]) -> RenderableType:
    head = Text()
    head.append(printable(item.get("node")), style="bold")
    head.append(f" from {printable(item.get('source'))}")
    head.append(f", denied by {printable(item.get('denied_by'))} {printable(item.get('agent'))}")
    code = item.get("code")
    lines = [head, line("when", Text(when(item)))]
    if isinstance(code, int):
        lines.append(line("code", Text(f"{code}, {describe(code)}")))
    lines.append(line("what", Text(printable(item.get("reason")))))
    lines.append(line("do", Text(printable(item.get("remedy")), style="bold")))
    return Group(*lines, Text())
