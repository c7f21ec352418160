"""From one POST to a device that connects: CA, certificates, bundles and their links."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from fastapi import Path as PathParameter
from starlette.responses import PlainTextResponse

from gateway.api.body_of import body_of, given
from gateway.api.caller import Core
from gateway.api.model_of import model_of, page_of
from gateway.api.models import Answer
from gateway.api.parameters import NAME_PATTERN, Cursor, Limit, answers, as_it_is, needs
from gateway.control.protocol import DEFAULT_PAGE
from gateway.control.provisioning_operations import (
    BundleView,
    CaView,
    CertificateView,
    CrlView,
    LinkView,
)

_PROVISION = body_of("provision")
_CREATE = body_of("ca-create")
_IMPORT = body_of("ca-import")
_REVOKE = body_of("certificate-revoke", but=("serial",))
Serial = Annotated[
    str, PathParameter(pattern="^[0-9a-f]{1,40}$", description="Serial number, hexadecimal.")
]


class LinkList(Answer):
    """Links."""

    items: list[model_of(LinkView)]  # type: ignore[valid-type]


def provisioning_routes(core: Core, authorized: Any) -> APIRouter:  # noqa: ANN401 - FastAPI's type
    """``/provision``, ``/ca``, ``/certificates``, ``/crl`` and ``/links``."""
    router = APIRouter(tags=["provisioning"], dependencies=[authorized])
    _add_provision(router, core)
    _add_authority(router, core)
    _add_certificates(router, core)
    return router


def _add_provision(router: APIRouter, core: Core) -> None:
    @router.post(
        "/provision",
        responses=answers(model_of(BundleView), 404, 409, 422, success=201),
        response_model=None,
        status_code=201,
        openapi_extra=needs("provision"),
        summary="Make a device: its object, its certificate, and a link to its bundle",
    )
    async def provision(body: _PROVISION) -> Response:  # type: ignore[valid-type]
        """Give the link (or the QR code) to the device's user: it works once."""
        return as_it_is(await core.call("provision", **given(body)), 201)

    @router.get(
        "/links",
        responses=answers(LinkList, 422),
        response_model=None,
        openapi_extra=needs("links"),
        summary="Links that wait, were taken or expired",
    )
    async def links() -> Response:
        return as_it_is(await core.call("links"))


def _add_authority(router: APIRouter, core: Core) -> None:
    @router.get(
        "/ca",
        responses=answers(model_of(CaView), 409, 422),
        response_model=None,
        openapi_extra=needs("ca"),
        summary="The CAs, the gateway's certificate and the state of the CRL",
    )
    async def authority() -> Response:
        return as_it_is(await core.call("ca"))

    @router.post(
        "/ca",
        responses=answers(model_of(CaView), 409, 422, success=201),
        response_model=None,
        status_code=201,
        openapi_extra=needs("ca-create"),
        summary="Make a CA",
    )
    async def ca_create(body: _CREATE) -> Response:  # type: ignore[valid-type]
        return as_it_is(await core.call("ca-create", **given(body)), 201)

    @router.post(
        "/ca/import",
        responses=answers(model_of(CaView), 409, 422, success=201),
        response_model=None,
        status_code=201,
        openapi_extra=needs("ca-import"),
        summary="Use a CA of others",
    )
    async def ca_import(body: _IMPORT) -> Response:  # type: ignore[valid-type]
        return as_it_is(await core.call("ca-import", **given(body)), 201)

    @router.get(
        "/crl",
        responses=answers(model_of(CrlView), 404, 409, 422),
        response_model=None,
        openapi_extra=needs("crl"),
        summary="The certificates that are revoked, as a signed list",
    )
    async def crl() -> Response:
        return as_it_is(await core.call("crl"))

    @router.get(
        "/crl.pem",
        responses={
            200: {"description": "The CRL.", "content": {"application/x-pem-file": {}}},
            **answers(None, 404, 409, 422, success=204),
        },
        response_model=None,
        openapi_extra=needs("crl"),
        summary="The signed list of revoked certificates as a file",
    )
    async def crl_file() -> Response:
        found = await core.call("crl")
        return PlainTextResponse(str(found.get("pem", "")), media_type="application/x-pem-file")


def _add_certificates(router: APIRouter, core: Core) -> None:
    @router.get(
        "/certificates",
        responses=answers(page_of(model_of(CertificateView)), 409, 422),
        response_model=None,
        openapi_extra=needs("certificates"),
        summary="Certificates, the newest first",
    )
    async def certificates(
        device: Annotated[str | None, Query(pattern=NAME_PATTERN)] = None,
        purpose: Annotated[str | None, Query(pattern="^(ca|gateway|device)$")] = None,
        revoked: Annotated[bool | None, Query()] = None,
        limit: Limit = DEFAULT_PAGE,
        cursor: Cursor = None,
    ) -> Response:
        found = await core.call(
            "certificates",
            device=device,
            purpose=purpose,
            revoked=revoked,
            limit=limit,
            cursor=cursor,
        )
        return as_it_is(found)

    @router.post(
        "/certificates/{serial}/revoke",
        responses=answers(None, 404, 409, 422),
        response_model=None,
        openapi_extra=needs("certificate-revoke"),
        summary="Revoke a certificate for good",
    )
    async def revoke(serial: Serial, body: _REVOKE | None = None) -> Response:  # type: ignore[valid-type]
        return as_it_is(await core.call("certificate-revoke", serial=serial, **given(body)))
