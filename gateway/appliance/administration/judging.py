"""What administrators give, judged: names, documents, and the words for what is wrong."""

import re
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ValidationError

from gateway.config.administration import DeviceSection, UserSection
from gateway.config.explain import problems_of
from gateway.config.kinds import KINDS
from gateway.config.problem import ConfigError, Problem
from gateway.control.protocol import ControlError, ErrorCode, FieldError
from gateway.users.names import NameRefusedError, canonical_name

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
MAX_DEPTH = 8
"""Of tables within a document; the deepest section of the file has four."""


def check_name(kind: str, name: str) -> str:
    """The name as it is kept. Raises :class:`ControlError`."""
    if kind == "users":
        try:
            name = canonical_name(name)
        except NameRefusedError as error:
            raise ControlError(ErrorCode.INVALID, f"name: {error}", "name") from None
        if len(name) > 63:
            raise ControlError(ErrorCode.INVALID, "name: at most 63 characters", "name")
        return name
    if not _NAME.fullmatch(name):
        why = "name: not a name; use 1 to 63 letters, digits, - and _"
        raise ControlError(ErrorCode.INVALID, why, "name")
    return name


def check_depth(value: object, depth: int = 0) -> None:
    """Refuse what is nested deeper than anything that we know. Raises :class:`ControlError`."""
    if depth > MAX_DEPTH:
        why = f"document: nested deeper than {MAX_DEPTH} tables"
        raise ControlError(ErrorCode.INVALID, why, "document")
    if isinstance(value, dict):
        for one in value.values():
            check_depth(one, depth + 1)
    elif isinstance(value, list):
        for one in value:
            check_depth(one, depth + 1)


def check_model(kind: str, name: str, document: dict[str, object]) -> BaseModel:
    """The document as its section. Raises :class:`ControlError` with every fault."""
    model = KINDS[kind].model
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise invalid(kind, name, problems_of(error, Path(), model)) from None


def check_device(name: str, document: dict[str, object]) -> DeviceSection:
    """A device by itself."""
    found = check_model("devices", name, document)
    assert isinstance(found, DeviceSection)  # noqa: S101 - the kind says so
    return found


def check_user(name: str, document: dict[str, object]) -> UserSection:
    """A user by itself."""
    found = check_model("users", name, document)
    assert isinstance(found, UserSection)  # noqa: S101 - the kind says so
    return found


def refused(kind: str, name: str, error: ConfigError) -> ControlError:
    """A configuration that does not stand with the changed object."""
    return invalid(kind, name, error.problems)


def invalid(kind: str, name: str, problems: Sequence[Problem]) -> ControlError:
    """Every fault; fields of the object itself are named as in its document."""
    own = f"{kind}/{name}"
    found = []
    for problem in problems:
        field, whole = problem.key, problem
        if field == own or field.startswith(f"{own}."):
            field = field[len(own) + 1 :]
        elif "/" not in field and not problem.file.name:
            whole = Problem(Path(), _under(own, field), problem.why, problem.value)
        found.append(FieldError(str(whole), field or None))
    message = "\n".join(one.message for one in found)
    return ControlError(ErrorCode.INVALID, message, found[0].field, errors=found)


def _under(own: str, field: str) -> str:
    return f"{own}.{field}" if field else own
