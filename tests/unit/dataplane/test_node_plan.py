"""What a stack of layers asks of the kernel: addresses, routes, rules, devices, elements."""

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest

from gateway.dataplane.kernel.mobility.constants import DUMMY
from gateway.dataplane.kernel.node import constants, plan, tunnels
from gateway.dataplane.kernel.node.plan import MissingInterfaceError, Place
from gateway.dataplane.kernel.node.tunnel_devices import KernelTunnels, NoSuchTunnelError
from gateway.dataplane.kernel.routing import EVERYTHING, SCOPE_HOST, Address, Route
from gateway.dataplane.node import HELD, Attachment, LayerStack, NodeTunnel, VpnLayer
from gateway.domain.access_mode import AccessMode
from gateway.domain.mobility import Encapsulation

CARE_OF, ROUTER = IPv4Address("192.0.2.10"), IPv4Address("192.0.2.1")
X_HOME, X_AGENT = IPv4Address("203.0.113.5"), IPv4Address("198.51.100.2")
GATEWAY = IPv4Address("198.51.100.3")
I_HOME, I_AGENT = IPv4Address("10.1.0.77"), IPv4Address("10.1.0.1")
TIA = IPv4Address("10.8.0.5")
LINK, HOLD, VPN, OUTER, INNER = 2, 3, 4, 5, 6
INDEXES = {
    "wlan0": LINK,
    constants.HOLD: HOLD,
    "mn-vpn": VPN,
    constants.OUTER_IP_IP: OUTER,
    constants.INNER_IP_IP: INNER,
}
AWAY = Attachment("wlan0", CARE_OF, ROUTER)
BY_AGENT = Attachment("wlan0", X_HOME, ROUTER, b"\2\0\0\0\0\1")


def place(**changes: Any) -> Place:
    return replace(Place(INDEXES, (), "mn-vpn", 1400, I_HOME), **changes)


def tunnel(home: IPv4Address, agent: IPv4Address, care_of: IPv4Address) -> NodeTunnel:
    return NodeTunnel(home, agent, care_of, co_located=True, max_packet_octets=1380)


EXTERNAL = tunnel(X_HOME, X_AGENT, CARE_OF)
INTERNAL = tunnel(I_HOME, I_AGENT, TIA)
CVC = LayerStack(
    AccessMode.CVC, AWAY, None, EXTERNAL, VpnLayer(X_HOME, GATEWAY, TIA), INTERNAL, I_HOME
)
VC = replace(CVC, mode=AccessMode.VC, external=None, vpn=VpnLayer(CARE_OF, GATEWAY, TIA))
C = LayerStack(AccessMode.C, AWAY, internal=tunnel(I_HOME, I_AGENT, CARE_OF), home_address=I_HOME)
VF = replace(
    VC,
    mode=AccessMode.VF,
    vpn=VpnLayer(CARE_OF, GATEWAY, I_HOME),
    internal=replace(INTERNAL, co_located=False),
)
V = replace(VC, mode=AccessMode.V, internal=None, home_address=None)
HOME = LayerStack(AccessMode.HOME, Attachment("wlan0", I_HOME, I_AGENT), home_address=I_HOME)
FVC = replace(
    CVC,
    mode=AccessMode.FVC,
    attachment=BY_AGENT,
    external=replace(EXTERNAL, care_of_address=ROUTER, co_located=False),
)


def user(stack: LayerStack, **changes: Any) -> tuple[int, IPv4Address | None, IPv4Address | None]:
    """Device, next hop and source of the user's default route."""
    (route,) = [r for r in plan.user_routes(stack, place(**changes)) if r.network == EVERYTHING]
    assert route.table == constants.USER_TABLE
    assert route.segment == 1360
    return route.device, route.gateway, route.source


def test_the_users_packets_take_the_top_layer() -> None:
    assert user(CVC) == (INNER, None, I_HOME)
    assert user(VC) == (INNER, None, I_HOME)
    assert user(C) == (INNER, None, I_HOME)
    assert user(VF) == (VPN, None, I_HOME)
    assert user(V, home_address=None) == (VPN, None, TIA)
    assert user(HOME) == (LINK, I_AGENT, I_HOME)
    assert user(HELD) == (HOLD, None, I_HOME)


@pytest.mark.parametrize("stack", [C, VC, CVC, VF, HOME, FVC])
def test_the_users_packets_wait_whatever_layers_there_are(stack: LayerStack) -> None:
    assert user(replace(stack, mode=AccessMode.HELD)) == (HOLD, None, I_HOME)


@pytest.mark.parametrize("mode", [m for m in AccessMode if m is not AccessMode.HELD])
def test_a_mode_without_its_layers_waits(mode: AccessMode) -> None:
    assert user(LayerStack(mode)) == (HOLD, None, I_HOME)


def own(stack: LayerStack) -> dict[int, tuple[int, IPv4Address | None, IPv4Address | None]]:
    routes = plan.own_traffic_routes(stack, place())
    return {one.table: (one.device, one.gateway, one.source) for one in routes}


def test_ike_takes_the_external_layer_or_the_link() -> None:
    link = (LINK, ROUTER, CARE_OF)
    assert own(CVC) == {
        constants.LINK_TABLE: link,
        constants.VPN_TABLE: (OUTER, None, X_HOME),
        constants.INNER_TABLE: (VPN, None, TIA),
    }
    assert own(VC) == {constants.LINK_TABLE: link, constants.INNER_TABLE: (VPN, None, TIA)}
    assert own(C) == {constants.LINK_TABLE: link}
    assert own(FVC)[constants.VPN_TABLE] == (LINK, ROUTER, X_HOME)
    assert own(HELD) == {}


def test_behind_a_foreign_agent_the_home_address_is_on_the_link_and_nobody_is_asked() -> None:
    assert Address(LINK, X_HOME, 32, SCOPE_HOST) in plan.addresses(FVC, place())
    assert [(n.address, n.device) for n in plan.neighbours(FVC, place())] == [(ROUTER, LINK)]
    assert plan.neighbours(CVC, place()) == []


def test_each_layer_has_its_address() -> None:
    assert plan.addresses(CVC, place()) == [
        Address(HOLD, I_HOME),
        Address(OUTER, X_HOME),
        Address(INNER, DUMMY),
        Address(VPN, TIA),
    ]
    assert plan.addresses(HELD, place()) == [Address(HOLD, I_HOME)]


def test_at_home_the_prefix_is_the_links() -> None:
    known = place(addresses=(Address(LINK, IPv4Address("10.1.0.200"), 24, 0),))
    assert Address(LINK, I_HOME, 24, 0) in plan.addresses(HOME, known)
    local, default = plan.user_routes(HOME, known)
    assert local == Route(
        constants.USER_TABLE, IPv4Network("10.1.0.0/24"), LINK, source=I_HOME, segment=1360
    )
    assert default.gateway == I_AGENT
    assert Address(LINK, I_HOME, 32, 0) in plan.addresses(HOME, place())


def test_a_return_home_that_is_being_proven_answers_the_home_agents_arp() -> None:
    assert plan.at_home(replace(HOME, mode=AccessMode.HELD), place())
    assert not plan.at_home(C, place())
    assert not plan.at_home(replace(FVC, attachment=replace(BY_AGENT, address=I_HOME)), place())


def test_devices_are_bound_to_what_is_below_them() -> None:
    outer, inner = plan.tunnel_devices(CVC, place())
    assert (outer.name, outer.link, outer.mark) == ("mn-x-ipip", LINK, constants.NODE_LINK)
    assert (inner.name, inner.link, inner.mark) == ("mn-i-ipip", VPN, constants.NODE_INNER)
    assert (outer.local, outer.remote, outer.mtu) == (CARE_OF, X_AGENT, 1380)
    (inside,) = plan.tunnel_devices(C, place())
    assert inside.link == LINK
    assert plan.tunnel_devices(FVC, place()) == [inner]
    unfinished = replace(CVC, vpn=VpnLayer(X_HOME, GATEWAY, None))
    assert [one.name for one in plan.tunnel_devices(unfinished, place())] == ["mn-x-ipip"]


def test_missing_interfaces_and_tunnels_are_named() -> None:
    with pytest.raises(MissingInterfaceError, match="no interface mn-vpn"):
        plan.tunnel_devices(VC, place(indexes={"wlan0": LINK}))
    minimal = replace(INTERNAL, encapsulation=Encapsulation.MINIMAL)
    with pytest.raises(NoSuchTunnelError, match="minimal"):
        KernelTunnels().check(tunnels.device(minimal, inner=True, link=LINK))
    gre = replace(INTERNAL, encapsulation=Encapsulation.GRE, udp_port=434)
    with pytest.raises(NoSuchTunnelError, match="in UDP"):
        KernelTunnels().check(tunnels.device(gre, inner=True, link=LINK))


def test_elements_of_udp_tunnels_and_of_the_address_before() -> None:
    stack = replace(
        CVC,
        external=replace(EXTERNAL, udp_port=4434),
        previous=Attachment("eth0", IPv4Address("192.0.2.99"), ROUTER),
    )
    assert plan.elements(stack, place(), 1500) == {
        "home": (f"{I_HOME}",),
        "udp_tunnels": (f"{X_AGENT} . 4434 . {CARE_OF}",),
        "udp_agents": (f"{X_AGENT} . 4434",),
        "late": (f"{X_AGENT} . 192.0.2.99 : {CARE_OF}",),
    }


def test_elements_of_address_switching() -> None:
    stack = replace(CVC, external=replace(EXTERNAL, zero_overhead=GATEWAY))
    found = plan.elements(stack, place(), 1500)
    assert found["switched_out"] == (f"{X_HOME} . {GATEWAY}",)
    assert found["switch_agent"] == (f"{X_HOME} . {GATEWAY} : {X_AGENT}",)
    assert found["switch_care_of"] == (f"{X_HOME} . {X_AGENT} : {CARE_OF}",)
    assert found["switched_in"] == (f"{X_AGENT} . {CARE_OF}",)
    assert found["switch_peer"] == (f"{X_AGENT} . {CARE_OF} : {GATEWAY}",)
    assert found["switch_home"] == (f"{GATEWAY} . {CARE_OF} : {X_HOME}",)
    assert found["switch_lengths"] == ("0-1500",)


def test_exceptions_of_a_split_tunnel_end_while_held() -> None:
    direct = (IPv4Network("192.0.2.0/24"),)
    split = replace(VC, direct_networks=direct)
    (rule,) = plan.rules(split)
    assert (rule.destination, rule.table) == (direct[0], constants.MAIN_TABLE)
    assert plan.elements(split, place(), 1500)["direct"] == ("192.0.2.0/24",)
    held = replace(split, mode=AccessMode.HELD)
    assert plan.rules(held) == []
    assert "direct" not in plan.elements(held, place(), 1500)


def test_rules_end_with_the_users_and_none_of_ours_reaches_it() -> None:
    rules = plan.CONSTANT_RULES
    assert [one.priority for one in rules] == sorted(one.priority for one in rules)
    last = rules[-1]
    assert (last.table, last.invert, last.mark, last.mask) == (
        constants.USER_TABLE,
        True,
        constants.MARKS,
        0xFFFF0000,
    )
