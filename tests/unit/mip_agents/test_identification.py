"""Replay protection: timestamps and nonces of RFC 5944 section 5.7."""

import itertools
import sys
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.mip_agents.policy import ReplayProtection, SecurityAssociation
from gateway.mip_agents.replay import (
    LOW_HALF,
    Freshness,
    NonceIdentification,
    TimestampIdentification,
    identification_for,
    ntp,
)

NOW = 1_800_000_000.25
WINDOW = 7.0
ERA_END_1 = 4_294_967_296 - 2_208_988_800
"""7 February 2036, 06:28:16: NTP's seconds start again at 0."""


def counting() -> Callable[[int], bytes]:
    numbers = itertools.count(0x11111111, 0x11111111)
    return lambda size: next(numbers).to_bytes(4, "big")[:size]


def accepts(guard: TimestampIdentification, identification: int, now: float = NOW) -> bool:
    if guard.check(identification, now, WINDOW) is not Freshness.FRESH:
        return False
    guard.accept(identification, bytes)
    return True


def test_ntp_by_hand() -> None:
    assert ntp(0) == 0x83AA7E80_00000000
    assert ntp(0.5) == 0x83AA7E80_80000000
    assert ntp(ERA_END_1 - 1) == 0xFFFFFFFF_00000000
    assert ntp(ERA_END_1) == 0
    assert ntp(ERA_END_1 + 1.25) == 0x00000001_40000000


def test_h55_newer_is_fresh_and_equal_or_older_is_not() -> None:
    guard = TimestampIdentification()
    assert accepts(guard, ntp(NOW))
    assert guard.check(ntp(NOW), NOW, WINDOW) is Freshness.REPLAYED
    assert guard.check(ntp(NOW) - 1, NOW, WINDOW) is Freshness.REPLAYED
    assert guard.check(ntp(NOW - 3), NOW, WINDOW) is Freshness.REPLAYED
    assert accepts(guard, ntp(NOW) + 1)
    assert accepts(guard, ntp(NOW + 3))
    assert not accepts(guard, ntp(NOW + 2))


def test_a_look_changes_nothing() -> None:
    guard = TimestampIdentification()
    for _ in range(2):
        assert guard.check(ntp(NOW), NOW, WINDOW) is Freshness.FRESH
    assert guard.state == 0


@pytest.mark.parametrize(
    ("skew_s", "expected"),
    [
        (0, Freshness.FRESH),
        (7, Freshness.FRESH),
        (-7, Freshness.FRESH),
        (7.01, Freshness.AHEAD),
        (-7.01, Freshness.BEHIND),
        (86400, Freshness.AHEAD),
        (-86400, Freshness.BEHIND),
        (2**31 - 1, Freshness.AHEAD),
        (-(2**31) + 1, Freshness.BEHIND),
    ],
)
def test_h55_the_window(skew_s: float, expected: Freshness) -> None:
    guard = TimestampIdentification()
    assert guard.check(ntp(NOW + skew_s), NOW, WINDOW) is expected


@pytest.mark.parametrize("identification", [0, 1, 1 << 63, (1 << 64) - 1, 1 << 32])
def test_h55_values_that_are_no_time(identification: int) -> None:
    guard = TimestampIdentification()
    assert guard.check(identification, NOW, WINDOW) is not Freshness.FRESH


@pytest.mark.parametrize("offset_s", [-5, -1, -0.5, 0, 0.5, 1, 5])
def test_h55_the_era_wraps_in_2036(offset_s: float) -> None:
    guard = TimestampIdentification()
    now = ERA_END_1 + offset_s
    assert accepts(guard, ntp(now - 0.25), now)
    assert accepts(guard, ntp(now + 1), now)
    assert guard.check(ntp(now), now, WINDOW) is Freshness.REPLAYED
    assert guard.check(ntp(now - 8), now, WINDOW) is Freshness.BEHIND
    assert guard.check(ntp(now + 8), now, WINDOW) is Freshness.AHEAD


def test_h55_what_was_accepted_before_the_wrap_stays_old_behind_it() -> None:
    guard = TimestampIdentification()
    before = ntp(ERA_END_1 - 1)
    assert accepts(guard, before, ERA_END_1 - 1)
    assert accepts(guard, ntp(ERA_END_1 + 1), ERA_END_1 + 1)
    assert guard.check(before, ERA_END_1 + 1, WINDOW) is Freshness.REPLAYED


def test_the_reply_to_a_fresh_request_repeats_it() -> None:
    guard = TimestampIdentification()
    sent = ntp(NOW) + 12345
    guard.accept(sent, bytes)
    assert guard.reply(sent, Freshness.FRESH, NOW) == sent


@pytest.mark.parametrize("skew_s", [-3600, -8, 8, 3600, 2**30])
def test_h55_the_reply_tells_our_time_in_its_upper_half(skew_s: float) -> None:
    guard = TimestampIdentification()
    sent = ntp(NOW + skew_s) & ~LOW_HALF | 0xABCD1234
    freshness = guard.check(sent, NOW, WINDOW)
    assert freshness is not Freshness.FRESH
    told = guard.reply(sent, freshness, NOW)
    assert told >> 32 == ntp(NOW) >> 32
    assert told & LOW_HALF == 0xABCD1234


def test_h55_whoever_follows_the_reply_is_accepted_even_if_his_clock_was_ahead() -> None:
    guard = TimestampIdentification()
    assert accepts(guard, ntp(NOW + 5))
    sent = ntp(NOW)
    freshness = guard.check(sent, NOW, WINDOW)
    assert freshness is Freshness.REPLAYED
    told = guard.reply(sent, freshness, NOW)
    assert accepts(guard, told & ~LOW_HALF)


@given(st.floats(0, 2**33), st.floats(-6, 6), st.floats(-6, 6))
def test_of_two_the_older_never_follows(now: float, one_s: float, other_s: float) -> None:
    guard = TimestampIdentification()
    one, other = ntp(now + one_s), ntp(now + other_s)
    assert accepts(guard, one, now)
    assert accepts(guard, other, now) is (other != one and (other - one) % 2**64 < 2**63)


def test_h55_a_restart_forgets_no_timestamp() -> None:
    guard = TimestampIdentification()
    assert accepts(guard, ntp(NOW))
    again = identification_for(SecurityAssociation(256, b"k"), bytes, guard.state)
    assert again.check(ntp(NOW), NOW, WINDOW) is Freshness.REPLAYED
    assert again.check(ntp(NOW) + 1, NOW, WINDOW) is Freshness.FRESH


def test_h55_nonces_synchronize_themselves() -> None:
    random = counting()
    guard = NonceIdentification(random)
    first = 0xDEADBEEF_00000007
    assert guard.check(first, NOW, WINDOW) is Freshness.WRONG_NONCE
    told = guard.reply(first, Freshness.WRONG_NONCE, NOW)
    assert told == 0x11111111_00000007
    second = told & ~LOW_HALF | 8
    assert guard.check(second, NOW, WINDOW) is Freshness.FRESH
    guard.accept(second, random)
    assert guard.reply(second, Freshness.FRESH, NOW) == 0x22222222_00000008
    assert guard.check(second, NOW, WINDOW) is Freshness.WRONG_NONCE


def test_h55_a_replay_leaves_the_nonce_that_the_mobile_node_holds() -> None:
    random = counting()
    guard = NonceIdentification(random)
    request = guard.state << 32 | 1
    guard.accept(request, random)
    held = guard.state
    for _ in range(3):
        assert guard.check(request, NOW, WINDOW) is Freshness.WRONG_NONCE
        guard.reply(request, Freshness.WRONG_NONCE, NOW)
    assert guard.check(held << 32 | 2, NOW, WINDOW) is Freshness.FRESH


def test_a_nonce_never_follows_itself() -> None:
    guard = NonceIdentification(lambda size: b"\x07" * size)
    request = guard.state << 32
    guard.accept(request, lambda size: b"\x07" * size)
    assert guard.check(request, NOW, WINDOW) is Freshness.WRONG_NONCE


def test_the_association_chooses() -> None:
    timestamps = SecurityAssociation(256, b"k")
    nonces = SecurityAssociation(256, b"k", replay=ReplayProtection.NONCES)
    assert isinstance(identification_for(timestamps, bytes), TimestampIdentification)
    assert isinstance(identification_for(nonces, bytes), NonceIdentification)
    assert identification_for(nonces, bytes, 5).check(5 << 32, NOW, WINDOW) is Freshness.FRESH


def test_ten_thousand_are_lean() -> None:
    assert sys.getsizeof(TimestampIdentification()) <= 48
    assert not hasattr(TimestampIdentification(), "__dict__")
    assert not hasattr(NonceIdentification(bytes), "__dict__")
