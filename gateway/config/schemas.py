"""JSON schemas of the sections, for forms and for who writes documents by program."""

import ast
import inspect
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaWarningKind

from gateway.config.problem import span_text

_BOUNDS = {"ge": "minimum", "le": "maximum"}


class _Schemas(GenerateJsonSchema):
    """Defaults as the file spells them."""

    def encode_default(self, dft: Any) -> Any:  # noqa: ANN401 - of any field
        if isinstance(dft, range):
            return span_text(dft)
        if isinstance(dft, tuple) and dft and all(isinstance(one, range) for one in dft):
            return [span_text(one) for one in dft]
        return super().encode_default(dft)

    def emit_warning(self, kind: JsonSchemaWarningKind, detail: str) -> None:
        """A default that cannot be written is left out; nobody has to be told."""


def schema_of(model: type[BaseModel]) -> dict[str, object]:
    """The JSON schema (draft 2020-12) of what a section takes, its fields explained."""
    schema = model.model_json_schema(schema_generator=_Schemas)
    inherited: dict[str, str] = {}
    for base in reversed(model.__mro__):
        if issubclass(base, BaseModel):
            file = inspect.getsourcefile(base) or ""
            inherited |= _explanations(file).get(base.__name__, {})
    for name, properties in _objects(schema):
        said = _explanations(inspect.getsourcefile(model) or "").get(name, {})
        said = inherited | said if name == model.__name__ else said
        for field, text in said.items():
            if isinstance(properties.get(field), dict):
                properties[field].setdefault("description", text)
    found = _with_bounds(schema)
    assert isinstance(found, dict)  # noqa: S101 - it was one
    return found


def _objects(schema: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Name and properties of the schema and of what it refers to."""
    found = [(str(schema.get("title")), schema.get("properties", {}))]
    for name, one in schema.get("$defs", {}).items():
        found.append((name, one.get("properties", {})))
    return found


def _with_bounds(value: object) -> object:
    """Bounds behind a validator of ours keep pydantic's names; they are those of JSON schema."""
    if isinstance(value, dict):
        return {
            _BOUNDS.get(key, key) if isinstance(one, int | float) else key: _with_bounds(one)
            for key, one in value.items()
        }
    return [_with_bounds(one) for one in value] if isinstance(value, list) else value


@cache
def _explanations(file: str) -> dict[str, dict[str, str]]:
    """What stands below the fields of each class of a module; empty without its source."""
    try:
        tree = ast.parse(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError, SyntaxError):
        return {}
    found: dict[str, dict[str, str]] = {}
    for node in tree.body:
        if not isinstance(node, ast.ClassDef):
            continue
        said = found[node.name] = {}
        for field, text in zip(node.body, node.body[1:], strict=False):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(field.target, ast.Name)
                and isinstance(text, ast.Expr)
                and isinstance(text.value, ast.Constant)
                and isinstance(text.value.value, str)
            ):
                said[field.target.id] = " ".join(text.value.value.replace("``", "").split())
    return found
