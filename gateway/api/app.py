"""The REST API: a client of the control socket that holds no keys and no privileges."""

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request, Response
from fastapi.security import APIKeyCookie, HTTPAuthorizationCredentials, HTTPBearer
from starlette.exceptions import HTTPException as StarletteHTTPException

from gateway import __version__
from gateway.api.caller import CALLER, CoreOfCaller, cookie_name
from gateway.api.document import completed
from gateway.api.events import EventHub, Subscribable
from gateway.api.guard import App, Guard
from gateway.api.links import link_routes
from gateway.api.problems import add_problems
from gateway.api.routes_access import Sessions, access_routes
from gateway.api.routes_config import config_routes
from gateway.api.routes_devices import device_routes
from gateway.api.routes_gateway import gateway_routes, health_routes
from gateway.api.routes_mobility import mobility_routes
from gateway.api.routes_nar import nar_routes
from gateway.api.routes_observation import metrics_routes, observation_routes
from gateway.api.routes_provisioning import provisioning_routes
from gateway.api.routes_remote_access import remote_access_routes
from gateway.api.routes_state import state_routes
from gateway.api.static import Dashboard
from gateway.control.async_client import Caller
from gateway.control.client import ControlUnavailableError
from gateway.control.protocol import OPERATIONS

PREFIX = "/api/v1"


@dataclass(frozen=True, slots=True)
class SiteSettings:
    """How the API is reached."""

    names: tuple[str, ...] = ()
    """Host names that it answers to, besides addresses and localhost."""
    tls: bool = True
    dashboard: Dashboard | None = None


def create_site(core: Subscribable, settings: SiteSettings) -> App:
    """The application with the guard in front of it."""
    return Guard(create_app(core, settings), settings.names, tls=settings.tls)


def create_app(core: Subscribable, settings: SiteSettings) -> FastAPI:
    """The routes; they ask ``core`` for everything and keep nothing but events."""
    app = FastAPI(
        title="Gateway",
        version=__version__,
        summary="Who is connected, over which security associations, from where; who is away;"
        " who has parts of its addresses; what is configured, and who may.",
        openapi_url=f"{PREFIX}/openapi.json",
        docs_url=None,  # both pages would load scripts from elsewhere
        redoc_url=None,
    )
    add_problems(app)
    changing = frozenset(one.name for one in OPERATIONS.values() if one.changes) | {
        "support",
        "import-part",
        "names-verify",
    }
    asking = CoreOfCaller(core, changing)
    hub = EventHub(core, secrets.token_hex(4))
    app.state.hub = hub
    authorized = Depends(_authorization(tls=settings.tls))
    app.include_router(health_routes(asking), prefix=PREFIX)
    for router in (
        gateway_routes(asking, authorized),
        mobility_routes(asking, authorized),
        nar_routes(asking, authorized),
        observation_routes(asking, hub, authorized),
        device_routes(asking, authorized),
        remote_access_routes(asking, authorized),
        config_routes(asking, authorized),
        provisioning_routes(asking, authorized),
        state_routes(asking, authorized),
        access_routes(asking, Sessions(core, tls=settings.tls), authorized),
    ):
        app.include_router(router, prefix=PREFIX)
    app.include_router(metrics_routes(asking))
    app.include_router(link_routes(asking))
    _add_dashboard(app, settings.dashboard)
    plain = app.openapi

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = completed(plain())
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]
    return app


def _authorization(*, tls: bool) -> Callable[..., Awaitable[None]]:
    """Demands that something is shown; what it is worth, the core says."""
    bearer = HTTPBearer(auto_error=False, description="A token: `gateway admin token create`.")
    cookie = APIKeyCookie(
        name=cookie_name(tls=tls), auto_error=False, description="Of a browser's login."
    )

    async def authorize(
        given: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)],
        session: Annotated[str | None, Depends(cookie)],
    ) -> None:
        del given, session  # the guard has read them; these describe them in the document
        if not CALLER.get().credential:
            raise StarletteHTTPException(
                401,
                "Log in, or send a token as `Authorization: Bearer TOKEN`.",
                {"WWW-Authenticate": 'Bearer realm="gateway"'},
            )

    return authorize


def _add_dashboard(app: FastAPI, dashboard: Dashboard | None) -> None:
    if dashboard is None:
        return

    async def file(request: Request) -> Response:
        found = dashboard.answer(request)
        if found is None:
            raise StarletteHTTPException(404, "There is nothing of that name.")
        return found

    app.add_route("/{path:path}", file, methods=["GET"], include_in_schema=False)


class _Nothing:
    """A core that is not there."""

    async def request(
        self,
        op: str,
        args: dict[str, object],
        caller: Caller | None = None,
        *,
        timeout_s: float | None = None,
    ) -> dict[str, object]:
        del args, caller, timeout_s
        raise ControlUnavailableError(op)

    async def events(
        self, caller: Caller | None = None, *, debug: bool = False
    ) -> AsyncIterator[dict[str, object]]:
        del caller, debug
        nothing: tuple[dict[str, object], ...] = ()
        for event in nothing:
            yield event
        raise ControlUnavailableError("events")


def openapi() -> dict[str, Any]:
    """The OpenAPI document of this version."""
    document: dict[str, Any] = create_app(_Nothing(), SiteSettings()).openapi()
    return document
