"""What the node does when something on the way refuses, is silent, or wants a login."""

from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from node_world import GATEWAY, HOME, OUTSIDE_HOME, VPN_POOL, World, node_policy

from gateway.dataplane.node import NodeRefusal
from gateway.domain.event import Event
from gateway.domain.mobility_credential import MobilityCredential, MobilityGrant
from gateway.mip_agents.policy import Algorithm
from gateway.mobile_node.inputs import Portal
from gateway.mobile_node.outputs import (
    Apply,
    ConnectVpn,
    KeepCredentials,
    Permit,
    ProbePortal,
    TransmitRegistration,
)
from gateway.mobile_node.policy import VpnPolicy

ALL = {"vpn_fa": True, "endpoint_update": True, "mobike": True}
NONE = {"vpn_fa": False, "endpoint_update": False, "mobike": False}


# -- captive portals ------------------------------------------------------------------------


@pytest.mark.parametrize("external", [True, False])
def test_a_captive_portal_is_reported_and_waited_out(external: bool) -> None:
    policy = node_policy() if external else node_policy(external=None)
    world = World(policy, **ALL)
    world.networks["cafe"].portal = Portal.CAPTIVE
    world.plug("eth0", "cafe")
    world.run(60)
    assert world.mode == "held"
    assert "gateway mn portal" in world.status.why
    assert world.status.interfaces[0].verdict == "captive portal"
    assert not world.of(Permit)
    since = world.now
    world.run(600)
    probes = world.of(ProbePortal, since)
    assert 9 <= len(probes) <= 20
    connects = len(world.of(ConnectVpn))
    assert connects <= 3
    world.networks["cafe"].portal = Portal.OPEN
    world.wait_for("vf", seconds=70)


def test_a_portal_that_begins_after_the_outside_home_agent_answered_is_recognised() -> None:
    world = World(node_policy(), **ALL)
    world.plug("eth0", "cafe")
    world.run(0.5)
    assert world.mode == "held"
    world.networks["cafe"].portal = Portal.CAPTIVE
    world.run(90)
    assert world.status.interfaces[0].verdict == "captive portal"
    world.networks["cafe"].portal = Portal.OPEN
    world.wait_for("vf", seconds=70)


def test_a_network_that_passes_only_the_web_is_left_by_tcp() -> None:
    for policy in (node_policy(), node_policy(external=None)):
        world = World(policy, **ALL)
        world.plug("eth0", "web-only")
        world.wait_for("vf", seconds=60)
        connect = world.of(ConnectVpn)[-1]
        assert connect.tcp
        assert world.stack.external is None
        assert "over TCP" in world.status.why
        assert world.mode == "vf"
        # Back where UDP passes, the session is a movable one again.
        world.plug("eth0", "cafe")
        world.wait_for("vf", seconds=10)
        assert not world.of(ConnectVpn)[-1].tcp


def test_tcp_only_where_the_profile_allows_it() -> None:
    world = World(node_policy(vpn=VpnPolicy(GATEWAY, tcp=False)), **ALL)
    world.plug("eth0", "web-only")
    world.run(120)
    assert world.mode == "held"
    assert not [one for one in world.of(ConnectVpn) if one.tcp]
    assert "use another network" in world.status.why


def test_a_dead_network_is_tried_for_ever_but_ever_more_slowly() -> None:
    world = World(**ALL)
    world.plug("eth0", "dead")
    world.run(600)
    since = world.now
    world.run(3600)
    assert len(world.of(ConnectVpn, since)) <= 120
    assert len(world.of(TransmitRegistration, since)) <= 1500
    world.networks["dead"].udp = True
    world.wait_for("vf", seconds=130)


# -- the data path --------------------------------------------------------------------------


def test_where_only_udp_passes_the_external_tunnel_is_forced_into_udp() -> None:
    world = World(**NONE)
    world.networks["cafe"].ip_ip = False
    world.plug("eth0", "cafe")
    world.wait_for("cvc", seconds=60)
    assert world.stack.external is not None
    assert world.stack.external.udp_port
    assert world.status.overhead_octets == 97 + 12
    # The next network is given its chance without.
    world.plug("eth0", "hotel")
    world.wait_for("cvc", seconds=5)
    assert not world.stack.external.udp_port


def test_where_esp_does_not_pass_it_is_put_into_udp() -> None:
    world = World(**ALL, blocks_plain_esp=True)
    world.plug("eth0", "cafe")
    world.wait_for("vf", seconds=40)
    assert world.of(ConnectVpn)[-1].force_udp
    assert world.gateway.session is not None
    assert world.gateway.session.encapsulated


# -- the gateway ----------------------------------------------------------------------------


def test_a_gateway_that_refuses_is_not_hammered_and_the_reason_is_told() -> None:
    world = World(**ALL, refuses="the password is wrong")
    world.plug("eth0", "cafe")
    world.run(1200)
    assert world.mode == "held"
    assert "the password is wrong; ask your administrator" in world.status.why
    assert len(world.of(ConnectVpn)) <= 8
    assert not [one for one in world.of(ConnectVpn) if one.tcp]
    world.gateway.refuses = ""
    world.node.reconnect(world.now)
    world.flush()
    world.wait_for("vf", seconds=5)


def test_a_gateway_that_is_down_is_found_again() -> None:
    world = World(**ALL)
    world.plug("eth0", "cafe")
    world.wait_for("vf")
    world.gateway.up = False
    world.run(600)
    assert world.mode == "held"
    world.gateway.up = True
    # By whichever way is tried next.
    world.wait_for("vf", "cvf", seconds=130)


def test_a_session_that_ends_is_brought_up_again_at_once() -> None:
    world = World(**ALL)
    world.plug("eth0", "cafe")
    world.wait_for("vf")
    world.run(100)
    world.end_vpn("the gateway restarts")
    assert world.mode == "held"
    assert world.wait_for("vf") <= 2.5


def test_sessions_that_end_at_once_are_not_brought_up_for_ever_at_once() -> None:
    world = World(**ALL)
    world.plug("eth0", "cafe")
    for _ in range(40):
        world.run_until(world.now + 300, lambda: world.gateway.session is not None)
        world.end_vpn("it crashed")
    assert len(world.of(ConnectVpn, world.now - 600)) < 20
    world.wait_for("vf", seconds=70)


# -- the gateway's foreign agent ------------------------------------------------------------


def test_a_denial_by_the_gateways_foreign_agent_leads_back_to_an_inner_address() -> None:
    world = World(**ALL)
    agent = world.agents["vpn-fa"]
    agent.reconfigure(replace(agent.policy, max_visitors=0), world.now)
    world.plug("eth0", "cafe")
    world.wait_for("vc", seconds=30)
    assert world.stack.internal is not None
    assert world.stack.internal.care_of_address == VPN_POOL
    assert "foreign agent" in world.status.why
    # For a while it is not asked for again.
    world.end_vpn("test")
    world.wait_for("vc", seconds=5)
    assert not world.of(ConnectVpn)[-1].vpn_fa


def test_a_useless_advertisement_leads_back_to_an_inner_address() -> None:
    world = World(**ALL)
    up = world.node.vpn_up
    world.node.vpn_up = (
        lambda session, now: up(  # type: ignore[method-assign]
            replace(session, advertisement=session.advertisement[:-3]), now
        )
    )
    world.plug("eth0", "cafe")
    world.wait_for("vc", seconds=30)


def test_an_inside_home_agent_that_is_dead_is_named() -> None:
    world = World(**ALL)
    world.inside_ha_up = False
    world.plug("eth0", "cafe")
    world.run(200)
    assert world.mode == "held"
    assert "10.0.0.2 gives no answer through it" in world.status.why
    assert world.gateway.session is not None
    world.inside_ha_up = True
    world.wait(lambda: world.mode != "held" and world.carries(), 130)


def test_a_gateway_that_has_another_address_for_us_is_asked_without_its_foreign_agent() -> None:
    world = World(**ALL, refuses="the peer refused the child SA with TS_UNACCEPTABLE")
    world.plug("eth0", "cafe")
    world.wait(lambda: len(world.of(ConnectVpn)) == 2, 5)
    assert not world.of(ConnectVpn)[-1].vpn_fa
    assert world.of(ConnectVpn)[-1].endpoint_update
    world.gateway.refuses = ""
    world.wait_for("vc", seconds=60)


def test_an_inside_home_agent_that_restarts_does_not_cost_the_gateways_foreign_agent() -> None:
    world = World(**ALL)
    world.plug("eth0", "cafe")
    world.wait_for("vf")
    world.inside_ha_up = False
    world.end_vpn("test")
    world.run(90)
    assert world.mode == "held"
    assert "10.0.0.2" in world.status.why
    world.inside_ha_up = True
    world.wait_for("vf", seconds=130)
    assert all(one.vpn_fa for one in world.of(ConnectVpn))


def test_a_gateway_that_insists_on_its_foreign_agent_is_not_asked_without_for_ever() -> None:
    world = World(**ALL)
    world.plug("eth0", "cafe")
    agent = world.agents["vpn-fa"]
    agent.reconfigure(replace(agent.policy, max_visitors=0), world.now)
    world.wait(lambda: [one for one in world.of(ConnectVpn) if not one.vpn_fa], 60)
    world.node.vpn_failed("NO_PROPOSAL_CHOSEN", "", True, world.now)
    world._close_vpn("refused")
    agent.reconfigure(replace(agent.policy, max_visitors=10), world.now)
    world.flush()
    world.wait_for("vf", seconds=60)


# -- what a login teaches -------------------------------------------------------------------


def test_a_profile_with_only_a_gateway_learns_the_rest() -> None:
    policy = node_policy()
    world = World(replace(policy, internal=None, external=None), **ALL)
    grants = (
        MobilityCredential(
            MobilityGrant(True, policy.internal.home_agent, HOME, policy.internal.home_network),
            policy.internal.association.spi,
            policy.internal.association.key,
        ),
        MobilityCredential(
            MobilityGrant(
                False, policy.external.home_agent, OUTSIDE_HOME, policy.external.home_network
            ),
            policy.external.association.spi,
            policy.external.association.key,
        ),
    )
    up = world.node.vpn_up
    world.node.vpn_up = lambda session, now: up(  # type: ignore[method-assign]
        replace(session, credentials=grants), now
    )
    world.plug("eth0", "cafe")
    world.wait_for("vc", seconds=10)
    (kept, *_) = world.of(KeepCredentials)
    assert kept.credentials == grants
    assert world.stack.home_address == HOME
    assert world.node.policy.internal.association.algorithm is Algorithm.HMAC_SHA256
    assert len(world.of(ConnectVpn)) == 1
    # And the inside is known from then on.
    world.plug("eth0", "office")
    world.wait_for("c", seconds=2)


@pytest.mark.parametrize("address", [GATEWAY, node_policy().external.home_agent])
def test_an_inside_that_the_outside_reaches_is_not_learnt(address: IPv4Address) -> None:
    policy = node_policy()
    world = World(replace(policy, internal=None), **ALL)
    grant = MobilityCredential(
        MobilityGrant(True, address, HOME, policy.internal.home_network), 300, b"k" * 32
    )
    up = world.node.vpn_up
    world.node.vpn_up = lambda session, now: up(  # type: ignore[method-assign]
        replace(session, credentials=(grant,)), now
    )
    world.plug("eth0", "cafe")
    world.wait_for("v", seconds=10)
    assert not world.of(KeepCredentials)
    assert world.node.policy.internal is None
    assert [one for one in world.of(Event) if one.name == "credentials_refused"]


@pytest.mark.parametrize("octets", [300, 5000])
def test_a_credential_that_no_request_carries_changes_nothing(octets: int) -> None:
    policy = node_policy()
    world = World(**ALL)
    grant = MobilityCredential(
        MobilityGrant(True, policy.internal.home_agent, HOME, policy.internal.home_network),
        300,
        b"k" * 32,
        bytes(octets),
    )
    up = world.node.vpn_up
    world.node.vpn_up = lambda session, now: up(  # type: ignore[method-assign]
        replace(session, credentials=(grant,)), now
    )
    world.plug("eth0", "cafe")
    world.wait_for("vf", seconds=10)
    assert world.node.policy == policy
    assert not world.of(KeepCredentials)


# -- the dataplane --------------------------------------------------------------------------


def test_a_refusal_of_the_kernel_holds_and_is_tried_again() -> None:
    world = World()
    world.plug("eth0", "office")
    world.wait_for("c")
    since = world.now
    world.node.refused(NodeRefusal("the tunnel to 10.0.0.2", "out of memory"), world.now)
    world.flush()
    assert world.mode == "held"
    assert not world.permitted("eth0")
    assert "out of memory" in world.status.why
    world.wait_for("c", seconds=5)
    assert world.of(Apply, since)


def test_a_kernel_that_always_refuses_is_asked_ever_more_slowly() -> None:
    world = World()
    world.plug("eth0", "office")
    world.wait_for("c")
    since = world.now
    for _ in range(200):
        world.run(5)
        if world.mode != "held":
            world.node.refused(NodeRefusal("mn0", "no such device"), world.now)
            world.flush()
    assert len(world.of(Apply, since)) < 100


# -- loss and delay -------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_lossy_and_slow_networks_only_take_longer(seed: int) -> None:
    world = World(seed=seed, **ALL)
    world.loss, world.delay_s, world.jitter_s = 0.3, 0.15, 0.4
    for network, modes in (
        ("office", {"c"}),
        ("cafe", {"vf", "vc", "cvf", "cvc"}),
        ("i-fa", {"f"}),
        ("x-fa", {"fvf", "fvc"}),
        ("home", {"home"}),
    ):
        world.plug("eth0", network)
        world.wait(lambda m=modes: world.mode in m and world.carries(), 3000)
