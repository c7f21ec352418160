"""Operations on configured objects, blocking of devices, the first setup, and the end."""

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from gateway.appliance.administration.devices import Device, Devices
from gateway.appliance.administration.disconnecting import Sessions
from gateway.appliance.administration.heavy import HeavyJudge
from gateway.appliance.administration.judging import check_device, invalid
from gateway.appliance.administration.known import whole
from gateway.appliance.administration.light import DeviceJudge, UserJudge, live_user
from gateway.appliance.administration.listing import Listing
from gateway.appliance.administration.objects import Judge, Objects, Outcome
from gateway.appliance.administration.setup import Setup
from gateway.appliance.administration.side import Handler, Side, Surroundings
from gateway.appliance.administration.views import of_change
from gateway.config.difference import difference
from gateway.config.kinds import KINDS, secret_paths
from gateway.config.problem import ConfigError
from gateway.control.object_operations import ObjectChange, ObjectKind
from gateway.control.protocol import ControlError, ErrorCode, Request
from gateway.domain.event import Event, Severity

if TYPE_CHECKING:
    from gateway.appliance.administration.composition import Administration
    from gateway.config.document import Config
    from gateway.store.objects import StoredObject

MAX_CUT = 1000
"""Sessions named in one answer."""
_BLOCKED = "the device is blocked"
STOP_AFTER_S = 0.2
"""So that the answer is on its way."""


class ObjectsSide(Side):
    """Everything that is configured."""

    def __init__(self, administration: "Administration", surroundings: Surroundings) -> None:
        source = administration.source
        if source is None:
            raise RuntimeError("the configuration was not read by the administration")
        self._administration, self._source = administration, source
        self._known = administration.known
        self._around = surroundings
        self.devices = Devices()
        self.sessions = Sessions(surroundings)
        judges: dict[str, Judge] = {
            "devices": DeviceJudge(self.devices, self.sessions, surroundings),
            "users": UserJudge(surroundings.backends.stored_users, surroundings),
        }
        heavy = HeavyJudge(self._known, source, surroundings, self.devices)
        self.objects = Objects(
            self._known,
            lambda: administration.store,
            surroundings.changing,
            lambda kind: judges.get(kind, heavy),
        )
        self._listing = Listing(self._known, source, surroundings)
        self._setup = Setup(administration, self.objects, self.devices, surroundings)
        self._out: frozenset[str] | None = None
        """Identities of devices whose sessions were ended as they are blocked; None: none yet."""
        self._use_stored()

    async def start(self) -> None:
        """Sessions that were taken over may be of devices that have been blocked meanwhile."""
        self._out = frozenset()
        for one in self._newly_blocked():
            self.sessions.end(one.identity, one.section.mobile_node, _BLOCKED)
            await asyncio.sleep(0)

    def _newly_blocked(self) -> list[Device]:
        before, found = self._out or frozenset(), [one for one in self.devices if one.blocked]
        self._out = frozenset(one.identity for one in found)
        return [one for one in found if one.identity not in before]

    def _use_stored(self) -> None:
        """Devices and users of the store; what is damaged is told and left out."""
        for name, kept in self._known.of("devices").items():
            try:
                self.devices.put(name, check_device(name, kept.document))
            except ControlError as error:
                self._warn(f"devices/{name}: left out: {error.message}")
        for name, kept in self._known.of("users").items():
            try:
                user = live_user(name, kept.document, kept.secrets)
            except ControlError as error:
                self._warn(f"users/{name}: left out: {error.message}")
                continue
            self._around.backends.stored_users.put(user)
        self.configured(self._around.config())
        self.devices.changed = self._administration.device_changed
        self._around.engine.refuse_login = self.devices.refusal
        self._around.backends.refuse(self.devices.refusal)

    def _warn(self, text: str) -> None:
        self._around.emit(Event("object_left_out", text, Severity.WARNING))

    def configured(self, config: "Config") -> None:
        """Another configuration is in force."""
        hidden, gone = self.devices.use_file(config.devices)
        for name in hidden:
            self._warn(f"devices/{name}: is in gateway.toml as well, which counts")
        for name in gone:
            kept = self._known.get("devices", name)
            if kept is not None:
                self.devices.put(name, check_device(name, kept.document))
        if self._out is not None:
            for one in self._newly_blocked():
                self.sessions.end(one.identity, one.section.mobile_node, _BLOCKED)

    def node_refusal(self, mobile_node: str) -> str | None:
        """See :class:`Side`."""
        return self.devices.node_refusal(mobile_node)

    def handlers(self) -> Mapping[str, Handler]:
        """See :class:`Side`."""
        return {
            "object-kinds": self._kinds,
            "objects": self._objects,
            "object": self._object,
            "object-create": self._create,
            "object-replace": self._replace,
            "object-merge": self._merge,
            "object-delete": self._delete,
            "device-block": self._block,
            "device-unblock": self._unblock,
            "device-disconnect": self._disconnect,
            "stop": self._stop,
            "setup-state": self._setup.state,
            "setup-basics": self._setup.basics,
        }

    # -- the whole store at once --------------------------------------------------------------

    async def judge_all(self, objects: "Sequence[StoredObject]") -> list[ObjectChange]:
        """What the configuration would be with these in place of all that is stored: what changes.

        Raises :class:`ControlError` when it would be none. Changes nothing.
        """
        for one in objects:
            if one.kind == "devices":
                check_device(one.name, one.document)
        heavy = [whole(one) for one in objects if not KINDS[one.kind].light]
        required = {(one.kind, one.name) for one in heavy}
        try:
            config = await asyncio.to_thread(self._source.judge, heavy, required)
        except ConfigError as error:
            raise invalid("", "", error.problems) from None
        return [of_change(one) for one in difference(self._around.config(), config)]

    async def read_again(self) -> list[str]:
        """The store was changed by somebody else than us: take everything from it.

        The problems, for which objects are left out.
        """
        store = self._administration.store
        from gateway.store.objects import ObjectRepository  # noqa: PLC0415 - costs SQLAlchemy

        async with self._around.changing:
            found = await store.run(
                lambda c: ObjectRepository(c, store.sealer).all(with_secrets=True)
            )
            for name in list(self._known.of("users")):
                self._around.backends.stored_users.remove(name)
            for name in list(self._known.of("devices")):
                self.devices.remove(name)
            self._known.replace_all(found)
            self._use_stored()
        problems, _ = await self._around.reload()
        return problems

    # -- objects ---------------------------------------------------------------------------

    async def _kinds(self, _request: Request) -> object:
        from gateway.config.schemas import schema_of  # noqa: PLC0415 - seldom needed

        kinds: list[ObjectKind] = [
            {
                "kind": kind.name,
                "title": kind.title,
                "document_schema": schema_of(kind.model),
                "secret_fields": [".".join(path) for path in secret_paths(kind.model)],
            }
            for kind in KINDS.values()
        ]
        return {"kinds": kinds}

    async def _objects(self, request: Request) -> object:
        return self._listing.page(request)

    async def _object(self, request: Request) -> object:
        return self._listing.one(*_which(request))

    async def _create(self, request: Request) -> object:
        kind, name = _which(request)
        document, dry_run = request.document("document"), request.flag("dry_run")
        return _answer(await self.objects.create(kind, name, document, dry_run=dry_run), kind, name)

    async def _replace(self, request: Request) -> object:
        kind, name = _which(request)
        outcome = await self.objects.replace(
            kind,
            name,
            request.document("document"),
            version=_version(request),
            dry_run=request.flag("dry_run"),
        )
        return _answer(outcome, kind, name)

    async def _merge(self, request: Request) -> object:
        kind, name = _which(request)
        outcome = await self.objects.merge(
            kind,
            name,
            request.document("document"),
            version=_version(request),
            dry_run=request.flag("dry_run"),
        )
        return _answer(outcome, kind, name)

    async def _delete(self, request: Request) -> object:
        kind, name = _which(request)
        dry_run = request.flag("dry_run")
        outcome = await self.objects.delete(kind, name, version=_version(request), dry_run=dry_run)
        if kind == "devices" and not dry_run:
            await self._administration.device_gone(name)
        return _answer(outcome, kind, name)

    # -- devices ---------------------------------------------------------------------------

    async def _block(self, request: Request) -> object:
        return await self._set_blocked(str(request.text("name")), blocked=True)

    async def _unblock(self, request: Request) -> object:
        return await self._set_blocked(str(request.text("name")), blocked=False)

    async def _set_blocked(self, name: str, *, blocked: bool) -> object:
        if name.startswith("~"):
            name = await self._adopt_seen(name)
        outcome = await self.objects.merge("devices", name, {"blocked": blocked})
        return {
            "device": name,
            "blocked": blocked,
            "sessions_cut": outcome.cut[:MAX_CUT],
            "_audit": _audit(outcome, "devices", name),
        }

    async def _adopt_seen(self, name: str) -> str:
        """A device that was only seen becomes an object, so that its block outlives a restart."""
        identity = self._seen(name)
        known = self.devices.of_identity(identity)
        if known is not None:
            return known.name
        new = f"seen-{name.removeprefix('~')}"
        await self.objects.create("devices", new, {"identity": identity})
        return new

    def _seen(self, name: str) -> str:
        """The identity of a device that has no object."""
        identity = self._administration.identity_of(name)
        if identity is not None:
            return identity
        for peer in self._around.engine.peers():
            if seen_name(peer) == name:
                return peer
        why = f"there is no device {name}; it was neither seen nor configured"
        raise ControlError(ErrorCode.NOT_FOUND, why, "name")

    async def _disconnect(self, request: Request) -> object:
        name = str(request.text("name"))
        node: str | None = None
        if name.startswith("~"):
            identity = self._seen(name)
        else:
            device = self.devices.get(name)
            if device is None:
                raise ControlError(ErrorCode.NOT_FOUND, f"there is no device {name}", "name")
            identity, node = device.identity, device.section.mobile_node
        cut = self.sessions.end(identity, node, "closed by the administrator")
        return {"device": name, "sessions_cut": cut}

    # -- the process -----------------------------------------------------------------------

    async def _stop(self, _request: Request) -> object:
        self._around.call_later(STOP_AFTER_S, self._around.stop)
        return {"stopping": True}


def seen_name(identity: str) -> str:
    """What a device without an object is called; ``identity`` as the engine shows it."""
    return "~" + hashlib.sha256(identity.encode()).hexdigest()[:16]


def _which(request: Request) -> tuple[str, str]:
    return str(request.text("kind")), str(request.text("name"))


def _version(request: Request) -> int | None:
    return request.number("version") if "version" in request.arguments else None


def _answer(outcome: Outcome, kind: str, name: str) -> dict[str, object]:
    return {
        "object": outcome.object,
        "changes": outcome.changes,
        "sessions_cut": outcome.cut[:MAX_CUT],
        "dry_run": outcome.dry_run,
        "_audit": _audit(outcome, kind, name),
    }


def _audit(outcome: Outcome, kind: str, name: str) -> dict[str, object]:
    return {"before": outcome.before, "after": outcome.after, "target": f"{kind}/{name}"}


def build(administration: "Administration", surroundings: Surroundings) -> ObjectsSide:
    """See :class:`gateway.appliance.administration.side.Build`."""
    return ObjectsSide(administration, surroundings)
