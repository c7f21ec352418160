"""The parts of remote access together: each is there when the configuration needs it."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from importlib import import_module
from socket import if_nameindex
from typing import TYPE_CHECKING

from gateway.appliance.remote_access.part import Joint, Part
from gateway.appliance.remote_access.presence_plan import needed as presence_needed
from gateway.config.problem import ConfigError
from gateway.control.protocol import ControlError, ErrorCode, Page
from gateway.control.remote_access_views import NamesView
from gateway.dataplane.kernel.netlink import NETLINK_NETFILTER, NetlinkSocket
from gateway.dataplane.kernel.presence.constants import TABLE as PRESENCE_TABLE
from gateway.dataplane.kernel.ruleset_version import has_chain
from gateway.domain.remote_access import Grant
from gateway.ike.outputs import Event, Severity

if TYPE_CHECKING:
    from gateway.config.document import Config
    from gateway.control.protocol import Request

    Handler = Callable[[Request], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class PartOf:
    """Where a part comes from, and when it is needed: imported no earlier than that."""

    name: str
    module: str
    operations: tuple[str, ...]
    needed: "Callable[[Config], bool]"
    without: Mapping[str, object] = field(default_factory=dict)
    """What questions are answered with while it is not there; other operations are refused."""
    left_behind: Callable[[], bool] = bool
    """Whether an earlier process, whose configuration needed it, left something to remove."""


_NO_ITEMS: Page = {"items": [], "next": None, "total": 0}
_NO_NAMES: NamesView = {
    "forwarder": {
        "state": "off",
        "detail": "not configured",
        "listen": [],
        "port": 53,
        "forward": [],
        "cached": 0,
        "questions": 0,
        "from_cache": 0,
        "failures": 0,
    },
    "registration": {
        "state": "off",
        "detail": "not configured",
        "server": None,
        "zone": None,
        "pending": 0,
    },
    "items": [],
    "total": 0,
}


def _has_presence_table() -> bool:
    """Whether there may still be redirects that the configuration has no more."""
    try:
        with closing(NetlinkSocket(NETLINK_NETFILTER)) as netfilter:
            return has_chain(netfilter, PRESENCE_TABLE, "pre_raw")
    except OSError:
        return False


def _has_bridge_ports() -> bool:
    """Ports or bridges."""
    return any(name.startswith(("gwp", "gwbr")) for _, name in if_nameindex())


PARTS: tuple[PartOf, ...] = (
    PartOf(
        "presence",
        "gateway.appliance.remote_access.presence",
        ("napt-sessions", "redirects"),
        presence_needed,
        {"napt-sessions": _NO_ITEMS, "redirects": _NO_ITEMS},
        _has_presence_table,
    ),
    PartOf(
        "filtering",
        "gateway.appliance.remote_access.filtering",
        ("rules-of", "rule-counters", "rule-test"),
        lambda config: bool(config.connections),
    ),
    PartOf(
        "names",
        "gateway.appliance.remote_access.names",
        ("names", "names-verify"),
        lambda config: bool(
            config.names.listen or config.names.registration or config.names.published
        ),
        {"names": _NO_NAMES},
    ),
    PartOf(
        "leases",
        "gateway.appliance.remote_access.leases",
        ("leases", "lease-history", "lease-release", "reachability"),
        lambda _config: True,
    ),
    PartOf(
        "bridges",
        "gateway.appliance.remote_access.bridges",
        (),
        lambda config: bool(config.bridges),
        left_behind=_has_bridge_ports,
    ),
    PartOf(
        "paths",
        "gateway.appliance.remote_access.paths",
        ("mtu", "path-test"),
        lambda _config: True,
    ),
)
"""In the order in which they are opened and told; see the modules that they name."""


class RemoteAccess:
    """Tells every part who is in. A part that a reload brings is told of everybody."""

    def __init__(self, joint_of: "Callable[[Callable[[], Mapping[str, Grant]]], Joint]") -> None:
        """``joint_of`` makes the joint from a function that tells the grants."""
        self._grants: dict[str, Grant] = {}
        self._joint = joint_of(lambda: self._grants)
        self._parts: dict[str, Part] = {}
        self._started = False
        self._dirty = False

    def open(self) -> None:
        """Make the parts that the configuration needs. Raises as :meth:`Part.open`."""
        config = self._joint.config()
        for one in PARTS:
            if one.needed(config) or one.left_behind():
                self._build(one)

    def _build(self, one: PartOf) -> Part:
        build: Callable[[Joint], Part] = import_module(one.module).build
        part = build(self._joint)
        part.open()
        self._parts[one.name] = part
        return part

    async def start(self) -> None:
        """See :meth:`Part.start`."""
        for part in list(self._parts.values()):
            await part.start()
        self._started = True

    def granted(self, grant: Grant) -> None:
        """A session is in."""
        self._grants[grant.session] = grant
        self._dirty = True
        for part in self._parts.values():
            part.granted(grant)

    def ended(self, session: str) -> None:
        """A session is over."""
        grant = self._grants.pop(session, None)
        if grant is None:
            return
        self._dirty = True
        for part in reversed(list(self._parts.values())):
            part.ended(grant)

    def device_changed(self, name: str, identity: str | None) -> None:
        """A configured device came, changed or went; ``identity`` is what it proves now."""
        for part in self._parts.values():
            part.device_changed(name, identity)

    def commit(self) -> None:
        """What was queued goes to the kernel."""
        if not self._dirty:
            return
        self._dirty = False
        for part in self._parts.values():
            part.commit()

    async def reconfigure(self, config: "Config") -> None:
        """Another configuration is in force: parts come, change, and stay until the next start.

        Never raises; what cannot be done is reported.
        """
        for one in PARTS:
            part = self._parts.get(one.name)
            try:
                if part is not None:
                    part.reconfigure(config)
                elif one.needed(config):
                    part = self._build(one)
                    for grant in self._grants.values():
                        part.granted(grant)
                    part.commit()
                    if self._started:
                        await part.start()
            except (OSError, ValueError, ConfigError) as error:
                text = f"reload: {one.name}: {error}"
                self._joint.emit(Event("reload_failed", text, Severity.WARNING, {"part": one.name}))

    async def stop(self, *, keep: bool) -> None:
        """End all parts, the last first."""
        for part in reversed(list(self._parts.values())):
            await part.stop(keep=keep)

    def handlers(self) -> "Mapping[str, Handler]":
        """Of every part, whether it is there or not."""
        return {
            operation: self._handler(one, operation)
            for one in PARTS
            for operation in one.operations
        }

    def _handler(self, one: PartOf, operation: str) -> "Handler":
        async def handle(request: "Request") -> object:
            part = self._parts.get(one.name)
            if part is None and operation in one.without:
                return one.without[operation]
            if part is None:
                text = f"{one.name}: nothing is configured that needs it"
                raise ControlError(ErrorCode.NOT_FOUND, text)
            return await part.handlers()[operation](request)

        return handle

    def facts(self) -> dict[str, object]:
        """Of the parts that are there, by name."""
        return {name: part.facts() for name, part in self._parts.items()}
