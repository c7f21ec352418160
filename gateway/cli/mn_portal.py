"""``gateway mn portal``: lets one browser log in at a captive portal, and waits."""

import os
import time
from collections.abc import Callable
from pathlib import Path

from gateway.cli import exits
from gateway.cli.failure import complain
from gateway.cli.mn import Node, change_line
from gateway.cli.output import printable
from gateway.cli.portal_browser import Browser, Start, User, user_of

LOOK_S = 1.0
CONNECT_S = 90.0
"""From an open network to a mode that works; after that the user had better look himself."""


def stop(socket: Path) -> int:
    """Close the way."""
    with Node(socket) as node:
        node.call("node-portal-stop")
    print("the way to the login page is closed")
    return exits.OK


def portal(
    socket: Path,
    command: str | None,
    *,
    start: Start = Browser.start,
    pause: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> int:
    """Open the way, show a browser, wait. ``command`` is a browser's, None takes what is there."""
    user = user_of(os.environ)
    browser = None
    with Node(socket) as node:
        found = node.call("node-portal", uid=user.uid)
        port, page = int(str(found.get("port"))), printable(found.get("page"))
        try:
            print(f"{printable(found.get('interface'))}: the way to the login page is open.")
            browser = start(user, port, page, command)
            print(_what_to_do(user, port, page, shown=browser is not None), flush=True)
            while True:
                pause(LOOK_S)
                if browser is not None and browser.gone:
                    browser.end()
                    browser = None
                    print("The browser has gone. " + _what_to_do(user, port, page, shown=False))
                found = node.call("node-portal", uid=user.uid, keep=True)
                if found.get("open") is not True:
                    break
            print(f"closed: {printable(found.get('reason'))}", flush=True)
            end = clock() + CONNECT_S
            while (status := node.call("node-status")).get("mode") == "held":
                if found.get("reason") != "the network is open" or clock() >= end:
                    complain(change_line(status))
                    return exits.FAILED
                pause(LOOK_S)
            print(f"the network is open: {change_line(status)}")
            return exits.OK
        except KeyboardInterrupt:
            node.call("node-portal-stop")
            raise
        finally:
            if browser is not None:
                browser.end()


def _what_to_do(user: User, port: int, page: str, *, shown: bool) -> str:
    if shown:
        return (
            "Log in in the browser that opens; it closes when the network is open.\n"
            "Only this browser speaks in the clear, past the VPN: use it for nothing else."
        )
    return (
        f"Set the HTTP proxy 127.0.0.1, port {port}, for http and https, in a browser of the user\n"
        f"{user.name}, best in a fresh profile, open {page} and log in. For example:\n"
        f"  chromium --user-data-dir=$(mktemp -d) --proxy-server=http://127.0.0.1:{port} {page}\n"
        "Only what uses this proxy speaks in the clear. Waiting; Ctrl-C closes it."
    )
