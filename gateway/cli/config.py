"""``gateway config``: the example, and what is in force."""

import json
from importlib import resources
from pathlib import Path

from pydantic import BaseModel, SecretStr

from gateway.cli import exits
from gateway.config import Config, load
from gateway.config.problem import shown, span_text

HIDDEN = "(hidden)"


def example_text() -> str:
    """The annotated example that ships with the package."""
    return (resources.files("gateway.config") / "example.toml").read_text("utf-8")


def example() -> int:
    """Print the example."""
    print(example_text(), end="")
    return exits.OK


def plain(value: object) -> object:
    """A value as JSON has it, secrets hidden."""
    match value:
        case SecretStr():
            return HIDDEN
        case bytes():
            return value.hex(":")
        case BaseModel():
            return {name: plain(getattr(value, name)) for name in type(value).model_fields}
        case dict():
            return {str(key): plain(inner) for key, inner in value.items()}
        case tuple() | list():
            return [plain(item) for item in value]
        case range():
            return span_text(value)
        case None | bool() | int() | float() | str():
            return value
        case _:
            return str(value)


def redacted(config: Config) -> dict[str, object]:
    """Every setting in force, defaults included, secrets hidden."""
    found = plain(config)
    return found if isinstance(found, dict) else {}


def as_toml(tables: dict[str, object], prefix: str = "") -> str:
    """Settings as TOML; those without a value are comments, hidden ones too."""
    lines, inner = [], []
    for key, value in tables.items():
        if isinstance(value, dict):
            text = as_toml(value, f"{prefix}{key}.")
            inner.append(text if text.startswith("[") else f"[{prefix}{key}]\n{text}")
        elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
            tables_of = (as_toml(item, f"{prefix}{key}.") for item in value)
            inner += [f"[[{prefix}{key}]]\n{text}" for text in tables_of]
        elif value is None or value == HIDDEN:
            lines.append(f"# {key}: {'not set' if value is None else 'hidden'}")
        elif isinstance(value, list):
            lines.append(f"{key} = [{', '.join(_scalar(item) for item in value)}]")
        else:
            lines.append(f"{key} = {_scalar(value)}")
    return "\n".join([*lines, *(["", *inner] if inner and lines else inner)]) + "\n"


def _scalar(value: object) -> str:
    return json.dumps(value) if isinstance(value, str) else shown(value)


def show(path: Path, *, as_json: bool) -> int:
    """Print what is in force."""
    tables = redacted(load(path, with_files=False))
    print(json.dumps(tables, indent=2) if as_json else as_toml(tables), end="\n" if as_json else "")
    return exits.OK
