"""``gateway get``, ``create``, ``set`` and ``delete``: configured objects by the control socket."""

import json
import sys
import tomllib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import UnionType
from typing import Annotated, Union, get_args, get_origin

from pydantic import BaseModel

from gateway.cli import exits
from gateway.cli.output import console, printable, table
from gateway.cli.passwords import given_password
from gateway.config.kinds import KINDS
from gateway.config.secrets import is_mask
from gateway.control.client import ControlClient
from gateway.control.protocol import ControlError, ErrorCode

MAX_FILE_OCTETS = 64 * 1024
Document = dict[str, object]


# -- what is given ---------------------------------------------------------------------------


def document_of(kind: str, settings: Sequence[str], file: Path | None) -> Document:
    """A document of ``KEY=VALUE`` settings, upon what a file holds.

    Values are JSON, or texts; lists of texts have commas. ``-`` is asked for without echo (or read
    from standard input), ``@FILE`` is read from a file: secrets never stand in a command.
    Raises :class:`ControlError` that names the key.
    """
    document = _of_file(file) if file is not None else {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or not key:
            why = f"{printable(setting)}: give KEY=VALUE, such as network=10.83.112.0/22"
            raise ControlError(ErrorCode.INVALID, why)
        _put(document, key.split("."), _value(kind, key, text))
    return document


def _of_file(file: Path) -> Document:
    try:
        if str(file) == "-":
            data = sys.stdin.buffer.read(MAX_FILE_OCTETS + 1)
        else:
            with file.open("rb") as opened:
                data = opened.read(MAX_FILE_OCTETS + 1)
        if len(data) > MAX_FILE_OCTETS:
            raise ValueError(f"larger than {MAX_FILE_OCTETS} octets")
        text = data.decode()
        found = json.loads(text) if text.lstrip().startswith("{") else tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ControlError(ErrorCode.INVALID, f"{file}: no JSON and no TOML: {error}") from None
    if not isinstance(found, dict):
        raise ControlError(ErrorCode.INVALID, f"{file}: give one table")
    return found


def _put(document: Document, path: Sequence[str], value: object) -> None:
    holder = document
    for part in path[:-1]:
        inner = holder.setdefault(part, {})
        if not isinstance(inner, dict):
            why = f"{'.'.join(path)}: {part} is no table; give it whole, as JSON"
            raise ControlError(ErrorCode.INVALID, why)
        holder = inner
    holder[path[-1]] = value


def _value(kind: str, key: str, text: str) -> object:
    if text == "-":
        return given_password(key, from_stdin=not sys.stdin.isatty(), twice=True)
    if text.startswith("@"):
        return Path(text[1:]).read_text("utf-8").rstrip("\r\n")
    annotation = _annotation(KINDS[kind].model, key.split("."))
    if _has(annotation, str) and not text.startswith(("[", "{")) and text != "null":
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    if _has(annotation, tuple):
        return [one for part in text.split(",") if (one := part.strip())]
    return text


def _annotation(annotation: object, path: Sequence[str]) -> object:
    """What stands at a path of a section; None where nothing can."""
    for part in path:
        model = next((one for one in _parts(annotation) if _is_model(one)), None)
        if model is not None:
            field = model.model_fields.get(part)  # type: ignore[attr-defined]
            annotation = None if field is None else field.annotation
            continue
        tables = next((one for one in _parts(annotation) if get_origin(one) is dict), None)
        annotation = get_args(tables)[1] if tables is not None else None
    return annotation


def _parts(annotation: object) -> list[object]:
    origin = get_origin(annotation)
    if origin is Annotated:
        return _parts(get_args(annotation)[0])
    if origin in (Union, UnionType):
        return [part for one in get_args(annotation) for part in _parts(one)]
    return [annotation]


def _is_model(annotation: object) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _has(annotation: object, kind: type) -> bool:
    return any(one is kind or get_origin(one) is kind for one in _parts(annotation))


# -- what is shown ---------------------------------------------------------------------------


def list_kinds(client: ControlClient, *, as_json: bool) -> int:
    """What can be configured."""
    found = client.call("object-kinds").get("kinds")
    kinds: list[dict[str, object]] = found if isinstance(found, list) else []
    if as_json:
        print(json.dumps(kinds, indent=2))
        return exits.OK
    rows = [(printable(one.get("kind")), printable(one.get("title"))) for one in kinds]
    console().print(table(("kind", ""), rows))
    return exits.OK


def list_objects(client: ControlClient, kind: str, q: str | None, *, as_json: bool) -> int:
    """All objects of a kind."""
    items = list(client.pages("objects", kind=kind, q=q))
    if as_json:
        print(json.dumps(items, indent=2))
        return exits.OK
    rows = [
        (
            printable(one.get("name")),
            printable(one.get("source")),
            printable(one.get("version") or "-"),
            _when(one.get("changed_at")),
            "left out" if one.get("broken") else "in force",
        )
        for one in items
    ]
    headings = ("name", "from", "version", "changed", "state")
    console().print(table(headings, rows) if rows else f"No {kind}.")
    return exits.OK


def show_object(client: ControlClient, kind: str, name: str, *, as_json: bool) -> int:
    """One object, as its table in the file would be."""
    found = client.call("object", kind=kind, name=name)
    if as_json:
        print(json.dumps(found, indent=2))
        return exits.OK
    document = found.get("document")
    source = f"{printable(found.get('source'))}, version {printable(found.get('version'))}"
    print(f"# {kind}/{printable(name)} ({source})")
    broken = found.get("broken")
    for reason in broken if isinstance(broken, list) else ():
        print(f"# left out: {printable(reason)}")
    for line in _toml(document if isinstance(document, dict) else {}, f"{kind}.{_key(name)}"):
        print(line)
    return exits.OK


def _toml(document: Mapping[str, object], path: str) -> list[str]:
    lines, tables = [f"[{path}]"], list[str]()
    for key, value in document.items():
        if is_mask(value):
            lines.append(f"# {_key(key)} is stored, and never shown")
        elif isinstance(value, dict):
            tables += ["", *_toml(value, f"{path}.{_key(key)}")]
        else:
            lines.append(f"{_key(key)} = {_toml_value(value)}")
    return lines + tables


def _toml_value(value: object) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml_value, value)) + "]"
    if isinstance(value, dict):
        inner = (
            f"{_key(key)} = {_toml_value(one)}" for key, one in value.items() if not is_mask(one)
        )
        return "{ " + ", ".join(inner) + " }"
    return json.dumps(value, ensure_ascii=True)


def _key(name: str) -> str:
    plain = name.replace("-", "").replace("_", "")
    return name if plain.isalnum() and name.isascii() else json.dumps(name)


def _when(at: object) -> str:
    if not isinstance(at, int | float):
        return "-"
    return datetime.fromtimestamp(at, UTC).isoformat(sep=" ", timespec="seconds")


# -- what is changed -------------------------------------------------------------------------


def change(
    client: ControlClient,
    op: str,
    kind: str,
    name: str,
    *,
    document: Document | None,
    dry_run: bool,
) -> int:
    """Create or merge; prints what that did."""
    result = client.call(op, kind=kind, name=name, document=document, dry_run=dry_run)
    _tell(result, dry_run=dry_run)
    return exits.OK


def delete(client: ControlClient, kind: str, name: str, *, yes: bool, dry_run: bool) -> int:
    """Remove an object; asks first when that cuts sessions."""
    tried = client.call("object-delete", kind=kind, name=name, dry_run=True)
    cut = tried.get("sessions_cut")
    if dry_run:
        _tell(tried, dry_run=True)
        return exits.OK
    if isinstance(cut, list) and cut and not yes:
        _tell(tried, dry_run=True)
        if not sys.stdin.isatty():
            print("Nothing was removed: this ends sessions; say --yes.")
            return exits.FAILED
        if input(f"Remove {kind}/{printable(name)}? [y/N] ").strip().lower() not in ("y", "yes"):
            print("Nothing was removed.")
            return exits.FAILED
    _tell(client.call("object-delete", kind=kind, name=name), dry_run=False)
    return exits.OK


def _tell(result: Mapping[str, object], *, dry_run: bool) -> None:
    changes, cut = result.get("changes"), result.get("sessions_cut")
    would = "would be " if dry_run else ""
    for one in changes if isinstance(changes, list) else ():
        values = f": {one['old']} -> {one['new']}" if one.get("old") is not None else ""
        print(printable(f"{would}{one['kind']} {one['key']}{values} ({one['effect']})"))
    if isinstance(changes, list) and not changes:
        print("no difference")
    for one in cut if isinstance(cut, list) else ():
        word = "would end" if dry_run else "ended"
        print(printable(f"{word}: session {one['session']} of {one['peer']}"))
