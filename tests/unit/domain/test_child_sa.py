"""Traffic selectors intersect like sets of packets."""

from ipaddress import IPv4Address, ip_network

from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.child_sa import (
    ANY_IPV4,
    ANY_IPV6,
    Encryption,
    EspKeys,
    EspSuite,
    Integrity,
    TrafficSelector,
)


@st.composite
def selectors(draw: st.DrawFn) -> TrafficSelector:
    low, high = sorted(draw(st.tuples(st.integers(0, 40), st.integers(0, 40))))
    first, last = sorted(draw(st.tuples(st.integers(0, 5), st.integers(0, 5))))
    base = int(IPv4Address("10.0.0.0"))
    protocol = draw(st.sampled_from([0, 6, 17]))
    return TrafficSelector(IPv4Address(base + low), IPv4Address(base + high), protocol, first, last)


def covers(selector: TrafficSelector, address: int, protocol: int, port: int) -> bool:
    return (
        int(selector.start) <= int(IPv4Address("10.0.0.0")) + address <= int(selector.end)
        and selector.protocol in (0, protocol)
        and selector.start_port <= port <= selector.end_port
    )


@given(selectors(), selectors(), st.integers(0, 40), st.sampled_from([6, 17]), st.integers(0, 5))
def test_intersection_covers_what_both_cover(
    one: TrafficSelector, other: TrafficSelector, address: int, protocol: int, port: int
) -> None:
    both = covers(one, address, protocol, port) and covers(other, address, protocol, port)
    common = one.intersect(other)
    assert (common is not None and covers(common, address, protocol, port)) == both


@given(selectors())
def test_networks_cover_the_range_exactly(selector: TrafficSelector) -> None:
    addresses = [int(a) for network in selector.networks() for a in network]
    assert addresses == list(range(int(selector.start), int(selector.end) + 1))


def test_families_never_intersect() -> None:
    assert ANY_IPV4.intersect(ANY_IPV6) is None


def test_text_is_what_an_administrator_would_write() -> None:
    assert str(TrafficSelector.of_network(ip_network("10.1.0.0/24"))) == "10.1.0.0/24"
    assert str(ANY_IPV6) == "::/0"
    web = TrafficSelector(IPv4Address("10.1.0.1"), IPv4Address("10.1.0.1"), 6, 80, 80)
    assert str(web) == "10.1.0.1/32[proto 6][port 80-80]"


def test_keys_never_show_in_text() -> None:
    assert "41" not in repr(EspKeys(b"AAAA", b"AAAA"))
    assert "A" * 4 not in repr(EspKeys(b"AAAA", b"AAAA"))


def test_suite_text_names_every_part() -> None:
    suite = EspSuite(Encryption.AES_CBC, 256, Integrity.HMAC_SHA2_256_128, esn=True)
    assert str(suite) == "aes_cbc_256/hmac_sha2_256_128/esn"
