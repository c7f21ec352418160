"""Tickets of one login: sealed by the gateway, carried by the device, opened by the home agent."""

import os
from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.wire import WireError
from gateway.mip_agents.codec.extensions import Nai, VendorExtension
from gateway.mip_agents.codec.reading import read_extensions
from gateway.mip_agents.codec.ticket import MAX_TICKET_OCTETS, ticket_extension, ticket_in
from gateway.mip_agents.ticket import MAX_IDENTITY_OCTETS, Ticket, TicketBox

KEY = bytes(range(32))
BOX = TicketBox([KEY], os.urandom)
TICKET = Ticket(
    "ann@example.com",
    IPv4Address("10.7.0.1"),
    IPv4Address("10.7.0.5"),
    4711,
    b"k" * 32,
    1_900_000_000_000_000,
    1_900_600_000,
)

addresses = st.integers(0, 2**32 - 1).map(IPv4Address)
tickets = st.builds(
    Ticket,
    identity=st.text(min_size=1, max_size=30),
    home_agent=addresses,
    home_address=addresses,
    spi=st.integers(256, 2**32 - 1),
    key=st.binary(min_size=32, max_size=32),
    issued_at_us=st.integers(0, 2**64 - 1),
    expires_at_s=st.integers(0, 2**64 - 1),
)


@given(tickets)
def test_round_trip(ticket: Ticket) -> None:
    assert BOX.open(BOX.seal(ticket)) == ticket


@given(tickets)
def test_round_trip_in_its_extension(ticket: Ticket) -> None:
    sealed = BOX.seal(ticket)
    (extension,) = read_extensions(ticket_extension(sealed), 0)
    assert ticket_in(extension) == sealed


@given(st.binary(max_size=300))
def test_any_octets_are_a_wire_error_at_most(octets: bytes) -> None:
    with pytest.raises(WireError):
        BOX.open(octets)


@given(tickets, st.data())
def test_one_changed_bit_makes_it_worthless(ticket: Ticket, data: st.DataObject) -> None:
    sealed = bytearray(BOX.seal(ticket))
    at = data.draw(st.integers(0, len(sealed) * 8 - 1))
    sealed[at // 8] ^= 1 << at % 8
    with pytest.raises(WireError):
        BOX.open(bytes(sealed))


@given(tickets, st.data())
def test_a_part_of_one_is_none(ticket: Ticket, data: st.DataObject) -> None:
    sealed = BOX.seal(ticket)
    with pytest.raises(WireError):
        BOX.open(sealed[: data.draw(st.integers(0, len(sealed) - 1))])


def test_secrets_are_not_shown() -> None:
    assert "kkk" not in repr(TICKET)
    assert KEY.hex() not in repr(BOX)
    sealed = BOX.seal(TICKET)
    assert TICKET.key not in sealed
    assert b"ann@" not in sealed


def test_longest_identity_fits_the_extension() -> None:
    longest = replace(TICKET, identity="x" * MAX_IDENTITY_OCTETS)
    sealed = BOX.seal(longest)
    assert len(sealed) == MAX_TICKET_OCTETS
    assert len(ticket_extension(sealed)) == 255 + 2
    with pytest.raises(ValueError, match="identity"):
        BOX.seal(replace(TICKET, identity="x" * (MAX_IDENTITY_OCTETS + 1)))


def test_keys_change_without_an_interruption() -> None:
    new = bytes(reversed(KEY))
    both = TicketBox([new, KEY], os.urandom)
    assert both.open(BOX.seal(TICKET)) == TICKET
    with pytest.raises(WireError, match="not known"):
        BOX.open(both.seal(TICKET))


def test_two_seals_of_one_ticket_differ() -> None:
    assert BOX.seal(TICKET) != BOX.seal(TICKET)


@pytest.mark.parametrize("wrong", [{"spi": 255}, {"key": b"short"}, {"identity": ""}, {"spi": 0}])
def test_what_cannot_be_sealed(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"octets|SPI"):
        BOX.seal(replace(TICKET, **wrong))  # type: ignore[arg-type]


def test_short_sealing_keys_are_refused() -> None:
    with pytest.raises(ValueError, match="16 octets"):
        TicketBox([b"short"], os.urandom)
    with pytest.raises(ValueError, match="16 octets"):
        TicketBox([], os.urandom)


def test_too_long_for_an_extension() -> None:
    with pytest.raises(ValueError, match="247"):
        ticket_extension(bytes(248))
    assert ticket_extension(b"") == b""


@pytest.mark.parametrize(
    "other",
    [
        Nai("ann@example.com"),
        VendorExtension(True, 0, 0x5449, b"critical"),
        VendorExtension(False, 9, 0x5449, b"another vendor's"),
        VendorExtension(False, 0, 7, b"another type"),
    ],
)
def test_other_extensions_carry_none(other: Nai | VendorExtension) -> None:
    assert ticket_in(other) == b""
