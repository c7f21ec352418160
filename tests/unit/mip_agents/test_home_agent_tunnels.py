"""NAT traversal (RFC 3519) and zero-overhead tunnelling (draft 001, appendix D)."""

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

import pytest
from home_agent_world import (
    CARE_OF,
    CARE_OF_2,
    FOREIGN_AGENT,
    HOME,
    HOME_AGENT,
    LAPTOP,
    NAT,
    OTHER_HOME_AGENT,
    PUBLIC,
    D,
    G,
    Nodes,
    RequestFlag,
    S,
    T,
    UdpTunnelRequest,
    World,
    policy,
    request,
)

from gateway.domain.mobility import Encapsulation, Tunnel
from gateway.mip_agents.codec.extensions import UdpTunnelReply, ZeroOverheadRequest
from gateway.mip_agents.outputs import SetBinding
from gateway.mip_agents.policy import Allowance

PRIVATE = IPv4Address("192.168.1.10")
VPN = IPv4Address("203.0.113.1")
ASKED = ZeroOverheadRequest(VPN)


# -- UDP -------------------------------------------------------------------------------------------


def test_h63_behind_a_nat() -> None:
    world = World()
    answers = world.register(NAT, 40404, care_of=PRIVATE, extensions=[UdpTunnelRequest()])
    assert answers.code == 0
    assert answers.udp == UdpTunnelReply(0, forced=False, keepalive_s=110)
    assert answers.set.tunnels == (Tunnel(HOME_AGENT, NAT, Encapsulation.IP_IP, 40404),)
    assert (answers.path.remote.address, answers.path.remote.port) == (NAT, 40404)
    view = world.agent.binding(HOME, world.now)
    assert view.nat
    assert view.via_foreign_agent is None
    assert view.care_of_addresses == (str(PRIVATE),)
    assert "behind a NAT" in answers.event.text


@pytest.mark.parametrize("flags", [D | T, D | T | G])
def test_h63_no_nat_and_not_forced(flags: RequestFlag) -> None:
    world = World()
    answers = world.register(flags=flags, extensions=[UdpTunnelRequest()])
    assert answers.code == 0
    assert answers.udp is None
    assert not answers.set.tunnels[0].udp_port


def test_h63_forced_by_the_mobile_node() -> None:
    world = World()
    answers = world.register(port=5000, extensions=[UdpTunnelRequest(forced=True)])
    assert answers.udp == UdpTunnelReply(0, forced=True, keepalive_s=110)
    assert answers.set.tunnels == (Tunnel(HOME_AGENT, CARE_OF, Encapsulation.IP_IP, 5000),)
    assert not world.agent.binding(HOME, world.now).nat


def test_h63_forced_by_the_home_agent() -> None:
    world = World(policy(udp_tunnelling=Allowance.REQUIRED, keepalive_s=30))
    answers = world.register(extensions=[UdpTunnelRequest()])
    assert answers.udp == UdpTunnelReply(0, forced=True, keepalive_s=30)
    assert answers.set.tunnels[0].udp_port == 434
    # Whoever cannot, need not.
    assert world.register(care_of=CARE_OF_2).set.tunnels == (Tunnel(HOME_AGENT, CARE_OF_2),)


@pytest.mark.parametrize(
    ("protocol", "flags", "inside"),
    [
        (4, D | T | G, Encapsulation.IP_IP),
        (47, D | T, Encapsulation.GRE),
        (55, D | T, Encapsulation.MINIMAL),
        (0, D | T | G, Encapsulation.GRE),
        (0, D | T, Encapsulation.IP_IP),
    ],
)
def test_h63_encapsulation_inside_of_udp(
    protocol: int, flags: RequestFlag, inside: Encapsulation
) -> None:
    world = World()
    wanted = UdpTunnelRequest(encapsulation=protocol)
    answers = world.register(NAT, 9, flags=flags, care_of=PRIVATE, extensions=[wanted])
    assert answers.set.tunnels == (Tunnel(HOME_AGENT, NAT, inside, 9),)


def test_h63_another_port_of_the_nat_takes_a_registration() -> None:
    world = World()
    world.register(NAT, 40404, care_of=PRIVATE, extensions=[UdpTunnelRequest()])
    # Tunnelled data is the dataplane's; here it changes nothing.
    answers = world.send(b"\x04\x04\0\0" + bytes(28), NAT, 50505)
    assert world.agent.counters["discarded_unexpected"] == 1
    assert not answers.of(SetBinding)
    answers = world.register(NAT, 50505, care_of=PRIVATE, extensions=[UdpTunnelRequest()])
    assert answers.set.tunnels == (Tunnel(HOME_AGENT, NAT, Encapsulation.IP_IP, 50505),)
    assert not world.register(NAT, 50505, care_of=PRIVATE, extensions=[UdpTunnelRequest()]).of(
        SetBinding
    )


def test_h63_by_way_of_a_foreign_agent_the_source_proves_no_nat() -> None:
    world = World()
    relayed = UdpTunnelRequest(from_foreign_agent=True)
    answers = world.register(FOREIGN_AGENT, extensions=[relayed])
    assert answers.code == 0
    assert answers.udp is None
    assert answers.set.tunnels == (Tunnel(HOME_AGENT, CARE_OF),)
    forced = UdpTunnelRequest(forced=True, from_foreign_agent=True)
    assert world.register(FOREIGN_AGENT, extensions=[forced]).code == 129


def test_h63_a_foreign_agent_behind_a_nat() -> None:
    world = World()
    answers = world.register(NAT, 777, flags=T, care_of=PRIVATE, behind=[UdpTunnelRequest()])
    assert answers.udp == UdpTunnelReply(0, forced=False, keepalive_s=110)
    assert answers.set.tunnels == (Tunnel(HOME_AGENT, NAT, Encapsulation.IP_IP, 777),)
    # What the mobile node says of tunnels in UDP does not speak for the agent.
    answers = world.register(NAT, 777, flags=T, care_of=PRIVATE, extensions=[UdpTunnelRequest()])
    assert answers.code == 129


def test_h63_what_stands_behind_the_authenticator_is_not_the_mobile_nodes() -> None:
    world = World()
    answers = world.register(port=5000, behind=[UdpTunnelRequest(forced=True)])
    assert answers.code == 0
    assert answers.udp is None
    assert not answers.set.tunnels[0].udp_port


def test_a_deregistration_from_behind_a_nat() -> None:
    world = World()
    world.register(NAT, 40404, care_of=PRIVATE, extensions=[UdpTunnelRequest()])
    assert world.register(NAT, 40404, care_of=PRIVATE, lifetime=0).removed
    world.register(NAT, 40404, care_of=PRIVATE, extensions=[UdpTunnelRequest()])
    assert world.register(NAT, 40404, care_of=HOME, lifetime=0).removed


def test_both_private_is_no_nat() -> None:
    world = World()
    answers = world.register(IPv4Address("10.99.0.1"), care_of=PRIVATE, flags=T)
    assert answers.code == 0
    assert answers.set.tunnels == (Tunnel(HOME_AGENT, PRIVATE),)


def test_a_tunnel_never_leads_to_a_home_agent() -> None:
    world = World()
    for source in (HOME_AGENT, PUBLIC, OTHER_HOME_AGENT):
        assert world.register(source, extensions=[UdpTunnelRequest()]).code == 129


@pytest.mark.parametrize("source", ["127.0.0.1", "10.7.0.5", "10.7.0.99"])
def test_h63_a_forged_source_gets_no_tunnel(source: str) -> None:
    world = World()
    answers = world.register(IPv4Address(source), extensions=[UdpTunnelRequest()])
    assert answers.code in (129, 134)
    assert not world.bound


def test_h63_behind_a_nat_any_care_of_address_may_be_met() -> None:
    world = World()
    inside = IPv4Address("10.7.0.99")
    answers = world.register(NAT, 40404, care_of=inside, extensions=[UdpTunnelRequest()])
    assert answers.code == 0
    assert answers.set.tunnels[0].remote == NAT


# -- zero overhead ---------------------------------------------------------------------------------


def test_zero_overhead_is_confirmed() -> None:
    world = World()
    answers = world.register(extensions=[ASKED])
    assert answers.zero_overhead == VPN
    assert answers.set.zero_overhead == VPN
    assert world.agent.binding(HOME, world.now).zero_overhead == str(VPN)
    assert "zero overhead to 203.0.113.1" in answers.event.text
    assert not world.register(extensions=[ASKED]).of(SetBinding)
    # Whoever asks no more, has it no more.
    answers = world.register()
    assert answers.zero_overhead is None
    assert answers.set.zero_overhead is None


@pytest.mark.parametrize("flags", [D, T, RequestFlag(0)])
def test_zero_overhead_needs_co_location_and_reverse_tunnelling(flags: RequestFlag) -> None:
    world = World()
    answers = world.register(flags=flags, extensions=[ASKED])
    assert answers.code == 0
    assert answers.zero_overhead is None
    assert answers.set.zero_overhead is None


@pytest.mark.parametrize(
    "destination",
    [
        "0.0.0.0",
        "127.0.0.1",
        "224.0.0.1",
        "255.255.255.255",
        str(HOME_AGENT),
        str(PUBLIC),
        str(OTHER_HOME_AGENT),
        str(HOME),
        str(CARE_OF),
        "10.7.0.1",
        "10.8.0.77",
    ],
)
def test_zero_overhead_never_to_these(destination: str) -> None:
    world = World()
    answers = world.register(extensions=[ZeroOverheadRequest(IPv4Address(destination))])
    assert answers.code == 0
    assert answers.zero_overhead is None
    assert answers.set.zero_overhead is None


def test_zero_overhead_by_policy() -> None:
    world = World(policy(zero_overhead=Allowance.OFF))
    assert world.register(extensions=[ASKED]).zero_overhead is None
    world = World(policy(zero_overhead_destinations=(IPv4Network("203.0.113.1/32"),)))
    assert world.register(extensions=[ASKED]).zero_overhead == VPN
    other = ZeroOverheadRequest(IPv4Address("203.0.113.2"))
    assert world.register(extensions=[other]).zero_overhead is None
    world = World(policy(zero_overhead=Allowance.REQUIRED))
    assert world.register().code == 0


def test_zero_overhead_not_through_udp_or_agents() -> None:
    world = World()
    behind = [UdpTunnelRequest(), ASKED]
    assert world.register(NAT, care_of=PRIVATE, extensions=behind).zero_overhead is None
    forced = [UdpTunnelRequest(forced=True), ASKED]
    assert world.register(extensions=forced).zero_overhead is None
    assert world.register(FOREIGN_AGENT, extensions=[ASKED]).zero_overhead is None


def test_zero_overhead_ends_with_a_second_care_of_address() -> None:
    world = World()
    assert world.register(flags=S | D | T, extensions=[ASKED]).zero_overhead == VPN
    answers = world.register(flags=S | D | T, care_of=CARE_OF_2, extensions=[ASKED])
    assert answers.zero_overhead is None
    assert answers.set.zero_overhead is None
    # The mobile node was not told that it is on again.
    answers = world.register(lifetime=0, care_of=CARE_OF_2)
    assert answers.set.tunnels == (Tunnel(HOME_AGENT, CARE_OF),)
    assert answers.set.zero_overhead is None
    assert world.register(extensions=[ASKED]).zero_overhead == VPN


def test_zero_overhead_asked_behind_the_authenticator_is_not_heard() -> None:
    world = World()
    octets = request(identification=world.tick(), behind=[ASKED])
    answers = world.send(octets)
    assert answers.code == 0
    assert answers.zero_overhead is None


def test_zero_overhead_for_one_node_at_a_care_of_address() -> None:
    other = replace(LAPTOP, name="other", home_address=IPv4Address("10.8.0.20"))
    nodes = Nodes(LAPTOP, other)
    world = World(policy(nodes=nodes))
    assert world.register(extensions=[ASKED]).zero_overhead == VPN
    # The laptop lost its address to another node, and its binding is still there.
    for _ in range(2):
        answers = world.register(home=other.home_address, lifetime=3000, extensions=[ASKED])
        assert answers.code == 0
        assert answers.zero_overhead is None
    answers = world.restart(1)
    assert [one.binding.zero_overhead for one in answers.of(SetBinding)] == [VPN, None]
    world.pass_time(2)
    answers = world.register(home=other.home_address, lifetime=3000, extensions=[ASKED])
    assert answers.zero_overhead is None
    assert world.register(extensions=[ASKED]).zero_overhead == VPN
    # The laptop turns up elsewhere.
    assert world.register(care_of=CARE_OF_2, extensions=[ASKED]).zero_overhead == VPN
    answers = world.register(home=other.home_address, lifetime=3000, extensions=[ASKED])
    assert answers.zero_overhead == VPN
    assert answers.set.zero_overhead == VPN
    assert world.register(extensions=[ASKED]).zero_overhead is None


@pytest.mark.parametrize(
    "end", ["expiry", "revoked", "home", "second care-of address", "asked no more"]
)
def test_zero_overhead_leaves_the_care_of_address_free(end: str) -> None:
    other = replace(LAPTOP, name="other", home_address=IPv4Address("10.8.0.20"))
    world = World(policy(nodes=Nodes(LAPTOP, other)))
    assert world.register(extensions=[ASKED]).zero_overhead == VPN
    if end == "expiry":
        world.pass_time(301)
    elif end == "revoked":
        world.agent.revoke(HOME, world.now)
        world.take()
    elif end == "home":
        world.register(lifetime=0, care_of=HOME)
    elif end == "second address":
        world.register(flags=S | D | T, care_of=CARE_OF_2)
    else:
        world.register()
    assert world.register(home=other.home_address, extensions=[ASKED]).zero_overhead == VPN
