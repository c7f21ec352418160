"""Guessing gets slow; nobody is locked out by what others do."""

from ipaddress import ip_address

from gateway.users.guessing import FORGET_S, MAX_KEYS, MAX_WAIT_S, OF_USER, GuessLimit, Pace

HOME, EVIL = ip_address("203.0.113.7"), ip_address("198.51.100.66")


def test_a_few_wrong_passwords_cost_nothing() -> None:
    limit = GuessLimit()
    for _ in range(OF_USER.free):
        assert limit.admit("anna", HOME, 0.0) == 0.0
        limit.failed("anna", HOME, 0.0)
    assert limit.admit("anna", HOME, 0.0) == 0.0


def test_the_distance_grows_to_its_bound() -> None:
    limit = GuessLimit()
    now, waits = 0.0, []
    for _ in range(12):
        wait = limit.admit("anna", HOME, now)
        assert wait is not None
        waits.append(wait)
        now += wait
        limit.failed("anna", HOME, now)
    assert waits[:6] == [0.0] * 6
    assert waits[6:] == [0.5, 1.0, 2.0, 4.0, 4.0, 4.0]


def test_attempts_at_the_same_time_stand_in_a_row_that_is_bounded() -> None:
    limit = GuessLimit()
    for _ in range(20):
        limit.failed("anna", EVIL, 0.0)
    waits = [limit.admit("anna", EVIL, 0.0) for _ in range(20)]
    served = [wait for wait in waits if wait is not None]
    assert served == sorted(served)
    assert len(served) == 3
    assert max(served) <= MAX_WAIT_S


def test_a_known_address_is_not_held_up_by_guesses_from_elsewhere() -> None:
    limit = GuessLimit()
    limit.succeeded("anna", HOME)
    for _ in range(50):
        limit.failed("anna", EVIL, 0.0)
    assert limit.admit("anna", HOME, 0.0) == 0.0
    other = limit.admit("anna", ip_address("192.0.2.1"), 0.0)
    assert other is None or other > 0.0


def test_an_address_that_tries_many_users_gets_slow_for_all() -> None:
    limit = GuessLimit()
    for number in range(30):
        limit.failed(f"user{number}", EVIL, 0.0)
    assert limit.admit("anna", EVIL, 0.0) == 4.0
    assert limit.admit("anna", HOME, 0.0) == 0.0


def test_ipv6_addresses_of_one_network_are_one() -> None:
    limit = GuessLimit(of_address=Pace(1, 1.0, 1.0))
    for number in range(5):
        limit.failed(f"u{number}", ip_address(f"2001:db8::{number}"), 0.0)
    assert limit.admit("anna", ip_address("2001:db8::99"), 0.0) == 1.0
    assert limit.admit("anna", ip_address("2001:db8:0:1::99"), 0.0) == 0.0


def test_spellings_of_a_name_are_one_user() -> None:
    limit = GuessLimit()
    for name in "\u00c4nna", "A\u0308nna", "\u00e4NNA", "\u00e4nna", "\u00e4nna", "\u00e4nna":
        limit.failed(name, EVIL, 0.0)
    assert limit.admit("\u00e4nna", HOME, 0.0) == 0.5


def test_old_failures_are_forgotten() -> None:
    limit = GuessLimit()
    for _ in range(9):
        limit.failed("anna", EVIL, 0.0)
    assert limit.admit("anna", EVIL, FORGET_S) == 0.0
    assert limit.failed("anna", EVIL, FORGET_S) == 1


def test_the_tables_are_bounded() -> None:
    limit = GuessLimit()
    for number in range(MAX_KEYS + 50):
        address = ip_address(number)
        limit.failed(f"u{number}", address, 0.0)
        limit.succeeded(f"u{number}", address)
    assert {len(limit._users), len(limit._addresses), len(limit._known)} == {MAX_KEYS}
