"""Foreign agents on links: when they are used, and what happens when they go (RFC 5944)."""

from dataclasses import replace

from node_world import NETWORKS, World, node_policy

from gateway.domain.endpoint import Endpoint
from gateway.mip_agents.advertisement import AgentAdvertisement, AgentFlag
from gateway.mobile_node.outputs import ConnectVpn, Solicit, TransmitRegistration

ALL = {"vpn_fa": True, "endpoint_update": True, "mobike": True}


def advertise(world: World, name: str, *, required: bool) -> None:
    """The agent of a link that has addresses as well."""
    agent = world.agents[name]
    agent.reconfigure(replace(agent.policy, registration_required=required), world.now)
    world.flush()


def test_an_agent_is_not_used_where_there_is_an_address_of_our_own() -> None:
    world = World()
    world.networks["i-fa"].address = "10.3.0.20/24"
    world.networks["i-fa"].router = "10.3.0.1"
    advertise(world, "i-fa", required=False)
    world.plug("eth0", "i-fa")
    world.wait(lambda: world.mode == "c", 2)
    world.run(60)
    assert world.mode == "c"


def test_an_agent_that_insists_is_obeyed_inside() -> None:
    world = World()
    world.networks["i-fa"].address = "10.3.0.20/24"
    advertise(world, "i-fa", required=True)
    world.plug("eth0", "i-fa")
    world.wait_for("f", seconds=20)


def test_an_agent_that_insists_is_obeyed_outside() -> None:
    world = World(**ALL)
    world.networks["x-fa"].address = "203.0.113.70/26"
    advertise(world, "x-fa", required=True)
    world.plug("eth0", "x-fa")
    world.wait_for("fvf", seconds=20)
    assert len(world.of(ConnectVpn)) == 1
    # Without an x-HA there is only the direct way, agent or not.
    world = World(node_policy(external=None), **ALL)
    world.networks["x-fa"].address = "203.0.113.70/26"
    advertise(world, "x-fa", required=True)
    world.plug("eth0", "x-fa")
    world.wait(lambda: world.mode == "vf", 20)


def test_a_session_that_began_behind_an_agent_goes_on_without() -> None:
    world = World(**ALL)
    world.plug("eth0", "x-fa")
    world.wait_for("fvf", seconds=20)
    since = world.now
    world.plug("eth0", "cafe")
    world.wait_for("vf", seconds=1)
    assert not world.of(ConnectVpn, since)


def test_an_agent_that_goes_away_ends_plaintext_when_it_is_missed() -> None:
    world = World()
    world.plug("eth0", "i-fa")
    world.wait_for("f")
    world.swap("eth0", "dead")
    world.run(61)
    assert not world.permitted("eth0")
    world.run(60)
    assert "address" in world.status.why
    world.swap("eth0", "i-fa")
    world.wait_for("f", seconds=70)


def test_an_agent_that_restarts_is_registered_with_anew() -> None:
    world = World()
    world.plug("eth0", "i-fa")
    world.wait_for("f")
    agent = world.agents["i-fa"]
    world.run(40)
    for key in agent.visitor_keys():
        agent._core.visitors.remove(agent._core.visitors.get(*key))
    octets = AgentAdvertisement.parse(agent.advertisement().serialize())
    again = replace(octets, sequence=0).serialize()
    world.node.advertisement(
        again, agent.policy.care_of_address, "eth0", bytes.fromhex("02000000000a"), world.now
    )
    world.flush()
    assert not world.permitted("eth0")
    world.wait(lambda: world.mode == "f" and agent.visitors() and world.carries(), 2)


def test_a_forged_advertisement_ends_at_most_the_plaintext() -> None:
    """H: anybody on the link can say so; it costs a proof, and proves nothing."""
    world = World(**ALL)
    world.plug("eth0", "cafe")
    world.wait_for("vf")
    forged = AgentAdvertisement(
        7,
        1800,
        AgentFlag.FOREIGN_AGENT | AgentFlag.REGISTRATION_REQUIRED,
        (NETWORKS["x-fa"] and world.agents["x-fa"].policy.care_of_address,),
    ).serialize()
    world.node.advertisement(
        forged, world.agents["x-fa"].policy.care_of_address, "eth0", b"\x02" * 6, world.now
    )
    world.flush()
    world.run(2000)
    world.wait(lambda: world.mode != "held" and world.carries(), 120)


def test_a_link_that_works_is_not_searched_for_agents() -> None:
    world = World(**ALL)
    world.plug("eth0", "cafe")
    world.wait_for("vf")
    since = world.run(5).now
    world.run(3600)
    assert not world.of(Solicit, since)


def test_another_router_on_the_link_is_another_link() -> None:
    world = World()
    world.networks["office"].mac = b"\x02" * 6
    world.plug("eth0", "office")
    world.wait_for("c")
    world.networks["office"].mac = b"\x03" * 6
    world.tell_links()
    assert not world.permitted("eth0")
    world.wait_for("c")
    # Learning it late is no change.
    world.networks["office"].mac = b""
    world.tell_links()
    assert world.permitted("eth0")


def test_answers_of_another_interface_are_not_taken() -> None:
    world = World()
    world.plug("eth0", "i-fa")
    world.wait_for("f")
    before = len(world.of(TransmitRegistration))
    world.node.receive(
        b"\x03" * 40, "wlan7", Endpoint(world.agents["i-fa"].policy.care_of_address, 434), world.now
    )
    world.flush()
    assert len(world.of(TransmitRegistration)) == before


def test_agents_that_make_challenges_are_answered_inside_and_outside() -> None:
    world = World(**ALL)
    for agent in (world.agents["i-fa"], world.agents["x-fa"]):
        agent.reconfigure(replace(agent.policy, challenge=True), world.now)
    world.flush()
    world.plug("eth0", "i-fa")
    world.wait_for("f", seconds=20)
    world.run(600)
    assert world.mode == "f"
    world.plug("eth0", "x-fa")
    world.wait_for("fvf", seconds=30)
    world.run(3000)
    assert world.mode == "fvf"
    assert world.carries()
