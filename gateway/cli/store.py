"""``gateway export``, ``gateway import``, ``gateway backup``: the durable state as a whole."""

import base64
import binascii
import contextlib
import hashlib
import json
import os
from pathlib import Path

from gateway.cli import exits
from gateway.cli.failure import complain
from gateway.cli.passwords import PasswordNotGivenError, given_password
from gateway.control.client import ControlClient
from gateway.control.protocol import ControlError, ErrorCode
from gateway.control.store_operations import MAX_PART_OCTETS

TIMEOUT_S = 300.0
"""Of one request: an export of a million rows takes its time."""


def export(socket: Path, file: Path, *, with_secrets: bool, from_stdin: bool, records: bool) -> int:
    """Write everything that is stored to ``file``, which must not be there yet."""
    passphrase = None
    if with_secrets:
        try:
            passphrase = _passphrase(from_stdin=from_stdin, twice=True)
        except PasswordNotGivenError as error:
            complain(error)
            return exits.USAGE
    new = file.with_name(f".{file.name}.new")
    try:
        if file.exists():
            complain(f"{file} is there already; choose another name")
            return exits.USAGE
        new.unlink(missing_ok=True)
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with (
                os.fdopen(descriptor, "wb") as opened,
                ControlClient(socket, timeout_s=TIMEOUT_S) as client,
            ):
                made = client.call("export", passphrase=passphrase, records=records)
                digest = hashlib.sha256()
                offset: int | None = 0
                while offset is not None:
                    part, offset = _part(client, str(made.get("id")), offset)
                    digest.update(part)
                    opened.write(part)
                opened.flush()
                os.fsync(opened.fileno())
            if digest.hexdigest() != made.get("sha256"):
                complain("the file arrived damaged; try again")
                return exits.FAILED
            os.link(new, file)
        finally:
            new.unlink(missing_ok=True)
    except OSError as error:
        complain(f"{file} cannot be written: {error}")
        return exits.FAILED
    secrets = "secrets sealed under the passphrase" if with_secrets else "without secrets"
    print(f"Exported {made.get('rows')} rows to {file}, {secrets}.")
    return exits.OK


def _part(client: ControlClient, name: str, offset: int) -> tuple[bytes, int | None]:
    answer = client.call("export-read", id=name, offset=offset)
    following = answer.get("next")
    if following is not None and (not isinstance(following, int) or following <= offset):
        raise ControlError(ErrorCode.INTERNAL, "the gateway's answer makes no sense")
    try:
        return base64.b64decode(str(answer.get("content")), validate=True), following
    except binascii.Error:
        raise ControlError(ErrorCode.INTERNAL, "the gateway's answer makes no sense") from None


def import_file(socket: Path, file: Path, *, from_stdin: bool, dry_run: bool, as_json: bool) -> int:
    """Put ``file`` in place of everything that is configured."""
    try:
        with file.open("rb") as opened:
            passphrase = None
            if _is_sealed(opened.readline(65_536)):
                passphrase = _passphrase(from_stdin=from_stdin, twice=False)
            opened.seek(0)
            with ControlClient(socket, timeout_s=TIMEOUT_S) as client:
                name, offset = None, 0
                while part := opened.read(MAX_PART_OCTETS):
                    content = base64.b64encode(part).decode()
                    taken = client.call("import-part", id=name, offset=offset, content=content)
                    name, offset = str(taken.get("id")), offset + len(part)
                if name is None:
                    complain(f"{file} is empty")
                    return exits.USAGE
                result = client.call("import", id=name, passphrase=passphrase, dry_run=dry_run)
    except OSError as error:
        complain(f"{file} cannot be read: {error}")
        return exits.FAILED
    except PasswordNotGivenError as error:
        complain(error)
        return exits.USAGE
    if as_json:
        print(json.dumps(result, indent=2))
    else:
        _show(result)
    return exits.OK


def _is_sealed(line: bytes) -> bool:
    with contextlib.suppress(ValueError, RecursionError):
        head = json.loads(line)
        secrets = head.get("secrets") if isinstance(head, dict) else None
        return isinstance(secrets, dict) and secrets.get("how") == "passphrase"
    return False


def _show(result: dict[str, object]) -> None:
    verb = "Would be" if result.get("dry_run") else "Was"
    for what in ("created", "changed", "removed"):
        names = result.get(what)
        if isinstance(names, list) and names:
            print(f"{verb} {what}: {', '.join(map(str, names))}")
    left_out = result.get("left_out")
    if isinstance(left_out, dict):
        for table, why in left_out.items():
            print(f"Left out: {table}: {why}")
    problems = result.get("problems")
    if isinstance(problems, list):
        for problem in problems:
            print(f"Problem: {problem}")
    print("Nothing was changed." if result.get("dry_run") else "Imported, and in force.")


def backup(socket: Path, name: str | None) -> int:
    """Copy the database to a file on the gateway."""
    with ControlClient(socket, timeout_s=TIMEOUT_S) as client:
        made = client.call("backup", file=name)
    print(f"Backup: {made.get('file')} ({made.get('octets')} octets).")
    print("Its secrets are sealed with the key file: keep that, too, and elsewhere.")
    return exits.OK


def _passphrase(*, from_stdin: bool, twice: bool) -> str:
    """From standard input, or asked for without echo; never from the command line."""
    given = given_password("Passphrase of the file", from_stdin=from_stdin, twice=twice)
    if not given:
        raise PasswordNotGivenError("the passphrase is empty; give one, or --without-secrets")
    return given
