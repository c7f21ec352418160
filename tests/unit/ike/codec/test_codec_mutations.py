"""Octets at random and every valid message mutated: nothing but WireError comes out.

Hostile inputs 5 and 6, and arbitrary octets as a whole.
"""

import itertools
import random
from collections.abc import Iterator

import pytest
from codec_samples import (
    SAMPLES,
    message_of,
    recorded,
    recorded_contents,
    with_length,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.ike.codec import (
    Message,
    Payload,
    SecurityAssociation,
    UnknownPayload,
    WireError,
    describe_payloads,
    parse_message,
    parse_payloads,
    serialize_payloads,
)
from gateway.ike.codec.payloads import PARSERS

WHOLE = message_of(*SAMPLES)


def parse_or_refuse(data: bytes) -> Message | None:
    """Parse; anything but WireError fails the test. What parses must survive everything else."""
    try:
        message = parse_message(data)
    except WireError:
        return None
    check_usable(message.payloads)
    return message


def contents_or_refuse(first: int, data: bytes) -> tuple[Payload, ...] | None:
    try:
        payloads = parse_payloads(first, data)
    except WireError:
        return None
    check_usable(payloads)
    return payloads


def check_usable(payloads: tuple[Payload, ...]) -> None:
    assert describe_payloads(payloads) or not payloads
    hash(payloads)
    alien = any(
        not transform.understood
        for payload in payloads
        if isinstance(payload, SecurityAssociation)
        for proposal in payload.proposals
        for transform in proposal.transforms
    )
    if not alien:
        assert parse_payloads(*serialize_payloads(payloads)) == payloads


@settings(max_examples=400, derandomize=True, deadline=None, database=None)
@given(st.binary(max_size=200))
def test_arbitrary_octets(data: bytes) -> None:
    parse_or_refuse(data)
    parse_or_refuse(with_length(WHOLE[:28] + data))
    for kind in (*PARSERS, 0, 200):
        contents_or_refuse(kind, data)


@settings(max_examples=100, derandomize=True, deadline=None, database=None)
@given(st.binary(max_size=80))
def test_arbitrary_bodies_of_every_payload(data: bytes) -> None:
    for kind in PARSERS:
        chain = UnknownPayload(kind, critical=False, data=data).serialize()
        contents_or_refuse(kind, chain)


def samples() -> Iterator[bytes]:
    """Messages whose content is in the clear."""
    yield WHOLE
    for entry in recorded():
        if entry.plain is None:
            yield entry.message
    for first, content in recorded_contents():
        yield with_length(WHOLE[:16] + bytes((first,)) + WHOLE[17:28] + content)


def encrypted_samples() -> Iterator[bytes]:
    return (entry.message for entry in recorded() if entry.plain is not None)


def test_h05_every_message_cut_at_every_octet() -> None:
    cuts = 0
    for message in itertools.chain(samples(), encrypted_samples()):
        for size in range(len(message)):
            cut = message[:size]
            with pytest.raises(WireError):
                parse_message(cut)
            if size >= 28:
                with pytest.raises(WireError):
                    parse_message(with_length(cut))
            cuts += 1
    assert cuts > 5000


def test_h05_every_payload_body_cut_at_every_octet() -> None:
    """The generic header tells the truth, the body ends early."""
    for payload in SAMPLES:
        body = payload.body()
        for size in range(len(body)):
            chain = UnknownPayload(payload.payload_type, critical=False, data=body[:size])
            contents_or_refuse(payload.payload_type, chain.serialize())


EVERY_BIT = (1, 2, 4, 8, 16, 32, 64, 128, 255)


def flips(message: bytes, masks: tuple[int, ...]) -> Iterator[bytes]:
    for at, mask in itertools.product(range(len(message)), masks):
        yield message[:at] + bytes((message[at] ^ mask,)) + message[at + 1 :]


def test_h06_every_bit_and_every_octet_flipped() -> None:
    mutated = parsed = 0
    for message in map(message_of, SAMPLES):
        for data in flips(message, EVERY_BIT):
            parsed += parse_or_refuse(data) is not None
            mutated += 1
    for message in samples():
        for data in flips(message, (255,)):
            parsed += parse_or_refuse(data) is not None
            mutated += 1
    for message in encrypted_samples():
        # Flips beyond the IV are for those who check the ICV.
        for head in flips(message[:44], EVERY_BIT):
            parsed += parse_or_refuse(head + message[44:]) is not None
            mutated += 1
    assert mutated >= 10000
    assert 0 < parsed < mutated


def test_h06_ten_thousand_random_mutations() -> None:
    rng = random.Random(7296)
    pool = [sample for sample in samples() if len(sample) > 36]
    parsed = 0
    for _ in range(10000):
        data = bytearray(rng.choice(pool))
        for _ in range(rng.randint(1, 4)):
            mutate(data, rng, pool)
        parsed += parse_or_refuse(with_length(bytes(data))) is not None
    assert 0 < parsed < 10000


def mutate(data: bytearray, rng: random.Random, pool: list[bytes]) -> None:
    at = rng.randrange(16, len(data))
    body = max(at, 28)
    match rng.randrange(5):
        case 0:
            data[at] = rng.randrange(256)
        case 1:
            data[at : at + 2] = rng.choice((0, 1, 3, 4, 255, 65535)).to_bytes(2, "big")
        case 2:
            del data[body : body + rng.randint(1, 20)]
        case 3:
            data[body:body] = rng.randbytes(rng.randint(1, 20))
        case _:
            other = rng.choice(pool)
            data[body:] = other[rng.randrange(28, len(other)) :]
