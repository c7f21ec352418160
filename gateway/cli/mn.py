"""Commands that ask the running mobile node over its control socket."""

import contextlib
import json
import time
from pathlib import Path
from typing import Self

from gateway.cli import exits
from gateway.control.client import MOBILE_NODE, ControlClient
from gateway.control.protocol import ControlError, ErrorCode

DEFAULT_SOCKET = Path("/run/gateway-mn/control.sock")
WATCH_INTERVAL_S = 1.0
UNLOCK_TIMEOUT_S = 30.0


def socket_of(socket: Path | None, profile: Path | None) -> Path:
    """The control socket: named itself, or by a profile, or where it is by default."""
    if socket is not None:
        return socket
    if profile is not None:
        from gateway.config.profile import load_profile  # noqa: PLC0415 - only then

        return load_profile(profile, with_files=False).control_socket
    return DEFAULT_SOCKET


def state_dir_of(profile: Path | None) -> Path:
    """Where the node keeps its state; the default also for a profile that cannot be read."""
    from gateway.config.problem import ConfigError  # noqa: PLC0415 - only then
    from gateway.config.profile import ProcessPart, load_profile  # noqa: PLC0415

    if profile is not None:
        with contextlib.suppress(ConfigError):
            return load_profile(profile, with_files=False).profile.state_dir
    return ProcessPart().state_dir


class Node:
    """The node at a control socket."""

    def __init__(self, socket: Path, *, timeout_s: float = 5.0) -> None:
        self._socket = socket
        self._client = ControlClient(socket, timeout_s=timeout_s, service=MOBILE_NODE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def call(self, op: str, **args: object) -> dict[str, object]:
        """Ask for an operation; a gateway's socket is told from a node's."""
        try:
            return self._client.call(op, **args)
        except ControlError as error:
            if error.code != ErrorCode.UNKNOWN_OPERATION:
                raise
            why = f"{self._socket} is a gateway's, not a mobile node's; name another with --socket"
            raise ControlError(error.code, why, error.field) from None


def status(socket: Path, *, as_json: bool) -> int:
    """Print where the node is, its mode and why, its layers and interfaces."""
    with Node(socket) as node:
        found = node.call("node-status")
    if as_json:
        print(json.dumps(found, indent=2))
        return exits.OK
    from gateway.cli.mn_views import status_view  # noqa: PLC0415 - costs rich
    from gateway.cli.output import console  # noqa: PLC0415

    console().print(status_view(found))
    return exits.OK


def watch(socket: Path, *, as_json: bool) -> int:
    """Show the status until interrupted: live on a terminal, else one line for each change."""
    with Node(socket) as node:
        if as_json:
            while True:
                print(json.dumps(node.call("node-status")), flush=True)
                time.sleep(WATCH_INTERVAL_S)
        from gateway.cli.output import console  # noqa: PLC0415 - costs rich

        out = console()
        return _watch_lines(node) if not out.is_terminal else _watch_live(node)


def _watch_live(node: Node) -> int:
    from rich.live import Live  # noqa: PLC0415

    from gateway.cli.mn_views import status_view  # noqa: PLC0415
    from gateway.cli.output import console  # noqa: PLC0415

    with Live(console=console(), screen=True, auto_refresh=False) as live:
        while True:
            live.update(status_view(node.call("node-status")), refresh=True)
            time.sleep(WATCH_INTERVAL_S)


def _watch_lines(node: Node) -> int:
    from gateway.cli.mn_views import event_lines, new_events  # noqa: PLC0415

    told, events = "", list[str]()
    while True:
        found = node.call("node-status")
        now = event_lines(found)
        line = change_line(found)
        for event in new_events(events, now):
            print(f"  {event}", flush=True)
        if line != told:
            print(line, flush=True)
        told, events = line, now
        time.sleep(WATCH_INTERVAL_S)


def change_line(status: dict[str, object]) -> str:
    """Place, mode and reason on one line that stays the same until one of them changes."""
    from gateway.cli.mn_views import PLACES, why  # noqa: PLC0415
    from gateway.cli.output import printable  # noqa: PLC0415

    if status.get("locked") is True:
        return "locked"
    place = printable(status.get("place"))
    return f"{PLACES.get(place, place)}, mode {printable(status.get('mode'))}: {why(status)}"


def unlock(socket: Path, password: str) -> int:
    """Open the profile's sealed secrets in the running node."""
    with Node(socket, timeout_s=UNLOCK_TIMEOUT_S) as node:
        node.call("node-unlock", password=password)
    print("unlocked; see: gateway mn status")
    return exits.OK


def lock(socket: Path) -> int:
    """Have the node forget its secrets."""
    with Node(socket) as node:
        node.call("node-lock")
    print("locked: nothing of yours leaves until: gateway mn unlock")
    return exits.OK


def reconnect(socket: Path) -> int:
    """Have the node begin anew."""
    with Node(socket) as node:
        node.call("node-reconnect")
    print("proving anew; see: gateway mn watch")
    return exits.OK


def needs_unlocking(socket: Path) -> bool:
    """Whether a node answers there and is locked. Raises as :func:`unlock`."""
    with Node(socket) as node:
        return node.call("node-status").get("locked") is True
