"""A mobile node, this foreign agent and two home agents, wire messages only, in virtual time."""

import random
from collections.abc import Iterable, Mapping
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

import pytest
from foreign_agent_world import (
    CARE_OF,
    FOREIGN_HOME,
    HOME,
    HOME_AGENT,
    LINK,
    MAC,
    MOBILE_HOME,
    WALL_S,
    X_HOME_AGENT,
    ZERO,
    policy,
    request,
)

from gateway.domain.endpoint import Endpoint, Path
from gateway.domain.mobility import HomeNetwork, Tunnel
from gateway.domain.pools import AddressPool
from gateway.mip_agents.codec.extensions import Nai
from gateway.mip_agents.codec.registration import RegistrationReply
from gateway.mip_agents.foreign_agent.engine import ForeignAgent
from gateway.mip_agents.home_agent.engine import HomeAgent
from gateway.mip_agents.outputs import (
    Link,
    Output,
    RemoveBinding,
    RemoveVisitor,
    SetBinding,
    SetVisitor,
    Transmit,
)
from gateway.mip_agents.policy import (
    Allowance,
    HomeAgentPolicy,
    MobileNode,
    PeerAgent,
    Placement,
)

NETWORK = HomeNetwork("home", IPv4Network("10.1.0.0/24"))
NODE = MobileNode("ann", HOME, associations=(MOBILE_HOME,))
ROAMER = MobileNode("bob", None, "bob@example.org", "home", (MOBILE_HOME,))
PORT = 40000


class Nodes:
    """The mobile nodes that a home agent knows."""

    def __init__(self, *nodes: MobileNode) -> None:
        self._nodes = nodes

    def by_home_address(self, address: IPv4Address) -> MobileNode | None:
        return next((one for one in self._nodes if one.home_address == address), None)

    def by_nai(self, nai: str) -> MobileNode | None:
        return next((one for one in self._nodes if one.nai == nai), None)


def home_policy(address: IPv4Address, **changes: object) -> HomeAgentPolicy:
    plain = HomeAgentPolicy(
        str(address),
        address,
        Placement.INSIDE,
        (NETWORK,),
        Nodes(NODE, ROAMER),
        {"home": AddressPool("home", IPv4Network("10.1.0.128/25"))},
        lifetime_spread=0,
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


class Net:
    """Carries messages between the agents; ``nat`` is what home agents see of the foreign agent."""

    def __init__(
        self,
        homes: Mapping[IPv4Address, HomeAgentPolicy],
        *,
        nat: IPv4Address | None = None,
        **changes: object,
    ) -> None:
        self.now = 50.0
        self.nat = nat
        self.agent = ForeignAgent(
            policy(**changes),
            random=random.Random(1).randbytes,
            wall_clock=lambda: WALL_S + self.now,
        )
        self.homes = {
            address: HomeAgent(
                one, random=random.Random(2).randbytes, wall_clock=lambda: WALL_S + self.now
            )
            for address, one in homes.items()
        }
        self.outputs: list[Output] = []
        self.node: list[tuple[RegistrationReply, Transmit]] = []
        self.lost = False

    def identification(self) -> int:
        self.now += 0.001
        return int((WALL_S + self.now + 2_208_988_800) * 2**32)

    def asks(self, octets: bytes, source: IPv4Address = HOME) -> None:
        self.node = []
        self.outputs = []
        path = Path(Endpoint(CARE_OF, 434), Endpoint(source, PORT))
        self.agent.receive(octets, path, self.now, Link(LINK, MAC), 255)
        self.carry()

    def carry(self) -> None:
        """Until nobody has anything to say."""
        while True:
            outputs = [(None, one) for one in self.agent.take_outputs()]
            outputs += [
                (address, one)
                for address, home in self.homes.items()
                for one in home.take_outputs()
            ]
            if not outputs:
                return
            for _, one in outputs:
                self.outputs.append(one)
                if isinstance(one, Transmit):
                    self._deliver(one)

    def _deliver(self, sent: Transmit) -> None:
        local, remote = sent.path.local, sent.path.remote
        if sent.link is not None:
            self.node.append((RegistrationReply.parse(sent.message), sent))
        elif self.lost:
            return
        elif remote.address in self.homes:
            seen = Endpoint(self.nat, 7000) if self.nat is not None else local
            self.homes[remote.address].receive(sent.message, Path(remote, seen), self.now)
        elif remote.address in (CARE_OF, self.nat):
            near = Endpoint(CARE_OF, 434)
            self.agent.receive(sent.message, Path(near, local), self.now)

    def passes(self, seconds: float) -> None:
        self.outputs = []
        until = self.now + seconds
        while True:
            agents = [self.agent, *self.homes.values()]
            due = [(at, one) for one in agents if (at := one.next_timer()) is not None]
            at, first = min(due, key=lambda pair: pair[0], default=(until + 1, self.agent))
            if at > until:
                break
            self.now = max(self.now, at)
            first.handle_timer(self.now)
            self.carry()
        self.now = until

    def of(self, kind: type) -> list[Output]:
        return [one for one in self.outputs if isinstance(one, kind)]


def both(**changes: object) -> dict[IPv4Address, HomeAgentPolicy]:
    return {one: home_policy(one, **changes) for one in (HOME_AGENT, X_HOME_AGENT)}


def shared(addresses: Iterable[IPv4Address]) -> dict[IPv4Address, PeerAgent]:
    return {one: PeerAgent(one, (FOREIGN_HOME,)) for one in addresses}


def test_register_renew_deregister() -> None:
    net = Net(both())
    net.asks(request(identification=net.identification()))
    ((got, _),) = net.node
    assert got.code == 0
    (visitor,) = net.of(SetVisitor)
    (binding,) = net.of(SetBinding)
    assert visitor.visitor.tunnel == Tunnel(CARE_OF, HOME_AGENT)
    assert binding.binding.tunnels == (Tunnel(HOME_AGENT, CARE_OF),)
    net.passes(300)
    net.asks(request(identification=net.identification()))
    assert net.node[0][0].code == 0
    net.asks(request(identification=net.identification(), lifetime_s=0))
    assert net.node[0][0].code == 0
    assert net.of(RemoveVisitor)
    assert net.of(RemoveBinding)
    assert net.agent.visitors() == []


def test_both_home_agents_at_once() -> None:
    """Draft 001, section 4.4."""
    net = Net(both())
    identification = net.identification()
    for home_agent in (HOME_AGENT, X_HOME_AGENT):
        net.asks(request(home_agent=home_agent, identification=identification))
        assert net.node[0][0].code == 0
    assert len(net.agent.visitors()) == 2
    net.passes(601)
    assert len(net.of(RemoveVisitor)) == 2
    assert len(net.of(RemoveBinding)) == 2


def test_agents_prove_themselves_to_each_other() -> None:
    homes = both(peer_agents=shared([CARE_OF]), trust_unsigned_agents=False)
    net = Net(homes, peer_agents=shared(homes), trust_unsigned_agents=False)
    net.asks(request(identification=net.identification()))
    assert net.node[0][0].code == 0
    assert "revocable" in net.agent.visitors()[0].flags
    net.asks(request(identification=net.identification(), lifetime_s=0))
    assert net.node[0][0].code == 0
    assert net.agent.visitors() == []


def test_agents_with_different_keys_do_not_work_together() -> None:
    homes = both(peer_agents=shared([CARE_OF]))
    stranger = replace(FOREIGN_HOME, key=b"another")
    net = Net(homes, peer_agents={HOME_AGENT: PeerAgent(HOME_AGENT, (stranger,))})
    net.asks(request(identification=net.identification()))
    # The home agent says 132, but its proof means nothing here.
    assert net.node[0][0].code == 68
    assert net.agent.visitors() == []
    assert not net.of(SetBinding)


@pytest.mark.parametrize("code", [131, 133, 136])
def test_denials_of_home_agents_reach_the_node(code: int) -> None:
    net = Net({HOME_AGENT: home_policy(HOME_AGENT)})
    identification = net.identification()
    octets = {
        131: request(home=IPv4Address("10.1.0.99"), identification=identification),
        133: request(identification=identification - (100 << 32)),
        136: request(identification=identification),
    }[code]
    if code == 136:
        other = IPv4Address("192.0.2.11")
        net.homes[HOME_AGENT] = HomeAgent(
            home_policy(other),
            random=random.Random(2).randbytes,
            wall_clock=lambda: WALL_S + net.now,
        )
    net.asks(octets)
    ((got, _),) = net.node
    assert got.code == code
    assert net.agent.visitors() == []


def test_replayed_request_changes_nothing() -> None:
    net = Net(both())
    octets = request(identification=net.identification())
    net.asks(octets)
    net.asks(octets)
    assert not net.of(SetVisitor)
    assert net.node[0][0].code == 133
    assert len(net.agent.visitors()) == 1


def test_a_dynamic_home_address() -> None:
    net = Net(both())
    octets = request(
        home=ZERO, identification=net.identification(), extensions=[Nai("bob@example.org")]
    )
    net.asks(octets, ZERO)
    ((got, sent),) = net.node
    assert got.code == 0
    assert got.home_address in IPv4Network("10.1.0.128/25")
    assert sent.link == Link(LINK, MAC)
    (done,) = net.of(SetVisitor)
    assert done.visitor.home_address == got.home_address


def test_revoked_by_the_home_agent() -> None:
    homes = both(peer_agents=shared([CARE_OF]))
    net = Net(homes, peer_agents=shared(homes))
    net.asks(request(identification=net.identification()))
    net.passes(10)
    assert net.homes[HOME_AGENT].revoke(HOME, net.now)
    net.carry()
    assert net.of(RemoveVisitor)
    assert net.agent.visitors() == []
    net.passes(60)
    assert not net.of(Transmit), "acknowledged"


def test_revoked_by_the_foreign_agent() -> None:
    homes = both(peer_agents=shared([CARE_OF]))
    net = Net(homes, peer_agents=shared(homes))
    net.asks(request(identification=net.identification()))
    net.passes(10)
    net.lost = True
    assert net.agent.revoke(HOME_AGENT, HOME, net.now)
    net.carry()
    assert not net.of(RemoveBinding)
    net.lost = False
    net.passes(2)
    assert net.of(RemoveBinding)
    assert net.agent.counters["revocations_acknowledged"] == 1
    net.passes(60)
    assert not net.of(Transmit)


def test_a_foreign_agent_behind_a_nat_gets_its_tunnel_in_udp() -> None:
    nat = IPv4Address("203.0.113.99")
    net = Net(both(), nat=nat)
    net.asks(request(identification=net.identification()))
    assert net.node[0][0].code == 0
    (visitor,) = net.of(SetVisitor)
    (binding,) = net.of(SetBinding)
    assert binding.binding.tunnels[0].remote == nat
    assert binding.binding.tunnels[0].udp_port == 7000
    assert visitor.visitor.tunnel.udp_port == 434


def test_forced_tunnels_in_udp() -> None:
    net = Net(both(), udp_tunnelling=Allowance.REQUIRED)
    net.asks(request(identification=net.identification()))
    (visitor,) = net.of(SetVisitor)
    (binding,) = net.of(SetBinding)
    assert visitor.visitor.tunnel.udp_port == 434
    assert binding.binding.tunnels[0].udp_port == 434


def test_a_home_agent_that_is_silent() -> None:
    net = Net(both())
    net.lost = True
    net.asks(request(identification=net.identification()))
    assert not net.node
    net.passes(8)
    assert net.node[0][0].code == 78
