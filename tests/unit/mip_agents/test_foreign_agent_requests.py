"""Requests at the foreign agent: relayed as they are, or denied with the right code."""

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

import pytest
from foreign_agent_world import (
    CARE_OF,
    FOREIGN_HOME,
    HOME,
    HOME_AGENT,
    IDENTIFICATION,
    LINK,
    MAC,
    MOBILE_FOREIGN,
    MOBILE_HOME,
    OTHER_HOME,
    OTHER_MAC,
    PEER,
    PEERS,
    PORT,
    X_HOME_AGENT,
    ZERO,
    World,
    reply,
    request,
)

from gateway.domain.endpoint import Endpoint, Path
from gateway.domain.event import Event
from gateway.domain.mobility import Encapsulation
from gateway.mip_agents.authentication import sign, verify
from gateway.mip_agents.codec.codes import ReplyCode
from gateway.mip_agents.codec.extensions import (
    Authentication,
    AuthenticationKind,
    EncapsulatingDelivery,
    Nai,
    RevocationSupport,
    UdpTunnelRequest,
    UnknownExtension,
    VendorExtension,
)
from gateway.mip_agents.codec.registration import RequestFlag
from gateway.mip_agents.foreign_agent.answers import code_name
from gateway.mip_agents.outputs import Link
from gateway.mip_agents.policy import Allowance

REVERSE = RequestFlag.REVERSE
CO_LOCATED = RequestFlag.CO_LOCATED
OWN = IPv4Address("198.51.100.77")


def test_relayed_as_it_is_from_the_care_of_address_to_the_home_agent() -> None:
    world = World(udp_tunnelling=Allowance.OFF)
    octets = request(extensions=[Nai("ann@example.org"), UnknownExtension(200, b"?")])
    world.asks(octets)
    ((_, sent),) = world.relayed()
    assert sent.message == octets
    assert sent.path == Path(Endpoint(CARE_OF, 434), Endpoint(HOME_AGENT, 434))
    assert sent.link is None
    assert not world.to_node()
    assert not world.set_visitors()


def test_own_extensions_follow_what_the_node_signed_and_its_extensions_for_us_go() -> None:
    world = World(peer_agents=PEERS, visitor_associations={MOBILE_FOREIGN.spi: MOBILE_FOREIGN})
    untouched = request()
    octets = request(behind=[EncapsulatingDelivery()], proof=MOBILE_FOREIGN)
    assert octets.startswith(untouched)
    world.asks(octets)
    ((got, sent),) = world.relayed()
    assert sent.message.startswith(untouched)
    _, udp, support, proof = got.extensions
    assert udp == UdpTunnelRequest()
    assert isinstance(support, RevocationSupport)
    assert support.inform
    assert isinstance(proof, Authentication)
    assert proof.kind == AuthenticationKind.FOREIGN_HOME
    assert verify(sent.message, proof, FOREIGN_HOME)


def test_own_extensions_without_a_shared_key_or_for_a_co_located_address() -> None:
    world = World(udp_tunnelling=Allowance.REQUIRED)
    world.asks(request(flags=REVERSE | RequestFlag.GRE))
    ((got, _),) = world.relayed()
    assert got.extensions[1:] == (UdpTunnelRequest(forced=True, encapsulation=47),)
    world = World(peer_agents=PEERS, revocation=False)
    world.asks(request(flags=REVERSE | CO_LOCATED, care_of=OWN), source=OWN)
    ((got, _),) = world.relayed()
    assert len(got.extensions) == 2, "its own proof and ours"


def test_a_deregistration_is_proved_by_the_node_alone() -> None:
    """RFC 5944 section 3.5.4."""
    world = World(peer_agents=PEERS)
    octets = request(lifetime_s=0)
    world.asks(octets)
    ((_, sent),) = world.relayed()
    assert sent.message == octets


def test_a_retransmission_is_relayed_again_and_stays_one_pending_registration() -> None:
    world = World()
    for _ in range(3):
        world.asks(request())
        assert len(world.relayed()) == 1
    world.passes(8)
    assert world.code() == ReplyCode.FA_REGISTRATION_TIMEOUT


def test_denial_has_the_requests_fields_and_goes_where_the_node_waits() -> None:
    world = World()
    world.asks(request(lifetime_s=5000), port=41234)
    ((got, sent),) = world.to_node()
    assert got.code == ReplyCode.FA_LIFETIME_TOO_LONG
    assert got.lifetime_s == 1800
    assert (got.home_address, got.home_agent) == (HOME, HOME_AGENT)
    assert got.identification == IDENTIFICATION
    assert sent.link == Link(LINK, MAC)
    assert sent.path == Path(Endpoint(CARE_OF, 434), Endpoint(HOME, 41234))
    (event,) = world.events("visitor_denied")
    assert event.fields["code"] == 69
    assert event.fields["code_name"] == "fa_lifetime_too_long"
    assert "5000" in event.text
    assert "1800" in event.text
    assert world.agent.counters["fa_lifetime_too_long"] == 1
    assert not world.relayed()


def test_reply_leaves_from_a_unicast_address_when_all_agents_were_asked() -> None:
    world = World()
    world.asks(request(lifetime_s=5000), local=IPv4Address("224.0.0.11"))
    ((_, sent),) = world.to_node()
    assert sent.path.local == Endpoint(CARE_OF, 434)


def test_reply_to_a_node_without_address_is_a_broadcast_to_its_link_address() -> None:
    world = World()
    world.asks(request(home=ZERO), source=ZERO)
    ((got, sent),) = world.to_node()
    assert got.code == ReplyCode.FA_MISSING_NAI
    assert sent.path.remote == Endpoint(IPv4Address("255.255.255.255"), PORT)
    assert sent.link == Link(LINK, MAC)


DENIALS = [
    (65, {"home_agents": (IPv4Network("203.0.113.0/24"),)}, request()),
    (65, {"trust_unsigned_agents": False}, request()),
    (194, {}, request(home_agent=CARE_OF)),
    (194, {}, request(home_agent=IPv4Address("255.255.255.255"))),
    (194, {}, request(home_agent=IPv4Address("224.0.0.5"))),
    (67, {"require_visitor_authentication": True}, request()),
    (67, {"require_visitor_authentication": True}, request(proof=MOBILE_FOREIGN)),
    (
        67,
        {"visitor_associations": {MOBILE_FOREIGN.spi: replace(MOBILE_FOREIGN, key=b"another")}},
        request(proof=MOBILE_FOREIGN),
    ),
    (
        67,
        {"visitor_associations": {MOBILE_FOREIGN.spi: MOBILE_FOREIGN}},
        sign(request(proof=MOBILE_FOREIGN), AuthenticationKind.MOBILE_FOREIGN, MOBILE_FOREIGN),
    ),
    (69, {}, request(lifetime_s=0xFFFF)),
    (70, {}, request(signed=False)),
    (70, {}, sign(request(), AuthenticationKind.MOBILE_HOME, MOBILE_HOME)),
    (70, {}, sign(request(), AuthenticationKind.FOREIGN_HOME, FOREIGN_HOME)),
    (
        70,
        {},
        sign(
            request(signed=False, proof=MOBILE_FOREIGN),
            AuthenticationKind.MOBILE_HOME,
            MOBILE_HOME,
        ),
    ),
    (70, {}, request(home=IPv4Address("127.0.0.1"))),
    (70, {}, request(home=HOME_AGENT)),
    (70, {}, request(home=CARE_OF)),
    (70, {}, request(flags=0, behind=[EncapsulatingDelivery()])),
    (72, {"encapsulations": frozenset({Encapsulation.GRE})}, request()),
    (
        72,
        {"encapsulations": frozenset({Encapsulation.IP_IP})},
        request(flags=REVERSE | RequestFlag.MINIMAL),
    ),
    (
        72,
        {"encapsulations": frozenset({Encapsulation.IP_IP})},
        request(flags=REVERSE | RequestFlag.GRE),
    ),
    (74, {"reverse_tunnelling": Allowance.OFF}, request()),
    (75, {"reverse_tunnelling": Allowance.REQUIRED}, request(flags=0)),
    (77, {}, request(care_of=IPv4Address("198.51.100.2"))),
    (77, {}, request(flags=REVERSE | CO_LOCATED)),
    (77, {}, request(flags=CO_LOCATED, care_of=IPv4Address("255.255.255.255"))),
    (79, {}, request(flags=REVERSE | CO_LOCATED, care_of=OWN, behind=[EncapsulatingDelivery()])),
    (90, {}, request(home_agent=ZERO)),
    (97, {}, request(home=ZERO)),
    (100, {}, request(behind=[VendorExtension(True, 9, 1, b"?")])),
    (105, {"challenge": True}, request()),
]


@pytest.mark.parametrize(("code", "changes", "octets"), DENIALS)
def test_h60_each_denial_code_of_a_request(
    code: int, changes: dict[str, object], octets: bytes
) -> None:
    world = World(**changes)
    world.asks(octets)
    assert world.code() == code
    assert not world.relayed()
    assert world.agent.counters[code_name(code)] == 1
    (event,) = world.events("visitor_denied")
    assert event.fields["code"] == code
    assert event.fields["reason"]
    world.passes(60)
    assert not world.transmits(), "a denied request is not pending"


def test_code_64_when_we_fail_ourselves() -> None:
    world = World(peer_agents={HOME_AGENT: None, X_HOME_AGENT: PEER})
    # What no policy from a configuration can have stands for a fault of ours.
    world.agent.policy.peer_agents[HOME_AGENT] = object()  # type: ignore[index]
    world.asks(request())
    assert world.code() == ReplyCode.FA_UNSPECIFIED
    assert world.events("internal_error")
    assert not world.relayed()
    world.asks(request(home_agent=X_HOME_AGENT, identification=5))
    assert world.relayed(), "others are served as before"


def test_code_66_when_all_places_are_taken() -> None:
    world = World(max_visitors=1)
    world.registers()
    world.asks(request(home=OTHER_HOME, identification=2), mac=OTHER_MAC, source=OTHER_HOME)
    assert world.code() == ReplyCode.FA_INSUFFICIENT_RESOURCES
    world.asks(request(identification=3))
    assert world.relayed(), "who is here may renew"
    world.asks(
        request(home=OTHER_HOME, identification=4, lifetime_s=0),
        mac=OTHER_MAC,
        source=OTHER_HOME,
    )
    assert world.relayed(), "deregistering takes no place"


@pytest.mark.parametrize(("ttl", "code"), [(254, 76), (1, 76), (255, None), (None, None)])
def test_code_76_when_a_router_was_in_between(ttl: int | None, code: int | None) -> None:
    world = World()
    world.asks(request(), ttl=ttl)
    assert [got.code for got, _ in world.to_node()] == ([code] if code else [])
    assert len(world.relayed()) == (0 if code else 1)


def test_distance_does_not_matter_without_reverse_tunnel() -> None:
    world = World()
    world.asks(request(flags=0), ttl=60)
    assert world.relayed()


@pytest.mark.parametrize(("icmp", "code"), [(0, 80), (1, 81), (3, 82), (13, 88)])
def test_codes_80_to_88_when_the_home_agent_is_unreachable(icmp: int, code: int) -> None:
    world = World()
    world.asks(request())
    world.asks(request(home_agent=X_HOME_AGENT))
    world.agent.home_agent_unreachable(HOME_AGENT, icmp, world.now)
    world.took()
    assert world.code() == code
    world.agent.home_agent_unreachable(HOME_AGENT, icmp, world.now)
    assert not world.took(), "told once"
    world.passes(8)
    ((got, _),) = world.to_node()
    assert (got.home_agent, got.code) == (X_HOME_AGENT, 78)


def test_code_78_says_which_home_agent_did_not_answer() -> None:
    world = World(pending_timeout_s=3.0)
    world.asks(request())
    assert not world.passes(2.9)
    world.passes(0.2)
    assert world.code() == ReplyCode.FA_REGISTRATION_TIMEOUT
    (event,) = world.events("visitor_denied")
    assert str(HOME_AGENT) in event.text
    assert world.agent.next_timer() is None


def test_h60_reserved_bits_are_ignored_and_passed_on() -> None:
    world = World(udp_tunnelling=Allowance.OFF)
    octets = request(flags=REVERSE | RequestFlag.RESERVED | RequestFlag.RESERVED_LAST)
    world.asks(octets)
    ((_, sent),) = world.relayed()
    assert sent.message == octets


def test_h53_unknown_skippable_extension_is_passed_on_and_the_other_kind_is_discarded() -> None:
    world = World()
    world.asks(request(extensions=[UnknownExtension(199, b"x")]))
    assert world.relayed()
    world.asks(request(extensions=[UnknownExtension(99, b"x")], identification=2))
    assert not world.transmits()
    assert world.agent.counters["discarded_malformed"] == 1


@pytest.mark.parametrize("size", [0, 1, 2, 23])
def test_h53_short_requests_cost_a_counter(size: int) -> None:
    world = World()
    world.asks(request()[:size])
    assert not world.transmits()
    assert sum(n for name, n in world.agent.counters.items() if name.startswith("discarded")) == 1


def test_h53_every_cut_and_every_flipped_octet_is_harmless() -> None:
    world = World(
        visitor_associations={MOBILE_FOREIGN.spi: MOBILE_FOREIGN},
        udp_tunnelling=Allowance.OFF,
    )
    octets = request(extensions=[Nai("ann@example.org")], proof=MOBILE_FOREIGN)
    for size in range(len(octets)):
        world.asks(octets[:size])
    for at in range(len(octets)):
        for flip in (0x01, 0x80, 0xFF):
            world.asks(octets[:at] + bytes([octets[at] ^ flip]) + octets[at + 1 :])
            assert not world.set_visitors()
            # Whatever is relayed is an exact prefix of what came.
            for _, sent in world.relayed():
                changed = bytes([octets[at] ^ flip])
                assert (octets[:at] + changed + octets[at + 1 :]).startswith(sent.message)
    assert world.agent.counters["internal_errors"] == 0
    assert world.agent.visitors() == []


def test_h54_authenticator_over_data_with_more_behind_it() -> None:
    """What stands behind the proof to us was not covered by it, and does not count."""
    world = World(visitor_associations={MOBILE_FOREIGN.spi: MOBILE_FOREIGN})
    octets = request(proof=MOBILE_FOREIGN) + EncapsulatingDelivery().serialize()
    world.asks(octets)
    assert len(world.relayed()) == 1
    assert not world.relayed()[0][0].first(EncapsulatingDelivery)
    world.hears(reply())
    (done,) = world.set_visitors()
    assert not done.visitor.encapsulating


@pytest.mark.parametrize("spi", [0, 255])
def test_h54_reserved_spi_is_no_proof(spi: int) -> None:
    world = World(visitor_associations={256: replace(MOBILE_FOREIGN, spi=256)})
    proof = Authentication(AuthenticationKind.MOBILE_FOREIGN, spi, bytes(16))
    world.asks(request(behind=[proof]))
    assert world.code() == 67


def test_h54_short_authenticator_is_no_proof() -> None:
    world = World(visitor_associations={MOBILE_FOREIGN.spi: MOBILE_FOREIGN})
    whole = request(proof=MOBILE_FOREIGN)
    authenticator = whole[-16:]
    short = Authentication(AuthenticationKind.MOBILE_FOREIGN, MOBILE_FOREIGN.spi, authenticator[:8])
    world.asks(request(behind=[short]))
    assert world.code() == 67


def test_requests_from_other_interfaces_or_from_nowhere_are_discarded() -> None:
    world = World()
    world.asks(request(), interface="wan0")
    assert not world.transmits()
    path = Path(Endpoint(CARE_OF, 434), Endpoint(HOME, PORT))
    world.agent.receive(request(), path, world.now)
    world.took()
    assert not world.transmits()
    world.asks(request(), source=IPv4Address("224.0.0.1"))
    assert not world.transmits()
    world.asks(request(), port=0)
    assert not world.transmits()
    assert world.agent.counters["discarded_foreign_link"] == 2
    assert world.agent.counters["discarded_source"] == 2


def test_h61_a_copy_of_a_pending_request_from_elsewhere_is_discarded() -> None:
    world = World()
    world.asks(request())
    world.asks(request(), mac=OTHER_MAC)
    assert not world.transmits()
    assert world.agent.counters["discarded_copied_request"] == 1
    world.hears(reply())
    ((_, sent),) = world.to_node()
    assert sent.link == Link(LINK, MAC)


def test_h61_a_flood_of_pending_registrations_pushes_nobody_else_out() -> None:
    world = World(max_pending=20)
    world.asks(request())
    for number in range(500):
        world.asks(request(home=OTHER_HOME, identification=number), mac=OTHER_MAC)
    world.hears(reply())
    assert world.set_visitors(), "the first one is still pending"
    assert world.agent.counters["pending_replaced"] == 500 - 8


def test_h61_many_link_addresses_fill_the_table_but_push_nobody_out() -> None:
    world = World(max_pending=20)
    world.asks(request())
    lines = 0
    for number in range(500):
        mac = b"\x02\x01" + number.to_bytes(4, "big")
        world.asks(request(home=OTHER_HOME, identification=number), mac=mac)
        lines += sum(1 for one in world.outputs if isinstance(one, Event) and one.logged)
    assert world.agent.counters["fa_insufficient_resources"] == 500 - 19
    assert lines <= 20
    world.asks(request(identification=3))
    assert world.relayed(), "who waits already may try again"
    world.hears(reply(identification=3))
    assert world.set_visitors()
    world.passes(60)
    world.asks(request(home=OTHER_HOME, identification=1000), mac=OTHER_MAC)
    assert world.relayed(), "after the timeout there is room again"


def test_who_waits_no_more_has_no_claim_to_a_place() -> None:
    world = World(max_pending=1)
    world.registers()
    world.asks(request(home=OTHER_HOME, identification=2), mac=OTHER_MAC, source=OTHER_HOME)
    assert world.relayed()
    world.asks(request(identification=3))
    assert world.code() == ReplyCode.FA_INSUFFICIENT_RESOURCES


def test_two_home_agents_at_once_with_one_link_address_home_address_and_identification() -> None:
    """Draft 001, section 4.4."""
    world = World()
    world.asks(request())
    world.asks(request(home_agent=X_HOME_AGENT))
    world.hears(reply(home_agent=X_HOME_AGENT), source=X_HOME_AGENT)
    ((got, _),) = world.to_node()
    assert got.home_agent == X_HOME_AGENT
    world.hears(reply())
    ((got, _),) = world.to_node()
    assert got.home_agent == HOME_AGENT
    assert {one.home_agent for one in world.agent.visitors()} == {HOME_AGENT, X_HOME_AGENT}
    world.registers(home_agent=X_HOME_AGENT, lifetime_s=0, identification=9)
    assert [one.home_agent for one in world.agent.visitors()] == [HOME_AGENT]


def test_co_located_node_registers_by_way_of_us_without_a_tunnel() -> None:
    world = World(encapsulations=frozenset({Encapsulation.IP_IP}))
    flags = REVERSE | CO_LOCATED | RequestFlag.GRE
    world.asks(request(flags=flags, care_of=OWN), source=OWN)
    assert world.relayed()
    world.hears(reply())
    ((got, sent),) = world.to_node()
    assert got.code == 0
    assert sent.path.remote == Endpoint(OWN, PORT)
    assert not world.set_visitors()
    (shown,) = world.agent.visitors()
    assert "co-located" in shown.flags
    assert not shown.installed
    assert shown.tunnel == ""


def test_nobody_takes_a_home_address_over_with_another_home_agent() -> None:
    world = World()
    world.registers()
    world.asks(request(home_agent=X_HOME_AGENT, identification=2), mac=OTHER_MAC, source=HOME)
    assert world.code() == 65
    # Its own home agent knows it, so the node itself may come with another interface.
    world.registers(identification=3, mac=OTHER_MAC)
    (done,) = world.set_visitors()
    assert done.visitor.link_address == OTHER_MAC
    world.registers(identification=4, home_agent=X_HOME_AGENT, mac=OTHER_MAC)
    assert world.set_visitors()


def test_a_home_agent_that_shares_a_key_is_trusted_with_its_nodes() -> None:
    world = World(peer_agents={X_HOME_AGENT: replace(PEER, address=X_HOME_AGENT)})
    world.registers()
    world.registers(home_agent=X_HOME_AGENT, identification=2, mac=OTHER_MAC, peer=FOREIGN_HOME)
    assert world.set_visitors()


def test_text_of_events_names_the_node_by_its_nai() -> None:
    world = World()
    world.asks(request(lifetime_s=5000, extensions=[Nai("ann@example.org")]))
    (event,) = world.events("visitor_denied")
    assert "ann@example.org (10.1.0.5)" in event.text
    assert event.fields["nai"] == "ann@example.org"
