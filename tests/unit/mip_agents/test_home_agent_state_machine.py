"""A home agent among honest mobile nodes and strangers, in any order, beside a small model."""

from dataclasses import replace
from ipaddress import IPv4Address

from home_agent_world import (
    HOME_AGENT,
    KEY,
    LAPTOP,
    D,
    Nodes,
    S,
    T,
    World,
    policy,
    request,
)
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from gateway.domain.mobility import MobilityBinding
from gateway.mip_agents.codec.registration import RegistrationReply
from gateway.mip_agents.outputs import RemoveBinding, SetBinding, Transmit
from gateway.mip_agents.policy import SecurityAssociation
from gateway.mip_agents.replay import ntp

COUNT = 4
KEYS = [SecurityAssociation(256, f"the key of node {i}".encode()) for i in range(COUNT)]
NODES = [
    replace(
        LAPTOP,
        name=f"node{i}",
        home_address=IPv4Address("10.7.0.10") + i,
        associations=(KEYS[i],),
        max_care_of_addresses=2,
    )
    for i in range(COUNT)
]
CARE_OFS = [IPv4Address("192.0.2.100") + i for i in range(4)]
which = st.integers(0, COUNT - 1)
where = st.sampled_from(CARE_OFS)


class Registrations(RuleBasedStateMachine):
    """The model: care-of addresses with their ends, by mobile node."""

    def __init__(self) -> None:
        super().__init__()
        self.model: list[dict[IPv4Address, float]] = [{} for _ in range(COUNT)]
        self.dataplane: dict[IPv4Address, MobilityBinding] = {}
        self.old: list[bytes] = []

    @initialize()
    def start(self) -> None:
        nodes = Nodes(*NODES)
        self.world = World(policy(nodes=nodes, lifetime_spread=0.0))

    def apply(self, outputs: object) -> list[Transmit]:
        """What a dataplane does; replies are handed back."""
        transmits = []
        for one in outputs:  # type: ignore[attr-defined]
            if isinstance(one, SetBinding):
                assert not transmits, "the dataplane is told before the mobile node"
                self.dataplane[one.binding.home_address] = one.binding
            elif isinstance(one, RemoveBinding):
                assert not transmits
                assert one.home_address in self.dataplane
                del self.dataplane[one.home_address]
            elif isinstance(one, Transmit):
                transmits.append(one)
        return transmits

    def expire(self) -> None:
        for bound in self.model:
            for address in [one for one, end in bound.items() if end <= self.world.now]:
                del bound[address]

    def say(self, octets: bytes, source: IPv4Address) -> int | None:
        self.old.append(octets)
        answers = self.world.send(octets, source)
        transmits = self.apply(answers.outputs)
        if not transmits:
            return None
        (transmit,) = transmits
        assert transmit.path.remote.address == source
        return RegistrationReply.parse(transmit.message).code

    @rule(node=which, care_of=where, lifetime=st.integers(1, 60), together=st.booleans())
    def honest_registration(
        self, node: int, care_of: IPv4Address, lifetime: int, together: bool
    ) -> None:
        flags = D | T | (S if together else D)
        octets = request(
            flags,
            lifetime,
            NODES[node].home_address,
            care_of=care_of,
            key=KEYS[node],
            identification=self.world.tick(),
        )
        self.apply(self.world.pass_time(0).outputs)
        self.expire()
        bound = self.model[node]
        code = self.say(octets, care_of)
        others = {one for one in bound if one != care_of}
        if together and len(others) >= 2:
            assert code == 135
            return
        assert code == 0
        if not together:
            bound.clear()
        bound[care_of] = self.world.now + lifetime

    @rule(node=which, care_of=st.none() | where)
    def honest_deregistration(self, node: int, care_of: IPv4Address | None) -> None:
        home = NODES[node].home_address
        source = care_of or home
        assert source is not None
        octets = request(
            lifetime=0,
            home=home,
            care_of=source,
            key=KEYS[node],
            identification=self.world.tick(),
        )
        assert self.say(octets, source) == 0
        if care_of is None:
            self.model[node].clear()
        else:
            self.model[node].pop(care_of, None)

    @rule(data=st.data(), source=where)
    def replayed(self, data: st.DataObject, source: IPv4Address) -> None:
        if self.old:
            assert self.say_wrong(data.draw(st.sampled_from(self.old)), source) in (None, 131, 133)

    @rule(data=st.data(), source=where)
    def mutated(self, data: st.DataObject, source: IPv4Address) -> None:
        if self.old:
            octets = bytearray(data.draw(st.sampled_from(self.old)))
            position = data.draw(st.integers(0, len(octets) - 1))
            octets[position] ^= data.draw(st.integers(1, 255))
            assert self.say_wrong(bytes(octets), source) in (None, 131)

    @rule(data=st.data(), source=where)
    def truncated(self, data: st.DataObject, source: IPv4Address) -> None:
        if self.old:
            octets = data.draw(st.sampled_from(self.old))
            octets = octets[: data.draw(st.integers(0, len(octets) - 1))]
            assert self.say_wrong(octets, source) in (None, 131)

    @rule(node=which, other=which, care_of=where, lifetime=st.integers(0, 60))
    def wrongly_keyed(self, node: int, other: int, care_of: IPv4Address, lifetime: int) -> None:
        key = KEYS[other] if other != node else KEY
        octets = request(
            lifetime=lifetime,
            home=NODES[node].home_address,
            care_of=care_of,
            key=key,
            identification=self.world.tick(),
        )
        assert self.say_wrong(octets, care_of) in (None, 131)

    @rule(node=which, care_of=where, ago=st.floats(0.001, 20))
    def reordered(self, node: int, care_of: IPv4Address, ago: float) -> None:
        """Signed in time, and kept back until another one was heard."""
        early = request(
            home=NODES[node].home_address,
            care_of=care_of,
            key=KEYS[node],
            identification=ntp(self.world.wall - ago),
        )
        self.honest_deregistration(node, None)
        assert self.say_wrong(early, care_of) in (None, 133)

    @rule(garbage=st.binary(max_size=80), source=where)
    def garbage(self, garbage: bytes, source: IPv4Address) -> None:
        assert self.say_wrong(garbage, source) in (None, 131)

    def say_wrong(self, octets: bytes, source: IPv4Address) -> int | None:
        """Something that must change nothing and cost one counter."""
        counters = self.world.agent.counters
        before, bound = counters.copy(), dict(self.dataplane)
        views = self.world.agent.bindings(0.0)
        records = dict(self.world.records)
        code = None
        for transmit in self.apply(self.world.send(octets, source).outputs):
            code = RegistrationReply.parse(transmit.message).code
        changed = counters - before
        changed.pop("unanswered", None)
        assert changed.total() == 1
        assert (self.dataplane, self.world.agent.bindings(0.0)) == (bound, views)
        assert self.world.records == records
        return code

    @rule(seconds=st.floats(0.1, 40))
    def time_passes(self, seconds: float) -> None:
        self.apply(self.world.pass_time(seconds).outputs)
        self.expire()

    @rule(node=which)
    def administrator(self, node: int) -> None:
        home = NODES[node].home_address
        assert home is not None
        assert self.world.agent.revoke(home, self.world.now) == bool(self.model[node])
        self.apply(self.world.take().outputs)
        self.model[node].clear()

    @rule(downtime=st.floats(0.0, 5.0))
    def restart(self, downtime: float) -> None:
        self.apply(self.world.pass_time(0).outputs)
        self.expire()
        at = self.world.now
        self.dataplane.clear()
        outputs = self.world.restart(downtime, tidy=True).outputs
        for one in outputs:
            if isinstance(one, SetBinding):
                self.dataplane[one.binding.home_address] = one.binding
        shift = self.world.now - at - downtime
        for bound in self.model:
            for address in bound:
                bound[address] += shift
        self.apply(self.world.pass_time(0.6).outputs)
        self.expire()

    @invariant()
    def everyone_agrees(self) -> None:
        if not hasattr(self, "world"):
            return
        self.apply(self.world.pass_time(0).outputs)
        self.expire()
        wanted = {
            str(NODES[i].home_address): {str(one) for one in bound}
            for i, bound in enumerate(self.model)
            if bound
        }
        assert {home: set(all_) for home, all_ in self.world.bound.items()} == wanted
        tunnels = {
            str(home): {str(one.remote) for one in binding.tunnels}
            for home, binding in self.dataplane.items()
        }
        assert tunnels == wanted
        assert all(one.home_agent == HOME_AGENT for one in self.dataplane.values())

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        self.apply(self.world.pass_time(1000).outputs)
        self.world.pass_time(1000)
        assert not self.dataplane
        assert not self.world.records
        assert self.world.agent.next_timer() is None


Registrations.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
TestRegistrations = Registrations.TestCase
