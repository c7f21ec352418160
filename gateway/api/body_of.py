"""Models of request bodies, made of the parameters of an operation."""

from collections.abc import Collection
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, create_model

from gateway.control.protocol import OPERATIONS, Parameter


class Given(BaseModel):
    """Base of request bodies: unknown fields are refused, and nothing is repeated in errors."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


def body_of(operation: str, *, but: Collection[str] = ()) -> type[BaseModel]:
    """A body with the parameters of an operation, without those that the path has."""
    found = OPERATIONS[operation]
    fields: dict[str, Any] = {
        one.name: _field(one) for one in found.parameters if one.name not in but
    }
    name = "".join(word.capitalize() for word in operation.split("-")) + "Body"
    model = create_model(name, __base__=Given, **fields)
    model.__doc__ = f"Arguments of `{operation}`."
    return model


def _field(one: Parameter) -> tuple[Any, Any]:
    bounds: dict[str, Any] = {}
    if one.kind is str:
        bounds["max_length"] = one.maximum
        if one.pattern is not None:
            bounds["pattern"] = f"^({one.pattern.pattern})$"
    elif one.kind is int:
        bounds |= {"ge": one.minimum, "le": one.maximum}
    kind: Any = one.kind
    hint: Any = Annotated[kind, Field(strict=True, description=one.allowed or None, **bounds)]
    if one.required:
        return hint, ...
    return (hint, one.default) if one.default is not None else (hint | None, None)


def given(body: BaseModel | None) -> dict[str, Any]:
    """The arguments in a body; none without one."""
    return {} if body is None else body.model_dump(exclude_none=True)
