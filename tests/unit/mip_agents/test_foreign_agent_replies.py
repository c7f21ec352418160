"""Replies at the foreign agent: matched, judged, passed on; the visitors that come of them."""

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
    OTHER_MAC,
    PEER,
    PEERS,
    PORT,
    WALL_S,
    X_HOME_AGENT,
    ZERO,
    World,
    reply,
    request,
)

from gateway.domain.endpoint import Endpoint, Path
from gateway.domain.event import Severity
from gateway.domain.mobility import Encapsulation, Tunnel, Visitor
from gateway.mip_agents.advertisement import AgentAdvertisement
from gateway.mip_agents.authentication import sign, verify
from gateway.mip_agents.codec.codes import ReplyCode
from gateway.mip_agents.codec.extensions import (
    Authentication,
    AuthenticationKind,
    Challenge,
    EncapsulatingDelivery,
    Extension,
    Nai,
    RevocationSupport,
    UdpTunnelReply,
    UnknownExtension,
    VendorExtension,
)
from gateway.mip_agents.codec.registration import RequestFlag
from gateway.mip_agents.codec.tunnel_data import TunnelData
from gateway.mip_agents.foreign_agent.answers import code_name
from gateway.mip_agents.outputs import Link, RemoveVisitor, SetVisitor, Transmit
from gateway.mip_agents.policy import Allowance

REVERSE = RequestFlag.REVERSE
PEER_WORLD = {"peer_agents": PEERS}


def test_accepted_reply_goes_to_the_node_as_it_is_after_the_visitor_is_set() -> None:
    world = World()
    world.asks(request(), port=41234)
    octets = reply(extensions=[UnknownExtension(200, b"?")])
    world.hears(octets)
    ((_, sent),) = world.to_node()
    assert sent.message == octets
    assert sent.link == Link(LINK, MAC)
    assert sent.path == Path(Endpoint(CARE_OF, 434), Endpoint(HOME, 41234))
    kinds = [type(one) for one in world.outputs if isinstance(one, SetVisitor | Transmit)]
    assert kinds == [SetVisitor, Transmit]
    ((done),) = world.set_visitors()
    assert done.visitor == Visitor(
        HOME, HOME_AGENT, Tunnel(CARE_OF, HOME_AGENT), LINK, MAC, max_packet_octets=1400
    )
    (shown,) = world.agent.visitors()
    assert shown.home_address == HOME
    assert shown.lifetime_s == 600
    assert shown.expires_in_s == 600
    assert shown.granted_at == WALL_S + world.now
    assert shown.flags == ("reverse",)
    assert shown.installed
    assert shown.link_address == "02:00:00:00:00:0a"
    assert world.agent.visitor_keys() == [(HOME_AGENT, HOME)]
    assert world.agent.visitor(HOME_AGENT, HOME) == shown
    assert world.agent.visitor(X_HOME_AGENT, HOME) is None
    (event,) = world.events("visitor_registered")
    assert event.fields["lifetime_s"] == 600
    assert "ip-ip to 192.0.2.10" in event.text


@pytest.mark.parametrize(
    ("flags", "encapsulation", "reverse"),
    [
        (0, Encapsulation.IP_IP, False),
        (REVERSE, Encapsulation.IP_IP, True),
        (REVERSE | RequestFlag.MINIMAL, Encapsulation.MINIMAL, True),
        (REVERSE | RequestFlag.GRE, Encapsulation.GRE, True),
    ],
)
def test_the_tunnel_is_the_one_asked_for(
    flags: int, encapsulation: Encapsulation, reverse: bool
) -> None:
    world = World()
    world.registers(flags=flags)
    (done,) = world.set_visitors()
    assert done.visitor.tunnel == Tunnel(CARE_OF, HOME_AGENT, encapsulation)
    assert done.visitor.reverse == reverse


def test_both_delivery_styles() -> None:
    world = World()
    world.registers()
    assert not world.set_visitors()[0].visitor.encapsulating
    world.registers(identification=2, behind=[EncapsulatingDelivery()])
    assert world.set_visitors()[0].visitor.encapsulating
    assert world.agent.visitors()[0].flags == ("reverse", "encapsulating")


def test_the_lifetime_granted_counts_and_never_more_than_asked_for() -> None:
    world = World()
    world.asks(request(lifetime_s=600))
    world.hears(reply(lifetime_s=60))
    assert not any(isinstance(one, RemoveVisitor) for one in world.passes(59.9))
    world.passes(0.2)
    assert world.removed() == [RemoveVisitor(HOME_AGENT, HOME)]
    (event,) = world.events("visitor_left")
    assert event.fields["reason"] == "expired"
    world.asks(request(lifetime_s=60, identification=2))
    world.hears(reply(lifetime_s=600, identification=2))
    world.passes(60.1)
    assert world.removed()
    assert world.agent.visitors() == []


def test_infinite_lifetimes_never_end() -> None:
    world = World(lifetime_s=0xFFFF)
    world.registers(lifetime_s=0xFFFF)
    (shown,) = world.agent.visitors()
    assert shown.lifetime_s is None
    assert shown.expires_in_s is None
    world.passes(1e7)
    assert len(world.agent.visitors()) == 1


def test_a_renewal_changes_nothing_in_the_dataplane() -> None:
    world = World()
    world.registers()
    world.passes(300)
    world.registers(identification=2)
    assert not world.set_visitors()
    assert world.to_node()
    (shown,) = world.agent.visitors()
    assert shown.registrations == 2
    assert shown.installed
    world.passes(599)
    assert world.agent.visitors()
    world.passes(2)
    assert not world.agent.visitors()


def test_deregistration_by_way_of_us() -> None:
    world = World()
    world.registers()
    world.registers(identification=2, lifetime_s=0)
    assert world.removed() == [RemoveVisitor(HOME_AGENT, HOME)]
    assert world.to_node()
    (event,) = world.events("visitor_left")
    assert event.fields["reason"] == "deregistered"
    world.registers(identification=3, lifetime_s=0)
    assert not world.removed()
    assert world.agent.visitors() == []


def test_a_lifetime_of_0_granted_is_no_visitor() -> None:
    world = World()
    world.asks(request())
    world.hears(reply(lifetime_s=0))
    assert not world.set_visitors()
    assert world.to_node()


@pytest.mark.parametrize("code", [128, 133, 136, 139, 200, 255, 2, 63])
def test_h61_denials_and_unknown_codes_are_passed_on_and_make_no_visitor(code: int) -> None:
    world = World()
    world.asks(request())
    octets = reply(code=code)
    world.hears(octets)
    ((_, sent),) = world.to_node()
    assert sent.message == octets
    assert not world.set_visitors()
    (event,) = world.events("visitor_denied")
    assert event.fields["code"] == code
    assert world.agent.counters[code_name(code)] == 1
    world.passes(60)
    assert not world.transmits()


def test_a_denied_renewal_leaves_the_visitor_until_its_lifetime_ends() -> None:
    world = World()
    world.registers()
    world.asks(request(identification=2))
    world.hears(reply(identification=2, code=130))
    assert not world.removed()
    assert world.agent.visitors()


def test_a_denial_without_the_nodes_authenticator_is_passed_on_without_what_was_for_us() -> None:
    world = World(**PEER_WORLD)
    world.asks(request())
    kept = reply(code=131, signed=False)
    world.hears(reply(code=131, signed=False, behind=[RevocationSupport(5)], peer=FOREIGN_HOME))
    ((_, sent),) = world.to_node()
    assert sent.message == kept


def test_what_the_home_agent_adds_for_us_is_not_passed_on() -> None:
    world = World(**PEER_WORLD)
    world.asks(request())
    world.hears(reply(behind=[RevocationSupport(5)], peer=FOREIGN_HOME))
    ((_, sent),) = world.to_node()
    assert sent.message == reply()


def test_replies_to_a_node_that_proved_itself_are_proved_to_it() -> None:
    world = World(visitor_associations={MOBILE_FOREIGN.spi: MOBILE_FOREIGN})
    world.asks(request(proof=MOBILE_FOREIGN))
    world.hears(reply())
    ((got, sent),) = world.to_node()
    assert sent.message.startswith(reply())
    (proof,) = got.authentications(AuthenticationKind.MOBILE_FOREIGN)
    assert verify(sent.message, proof, MOBILE_FOREIGN)
    world.asks(request(identification=2, lifetime_s=5000, proof=MOBILE_FOREIGN))
    ((got, sent),) = world.to_node()
    (proof,) = got.authentications(AuthenticationKind.MOBILE_FOREIGN)
    assert verify(sent.message, proof, MOBILE_FOREIGN)


def test_a_node_with_nai_and_without_home_address_gets_one() -> None:
    world = World()
    nai = Nai("ann@example.org")
    world.asks(request(home=ZERO, extensions=[nai]), source=ZERO)
    world.asks(request(home=ZERO, extensions=[Nai("bob@example.org")]), source=ZERO, mac=OTHER_MAC)
    assert world.relayed(), "the same identification of another node without address"
    world.hears(reply(extensions=[nai]))
    ((got, sent),) = world.to_node()
    assert got.home_address == HOME
    assert sent.link == Link(LINK, MAC)
    assert sent.path.remote == Endpoint(IPv4Address("255.255.255.255"), PORT)
    (done,) = world.set_visitors()
    assert done.visitor.home_address == HOME
    (shown,) = world.agent.visitors()
    assert shown.nai == "ann@example.org"


MISMATCHES = {
    "unsolicited": (reply(identification=IDENTIFICATION ^ 1), HOME_AGENT),
    "other home agent": (reply(home_agent=X_HOME_AGENT), X_HOME_AGENT),
    "other source": (reply(), X_HOME_AGENT),
    "other home address": (reply(home=IPv4Address("10.1.0.99")), HOME_AGENT),
    "other home agent named": (reply(home_agent=X_HOME_AGENT), HOME_AGENT),
}


@pytest.mark.parametrize("name", MISMATCHES)
def test_h61_mismatching_replies_cost_a_counter(name: str) -> None:
    world = World()
    world.asks(request())
    octets, source = MISMATCHES[name]
    world.hears(octets, source=source)
    assert not world.transmits()
    assert not world.set_visitors()
    reason = "unsolicited_reply" if name == "unsolicited" else "mismatching_reply"
    assert world.agent.counters[f"discarded_{reason}"] == 1
    world.hears(reply())
    assert world.set_visitors(), "the right one still counts"


def test_h61_late_and_repeated_replies_cost_a_counter() -> None:
    world = World()
    world.asks(request())
    world.passes(8)
    world.hears(reply())
    assert not world.transmits()
    world.asks(request())
    world.hears(reply())
    world.hears(reply())
    assert not world.transmits()
    assert world.agent.counters["discarded_unsolicited_reply"] == 2


def test_h61_a_flood_of_unsolicited_replies_writes_few_lines() -> None:
    world = World()
    events = 0
    for number in range(2000):
        events += len(world.hears(reply(identification=number)))
    assert events <= 20
    assert world.agent.counters["discarded_unsolicited_reply"] == 2000


def test_the_upper_half_of_the_identification_may_differ() -> None:
    """Nonces, and the home agent's clock in a denial, come in it (RFC 5944 section 5.7)."""
    world = World()
    world.asks(request())
    world.hears(reply(identification=IDENTIFICATION ^ (0xFFFF << 48)))
    assert world.set_visitors()


def test_who_refuses_may_name_another_address_of_its_own() -> None:
    world = World()
    world.asks(request())
    world.hears(reply(code=128, home_agent=X_HOME_AGENT))
    ((got, _),) = world.to_node()
    assert (got.code, got.home_agent) == (128, X_HOME_AGENT)


def test_discarded_messages_are_told_of() -> None:
    world = World()
    world.hears(reply())
    (event,) = world.events("registration_discarded")
    assert event.fields["reason"] == "unsolicited_reply"
    assert str(HOME_AGENT) in event.text


def test_discovery_by_broadcast_is_answered_by_the_home_agents_own_address() -> None:
    world = World()
    broadcast = IPv4Address("192.0.2.255")
    world.asks(request(home_agent=broadcast))
    ((_, sent),) = world.relayed()
    assert sent.path.remote.address == broadcast
    world.hears(reply(code=0), source=HOME_AGENT)
    assert not world.transmits(), "nobody accepts a broadcast"
    world.hears(reply(code=136), source=HOME_AGENT)
    ((got, _),) = world.to_node()
    assert (got.code, got.home_agent) == (136, HOME_AGENT)


WRONG_PROOFS = {
    "none": reply(),
    "another key": reply(peer=replace(FOREIGN_HOME, key=b"another")),
    "unknown SPI": reply(peer=replace(FOREIGN_HOME, spi=0x4000)),
    "two": reply(
        behind=[Authentication(AuthenticationKind.FOREIGN_HOME, 0x3000, bytes(16))],
        peer=FOREIGN_HOME,
    ),
}


@pytest.mark.parametrize("name", WRONG_PROOFS)
def test_code_68_when_the_home_agent_does_not_prove_itself(name: str) -> None:
    world = World(**PEER_WORLD)
    world.asks(request())
    world.hears(WRONG_PROOFS[name])
    assert world.code() == ReplyCode.FA_HOME_AGENT_AUTHENTICATION
    assert not world.set_visitors()
    world.hears(WRONG_PROOFS[name])
    assert not world.transmits(), "told once"
    world.hears(reply(peer=FOREIGN_HOME))
    assert world.set_visitors(), "the right one still counts"
    world.asks(request())
    world.hears(WRONG_PROOFS[name])
    world.passes(10)
    assert not world.to_node(), "who knows of a failure is not told of a timeout"


def test_h61_neighbours_of_a_visitor_cannot_answer_in_the_home_agents_name() -> None:
    world = World()
    world.registers()
    # Anybody can ask for any home address; only the home agent knows that the proof is wrong.
    world.asks(request(identification=2), mac=OTHER_MAC)
    world.hears(reply(identification=2), interface=LINK)
    assert world.code() == 68
    assert not world.set_visitors()
    assert world.agent.visitors()[0].link_address == MAC.hex(":")
    world.hears(reply(identification=2, code=131))
    assert world.code() == 131


def test_a_home_agent_on_the_visitors_link_needs_a_key() -> None:
    world = World(**PEER_WORLD)
    world.asks(request())
    world.hears(reply(peer=FOREIGN_HOME), interface=LINK)
    assert world.set_visitors()


def test_a_proof_that_is_not_required_may_be_absent_but_not_wrong() -> None:
    world = World(peer_agents={HOME_AGENT: replace(PEER, required=False)})
    world.asks(request())
    world.hears(WRONG_PROOFS["another key"])
    assert world.code() == 68
    world.hears(reply(behind=[RevocationSupport(5)]))
    assert world.set_visitors()
    assert "revocable" not in world.agent.visitors()[0].flags, "nobody proved that extension"


def test_a_reply_to_a_deregistration_needs_no_proof() -> None:
    world = World(**PEER_WORLD)
    world.registers(peer=FOREIGN_HOME)
    world.asks(request(identification=2, lifetime_s=0))
    world.hears(reply(identification=2, lifetime_s=0))
    assert world.removed()


NAI = [Nai("ann@example.org")]
POOR_REPLIES: list[tuple[int, list[Extension], bytes]] = [
    (71, [], reply(signed=False)),
    (71, [], reply(code=66)),
    (71, [], reply(extensions=[UdpTunnelReply(0)], lifetime_s=600)),
    (97, NAI, reply()),
    (98, [], reply(home_agent=ZERO)),
    (99, [], reply(home=ZERO)),
    (101, [], reply(behind=[VendorExtension(True, 9, 1, b"?")])),
    (109, [Challenge(b"asked")], reply(extensions=[Challenge(b"returned")])),
]


@pytest.mark.parametrize(("code", "extensions", "octets"), POOR_REPLIES)
@pytest.mark.parametrize("proven", [False, True])
def test_each_denial_code_of_a_reply(
    code: int, extensions: list[Extension], octets: bytes, proven: bool
) -> None:

    changes = PEER_WORLD if proven else {}
    world = World(udp_tunnelling=Allowance.OFF, **changes)
    world.asks(request(extensions=extensions))
    if proven:
        octets = sign(octets, AuthenticationKind.FOREIGN_HOME, FOREIGN_HOME)
    world.hears(octets)
    assert world.code() == code
    assert not world.set_visitors()
    assert world.agent.visitors() == []
    good = reply(extensions=[one for one in extensions if isinstance(one, Nai)])
    if proven:
        good = sign(good, AuthenticationKind.FOREIGN_HOME, FOREIGN_HOME)
    world.hears(good)
    assert bool(world.set_visitors()) is not proven, "only a proven failure is final"


def test_code_71_for_a_malformed_reply_that_matches() -> None:
    world = World()
    world.asks(request())
    world.hears(reply() + b"\x20")
    assert world.code() == ReplyCode.FA_POOR_REPLY
    world.hears(reply())
    assert world.set_visitors()
    world = World(**PEER_WORLD)
    world.asks(request())
    world.hears(reply(peer=FOREIGN_HOME) + b"\x20")
    assert not world.transmits(), "nobody has proved to have sent it"
    world.hears((reply() + b"\x20")[:19])
    assert world.agent.counters["discarded_malformed"] == 2


def test_h61_every_cut_and_flip_of_a_proven_reply_changes_nothing() -> None:
    world = World(**PEER_WORLD)
    good = reply(behind=[RevocationSupport(5)], peer=FOREIGN_HOME)
    world.asks(request())
    for size in range(len(good)):
        world.hears(good[:size])
        assert not world.set_visitors()
    for at in range(len(good)):
        for flip in (0x01, 0x80):
            world.hears(good[:at] + bytes([good[at] ^ flip]) + good[at + 1 :])
            assert not world.set_visitors(), at
    assert world.agent.counters["internal_errors"] == 0
    world.hears(good)
    assert world.set_visitors()


@pytest.mark.parametrize(
    "home", [IPv4Address("127.0.0.1"), IPv4Address("224.0.0.9"), CARE_OF, HOME_AGENT]
)
def test_a_home_agent_cannot_give_just_any_home_address(home: IPv4Address) -> None:
    world = World()
    world.asks(request(home=ZERO, extensions=NAI), source=ZERO)
    world.hears(reply(home=home, extensions=NAI))
    assert world.code() == 71
    assert not world.set_visitors()


def test_a_home_agent_cannot_give_the_home_address_of_somebody_elses_visitor() -> None:
    world = World()
    world.registers()
    world.asks(
        request(home=ZERO, home_agent=X_HOME_AGENT, identification=2, extensions=NAI),
        source=ZERO,
        mac=OTHER_MAC,
    )
    world.hears(
        reply(home_agent=X_HOME_AGENT, identification=2, extensions=NAI), source=X_HOME_AGENT
    )
    assert world.code() == 65
    assert not world.set_visitors()


def test_tunnel_in_udp_when_the_home_agent_grants_it() -> None:
    world = World()
    world.asks(request())
    world.hears(reply(extensions=[UdpTunnelReply(0, keepalive_s=60)]), port=5434)
    (done,) = world.set_visitors()
    assert done.visitor.tunnel == Tunnel(CARE_OF, HOME_AGENT, Encapsulation.IP_IP, 5434)
    world.passes(130)
    kept = [TunnelData.parse(one.message) for one in world.transmits()]
    assert len(kept) == 2
    (first, _) = world.transmits()
    assert first.path == Path(Endpoint(CARE_OF, 434), Endpoint(HOME_AGENT, 5434))
    packet = kept[0].packet
    assert kept[0].next_header == 4
    assert packet[:2] == b"\x45\x00"
    assert packet[12:20] == CARE_OF.packed + HOME_AGENT.packed
    assert packet[20:22] == b"\x08\x00"
    assert world.agent.counters["keepalives"] == 2


def test_keepalives_stop_with_the_last_visitor_of_a_home_agent() -> None:
    world = World()
    other = IPv4Address("10.1.0.7")
    for home, mac, lifetime_s in ((HOME, MAC, 100), (other, OTHER_MAC, 200)):
        world.asks(request(home=home, lifetime_s=lifetime_s), source=home, mac=mac)
        octets = reply(home=home, lifetime_s=lifetime_s, extensions=[UdpTunnelReply(0)])
        world.hears(octets)
    world.passes(150)
    assert len(world.transmits()) == 1, "one for both, every 110 s"
    world.passes(1000)
    assert not world.transmits()
    assert world.agent.next_timer() is None


def test_keepalives_stop_when_the_tunnel_is_no_longer_in_udp() -> None:
    world = World()
    world.asks(request())
    world.hears(reply(extensions=[UdpTunnelReply(0)]))
    world.asks(request(identification=2))
    world.hears(reply(identification=2))
    (done,) = world.set_visitors()
    assert done.visitor.tunnel.udp_port == 0
    world.passes(300)
    assert not world.transmits()


def test_a_home_agent_cannot_make_us_send_keepalives_without_end() -> None:
    world = World()
    world.asks(request())
    world.hears(reply(extensions=[UdpTunnelReply(0, keepalive_s=1)]))
    world.passes(100)
    assert len(world.transmits()) == 20


def test_a_declined_tunnel_in_udp_is_an_ordinary_one() -> None:
    world = World()
    world.asks(request())
    world.hears(reply(extensions=[UdpTunnelReply(64)]))
    (done,) = world.set_visitors()
    assert done.visitor.tunnel.udp_port == 0
    assert world.to_node()


def test_a_visitor_that_the_dataplane_refuses_is_none() -> None:
    world = World()
    world.registers()
    world.agent.visitor_refused(HOME_AGENT, HOME, "no such link", world.now)
    world.took()
    assert world.removed() == [RemoveVisitor(HOME_AGENT, HOME)]
    assert world.agent.visitors() == []
    (event,) = world.events("visitor_left")
    assert "no such link" in event.text
    (told,) = world.advertisements()
    assert told.link == Link(LINK, MAC)
    assert told.destination == HOME
    world.agent.visitor_refused(HOME_AGENT, HOME, "again", world.now)
    assert not world.took()


def test_reconfiguring_keeps_whom_it_can() -> None:
    world = World()
    world.registers()
    world.registers(home_agent=X_HOME_AGENT, identification=2)

    narrower = replace(world.policy, home_agents=(IPv4Network("192.0.2.0/24"),))
    world.agent.reconfigure(narrower, world.now)
    world.took()
    assert world.removed() == [RemoveVisitor(X_HOME_AGENT, HOME)]
    smaller = replace(narrower, max_packet_octets=1300)
    world.agent.reconfigure(smaller, world.now)
    world.took()
    (done,) = world.set_visitors()
    assert done.visitor.max_packet_octets == 1300
    assert not world.removed()
    world.asks(request(identification=3))
    moved = replace(smaller, care_of_address=IPv4Address("198.51.100.2"))
    world.agent.reconfigure(moved, world.now)
    world.took()
    assert world.removed() == [RemoveVisitor(HOME_AGENT, HOME)]
    assert world.agent.policy == moved
    world.hears(reply(identification=3))
    assert not world.set_visitors(), "the registration under way was for the old address"


def test_close_removes_every_visitor_and_ends_everything() -> None:
    world = World(**PEER_WORLD, advertisement_interval_s=10.0)
    world.asks(request())
    world.hears(reply(behind=[RevocationSupport(5)], peer=FOREIGN_HOME))
    world.agent.close(world.now)
    world.took()
    assert world.removed() == [RemoveVisitor(HOME_AGENT, HOME)]
    assert [one.message[0] for one in world.transmits()] == [7], "its home agent is told"
    (event,) = world.events("visitor_left")
    assert event.severity is Severity.INFO, "nothing is wrong"

    last = AgentAdvertisement.parse(world.advertisements()[-1].message)
    assert last.lifetime_s == 0
    assert world.agent.next_timer() is None
    world.asks(request(identification=2))
    assert not world.outputs
    assert world.agent.visitors() == []
