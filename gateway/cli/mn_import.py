"""``gateway mn import``: one file from a gateway becomes this host's profile."""

import os
import re
import secrets
import shutil
import stat
import sys
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path

from gateway.cli import exits

MAX_OCTETS = 256 * 1024
MAX_FILES = 16
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


class ImportRefusedError(Exception):
    """The file cannot be used; the text says why."""


def import_file(
    source: str, target: Path, ask_password: Callable[[str], str], *, replace: bool
) -> int:
    """Write the profile and the files that it names beside it, all of them or none.

    ``ask_password`` gets the user's name where the profile wants a password. Raises ConfigError
    for a profile that cannot be used, and :class:`ImportRefusedError`.
    """
    tables = tables_of(_read(source))
    files = _files(tables)
    if target.exists() and not replace:
        why = f"{target} is there already; say --replace to put the new one in its place"
        raise ImportRefusedError(why)
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    stage = target.parent / f".import-{secrets.token_hex(6)}"
    stage.mkdir(mode=0o700)
    try:
        user = _wants_password(tables, files)
        if user is not None:
            files[_password_file(tables)] = ask_password(user) + "\n"
        written = _stage(stage, target.name, tables, files)
        for name in written:
            (stage / name).replace(target.parent / name)
    finally:
        shutil.rmtree(stage, ignore_errors=True)
    _sync(target.parent)
    print(f"Written: {', '.join(str(target.parent / name) for name in written)}.")
    print("Next: gateway mn check, then systemctl enable --now gateway-mn")
    return exits.OK


def _read(source: str) -> bytes:
    if source == "-":
        data = sys.stdin.buffer.read(MAX_OCTETS + 1)
    else:
        with Path(source).open("rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ImportRefusedError(f"{source} is not a file")
            data = file.read(MAX_OCTETS + 1)
    if len(data) > MAX_OCTETS:
        raise ImportRefusedError(f"has more than {MAX_OCTETS} octets; it is no profile")
    return data


def tables_of(data: bytes) -> dict[str, object]:
    """The tables of a profile, whether as TOML or as the text of a QR code.

    Raises :class:`ImportRefusedError`.
    """
    from gateway.provisioning import qr  # noqa: PLC0415 - costs a little

    try:
        text = data.decode()
        if text.startswith(qr.LEAD):
            text = qr.unpack(text).decode()
        return tomllib.loads(text)
    except UnicodeDecodeError:
        raise ImportRefusedError("is no text; give the file as it was downloaded") from None
    except (tomllib.TOMLDecodeError, RecursionError):
        why = "is no profile of a mobile node; give the file as it was downloaded"
        raise ImportRefusedError(why) from None
    except ValueError as error:
        raise ImportRefusedError(str(error)) from None


def _files(tables: dict[str, object]) -> dict[str, str]:
    """The files that it carries; takes them out of the tables."""
    found = tables.pop("files", {})
    if not isinstance(found, dict) or len(found) > MAX_FILES:
        raise ImportRefusedError(f"[files] must be a table of at most {MAX_FILES} texts")
    files: dict[str, str] = {}
    for name, text in found.items():
        if not isinstance(text, str) or not _FILE_NAME.fullmatch(name):
            why = "[files] holds something else than texts under plain file names"
            raise ImportRefusedError(why)
        files[name] = text
    return files


def _login(tables: Mapping[str, object]) -> Mapping[str, object]:
    login = tables.get("login")
    return login if isinstance(login, dict) else {}


def _password_file(tables: Mapping[str, object]) -> str:
    name = _login(tables).get("password_file")
    if not isinstance(name, str) or not _FILE_NAME.fullmatch(name):
        raise ImportRefusedError("login.password_file must be a plain file name")
    return name


def _wants_password(tables: Mapping[str, object], files: Mapping[str, str]) -> str | None:
    """The user whose password is missing; None where none is."""
    login = _login(tables)
    if "password_file" not in login or _password_file(tables) in files:
        return None
    return str(login.get("user", "the user"))


def _stage(
    stage: Path, profile: str, tables: Mapping[str, object], files: Mapping[str, str]
) -> list[str]:
    """Write everything, and try it out; the names in the order in which they are moved."""
    from gateway.config.profile import load_profile  # noqa: PLC0415 - costs cryptography

    if profile in files:
        raise ImportRefusedError(f"[files] holds {profile}, which is the profile itself")
    for name, text in files.items():
        _write(stage / name, text)
    _write(stage / profile, _toml(tables))
    load_profile(stage / profile)
    return [*files, profile]


def _write(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _toml(tables: Mapping[str, object]) -> str:
    """The tables again as TOML: a profile has tables of plain values."""
    from gateway.provisioning.quoting import toml  # noqa: PLC0415 - costs a little

    lines: list[str] = []
    for title, table in tables.items():
        if not isinstance(table, dict):
            raise ImportRefusedError(f"holds a value outside of a table: {toml(title)[:80]}")
        lines += [f"[{toml(title)}]"]
        lines += [f"{toml(key)} = {_value(value)}" for key, value in table.items()]
        lines.append("")
    return "\n".join(lines)


def _value(value: object) -> str:
    from gateway.provisioning.quoting import toml  # noqa: PLC0415

    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return repr(value)
        case str():
            return toml(value)
        case list():
            return f"[{', '.join(map(_value, value))}]"
    raise ImportRefusedError("holds a value that no profile has")
