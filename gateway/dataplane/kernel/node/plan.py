"""What a stack of layers is in the kernel: pure functions, names of interfaces to their indexes.

Who takes which table (rules in :func:`rules`, priorities in :mod:`.constants`):

- Signalling and tunnels of the lowest layer: what the link reaches by itself, else the router of
  the link in use.
- IKE and ESP: the x-MIP layer, where there is one; else as above.
- i-MIP: the VPN's interface, where there is one; else as above.
- The user's: the top layer, or the holding device.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Final, Protocol

from gateway.dataplane.kernel.mobility.constants import DUMMY
from gateway.dataplane.kernel.node import constants, tunnels
from gateway.dataplane.kernel.node.tunnels import TunnelDevice
from gateway.dataplane.kernel.routing import EVERYTHING, SCOPE_HOST, Address, Route, Rule
from gateway.dataplane.node import Attachment, LayerStack, NodeTunnel
from gateway.domain.access_mode import AccessMode

_TCP_IP: Final = 40
_UNIVERSE: Final = 0

CONSTANT_RULES: Final = (
    Rule(constants.VPN_PRIORITY, constants.VPN_TABLE, constants.NODE_VPN),
    Rule(constants.INNER_PRIORITY, constants.INNER_TABLE, constants.NODE_INNER),
    Rule(
        constants.CONNECTED_PRIORITY,
        constants.MAIN_TABLE,
        constants.MARKS,
        mask=0xFFFF_0000,
        no_default=True,
    ),
    Rule(constants.LINK_PRIORITY, constants.LINK_TABLE, constants.MARKS, mask=0xFFFF_0000),
    Rule(constants.MAIN_PRIORITY, constants.MAIN_TABLE, constants.MARKS, mask=0xFFFF_0000),
    Rule(constants.DHCP_PRIORITY, constants.MAIN_TABLE, udp_ports=(68, 67)),
    Rule(
        constants.USER_PRIORITY,
        constants.USER_TABLE,
        constants.MARKS,
        mask=0xFFFF_0000,
        invert=True,
    ),
)


class _Add(Protocol):
    def __call__(self, name: str, element: object) -> None: ...


class MissingInterfaceError(Exception):
    """The stack names an interface that is not there. Its text says which."""


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A foreign agent, which is not asked for by ARP (RFC 5944 section 4.6)."""

    address: IPv4Address
    device: int
    link_address: bytes


@dataclass(frozen=True, slots=True)
class Place:
    """What of the host the plan depends on."""

    indexes: Mapping[str, int]
    """Of interfaces by name."""
    addresses: tuple[Address, ...]
    xfrm_interface: str
    mtu: int
    home_address: IPv4Address | None
    """i-HoA, also while a stack names none."""

    def index(self, name: str) -> int:
        """Raises :class:`MissingInterfaceError`."""
        found = self.indexes.get(name)
        if found is None:
            raise MissingInterfaceError(f"no interface {name}")
        return found


def behind_agent(attachment: Attachment) -> bool:
    """Whether the router is a foreign agent."""
    return attachment.router is not None and bool(attachment.router_link_address)


def at_home(stack: LayerStack, place: Place) -> bool:
    """Whether the i-HoA is an address of the link: neighbours are answered.

    Already while a return home is being proven: the home agent's answer asks for it by ARP.
    """
    attachment = stack.attachment
    if attachment is None or behind_agent(attachment):
        return False
    return stack.mode is AccessMode.HOME or attachment.address == place.home_address


def tunnel_devices(stack: LayerStack, place: Place) -> list[TunnelDevice]:
    """Raises :class:`MissingInterfaceError`, :class:`~.tunnels.NoSuchTunnelError`."""
    found = []
    if stack.attachment is not None and stack.external is not None and stack.external.co_located:
        link = place.index(stack.attachment.interface)
        found.append(tunnels.device(stack.external, inner=False, link=link))
    if stack.internal is not None and stack.internal.co_located:
        below = _below_inner(stack, place)
        if below:
            found.append(tunnels.device(stack.internal, inner=True, link=below))
    return found


def _below_inner(stack: LayerStack, place: Place) -> int:
    if stack.vpn is not None:
        return place.index(place.xfrm_interface) if stack.vpn.inner is not None else 0
    return place.index(stack.attachment.interface) if stack.attachment is not None else 0


def home_network(address: IPv4Address, link: int, place: Place) -> IPv4Network:
    """Of the home link, as far as its other addresses tell; else of the address alone."""
    for other in place.addresses:
        network = IPv4Network((other.address, other.prefix), strict=False)
        if other.device == link and other.prefix < 32 and address in network:
            return network
    return IPv4Network(address)


def addresses(stack: LayerStack, place: Place) -> list[Address]:
    """Those that are ours to add. Raises :class:`MissingInterfaceError`."""
    found = []
    if place.home_address is not None:
        found.append(Address(place.index(constants.HOLD), place.home_address))
    attachment, external, vpn = stack.attachment, stack.external, stack.vpn
    if attachment is not None:
        link = place.index(attachment.interface)
        if at_home(stack, place) and place.home_address is not None:
            prefix = home_network(place.home_address, link, place).prefixlen
            found.append(Address(link, place.home_address, prefix, _UNIVERSE))
        elif behind_agent(attachment):
            found.append(Address(link, attachment.address))
    for device in tunnel_devices(stack, place):
        index = place.indexes.get(device.name)
        if index is None:
            continue
        inner = device.name in (constants.INNER_IP_IP, constants.INNER_GRE)
        own = DUMMY if inner or external is None else external.home_address
        found.append(Address(index, own, 32, SCOPE_HOST))
    if vpn is not None and vpn.inner is not None:
        found.append(Address(place.index(place.xfrm_interface), vpn.inner))
    return found


def neighbours(stack: LayerStack, place: Place) -> list[Neighbour]:
    """Raises :class:`MissingInterfaceError`."""
    attachment = stack.attachment
    if attachment is None or attachment.router is None or not behind_agent(attachment):
        return []
    link = place.index(attachment.interface)
    return [Neighbour(attachment.router, link, attachment.router_link_address)]


def rules(stack: LayerStack) -> list[Rule]:
    """In addition to :data:`CONSTANT_RULES`."""
    if stack.mode is AccessMode.HELD:
        return []
    return [
        Rule(constants.DIRECT_PRIORITY, constants.MAIN_TABLE, destination=network)
        for network in dict.fromkeys(stack.direct_networks)
    ]


def own_traffic_routes(stack: LayerStack, place: Place) -> list[Route]:
    """Of signalling, tunnels, IKE and ESP. Raises :class:`MissingInterfaceError`."""
    found = []
    attachment, external, vpn = stack.attachment, stack.external, stack.vpn
    if attachment is not None and attachment.router is not None:
        link = place.index(attachment.interface)
        source = attachment.address
        found.append(
            Route(constants.LINK_TABLE, EVERYTHING, link, attachment.router, source=source)
        )
        if external is not None and not external.co_located:
            by_agent = Route(
                constants.VPN_TABLE,
                EVERYTHING,
                link,
                attachment.router,
                source=external.home_address,
            )
            found.append(by_agent)
    if external is not None and external.co_located and attachment is not None:
        device = tunnels.device(external, inner=False, link=0)
        outer = place.index(device.name)
        found.append(Route(constants.VPN_TABLE, EVERYTHING, outer, source=external.home_address))
    if vpn is not None and vpn.inner is not None:
        index = place.index(place.xfrm_interface)
        found.append(Route(constants.INNER_TABLE, EVERYTHING, index, source=vpn.inner))
    return found


def user_routes(stack: LayerStack, place: Place) -> list[Route]:
    """Of the user's packets. Raises :class:`MissingInterfaceError`."""
    segment = place.mtu - _TCP_IP
    attachment, internal, vpn = stack.attachment, stack.internal, stack.vpn
    source, gateway, local = place.home_address, None, []
    if stack.mode is AccessMode.HELD:
        return held_routes(stack.networks, place)
    if internal is not None and internal.co_located:
        device = place.index(tunnels.device(internal, inner=True, link=0).name)
    elif vpn is not None and vpn.inner is not None:
        device = place.index(place.xfrm_interface)
        source = source if internal is not None else vpn.inner
    elif attachment is not None and stack.mode.inside:
        device, gateway = place.index(attachment.interface), attachment.router
        if stack.mode is AccessMode.HOME and source is not None:
            network = home_network(source, device, place)
            if network.prefixlen < 32:
                local.append(
                    Route(constants.USER_TABLE, network, device, source=source, segment=segment)
                )
    else:
        return held_routes(stack.networks, place)
    return local + [
        Route(constants.USER_TABLE, network, device, gateway, source, 0, segment)
        for network in stack.networks
    ]


def held_routes(networks: Iterable[IPv4Network], place: Place) -> list[Route]:
    """Everything of the user's waits."""
    device = place.index(constants.HOLD)
    source, segment = place.home_address, place.mtu - _TCP_IP
    return [
        Route(constants.USER_TABLE, network, device, None, source, place.mtu, segment)
        for network in networks
    ]


def elements(stack: LayerStack, place: Place, link_mtu: int) -> dict[str, tuple[str, ...]]:
    """Of the switch's sets that follow the stack."""
    found: dict[str, list[str]] = {}

    def add(name: str, element: object) -> None:
        found.setdefault(name, []).append(str(element))

    if place.home_address is not None:
        add("home", place.home_address)
    if stack.mode is not AccessMode.HELD:
        for network in stack.direct_networks:
            add("direct", network)
    for layer in (stack.external, stack.internal):
        if layer is not None and layer.co_located:
            _tunnel_elements(layer, stack, add)
    layer = stack.external
    if layer is not None and layer.co_located and layer.zero_overhead is not None:
        peer, agent = layer.zero_overhead, layer.home_agent
        home, care_of = layer.home_address, layer.care_of_address
        add("switched_out", f"{home} . {peer}")
        add("switch_agent", f"{home} . {peer} : {agent}")
        add("switch_care_of", f"{home} . {agent} : {care_of}")
        add("switched_in", f"{agent} . {care_of}")
        add("switch_peer", f"{agent} . {care_of} : {peer}")
        add("switch_home", f"{peer} . {care_of} : {home}")
        add("switch_lengths", f"0-{link_mtu}")
    return {name: tuple(listed) for name, listed in found.items()}


def _tunnel_elements(layer: NodeTunnel, stack: LayerStack, add: _Add) -> None:
    agent, care_of, port = layer.home_agent, layer.care_of_address, layer.udp_port
    if port:
        add("udp_tunnels", f"{agent} . {port} . {care_of}")
        add("udp_agents", f"{agent} . {port}")
    previous, attachment = stack.previous, stack.attachment
    if previous is None or attachment is None or care_of != attachment.address:
        return
    if previous.address not in (care_of, layer.home_address):
        add("late", f"{agent} . {previous.address} : {care_of}")
