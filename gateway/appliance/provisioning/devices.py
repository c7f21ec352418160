"""Devices and their bundles."""

import asyncio
from collections.abc import Mapping

from sqlalchemy import Connection

from gateway.appliance.administration.side import Handler
from gateway.appliance.provisioning import issuing
from gateway.appliance.provisioning.authorities import Authorities
from gateway.appliance.provisioning.choosing import Wish
from gateway.appliance.provisioning.desk import LinkDesk, MadeLink, base_url
from gateway.appliance.provisioning.issuing import Made, Order
from gateway.appliance.provisioning.keeping import Keeping
from gateway.appliance.provisioning.registry import Registry, as_refusals
from gateway.control.protocol import OPERATIONS, ControlError, ErrorCode, Request
from gateway.control.provisioning_operations import BundleView
from gateway.provisioning import ca, qr
from gateway.provisioning.crl import Reason
from gateway.provisioning.setup import Platform
from gateway.store.links import LinkRepository


class Devices:
    """Every handler raises :class:`ControlError`."""

    def __init__(self, registry: Registry, authorities: Authorities, desk: LinkDesk) -> None:
        self._registry = registry
        self._authorities = authorities
        self._desk = desk
        self.taken_back: set[str] = set()
        """Devices whose removal is our own doing: nothing was issued to them."""

    def handlers(self) -> Mapping[str, Handler]:
        """By the operation's name."""
        return {
            "provision": self._provision,
            "device-bundle": self._bundle,
            "device-rotate": self._rotate,
        }

    async def _provision(self, request: Request) -> object:
        """A new device with its bundle."""
        name, platform = str(request.text("name")), Platform(str(request.text("platform")))
        wish = Wish(
            name,
            platform,
            request.text("identity"),
            request.text("connection"),
            request.text("user"),
            request.text("mobile_node"),
        )
        async with self._registry.one:
            made = await self._make(self._order(request, wish))
            document: dict[str, object] = {
                "identity": made.identity,
                "connection": made.choice.connection,
                "platform": platform.value,
            }
            for key in ("user", "note", "mobile_node"):
                if request.text(key) is not None:
                    document[key] = request.text(key)
            arguments: dict[str, object] = {"kind": "devices", "name": name, "document": document}
            await self._objects("object-create", arguments, request)
            try:
                made_link = await self._give(request, name, made)
            except BaseException:
                await self._take_back(name, request)
                raise
        return self._view(request, wish, made, made_link)

    async def _take_back(self, name: str, request: Request) -> None:
        """Its certificate and link could not be stored: no device either."""
        self.taken_back.add(name)
        try:
            gone: dict[str, object] = {"kind": "devices", "name": name}
            await self._objects("object-delete", gone, request)
        finally:
            self.taken_back.discard(name)

    async def _bundle(self, request: Request) -> object:
        """Another bundle for a device."""
        async with self._registry.one:
            wish = await self._wish_of(request)
            made = await self._make(self._order(request, wish))
            made_link = await self._give(request, wish.device, made)
        return self._view(request, wish, made, made_link)

    async def _rotate(self, request: Request) -> object:
        """A new bundle, and the end of the old certificates."""
        async with self._registry.one:
            wish = await self._wish_of(request)
            older = await self._authorities.valid(wish.device)
            made = await self._make(self._order(request, wish))
            await self._registry.void_links(wish.device)
            made_link = await self._give(request, wish.device, made)
            if older:
                await self._authorities.revoke(older, Reason.SUPERSEDED)
        return self._view(request, wish, made, made_link)

    async def _wish_of(self, request: Request) -> Wish:
        """What the device's object says."""
        name = str(request.text("name"))
        found = await self._objects("object", {"kind": "devices", "name": name}, request)
        document = found.get("document")
        if not isinstance(document, dict):
            raise ControlError(ErrorCode.NOT_FOUND, f"there is no device {name}", "name")
        values = {key: value for key, value in document.items() if isinstance(value, str)}
        platform = request.text("platform") or values.get("platform", Platform.OTHER.value)
        return Wish(
            name,
            Platform(platform),
            values.get("identity"),
            values.get("connection"),
            values.get("user"),
            values.get("mobile_node"),
        )

    def _order(self, request: Request, wish: Wish) -> Order:
        days = self._registry.surroundings.config().provisioning.device_days
        if "lifetime_days" in request.arguments:
            days = request.number("lifetime_days")
        return Order(wish, days, request.text("request"), request.text("certificate"))

    async def _make(self, order: Order) -> Made:
        config, random = self._registry.surroundings.config(), self._registry.surroundings.random
        authorities = await self._registry.keep(lambda keeping: keeping.authorities())
        with as_refusals():
            return await asyncio.to_thread(
                issuing.make, config, order, authorities, self._registry.now(), random
            )

    async def _give(self, request: Request, device: str, made: Made) -> MadeLink:
        """Store certificate and link, both or none."""
        minutes = self._registry.surroundings.config().provisioning.link_minutes
        if "link_minutes" in request.arguments:
            minutes = request.number("link_minutes")
        made_link = self._desk.make(device, made.bundle, minutes, request.actor.name)
        store = self._registry.store

        def work(connection: Connection, keeping: Keeping) -> None:
            if made.credential is not None:
                certificate = made.credential.certificate
                keeping.add_device(certificate, device, made.session_identity)
            LinkRepository(connection, store.sealer).create(made_link.link)

        await self._registry.keep_with(work)
        return made_link

    def _view(self, request: Request, wish: Wish, made: Made, made_link: MadeLink) -> object:
        url = base_url(self._registry.surroundings.config()) + made_link.path
        text, holds = url, "link"
        # With an idempotency key the answer is kept for a day, and no device's key may be.
        if wish.platform is Platform.GATEWAY_MN and request.key is None:
            packed = qr.pack(made.bundle.content)
            if packed is not None:
                text, holds = packed, "profile"
        credential = made.credential
        serial = ca.serial_text(credential.certificate) if credential is not None else None
        until = credential.certificate.not_valid_after_utc if credential is not None else None
        view: BundleView = {
            "device": wish.device,
            "identity": made.identity,
            "connection": made.choice.connection,
            "platform": wish.platform.value,
            "link": made_link.path,
            "url": url,
            "expires_at": made_link.link.expires_at,
            "file_name": made.bundle.file_name,
            "qr_svg": qr.svg(text),
            "qr_holds": holds,
            "serial": serial,
            "not_after": None if until is None else until.timestamp(),
        }
        shown = ("identity", "connection", "platform", "serial", "file_name")
        noted = {key: value for key, value in view.items() if key in shown}
        return {**view, "_audit": {"target": f"devices/{wish.device}", "after": noted}}

    async def _objects(
        self, operation: str, arguments: dict[str, object], request: Request
    ) -> dict[str, object]:
        """Ask the side of the objects, for who asked us."""
        checked = OPERATIONS[operation].check(arguments)
        side = await self._registry.administration.started("objects")
        asked = Request(OPERATIONS[operation], checked, actor=request.actor)
        answer = await side.handlers()[operation](asked)
        return answer if isinstance(answer, dict) else {}
