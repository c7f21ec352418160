"""Address pools."""

from ipaddress import ip_address, ip_network

import pytest

from gateway.domain.pools import MAX_REMEMBERED, AddressPool, PoolExhausted


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


def test_what_is_remembered_is_bounded() -> None:
    one = pool("10.0.0.0/8")
    for n in range(MAX_REMEMBERED + 100):
        one.release(one.lease(f"peer{n}"))
    assert len(one._remembered) == MAX_REMEMBERED
