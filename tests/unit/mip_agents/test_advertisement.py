"""Agent advertisements: octets built by hand from RFC 5944, round trips, and rubbish."""

import contextlib
from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.checksum import internet_checksum
from gateway.domain.wire import WireError
from gateway.mip_agents.advertisement import (
    AgentAdvertisement,
    AgentFlag,
    Extension,
    RouterAddress,
)

PLAIN = AgentAdvertisement(
    sequence=1,
    registration_lifetime_s=600,
    flags=AgentFlag.FOREIGN_AGENT | AgentFlag.REVERSE_TUNNELLING | AgentFlag.REGISTRATION_REQUIRED,
    care_of_addresses=(IPv4Address("10.1.0.1"),),
)
OCTETS = bytes.fromhex("0900 4290 00 02 0708 100a 0001 0258 9100 0a010001")
"""Type 9, code 0, checksum, no routers of two words, 1800 s; extension 16 with ten octets."""

addresses = st.integers(1, 0xFFFFFFFE).map(IPv4Address)
advertisements = st.builds(
    AgentAdvertisement,
    sequence=st.integers(0, 65535),
    registration_lifetime_s=st.integers(0, 65535),
    flags=st.integers(0, 65535).map(AgentFlag),
    care_of_addresses=st.lists(addresses, min_size=1, max_size=8).map(tuple),
    lifetime_s=st.integers(0, 65535),
    routers=st.lists(
        st.builds(RouterAddress, addresses, st.integers(-(2**31), 2**31 - 1)), max_size=4
    ).map(tuple),
    extensions=st.lists(
        st.builds(Extension, st.integers(20, 255), st.binary(max_size=40)), max_size=4
    ).map(tuple),
    routes_common_traffic=st.booleans(),
)


def test_octets_by_hand() -> None:
    assert PLAIN.serialize() == OCTETS
    assert AgentAdvertisement.parse(OCTETS) == PLAIN


@given(advertisements)
def test_round_trip(advertisement: AgentAdvertisement) -> None:
    octets = advertisement.serialize()
    assert internet_checksum(octets) == 0
    assert AgentAdvertisement.parse(octets) == advertisement


@given(st.binary(max_size=200))
def test_rubbish_is_a_wire_error(octets: bytes) -> None:
    with contextlib.suppress(WireError):
        AgentAdvertisement.parse(octets)


def with_checksum(octets: bytes) -> bytes:
    cleared = octets[:2] + b"\x00\x00" + octets[4:]
    return cleared[:2] + internet_checksum(cleared).to_bytes(2, "big") + cleared[4:]


@pytest.mark.parametrize(
    ("octets", "why"),
    [
        (OCTETS[:-1], "checksum"),
        (with_checksum(OCTETS[:-1]), "octets needed"),
        (with_checksum(OCTETS[:8]), "without the mobility agent extension"),
        (with_checksum(OCTETS + OCTETS[8:]), "twice"),
        (with_checksum(OCTETS[:9] + b"\x06" + OCTETS[10:16]), "without a care-of address"),
        (with_checksum(OCTETS[:9] + b"\x08" + OCTETS[10:18]), "care-of addresses of 2 octets"),
        (with_checksum(OCTETS[:9] + b"\xff" + OCTETS[10:]), "octets needed"),
        (with_checksum(b"\x0a" + OCTETS[1:]), "no agent advertisement"),
        (with_checksum(OCTETS[:5] + b"\x01" + OCTETS[6:]), "words"),
        (with_checksum(OCTETS + b"\x13\x01\x18"), "prefix lengths"),
    ],
)
def test_h62_lengths_that_lie(octets: bytes, why: str) -> None:
    with pytest.raises(WireError, match=why):
        AgentAdvertisement.parse(octets)


def test_padding_between_extensions() -> None:
    padded = with_checksum(OCTETS + b"\x00\x00")
    assert AgentAdvertisement.parse(padded) == PLAIN
