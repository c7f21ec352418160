"""Errors as problem documents (RFC 9457)."""

import logging
import math
from collections.abc import Mapping, Sequence
from http import HTTPStatus

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.responses import JSONResponse

from gateway.control.client import ControlUnavailableError
from gateway.control.protocol import ControlError, ErrorCode

MEDIA_TYPE = "application/problem+json"
MAX_ERRORS = 100

_log = logging.getLogger("gateway.api")
_STATUS = {
    ErrorCode.INVALID: 422,
    ErrorCode.NOT_FOUND: 404,
    ErrorCode.DENIED: 403,
    ErrorCode.REFUSED: 409,
    ErrorCode.BUSY: 503,
    ErrorCode.UNKNOWN_OPERATION: 502,
    ErrorCode.INTERNAL: 502,
    ErrorCode.UNAUTHENTICATED: 401,
    ErrorCode.TOO_MANY: 429,
    ErrorCode.STALE: 412,
}
_KINDS = {400: "malformed", 401: "unauthorized", 404: "not-found", 405: "method-not-allowed"}


class PreconditionMissingError(Exception):
    """A change without If-Match."""


class ProblemResponse(JSONResponse):
    """A response with the media type of problems."""

    media_type = MEDIA_TYPE


def problem(
    status: int,
    kind: str,
    detail: str,
    *,
    field: str | None = None,
    errors: Sequence[Mapping[str, str | None]] = (),
    headers: Mapping[str, str] | None = None,
) -> ProblemResponse:
    """The response for a problem; ``kind`` is its stable name."""
    body: dict[str, object] = {
        "type": f"urn:gateway:problem:{kind}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
    }
    if field is not None:
        body["field"] = field
    if errors:
        body["errors"] = [dict(one) for one in errors[:MAX_ERRORS]]
    return ProblemResponse(body, status_code=status, headers=dict(headers or {}))


def unauthorized(detail: str, *, shown: bool) -> ProblemResponse:
    """Nobody in particular asks; ``shown``: with a credential, but a wrong one."""
    error = ', error="invalid_token"' if shown else ""
    challenge = {"WWW-Authenticate": f'Bearer realm="gateway"{error}'}
    return problem(401, "unauthorized", detail, headers=challenge)


def of_core(error: ControlError) -> ProblemResponse:
    """What the core refused."""
    code = str(error.code)
    status = _STATUS[ErrorCode(code)] if code in _STATUS else 502
    if status == 401:
        return unauthorized(error.message, shown=True)
    headers = {}
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(math.ceil(error.retry_after_s))
    elif status == 503:
        headers["Retry-After"] = "1"
    several = [{"field": one.field, "detail": one.message} for one in error.errors]
    return problem(status, code, error.message, field=error.field, errors=several, headers=headers)


def add_problems(app: FastAPI) -> None:
    """Answer every error with a problem."""

    @app.exception_handler(StarletteHTTPException)
    async def of_http(_request: Request, error: StarletteHTTPException) -> Response:
        kind = _KINDS.get(error.status_code, "refused")
        return problem(error.status_code, kind, str(error.detail), headers=error.headers)

    @app.exception_handler(RequestValidationError)
    async def of_request(_request: Request, error: RequestValidationError) -> Response:
        found = [
            {"field": ".".join(str(part) for part in one["loc"][1:]) or None, "detail": one["msg"]}
            for one in error.errors()
        ]
        first = found[0]
        where = first["field"]
        detail = f"{where}: {first['detail']}" if where else str(first["detail"])
        return problem(422, "invalid", detail, field=where, errors=found)

    @app.exception_handler(ControlError)
    async def of_the_core(_request: Request, error: ControlError) -> Response:
        return of_core(error)

    @app.exception_handler(PreconditionMissingError)
    async def of_no_version(_request: Request, _error: PreconditionMissingError) -> Response:
        text = "Say which version is meant: send the ETag of what was read as If-Match, or *."
        return problem(428, "precondition-required", text, field="If-Match")

    @app.exception_handler(ControlUnavailableError)
    async def of_silence(_request: Request, error: ControlUnavailableError) -> Response:
        return problem(503, "core-down", str(error), headers={"Retry-After": "1"})

    @app.exception_handler(Exception)
    async def of_us(_request: Request, error: Exception) -> Response:
        _log.error("API: %s: %s", type(error).__name__, str(error)[:200])
        return problem(500, "internal", "A fault of the gateway's; its log has more.")
