"""Validation errors turned into problems that name key, value and what is allowed."""

import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from gateway.config.problem import Problem, shown

SECRET_KEYS = frozenset({"psk", "password", "key", "keys", "visitor_keys", "secret", "url"})
"""Keys whose values are never shown, whatever else is wrong with them."""

_TYPES = {
    "bool_type": "give true or false without quotes",
    "string_type": "give a text in quotes",
    "tuple_type": "give a list in brackets",
    "list_type": "give a list in brackets",
    "dict_type": "give tables, each with a name",
    "model_type": "give a table",
    "model_attributes_type": "give a table",
    "finite_number": "give a finite number",
    "int_from_float": "give a whole number",
}

Location = Sequence[int | str]


def dotted(location: Location) -> str:
    """``connections.staff.dns[0]`` from its parts."""
    text = ""
    for part in location:
        if isinstance(part, int):
            text += f"[{part}]"
        elif part != "[key]":
            name = part if re.fullmatch(r"[A-Za-z0-9_-]{1,64}", part) else shown(part)
            text += f".{name}" if text else name
    return text


def _inside(annotation: object, part: int | str) -> object:
    """What a part of a location leads to below ``annotation``."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _inside(get_args(annotation)[0], part)
    if origin in (Union, UnionType):
        return _inside(get_args(annotation)[0], part)
    if origin is dict:
        return get_args(annotation)[1]
    if origin is tuple:
        return get_args(annotation)[0]
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        field = annotation.model_fields.get(str(part))
        return field.annotation if field else None
    return None


def _keys_at(model: type[BaseModel], location: Location) -> list[str]:
    current: object = model
    for part in location:
        current = _inside(current, part)
    if isinstance(current, type) and issubclass(current, BaseModel):
        return list(current.model_fields)
    return []


def _bounds(model: type[BaseModel], location: Location) -> tuple[Any, Any]:
    """The lowest and highest number a field takes, None where there is no bound."""
    parent: object = model
    for part in location[:-1]:
        parent = _inside(parent, part)
    low = high = None
    if isinstance(parent, type) and issubclass(parent, BaseModel):
        field = parent.model_fields.get(str(location[-1]))
        for item in field.metadata if field else ():
            low = getattr(item, "ge", low)
            high = getattr(item, "le", high)
    return low, high


def _unknown_key(model: type[BaseModel], location: Location) -> str:
    known = _keys_at(model, location[:-1])
    close = difflib.get_close_matches(str(location[-1]), known, n=1)
    if close:
        return f'no such key; did you mean "{close[0]}"?'
    return f"no such key; choose from: {', '.join(known)}"


def _range(model: type[BaseModel], error: ErrorDetails) -> str:
    low, high = _bounds(model, error["loc"])
    if low is not None and high is not None:
        return f"out of range; allowed is {low} to {high}"
    context: Mapping[str, object] = error.get("ctx", {})
    if "ge" in context:
        return f"too small; allowed is {context['ge']} or more"
    return f"too large; allowed is {context.get('le', context.get('lt'))} or less"


def _why(model: type[BaseModel], error: ErrorDetails) -> str:
    kind = error["type"]
    context: Mapping[str, object] = error.get("ctx", {})
    match kind:
        case "refused":
            return str(context["why"])
        case "extra_forbidden":
            return _unknown_key(model, error["loc"])
        case "missing":
            return "is required but missing"
        case "literal_error":
            allowed = str(context["expected"]).replace("'", "").replace(" or ", ", ")
            return f"not one of the choices; choose one of: {allowed}"
        case "greater_than_equal" | "less_than_equal" | "greater_than" | "less_than":
            return _range(model, error)
        case "too_short" | "string_too_short":
            return "is empty; give at least one"
        case "string_too_long":
            return f"too long; give at most {context['max_length']} characters"
        case _:
            return _TYPES.get(kind, error["msg"])


def _value(error: ErrorDetails) -> str | None:
    if error["type"] in ("missing", "extra_forbidden"):
        return None  # the value of a misspelt key may be a secret
    if SECRET_KEYS & set(map(str, error["loc"])):
        return None
    if error["type"].startswith("model_") and not isinstance(error["input"], int | float):
        return None  # a text or list in place of a table may hold one as well
    return shown(error["input"])


def problems_of(error: ValidationError, file: Path, model: type[BaseModel]) -> list[Problem]:
    """Every fault that validation found, in the order of the file's keys."""
    details = error.errors(include_url=False)
    return [
        Problem(file, dotted(detail["loc"]), _why(model, detail), _value(detail))
        for detail in details
        if not _follows(detail, details)
    ]


def _follows(detail: ErrorDetails, others: Sequence[ErrorDetails]) -> bool:
    """Whether a list is too short only because its items were refused."""
    here = detail["loc"]
    return detail["type"] == "too_short" and any(
        len(other["loc"]) > len(here) and other["loc"][: len(here)] == here for other in others
    )
