"""What the next process knows of a foreign agent's visitors, and what mobile nodes notice."""

import random

from foreign_agent_world import (
    CARE_OF,
    FOREIGN_HOME,
    HOME,
    HOME_AGENT,
    LINK,
    MAC,
    OTHER_HOME,
    PEERS,
    WALL_S,
    World,
    reply,
    request,
)
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.mobility import Tunnel, Visitor
from gateway.domain.wire import WireError
from gateway.mip_agents.advertisement import AgentAdvertisement
from gateway.mip_agents.codec.extensions import RevocationSupport
from gateway.mip_agents.foreign_agent import records
from gateway.mip_agents.foreign_agent.engine import ForeignAgent
from gateway.mip_agents.foreign_agent.visitors import VisitorEntry
from gateway.mip_agents.outputs import (
    Forget,
    Keep,
    Output,
    RemoveVisitor,
    SetVisitor,
    TransmitAdvertisement,
)


class Kept(World):
    """A world that remembers records, and can start over."""

    def __init__(self, **changes: object) -> None:
        super().__init__(**changes)
        self.kept: dict[str, bytes] = {}

    def took(self) -> list[Output]:
        return self.remember(super().took())

    def passes(self, seconds: float) -> list[Output]:
        return self.remember(super().passes(seconds))

    def remember(self, found: list[Output]) -> list[Output]:
        for one in found:
            if isinstance(one, Keep):
                self.kept[one.key] = one.record
            elif isinstance(one, Forget):
                self.kept.pop(one.key, None)
        return found

    def next_process(self, *, gone_s: float = 1.0, clean: bool = True, **changes: object) -> None:
        if clean:
            self.agent.hand_over()
            self.took()
        self.now += gone_s
        fresh = World(**changes)
        self.policy = fresh.policy
        self.agent = ForeignAgent(
            fresh.policy,
            random=random.Random(8).randbytes,
            wall_clock=lambda: WALL_S + self.now,
        )
        self.agent.restore(self.kept, self.now)
        self.took()


def visitors(outputs: list[Output]) -> list[Visitor]:
    return [one.visitor for one in outputs if isinstance(one, SetVisitor)]


def test_visitors_are_installed_again_as_they_were_and_end_when_they_would_have() -> None:
    world = Kept()
    before = visitors(world.registers(lifetime_s=600))
    assert len(before) == 1
    world.passes(100)
    for clean in (True, False):
        world.next_process(clean=clean, gone_s=50)
        assert visitors(world.outputs) == before
        assert not world.transmits()
    ended = world.passes(398)
    assert not [one for one in ended if isinstance(one, RemoveVisitor)]
    ended = world.passes(3)
    assert [one for one in ended if isinstance(one, RemoveVisitor)] == [
        RemoveVisitor(HOME_AGENT, HOME)
    ]
    assert world.kept == {}


def test_a_renewal_is_no_new_visitor() -> None:
    world = Kept()
    world.registers()
    world.next_process()
    assert visitors(world.registers(identification=99)) == []
    assert world.agent.visitors()[0].registrations == 2


def test_who_deregistered_does_not_come_back() -> None:
    world = Kept()
    world.registers()
    world.registers(lifetime_s=0)
    world.next_process(clean=False)
    assert world.agent.visitors() == []


def test_revocations_are_ordered_as_before() -> None:
    world = Kept(peer_agents=PEERS)
    support = RevocationSupport(timestamp=77, inform=False)
    world.asks(request())

    world.hears(reply(behind=(support,), peer=FOREIGN_HOME))
    entry = next(iter(world.kept.values()))
    known = records.read(entry, world.policy)
    world.next_process(peer_agents=PEERS)
    assert isinstance(known, VisitorEntry)
    assert (known.revocable, known.peer_timestamp) == (True, 77)
    assert len(world.agent.visitors()) == 1


def test_what_the_configuration_has_no_place_for_is_forgotten() -> None:
    for changes in ({"interface": "lan1"}, {"trust_unsigned_agents": False}, {"max_visitors": 0}):
        world = Kept()
        world.registers()
        world.next_process(**changes)
        assert world.agent.visitors() == []
        assert world.kept == {}


def test_a_clock_that_was_set_back_prolongs_nothing() -> None:
    world = Kept()
    world.registers(lifetime_s=600)
    world.next_process(gone_s=-50)
    assert not [one for one in world.passes(599) if isinstance(one, RemoveVisitor)]
    assert [one for one in world.passes(2) if isinstance(one, RemoveVisitor)]


def test_behind_the_vpn_a_visitor_waits_for_its_sa() -> None:
    fields: dict[str, object] = {"interface": "gw0", "through_vpn": True}
    world = Kept(**fields)
    world.agent.session_up(HOME, world.now, "CN=ann")
    world.asks(request(), mac=b"", ttl=64)

    before = visitors(world.hears(reply()))
    world.next_process(**fields)
    assert visitors(world.outputs) == []
    world.agent.session_up(HOME, world.now, "CN=bob")
    assert visitors(world.took()) == []
    world.agent.session_up(HOME, world.now, "CN=ann")
    assert visitors(world.took()) == before != []


def test_sequence_numbers_of_advertisements_never_say_restarted() -> None:
    world = Kept(advertisement_interval_s=10.0)

    def sequences(outputs: list[Output]) -> list[int]:
        return [
            AgentAdvertisement.parse(one.message).sequence
            for one in outputs
            if isinstance(one, TransmitAdvertisement)
        ]

    seen: list[int] = []
    for _ in range(4):
        for _ in range(60):
            world.passes(10)
            seen += sequences(world.outputs)
        world.next_process(clean=False, advertisement_interval_s=10.0)
    assert seen == sorted(set(seen))
    assert len(seen) > 200


def test_restored_records_are_as_those_that_were_written() -> None:
    world = Kept()
    world.registers()
    (record,) = world.kept.values()
    entry = records.read(record, world.policy)
    assert isinstance(entry, VisitorEntry)
    assert records.write(entry) == record
    assert entry.tunnel == Tunnel(CARE_OF, HOME_AGENT)
    assert (entry.link.interface, entry.link.address) == (LINK, MAC)
    assert records.key("fa", entry) in world.kept
    assert entry.home_address != OTHER_HOME


@given(st.binary(max_size=400), st.integers(0, 500))
def test_broken_records_are_dropped_one_by_one(octets: bytes, cut: int) -> None:
    world = Kept()
    world.registers()
    (good,) = world.kept.values()
    damaged = good[:cut] + octets + good[cut + 1 :]
    for one in (octets, damaged, bytes([records.VERSION]) + octets):
        try:
            records.read(one, world.policy)
        except WireError:
            continue
    world.kept["broken"] = octets
    world.next_process()
    assert len(world.agent.visitors()) == 1
