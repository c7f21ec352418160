"""``gateway device`` and ``gateway ca``: set devices up, and look after their certificates."""

import json
import os
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from gateway.cli import exits
from gateway.cli.output import console, printable, table
from gateway.control.client import ControlClient, as_page
from gateway.control.protocol import MAX_PAGE

ISSUING_TIMEOUT_S = 30.0
"""A key of RSA takes a second or two on a small board."""

Arguments = dict[str, object]


def ask(socket: Path, operation: str, arguments: Mapping[str, object]) -> dict[str, object]:
    """One request; arguments that are None are left out."""
    given = {key: value for key, value in arguments.items() if value is not None}
    with ControlClient(socket, timeout_s=ISSUING_TIMEOUT_S) as client:
        return client.call(operation, **given)


def day(seconds: object) -> str:
    """A time as people write it, UTC."""
    if not isinstance(seconds, int | float):
        return "-"
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")


def issue(
    socket: Path, operation: str, arguments: Arguments, out: Path | None, *, as_json: bool
) -> int:
    """Have a bundle made; with ``out``, take it at once into that folder or file."""
    made = ask(socket, operation, arguments)
    if out is None:
        if as_json:
            print(json.dumps(made, indent=2))
            return exits.OK
        print(f"Device {printable(made.get('device'))}, identity {printable(made.get('identity'))}")
        print(f"Download once, until {day(made.get('expires_at'))} UTC:")
        print(f"  {printable(made.get('url'))}")
        return exits.OK
    token = str(made.get("link", "")).rpartition("/")[2]
    taken = ask(socket, "link-take", {"token": token})
    written = _save(taken, out)
    if as_json:
        print(json.dumps({"device": made.get("device"), "file": str(written)}, indent=2))
    elif str(out) != "-":
        print(f"{written} sets {printable(made.get('device'))} up. It holds secrets.")
    return exits.OK


def _save(taken: Mapping[str, object], out: Path) -> Path:
    import base64  # noqa: PLC0415 - here only

    content = base64.b64decode(str(taken.get("content", "")))
    if str(out) == "-":
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
        return out
    path = out / Path(str(taken.get("file_name"))).name if out.is_dir() else out
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    return path


def devices(socket: Path, *, as_json: bool) -> int:
    """List configured devices and their certificates."""
    found = _all(socket, "objects", {"kind": "devices"})
    issued: dict[str, list[dict[str, object]]] = {}
    for one in _all(socket, "certificates", {"purpose": "device", "revoked": False}):
        issued.setdefault(str(one.get("device")), []).append(one)
    if as_json:
        for one in found:
            one["certificates"] = issued.get(str(one.get("name")), [])
        print(json.dumps(found, indent=2))
        return exits.OK
    rows = []
    for one in found:
        document = one.get("document")
        values = document if isinstance(document, dict) else {}
        certificates = issued.get(str(one.get("name")), [])
        ends = [end for each in certificates if isinstance(end := each.get("not_after"), float)]
        rows.append(
            (
                printable(one.get("name")),
                printable(values.get("identity")),
                printable(values.get("platform")),
                printable(values.get("user")),
                printable(values.get("connection")),
                day(max(ends)) if ends else "-",
                "blocked" if values.get("blocked") else "",
            )
        )
    headings = ("device", "identity", "platform", "user", "connection", "certificate until", "")
    console().print(table(headings, rows) if rows else "No device.")
    return exits.OK


def _all(socket: Path, operation: str, arguments: Arguments) -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    cursor: object = None
    with ControlClient(socket, timeout_s=ISSUING_TIMEOUT_S) as client:
        while True:
            asked = {**arguments, "limit": MAX_PAGE}
            if cursor is not None:
                asked["cursor"] = cursor
            page = as_page(client.call(operation, **asked))
            found += page["items"]
            cursor = page["next"]
            if cursor is None:
                return found


def revoke(socket: Path, name: str) -> int:
    """Revoke a device's certificates."""
    answer = ask(socket, "device-revoke", {"name": name})
    serials = answer.get("revoked")
    count = len(serials) if isinstance(serials, list) else 0
    print(
        f"{count} certificates revoked, {printable(answer.get('sessions_ended'))} sessions ended."
    )
    return exits.OK


def block(socket: Path, name: str, *, blocked: bool) -> int:
    """Keep a device out, or let it in again."""
    ask(socket, "device-block" if blocked else "device-unblock", {"name": name})
    print(f"{name} is {'blocked' if blocked else 'no longer blocked'}.")
    return exits.OK


# -- the CA ------------------------------------------------------------------------------


def show_ca(socket: Path, *, as_json: bool, pem: bool) -> int:
    """What CAs there are."""
    found = ask(socket, "ca", {})
    if as_json:
        print(json.dumps(found, indent=2))
        return exits.OK
    if pem:
        print(found.get("pem", ""), end="")
        return exits.OK
    if not found.get("enabled"):
        print("Provisioning is off: set enabled = true in [provisioning] of gateway.toml.")
        return exits.OK
    authorities, gateway = found.get("authorities"), found.get("gateway")
    rows = [
        (
            printable(one.get("title")),
            printable(one.get("serial")),
            day(one.get("not_after")),
            "here" if one.get("has_key") else "elsewhere",
            "issues" if one.get("current") else "",
        )
        for one in (authorities if isinstance(authorities, list) else [])
    ]
    console().print(table(("CA", "serial", "until", "key", ""), rows))
    if isinstance(gateway, dict):
        names = printable(gateway.get("names"))
        print(f"The gateway's certificate: {names}, until {day(gateway.get('not_after'))}")
    print(f"CRL {printable(found.get('crl_number'))}, until {day(found.get('crl_next_update'))}")
    return exits.OK


def create_ca(socket: Path, name: str, algorithm: str) -> int:
    """A new CA."""
    ask(socket, "ca-create", {"name": name, "algorithm": algorithm})
    return show_ca(socket, as_json=False, pem=False)


def import_ca(socket: Path, certificate: Path, key: Path | None) -> int:
    """A CA of others."""
    from gateway.config.credential_files import FileRefusedError, read_file  # noqa: PLC0415

    try:
        given: Arguments = {"certificate": read_file(certificate).decode()}
        if key is not None:
            given["key"] = read_file(key).decode()
    except (FileRefusedError, UnicodeDecodeError) as error:
        print(f"gateway: {error}", file=sys.stderr)
        return exits.FAILED
    ask(socket, "ca-import", given)
    return show_ca(socket, as_json=False, pem=False)


def crl(socket: Path) -> int:
    """The list of revoked certificates, PEM."""
    print(ask(socket, "crl", {}).get("pem", ""), end="")
    return exits.OK
