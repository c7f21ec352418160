"""The API of NAR servers: their clients, what these have, and who held what when."""

from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi import Path as PathParameter

from gateway.api.caller import Core
from gateway.api.models_nar import NarAuditPage, NarClientPage, NarLeasePage
from gateway.api.parameters import Cursor, Limit, needs, refusals
from gateway.control.nar_operations import NAR_LEASE_ID
from gateway.control.protocol import DEFAULT_PAGE

_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"
_ADDRESS = r"^[0-9]{1,3}(\.[0-9]{1,3}){3}$"
_TEXT = r"^[^\x00-\x1f\x7f]{1,253}$"
_PROTOCOL = r"^(tcp|udp|icmp|esp|ah|ip-ip|gre)$"
_VALUE = r"^([0-9]{1,10}|0[xX][0-9A-Fa-f]{1,8}|[0-9]{1,3}(\.[0-9]{1,3}){3})$"

Server = Annotated[
    str | None, Query(pattern=_NAME, description="Only those of this NAR server, by name.")
]
Client = Annotated[
    str | None, Query(pattern=_ADDRESS, description="Only those of the client at this address.")
]
User = Annotated[str | None, Query(pattern=_TEXT, description="Only those of this user.")]
Kind = Annotated[str | None, Query(pattern=_PROTOCOL, description="Only those of this protocol.")]
Lent = Annotated[
    str | None, Query(pattern=_ADDRESS, description="Only those of this address outside.")
]
Value = Annotated[
    str | None,
    Query(
        pattern=_VALUE,
        description="Only this port, identifier, SPI (decimal or 0x) or inner address.",
    ),
]
At = Annotated[
    str | None,
    Query(
        max_length=35,
        description="Only what was held at this time, such as `2026-01-31T12:00:00Z`.",
    ),
]
_NO_CLIENT = {404: "Nobody at this address has anything."}
_NO_LEASE = {404: "There is no such lease."}
_NO_AUDIT = {409: "Nothing can be read: no NAR server, its audit is off, or the disk is broken."}


def nar_routes(core: Core, authorized: Any) -> APIRouter:  # noqa: ANN401 - FastAPI's type
    """Everything below ``/nar``."""
    router = APIRouter(prefix="/nar", tags=["address reuse"], dependencies=[authorized])
    _add_clients(router, core)
    _add_mappings(router, core)
    _add_audit(router, core)
    return router


def _add_clients(router: APIRouter, core: Core) -> None:
    @router.get(
        "/clients",
        response_model=NarClientPage,
        responses=refusals(401, 422, 503),
        openapi_extra=needs("nar-clients"),
        summary="NAR clients: who has parts of our addresses",
    )
    async def nar_clients(
        server: Server = None,
        client: Client = None,
        user: User = None,
        limit: Limit = DEFAULT_PAGE,
        cursor: Cursor = None,
    ) -> object:
        return await core.call(
            "nar-clients", server=server, client=client, user=user, limit=limit, cursor=cursor
        )

    @router.delete(
        "/clients/{client}",
        status_code=204,
        responses=refusals(401, 403, 404, 422, 503, words=_NO_CLIENT),
        openapi_extra=needs("nar-end-client"),
        summary="End everything that a client has",
    )
    async def end_nar_client(
        client: Annotated[
            str, PathParameter(pattern=_ADDRESS, description="The client's own address.")
        ],
        server: Server = None,
    ) -> None:
        """Its sessions, leases and control connections end; it may negotiate again."""
        await core.call("nar-end-client", client=client, server=server)


def _add_mappings(router: APIRouter, core: Core) -> None:
    @router.get(
        "/mappings",
        response_model=NarLeasePage,
        responses=refusals(401, 422, 503),
        openapi_extra=needs("nar-mappings"),
        summary="Leases: what clients have of our addresses",
    )
    async def nar_mappings(  # noqa: PLR0917 - one filter each
        server: Server = None,
        client: Client = None,
        user: User = None,
        protocol: Kind = None,
        address: Lent = None,
        value: Value = None,
        limit: Limit = DEFAULT_PAGE,
        cursor: Cursor = None,
    ) -> object:
        return await core.call(
            "nar-mappings",
            server=server,
            client=client,
            user=user,
            protocol=protocol,
            address=address,
            value=value,
            limit=limit,
            cursor=cursor,
        )

    @router.delete(
        "/mappings/{lease}",
        status_code=204,
        responses=refusals(401, 403, 404, 422, 503, words=_NO_LEASE),
        openapi_extra=needs("nar-end-lease"),
        summary="End one lease",
    )
    async def end_nar_lease(
        lease: Annotated[
            str, PathParameter(pattern=f"^{NAR_LEASE_ID.pattern}$", description="Id of the list.")
        ],
    ) -> None:
        """Its packets go nowhere from now on; the client is told if it knows leases."""
        await core.call("nar-end-lease", id=lease)


def _add_audit(router: APIRouter, core: Core) -> None:
    @router.get(
        "/audit",
        response_model=NarAuditPage,
        responses=refusals(401, 409, 422, 503, words=_NO_AUDIT),
        openapi_extra=needs("nar-audit"),
        summary="Who held what, from when to when, the newest first",
    )
    async def nar_audit(  # noqa: PLR0917 - one filter each
        server: Server = None,
        address: Lent = None,
        protocol: Kind = None,
        value: Value = None,
        at: At = None,
        user: User = None,
        client: Client = None,
        limit: Limit = DEFAULT_PAGE,
        cursor: Cursor = None,
    ) -> object:
        return await core.call(
            "nar-audit",
            server=server,
            address=address,
            protocol=protocol,
            value=value,
            at=at,
            user=user,
            client=client,
            limit=limit,
            cursor=cursor,
        )
