"""Whatever comes in whatever order: the foreign agent's state stays whole."""

from collections.abc import Callable
from ipaddress import IPv4Address

from foreign_agent_world import (
    CARE_OF,
    FOREIGN_HOME,
    HOME_AGENT,
    LINK,
    PEERS,
    X_HOME_AGENT,
    World,
    reply,
    request,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.domain.checksum import internet_checksum
from gateway.domain.nar import NarMapping, NarTuple
from gateway.mip_agents.advertisement import AgentAdvertisement
from gateway.mip_agents.authentication import sign
from gateway.mip_agents.codec.extensions import (
    AuthenticationKind,
    Challenge,
    Nai,
    RevocationSupport,
    UdpTunnelReply,
)
from gateway.mip_agents.codec.revocation import Revocation, RevocationAcknowledgment
from gateway.mip_agents.outputs import (
    Link,
    RemoveNarMapping,
    RemoveVisitor,
    SetNarMapping,
    SetVisitor,
    Transmit,
    TransmitAdvertisement,
)
from gateway.mip_agents.policy import Allowance

HOMES = [IPv4Address(f"10.1.0.{n}") for n in range(3)] + [IPv4Address(0)]
MACS = [b"\x02\x00\x00\x00\x00" + bytes([n]) for n in range(4)]
OWN = [IPv4Address("10.77.0.9"), IPv4Address("10.77.0.10")]
MAX_PENDING = 6
MAX_VISITORS = 3

home = st.sampled_from(HOMES)
mac = st.sampled_from(MACS)
home_agent = st.sampled_from([HOME_AGENT, X_HOME_AGENT])
identification = st.integers(0, 3)
lifetime_s = st.sampled_from([0, 5, 30, 600, 0xFFFF])
code = st.sampled_from([0, 0, 0, 1, 2, 66, 131, 255])
damage = st.one_of(st.none(), st.none(), st.tuples(st.integers(0, 200), st.integers(0, 255)))

Step = Callable[["Model"], None]


def damaged(octets: bytes, how: tuple[int, int] | None) -> bytes:
    """As it is; or with an octet changed; or cut."""
    if how is None:
        return octets
    at, flip = how
    if flip == 0:
        return octets[:at]
    at %= len(octets)
    return octets[:at] + bytes([octets[at] ^ flip]) + octets[at + 1 :]


class Model(World):
    """Follows what the dataplane and the mobile nodes are told."""

    def __init__(self, through_vpn: bool, changes: dict[str, object]) -> None:
        interface = "gw0" if through_vpn else LINK
        super().__init__(
            interface=interface,
            through_vpn=through_vpn,
            max_pending=MAX_PENDING,
            max_visitors=MAX_VISITORS,
            lifetime_s=0xFFFF,
            peer_agents=PEERS,
            **{"nar_server": "" if through_vpn else "soho", **changes},
        )
        self.installed: set[tuple[IPv4Address, IPv4Address]] = set()
        self.askers: set[bytes] = set()
        self.mappings: dict[NarTuple, NarMapping] = {}
        """Of NAR: visitors with an address of their own."""
        self.leased: set[int] = set()
        """Home addresses whose tunnels a NAR client has."""
        self.agent.respect(lambda key: "somebody" if key.value in self.leased else "")

    def check(self) -> None:
        for one in self.outputs:
            if isinstance(one, SetVisitor):
                self.installed.add((one.visitor.home_agent, one.visitor.home_address))
                assert one.visitor.tunnel.local == CARE_OF
                assert one.visitor.link_address in self.askers
            elif isinstance(one, RemoveVisitor):
                self.installed.remove((one.home_agent, one.home_address))
            elif isinstance(one, SetNarMapping):
                assert self.mappings.get(one.mapping.tuple) in (None, one.mapping)
                assert one.mapping.client in OWN
                self.mappings[one.mapping.tuple] = one.mapping
            elif isinstance(one, RemoveNarMapping):
                del self.mappings[one.tuple]
            elif isinstance(one, Transmit) and one.link is not None:
                assert one.link.address in self.askers
            elif isinstance(one, TransmitAdvertisement):
                AgentAdvertisement.parse(one.message)
        shown = self.agent.visitors()
        by_nar = {(key.remote, IPv4Address(key.value)) for key in self.mappings}
        assert len(by_nar) == len(self.mappings)
        assert not by_nar & self.installed
        assert {(one.home_agent, one.home_address) for one in shown if one.installed} == (
            self.installed | by_nar
        )
        assert self.agent.counters["internal_errors"] == 0
        assert len(shown) <= MAX_VISITORS
        core = self.agent._core
        assert len(core.pending) <= MAX_PENDING
        kept = {key for users in core.keepalives.values() for key in users}
        assert kept == {one.key for one in core.visitors.all() if one.keepalive_s}
        assert len(core.timers) <= MAX_PENDING + 2 * MAX_VISITORS + len(core.revoked) + 4


@st.composite
def asking(draw: st.DrawFn) -> Step:
    who, where, agent = draw(home), draw(mac), draw(home_agent)
    flags = draw(st.sampled_from([0x02, 0x02, 0x00, 0x0A, 0x22, 0x26, 0xFF]))
    own, other = draw(st.sampled_from(OWN)), IPv4Address("198.51.100.7")
    nai = [Nai("ann@example.org")] if draw(st.booleans()) else []
    octets = damaged(
        request(
            flags=flags,
            home=who,
            home_agent=agent,
            identification=draw(identification),
            lifetime_s=draw(lifetime_s),
            care_of=other if flags & 0x20 and draw(st.booleans()) else CARE_OF,
            extensions=nai,
        ),
        draw(damage),
    )

    def step(world: Model) -> None:
        link = b"" if world.policy.through_vpn else where
        world.askers.add(link)
        world.asks(octets, mac=link, source=own if flags & 0x20 else who)

    return step


@st.composite
def answering(draw: st.DrawFn) -> Step:
    agent = draw(home_agent)
    extensions = [Nai("ann@example.org")] if draw(st.booleans()) else []
    granted = [UdpTunnelReply(draw(st.sampled_from([0, 64])))] if draw(st.booleans()) else []
    octets = damaged(
        reply(
            code=draw(code),
            home=draw(home),
            home_agent=agent,
            identification=draw(identification),
            lifetime_s=draw(lifetime_s),
            extensions=[*extensions, *granted],
            behind=[RevocationSupport(draw(st.integers(0, 5)), draw(st.booleans()))],
            peer=FOREIGN_HOME if draw(st.booleans()) or agent == HOME_AGENT else None,
        ),
        draw(damage),
    )

    def step(world: Model) -> None:
        world.hears(octets, source=agent)

    return step


@st.composite
def registering(draw: st.DrawFn) -> Step:
    """A request, and perhaps something else, before the reply that fits."""
    who, where, agent = draw(home), draw(mac), draw(home_agent)
    number, seconds = draw(identification), draw(lifetime_s)
    answer, granted = draw(code), draw(lifetime_s)
    nai = [Nai("ann@example.org")]
    own = draw(st.sampled_from(OWN)) if draw(st.booleans()) else None
    flags = draw(st.sampled_from([0x22, 0x26])) if own is not None else 0x02
    support = [RevocationSupport(draw(st.integers(0, 5)), draw(st.booleans()))]
    udp = [UdpTunnelReply(draw(st.sampled_from([0, 64])))] if draw(st.booleans()) else []
    between = draw(st.none() | around() | revoking())

    def step(world: Model) -> None:
        link = b"" if world.policy.through_vpn else where
        world.askers.add(link)
        if world.policy.through_vpn:
            world.agent.session_up(who, world.now, "CN=ann")
            world.took()
            world.check()
        extensions: list[Nai | Challenge] = [*nai]
        if world.policy.challenge:
            extensions.append(Challenge(world.agent._core.challenges.current()))
        world.asks(
            request(
                flags=flags,
                home=who,
                home_agent=agent,
                identification=number,
                lifetime_s=seconds,
                extensions=extensions,
            ),
            mac=link,
            source=who if own is None else own,
        )
        world.check()
        if between is not None:
            between(world)
            world.check()
        octets = reply(
            code=answer,
            home=HOMES[0] if who == HOMES[3] else who,
            home_agent=agent,
            identification=number,
            lifetime_s=granted,
            extensions=[*nai, *udp],
            behind=support,
            peer=FOREIGN_HOME if agent == HOME_AGENT else None,
        )
        world.hears(octets, source=agent)

    return step


@st.composite
def revoking(draw: st.DrawFn) -> Step:
    who, agent = draw(home), draw(home_agent)
    kind = draw(st.integers(0, 2))
    number = draw(st.integers(0, 8))
    inform = draw(st.booleans())
    how = draw(damage)

    def step(world: Model) -> None:
        if kind == 0:
            world.agent.revoke(agent, who, world.now)
            world.took()
            return
        octets = (
            Revocation(who, agent, CARE_OF, number, True, inform).serialize()
            if kind == 1
            else RevocationAcknowledgment(who, number, inform).serialize()
        )
        octets = sign(octets, AuthenticationKind.FOREIGN_HOME, FOREIGN_HOME)
        world.hears(damaged(octets, how), source=agent)

    return step


@st.composite
def around(draw: st.DrawFn) -> Step:
    """What is no registration: time, SAs, solicitations, ICMP, refusals, rubbish."""
    who, where, agent = draw(home), draw(mac), draw(home_agent)
    kind = draw(st.integers(0, 8))
    seconds = draw(st.sampled_from([0.0, 0.5, 3.0, 8.0, 40.0]))
    rubbish = draw(st.binary(max_size=60))
    peer = draw(st.sampled_from(["CN=ann", "CN=bob"]))

    def step(world: Model) -> None:
        now = world.now
        if kind == 0:
            world.passes(seconds)
            return
        if kind == 1:
            world.agent.session_up(who, now, peer)
        elif kind == 2:
            world.agent.session_down(who, now)
        elif kind == 3:
            body = b"\x0a\x00\x00\x00" + bytes(4)
            checksum = internet_checksum(body).to_bytes(2, "big")
            message = body[:2] + checksum + body[4:] if seconds else rubbish
            world.agent.solicited(message, who, Link(LINK, where), now)
        elif kind == 4:
            world.agent.home_agent_unreachable(agent, len(rubbish), now)
        elif kind == 5:
            world.agent.visitor_refused(agent, who, "no room", now)
        elif kind == 6:
            world.hears(rubbish, source=agent)
            return
        elif kind == 8:
            world.leased ^= {int(who)}
        else:
            world.asks(rubbish, mac=where)
            return
        world.took()

    return step


steps = st.lists(
    st.one_of(asking(), answering(), revoking(), around(), *[registering()] * 3),
    min_size=6,
    max_size=40,
)
changes = st.fixed_dictionaries(
    {},
    optional={
        "challenge": st.booleans(),
        "advertisement_interval_s": st.sampled_from([0, 10.0]),
        "udp_tunnelling": st.sampled_from(Allowance),
        "revocation": st.booleans(),
        "nar_server": st.just(""),
    },
)


@settings(max_examples=200, deadline=None)
@given(st.booleans(), changes, steps)
def test_h61_any_sequence_leaves_everything_whole(
    through_vpn: bool, changed: dict[str, object], sequence: list[Step]
) -> None:
    world = Model(through_vpn, changed)
    for step in sequence:
        step(world)
        world.check()
    world.agent.close(world.now)
    world.took()
    world.check()
    assert world.installed == set()
    assert world.mappings == {}
    assert world.agent.next_timer() is None


@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(max_size=100), max_size=5), st.integers(0, 255))
def test_h53_rubbish_changes_nothing(messages: list[bytes], kind: int) -> None:
    world = World(peer_agents=PEERS)
    for message in messages:
        for octets in (message, bytes([kind]) + message, b"\x01" + message, b"\x03" + message):
            world.asks(octets)
            assert not world.set_visitors()
            world.hears(octets)
            assert not world.set_visitors()
    assert world.agent.visitors() == []
    assert world.agent.counters["internal_errors"] == 0
