"""Reading ``gateway.toml``."""

import re
import tomllib
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from gateway.config.document import Config
from gateway.config.explain import problems_of
from gateway.config.problem import ConfigError, Problem

if TYPE_CHECKING:
    from gateway.config.kinds import Stored

MAX_OCTETS = 4 * 1024 * 1024
"""A larger file is surely not a configuration."""


_WHERE = 'name one with --config, or write one from "gateway config example"'


def read_tables(path: Path, *, where: str = _WHERE) -> dict[str, object]:
    """The tables of a TOML file. ``where`` tells how to get such a file when there is none.

    Raises :class:`ConfigError`: not readable, too large, not UTF-8 or not TOML.
    """
    return _parse(path, _read(path, where))


def _read(path: Path, where: str) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_OCTETS + 1)
    except FileNotFoundError:
        why = f"no such file: {path}; {where}"
        raise ConfigError([Problem(Path(), "", why)]) from None
    except IsADirectoryError:
        raise ConfigError([Problem(path, "", "is a directory; give a file")]) from None
    except PermissionError:
        why = "not readable by this user; run as root or change its owner"
        raise ConfigError([Problem(path, "", why)]) from None
    except (OSError, ValueError) as error:
        raise ConfigError([Problem(path, "", f"cannot be read: {error}")]) from None
    if len(data) > MAX_OCTETS:
        raise ConfigError([Problem(path, "", f"larger than {MAX_OCTETS} octets")])
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        why = f"line {line}, column {column}: not UTF-8; save the file as UTF-8"
        raise ConfigError([Problem(path, "", why)]) from None


def _parse(path: Path, text: str) -> dict[str, object]:
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError([Problem(path, "", _syntax(str(error), text))]) from None


def _syntax(message: str, text: str) -> str:
    """Line and column first; the parser's message never holds values, so no secret either."""
    found = re.search(r" \(at (?:line (\d+), column (\d+)|end of document)\)", message)
    what = re.sub(r" \(at .*\)$", "", message)
    what = what[:1].lower() + what[1:]
    if found and found[1]:
        line, column = found[1], found[2]
    elif found:
        line, column = str(text.count("\n") + 1), str(len(text) - text.rfind("\n"))
    else:
        return f"not valid TOML: {what}"
    return f"line {line}, column {column}: not valid TOML: {what}"


def load(
    path: Path,
    *,
    with_files: bool = True,
    objects: "Iterable[Stored]" = (),
    tables: Mapping[str, object] | None = None,
    required: Collection[tuple[str, str]] | None = None,
) -> Config:
    """Read, validate and cross-check a configuration.

    ``with_files`` also reads the certificates, keys and secrets it names and checks that
    they fit; without it only the text is judged, for a machine that is not the gateway.
    ``objects`` are merged with the tables of the file, which counts where both have a name.
    ``tables`` are those of the file when it was read before. Objects that do not fit are left out
    with a warning and listed in :attr:`Config.broken`, except those that are ``required`` (None:
    all of them). Raises :class:`ConfigError` with every problem found.
    """
    from gateway.config.merging import merge  # noqa: PLC0415 - costs what checks cost

    found = read_tables(path) if tables is None else tables
    return merge(
        found,
        objects,
        lambda merged: _judge(path, merged, with_files=with_files),
        required=required,
    )


def _judge(path: Path, tables: Mapping[str, object], *, with_files: bool) -> Config:
    try:
        config = Config.model_validate(tables, context={"directory": path.absolute().parent})
    except ValidationError as error:
        raise ConfigError(problems_of(error, path, Config)) from None
    from gateway.config.checks import check_text  # noqa: PLC0415 - costs cryptography

    findings = check_text(config, path)
    if with_files and not findings.problems:
        from gateway.config.credential_checks import check_files  # noqa: PLC0415

        findings.add(check_files(config, path))
    if findings.problems:
        raise ConfigError(findings.problems)
    config._path = path  # noqa: SLF001 - private to this package, set once
    config._warnings = tuple(findings.warnings)  # noqa: SLF001
    return config
