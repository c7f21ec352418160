"""Models of the OpenAPI document, made of what the core says it answers."""

import types
import typing
from functools import cache
from typing import Any, Union

from pydantic import BaseModel, Field, create_model

from gateway.api.models import Answer


@cache
def model_of(shape: type) -> type[BaseModel]:
    """A model with the fields of a TypedDict, whose docstring it keeps."""
    hints = typing.get_type_hints(shape)
    fields: dict[str, Any] = {}
    for name, hint in hints.items():
        if hasattr(BaseModel, name):  # it would hide a method of models
            fields[f"{name}_"] = (_field(hint), Field(alias=name))
        else:
            fields[name] = (_field(hint), ...)
    model = create_model(shape.__name__, __base__=Answer, **fields)
    model.__doc__ = shape.__doc__
    return model


def _field(hint: Any) -> Any:  # noqa: ANN401 - a type in whatever form it was written
    origin = typing.get_origin(hint)
    if origin in {types.UnionType, Union}:
        return Union[tuple(_field(one) for one in typing.get_args(hint))]  # noqa: UP007
    if origin is list:
        return list[_field(typing.get_args(hint)[0])]  # type: ignore[misc]
    if origin is dict:
        key, value = typing.get_args(hint)
        return dict[key, _field(value)]  # type: ignore[valid-type, misc]
    if hint is object:
        return Any
    return model_of(hint) if typing.is_typeddict(hint) else hint


def page_of(item: type[BaseModel]) -> type[BaseModel]:
    """A page of a list of ``item``."""
    fields: dict[str, Any] = {
        "items": (list[item], ...),  # type: ignore[valid-type]
        "next": (str | None, None),
        "total": (int, ...),
    }
    model = create_model(f"{item.__name__}Page", __base__=Answer, **fields)
    model.__doc__ = "A page of a list: give `next` as `cursor` for the following one."
    return model
