"""When the way to a captive portal's page is open: on request, and no longer than it is needed.

The command that asks for it keeps asking while it runs, so the way also ends when the command was
killed. It ends when the network is open, is another one, or something works there, and after
:data:`OPEN_S` in any case.
"""

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final, Protocol

from gateway.control.protocol import ControlError, ErrorCode
from gateway.domain.event import Event, Severity
from gateway.mobile_host.portal import PortalProbe
from gateway.mobile_host.portal_proxy import LOOPBACK, Outlet, PortalProxy
from gateway.mobile_node.inputs import LinkState, Portal
from gateway.mobile_node.status import InterfaceStatus, NodeStatus

OPEN_S: Final = 600.0
LEASE_S: Final = 10.0
"""The command asks again within that."""
LOOK_S: Final = 1.0
PROBE_S: Final = 3.0
"""The engine probes less and less often; somebody who logs in does not want to wait."""
PAGE: Final = "http://example.com/"
"""Any page without TLS does; a portal shows its own instead."""
CAPTIVE: Final = "captive portal"
UNPROVEN: Final = "unknown"


class Surroundings(Protocol):
    """What it needs of the node: :class:`gateway.mobile_host.running.RunningNode`."""

    def status(self) -> NodeStatus:
        """As it is now."""

    def link(self, interface: str) -> LinkState | None:
        """A link, None when it is gone."""

    def name_servers(self, interface: str) -> Sequence[IPv4Address]:
        """Those of a link."""

    def no_portals(self) -> Collection[IPv4Address]:
        """Addresses at which no login page can be."""

    def probe_portal(self, interface: str) -> None:
        """Begin a probe, unless one is under way."""

    @property
    def portal_page(self) -> str:
        """What a browser is to ask for."""


@dataclass(slots=True)
class _Way:
    """An open one."""

    proxy: PortalProxy
    port: int
    interface: str
    generation: int
    ends_at: float
    asked_at: float
    probed_at: float


class PortalDoor:
    """At most one way, for one user, through one link."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        probe: PortalProbe,
        node: Surroundings,
        emit: Callable[[Event], None],
        *,
        look_s: float = LOOK_S,
    ) -> None:
        self._loop = loop
        self._probe = probe
        self._node = node
        self._emit = emit
        self._look_s = look_s
        self._found: dict[str, tuple[int, Portal]] = {}
        """By interface: its generation then, and what the last probe found."""
        self._way: _Way | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._ended = "it was not open"

    def is_news(self, interface: str, generation: int, verdict: Portal) -> bool:
        """Whether the last probe there found something else."""
        return self._found.get(interface) != (generation, verdict)

    def heard(self, interface: str, generation: int, verdict: Portal) -> None:
        """A probe came back; ``generation`` is that of the link when it was sent."""
        self._found[interface] = generation, verdict
        self.look()

    def ask(self, uid: int) -> dict[str, object]:
        """Open the way for the processes of a user, or keep it open; where it is.

        Raises :class:`ControlError` where there is no portal to log in to.
        """
        self.look()
        way = self._way
        if way is not None and way.proxy.uid != uid:
            self.end("it was asked for by another user")
            way = None
        if way is None:
            way = self._open(uid)
        way.asked_at = self._loop.time()
        return {
            "open": True,
            "address": LOOPBACK,
            "port": way.port,
            "interface": way.interface,
            "page": self._node.portal_page,
            "ends_in_s": round(way.ends_at - self._loop.time()),
        }

    def keep(self, uid: int) -> dict[str, object]:
        """As :meth:`ask`, but what has ended stays so: then why."""
        self.look()
        if self._way is None or self._way.proxy.uid != uid:
            return {"open": False, "reason": self._ended}
        return self.ask(uid)

    def _open(self, uid: int) -> _Way:
        status, now = self._node.status(), self._loop.time()
        found = _in_use(status)
        why_not = _no_door(status, found)
        link = self._node.link(found.interface) if found is not None else None
        if why_not or found is None or link is None:
            raise ControlError(ErrorCode.REFUSED, why_not or "no network is in use")
        generation, verdict = self._found.get(link.interface, (-1, Portal.UNKNOWN))
        silent = verdict is Portal.SILENT and generation == link.generation
        if found.verdict != CAPTIVE and not silent:
            text = f"{link.interface}: no captive portal was found there; see: gateway mn status"
            raise ControlError(ErrorCode.REFUSED, text)
        proxy = PortalProxy(self._loop, self._outlet(link.interface), uid)
        try:
            port = proxy.open()
        except OSError as error:
            text = f"cannot listen on {LOOPBACK}: {error.strerror}"
            raise ControlError(ErrorCode.REFUSED, text) from None
        way = _Way(proxy, port, link.interface, link.generation, now + OPEN_S, now, now)
        self._way = way
        text = f"{link.interface}: the way to the login page is open for user {uid}"
        fields: dict[str, object] = {"interface": link.interface, "uid": uid, "port": port}
        self._emit(Event("portal_way_opened", text, Severity.INFO, fields))
        self._timer = self._loop.call_later(self._look_s, self._look_again)
        return way

    def _outlet(self, interface: str) -> Outlet:
        def servers() -> Sequence[IPv4Address]:
            return self._node.name_servers(interface)

        return Outlet(
            resolve=lambda name: self._probe.resolve(interface, name, servers()),
            connect=lambda address, port: self._probe.connect(interface, address, port),
            forbidden=self._node.no_portals,
        )

    def look(self) -> None:
        """End it where it is not needed, or not wanted, any more."""
        if self._way is not None and (reason := self._over(self._way)):
            self.end(reason)

    def _look_again(self) -> None:
        self.look()
        if self._way is None:
            return
        now = self._loop.time()
        if now - self._way.probed_at >= PROBE_S:
            self._way.probed_at = now
            self._node.probe_portal(self._way.interface)
        self._timer = self._loop.call_later(self._look_s, self._look_again)

    def _over(self, way: _Way) -> str:
        now, status = self._loop.time(), self._node.status()
        link, found = self._node.link(way.interface), _in_use(status)
        if link is None or link.generation != way.generation:
            return f"{way.interface} is another network now"
        if self._found.get(way.interface) == (way.generation, Portal.OPEN):
            return "the network is open"
        if found is None or found.interface != way.interface:
            return "another network is in use"
        if why_not := _no_door(status, found):
            return why_not
        if now >= way.ends_at:
            return f"{OPEN_S / 60:g} minutes are over"
        return "the command ended" if now - way.asked_at >= LEASE_S else ""

    def end(self, reason: str) -> None:
        """Close what is open."""
        way, self._way = self._way, None
        if self._timer is not None:
            self._timer.cancel()
        if way is None:
            return
        self._ended = reason
        way.proxy.close()
        text = f"{way.interface}: the way to the login page is closed: {reason}"
        fields: dict[str, object] = {"interface": way.interface, "reason": reason}
        self._emit(Event("portal_way_closed", text, Severity.INFO, fields | way.proxy.counters))


def _in_use(status: NodeStatus) -> InterfaceStatus | None:
    return next((one for one in status.interfaces if one.in_use), None)


def _no_door(status: NodeStatus, link: InterfaceStatus | None) -> str:
    """Why no portal can be in the way, empty where one may be."""
    if status.locked:
        return "locked; run: gateway mn unlock"
    if status.mode != "held":
        return f"no login is needed: mode {status.mode} works"
    if link is None:
        return "no network is in use"
    if link.verdict not in (CAPTIVE, UNPROVEN):
        return f"{link.interface}: no captive portal is in the way: {link.verdict}"
    return ""
