"""Every code that a home agent denies with, and that a denial changes nothing."""

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

import pytest
from home_agent_world import (
    CARE_OF,
    CARE_OF_2,
    CARE_OF_3,
    FA_KEY,
    FOREIGN_AGENT,
    HOME,
    HOME_AGENT,
    KEY,
    LAPTOP,
    NAT,
    OTHER_HOME_AGENT,
    PHONE,
    PUBLIC,
    UNSPECIFIED,
    Answers,
    D,
    G,
    M,
    Nodes,
    RequestFlag,
    S,
    T,
    UdpTunnelRequest,
    World,
    authentic,
    policy,
    request,
    trusting,
)

from gateway.domain.mobility import Encapsulation
from gateway.domain.pools import AddressPool
from gateway.mip_agents.codec.extensions import VendorExtension
from gateway.mip_agents.outputs import SetBinding
from gateway.mip_agents.policy import Allowance, MobileNode, SecurityAssociation

NO_FLAGS = RequestFlag(0)


def assert_denied(answers: Answers, code: int, *, signed: bool = True) -> None:
    assert answers.code == code
    assert answers.reply.lifetime_s == 0
    if signed:
        assert authentic(answers.transmits[0].message, answers.reply)
    else:
        assert not answers.reply.extensions
    event = answers.event
    assert event.name == "registration_denied"
    assert event.fields["code"] == code
    assert event.fields["reason"]
    assert event.fields["reason"] in event.text
    assert not any(type(one).__name__ in ("SetBinding", "RemoveBinding") for one in answers.outputs)


def test_128_after_the_kernel_refused() -> None:
    world = World()
    assert world.register().code == 0
    world.agent.binding_refused(HOME, "no tunnel device", world.now)
    refused = world.take()
    assert refused.removed
    assert refused.event.name == "binding_refused"
    assert "no tunnel device" in refused.event.text
    assert_denied(world.register(), 128)
    world.pass_time(10)
    assert world.register().code == 0


@pytest.mark.parametrize("care_of", [HOME_AGENT, PUBLIC, OTHER_HOME_AGENT])
def test_129_h58_care_of_address_of_a_home_agent(care_of: IPv4Address) -> None:
    world = World()
    assert_denied(world.register(CARE_OF, care_of=care_of), 129)


def test_129_h58_care_of_address_in_a_virtual_home_network() -> None:
    world = World()
    assert_denied(world.register(care_of=IPv4Address("10.7.0.99")), 129)


def test_129_h58_two_mobile_nodes_do_not_tunnel_to_each_other() -> None:
    other = node_at("10.8.0.20")
    world = World(policy(nodes=Nodes(LAPTOP, other)))
    assert_denied(world.register(care_of=other.home_address), 129)
    # An agent that lives in a physical home network is fine.
    agent = IPv4Address("10.8.0.30")
    assert world.register(care_of=agent, flags=T).code == 0


def node_at(address: str) -> MobileNode:
    return replace(LAPTOP, name="other", home_address=IPv4Address(address))


def test_129_another_home_address_than_its_own() -> None:
    node = replace(LAPTOP, nai="laptop@example.org")
    world = World(policy(nodes=Nodes(node)))
    answers = world.register(nai=node.nai, home=IPv4Address("10.7.0.6"))
    assert_denied(answers, 129)


def test_129_no_pool_for_a_dynamic_home_address() -> None:
    world = World(policy(pools={}))
    assert_denied(world.register(nai=PHONE.nai, home=UNSPECIFIED), 129)


@pytest.mark.parametrize(
    "home",
    ["10.7.0.0", "10.7.0.255", "192.0.2.200", "224.0.0.5", "255.255.255.255", "198.51.100.1"],
)
def test_129_h57_configured_home_address_is_no_host_of_ours(home: str) -> None:
    node = node_at(home)
    world = World(policy(nodes=Nodes(node)))
    assert_denied(world.register(home=node.home_address), 129)


def test_129_h58_private_care_of_address_behind_a_nat_without_udp() -> None:
    world = World()
    answers = world.register(NAT, care_of=IPv4Address("192.168.1.10"))
    assert_denied(answers, 129)
    assert "NAT" in answers.event.text


def test_129_udp_tunnelling_off_behind_a_nat_or_forced() -> None:
    world = World(policy(udp_tunnelling=Allowance.OFF))
    behind = world.register(
        NAT, care_of=IPv4Address("192.168.1.10"), extensions=[UdpTunnelRequest()]
    )
    assert_denied(behind, 129)
    assert_denied(world.register(extensions=[UdpTunnelRequest(forced=True)]), 129)
    assert world.register(extensions=[UdpTunnelRequest()]).code == 0


def test_130_no_room() -> None:
    other = node_at("10.8.0.20")
    world = World(policy(nodes=Nodes(LAPTOP, other), max_bindings=1))
    assert world.register().code == 0
    assert_denied(world.register(home=other.home_address), 130)
    assert world.register().code == 0, "renewals are served"
    assert world.register(lifetime=0, care_of=HOME).code == 0
    assert world.register(home=other.home_address).code == 0


def test_130_pool_exhausted() -> None:
    second = replace(PHONE, nai="second@example.org")
    pool = AddressPool("virtual", IPv4Network("10.7.0.64/32"))
    world = World(policy(nodes=Nodes(PHONE, second), pools={"virtual": pool}))
    assert world.register(nai=PHONE.nai, home=UNSPECIFIED).code == 0
    answers = world.register(nai=second.nai, home=UNSPECIFIED, care_of=CARE_OF_2)
    assert_denied(answers, 130)
    assert "virtual" in answers.event.text


def test_130_a_node_that_flaps_is_slowed_down() -> None:
    world = World()
    answers = [world.register(care_of=(CARE_OF, CARE_OF_2)[i % 2]) for i in range(200)]
    assert [one.code for one in answers[:60]] == [0] * 60
    assert {one.code for one in answers} == {0, 130}
    assert 60 <= sum(len(one.of(SetBinding)) for one in answers) <= 60 + 2 * 10 + 1
    last = world.bound[str(HOME)][0]
    assert world.register(care_of=IPv4Address(last)).code == 0, "renewals cost nothing"
    world.pass_time(10)
    assert world.register(care_of=CARE_OF_3).code == 0


def test_131_unknown_node_spi_and_key_look_the_same() -> None:
    world = World()
    wrong = SecurityAssociation(256, b"not the key at all")
    unknown = replace(KEY, spi=999)
    cases = [{"home": IPv4Address("10.7.0.77")}, {"key": wrong}, {"key": unknown}, {"key": None}]
    replies = []
    for case in cases:
        answers = world.register(**case)
        assert_denied(answers, 131, signed=False)
        replies.append(answers.transmits[0].message)
        sent = request(**case)
        assert len(answers.transmits[0].message) < len(sent)
    # Nothing in them tells whether the mobile node exists.
    assert {message[:4] for message in replies} == {b"\x03\x83\x00\x00"}
    assert world.agent.counters["ha_mobile_node_authentication"] == len(cases)
    assert world.bound == {}


def test_132_wanted_from_a_foreign_agent() -> None:
    world = World(policy(**trusting()))
    assert_denied(world.register(FOREIGN_AGENT, care_of=FOREIGN_AGENT, flags=T), 132)
    wrong = replace(FA_KEY, key=b"not the agents' key")
    refused = world.register(FOREIGN_AGENT, care_of=FOREIGN_AGENT, flags=T, fa_key=wrong)
    assert_denied(refused, 132)
    unknown = replace(FA_KEY, spi=4000)
    refused = world.register(FOREIGN_AGENT, care_of=FOREIGN_AGENT, flags=T, fa_key=unknown)
    assert_denied(refused, 132)
    assert world.register(care_of=FOREIGN_AGENT, flags=T, fa_key=FA_KEY).code == 0


def test_132_not_for_want_of_proof_where_none_is_demanded() -> None:
    world = World(policy(**trusting(required=False)))
    assert world.register(care_of=FOREIGN_AGENT, flags=T).code == 0
    # What is there has to be right all the same.
    wrong = replace(FA_KEY, key=b"not the agents' key")
    assert_denied(world.register(care_of=FOREIGN_AGENT, flags=T, fa_key=wrong), 132)
    assert_denied(world.register(care_of=CARE_OF_2, flags=T, fa_key=FA_KEY), 132)


def test_132_of_all_agents_when_unsigned_ones_are_not_trusted() -> None:
    world = World(policy(trust_unsigned_agents=False, **trusting()))
    assert_denied(world.register(care_of=CARE_OF_2, flags=T), 132)
    # A co-located node that came by way of an agent, too.
    assert_denied(world.register(CARE_OF_2, care_of=CARE_OF), 132)
    assert world.register().code == 0
    # Deregistrations never carry the extension (RFC 5944 section 3.5.4).
    assert world.register(care_of=CARE_OF_2, flags=T, lifetime=0).code == 0


def test_133_old_and_repeated() -> None:
    world = World()
    octets = request(identification=world.tick())
    assert world.send(octets).code == 0
    assert_denied(world.send(octets), 133)


def test_134_minimal_and_gre_at_once() -> None:
    world = World()
    assert_denied(world.register(flags=D | T | M | G), 134)


@pytest.mark.parametrize(
    "care_of",
    ["0.0.0.0", "0.0.0.7", "127.0.0.1", "224.0.0.1", "239.1.1.1", "250.0.0.1", "255.255.255.255"],
)
def test_134_h58_care_of_address_that_is_no_host(care_of: str) -> None:
    world = World()
    assert_denied(world.register(CARE_OF, care_of=IPv4Address(care_of)), 134)


def test_134_h58_home_as_care_of_address_with_a_lifetime() -> None:
    world = World()
    assert_denied(world.register(care_of=HOME), 134)


def test_135_h59_too_many_care_of_addresses() -> None:
    node = replace(LAPTOP, max_care_of_addresses=2)
    world = World(policy(nodes=Nodes(node)))
    assert world.register(flags=S | D | T).code == 0
    assert world.register(flags=S | D | T, care_of=CARE_OF_2).code == 0
    assert_denied(world.register(flags=S | D | T, care_of=CARE_OF_3), 135)
    assert world.bound == {str(HOME): (str(CARE_OF), str(CARE_OF_2))}
    assert world.register(flags=S | D | T).code == 0, "a renewal is no further one"
    assert world.register(care_of=CARE_OF_3).code == 0, "without S the others go"
    assert world.bound == {str(HOME): (str(CARE_OF_3),)}


@pytest.mark.parametrize(
    "asked",
    ["10.8.0.255", "10.7.0.255", "255.255.255.255", "0.0.0.0", "198.51.100.99", "224.0.0.11"],
)
def test_136_h57_another_home_agent_or_any(asked: str) -> None:
    world = World()
    octets = request(agent=IPv4Address(asked), identification=world.tick())
    answers = world.send(octets, to=IPv4Address("10.8.0.255"))
    assert_denied(answers, 136)
    assert answers.reply.home_agent == HOME_AGENT
    assert answers.path.local.address == HOME_AGENT


def test_136_only_for_those_who_prove_themselves() -> None:
    world = World()
    answers = world.register(agent=IPv4Address("255.255.255.255"), key=None)
    assert answers.code == 131


def test_137_reverse_tunnelling_off() -> None:
    world = World(policy(reverse_tunnelling=Allowance.OFF))
    assert_denied(world.register(flags=D | T), 137)
    assert world.register(flags=D).code == 0


def test_138_reverse_tunnelling_demanded() -> None:
    world = World(policy(reverse_tunnelling=Allowance.REQUIRED))
    assert_denied(world.register(flags=D), 138)
    assert world.register(flags=D | T).code == 0
    assert world.register(flags=NO_FLAGS, lifetime=0, care_of=HOME).code == 0


@pytest.mark.parametrize(
    ("flags", "allowed"),
    [
        (M, {Encapsulation.IP_IP, Encapsulation.GRE}),
        (G, {Encapsulation.IP_IP, Encapsulation.MINIMAL}),
        (NO_FLAGS, {Encapsulation.GRE}),
    ],
)
def test_139_h60_encapsulation_off(flags: RequestFlag, allowed: set[Encapsulation]) -> None:
    world = World(policy(encapsulations=frozenset(allowed)))
    assert_denied(world.register(flags=D | T | flags), 139)
    world = World()
    assert world.register(flags=D | T | flags).code == 0


def test_140_critical_vendor_extension_of_the_mobile_node() -> None:
    world = World()
    critical = VendorExtension(True, 4711, 1, b"?")
    assert_denied(world.register(extensions=[critical]), 140)
    assert world.register(extensions=[replace(critical, critical=False)]).code == 0


def test_141_critical_vendor_extension_of_the_foreign_agent() -> None:
    world = World()
    critical = VendorExtension(True, 4711, 1, b"?")
    assert_denied(world.register(care_of=FOREIGN_AGENT, flags=T, behind=[critical]), 141)


def test_142_encapsulation_in_udp_off() -> None:
    world = World(policy(encapsulations=frozenset({Encapsulation.IP_IP})))
    for protocol in (47, 55, 17):
        wanted = UdpTunnelRequest(encapsulation=protocol)
        assert_denied(world.register(NAT, extensions=[wanted]), 142)
    assert world.register(NAT, extensions=[UdpTunnelRequest()]).code == 0


def test_h60_reserved_bits_are_ignored() -> None:
    world = World()
    answers = world.register(flags=D | T | RequestFlag.RESERVED | RequestFlag.RESERVED_LAST)
    assert answers.code == 0
    assert world.register().of(type(answers.outputs[0])) == [], "no different binding"


def test_denied_requests_cannot_be_played_again() -> None:
    world = World(policy(reverse_tunnelling=Allowance.OFF))
    octets = request(identification=world.tick())
    assert world.send(octets).code == 137
    world.agent.reconfigure(policy(), world.now)
    world.take()
    assert world.send(octets).code == 133
    assert world.bound == {}


def test_denials_of_one_node_fill_no_log() -> None:
    world = World()
    lines = [world.register(flags=D | M | G).event.logged for _ in range(20)]
    assert sum(lines) == 5
    world.pass_time(60)
    assert world.register(flags=D | M | G).event.logged
