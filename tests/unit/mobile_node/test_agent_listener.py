"""What a mobile node makes of agents' advertisements, and how it asks for them."""

import itertools
import random
from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.domain.event import Event, Severity
from gateway.domain.mobility import Encapsulation
from gateway.mip_agents.advertisement import (
    AgentAdvertisement,
    AgentFlag,
    RouterAddress,
    challenge,
    foreign_agent_nai,
)
from gateway.mip_agents.foreign_agent.engine import ForeignAgent
from gateway.mip_agents.outputs import Link, TransmitAdvertisement
from gateway.mip_agents.policy import ForeignAgentPolicy
from gateway.mobile_node.agents import (
    LINES_PER_MINUTE,
    MAX_AGENTS,
    Agent,
    AgentHeard,
    AgentListener,
    AgentLost,
    ChallengeHeard,
)
from gateway.mobile_node.outputs import Solicit

AGENT = IPv4Address("203.0.113.1")
OTHER = IPv4Address("203.0.113.2")
HOME = IPv4Address("10.7.0.5")
MAC = bytes.fromhex("02000000000a")
OTHER_MAC = bytes.fromhex("02000000000b")
FOREIGN = AgentFlag.FOREIGN_AGENT
PLAIN = AgentAdvertisement(1, 600, FOREIGN, (AGENT,), 30, (RouterAddress(AGENT),), (24,))


class Link0:
    """A listener, its clock, and what it said last."""

    def __init__(self) -> None:
        self.now = 100.0
        self.listener = AgentListener("eth0", random=random.Random(3).randbytes)
        self.listener.start(self.now)
        self.listener.handle_timer(self.now)
        self.took()

    def took(self) -> list:
        return self.listener.take_outputs()

    def hear(
        self,
        advertisement: AgentAdvertisement = PLAIN,
        source: IPv4Address = AGENT,
        mac: bytes = MAC,
    ) -> list:
        assert self.listener.receive(advertisement.serialize(), source, mac, self.now)
        return self.took()

    def passes(self, seconds: float) -> list[tuple[float, object]]:
        """Everything said in that time, and when."""
        until, said = self.now + seconds, []
        while (due := self.listener.next_timer()) is not None and due <= until:
            self.now = max(self.now, due)
            self.listener.handle_timer(self.now)
            said += [(self.now, one) for one in self.took()]
        self.now = until
        return said

    @property
    def current(self) -> Agent | None:
        return self.listener.current(self.now)


@pytest.fixture
def link() -> Link0:
    return Link0()


def of(said: list, kind: type) -> list:
    return [one for one in said if isinstance(one, kind)]


def solicitations(said: list[tuple[float, object]]) -> list[float]:
    return [at for at, one in said if isinstance(one, Solicit)]


# -- what an advertisement says ---------------------------------------------------------------


def test_an_agent_is_described_by_its_advertisement(link: Link0) -> None:
    flags = (
        FOREIGN
        | AgentFlag.REGISTRATION_REQUIRED
        | AgentFlag.GRE
        | AgentFlag.REVERSE_TUNNELLING
        | AgentFlag.UDP_TUNNELLING
    )
    said = link.hear(
        replace(
            PLAIN,
            flags=flags,
            extensions=(challenge(b"abcdefgh"), foreign_agent_nai("fa@office.example")),
        )
    )
    (heard,) = of(said, AgentHeard)
    agent = heard.agent
    assert not heard.restarted
    assert (agent.address, agent.link_address, agent.care_of_addresses) == (AGENT, MAC, (AGENT,))
    assert agent.foreign
    assert agent.registration_required
    assert not agent.busy
    assert not agent.home
    assert agent.reverse_tunnelling
    assert agent.udp_tunnelling
    assert agent.encapsulations == {Encapsulation.IP_IP, Encapsulation.GRE}
    assert (agent.nai, agent.challenge) == ("fa@office.example", b"abcdefgh")
    assert (agent.longest_lifetime_s, agent.prefix_length) == (600, 24)
    assert agent.expires_at == link.now + 30


def test_the_way_by_an_agent_needs_no_arp(link: Link0) -> None:
    link.hear(replace(PLAIN, extensions=(challenge(b"abcdefgh"),)))
    agent = link.current
    assert agent is not None
    via = agent.via(HOME)
    assert (via.source, via.destination, via.care_of_address) == (HOME, AGENT, AGENT)
    assert (via.co_located, via.link_address, via.challenge) == (False, MAC, b"abcdefgh")
    assert via.longest_lifetime_s == 600
    own = IPv4Address("203.0.113.99")
    relayed = agent.via(own, own)
    assert (relayed.source, relayed.destination, relayed.care_of_address) == (own, AGENT, own)
    assert relayed.co_located


def test_advertisements_of_our_own_foreign_agent_are_understood() -> None:
    link = Link0()
    policy = ForeignAgentPolicy("fa", AGENT, "lan0", challenge=True, nai="fa@office.example")
    agent = ForeignAgent(policy, random=random.Random(1).randbytes, wall_clock=lambda: 1e9)
    said: list = []
    for _ in range(4):
        due = agent.next_timer()
        assert due is not None
        agent.handle_timer(due)
        for one in agent.take_outputs():
            if isinstance(one, TransmitAdvertisement):
                assert isinstance(one.link, Link)
                assert link.listener.receive(one.message, AGENT, MAC, link.now)
                said += link.took()
    assert len(of(said, AgentHeard)) == 1
    assert of(said, ChallengeHeard)
    current = link.current
    assert current is not None
    assert current.nai == "fa@office.example"
    assert len(current.challenge) >= 4


# -- coming and going ---------------------------------------------------------------------------


def test_an_agent_is_lost_when_its_advertisement_ends(link: Link0) -> None:
    link.hear()
    said = link.passes(29.9)
    assert not of([one for _, one in said], AgentLost)
    assert link.current is not None
    (lost,) = of([one for _, one in link.passes(0.2)], AgentLost)
    assert lost.agent.address == AGENT
    assert link.current is None


def test_newer_advertisements_keep_it(link: Link0) -> None:
    link.hear()
    for sequence in range(2, 12):
        said = link.passes(10)
        assert not said
        assert not link.hear(replace(PLAIN, sequence=sequence))
    assert link.current is not None


def test_a_silent_agent_is_asked_before_it_is_given_up(link: Link0) -> None:
    link.hear()
    assert solicitations(link.passes(29)) == [pytest.approx(120.0)]


def test_h62_many_silent_agents_are_asked_once(link: Link0) -> None:
    for number in range(10):
        link.hear(mac=bytes([number]))
    assert len(solicitations(link.passes(29))) == 1


def test_an_agent_that_says_goodbye_is_gone_at_once(link: Link0) -> None:
    link.hear()
    said = link.hear(replace(PLAIN, sequence=2, lifetime_s=0))
    assert of(said, AgentLost)
    assert link.current is None
    assert not of(link.hear(replace(PLAIN, sequence=3, lifetime_s=0)), AgentLost)


def test_the_agent_in_use_stays_while_it_lasts(link: Link0) -> None:
    link.hear()
    first = link.current
    (heard,) = of(
        link.hear(replace(PLAIN, care_of_addresses=(OTHER,), lifetime_s=300), OTHER, OTHER_MAC),
        AgentHeard,
    )
    assert heard.agent.address == OTHER
    assert link.current == first
    link.passes(31)
    assert link.current is not None
    assert link.current.address == OTHER


def test_a_busy_agent_is_used_only_by_those_that_use_it(link: Link0) -> None:
    link.hear(replace(PLAIN, flags=FOREIGN | AgentFlag.BUSY))
    assert link.current is None
    link.hear(replace(PLAIN, sequence=2))
    assert link.current is not None
    link.hear(replace(PLAIN, sequence=3, flags=FOREIGN | AgentFlag.BUSY))
    assert link.current is not None
    assert link.current.busy


def test_an_agent_that_refuses_is_passed_over(link: Link0) -> None:
    link.hear()
    link.hear(replace(PLAIN, care_of_addresses=(OTHER,)), OTHER, OTHER_MAC)
    first = link.current
    assert first is not None
    link.listener.pass_over(first, link.now + 20)
    second = link.current
    assert second is not None
    assert second.address != first.address
    link.listener.pass_over(second, link.now + 5)
    assert link.current is None
    link.now += 6
    assert link.current == second


def test_a_home_agent_is_heard_but_not_registered_with(link: Link0) -> None:
    (heard,) = of(
        link.hear(replace(PLAIN, flags=AgentFlag.HOME_AGENT, care_of_addresses=())), AgentHeard
    )
    assert heard.agent.home
    assert not heard.agent.foreign
    assert link.current is None


def test_another_link_knows_no_agent_of_the_last(link: Link0) -> None:
    link.hear()
    link.listener.start(link.now)
    assert link.current is None
    assert not link.listener.agents(link.now)
    assert of(link.hear(), AgentHeard)
    link.listener.stop()
    assert link.listener.next_timer() is None


def test_a_new_challenge_is_told(link: Link0) -> None:
    link.hear(replace(PLAIN, extensions=(challenge(b"first!!!"),)))
    (told,) = of(
        link.hear(replace(PLAIN, sequence=2, extensions=(challenge(b"second!!"),))), ChallengeHeard
    )
    assert told.agent.challenge == b"second!!"


# -- sequence numbers ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after", "restarted"),
    [(700, 0, True), (700, 255, True), (200, 3, True), (65535, 256, False), (65530, 260, False)],
)
def test_h62_sequence_numbers_tell_restarts_from_rollovers(
    link: Link0, before: int, after: int, restarted: bool
) -> None:
    link.hear(replace(PLAIN, sequence=before))
    heard = of(link.hear(replace(PLAIN, sequence=after)), AgentHeard)
    assert [one.restarted for one in heard] == ([True] if restarted else [])


def test_h62_a_late_advertisement_changes_nothing(link: Link0) -> None:
    link.hear(replace(PLAIN, sequence=900, extensions=(challenge(b"newest!!"),)))
    assert not link.hear(replace(PLAIN, sequence=898, extensions=(challenge(b"older!!!"),)))
    current = link.current
    assert current is not None
    assert current.challenge == b"newest!!"


# -- solicitations ---------------------------------------------------------------------------


def test_solicitations_become_rare() -> None:
    link = Link0()
    times = [link.now, *solicitations(link.passes(600))]
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert all(gap >= 1.0 for gap in gaps)
    assert all(1.0 <= gap <= 1.1 for gap in gaps[:2])
    assert 2.0 <= gaps[2] <= 2.2
    assert 4.0 <= gaps[3] <= 4.4
    assert all(60.0 <= gap <= 66.0 for gap in gaps[8:])
    assert gaps[8:]


def test_a_foreign_agent_ends_the_search_and_its_loss_begins_another(link: Link0) -> None:
    link.hear()
    assert len(solicitations(link.passes(25))) == 1
    link.hear(replace(PLAIN, sequence=2))
    said = link.passes(60)
    (lost_at,) = [at for at, one in said if isinstance(one, AgentLost)]
    assert next(at for at in solicitations(said) if at >= lost_at) == pytest.approx(lost_at)


def test_h62_a_link_that_flaps_asks_once_a_second() -> None:
    link = Link0()
    times = [link.now]
    for _ in range(200):
        link.listener.start(link.now)
        times += solicitations(link.passes(0.05))
    assert len(times) <= 12
    assert all(b - a >= 1.0 - 1e-9 for a, b in itertools.pairwise(times))


# -- hostile ------------------------------------------------------------------------------------


def test_h62_a_flood_of_agents_leaves_the_one_in_use(link: Link0) -> None:
    link.hear()
    current = link.current
    for number in range(300):
        source = IPv4Address(int(IPv4Address("203.0.113.10")) + number % 200)
        link.listener.receive(
            replace(PLAIN, care_of_addresses=(source,), lifetime_s=9000).serialize(),
            source,
            number.to_bytes(6),
            link.now,
        )
        link.took()
    assert len(link.listener.agents(link.now)) <= MAX_AGENTS
    assert link.current == current


def test_h62_another_station_does_not_speak_for_the_agent(link: Link0) -> None:
    link.hear(replace(PLAIN, sequence=500))
    mine = link.current
    (heard,) = of(link.hear(replace(PLAIN, sequence=0), mac=OTHER_MAC), AgentHeard)
    assert not heard.restarted
    assert link.current == mine
    link.hear(replace(PLAIN, sequence=1, lifetime_s=0), mac=OTHER_MAC)
    assert link.current == mine


def test_h62_a_lifetime_of_a_day_is_cut(link: Link0) -> None:
    link.hear(replace(PLAIN, lifetime_s=65535))
    current = link.current
    assert current is not None
    assert current.expires_at == link.now + 9000


@pytest.mark.parametrize("source", ["0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255"])
def test_h62_no_host_is_no_agent(link: Link0, source: str) -> None:
    assert not link.listener.receive(PLAIN.serialize(), IPv4Address(source), MAC, link.now)
    assert not link.took()


@pytest.mark.parametrize("care_of", ["0.0.0.0", "127.0.0.1", "224.0.0.9", "255.255.255.255"])
def test_h62_a_care_of_address_that_is_no_host_is_none(link: Link0, care_of: str) -> None:
    link.hear(replace(PLAIN, care_of_addresses=(IPv4Address(care_of),)))
    assert link.current is None


def test_h62_advertisements_cut_anywhere_are_ignored(link: Link0) -> None:
    octets = PLAIN.serialize()
    for end in range(len(octets)):
        assert not link.listener.receive(octets[:end], AGENT, MAC, link.now)
    assert not link.took()


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=80), st.integers(0, 2**32 - 1), st.binary(max_size=8))
def test_h62_octets_never_raise(octets: bytes, source: int, mac: bytes) -> None:
    link = Link0()
    link.listener.receive(octets, IPv4Address(source), mac, link.now)
    link.listener.receive(b"\x09" + octets, IPv4Address(source), mac, link.now)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 255))
def test_h62_a_flipped_octet_is_noticed(at: int, flip: int) -> None:
    link = Link0()
    octets = bytearray(PLAIN.serialize())
    octets[at % len(octets)] ^= flip
    assert not link.listener.receive(bytes(octets), AGENT, MAC, link.now)


def test_h62_made_up_agents_do_not_fill_the_log(link: Link0) -> None:
    said = []
    for number in range(300):
        said += link.hear(mac=number.to_bytes(6, "big"))
    lines = [one for one in of(said, Event) if one.severity is not Severity.DEBUG]
    assert 0 < len(lines) <= LINES_PER_MINUTE
    link.passes(120)
    assert of(link.hear(mac=b"\x02later"), Event)[-1].severity is Severity.INFO
