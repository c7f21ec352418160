"""Where the mobile node ends up, from each kind of network (draft 001, section 3)."""

import pytest
from node_world import (
    GATEWAY,
    HOME,
    OUTSIDE_HOME,
    VPN_FA,
    VPN_POOL,
    World,
    node_policy,
)

from gateway.mobile_node.outputs import ConnectVpn, TransmitRegistration
from gateway.mobile_node.policy import VpnPolicy

ALL = {"vpn_fa": True, "endpoint_update": True, "mobike": True}
NONE = {"vpn_fa": False, "endpoint_update": False, "mobike": False}


@pytest.mark.parametrize(
    ("network", "offers", "mode", "octets"),
    [
        ("home", NONE, "home", 0),
        ("office", NONE, "c", 20),
        ("i-fa", NONE, "f", 0),
        ("cafe", ALL, "vf", 57),
        ("cafe", {**NONE, "endpoint_update": True}, "vc", 77),
        ("cafe", {**NONE, "endpoint_update": True, "mobike": True}, "vc", 77),
        ("cafe", {**NONE, "mobike": True}, "mc", 77),
        ("cafe", {**NONE, "vpn_fa": True}, "cvf", 77),
        ("cafe", NONE, "cvc", 97),
        ("x-fa", ALL, "fvf", 57),
        ("x-fa", NONE, "fvc", 77),
        ("nat", NONE, "cvc", 117),
        ("nat", ALL, "vf", 65),
    ],
)
def test_each_network_has_its_mode(
    network: str, offers: dict[str, bool], mode: str, octets: int
) -> None:
    world = World(**offers)
    world.plug("eth0", network)
    world.wait_for(mode, seconds=8)
    status = world.status
    assert status.mode == mode
    assert status.overhead_octets == octets
    assert status.home_address == str(HOME)
    world.run(120)
    assert world.mode == mode
    assert world.carries()


def test_home_then_office_then_out_then_out_by_the_external_home_agent() -> None:
    world = World(endpoint_update=True, vpn_fa=False)
    world.plug("eth0", "home")
    world.wait_for("home", seconds=1)
    world.plug("eth0", "office")
    assert world.mode == "held"
    world.wait_for("c", seconds=1)
    world.plug("eth0", "cafe")
    assert world.mode == "held"
    world.wait_for("vc", seconds=4)


def test_detection_inside_takes_one_round_trip() -> None:
    world = World()
    for network, mode in (("office", "c"), ("home", "home")):
        world.plug("eth0", network)
        assert world.wait_for(mode) <= 2 * world.delay_s + 0.001
    # Behind a foreign agent: soliciting it first, and two more hops.
    world = World()
    world.plug("eth0", "i-fa")
    assert world.wait_for("f") <= 6 * world.delay_s + 0.001


def test_the_vpn_connects_from_the_care_of_address_and_asks_for_everything() -> None:
    world = World(**ALL)
    world.plug("eth0", "cafe")
    world.wait_for("vf", seconds=5)
    (connect,) = world.of(ConnectVpn)
    assert (connect.vpn_fa, connect.endpoint_update, connect.mobike) == (True, True, True)
    assert connect.home_address == HOME
    stack = world.stack
    assert stack.external is None
    assert stack.vpn is not None
    assert stack.vpn.gateway == GATEWAY
    assert stack.vpn.inner == HOME
    assert stack.internal is not None
    assert stack.internal.care_of_address == VPN_FA
    assert not stack.internal.co_located


def test_without_endpoint_update_ike_restarts_from_the_external_home_address() -> None:
    world = World(**NONE)
    world.plug("eth0", "cafe")
    world.wait_for("cvc", seconds=5)
    first, second = world.of(ConnectVpn)
    assert str(first.outer) == "203.0.113.20"
    assert second.outer == OUTSIDE_HOME
    assert not second.endpoint_update
    assert "neither endpoint update nor MOBIKE" in world.status.why
    assert world.stack.internal is not None
    assert world.stack.internal.care_of_address == VPN_POOL
    # It is remembered: the next connection goes that way at once.
    world.end_vpn("test")
    world.wait_for("cvc", seconds=10)
    assert len(world.of(ConnectVpn)) == 3


def test_without_an_external_home_agent_a_session_without_mobility_is_kept() -> None:
    world = World(node_policy(external=None), **NONE)
    world.plug("eth0", "cafe")
    world.wait_for("vc", seconds=5)
    assert len(world.of(ConnectVpn)) == 1
    assert "a move ends the session" in world.status.why
    world.plug("eth0", "hotel")
    world.wait_for("vc", seconds=10)
    assert len(world.of(ConnectVpn)) == 2


def test_with_a_dead_external_home_agent_a_session_without_mobility_is_kept() -> None:
    world = World(**NONE)
    world.outside_ha_up = False
    world.plug("eth0", "cafe")
    world.wait_for("vc", seconds=20)
    assert "x-HA gives no answer" in world.status.why


def test_the_profile_may_rule_modes_out() -> None:
    for modes, mode in (({"cvc"}, "cvc"), ({"mc"}, "mc"), ({"vc"}, "vc"), ({"cvf", "vc"}, "vc")):
        world = World(node_policy(modes=frozenset(modes)), **ALL)
        world.plug("eth0", "cafe")
        world.wait_for(mode, seconds=8)
    world = World(node_policy(modes=frozenset({"cvc"}), vpn=VpnPolicy(GATEWAY)), **ALL)
    world.plug("eth0", "office")
    world.wait_for("cvc", seconds=8)
    assert not [
        one
        for one in world.of(TransmitRegistration)
        if one.interface == "eth0" and one.destination != world.stack.external.home_agent
    ]


def test_vpn_alone_when_the_profile_knows_no_home_agents() -> None:
    world = World(node_policy(internal=None, external=None), **ALL)
    world.plug("eth0", "cafe")
    world.wait_for("v", seconds=2)
    assert world.stack.home_address is None
    assert world.status.home_address == str(VPN_POOL)


def test_without_a_gateway_the_node_is_held_outside_and_says_so() -> None:
    world = World(node_policy(vpn=None))
    world.plug("eth0", "cafe")
    world.run(30)
    assert world.mode == "held"
    assert "no VPN gateway" in world.status.why
    world.plug("eth0", "office")
    world.wait_for("c", seconds=2)
