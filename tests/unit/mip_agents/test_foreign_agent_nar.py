"""Our care-of address at an address of the node's own: NAR delivers (draft 004, 2.6.3)."""

from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from foreign_agent_world import (
    CARE_OF,
    FOREIGN_HOME,
    HOME,
    HOME_AGENT,
    IDENTIFICATION,
    MAC,
    OTHER_HOME,
    OTHER_MAC,
    PEERS,
    X_HOME_AGENT,
    ZERO,
    World,
    policy,
    reply,
    request,
)

from gateway.domain.endpoint import Endpoint
from gateway.domain.mobility import Encapsulation
from gateway.domain.nar import Delivery, NarMapping, NarProtocol, NarTuple
from gateway.mip_agents.authentication import sign
from gateway.mip_agents.codec.codes import ReplyCode
from gateway.mip_agents.codec.extensions import (
    AuthenticationKind,
    EncapsulatingDelivery,
    Nai,
    RevocationSupport,
    UdpTunnelReply,
    UdpTunnelRequest,
    ZeroOverheadRequest,
)
from gateway.mip_agents.codec.registration import RequestFlag
from gateway.mip_agents.codec.revocation import Revocation
from gateway.mip_agents.outputs import (
    Output,
    RemoveNarMapping,
    RemoveVisitor,
    SetNarMapping,
    SetVisitor,
    TransmitAdvertisement,
)
from gateway.mip_agents.policy import Allowance

XA = IPv4Address("10.77.0.9")
OTHER_XA = IPv4Address("10.77.0.10")
CO_LOCATED = RequestFlag.CO_LOCATED
REVERSE = RequestFlag.REVERSE
BOTH = CO_LOCATED | REVERSE


class NarWorld(World):
    """An agent whose care-of address the NAR server "soho" lends."""

    def __init__(self, **changes: object) -> None:
        super().__init__(**{"nar_server": "soho", **changes})

    def comes(
        self,
        *,
        flags: int = BOTH,
        source: IPv4Address = XA,
        ttl: int = 255,
        mac: bytes = MAC,
        **fields: object,
    ) -> list[Output]:
        """A request with the D bit, and its acceptance."""
        common = ("home", "home_agent", "identification", "lifetime_s")
        same = {key: value for key, value in fields.items() if key in common}
        octets = request(flags=flags, **fields)  # type: ignore[arg-type]
        self.asks(octets, source=source, ttl=ttl, mac=mac)
        home_agent = fields.get("home_agent", HOME_AGENT)
        return self.hears(reply(**same), source=home_agent)  # type: ignore[arg-type]

    def changes(self) -> list[Output]:
        kinds = (SetNarMapping, RemoveNarMapping, SetVisitor, RemoveVisitor)
        return [one for one in self.outputs if isinstance(one, kinds)]


def key(
    home: IPv4Address = HOME,
    home_agent: IPv4Address = HOME_AGENT,
    protocol: NarProtocol = NarProtocol.IP_IP,
) -> NarTuple:
    return NarTuple(protocol, CARE_OF, int(home), home_agent)


def mapping(client: IPv4Address = XA, tuple_: NarTuple | None = None) -> NarMapping:
    at = tuple_ or key()
    return NarMapping("soho", at, client, Delivery.TRANSLATED, peer=at.remote)


def test_the_tunnel_goes_to_the_nodes_own_address() -> None:
    world = NarWorld()
    world.asks(request(flags=BOTH), source=XA)
    ((relayed, sent),) = world.relayed()
    assert relayed.care_of_address == CARE_OF
    assert sent.path.local == Endpoint(CARE_OF, 434)
    assert UdpTunnelRequest not in {type(one) for one in relayed.extensions}
    world.hears(reply())
    assert world.changes() == [SetNarMapping(mapping())]
    ((_, answer),) = world.to_node()
    assert answer.path.remote == Endpoint(XA, 40000)
    assert answer.link is not None
    (view,) = world.agent.visitors()
    assert {"co-located", "nar"} <= set(view.flags)
    assert view.installed


def test_the_dataplane_learns_before_the_node() -> None:
    world = NarWorld()
    world.comes()
    order = [type(one).__name__ for one in world.outputs]
    assert order.index("SetNarMapping") < order.index("Transmit")


@pytest.mark.parametrize("ttl", [255, 254, 12])
def test_from_any_distance(ttl: int) -> None:
    world = NarWorld()
    world.comes(ttl=ttl)
    assert world.changes() == [SetNarMapping(mapping())]


def test_gre_is_another_tuple() -> None:
    world = NarWorld()
    world.comes(flags=BOTH | RequestFlag.GRE)
    gre = key(protocol=NarProtocol.GRE)
    assert world.changes() == [SetNarMapping(mapping(tuple_=gre))]
    world.comes(identification=IDENTIFICATION + 1)
    assert world.changes() == [RemoveNarMapping(gre), SetNarMapping(mapping())]


def test_a_renewal_changes_nothing() -> None:
    world = NarWorld()
    world.comes()
    world.comes(identification=IDENTIFICATION + 1)
    assert world.changes() == []


def test_another_own_address() -> None:
    world = NarWorld()
    world.comes()
    world.comes(identification=IDENTIFICATION + 1, source=OTHER_XA)
    assert world.changes() == [RemoveNarMapping(key()), SetNarMapping(mapping(OTHER_XA))]


def test_it_deregisters() -> None:
    world = NarWorld()
    world.comes()
    world.comes(identification=IDENTIFICATION + 1, lifetime_s=0)
    assert world.changes() == [RemoveNarMapping(key())]


def test_its_lifetime_ends() -> None:
    world = NarWorld()
    world.comes(lifetime_s=60)
    world.passes(61)
    assert world.changes() == [RemoveNarMapping(key())]
    assert world.agent.visitors() == []


def test_the_agent_stops() -> None:
    world = NarWorld()
    world.comes()
    world.agent.close(world.now)
    world.took()
    assert world.changes() == [RemoveNarMapping(key())]


def test_a_dynamic_home_address() -> None:
    world = NarWorld()
    nai = Nai("ann@example.org")
    world.asks(request(flags=BOTH, home=ZERO, extensions=[nai]), source=XA)
    world.hears(reply(extensions=[nai]))
    assert world.changes() == [SetNarMapping(mapping())]


def test_one_home_address_in_two_networks() -> None:
    """The draft's own example: private home addresses, told apart by the home agent."""
    world = NarWorld()
    world.comes()
    world.comes(
        home_agent=X_HOME_AGENT, source=OTHER_XA, mac=OTHER_MAC, identification=IDENTIFICATION + 1
    )
    other = key(home_agent=X_HOME_AGENT)
    assert world.changes() == [SetNarMapping(mapping(OTHER_XA, other))]
    assert len(world.agent.visitors()) == 2


def test_beside_ordinary_visitors() -> None:
    world = NarWorld()
    world.comes()
    world.registers(home=OTHER_HOME, mac=OTHER_MAC, identification=IDENTIFICATION + 1)
    (installed,) = world.changes()
    assert isinstance(installed, SetVisitor)
    assert installed.visitor.home_address == OTHER_HOME


def test_from_ordinary_to_co_located_and_back() -> None:
    world = NarWorld()
    world.registers()
    assert [type(one) for one in world.changes()] == [SetVisitor]
    world.comes(identification=IDENTIFICATION + 1)
    assert world.changes() == [RemoveVisitor(HOME_AGENT, HOME), SetNarMapping(mapping())]
    world.registers(identification=IDENTIFICATION + 2)
    removed, installed = world.changes()
    assert removed == RemoveNarMapping(key())
    assert isinstance(installed, SetVisitor)
    assert len(world.agent.visitors()) == 1


def test_an_ordinary_co_located_address_goes_past_us() -> None:
    world = NarWorld()
    own = IPv4Address("198.51.100.77")
    world.comes(care_of=own, source=own)
    assert world.changes() == []
    assert len(world.agent.visitors()) == 1


def test_nodes_behind_one_router() -> None:
    """Their requests have the router's link-layer address, and do not push each other out."""
    world = NarWorld()
    count = 12
    for number in range(count):
        octets = request(flags=BOTH, home=HOME + number, identification=IDENTIFICATION + number)
        world.asks(octets, source=XA + number, ttl=254)
    for number in range(count):
        world.hears(reply(home=HOME + number, identification=IDENTIFICATION + number))
    assert len(world.agent.visitors()) == count


# What is refused.


def denied(world: World, octets: bytes, source: IPv4Address = XA) -> ReplyCode:
    world.asks(octets, source=source)
    assert world.relayed() == []
    return ReplyCode(world.code())


def test_h58_not_where_no_nar_server_lends() -> None:
    world = World()
    octets = request(flags=BOTH)
    assert denied(world, octets) is ReplyCode.FA_INVALID_CARE_OF_ADDRESS


@pytest.mark.parametrize("source", [ZERO, HOME, CARE_OF, HOME_AGENT])
def test_h58_without_an_address_of_its_own(source: IPv4Address) -> None:
    octets = request(flags=BOTH)
    assert denied(NarWorld(), octets, source) is ReplyCode.FA_INVALID_CARE_OF_ADDRESS


def test_h60_an_encapsulation_that_nar_does_not_know() -> None:
    octets = request(flags=BOTH | RequestFlag.MINIMAL)
    assert denied(NarWorld(), octets) is ReplyCode.FA_ENCAPSULATION_UNAVAILABLE


def test_h60_an_encapsulation_that_policy_does_not_allow() -> None:
    world = NarWorld(encapsulations=frozenset({Encapsulation.IP_IP}))
    octets = request(flags=BOTH | RequestFlag.GRE)
    assert denied(world, octets) is ReplyCode.FA_ENCAPSULATION_UNAVAILABLE


def test_h63_forced_tunnels_in_udp() -> None:
    octets = request(flags=BOTH, extensions=[UdpTunnelRequest(True, False, 4)])
    assert denied(NarWorld(), octets) is ReplyCode.FA_ENCAPSULATION_UNAVAILABLE


def test_h63_the_home_agent_tunnels_in_udp_all_the_same() -> None:
    world = NarWorld()
    udp = UdpTunnelRequest(False, False, 4)
    world.asks(request(flags=BOTH, extensions=[udp]), source=XA)
    assert world.relayed()
    world.hears(reply(extensions=[UdpTunnelReply(0, forced=False, keepalive_s=0)]))
    assert world.code() == ReplyCode.FA_ENCAPSULATION_UNAVAILABLE
    assert world.agent.visitors() == []
    assert world.changes() == []


def test_zero_overhead_cannot_be_told_apart() -> None:
    octets = request(flags=BOTH, extensions=[ZeroOverheadRequest(IPv4Address("10.1.0.1"))])
    assert denied(NarWorld(), octets) is ReplyCode.FA_ENCAPSULATION_UNAVAILABLE


def test_h64_revocations_would_reach_us() -> None:
    octets = request(flags=BOTH, extensions=[RevocationSupport(1)])
    assert denied(NarWorld(), octets) is ReplyCode.FA_POOR_REQUEST


def test_encapsulating_delivery_is_for_others() -> None:
    octets = request(flags=BOTH, behind=[EncapsulatingDelivery()])
    assert denied(NarWorld(), octets) is ReplyCode.FA_DELIVERY_STYLE_UNSUPPORTED


@pytest.mark.parametrize(
    ("allowance", "flags", "code"),
    [
        (Allowance.OFF, BOTH, ReplyCode.FA_REVERSE_TUNNEL_UNAVAILABLE),
        (Allowance.REQUIRED, CO_LOCATED, ReplyCode.FA_REVERSE_TUNNEL_MANDATORY),
    ],
)
def test_the_policy_on_reverse_tunnels_counts(
    allowance: Allowance, flags: int, code: ReplyCode
) -> None:
    world = NarWorld(reverse_tunnelling=allowance)
    assert denied(world, request(flags=flags)) is code


# Tuples that others have.


def leases(*keys: NarTuple) -> object:
    return lambda asked: "10.77.0.50" if asked in keys else ""


@pytest.mark.parametrize("flags", [REVERSE, BOTH])
def test_h77_tunnels_that_a_nar_client_has(flags: int) -> None:
    world = NarWorld()
    world.agent.respect(leases(key()))  # type: ignore[arg-type]
    source = HOME if flags == REVERSE else XA
    assert denied(world, request(flags=flags), source) is ReplyCode.FA_PROHIBITED
    (event,) = [one for one in world.outputs if getattr(one, "name", "") == "visitor_denied"]
    assert "leased to 10.77.0.50" in event.text  # type: ignore[union-attr]


@pytest.mark.parametrize("flags", [REVERSE, BOTH])
def test_h77_leased_while_the_home_agent_decided(flags: int) -> None:
    world = NarWorld()
    world.asks(request(flags=flags), source=HOME if flags == REVERSE else XA)
    assert world.relayed()
    world.agent.respect(leases(key()))  # type: ignore[arg-type]
    world.hears(reply())
    assert world.code() == ReplyCode.FA_PROHIBITED
    assert world.changes() == []


def test_h77_a_dynamic_home_address_that_a_nar_client_has() -> None:
    world = NarWorld()
    world.agent.respect(leases(key()))  # type: ignore[arg-type]
    nai = Nai("ann@example.org")
    world.asks(request(flags=BOTH, home=ZERO, extensions=[nai]), source=XA)
    world.hears(reply(extensions=[nai]))
    assert world.code() == ReplyCode.FA_PROHIBITED


def test_other_tunnels_of_a_nar_client_do_not_matter() -> None:
    world = NarWorld()
    world.agent.respect(  # type: ignore[arg-type]
        leases(key(OTHER_HOME), key(home_agent=X_HOME_AGENT), key(protocol=NarProtocol.GRE))
    )
    world.comes()
    assert world.changes() == [SetNarMapping(mapping())]
    own = IPv4Address("198.51.100.77")
    world.agent.respect(leases(key()))  # type: ignore[arg-type]
    world.comes(care_of=own, source=own, identification=IDENTIFICATION + 1)
    assert world.changes() == [RemoveNarMapping(key())]


def test_it_may_always_leave() -> None:
    world = NarWorld()
    world.comes()
    world.agent.respect(leases(key()))  # type: ignore[arg-type]
    world.comes(identification=IDENTIFICATION + 1, lifetime_s=0)
    assert world.agent.visitors() == []


def test_the_dataplane_refuses() -> None:
    world = NarWorld(peer_agents=PEERS)
    world.asks(request(flags=BOTH), source=XA)
    world.hears(reply(behind=[RevocationSupport(5)], peer=FOREIGN_HOME))
    assert len(world.agent.visitors()) == 1
    world.agent.visitor_refused(HOME_AGENT, HOME, "it is leased", world.now)
    world.took()
    assert world.changes() == [RemoveNarMapping(key())]
    assert world.agent.visitors() == []
    assert [one.message[0] for one in world.transmits()] == [7], "its home agent hears of it"


def test_h64_its_home_agent_revokes_it() -> None:
    """It is told at its own address: that is where it listens."""
    world = NarWorld(peer_agents=PEERS)
    world.asks(request(flags=BOTH), source=XA)
    support = RevocationSupport(5, inform=True)
    world.hears(reply(behind=[support], peer=FOREIGN_HOME))
    revocation = Revocation(HOME, HOME_AGENT, CARE_OF, 9, True, True)
    world.hears(sign(revocation.serialize(), AuthenticationKind.FOREIGN_HOME, FOREIGN_HOME))
    assert world.changes() == [RemoveNarMapping(key())]
    (told,) = [one for one in world.outputs if isinstance(one, TransmitAdvertisement)]
    assert told.destination == XA


@pytest.mark.parametrize("changes", [{"nar_server": ""}, {"nar_server": "other"}])
def test_the_configuration_names_another_server(changes: dict[str, str]) -> None:
    world = NarWorld()
    world.comes()
    world.registers(home=OTHER_HOME, mac=OTHER_MAC, identification=IDENTIFICATION + 1)
    world.agent.reconfigure(replace(policy(nar_server="soho"), **changes), world.now)
    world.took()
    assert world.changes() == [RemoveNarMapping(key())]
    assert [one.home_address for one in world.agent.visitors()] == [OTHER_HOME]
