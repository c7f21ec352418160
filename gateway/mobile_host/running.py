"""The parts of a running node, joined: what one of them tells, and what that means for the others.

:class:`gateway.mobile_host.host.Host` builds and ends them; here is what happens in between.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from ipaddress import IPv4Address
from typing import Final

from gateway.appliance.events import EventLog
from gateway.config.problem import ConfigError
from gateway.config.profile import Profile
from gateway.dataplane.node import LayerStack
from gateway.domain.endpoint import Endpoint
from gateway.domain.event import Event, Severity
from gateway.domain.mobility_credential import MobilityCredential
from gateway.mobile_host.address_command import AddressCommand
from gateway.mobile_host.credential_store import CredentialStore
from gateway.mobile_host.gateway_name import GatewayName
from gateway.mobile_host.leases import Leases
from gateway.mobile_host.links import LinkMonitor
from gateway.mobile_host.node_service import NodeService
from gateway.mobile_host.parts import ManagedDataplane, ManagedEngine
from gateway.mobile_host.portal import PortalProbe, ProbeTarget
from gateway.mobile_host.portal_door import PAGE, PortalDoor
from gateway.mobile_host.resolver import Names, Resolver
from gateway.mobile_host.signalling import Signalling
from gateway.mobile_host.terms import Terms
from gateway.mobile_host.vpn import Vpn
from gateway.mobile_host.wireless import RadioWatch
from gateway.mobile_node.inputs import LinkState, Portal, VpnSession
from gateway.mobile_node.status import NodeStatus

LINKS_AGAIN_S: Final = 1.0
NAME_AGAIN_S: Final = 20.0
SWITCH_AGAIN_S: Final = 0.2
SHORT_SLEEP_S: Final = 300.0
"""After so long the gateway may still have our session."""


@dataclass(frozen=True, slots=True)
class Environment:
    """The parts around the engine that need nobody to listen to them."""

    events: EventLog
    terms: Terms
    store: CredentialStore
    dataplane: ManagedDataplane
    links: LinkMonitor
    leases: Leases
    probe: PortalProbe
    name: GatewayName
    resolver: Resolver
    commands: AddressCommand


class RunningNode:
    """One node while it runs. :meth:`join` completes it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, around: Environment) -> None:
        self._loop = loop
        self._around = around
        self._events, self._terms = around.events, around.terms
        self._lock, self._dataplane = around.terms.lock, around.dataplane
        self._probes: dict[str, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[object]] = set()
        self._session: VpnSession | None = None
        self._again: asyncio.TimerHandle | None = None
        self._stopped = self._missing = False
        self.portal_door = PortalDoor(loop, around.probe, self, around.events)
        """See :class:`gateway.mobile_host.control.Node`."""

    def join(self, engine: ManagedEngine, vpn: Vpn, signalling: Signalling) -> NodeService:
        """Join the engine to the world; what it asks for is carried out from now on."""
        self._engine, self._vpn, self._signalling = engine, vpn, signalling
        loop = self._loop
        self._service = NodeService(
            engine,
            self._dataplane,
            signals=signalling,
            vpn=vpn,
            host=self,
            clock=loop.time,
            call_at=loop.call_at,
            emit=self._events,
        )
        return self._service

    @property
    def _profile(self) -> Profile:
        return self._terms.profile

    # -- links -----------------------------------------------------------------------------

    def links_readable(self) -> None:
        """Something changed about a link."""
        self._read_links(self._around.links.read)

    def radios_moved(self, radios: RadioWatch) -> None:
        """Radios went to other access points."""
        indices, lost = radios.read()
        self._read_links(partial(self._around.links.radios_moved, indices, lost=lost))

    def _read_links(self, read: Callable[[], list[LinkState] | None]) -> None:
        try:
            found = read()
        except OSError as error:
            # What was read is gone, and nobody knows what it said.
            self._forbid_all()
            text = f"links cannot be read: {error.strerror}; again in {LINKS_AGAIN_S:g} s"
            self._events(Event("link_events_lost", text, Severity.WARNING))
            self._loop.call_later(LINKS_AGAIN_S, self._read_links, self._around.links.refresh)
            return
        if found is not None:
            self.links_changed(found)

    def _forbid_all(self) -> None:
        try:
            self._dataplane.forbid()
        except OSError as error:
            text = f"the kernel refused to end permits: {error.strerror}"
            self._events(Event("dataplane_refused", text, Severity.WARNING))

    def held_readable(self) -> None:
        """Packets of the user's wait, or somebody changed the kernel's rules."""
        before = self._dataplane.restored
        try:
            self._service.held_readable()
        except OSError as error:
            self._switch_missing(error)
            return
        if self._dataplane.restored != before:
            text = "somebody removed the switch; it is back as it was"
            self._events(Event("switch_restored", text, Severity.WARNING))
        self._missing = False

    def _switch_missing(self, error: OSError) -> None:
        """Somebody removed the switch and the kernel does not take it back: until it does."""
        if not self._missing:
            self._missing = True
            text = f"somebody removed the switch, and it cannot be put back: {error.strerror}"
            self._events(Event("switch_missing", text, Severity.WARNING))
        if not self._stopped:
            self._loop.call_later(SWITCH_AGAIN_S, self.held_readable)

    def links_changed(self, links: list[LinkState]) -> None:
        """The links as they are now."""
        # First what the engine needs to act at once, and nothing that could wait.
        self._listen_on(links)
        self._service.links_changed(links)
        self.portal_door.look()
        self._around.commands.links(links)
        self._ask_for_gateway()

    def _listen_on(self, links: list[LinkState]) -> None:
        index = self._around.links.index
        indices = {one.interface: index(one.interface) for one in links if one.carrier}
        for name, error in self._signalling.use_links(indices).items():
            text = f"cannot listen on {name}: {error.strerror}"
            fields: dict[str, object] = {"interface": name, "reason": str(error.strerror)}
            self._events(Event("link_unusable", text, Severity.DEBUG, fields))

    def _ask_for_gateway(self) -> None:
        links = self._around.links
        usable = [one for one in links.states if one.carrier and one.address is not None]
        if self._around.name.missing and not self._stopped:
            # Whoever was silent now, as behind a captive portal, may answer later.
            if self._again is not None:
                self._again.cancel()
            self._again = self._loop.call_later(NAME_AGAIN_S, self._ask_for_gateway)
        if usable and self._around.name.wanted(self._loop.time()):
            numbered = [(links.index(one.interface), one) for one in usable]
            self._spawn(self._asked_for_gateway(numbered))

    async def _asked_for_gateway(self, links: Sequence[tuple[int, LinkState]]) -> None:
        if await self._around.name.ask_on(links):
            self.use_terms()

    # -- what comes in from the parts ------------------------------------------------------

    def registration(self, message: bytes, interface: str | None, source: Endpoint) -> None:
        """See :class:`gateway.mobile_host.signalling.Receiver`."""
        self._service.registration(message, interface, source)

    def advertisement(
        self, interface: str, source: IPv4Address, link_address: bytes, octets: bytes
    ) -> None:
        """See :class:`gateway.mobile_host.signalling.Receiver`."""
        self._service.advertisement(interface, source, link_address, octets)

    def vpn_up(self, session: VpnSession) -> None:
        """See :class:`gateway.mobile_host.vpn.VpnListener`."""
        session = replace(session, credentials=self._terms.wanted(session.credentials))
        self._session = session
        self._around.name.confirmed()
        self._service.vpn_up(session)

    def vpn_failed(self, reason: str, hint: str, *, refused: bool) -> None:
        """See :class:`gateway.mobile_host.vpn.VpnListener`."""
        self._session = None
        if not refused:
            self._around.name.doubted()
            self._ask_for_gateway()
        self._service.vpn_failed(reason, hint, refused=refused)

    def vpn_down(self, reason: str) -> None:
        """See :class:`gateway.mobile_host.vpn.VpnListener`."""
        self._session = None
        self._service.vpn_down(reason)

    # -- what the engine asks of the host --------------------------------------------------

    def probe_portal(self, interface: str) -> None:
        """See :class:`gateway.mobile_host.node_service.Surroundings`."""
        running = self._probes.get(interface)
        if running is not None and not running.done():
            return
        self._probes[interface] = self._loop.create_task(self._probed(interface))

    async def _probed(self, interface: str) -> None:
        target = ProbeTarget(self._profile.network.portal_probe, self._around.name.address)
        link, door = self.link(interface), self.portal_door
        generation = link.generation if link is not None else 0
        found = await self._around.probe.probe(interface, target, self.name_servers(interface))
        fields: dict[str, object] = {"interface": interface, "verdict": found.verdict.value}
        if found.redirect_host:
            fields["redirect_host"] = found.redirect_host
        text = f"{interface}: {found.text}"
        news = door.is_news(interface, generation, found.verdict)
        severity = Severity.INFO if news else Severity.DEBUG
        self._events(Event("portal_probed", text, severity, fields))
        now = self.link(interface)
        # Of a network that has been left meanwhile nothing is known of this one.
        same = now is not None and now.generation == generation
        self._service.portal(interface, found.verdict if same else Portal.UNKNOWN)
        door.heard(interface, generation, found.verdict)
        if found.verdict is Portal.OPEN:
            self._ask_for_gateway()

    def link(self, interface: str) -> LinkState | None:
        """See :class:`gateway.mobile_host.portal_door.Surroundings`."""
        states = self._around.links.states
        return next((one for one in states if one.interface == interface), None)

    def name_servers(self, interface: str) -> Sequence[IPv4Address]:
        """See :class:`gateway.mobile_host.portal_door.Surroundings`."""
        return self._around.leases.name_servers(self._around.links.index(interface), interface)

    def no_portals(self) -> Collection[IPv4Address]:
        """See :class:`gateway.mobile_host.portal_door.Surroundings`."""
        gateway, peers = self._profile.gateway, self._terms.node_settings().peers
        # Where a name leads is what this network said; it may be the portal itself.
        known = gateway is not None and isinstance(gateway.address, IPv4Address)
        gateways = peers.gateways if known else ()
        return {*gateways, *peers.internal_home_agents, *peers.external_home_agents}

    @property
    def portal_page(self) -> str:
        """See :class:`gateway.mobile_host.portal_door.Surroundings`."""
        return self._profile.network.portal_probe or PAGE

    def keep_credentials(self, credentials: tuple[MobilityCredential, ...]) -> None:
        """See :class:`gateway.mobile_host.node_service.Surroundings`."""
        if not self._terms.learn(credentials):
            return
        if self._terms.keeps_on_disk:
            try:
                self._around.store.keep(self._terms.credentials)
            except OSError as error:
                text = f"{self._around.store.path}: cannot be written: {error.strerror}"
                self._events(Event("credentials_unsaved", text, Severity.WARNING))
        # At once: the next output may be a registration with a home agent that is new.
        self._use_settings()

    def stack_applied(self, stack: LayerStack) -> None:
        """See :class:`gateway.mobile_host.node_service.Surroundings`."""
        session = self._session
        if stack.mode.through_vpn and session is not None:
            domains = self._profile.network.split_domains or session.domains
            self._around.resolver.use(Names(session.dns, domains))
        elif stack.mode.inside:
            self._around.resolver.use(Names())

    def use_terms(self) -> None:
        """Give every part its share of the terms as they are now."""
        try:
            policy, connection = self._terms.node_policy(), self._terms.connection_policy()
        except ConfigError as error:
            for problem in error.problems:
                self._events.log.error("profile_unusable", text=str(problem))
            return
        self._use_settings()
        self._vpn.use(connection, self._terms.tcp_ports)
        self._service.drive(partial(self._engine.reconfigure, policy))
        # Links that the profile did not want before are news to the engine.
        self._service.links_changed(self._around.links.states)

    def _use_settings(self) -> None:
        try:
            self._dataplane.reconfigure(self._terms.node_settings())
        except OSError as error:
            text = f"the kernel refused other peers: {error.strerror}"
            self._events(Event("dataplane_refused", text, Severity.WARNING))

    # -- what the user asks for ------------------------------------------------------------

    def status(self) -> NodeStatus:
        """See :class:`gateway.mobile_host.control.Node`."""
        return self._engine.status(self._loop.time())

    async def unlock(self, password: str) -> None:
        """See :class:`gateway.mobile_host.control.Node`."""
        await self._lock.open(password)
        self.use_terms()
        self._service.drive(self._engine.unlock)
        self._events(Event("unlocked", "the profile's secrets are unlocked"))

    def lock(self) -> None:
        """See :class:`gateway.mobile_host.control.Node`."""
        self._lock.close()
        # First with the keys that are known: it deregisters and logs out.
        self._service.drive(self._engine.lock)
        self.use_terms()
        self._events(Event("locked", "locked: nothing of the user's leaves"))

    def reconnect(self) -> None:
        """See :class:`gateway.mobile_host.control.Node`."""
        self._service.drive(self._engine.reconnect)
        self.links_changed(self._around.links.refresh())

    def slept(self, slept_s: float) -> None:
        """The machine woke up, perhaps somewhere else, after so long."""
        self._forbid_all()
        text = f"the machine slept for {slept_s:.0f} s: everything is proven anew"
        self._events(Event("slept", text, Severity.INFO, {"slept_s": round(slept_s, 3)}))
        if slept_s < SHORT_SLEEP_S:
            self._service.drive(self._engine.doubt)
            self.links_changed(self._around.links.refresh())
        else:
            self.reconnect()

    def _spawn(self, work: Awaitable[object]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def stop(self) -> None:
        """End what is under way."""
        self._stopped = True
        self.portal_door.end("the node ends")
        if self._again is not None:
            self._again.cancel()
        for task in (*self._probes.values(), *self._tasks):
            task.cancel()
        self._service.stop()
