"""Agent advertisements: octets built by hand from RFC 5944, round trips, and rubbish."""

import contextlib
from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.checksum import internet_checksum
from gateway.domain.wire import WireError
from gateway.mip_agents.advertisement import (
    CHALLENGE_EXTENSION,
    AgentAdvertisement,
    AgentFlag,
    Extension,
    RouterAddress,
    challenge,
    foreign_agent_nai,
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
        st.builds(
            Extension,
            st.integers(128, 255) | st.just(CHALLENGE_EXTENSION),
            st.binary(max_size=40),
        ),
        max_size=4,
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


FULL = replace(
    PLAIN,
    routers=(RouterAddress(IPv4Address("10.1.0.1"), -5), RouterAddress(IPv4Address("10.1.0.2"))),
    prefix_lengths=(24, 25),
    extensions=(challenge(b"\x01\x02\x03\x04"), foreign_agent_nai("fa@visited.example")),
)


def test_challenge_and_nai_are_told() -> None:
    heard = AgentAdvertisement.parse(FULL.serialize())
    assert heard == FULL
    assert heard.challenge == b"\x01\x02\x03\x04"
    assert heard.nai == "fa@visited.example"
    assert PLAIN.challenge is None
    assert PLAIN.nai is None


def test_octets_of_challenge_and_nai() -> None:
    octets = FULL.serialize()
    assert bytes.fromhex("18 04 01020304 88 13 03") + b"fa@visited.example" in octets


@pytest.mark.parametrize("data", [b"\x03\xff\xfe", b"\x03a\nb", b"\x01ha@home.example", b""])
def test_h62_an_nai_that_is_no_text_is_nobodys(data: bytes) -> None:
    told = replace(PLAIN, extensions=(Extension(136, data),))
    assert AgentAdvertisement.parse(told.serialize()).nai is None


def test_h62_an_unknown_extension_that_may_not_be_skipped() -> None:
    octets = replace(PLAIN, extensions=(Extension(99, b""),)).serialize()
    with pytest.raises(WireError, match="extension 99 may not be skipped"):
        AgentAdvertisement.parse(octets)


@pytest.mark.parametrize(
    ("earlier", "later", "restarted"),
    [
        (5, 6, False),
        (65535, 256, False),
        (65535, 0, True),
        (300, 3, True),
        (7, 2, True),
        (7, 7, False),
        (300, 299, False),
    ],
)
def test_h62_rollover_and_reboot(earlier: int, later: int, restarted: bool) -> None:
    before = replace(PLAIN, sequence=earlier)
    assert replace(PLAIN, sequence=later).restarted_since(before) is restarted


def test_h62_cut_anywhere() -> None:
    octets = FULL.serialize()
    for size in range(len(octets)):
        for cut in (octets[:size], with_checksum(octets[:size])):
            with contextlib.suppress(WireError):
                AgentAdvertisement.parse(cut)


def test_h62_every_bit_flipped() -> None:
    octets = FULL.serialize()
    for bit in range(8 * len(octets)):
        flipped = bytearray(octets)
        flipped[bit // 8] ^= 0x80 >> bit % 8
        with pytest.raises(WireError):
            AgentAdvertisement.parse(bytes(flipped))
        with contextlib.suppress(WireError):
            heard = AgentAdvertisement.parse(with_checksum(bytes(flipped)))
            assert heard.nai is None or heard.nai.isprintable()


def test_h62_more_extensions_than_anyone_needs() -> None:
    many = replace(PLAIN, extensions=(Extension(200, b""),) * 31)
    assert AgentAdvertisement.parse(many.serialize()) == many
    more = replace(PLAIN, extensions=(Extension(200, b""),) * 32)
    with pytest.raises(WireError, match="more than 32 extensions"):
        AgentAdvertisement.parse(more.serialize())


def test_h62_larger_than_anyone_needs() -> None:
    with pytest.raises(WireError, match="1025 octets"):
        AgentAdvertisement.parse(OCTETS + bytes(1025 - len(OCTETS)))
