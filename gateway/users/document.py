"""The text of the user file: TOML that an administrator reads and a tool edits in place.

::

    [users."anna@example.org"]
    groups = ["staff"]
    password = "$scrypt$..."
    nt_hash = "$aes256gcm$..."
    enabled = false

Editing touches the lines of one user; comments and everything else stay as they are. Every edited
text is parsed again and must say exactly what was wanted, otherwise it is refused.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from gateway.users.names import NameRefusedError, canonical_name
from gateway.users.passwords import PasswordHash

MAX_FILE_OCTETS = 64 * 1024 * 1024
MAX_GROUPS = 64
_KEYS = ("groups", "enabled", "password", "nt_hash")
_BARE = re.compile(r"[A-Za-z0-9_-]+")


class UserFileError(Exception):
    """The user file cannot be used; the text names the line, the field and the remedy."""


@dataclass(frozen=True, slots=True)
class UserEntry:
    """A user as the file has it."""

    name: str
    groups: tuple[str, ...] = ()
    enabled: bool = True
    password: PasswordHash | None = field(default=None, repr=False)
    nt_hash: str | None = field(default=None, repr=False)
    """Sealed."""


def parse(text: str) -> dict[str, UserEntry]:
    """Every user of the text, in its order. Raises :class:`UserFileError`."""
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserFileError(f"is no TOML: {error}") from None
    except RecursionError:
        raise UserFileError("is no user file: nested too deeply") from None
    for key in tree:
        if key != "users":
            raise _at(text, (key,), f"{key}: unknown; users stand in tables [users.NAME]")
    users = tree.get("users", {})
    if not isinstance(users, dict):
        raise _at(text, ("users",), "users: must be tables [users.NAME]")
    found: dict[str, UserEntry] = {}
    for name, table in users.items():
        entry = _entry(text, name, table)
        if entry.name in found:
            raise _at(text, ("users", name), f"user {entry.name}: stands here twice; remove one")
        found[entry.name] = entry
    return found


def _entry(text: str, name: str, table: object) -> UserEntry:
    try:
        canonical = canonical_name(name)
    except NameRefusedError as error:
        raise _at(text, ("users", name), str(error)) from None
    if not isinstance(table, dict):
        raise _at(text, ("users", name), f"user {canonical}: must be a table [users.NAME]")

    def refuse(key: str, why: str) -> UserFileError:
        return _at(text, ("users", name, key), f"user {canonical}, {key}: {why}")

    for key in table:
        if key not in _KEYS:
            raise refuse(str(key)[:40], f"unknown; use {', '.join(_KEYS)}")
    groups, enabled = table.get("groups", []), table.get("enabled", True)
    if not isinstance(enabled, bool):
        raise refuse("enabled", "must be true or false")
    if not isinstance(groups, list) or not all(isinstance(group, str) for group in groups):
        raise refuse("groups", 'must be a list of texts, such as ["staff"]')
    if len(groups) > MAX_GROUPS:
        raise refuse("groups", f"holds {len(groups)}; at most {MAX_GROUPS} are allowed")
    try:
        groups = [canonical_name(group, "group name") for group in groups]
    except NameRefusedError as error:
        raise refuse("groups", str(error)) from None
    password, nt_hash = table.get("password"), table.get("nt_hash")
    if nt_hash is not None and not isinstance(nt_hash, str):
        raise refuse("nt_hash", "must be a text")
    if password is not None and not isinstance(password, str):
        raise refuse("password", "must be a text")
    try:
        hashed = PasswordHash.parse(password) if password is not None else None
    except ValueError as error:
        raise refuse("password", str(error)) from None
    return UserEntry(canonical, tuple(dict.fromkeys(groups)), enabled, hashed, nt_hash)


# -- where things stand ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Statement:
    """A header or an assignment of the text: lines ``first`` to ``last``, from 0, inclusive."""

    first: int
    last: int
    table: tuple[str, ...]
    key: tuple[str, ...] | None
    """None for a header."""


def _statements(lines: list[str]) -> Iterator[_Statement]:
    """Headers and assignments of a text that is TOML; a value may span lines."""
    at = 0
    table: tuple[str, ...] = ()
    while at < len(lines):
        stripped = lines[at].strip()
        if not stripped or stripped.startswith("#"):
            at += 1
            continue
        last, tree = _complete(lines, at)
        path = _path(tree)
        if stripped.startswith("["):
            table = path
            yield _Statement(at, last, table, None)
        else:
            yield _Statement(at, last, table, path)
        at = last + 1


def _complete(lines: list[str], at: int) -> tuple[int, dict[str, object]]:
    for last in range(at, len(lines)):
        try:
            return last, tomllib.loads("\n".join(lines[at : last + 1]) + "\n")
        except tomllib.TOMLDecodeError:
            continue
    return len(lines) - 1, {}


def _path(tree: object) -> tuple[str, ...]:
    """The only path down to a value or an empty table; an array of tables counts as a table."""
    path: list[str] = []
    while True:
        if isinstance(tree, list) and len(tree) == 1 and tree[0] == {}:
            tree = tree[0]
        if not isinstance(tree, dict) or len(tree) != 1:
            return tuple(path)
        key, tree = next(iter(tree.items()))
        path.append(str(key))


def _at(text: str, path: tuple[str, ...], why: str) -> UserFileError:
    """``why`` with the line on which the path, or the longest known part of it, stands."""
    best, line = 0, 0
    for statement in _statements(_lines(text)):
        full = statement.table + (statement.key or ())
        same = 0
        while same < min(len(full), len(path)) and full[same] == path[same]:
            same += 1
        if same > best:
            best, line = same, statement.first + 1
    return UserFileError(f"line {line}: {why}" if line else why)


def _lines(text: str) -> list[str]:
    """As TOML counts lines: other line ends of Unicode are none."""
    return text.split("\n")


# -- editing ---------------------------------------------------------------------------------


def with_user(text: str, entry: UserEntry) -> str:
    """The text with a new user, or with one changed. Raises :class:`UserFileError`."""
    wanted = dict(parse(text))
    old = wanted.get(entry.name)
    wanted[entry.name] = entry
    if old is None:
        gap = "" if not text else "\n" if text.endswith("\n") else "\n\n"
        header = f"[users.{_key(entry.name)}]\n"
        body = "".join(f"{key} = {value}\n" for key, value in _values(entry).items())
        return _checked(text + gap + header + body, wanted)
    lines = _lines(text)
    values, before = _values(entry), _values(old)
    changed = {key for key in _KEYS if values.get(key) != before.get(key)}
    block, header_at = _block(lines, entry.name)
    for statement in reversed(block):
        if statement.key is not None and statement.key[-1] in changed:
            key = statement.key[-1]
            written = ".".join(map(_key, statement.key))
            new = [f"{written} = {values[key]}"] if key in values else []
            lines[statement.first : statement.last + 1] = new
            changed.discard(key)
    missing = [f"{key} = {values[key]}" for key in _KEYS if key in changed and key in values]
    lines[header_at + 1 : header_at + 1] = missing
    return _checked("\n".join(lines), wanted)


def without_user(text: str, name: str) -> str:
    """The text without a user; raises :class:`UserFileError`. Comments between users stay."""
    wanted = dict(parse(text))
    wanted.pop(name)
    lines = _lines(text)
    block, header_at = _block(lines, name)
    del lines[header_at : max(statement.last for statement in block) + 1]
    if header_at and not lines[header_at - 1].strip():
        while header_at < len(lines) - 1 and not lines[header_at].strip():
            del lines[header_at]
    return _checked("\n".join(lines), wanted)


def _block(lines: list[str], name: str) -> tuple[list[_Statement], int]:
    """The header of a user with its assignments, and the line of the header."""
    block = [s for s in _statements(lines) if len(s.table) == 2 and s.table[0] == "users"]
    block = [s for s in block if canonical_name(s.table[1]) == name]
    if not block or block[0].key is not None:
        raise UserFileError(
            f"user {name} has no header [users.{_key(name)}] of its own; write it as one first"
        )
    return block, block[0].first


def _values(entry: UserEntry) -> dict[str, str]:
    values: dict[str, str] = {}
    if entry.groups:
        values["groups"] = "[" + ", ".join(map(_quoted, entry.groups)) + "]"
    if not entry.enabled:
        values["enabled"] = "false"
    if entry.password is not None:
        values["password"] = _quoted(str(entry.password))
    if entry.nt_hash is not None:
        values["nt_hash"] = _quoted(entry.nt_hash)
    return values


def _checked(text: str, wanted: Mapping[str, UserEntry]) -> str:
    try:
        found = parse(text)
    except UserFileError as error:
        raise UserFileError(f"cannot be edited by a tool, edit it by hand: {error}") from None
    if found != wanted:
        raise UserFileError("cannot be edited by a tool without loss; edit it by hand")
    return text


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _quoted(name)


def _quoted(text: str) -> str:
    """A basic string of TOML; names have no control characters."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
