"""What the OpenAPI document says of every route alike."""

from typing import Any, Final

from gateway.api.parameters import refusals
from gateway.api.problems import MEDIA_TYPE

_PROBLEM: Final = {"$ref": "#/components/schemas/Problem"}
_EVERYWHERE: Final = (400, 421, 422, 429, 500, 502, 503)
_KEY: Final[dict[str, Any]] = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "The same request with the same key within 24 hours is carried out once and"
    " answered alike.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 128, "pattern": "^[!-~]+$"},
}
_METHODS: Final = frozenset({"get", "put", "post", "delete", "patch"})


def completed(document: dict[str, Any]) -> dict[str, Any]:
    """The document with the refusals that the guard and the core may answer anywhere."""
    for path in document["paths"].values():
        for method, operation in path.items():
            if method in _METHODS:
                _complete(method, operation)
    return document


def _complete(method: str, operation: dict[str, Any]) -> None:
    statuses = list(_EVERYWHERE)
    is_open = operation.get("x-role") == "nobody"
    if not is_open:
        statuses += [401, 403]
    if method != "get":
        statuses += [403, 408, 413]
        operation.setdefault("parameters", []).append(_KEY)
    responses = operation["responses"]
    for status in sorted(set(statuses)):
        said = refusals(status)[status]
        given = responses.setdefault(str(status), {})
        given.setdefault("description", said["description"])
    for status, response in responses.items():
        if int(status) >= 400 and not _is_page(response):
            response["content"] = {MEDIA_TYPE: {"schema": _PROBLEM}}


def _is_page(response: dict[str, Any]) -> bool:
    return "text/html" in response.get("content", {})
