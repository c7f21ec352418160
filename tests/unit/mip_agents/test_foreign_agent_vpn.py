"""The foreign agent inside the VPN gateway (draft 001, appendix B)."""

from ipaddress import IPv4Address

import pytest
from foreign_agent_world import (
    CARE_OF,
    HOME,
    HOME_AGENT,
    OTHER_HOME,
    PORT,
    X_HOME_AGENT,
    ZERO,
    World,
    reply,
    request,
)

from gateway.domain.checksum import internet_checksum
from gateway.domain.endpoint import Endpoint
from gateway.domain.mobility import Tunnel, Visitor
from gateway.mip_agents.advertisement import AgentAdvertisement, AgentFlag
from gateway.mip_agents.codec.extensions import EncapsulatingDelivery, Nai, UdpTunnelRequest
from gateway.mip_agents.codec.registration import RequestFlag
from gateway.mip_agents.outputs import Link, Output, RemoveVisitor
from gateway.mip_agents.policy import Allowance

PEER = "CN=ann"
REVERSE = RequestFlag.REVERSE


class Vpn(World):
    """Requests come over the xfrm interface, where nobody has a link-layer address."""

    def __init__(self, *, up: bool = True, **changes: object) -> None:
        fields: dict[str, object] = {"interface": "gw0", "through_vpn": True, **changes}
        super().__init__(**fields)
        if up:
            self.up()

    def up(self, peer: str = PEER, home: IPv4Address = HOME) -> list[Output]:
        self.agent.session_up(home, self.now, peer)
        return self.took()

    def down(self, home: IPv4Address = HOME) -> list[Output]:
        self.agent.session_down(home, self.now)
        return self.took()

    def sends(self, octets: bytes, *, source: IPv4Address = HOME) -> list[Output]:
        return self.asks(octets, mac=b"", source=source, ttl=64)

    def joins(self, identification: int = 1) -> list[Output]:
        self.sends(request(identification=identification))
        return self.hears(reply(identification=identification))


def test_a_registration_through_the_tunnel_is_relayed_and_answered_through_it() -> None:
    world = Vpn()
    world.sends(request())
    ((got, sent),) = world.relayed()
    assert got.care_of_address == CARE_OF
    assert sent.path.remote == Endpoint(HOME_AGENT, 434)
    world.hears(reply())
    ((_, sent),) = world.to_node()
    assert sent.link == Link("gw0")
    assert sent.path.remote == Endpoint(HOME, PORT)
    (event,) = world.events("visitor_registered")
    assert "waits" not in event.text
    (done,) = world.set_visitors()
    assert done.visitor == Visitor(
        HOME,
        HOME_AGENT,
        Tunnel(CARE_OF, HOME_AGENT),
        "gw0",
        b"",
        reverse=True,
        max_packet_octets=1400,
        through_vpn=True,
    )


DENIALS = {
    "no reverse tunnel": (75, request(flags=0)),
    "co-located": (70, request(flags=REVERSE | RequestFlag.CO_LOCATED, care_of=HOME)),
    "encapsulating delivery": (79, request(behind=[EncapsulatingDelivery()])),
    "another care-of address": (77, request(care_of=IPv4Address("198.51.100.9"))),
    "care-of address inside the tunnel": (77, request(care_of=IPv4Address("10.9.0.1"))),
}


@pytest.mark.parametrize("name", DENIALS)
def test_h67_requests_that_do_not_fit_the_tunnel(name: str) -> None:
    code, octets = DENIALS[name]
    world = Vpn(reverse_tunnelling=Allowance.ALLOWED)
    world.sends(octets)
    assert world.code() == code
    assert not world.relayed()


def test_h67_the_inner_address_has_to_be_the_home_address() -> None:
    world = Vpn()
    world.up(home=OTHER_HOME)
    world.sends(request(home=HOME), source=OTHER_HOME)
    assert world.code() == 65
    ((_, sent),) = world.to_node()
    assert sent.path.remote.address == OTHER_HOME
    assert not world.relayed()


def test_h67_care_of_address_of_the_node_itself_is_refused() -> None:
    world = Vpn()
    world.sends(request(care_of=OTHER_HOME))
    assert world.code() == 77


def test_b6_dynamic_home_addresses_cannot_be_used() -> None:
    world = Vpn()
    world.sends(request(home=ZERO, extensions=[Nai("ann@example.org")]))
    assert world.code() == 96


def test_h67_requests_of_a_link_are_none_of_its() -> None:
    world = Vpn()
    world.asks(request(), interface="lan0")
    assert not world.transmits()
    assert world.agent.counters["discarded_foreign_link"] == 1


def test_a_tunnel_without_vpn_fa_is_refused() -> None:
    world = Vpn(up=False)
    world.sends(request())
    assert world.code() == 65
    assert not world.relayed()


def test_a_visitor_needs_a_registration_and_a_session() -> None:
    world = Vpn()
    assert not world.outputs
    world.joins()
    assert world.set_visitors()
    world.down()
    assert world.removed() == [RemoveVisitor(HOME_AGENT, HOME)]
    (event,) = world.events("visitor_tunnel")
    assert event.fields["installed"] is False
    (shown,) = world.agent.visitors()
    assert not shown.installed
    assert world.agent.visitors(), "the registration stays"
    assert not world.down()
    world.up()
    (again,) = world.set_visitors()
    assert again.visitor.home_address == HOME
    assert not world.up(), "nothing new"
    assert world.agent.visitors()[0].installed


def test_the_session_may_end_before_the_reply_comes() -> None:
    world = Vpn()
    world.sends(request())
    world.down()
    world.hears(reply())
    assert not world.set_visitors()
    (event,) = world.events("visitor_registered")
    assert "waits for its VPN tunnel" in event.text
    assert world.agent.visitors()
    world.up()
    assert world.set_visitors()


def test_another_peer_with_the_same_home_address_has_to_register_itself() -> None:
    world = Vpn()
    world.joins()
    world.down()
    world.up("CN=mallory")
    assert not world.set_visitors()
    assert not world.agent.visitors()[0].installed
    world.down()
    world.up()
    assert world.set_visitors(), "who registered is back"
    world.up("CN=mallory")
    assert world.removed(), "and gone again, whatever was told of the SA in between"
    world.joins(identification=2)
    assert world.set_visitors()
    world.down()
    world.up()
    assert not world.set_visitors()


def test_the_lifetime_goes_on_without_session() -> None:
    world = Vpn()
    world.joins()
    world.down()
    world.passes(601)
    assert world.agent.visitors() == []
    assert not world.removed(), "it was not in the dataplane"
    assert not world.up()


def test_h67_nothing_is_torn_down_when_the_device_goes_inside() -> None:
    """It registers inside with the same home agent; here only lifetimes and the SA count."""
    world = Vpn()
    world.joins()
    assert not world.passes(599)
    assert world.agent.visitors()[0].installed
    world.passes(2)
    assert world.removed()


def test_two_home_agents_through_one_tunnel() -> None:
    world = Vpn()
    world.joins()
    world.sends(request(home_agent=X_HOME_AGENT, identification=2))
    world.hears(reply(home_agent=X_HOME_AGENT, identification=2), source=X_HOME_AGENT)
    assert len(world.agent.visitors()) == 2
    world.down()
    assert {one.home_agent for one in world.removed()} == {HOME_AGENT, X_HOME_AGENT}
    world.up()
    assert len(world.set_visitors()) == 2


def test_nothing_is_advertised_but_inside_ike() -> None:
    world = Vpn(advertisement_interval_s=10.0, challenge=True, registration_required=False)
    assert world.agent.next_timer() is None
    body = b"\x0a\x00\x00\x00" + bytes(4)
    message = body[:2] + internet_checksum(body).to_bytes(2, "big") + body[4:]
    world.agent.solicited(message, HOME, Link("gw0"), world.now)
    world.took()
    assert not world.advertisements()
    told = AgentAdvertisement.parse(world.agent.advertisement().serialize())
    assert told.care_of_addresses == (CARE_OF,)
    assert told.flags & AgentFlag.REGISTRATION_REQUIRED
    assert told.flags & AgentFlag.REVERSE_TUNNELLING
    assert told.extensions == (), "no challenge: IPsec has proved who it is"
    world.joins()
    assert world.set_visitors()


def test_no_tunnels_in_udp_are_offered_unless_demanded() -> None:
    world = Vpn()
    world.sends(request())
    assert world.relayed()[0][0].first(UdpTunnelRequest) is None
    world = Vpn(udp_tunnelling=Allowance.REQUIRED)
    world.sends(request())
    assert world.relayed()[0][0].first(UdpTunnelRequest) == UdpTunnelRequest(forced=True)


def test_a_refused_visitor_is_not_told_by_advertisements() -> None:
    world = Vpn()
    world.joins()
    world.agent.visitor_refused(HOME_AGENT, HOME, "no", world.now)
    world.took()
    assert world.removed()
    assert not world.advertisements()
