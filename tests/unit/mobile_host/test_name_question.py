"""DNS questions of the node's own."""

import contextlib
import struct
from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.wire import WireError
from gateway.mobile_host.name_question import addresses, question

ASKED = question("gw.example.com", 0x1234)


def answer(
    *records: bytes, flags: int = 0x8180, number: int = 0x1234, asked: bytes = ASKED
) -> bytes:
    head = struct.pack("!HHHHHH", number, flags, 1, len(records), 0, 0)
    return head + asked[12:] + b"".join(records)


def record(kind: int, data: bytes, name: bytes = b"\xc0\x0c") -> bytes:
    return name + struct.pack("!HHIH", kind, 1, 60, len(data)) + data


A = IPv4Address("192.0.2.1").packed


def test_question_octets() -> None:
    head, name = ASKED[:12], ASKED[12:]
    assert head.hex() == "123401000001000000000000"
    assert name == b"\x02gw\x07example\x03com\0\0\x01\0\x01"


def test_addresses_behind_an_alias() -> None:
    found = addresses(
        answer(record(5, b"\x01x\xc0\x0c"), record(1, A), record(28, bytes(16))), ASKED
    )
    assert found == [IPv4Address("192.0.2.1")]


def test_no_such_name() -> None:
    assert addresses(answer(flags=0x8183), ASKED) == []


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        answer(record(1, A), number=1),
        answer(record(1, A), flags=0x0100),
        answer(record(1, A), flags=0x8182),
        answer(record(1, A), flags=0x8380),
        answer(record(1, A), asked=question("other.example", 0x1234)),
        answer(record(1, b"\x01\x02\x03")),
        answer(record(1, A))[:-1],
        answer(record(1, A, name=b"\x40x")),
        answer(record(1, A, name=b"\x3f" + b"a" * 63)),
        answer(*[record(1, A)] * 65),
    ],
)
def test_answers_that_are_none(octets: bytes) -> None:
    with pytest.raises(WireError):
        addresses(octets, ASKED)


@pytest.mark.parametrize("name", ["", ".", "a..b", "x" * 64 + ".example", "a." * 130 + "b"])
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(ValueError, match="no host name"):
        question(name, 1)


@given(st.binary(max_size=300))
def test_any_octets(octets: bytes) -> None:
    for one in (octets, ASKED[:2] + b"\x81\x80" + octets, answer()[:28] + octets):
        with contextlib.suppress(WireError):
            addresses(one, ASKED)
