"""What strangers, rogue agents and a bad net can do to a registration: nothing but delay it."""

import random
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from registration_world import (
    BY_AGENT,
    CARE_OF,
    DIRECT,
    DIRECT_2,
    FOREIGN_AGENT,
    GATEWAY,
    HOME,
    HOME_AGENT,
    KEY,
    OTHER_HOME_AGENT,
    OTHER_KEY,
    SOON,
    World,
    home_policy,
    node_policy,
)

from gateway.domain.endpoint import Endpoint
from gateway.domain.mobility import Encapsulation
from gateway.mip_agents.authentication import sign
from gateway.mip_agents.codec.codes import ReplyCode
from gateway.mip_agents.codec.extensions import (
    AuthenticationKind,
    Challenge,
    Extension,
    UdpTunnelReply,
    UnknownExtension,
    VendorExtension,
    ZeroOverheadConfirmation,
)
from gateway.mip_agents.codec.registration import (
    RegistrationReply,
    RegistrationRequest,
    RequestFlag,
)
from gateway.mip_agents.codec.revocation import Revocation, RevocationAcknowledgment
from gateway.mip_agents.policy import Algorithm, ReplayProtection, SecurityAssociation
from gateway.mobile_node.outputs import TransmitRegistration
from gateway.mobile_node.policy import HomeAgentPolicy
from gateway.mobile_node.registering.outcome import Accepted, Denied, EndReason, Retransmission, Via
from gateway.mobile_node.registration import RegistrationClient

MALLORY = Endpoint(IPv4Address("192.0.2.66"), 434)
AGENT = Endpoint(HOME_AGENT, 434)
RELAY = Endpoint(FOREIGN_AGENT, 434)
FINAL_AT_HOME_AGENTS = sorted(
    {int(code) for code in ReplyCode if 128 <= code < 193}
    - {
        ReplyCode.HA_UNSPECIFIED,
        ReplyCode.HA_INSUFFICIENT_RESOURCES,
        ReplyCode.HA_IDENTIFICATION_MISMATCH,
    }
)


class Asking:
    """A client that waits for its answer, and whoever writes one."""

    def __init__(
        self, via: Via = DIRECT, policy: HomeAgentPolicy | None = None, **asked: object
    ) -> None:
        self.now = 50.0
        self.client = RegistrationClient(
            policy or node_policy(),
            random=random.Random(5).randbytes,
            wall_clock=lambda: 1.9e9 + self.now,
        )
        self.client.register(via, self.now, retransmission=SOON, **asked)  # type: ignore[arg-type]
        self.outcomes: list[object] = []
        self.sent: list[TransmitRegistration] = []
        self.took()

    def took(self) -> list[object]:
        new = self.client.take_outputs()
        self.sent += [one for one in new if isinstance(one, TransmitRegistration)]
        told = [one for one in new if isinstance(one, Accepted | Denied)]
        self.outcomes += told
        return list(told)

    @property
    def request(self) -> RegistrationRequest:
        return RegistrationRequest.parse(self.sent[-1].message)

    def reply(
        self,
        *,
        code: int = 0,
        lifetime_s: int = 300,
        home: IPv4Address = HOME,
        home_agent: IPv4Address = HOME_AGENT,
        identification: int | None = None,
        extensions: Sequence[Extension] = (),
        behind: Sequence[Extension] = (),
        key: SecurityAssociation | None = KEY,
    ) -> bytes:
        if identification is None:
            identification = self.request.identification
        octets = RegistrationReply(
            code, lifetime_s, home, home_agent, identification, tuple(extensions)
        ).serialize()
        if key is not None:
            octets = sign(octets, AuthenticationKind.MOBILE_HOME, key)
        return octets + b"".join(one.serialize() for one in behind)

    def hears(self, octets: bytes, source: Endpoint = AGENT, **more: object) -> list[object]:
        self.client.receive(octets, source, self.now, **more)  # type: ignore[arg-type]
        return self.took()

    def waits(self) -> None:
        """Until the next transmission."""
        due = self.client.next_timer()
        assert due is not None
        self.now = due
        self.client.handle_timer(due)
        self.took()

    def untouched(self) -> bool:
        """Nothing was believed, and the true answer still is."""
        if self.client.registered or self.outcomes or not self.client.trying:
            return False
        (accepted,) = self.hears(self.reply())
        return isinstance(accepted, Accepted)


@pytest.fixture
def asking() -> Asking:
    return Asking()


# -- forged ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "key",
    [
        None,
        OTHER_KEY,
        replace(KEY, key=b"another key of another home agent"),
        replace(KEY, spi=300),
        replace(KEY, algorithm=Algorithm.HMAC_MD5),
        replace(KEY, algorithm=Algorithm.KEYED_MD5),
    ],
)
def test_h61_an_acceptance_without_the_right_proof_is_none(
    asking: Asking, key: SecurityAssociation | None
) -> None:
    asking.hears(asking.reply(key=key))
    assert asking.untouched()


def test_h66_the_other_construction_of_md5_proves_nothing() -> None:
    """The key may be the same: prefix and suffix is not HMAC, and the reverse."""
    for mine, theirs in (
        (Algorithm.HMAC_MD5, Algorithm.KEYED_MD5),
        (Algorithm.KEYED_MD5, Algorithm.HMAC_MD5),
    ):
        key = replace(KEY, algorithm=mine)
        asking = Asking(policy=node_policy(association=key))
        asking.hears(asking.reply(key=replace(KEY, algorithm=theirs)))
        assert not asking.client.registered
        asking.hears(asking.reply(key=key))
        assert asking.client.registered


@pytest.mark.parametrize(
    "wrong",
    [
        {"home": IPv4Address("10.7.0.6")},
        {"home": IPv4Address(0)},
        {"home_agent": OTHER_HOME_AGENT},
        {"home_agent": IPv4Address(0)},
        {"identification": 0},
        {"identification": 2**64 - 1},
        {"lifetime_s": 0},
        {"code": 2},
        {"code": 63},
        {"extensions": (UnknownExtension(77, b"?"),)},
        {"extensions": (VendorExtension(True, 9, 1, b"?"),)},
        {"behind": (UnknownExtension(77, b"?"),)},
        {"behind": (VendorExtension(True, 9, 1, b"?"),)},
    ],
)
def test_h61_an_authentic_answer_to_something_else_is_none(
    asking: Asking, wrong: dict[str, object]
) -> None:
    asking.hears(asking.reply(**wrong))  # type: ignore[arg-type]
    assert asking.untouched()


def test_h61_only_the_whole_timestamp_is_the_same(asking: Asking) -> None:
    """An old reply that happens to share the lower half with a new request."""
    for bit in range(32, 64):
        asking.hears(asking.reply(identification=asking.request.identification ^ 1 << bit))
    assert asking.untouched()


def test_h61_with_nonces_the_lower_half_decides() -> None:
    key = replace(KEY, replay=ReplayProtection.NONCES)
    asking = Asking(policy=node_policy(association=key))
    low = asking.request.identification & 0xFFFF_FFFF
    asking.hears(asking.reply(identification=0x1234_5678 << 32 | low ^ 1))
    assert not asking.client.registered
    asking.hears(asking.reply(identification=0x1234_5678 << 32 | low))
    assert asking.client.registered
    asking.client.renew(asking.now, SOON)
    asking.took()
    assert asking.request.identification >> 32 == 0x1234_5678


def test_h54_two_proofs_are_none(asking: Asking) -> None:
    octets = asking.reply()
    asking.hears(sign(octets, AuthenticationKind.MOBILE_HOME, KEY))
    assert asking.untouched()


def test_h54_a_proof_that_is_short_or_empty_is_none(asking: Asking) -> None:
    octets = asking.reply()
    at = len(octets) - 32 - 5
    for size in range(32):
        cut = bytearray(octets[: len(octets) - 32 + size])
        cut[at] = 4 + size
        asking.hears(bytes(cut))
    assert asking.untouched()


def test_h61_a_reply_counts_once(asking: Asking) -> None:
    octets = asking.reply()
    assert asking.hears(octets)
    assert not asking.client.receive(octets, AGENT, asking.now)
    asking.client.renew(asking.now, SOON)
    asking.took()
    asking.outcomes.clear()
    assert not asking.client.receive(octets, AGENT, asking.now)
    assert not asking.took()
    assert asking.client.trying


def test_h61_every_old_answer_is_replayed_and_none_proves_anything() -> None:
    """Somebody outside has recorded a day of the i-HA's answers."""
    world = World()
    world.register()
    world.run(86400)
    recorded = list(world.answers)
    assert len(recorded) > 60
    world.client.stop()
    world.outcomes.clear()
    world.lose_everything()
    world.client.register(DIRECT, world.now, retransmission=SOON)
    for octets in recorded:
        assert not world.hear(octets)
    assert not world.outcomes
    assert not world.client.registered


def test_h61_an_answer_to_what_another_process_asked_proves_nothing() -> None:
    """A restart forgets what was outstanding, and never asks with an identification again."""
    world = World()
    world.way.delays = lambda message: [0.01] if message[0] != 3 else [2.0]
    world.client.register(DIRECT, world.now, retransmission=SOON)
    world.run(1.0)
    world.client = world.new_client(node_policy())
    world.lose_everything()
    world.client.register(DIRECT, world.now, retransmission=SOON)
    world.run(30)
    assert world.answers
    assert not world.client.registered


def test_h61_the_answer_of_an_hour_ago_is_too_late(asking: Asking) -> None:
    octets = asking.reply()
    asking.now += 61
    asking.hears(octets)
    assert not asking.client.registered


def test_h61_a_grant_that_is_over_when_it_comes(asking: Asking) -> None:
    octets = asking.reply(lifetime_s=5)
    asking.now += 6
    asking.hears(octets)
    assert not asking.client.registered
    assert not asking.outcomes


def test_h56_more_than_was_asked_for_is_not_believed(asking: Asking) -> None:
    (accepted,) = asking.hears(asking.reply(lifetime_s=65535))
    assert isinstance(accepted, Accepted)
    assert accepted.lifetime_s == 1800


def test_h68_an_answer_over_another_interface_proves_nothing(asking: Asking) -> None:
    asking.hears(asking.reply(), interface="wlan0")
    asking.hears(asking.reply(), interface=None)
    assert asking.untouched()


def test_h68_an_answer_on_a_link_is_none_to_what_was_asked_through_the_vpn() -> None:
    asking = Asking(replace(DIRECT, interface=None))
    asking.hears(asking.reply(), interface="eth0")
    assert not asking.client.registered
    asking.hears(asking.reply(), interface=None)
    assert asking.client.registered


# -- what the proof does not cover ----------------------------------------------------------------


def test_h63_udp_behind_the_proof_is_nobodys_word(asking: Asking) -> None:
    (accepted,) = asking.hears(asking.reply(behind=(UdpTunnelReply(0, False, 30),)))
    assert isinstance(accepted, Accepted)
    assert not accepted.udp
    assert not accepted.natted
    assert accepted.tunnel.udp_port == 0


def test_h63_a_declined_udp_tunnel_is_none(asking: Asking) -> None:
    (accepted,) = asking.hears(asking.reply(extensions=(UdpTunnelReply(64),)))
    assert isinstance(accepted, Accepted)
    assert not accepted.udp


@pytest.mark.parametrize(("told", "wait"), [(0, 110), (1, 5), (4, 5), (30, 30), (65535, 65535)])
def test_h63_nobody_makes_us_send_keepalives_all_the_time(
    asking: Asking, told: int, wait: int
) -> None:
    asking.hears(asking.reply(lifetime_s=1800, extensions=(UdpTunnelReply(0, False, told),)))
    due = asking.client.next_timer()
    assert due == pytest.approx(min(asking.now + wait, due or 0))
    if wait < 1000:
        assert due == asking.now + wait


def test_zero_overhead_behind_the_proof_is_nobodys_word() -> None:
    asking = Asking(policy=node_policy(zero_overhead=True), default_destination=GATEWAY)
    (accepted,) = asking.hears(asking.reply(behind=(ZeroOverheadConfirmation(GATEWAY),)))
    assert isinstance(accepted, Accepted)
    assert not accepted.zero_overhead


@pytest.mark.parametrize("extras", [(), (UdpTunnelReply(0),)])
def test_zero_overhead_for_another_destination_is_asked_for_no_more(
    extras: tuple[Extension, ...],
) -> None:
    """The home agent would switch what we would not; a plain registration ends that."""
    asking = Asking(policy=node_policy(zero_overhead=True), default_destination=GATEWAY)
    other = GATEWAY if extras else IPv4Address("203.0.113.200")
    asking.hears(asking.reply(extensions=(*extras, ZeroOverheadConfirmation(other))))
    assert not asking.client.registered
    assert len(asking.sent) == 2
    (accepted,) = asking.hears(asking.reply())
    assert isinstance(accepted, Accepted)
    assert not accepted.zero_overhead


def test_zero_overhead_that_nobody_asked_for(asking: Asking) -> None:
    asking.hears(asking.reply(extensions=(ZeroOverheadConfirmation(GATEWAY),)))
    assert asking.untouched()


# -- denials -----------------------------------------------------------------------------------


@pytest.mark.parametrize("code", range(64, 256))
@pytest.mark.parametrize("via", [DIRECT, BY_AGENT], ids=["direct", "by-agent"])
def test_h61_a_denial_without_proof_ends_nothing(code: int, via: Via) -> None:
    asking = Asking(via)
    for _ in range(20):
        asking.hears(asking.reply(code=code, key=None), RELAY if via is BY_AGENT else AGENT)
    assert asking.client.trying
    assert all(isinstance(one, Denied) and not one.final for one in asking.outcomes)
    assert len(asking.outcomes) <= 1
    assert len(asking.sent) <= 6
    asking.outcomes.clear()
    (accepted,) = asking.hears(asking.reply())
    assert isinstance(accepted, Accepted)


@pytest.mark.parametrize("code", range(64, 256))
def test_every_authentic_denial_has_an_end(code: int) -> None:
    asking = Asking()
    for _ in range(12):
        if asking.client.trying:
            asking.hears(asking.reply(code=code))
    (denied,) = asking.outcomes
    assert isinstance(denied, Denied)
    assert denied.code == code
    assert denied.authentic
    assert denied.text
    assert denied.hint
    assert denied.final is not asking.client.trying
    assert denied.final is (code not in {128, 130, 133})
    assert not asking.client.registered
    assert len(asking.sent) <= 6


@pytest.mark.parametrize("code", FINAL_AT_HOME_AGENTS)
def test_a_renewal_that_is_denied_leaves_the_registration_until_it_ends(code: int) -> None:
    asking = Asking()
    asking.hears(asking.reply())
    asking.client.renew(asking.now, SOON)
    asking.took()
    for _ in range(12):
        if asking.client.trying:
            asking.hears(asking.reply(code=code))
    assert not asking.client.trying
    assert asking.client.registered
    due = asking.client.next_timer()
    assert due is not None
    assert asking.now < due < asking.now + 300


def test_h55_an_unproven_133_does_not_set_our_clock(asking: Asking) -> None:
    before = asking.request.identification
    asking.hears(asking.reply(code=133, identification=before & 0xFFFF_FFFF, key=None))
    asking.waits()
    assert (asking.request.identification - before) >> 32 <= 1


def test_h55_an_old_133_does_not_set_our_clock(asking: Asking) -> None:
    octets = asking.reply(code=133, identification=asking.request.identification ^ 1 << 40)
    assert asking.hears(octets) == []
    assert len(asking.sent) == 2
    identification = asking.request.identification
    for _ in range(5):
        asking.hears(octets)
    asking.waits()
    assert (asking.request.identification - identification) >> 32 <= 1


def test_h61_denials_of_agents_that_are_not_asked(asking: Asking) -> None:
    asking.hears(asking.reply(code=69, lifetime_s=1, key=None))
    assert asking.untouched()
    other = Asking(BY_AGENT)
    other.hears(other.reply(code=69, lifetime_s=60, key=None), MALLORY)
    other.hears(other.reply(code=65, key=None), MALLORY)
    assert other.untouched()


def test_h56_a_forged_offer_does_not_make_us_register_every_second() -> None:
    asking = Asking(BY_AGENT)
    asking.hears(asking.reply(code=69, lifetime_s=1, key=None), RELAY)
    assert asking.request.lifetime_s == 10
    asking.hears(asking.reply(code=69, lifetime_s=0, key=None), RELAY)
    assert asking.request.lifetime_s == 10
    asking.hears(asking.reply(code=69, lifetime_s=50_000, key=None), RELAY)
    assert asking.request.lifetime_s == 10


def test_the_answer_to_what_was_asked_before_a_forged_offer_counts() -> None:
    asking = Asking(BY_AGENT)
    first = asking.reply()
    asking.hears(asking.reply(code=69, lifetime_s=60, key=None), RELAY)
    (accepted,) = asking.hears(first, RELAY)
    assert isinstance(accepted, Accepted)
    assert not asking.client.trying


@pytest.mark.parametrize("code", [104, 105, 106])
def test_challenges_that_never_end_are_not_followed_for_ever(code: int) -> None:
    asking = Asking(BY_AGENT)
    for number in range(50):
        fresh = Challenge(b"chal%04d" % number)
        asking.hears(asking.reply(code=code, key=None, behind=(fresh,)), RELAY)
    assert len(asking.sent) <= 6
    assert asking.client.trying


def test_forged_challenges_do_not_make_us_deaf_to_the_true_one() -> None:
    asking = Asking(BY_AGENT)
    for number in range(20):
        forged = Challenge(b"forged%02d" % number)
        asking.hears(asking.reply(code=106, key=None, behind=(forged,)), RELAY)
    asking.waits()
    true = Challenge(b"the true one")
    asking.hears(asking.reply(code=104, key=None, behind=(true,)), RELAY)
    assert asking.request.first(Challenge) == true


def test_forged_refusals_leave_the_home_agents_own_to_be_heeded() -> None:
    asking = Asking(BY_AGENT, node_policy(encapsulation=Encapsulation.GRE))
    for number in range(20):
        forged = Challenge(b"forged%02d" % number)
        asking.hears(asking.reply(code=106, key=None, behind=(forged,)), RELAY)
    sent = len(asking.sent)
    asking.hears(asking.reply(code=139), RELAY)
    assert len(asking.sent) == sent + 1
    assert not asking.request.flags & RequestFlag.GRE


def test_a_refusal_does_not_slow_the_next_try(asking: Asking) -> None:
    asking.hears(asking.reply(code=133, identification=asking.request.identification ^ 1 << 40))
    assert asking.client.next_timer() == asking.now + SOON.first_s


@pytest.mark.parametrize("value", [b"a", b"abc"])
def test_a_challenge_that_is_too_short_is_none(value: bytes) -> None:
    asking = Asking(BY_AGENT)
    asking.hears(asking.reply(code=105, key=None, behind=(Challenge(value),)), RELAY)
    assert len(asking.sent) == 1


def test_h57_another_home_agent_that_answers_is_named_not_used(asking: Asking) -> None:
    asking.hears(asking.reply(code=136, home_agent=OTHER_HOME_AGENT, key=None))
    assert not asking.outcomes
    (denied,) = asking.hears(asking.reply(code=136, home_agent=OTHER_HOME_AGENT))
    assert isinstance(denied, Denied)
    assert str(OTHER_HOME_AGENT) in denied.hint
    assert denied.final


# -- revocation ------------------------------------------------------------------------------------


def revocation(
    identifier: int,
    *,
    key: SecurityAssociation | None = KEY,
    home: IPv4Address = HOME,
    home_agent: IPv4Address = HOME_AGENT,
    care_of: IPv4Address = CARE_OF,
    from_home_agent: bool = True,
) -> bytes:
    octets = Revocation(
        home, home_agent, care_of, identifier, from_home_agent=from_home_agent, inform=True
    ).serialize()
    return octets if key is None else sign(octets, AuthenticationKind.MOBILE_HOME, key)


def test_h64_the_home_agent_revokes_and_is_told_that_it_was_heard() -> None:
    world = World()
    world.register()
    assert world.accepted[0].revocable
    assert world.home.revoke(HOME, world.now)
    world.run(60)
    (ended,) = world.ended
    assert ended.reason is EndReason.REVOKED
    assert ended.via == DIRECT
    assert not world.client.registered
    kinds = [one.message[0] for one in world.sent]
    assert kinds == [1, 15]
    acknowledgment = RevocationAcknowledgment.parse(world.sent[1].message)
    assert acknowledgment.home_address == HOME


def test_h64_a_revocation_is_acknowledged_again_when_it_comes_again() -> None:
    world = World()
    world.register()
    world.way.delays = lambda message: [0.01] if message[0] != 15 else []
    world.home.revoke(HOME, world.now)
    world.run(60)
    assert len(world.ended) == 1
    assert [one.message[0] for one in world.sent].count(15) == 5


@pytest.mark.parametrize(
    "wrong",
    [
        {"key": None},
        {"key": OTHER_KEY},
        {"key": replace(KEY, key=b"another")},
        {"home": IPv4Address("10.7.0.6")},
        {"home": IPv4Address(0)},
        {"home_agent": OTHER_HOME_AGENT},
        {"care_of": IPv4Address("192.0.2.34")},
        {"from_home_agent": False},
        {"identifier": 0},
    ],
)
def test_h64_a_revocation_that_is_not_ours_ends_nothing(wrong: dict[str, object]) -> None:
    world = World()
    world.register()
    fields = {"identifier": int(world.wall()) + 1} | wrong
    world.hear(revocation(**fields))  # type: ignore[arg-type]
    assert world.client.registered
    assert not world.ended
    assert len(world.sent) == 1
    world.hear(revocation(int(world.wall()) + 1))
    assert not world.client.registered


def test_h64_an_old_revocation_does_not_end_a_new_registration() -> None:
    world = World()
    world.register()
    world.home.revoke(HOME, world.now)
    world.run(0.2)
    (recorded,) = [one for one in world.answers if one[0] == 7]
    world.register(seconds=0.5)
    assert world.client.registered
    for _ in range(3):
        world.hear(recorded)
    assert world.client.registered
    assert len(world.ended) == 1


def test_h64_nothing_is_revoked_that_was_not_agreed_to_be() -> None:
    world = World(home=home_policy(revocation=False))
    world.register()
    assert not world.accepted[0].revocable
    assert not world.hear(revocation(int(world.wall()) + 1))
    assert world.client.registered


def test_h64_a_grant_of_before_the_revocation_is_no_more() -> None:
    """The reply to a renewal was slower than the revocation that followed it."""
    world = World()
    world.register()
    world.way.delays = lambda message: [5.0] if message[0] == 3 else [0.01]
    world.client.renew(world.now, Retransmission(10, 1, 10, 3))
    world.run(1)
    world.home.revoke(HOME, world.now)
    world.run(10)
    assert len(world.ended) == 1
    assert not world.bindings
    assert not world.client.registered


def test_h64_the_attachment_before_cannot_be_revoked_any_more() -> None:
    world = World()
    world.register()
    world.register(DIRECT_2)
    world.hear(revocation(int(world.wall()) + 1))
    assert world.client.registered
    assert not world.ended


# -- octets --------------------------------------------------------------------------------------


def test_h53_what_is_not_for_a_mobile_node(asking: Asking) -> None:
    for octets in (b"", b"\x00", b"\x01" * 24, b"\x04" * 40, b"\x0f" * 60, b"\x03", b"\x07"):
        assert not asking.client.receive(octets, AGENT, asking.now)
    assert asking.untouched()


def test_h53_a_reply_cut_anywhere_proves_nothing(asking: Asking) -> None:
    octets = asking.reply(extensions=(UdpTunnelReply(0, False, 30),))
    for end in range(len(octets)):
        asking.hears(octets[:end])
    assert asking.untouched()


def test_h54_octets_behind_the_proof_do_not_weaken_it(asking: Asking) -> None:
    asking.hears(asking.reply(key=None) + asking.reply()[20:])
    assert asking.client.registered


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=120), st.sampled_from([b"", b"\x03", b"\x07"]))
def test_h61_octets_never_raise_and_never_prove(octets: bytes, kind: bytes) -> None:
    asking = Asking(BY_AGENT)
    asking.client.receive(kind + octets, RELAY, asking.now)
    assert not asking.client.registered
    assert asking.client.trying


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 255), st.booleans())
def test_h61_an_octet_flipped_anywhere_under_the_proof(at: int, flip: int, nat: bool) -> None:
    asking = Asking()
    octets = bytearray(asking.reply(extensions=(UdpTunnelReply(0, False, 30),) if nat else ()))
    octets[at % len(octets)] ^= flip
    asking.hears(bytes(octets))
    assert not asking.client.registered
    assert asking.client.trying


@settings(max_examples=200, deadline=None)
@given(
    st.integers(0, 255),
    st.integers(0, 65535),
    st.binary(max_size=60),
    st.binary(max_size=60),
    st.booleans(),
)
def test_a_home_agent_that_says_anything_at_all_raises_nothing(
    code: int, lifetime_s: int, inside: bytes, behind: bytes, relayed: bool
) -> None:
    """Authentic, and full of junk: our own home agent may be broken too."""
    asking = Asking(BY_AGENT if relayed else DIRECT)
    octets = asking.reply(code=code, lifetime_s=lifetime_s, key=None) + inside
    octets = sign(octets, AuthenticationKind.MOBILE_HOME, KEY) + behind
    asking.hears(octets, RELAY if relayed else AGENT)
    if asking.client.registered:
        assert code in {0, 1}
        assert lifetime_s
        tunnel = asking.client.tunnel
        assert tunnel is not None
        assert tunnel.home_agent == HOME_AGENT
    for _ in range(5):
        if asking.client.next_timer() is not None:
            asking.waits()


def test_secrets_are_in_no_repr_and_in_no_event() -> None:
    world = World(node_policy(ticket=b"a-sealed-ticket"))
    world.register()
    world.client.renew(world.now, SOON)
    world.hear(b"\x03" * 90)
    world.run(1)
    shown = repr(world.events) + repr(world.outcomes) + repr(vars(world.client))
    assert "0123456789abcdef" not in shown
    for one in world.events:
        assert "sealed" not in repr(one)


# -- a bad net --------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.integers(0, 2**32),
    st.floats(0, 0.9),
    st.floats(0, 0.5),
    st.floats(0.01, 3),
    st.sampled_from([DIRECT, BY_AGENT]),
    st.booleans(),
)
def test_loss_copies_and_disorder_only_delay(
    seed: int, loss: float, copies: float, delay_s: float, via: Via, nonces: bool
) -> None:
    key = replace(KEY, replay=ReplayProtection.NONCES) if nonces else KEY
    world = World(node_policy(association=key), home_policy(key), seed=seed)
    chance = random.Random(seed)

    def way(_message: bytes) -> list[float]:
        if chance.random() < loss:
            return []
        count = 2 if chance.random() < copies else 1
        return [chance.uniform(0.005, delay_s) for _ in range(count)]

    world.way.delays = way
    world.register(via, seconds=40, lifetime_s=120)
    world.client.renew(world.now, SOON)
    world.run(40)
    assert not [one for one in world.denied if one.final]
    for one in world.accepted:
        assert 0 < one.lifetime_s <= 120
        assert one.sent_at <= world.now
    assert len(world.sent) < 120
    # The net heals, and all is well.
    world.lose_nothing()
    world.run(10)
    world.client.register(via, world.now, retransmission=SOON, lifetime_s=600)
    world.run(20)
    assert world.client.registered
    assert list(world.bindings.values()) == [(str(via.care_of_address),)]
    assert world.client.confirmed_at is not None
    assert world.client.confirmed_at >= world.now - 21


# -- answers that cross ----------------------------------------------------------------------


def test_h61_only_a_foreign_agent_that_is_asked_may_make_us_ask_otherwise() -> None:
    gre = node_policy(encapsulation=Encapsulation.GRE)
    for code in (69, 72, 104):
        direct = Asking(policy=gre)
        direct.hears(direct.reply(code=code, lifetime_s=60, key=None))
        assert len(direct.sent) == 1
    for code in (134, 139, 142):
        for via, source in ((DIRECT, AGENT), (BY_AGENT, RELAY)):
            unproven = Asking(via, gre)
            unproven.hears(unproven.reply(code=code, key=None), source)
            assert len(unproven.sent) == 1
            assert len(unproven.outcomes) == 1


def test_two_denials_for_the_same_reason_are_one() -> None:
    asking = Asking(policy=node_policy(encapsulation=Encapsulation.GRE))
    first = asking.reply(code=139)
    asking.waits()
    second = asking.reply(code=139)
    asking.hears(first)
    assert len(asking.sent) == 3
    asking.hears(second)
    assert len(asking.sent) == 3
    assert not asking.outcomes


def test_h55_two_denials_correct_one_clock_once() -> None:
    asking = Asking()
    first = asking.reply(code=133, identification=asking.request.identification ^ 1 << 40)
    asking.waits()
    second = asking.reply(code=133, identification=asking.request.identification ^ 1 << 40)
    asking.now += 1.0
    asking.hears(first)
    error_s = asking.client.clock_error_s
    assert len(asking.sent) == 3
    assert error_s
    asking.now += 0.1
    asking.hears(second)
    assert (len(asking.sent), asking.client.clock_error_s) == (3, error_s)


def test_a_denial_of_an_earlier_attempt_does_not_end_this_one(asking: Asking) -> None:
    denial = asking.reply(code=137)
    asking.now += 0.1
    asking.client.register(DIRECT, asking.now, retransmission=SOON)
    asking.took()
    assert asking.hears(denial) == []
    assert asking.client.trying


def test_an_answer_to_an_earlier_attempt_does_not_end_this_one(asking: Asking) -> None:
    """A renewal is asked for because something may have changed since."""
    early = asking.reply()
    asking.waits()
    asking.hears(asking.reply())
    asking.client.renew(asking.now, SOON)
    asking.took()
    asking.hears(early)
    assert asking.client.trying
    late = Asking()
    first = late.reply()
    late.now += 0.1
    late.client.register(DIRECT, late.now, retransmission=SOON)
    late.took()
    (accepted,) = late.hears(first)
    assert isinstance(accepted, Accepted)
    assert accepted.sent_at == 50.0
    assert late.client.trying


def test_h61_no_two_outstanding_requests_have_the_same_lower_half() -> None:
    """Transmissions a whole second apart differ in the upper half of the timestamp alone."""
    now = 0.0
    client = RegistrationClient(
        node_policy(), random=bytes, wall_clock=lambda: 1_900_000_000.0 + now
    )
    client.register(DIRECT, now, retransmission=Retransmission(1.0, 1.0, 1.0))
    while now < 40:
        due = client.next_timer()
        assert due is not None
        now = due
        client.handle_timer(now)
    sent = [one for one in client.take_outputs() if isinstance(one, TransmitRegistration)]
    lows = [RegistrationRequest.parse(one.message).identification & 0xFFFF_FFFF for one in sent]
    assert len(set(lows)) == len(lows) == 41


@pytest.mark.parametrize(
    "wrong",
    [
        {"ticket": bytes(248)},
        {"nai": "x" * 256},
        {"association": replace(KEY, spi=255)},
        {"lifetime_s": 0},
    ],
)
def test_a_policy_that_fits_no_request_is_refused_at_once(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"allowed"):
        RegistrationClient(node_policy(**wrong), random=bytes, wall_clock=lambda: 0.0)
    client = RegistrationClient(node_policy(), random=bytes, wall_clock=lambda: 0.0)
    with pytest.raises(ValueError, match=r"allowed"):
        client.change_policy(node_policy(**wrong))
    assert client.policy == node_policy()
