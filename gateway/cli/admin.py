"""What ``gateway admin`` does, over the control socket."""

import hashlib
import itertools
import json
import os
import ssl
import stat
from collections.abc import Mapping

from gateway.cli import exits
from gateway.cli.output import console, printable, table
from gateway.cli.passwords import given_password
from gateway.control.client import ControlClient

DAY_S = 86_400
MAX_CERTIFICATE_OCTETS = 64 * 1024


def create_token(
    client: ControlClient, name: str, role: str, days: int | None, *, as_json: bool
) -> int:
    """Make a token; its text alone goes to standard output, so that it can be piped."""
    life_s = None if days is None else days * DAY_S
    made = client.call("token-create", name=name, role=role, expires_in_s=life_s)
    print(json.dumps(made, indent=2) if as_json else made["token"])
    return exits.OK


def list_tokens(client: ControlClient, *, as_json: bool) -> int:
    """A table of them."""
    items = list(client.pages("tokens"))
    if as_json:
        print(json.dumps(items, indent=2))
        return exits.OK
    fields = ("id", "name", "role", "created_at", "expires_at", "last_used_at", "last_used_from")
    rows = [tuple(printable(one.get(field)) for field in fields) for one in items]
    headings = ("id", "name", "role", "created", "expires", "last used", "from")
    console().print(table(headings, rows) if rows else "No token.")
    return exits.OK


def delete_token(client: ControlClient, which: str) -> int:
    """By its id or its name."""
    found = [one for one in client.pages("tokens") if which in {one.get("id"), one.get("name")}]
    client.call("token-delete", id=str(found[0]["id"]) if found else which)
    print(f"token {printable(which)} removed")
    return exits.OK


def create_user(client: ControlClient, name: str, role: str, *, from_stdin: bool) -> int:
    """Asks for the password."""
    password = given_password(f"Password of {name}", from_stdin=from_stdin, twice=True)
    client.call("administrator-create", name=name, role=role, password=password)
    print(f"{printable(name)} can log in as {printable(role)}")
    return exits.OK


def list_users(client: ControlClient, *, as_json: bool) -> int:
    """A table of them."""
    items = list(client.pages("administrators"))
    if as_json:
        print(json.dumps(items, indent=2))
        return exits.OK
    fields = ("name", "role", "created_at", "changed_at", "last_login_at")
    rows = [tuple(printable(one.get(field)) for field in fields) for one in items]
    headings = ("name", "role", "created", "changed", "last login")
    console().print(table(headings, rows) if rows else "No administrator: gateway admin code")
    return exits.OK


def new_password(client: ControlClient, name: str, *, from_stdin: bool) -> int:
    """Asks for the password."""
    password = given_password(f"New password of {name}", from_stdin=from_stdin, twice=True)
    client.call("administrator-change", name=name, password=password)
    print(f"{printable(name)} has a new password; sessions with the old one have ended")
    return exits.OK


def new_role(client: ControlClient, name: str, role: str) -> int:
    """Change it."""
    client.call("administrator-change", name=name, role=role)
    print(f"{printable(name)} is {printable(role)} now")
    return exits.OK


def delete_user(client: ControlClient, name: str) -> int:
    """Remove somebody."""
    client.call("administrator-delete", name=name)
    print(f"{printable(name)} can log in no more")
    return exits.OK


def make_code(client: ControlClient, *, as_json: bool) -> int:
    """The code, where to use it, and what the browser will show of our certificate."""
    made = client.call("setup-code")
    if as_json:
        print(json.dumps(made, indent=2))
        return exits.OK
    print(f"Open this address in a browser, until {printable(made.get('expires_at'))}:\n")
    print(f"    {printable(made.get('url'))}\n")
    print(f"or open the dashboard and give this code: {printable(made.get('code'))}")
    fingerprint = _fingerprint(made.get("certificate"))
    if fingerprint is not None:
        print(
            "\nThe gateway made its certificate itself, so the browser warns. It is the right one"
            f" if its\nSHA-256 fingerprint is {fingerprint}"
        )
    return exits.OK


def _fingerprint(path: object) -> str | None:
    """Of a certificate as browsers show it; None when we may not read it."""
    if not isinstance(path, str):
        return None
    try:
        # The folder is that of the API's user, and we may be root: only a file is read.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return None
            found = ssl.PEM_cert_to_DER_cert(file.read(MAX_CERTIFICATE_OCTETS).decode("ascii"))
    except (OSError, ValueError):
        return None
    return hashlib.sha256(found).digest().hex(":").upper()


def show_audit(
    client: ControlClient, filters: Mapping[str, str | None], most: int, *, as_json: bool
) -> int:
    """Entries that fit, the newest first."""
    pages = client.pages("audit", **filters, limit=min(most, 200))
    items = list(itertools.islice(pages, most))
    if as_json:
        print(json.dumps(items, indent=2))
        return exits.OK
    rows = [
        (
            printable(one.get("at")),
            printable(one.get("actor")),
            printable(one.get("remote")),
            printable(one.get("action")),
            printable(one.get("target")),
            printable(one.get("outcome")),
            printable(one.get("detail")),
        )
        for one in items
    ]
    headings = ("at", "who", "from", "did", "to", "outcome", "detail")
    console().print(table(headings, rows) if rows else "Nothing.")
    return exits.OK
