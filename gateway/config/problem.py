"""What is wrong in a configuration file, in the administrator's words."""

import json
from dataclasses import dataclass
from pathlib import Path

_SHOWN = 80


def span_text(span: range) -> str:
    """A range of whole numbers as the file spells it."""
    return f"{span.start}-{span.stop - 1}" if len(span) > 1 else str(span.start)


def shown(value: object) -> str:
    """A value as the file could spell it, short and on one line; tables are not spelled out."""
    match value:
        case dict():
            return "a table"
        case bool():
            return "true" if value else "false"
        case str():
            text = json.dumps(value, ensure_ascii=False)
        case list() | tuple():
            text = "[" + ", ".join(shown(item) for item in value) + "]"
        case int() | float():
            text = str(value)
        case range():
            text = json.dumps(span_text(value))
        case _:
            text = json.dumps(str(value), ensure_ascii=False)
    text = "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault, or one warning, of a configuration file."""

    file: Path
    key: str
    """Dotted path of the key, empty when the file as a whole is meant."""
    why: str
    """What is wrong with it and what is allowed."""
    value: str | None = None
    """The value given as text, None when there is none or when it is secret."""

    def __str__(self) -> str:
        where = f"{self.file.name}: " if self.file.name else ""
        if not self.key:
            return f"{where}{self.why}"
        given = f" = {self.value}" if self.value is not None else ""
        return f"{where}{self.key}{given}: {self.why}"


class ConfigError(Exception):
    """The configuration cannot be used; ``problems`` holds every reason found, at least one."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems
