"""Several clients do as they like; what has to hold, holds after every step."""

import itertools
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from nar_server_world import (
    ANY,
    LEASES,
    NB,
    NB2,
    POLICY,
    RULE,
    XA,
    XA2,
    YB,
    YB2,
    Client,
    World,
    collide,
)

from gateway.domain.nar import NarProtocol
from gateway.nar.codec.numbers import NarFlag, Reply
from gateway.nar.server.records import LeaseRecord, SessionRecord, read
from gateway.nar.server.views import tuple_id

NB3 = IPv4Address("192.0.2.3")
XA3 = IPv4Address("10.0.0.9")
MAX_LEASES, MAX_ALL = 12, 25
SMALL = replace(
    POLICY,
    addresses=(NB, NB2),
    ports=(range(20_000, 20_004),),
    icmp_ids=range(0xC000, 0xC003),
    spis=range(0x1000, 0x1004),
    rules=(
        replace(RULE, max_leases=MAX_LEASES, clients=(IPv4Network("10.0.0.0/30"),)),
        replace(RULE, max_leases=MAX_LEASES, max_lease_s=900.0),
    ),
    max_leases=MAX_ALL,
    grace_s=60.0,
)
ports = st.sampled_from([0, 80, 8080, 20_000, 20_001, 20_002, 20_003])
HOSTS = [XA, XA2, XA3]
FLAGS = [
    0,
    LEASES,
    LEASES | NarFlag.L2TP,
    NarFlag.TRANSLATED,
    LEASES | NarFlag.TRANSLATED,
    LEASES | NarFlag.GRE,
]
whose = st.integers(0, 11)
seldom = st.sampled_from([False, False, False, True])
remotes = st.sampled_from([ANY, YB, YB2])


class Clients(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.world = World(policy=SMALL)
        self.tokens: dict[IPv4Address, list[bytes]] = {}
        self.last_numbers = itertools.count(40_000)

    def _arrive(self, address: IPv4Address, flags: int, remote: IPv4Address) -> Client:
        number = next(self.last_numbers)
        return self.world.client(address, flags=flags, target=remote, port=number)

    def _pick(self, which: int) -> Client:
        """One of those that are there; a new one when there is none."""
        live = [one for one in self.world.clients.values() if not one.closed]
        if len(live) < 2:
            return self._arrive(HOSTS[which % 3], FLAGS[which % len(FLAGS)], ANY)
        return live[which % len(live)]

    @rule(address=st.sampled_from(HOSTS), flags=st.sampled_from(FLAGS), remote=remotes)
    def arrive(self, address: IPv4Address, flags: int, remote: IPv4Address) -> None:
        if len(self.world.clients) < 8:
            self._arrive(address, flags, remote)

    @rule(who=whose, remote=remotes, port=ports)
    def bind(self, who: int, remote: IPv4Address, port: int) -> None:
        self._pick(who).bind(port, remote)

    @rule(who=whose, remote=remotes, port=st.sampled_from([80, 443]))
    def connect(self, who: int, remote: IPv4Address, port: int) -> None:
        self._pick(who).connect(remote, port)

    @rule(who=whose, remote=remotes, port=ports, exact=st.booleans())
    def udp(self, who: int, remote: IPv4Address, port: int, exact: bool) -> None:
        self._pick(who).udp(port, remote, remote=exact)

    @rule(who=whose, identifier=st.sampled_from([0, 1, 0xC000, 0xC001]))
    def icmp(self, who: int, identifier: int) -> None:
        self._pick(who).icmp(identifier)

    @rule(
        who=whose, protocol=st.sampled_from([50, 51]), spi=st.sampled_from([0, 7, 0x1000, 0x1001])
    )
    def ipsec(self, who: int, protocol: int, spi: int) -> None:
        self._pick(who).ipsec(protocol, spi)

    @rule(
        who=whose,
        inner=st.sampled_from(["172.16.0.1", "172.16.0.2"]),
        protocol=st.sampled_from([4, 47]),
    )
    def tunnel(self, who: int, inner: str, protocol: int) -> None:
        self._pick(who).tunnel(inner, protocol)

    @rule(who=whose, remote=remotes, flags=st.sampled_from([0, LEASES, LEASES | 1, LEASES | 2]))
    def change_mode(self, who: int, remote: IPv4Address, flags: int) -> None:
        self._pick(who).nar_mode(remote, flags)

    @rule(who=whose, back=st.booleans())
    def session(self, who: int, back: bool) -> None:
        client = self._pick(who)
        known = self.tokens.setdefault(client.endpoint.address, [])
        reply = client.session(known[-1]) if back and known else client.session()
        if reply.reply is Reply.SUCCEEDED and reply.token not in known:
            known.append(reply.token)

    @rule(who=whose, data=st.data())
    def steal(self, who: int, data: st.DataObject) -> None:
        """Nobody releases or takes up what is of another address."""
        client = self._pick(who)
        others = [
            key for key, one in self.world.table.items() if one.client != client.endpoint.address
        ]
        if not others:
            return
        before = dict(self.world.table)
        key = data.draw(st.sampled_from(others))
        mine = self.tokens.get(client.endpoint.address, [])
        for tokens in self.tokens.values():
            for token in tokens:
                if token not in mine:
                    assert client.session(token).reply is not Reply.SUCCEEDED
        client.release(key)
        assert {k: v for k, v in self.world.table.items() if k in others} == {
            k: v for k, v in before.items() if k in others
        }

    @rule(who=whose, data=st.data())
    def release(self, who: int, data: st.DataObject) -> None:
        client = self._pick(who)
        mine = [one.tuple for one in client.mappings]
        client.release(data.draw(st.sampled_from([None, *mine])))

    @rule(who=whose)
    def renew(self, who: int) -> None:
        self._pick(who).renew()

    @rule(who=whose)
    def leave(self, who: int) -> None:
        self._pick(who).hang_up()

    @rule(who=whose, octets=st.binary(min_size=1, max_size=40))
    def babble(self, who: int, octets: bytes) -> None:
        client = self._pick(who)
        client.say(octets)
        if not client.closed:
            client.hang_up()

    @rule(seconds=st.sampled_from([1, 1, 1, 30, 61, 130, 700]))
    def wait(self, seconds: int) -> None:
        self.world.pass_time(seconds)

    @rule(really=seldom)
    def restart(self, really: bool) -> None:
        if not really:
            return
        table = dict(self.world.table)
        self.world.restart(away_s=1.0)
        assert self.world.table == table

    @rule(old=st.sampled_from([NB, NB2]), new=st.sampled_from([NB, NB2, NB3]), really=seldom)
    def move(self, old: IPv4Address, new: IPv4Address, really: bool) -> None:
        if not really:
            return
        self.world.server.address_changed(old, new, self.world.now)
        self.world.pump()

    @rule(which=st.sampled_from([(NB,), (NB2,), (NB, NB2)]), narrow=st.booleans(), really=seldom)
    def reconfigure(self, which: tuple[IPv4Address, ...], narrow: bool, really: bool) -> None:
        if not really:
            return
        policy = replace(SMALL, addresses=which)
        if narrow:
            policy = replace(policy, ports=(range(20_001, 20_003),))
        self.world.server.reconfigure(policy, self.world.now)
        self.world.pump()

    @rule(value=st.sampled_from([20_000, 20_001, 8080]), taken=st.booleans())
    def box(self, value: int, taken: bool) -> None:
        (self.world.busy.add if taken else self.world.busy.discard)((NarProtocol.TCP, value))

    @invariant()
    def no_two_mappings_collide(self) -> None:
        for one, other in itertools.combinations(self.world.table.values(), 2):
            assert not collide(one, other), f"{one} and {other}"

    @invariant()
    def packets_from_inside_are_of_one_mapping(self) -> None:
        inside = [
            (one.client, one.tuple.protocol, one.client_port or one.tuple.value)
            for one in self.world.table.values()
            if not one.delivery.end_to_end and one.tuple.protocol.has_ports
        ]
        assert len(inside) == len(set(inside))
        homes = {(one.client, one.tuple.address) for one in self.world.table.values()}
        assert len(homes) == len({client for client, _ in homes})

    @invariant()
    def the_dataplane_has_what_the_engine_has(self) -> None:
        ids = {one["id"] for one in self.world.server.mappings()}
        assert ids == set(map(tuple_id, self.world.table))
        assert set(self.world.audit) == set(self.world.table)

    @invariant()
    def every_mapping_has_a_session_that_lives_or_may_come_back(self) -> None:
        clients = {one["session"]: one for one in self.world.server.clients()}
        for one in self.world.server.mappings():
            assert clients[one["session"]]["client"] == one["client"]
            if not one["connected"]:
                assert one["expires"] <= self.world.wall_s + self.world.now + SMALL.grace_s
        assert sum(one["leases"] for one in clients.values()) == len(self.world.table)

    @invariant()
    def limits_hold(self) -> None:
        policy = self.world.server.policy
        assert len(self.world.table) <= MAX_ALL
        by_client: dict[IPv4Address, int] = {}
        for one in self.world.table.values():
            by_client[one.client] = by_client.get(one.client, 0) + 1
            assert one.tuple.address in policy.addresses
        assert all(count <= MAX_LEASES for count in by_client.values())
        held = {key.value for key in self.world.held}
        ports = {key.value for key in self.world.table if key.protocol.has_ports}
        inside = set(itertools.chain.from_iterable(policy.ports))
        assert held == ports - inside

    @invariant()
    def records_are_of_what_there_is(self) -> None:
        records = [read(one) for one in self.world.records.values()]
        leases = [one for one in records if isinstance(one, LeaseRecord)]
        sessions = {one.number for one in records if isinstance(one, SessionRecord)}
        assert {one.tuple for one in leases} == set(self.world.table)
        assert {one.session for one in leases} == sessions

    @invariant()
    def nothing_is_left_over(self) -> None:
        core = self.world.server._core
        assert core.leases == len(self.world.table)
        assert sum(space.used for space in core.spaces.values()) == core.leases
        needed = {one.client for one in self.world.table.values() if one.delivery.value == "l2tp"}
        assert needed <= set(self.world.l2tp)
        for session in core.sessions:
            assert session.connection is not None or session.leases
        timed = len(core.connections) + len(core.sessions) + core.leases
        assert len(core.timers) <= timed


TestClients = Clients.TestCase
TestClients.settings = settings(max_examples=80, stateful_step_count=50, deadline=None)
