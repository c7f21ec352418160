"""What several routes of the API take and refuse."""

from collections.abc import Mapping
from typing import Annotated, Any, Final

from fastapi import Header, Query
from fastapi import Path as PathParameter
from pydantic import BaseModel
from starlette.responses import JSONResponse

from gateway.api.models import Problem
from gateway.api.problems import MEDIA_TYPE, PreconditionMissingError
from gateway.control.protocol import MAX_PAGE, OPERATIONS, ControlError, ErrorCode

NAME_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"
OBJECT_NAME_PATTERN: Final = r"^[^\x00-\x1f\x7f/]{1,63}$"
TEXT_PATTERN: Final = r"^[^\x00-\x1f\x7f]{1,253}$"
TIME_PATTERN: Final = (
    r"^[0-9]{4}-[0-9]{2}-[0-9]{2}"
    r"([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?(Z|[+-][0-9]{2}:[0-9]{2})?)?$"
)
DEVICE_PATTERN: Final = r"^(~[0-9a-f]{16}|[^\x00-\x1f\x7f/]{1,63})$"

Limit = Annotated[int, Query(ge=1, le=MAX_PAGE, description="Most items on a page.")]
Cursor = Annotated[
    str | None,
    Query(pattern=r"^[A-Za-z0-9_=-]{1,200}$", description="`next` of the page before."),
]
DryRun = Annotated[
    bool, Query(description="Change nothing; say what would change and which sessions would end.")
]
IfMatch = Annotated[
    str | None,
    Header(
        alias="If-Match",
        max_length=64,
        description="ETag of what was read, or `*` for whatever is there.",
    ),
]
DeviceName = Annotated[
    str, PathParameter(pattern=DEVICE_PATTERN, description="A device's name, as in the list.")
]

_WORDS = {
    400: "The request cannot be read.",
    401: "No credential, or not a valid one.",
    403: "The role does not suffice, or a browser's request lacks the CSRF token.",
    404: "There is none of that name or id.",
    408: "The body did not come in time.",
    409: "The gateway will not; `detail` says why.",
    412: "It has changed since it was read: read it again.",
    413: "The body is too large.",
    421: "The gateway does not answer to that host name.",
    422: "Something that was given is not allowed; `field` names it.",
    428: "Say which version is meant: send `If-Match`.",
    429: "Too many attempts; `Retry-After` says when to come again.",
    500: "A fault of the gateway's.",
    502: "A fault of the gateway's.",
    503: "The core does not answer, or is busy; `detail` says what to do.",
}


def refusals(
    *statuses: int, words: Mapping[int, str] | None = None
) -> dict[int | str, dict[str, Any]]:
    """The refusals of a route for the OpenAPI document; ``words`` replace the usual ones."""
    said = {**_WORDS, **(words or {})}
    return {
        status: {"description": said[status], "model": Problem, "content": {MEDIA_TYPE: {}}}
        for status in statuses
    }


def answers(
    model: type[BaseModel] | None, *statuses: int, success: int = 200, words: str = "Done."
) -> dict[int | str, dict[str, Any]]:
    """What a route answers that hands the core's result on as it is."""
    good: dict[str, Any] = {"description": words}
    if model is not None:
        good["model"] = model
    return {success: good, **refusals(*statuses)}


def needs(operation: str) -> dict[str, Any]:
    """What the OpenAPI document says on who may use a route: the core decides, by the operation."""
    return {"x-operation": operation, "x-role": OPERATIONS[operation].role.words}


def as_it_is(
    result: object, status: int = 200, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """The core's result as the answer."""
    return JSONResponse(result, status_code=status, headers=dict(headers or {}))


def etag(version: object) -> str:
    """The entity tag of a version."""
    return f'"{version}"'


def version_of(if_match: str | None) -> int | None:
    """The version that a change is meant for, None for any.

    Raises :class:`ControlError` for none at all (``precondition``), and for one that cannot be.
    """
    if if_match is None:
        raise PreconditionMissingError
    given = if_match.strip()
    if given == "*":
        return None
    number = given.removeprefix('"').removesuffix('"')
    if given == f'"{number}"' and number.isascii() and number.isdigit() and len(number) <= 9:
        return max(int(number), 0) or 2**31 - 1
    if given.startswith("W/") or given == f'"{number}"':
        text = "If-Match: is no version of it; read it again"
        raise ControlError(ErrorCode.STALE, text, "If-Match")
    raise ControlError(
        ErrorCode.INVALID, 'If-Match: give the ETag of what was read, such as "7", or *', "If-Match"
    )
