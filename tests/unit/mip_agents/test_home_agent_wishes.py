"""Honest keys, any wishes: whatever is asked, what is granted keeps to the contract."""

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

from home_agent_world import (
    CARE_OF,
    CARE_OF_2,
    FA_KEY,
    FOREIGN_AGENT,
    HOME,
    HOME_AGENT,
    LAPTOP,
    NAT,
    OTHER_HOME_AGENT,
    PHONE,
    PHYSICAL,
    PUBLIC,
    UNSPECIFIED,
    VIRTUAL,
    Answers,
    D,
    Nodes,
    RequestFlag,
    RevocationSupport,
    T,
    UdpTunnelRequest,
    World,
    policy,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.domain.mobility import Encapsulation
from gateway.mip_agents.codec.extensions import (
    Challenge,
    EncapsulatingDelivery,
    UnknownExtension,
    VendorExtension,
    ZeroOverheadRequest,
)
from gateway.mip_agents.codec.registration import RegistrationReply
from gateway.mip_agents.outputs import Keep, RemoveBinding, SetBinding, Transmit
from gateway.mip_agents.policy import Allowance, PeerAgent

OTHER = replace(LAPTOP, name="other", home_address=IPv4Address("10.8.0.20"))
PRIVATE = IPv4Address("192.168.1.10")
addresses = st.sampled_from(
    [
        CARE_OF,
        CARE_OF_2,
        FOREIGN_AGENT,
        HOME,
        HOME_AGENT,
        NAT,
        OTHER_HOME_AGENT,
        PRIVATE,
        PUBLIC,
        UNSPECIFIED,
        OTHER.home_address,
        *map(IPv4Address, ("127.0.0.1", "224.0.0.9", "255.255.255.255", "10.8.0.255", "10.8.0.7")),
    ]
)


def often(usual: object, other: st.SearchStrategy) -> st.SearchStrategy:
    return st.sampled_from([True, True, True, False]).flatmap(
        lambda yes: st.just(usual) if yes else other
    )


extensions = st.lists(
    st.one_of(
        st.builds(
            UdpTunnelRequest, st.booleans(), st.booleans(), st.sampled_from([0, 4, 17, 47, 55])
        ),
        st.builds(ZeroOverheadRequest, addresses),
        st.builds(RevocationSupport, st.integers(0, 2**32 - 1), st.booleans()),
        st.builds(
            VendorExtension,
            often(False, st.just(True)),
            st.integers(0, 2**32 - 1),
            st.just(1),
            st.just(b"x"),
        ),
        st.just(ZeroOverheadRequest(IPv4Address("192.0.2.99"))),
        st.builds(EncapsulatingDelivery),
        st.builds(Challenge, st.binary(min_size=1, max_size=8)),
        st.builds(UnknownExtension, st.integers(150, 200), st.binary(max_size=8)),
    ),
    max_size=4,
)
wishes = st.fixed_dictionaries(
    {
        "flags": often(D | T, st.integers(0, 255).map(RequestFlag)),
        "lifetime": often(300, st.sampled_from([0, 1, 1800, 0xFFFE, 0xFFFF])),
        "agent": often(HOME_AGENT, addresses),
        "care_of": often(CARE_OF, addresses),
        "extensions": extensions,
        "behind": often([], extensions),
        "fa_key": often(None, st.just(FA_KEY)),
    }
)
whose = st.sampled_from(
    [
        {"home": HOME},
        {"home": OTHER.home_address},
        {"home": UNSPECIFIED, "nai": PHONE.nai},
        {"home": IPv4Address("10.7.0.200"), "nai": PHONE.nai},
        {"home": HOME, "nai": "nobody@example.org"},
    ]
)
allowances = often(Allowance.ALLOWED, st.sampled_from(Allowance))
policies = st.fixed_dictionaries(
    {
        "lifetime_s": st.sampled_from([60, 1800, 0xFFFF]),
        "encapsulations": st.sets(st.sampled_from(Encapsulation), min_size=2).map(frozenset),
        "reverse_tunnelling": allowances,
        "udp_tunnelling": allowances,
        "zero_overhead": allowances,
        "simultaneous": st.booleans(),
        "broadcasts": st.booleans(),
        "revocation": st.booleans(),
        "trust_unsigned_agents": often(True, st.just(False)),
        "max_bindings": st.sampled_from([1, 100]),
        "zero_overhead_destinations": st.sampled_from([(), (IPv4Network("192.0.2.0/24"),)]),
    }
)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_whatever_is_asked_the_answer_keeps_to_the_contract(data: st.DataObject) -> None:
    settings_ = data.draw(policies)
    peers = {FOREIGN_AGENT: PeerAgent(FOREIGN_AGENT, (FA_KEY,), data.draw(st.booleans()))}
    world = World(policy(nodes=Nodes(LAPTOP, PHONE, OTHER), peer_agents=peers, **settings_))
    for _ in range(data.draw(st.integers(1, 8))):
        asked = data.draw(wishes) | data.draw(whose)
        source = data.draw(often(None, addresses))
        port = data.draw(st.sampled_from([434, 40404]))
        bound_before = world.bound
        answers = world.register(source, port, **asked)
        _check(world, answers, asked, bound_before)
        world.pass_time(data.draw(st.sampled_from([0.0, 1.0, 100.0])))
        _check_table(world)
    # A new process has a new pool.
    world.policy = replace(world.policy, pools=policy().pools)
    world.restart(1.0)
    _check_table(world)
    world.pass_time(100_000)
    world.pass_time(100)
    if world.policy.lifetime_s != 0xFFFF:
        assert not world.bound
        assert not world.records
        assert world.agent.next_timer() is None
        assert world.policy.pools["virtual"].in_use == 0


def _check(world: World, answers: Answers, asked: dict, bound_before: dict) -> None:
    replies = [one for one in answers.transmits if one.message[0] == 3]
    if not replies:
        assert world.bound == bound_before
        assert [one.name for one in answers.events] in ([], ["registration_discarded"])
        return
    assert len(replies) == 1
    reply = RegistrationReply.parse(replies[0].message)
    assert reply.code in {0, 1} | set(range(128, 143))
    assert len(answers.events) == 1
    assert answers.event.fields["code"] == reply.code
    if reply.code > 1:
        assert not [x for x in answers.outputs if isinstance(x, SetBinding | RemoveBinding | Keep)]
        assert world.bound == bound_before
        return
    assert reply.lifetime_s <= asked["lifetime"]
    assert (reply.lifetime_s == 0) == (asked["lifetime"] == 0)
    kinds = [type(one) for one in answers.outputs]
    told = kinds.index(Transmit)
    assert not {SetBinding, RemoveBinding, Keep} & set(kinds[told:])
    if reply.lifetime_s:
        assert str(reply.home_address) in world.bound
        assert str(asked["care_of"]) in world.bound[str(reply.home_address)]
    for one in answers.of(SetBinding):
        _check_binding(world, one.binding)
    if answers.zero_overhead is not None:
        view = world.agent.binding(reply.home_address, world.now)
        assert view is not None
        assert view.zero_overhead == str(answers.zero_overhead)
    if answers.udp is not None and answers.udp.accepted:
        view = world.agent.binding(reply.home_address, world.now)
        assert view is not None
        assert any(" in UDP to " in one for one in view.tunnels)


def _check_binding(world: World, binding: object) -> None:
    rules = world.policy
    assert binding.home_agent == HOME_AGENT  # type: ignore[attr-defined]
    assert binding.home_address in binding.home_network.network  # type: ignore[attr-defined]
    assert binding.home_network in (VIRTUAL, PHYSICAL)  # type: ignore[attr-defined]
    tunnels = binding.tunnels  # type: ignore[attr-defined]
    assert 1 <= len(tunnels) <= (3 if rules.simultaneous else 1)
    for tunnel in tunnels:
        assert tunnel.local == HOME_AGENT
        assert tunnel.encapsulation in rules.encapsulations
        assert tunnel.remote not in (HOME_AGENT, PUBLIC, OTHER_HOME_AGENT, HOME, UNSPECIFIED)
        assert not tunnel.remote.is_multicast
        assert not tunnel.remote.is_loopback
        assert tunnel.remote not in VIRTUAL.network
        assert rules.udp_tunnelling is not Allowance.OFF or not tunnel.udp_port
    reverse = binding.reverse  # type: ignore[attr-defined]
    assert rules.reverse_tunnelling is not Allowance.REQUIRED or reverse
    assert rules.reverse_tunnelling is not Allowance.OFF or not reverse
    assert rules.broadcasts or not binding.broadcasts  # type: ignore[attr-defined]
    switched = binding.zero_overhead  # type: ignore[attr-defined]
    if switched is not None:
        (tunnel,) = tunnels
        assert not tunnel.udp_port
        assert binding.co_located  # type: ignore[attr-defined]
        assert reverse
        assert rules.zero_overhead is not Allowance.OFF
        assert not any(switched in one.network for one in (VIRTUAL, PHYSICAL))
        allowed = rules.zero_overhead_destinations
        assert not allowed or any(switched in one for one in allowed)


def _check_table(world: World) -> None:
    assert len(world.bound) <= world.policy.max_bindings
    switched = [
        view.care_of_addresses
        for view in world.agent.bindings(world.now)
        if view.zero_overhead is not None
    ]
    assert len(switched) == len(set(switched)), "one at each care-of address"
