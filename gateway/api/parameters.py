"""What several routes of the API take and refuse."""

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import Query

from gateway.api.models import Problem
from gateway.api.problems import MEDIA_TYPE
from gateway.control.protocol import MAX_PAGE

Limit = Annotated[int, Query(ge=1, le=MAX_PAGE, description="Most items on a page.")]
Cursor = Annotated[
    str | None, Query(pattern=r"^[0-9a-f_]{1,40}$", description="`next` of the page before.")
]

_WORDS = {
    401: "No bearer token, or not the right one.",
    403: "The core does not let the API do this.",
    404: "There is no such security association.",
    422: "A parameter is not allowed; `field` names it.",
    503: "The core does not answer; `detail` says what to do.",
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
