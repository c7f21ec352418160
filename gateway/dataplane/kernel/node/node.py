"""The mobile node's networking in the kernel: a stack of layers is made by differences.

How a packet of the user's travels: its route (table USER) leads to the top layer's device, which
encapsulates it for the next layer below, whose fwmark chooses the table; at last it meets the
switch (``ruleset.nft``) at a link. UDP tunnels are GRE in FOU whose header the switch exchanges
for the one of RFC 3519; zero-overhead packets are rewritten there too.
"""

import contextlib
import errno
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network
from typing import Final

from gateway.dataplane.kernel.mobility import counters
from gateway.dataplane.kernel.mobility import routes as neighbour_requests
from gateway.dataplane.kernel.mobility.devices import Devices
from gateway.dataplane.kernel.mobility.neighbours import Announcer
from gateway.dataplane.kernel.netlink import (
    NETLINK_NETFILTER,
    NETLINK_ROUTE,
    NetlinkSocket,
)
from gateway.dataplane.kernel.nft_elements import NFPROTO_INET
from gateway.dataplane.kernel.node import constants, plan, switch, tunnels, unresolved
from gateway.dataplane.kernel.node.hold import Hold
from gateway.dataplane.kernel.node.host import Host
from gateway.dataplane.kernel.node.leftovers import clear
from gateway.dataplane.kernel.node.plan import MissingInterfaceError, Neighbour, Place
from gateway.dataplane.kernel.node.tunnel_devices import (
    KernelTunnels,
    NoSuchTunnelError,
    TunnelDevices,
)
from gateway.dataplane.kernel.node.tunnel_set import TunnelSet
from gateway.dataplane.kernel.node.tunnels import GONE
from gateway.dataplane.kernel.node.watch import Watch
from gateway.dataplane.kernel.routing import (
    Address,
    Route,
    Rule,
    addresses,
    delete_route,
    mtu,
)
from gateway.dataplane.node import EVERYTHING, LayerStack, NodeRefusal, NodeSettings
from gateway.domain.access_mode import AccessMode

_COUNTED: Final = ("user_out", "user_taken")
Request = tuple[str, bytes, tuple[int, ...]]
"""What it is, the message, and the errnos that are fine."""


def _since_boot() -> float:
    """Seconds, those asleep included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class KernelNode:
    """Implements :class:`gateway.dataplane.node.NodeDataplane` in this network namespace.

    ``xfrm_interface`` is the one of the IPsec dataplane that carries the VPN layer; its
    settings have ``output_mark`` :data:`constants.NODE_VPN` and ``routes`` False.
    ``tunnel_devices`` makes those of the Mobile IP layers.
    """

    def __init__(
        self,
        settings: NodeSettings,
        *,
        xfrm_interface: str = constants.XFRM_INTERFACE,
        tunnel_devices: TunnelDevices | None = None,
        clock: Callable[[], float] = _since_boot,
    ) -> None:
        self.settings = settings
        self._tunnels = TunnelSet(tunnel_devices or KernelTunnels())
        self._xfrm_interface = xfrm_interface
        self._clock = clock
        self._permits: dict[str, float] = {}
        """When each permit that was given ends, by the clock."""
        self._home_address: IPv4Address | None = None
        self._elements: switch.Elements = {}
        self._routes: dict[tuple[int, IPv4Network], Route] = {}
        self._addresses: set[Address] = set()
        self._neighbours: set[Neighbour] = set()
        self._rules: set[Rule] = set()
        self._announced = ""
        self._refused: list[NodeRefusal] = []
        self._open = False
        self._lost = False
        """The switch may be gone."""
        self.restored = 0
        """How often somebody else had taken the switch away."""

    # -- coming and going ------------------------------------------------------------------

    def open(self) -> None:
        """See :meth:`NodeDataplane.open`. The switch stays when something later fails."""
        if self._open:
            return
        with contextlib.ExitStack() as undo:
            # Raises when another node runs here: its switch is not ours to replace.
            self._hold = Hold()
            undo.callback(lambda: self._hold.close(remove=False))
            switch.load(self.settings, self._xfrm_interface)
            self._route = NetlinkSocket(NETLINK_ROUTE)
            undo.callback(self._route.close)
            self._netfilter = NetlinkSocket(NETLINK_NETFILTER)
            undo.callback(self._netfilter.close)
            self._devices = Devices()
            undo.callback(self._devices.close)
            self._announcer = Announcer()
            undo.callback(self._announcer.close)
            self._host = Host()
            undo.callback(self._host.restore)
            self._watch = Watch(self._hold.fileno())
            undo.callback(self._watch.close)
            self._build()
            undo.pop_all()
        self._open = True

    def _build(self) -> None:
        self._host.guard()
        self._host.no_ipv6(constants.HOLD)
        indexes = self._indexes()
        hold = indexes[constants.HOLD]
        self._route.check(constants.HOLD, [tunnels.set_up(hold, self.settings.mtu)])
        for address in addresses(self._route):
            if address.device == hold:
                self._home_address = address.address
        place = self._place(indexes)
        # What an earlier process left keeps working until its packets wait here.
        self._send(("a rule", rule.add(), (errno.EEXIST,)) for rule in plan.CONSTANT_RULES)
        waiting = plan.held_routes((EVERYTHING,), place)
        self._send(("the holding route", route.set(), ()) for route in waiting)
        self._raise()
        clear(self._route, self._devices, keep=waiting)
        self._send(("a rule", rule.add(), (errno.EEXIST,)) for rule in plan.CONSTANT_RULES)
        self._raise()
        self._routes = {route.key: route for route in waiting}
        self._addresses = {a for a in addresses(self._route) if a.device == hold}
        self._tunnels.open()

    def _raise(self) -> None:
        refused, self._refused = self._refused, []
        if refused:
            raise OSError(errno.EIO, f"{refused[0].what}: {refused[0].reason}")

    def close(self, *, keep_switch: bool) -> None:
        """See :meth:`NodeDataplane.close`."""
        if not self._open:
            return
        self._open = False
        with contextlib.suppress(OSError):
            switch.forbid()
        with contextlib.suppress(OSError):
            clear(self._route, self._devices, keep=())
        self._tunnels.close()
        self._watch.close()
        self._hold.close(remove=True)
        if not keep_switch:
            with contextlib.suppress(OSError):
                switch.remove()
        self._host.restore()
        self._announcer.close()
        self._devices.close()
        self._netfilter.close()
        self._route.close()

    # -- layers ----------------------------------------------------------------------------

    def apply(self, stack: LayerStack) -> list[NodeRefusal]:
        """See :meth:`NodeDataplane.apply`. After a refusal the user's packets wait."""
        self._refused = []
        if stack.home_address is not None:
            self._home_address = stack.home_address
        try:
            if stack.mode is AccessMode.HELD:
                self._wait(stack.networks)
            self._apply(stack)
        except (MissingInterfaceError, NoSuchTunnelError) as error:
            self._refused.append(NodeRefusal("a layer", str(error)))
        except OSError as error:
            self._refused.append(NodeRefusal("the stack", error.strerror or str(error)))
        refused, self._refused = self._refused, []
        if refused:
            with contextlib.suppress(OSError, MissingInterfaceError):
                users = [net for table, net in self._routes if table == constants.USER_TABLE]
                self._wait(users or stack.networks)
            self._refused = []
        return refused

    def _apply(self, stack: LayerStack) -> None:
        self._ensure_switch()
        indexes = self._indexes()
        place = self._place(indexes)
        wanted = plan.tunnel_devices(stack, place)
        self._tunnels.check(wanted)
        self._learn(plan.elements(stack, place, self._link_mtu(stack)))
        if stack.attachment is not None:
            place.index(stack.attachment.interface)
            self._host.link(stack.attachment.interface)
        self._refused += self._tunnels.make(wanted, indexes, self._host)
        place = self._place(self._indexes())
        self._add_addresses(plan.addresses(stack, place), place)
        self._set_neighbours(plan.neighbours(stack, place))
        self._set_rules(set(plan.rules(stack)))
        routes = plan.own_traffic_routes(stack, place) + plan.user_routes(stack, place)
        self._set_routes(routes)
        self._forget(plan.addresses(stack, place), routes)
        self._refused += self._tunnels.forget(wanted, self._indexes())
        self._announce(stack, place)

    def _wait(self, networks: Sequence[IPv4Network]) -> None:
        """Let packets to ``networks`` wait, before anything else changes."""
        place = self._place(self._indexes())
        # The address is there before the routes that name it.
        if place.home_address is not None:
            hold = Address(place.index(constants.HOLD), place.home_address)
            self._add_addresses([hold], place)
        self._set_routes(plan.held_routes(networks, place))

    def _set_routes(self, routes: Sequence[Route]) -> None:
        self._routes.update((route.key, route) for route in routes)
        self._send((f"the route to {one.network}", one.set(), ()) for one in routes)

    def _learn(self, elements: switch.Elements) -> None:
        switch.learn(self._elements, elements)
        self._elements = elements

    def _add_addresses(self, wanted: Sequence[Address], place: Place) -> None:
        there = {(one.device, one.address) for one in place.addresses}
        ours = {(one.device, one.address): one for one in self._addresses}
        for address in wanted:
            before = ours.get((address.device, address.address))
            if before is not None and before != address:
                self._send([("an address", before.delete(), GONE)])
                self._addresses.discard(before)
            elif (address.device, address.address) in there:
                continue
            self._addresses.add(address)
            self._send([(f"address {address.address}", address.add(), (errno.EEXIST,))])

    def _set_neighbours(self, wanted: Sequence[Neighbour]) -> None:
        for one in self._neighbours - set(wanted):
            message = neighbour_requests.delete_neighbour(one.address, one.device)
            self._send([("a neighbour", message, GONE)])
        for one in wanted:
            message = neighbour_requests.set_neighbour(one.address, one.device, one.link_address)
            self._send([("the foreign agent", message, ())])
        self._neighbours = set(wanted)

    def _set_rules(self, wanted: set[Rule]) -> None:
        self._send(("a rule", rule.delete(), GONE) for rule in self._rules - wanted)
        self._send(("a rule", rule.add(), (errno.EEXIST,)) for rule in wanted - self._rules)
        self._rules = wanted

    def _forget(self, wanted: Sequence[Address], routes: Sequence[Route]) -> None:
        """Remove what the stack before had and this one has not."""
        kept = {route.key: route for route in routes}
        gone = [key for key in self._routes if key not in kept]
        self._send(("a route", delete_route(key), GONE) for key in gone)
        self._routes = dict(kept)
        places = {(one.device, one.address) for one in wanted}
        old = {one for one in self._addresses if (one.device, one.address) not in places}
        self._send(("an address", one.delete(), GONE) for one in old)
        self._addresses -= old

    def _announce(self, stack: LayerStack, place: Place) -> None:
        """At home neighbours learn that the address is here again (RFC 5944 section 4.6)."""
        where = ""
        if stack.attachment is not None and plan.at_home(stack, place):
            where = stack.attachment.interface
        if where and where != self._announced and place.home_address is not None:
            device = self._devices.every().get(where)
            if device is not None:
                self._announcer.announce(place.home_address, where, device.link_address)
        self._announced = where

    # -- the switch ------------------------------------------------------------------------

    def reconfigure(self, settings: NodeSettings) -> None:
        """Use other peers, ports and openings; permits and the stack stay. Raises OSError."""
        self._ensure_switch()
        switch.update(settings)
        self.settings = settings

    def _ensure_switch(self) -> bool:
        """Put the switch back if somebody took it away; whether it was there.

        What was permitted still is, until its old end: the proof behind it is as good as before.
        """
        if self._watch.in_place():
            return True
        switch.load(self.settings, self._xfrm_interface)
        elements, self._elements = self._elements, {}
        self._learn(elements)
        now = self._clock()
        for interface, end in self._permits.items():
            switch.permit(interface, max(0.0, end - now))
        self.restored += 1
        return False

    def permit(self, interface: str, lifetime_s: float) -> None:
        """See :meth:`NodeDataplane.permit`. Raises OSError or ValueError."""
        self._ensure_switch()
        switch.permit(interface, lifetime_s)
        self._permits[interface] = self._clock() + lifetime_s

    def forbid(self, interface: str | None = None) -> None:
        """See :meth:`NodeDataplane.forbid`. Raises OSError."""
        ended = [one for one in self._permits if interface in (None, one)]
        for one in ended:
            del self._permits[one]
        self._ensure_switch()
        switch.forbid(interface)
        for one in ended:
            unresolved.drop(self._route, one)

    def user_packets(self) -> int:
        """See :meth:`NodeDataplane.user_packets`."""
        if self._lost:
            with contextlib.suppress(OSError):
                self._ensure_switch()
        return sum(
            sum(counters.read(self._netfilter, constants.TABLE, NFPROTO_INET, chain).values())
            for chain in _COUNTED
        )

    def counters(self) -> dict[str, int]:
        """See :meth:`NodeDataplane.counters`."""
        found = counters.read(self._netfilter, constants.TABLE, NFPROTO_INET)
        return {**found, "held_dropped": self._hold.dropped, "switch_restored": self.restored}

    # -- packets that wait -----------------------------------------------------------------

    def hold_fd(self) -> int:
        """See :meth:`NodeDataplane.hold_fd`. Readable too when the ruleset was touched."""
        return self._watch.fileno()

    def read_held(self) -> int:
        """See :meth:`NodeDataplane.read_held`. Puts a switch back that was taken away.

        Raises OSError when it cannot: nothing else tells of it again, so call again soon.
        """
        self._lost = self._watch.disturbed() or self._lost
        if self._lost:
            self._ensure_switch()
            self._lost = False
        return self._hold.read()

    def release_held(self) -> int:
        """See :meth:`NodeDataplane.release_held`."""
        return self._hold.release()

    # -- the kernel ------------------------------------------------------------------------

    def _indexes(self) -> dict[str, int]:
        # Not by reading all that the kernel tells of each: a move waits for this.
        return {name: index for index, name in socket.if_nameindex()}

    def _place(self, indexes: dict[str, int]) -> Place:
        return Place(
            indexes,
            tuple(addresses(self._route)),
            self._xfrm_interface,
            self.settings.mtu,
            self._home_address,
        )

    def _link_mtu(self, stack: LayerStack) -> int:
        """Of the link in use, for what must not become fragments there."""
        if stack.attachment is None:
            return self.settings.mtu
        return mtu(stack.attachment.interface) or self.settings.mtu

    def _send(self, requests: Iterable[Request]) -> None:
        """Send in one go; what is refused is kept for the answer."""
        listed = list(requests)
        if not listed:
            return
        for refusal in self._route.transact([message for _, message, _ in listed])[0]:
            what, _, fine = listed[refusal.index]
            if refusal.errno not in fine:
                self._refused.append(NodeRefusal(what, str(refusal)))
