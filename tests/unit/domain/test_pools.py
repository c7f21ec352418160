"""Address pools."""

from ipaddress import ip_address, ip_network

import pytest

from gateway.domain.pools import MAX_KEPT, AddressPool, PoolExhausted


def pool(network: str = "10.9.0.0/29", *reserved: str) -> AddressPool:
    return AddressPool("road", ip_network(network), [ip_address(one) for one in reserved])


def test_network_broadcast_and_reserved_addresses_are_never_leased() -> None:
    one = pool("10.9.0.0/29", "10.9.0.1", "192.0.2.1")
    assert one.size == 5
    leased = [str(one.lease(f"peer{n}")) for n in range(5)]
    assert leased == ["10.9.0.2", "10.9.0.3", "10.9.0.4", "10.9.0.5", "10.9.0.6"]


def test_the_same_identity_gets_the_same_address_again() -> None:
    one = pool()
    first = one.lease("ada")
    one.release(first)
    other = one.lease("bob")
    assert other != first
    assert one.lease("ada") == first


def test_twice_the_same_identity_gets_two_addresses() -> None:
    one = pool()
    assert one.lease("ada") != one.lease("ada")
    assert one.in_use == 2


def test_exhausted_names_pool_and_size() -> None:
    one = pool("10.9.0.0/30")
    one.lease("a")
    one.lease("b")
    with pytest.raises(PoolExhausted, match=r"road \(10\.9\.0\.0/30\).*all 2"):
        one.lease("c")


def test_released_addresses_are_used_again_the_longest_unused_first() -> None:
    one = pool("10.9.0.0/30")
    first, second = one.lease("a"), one.lease("b")
    one.release(second)
    one.release(first)
    assert one.lease("c") == second
    one.release(ip_address("10.9.0.77"))
    one.release(ip_address("2001:db8::1"))
    one.release(first)
    assert one.in_use == 1


def test_wanted_addresses() -> None:
    one = pool()
    assert str(one.lease("a", ip_address("10.9.0.4"))) == "10.9.0.4"
    assert str(one.lease("b", ip_address("10.9.0.4"))) == "10.9.0.1"
    assert str(one.lease("c", ip_address("10.9.0.0"))) == "10.9.0.2"
    assert str(one.lease("d", ip_address("8.8.8.8"))) == "10.9.0.3"
    assert str(one.lease("e", ip_address("2001:db8::1"))) == "10.9.0.5"
    assert one.holder(ip_address("10.9.0.4")) == "a"
    assert one.holder(ip_address("8.8.8.8")) is None


@pytest.mark.parametrize(("network", "size"), [("10.9.0.0/32", 1), ("10.9.0.0/31", 2)])
def test_small_networks_have_no_broadcast_address(network: str, size: int) -> None:
    one = pool(network)
    assert one.size == size
    assert [one.lease(str(n)) for n in range(size)]


def test_ipv6_pools_are_as_cheap_as_small_ones() -> None:
    one = pool("2001:db8::/64")
    assert str(one.lease("ada")) == "2001:db8::1"
    assert one.size == 2**64 - 1


def test_what_is_kept_is_bounded() -> None:
    one = pool("10.0.0.0/8")
    for n in range(MAX_KEPT + 100):
        one.release(one.lease(f"peer{n}"))
    assert one.kept == MAX_KEPT


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def kept_pool(
    network: str = "10.9.0.0/29", lease_s: float = 60.0, **static: str
) -> tuple[AddressPool, Clock]:
    clock = Clock()
    addresses = {who: ip_address(one) for who, one in static.items()}
    return AddressPool(
        "road", ip_network(network), static=addresses, lease_s=lease_s, clock=clock
    ), clock


def why(one: AddressPool) -> dict[str, tuple[str, str]]:
    return {str(held.address): (held.why.value, held.identity) for held in one.held()}


def test_an_address_is_kept_for_whoever_left_it_until_the_lease_is_over() -> None:
    one, clock = kept_pool()
    first = one.lease("ada")
    one.release(first)
    assert why(one) == {str(first): ("kept", "ada")}
    assert one.lease("bob", first) != first
    clock.now += 59.9
    assert one.lease("ada") == first
    one.release(first)
    clock.now += 60.0
    assert one.kept == 0
    assert one.lease("eve", first) == first


def test_when_all_others_are_taken_the_one_left_the_longest_ago_goes_to_somebody_else() -> None:
    one, clock = kept_pool("10.9.0.0/30")
    first, second = one.lease("ada"), one.lease("bob")
    one.release(second)
    clock.now += 1
    one.release(first)
    assert one.lease("eve") == second
    assert one.lease("ada") == first
    with pytest.raises(PoolExhausted):
        one.lease("bob")


def test_without_a_lease_time_nothing_is_kept() -> None:
    one, _ = kept_pool(lease_s=0)
    first = one.lease("ada")
    one.release(first)
    assert why(one) == {}
    assert one.lease("bob", first) == first


def test_two_devices_of_one_user_keep_both_addresses() -> None:
    one, _ = kept_pool()
    first, second = one.lease("ada"), one.lease("ada")
    one.release(first)
    one.release(second)
    assert one.lease("ada", first) in {first, second}
    assert one.lease("ada", first) in {first, second}


def test_static_addresses_are_given_to_nobody_else() -> None:
    one, _ = kept_pool("10.9.0.0/29", ada="10.9.0.1", printer="10.9.0.2")
    assert str(one.lease("bob", ip_address("10.9.0.1"))) == "10.9.0.3"
    assert str(one.lease("ada", ip_address("10.9.0.5"))) == "10.9.0.1"
    assert str(one.lease("joe", device="printer")) == "10.9.0.2"
    assert why(one)["10.9.0.1"] == ("in-use", "ada")
    one.release(ip_address("10.9.0.1"))
    assert why(one)["10.9.0.1"] == ("static", "ada")
    assert [str(one.lease(f"peer{n}")) for n in range(3)] == ["10.9.0.4", "10.9.0.5", "10.9.0.6"]
    with pytest.raises(PoolExhausted, match="2 belong to one identity"):
        one.lease("late")
    assert str(one.lease("ada")) == "10.9.0.1"


def test_a_second_session_of_a_static_identity_gets_another_address() -> None:
    one, _ = kept_pool(ada="10.9.0.4")
    assert str(one.lease("ada")) == "10.9.0.4"
    assert str(one.lease("ada")) == "10.9.0.1"


def test_a_reserved_address_can_be_static() -> None:
    one = AddressPool(
        "road",
        ip_network("10.9.0.0/29"),
        [ip_address("10.9.0.5")],
        static={"ada": ip_address("10.9.0.5"), "out": ip_address("192.0.2.1")},
    )
    assert str(one.lease("ada")) == "10.9.0.5"
    one.release(ip_address("10.9.0.5"))
    assert one.reclaim("ada", ip_address("10.9.0.5"))
    assert one.owner(ip_address("192.0.2.1")) is None


def test_other_terms_cut_nobody() -> None:
    one, clock = kept_pool(old="10.9.0.1")
    bob, eve = one.lease("bob"), one.lease("eve")
    one.release(eve)
    other, _ = kept_pool(lease_s=5.0, ada=str(bob), joe=str(eve))
    assert one.same_addresses(other)
    one.adopt(other)
    assert one.holder(bob) == "bob"
    assert one.is_anothers(bob, "bob")
    assert not one.is_anothers(bob, "bob", "ada")
    assert not one.is_anothers(ip_address("10.9.0.6"), "bob")
    assert why(one) == {str(bob): ("in-use", "bob"), str(eve): ("static", "joe")}
    assert one.lease("ada") != bob
    one.release(bob)
    assert one.lease("ada") == bob
    assert one.lease("joe") == eve
    left = one.lease("max")
    one.release(left)
    clock.now += 5
    assert one.kept == 0


def test_what_was_static_is_anybodys_again() -> None:
    one, _ = kept_pool("10.9.0.0/30", ada="10.9.0.1")
    assert str(one.lease("bob")) == "10.9.0.2"
    one.adopt(kept_pool("10.9.0.0/30")[0])
    assert str(one.lease("eve")) == "10.9.0.1"


def test_reclaiming_takes_no_address_that_is_anothers() -> None:
    one, _ = kept_pool(ada="10.9.0.1")
    assert not one.reclaim("bob", ip_address("10.9.0.1"))
    assert one.reclaim("bob", ip_address("10.9.0.1"), device="ada")
    assert not one.reclaim("ada", ip_address("10.9.0.1"))
    assert not one.reclaim("ada", ip_address("10.9.0.0"))
    assert not one.reclaim("ada", ip_address("192.0.2.1"))


def test_what_an_earlier_process_kept_is_kept() -> None:
    one, clock = kept_pool(joe="10.9.0.5")
    assert one.keep("ada", ip_address("10.9.0.3"), clock.now - 30)
    assert not one.keep("bob", ip_address("10.9.0.4"), clock.now - 60)
    assert not one.keep("bob", ip_address("10.9.0.3"), clock.now)
    assert not one.keep("bob", ip_address("10.9.0.5"), clock.now)
    assert not one.keep("bob", ip_address("192.0.2.1"), clock.now)
    assert [str(one.lease(f"peer{n}")) for n in range(3)] == ["10.9.0.1", "10.9.0.2", "10.9.0.4"]
    assert str(one.lease("ada")) == "10.9.0.3"


def test_what_is_kept_can_be_forgotten() -> None:
    one, _ = kept_pool()
    first = one.lease("ada")
    assert not one.forget(first)
    one.release(first)
    assert one.forget(first)
    assert not one.forget(first)
    assert not one.forget(ip_address("2001:db8::1"))
    assert one.lease("bob", first) == first


def test_a_pool_that_takes_the_place_of_another_goes_on_with_its_leases() -> None:
    one, clock = kept_pool("10.9.0.0/29", ada="10.9.0.6")
    ada, bob, eve, joe = (one.lease(name) for name in ("ada", "bob", "eve", "joe"))
    one.release(joe)
    clock.now += 10
    one.release(eve)
    larger = AddressPool("road", ip_network("10.9.0.0/24"), [bob], lease_s=30.0, clock=clock)
    assert [larger.fits(who) for who in (ada, bob, eve)] == [True, False, True]
    larger.take_over(one)
    assert (larger.holder(ada), larger.holder(bob), larger.in_use) == ("ada", None, 1)
    assert why(larger) == {
        str(ada): ("in-use", "ada"),
        str(joe): ("kept", "joe"),
        str(eve): ("kept", "eve"),
    }
    clock.now += 20
    assert str(larger.lease("eve")) == str(eve)
    assert larger.kept == 0
    smaller = AddressPool("road", ip_network("10.9.0.0/30"), clock=clock)
    smaller.take_over(larger)
    assert smaller.in_use == 0 + sum(one in smaller.network for one in (ada, eve))
