"""Authenticators: published vectors, what they cover, and what must never verify."""

from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.mip_agents.authentication import authenticator, sign, verify
from gateway.mip_agents.codec.extensions import Authentication, AuthenticationKind, Nai
from gateway.mip_agents.codec.registration import RegistrationRequest, RequestFlag
from gateway.mip_agents.policy import Algorithm, SecurityAssociation

KEY = bytes.fromhex("000102030405060708090a0b0c0d0e0f")
MD5 = SecurityAssociation(1000, KEY)
SHA256 = SecurityAssociation(1000, KEY, Algorithm.HMAC_SHA256)
KEYED = SecurityAssociation(1000, KEY, Algorithm.KEYED_MD5)
ALL = (MD5, SHA256, KEYED)
OTHER = SecurityAssociation(1001, b"another key, as long")
REQUEST = RegistrationRequest(
    RequestFlag.CO_LOCATED,
    600,
    IPv4Address("10.0.0.9"),
    IPv4Address("192.0.2.1"),
    IPv4Address("198.51.100.7"),
    1 << 40,
    (Nai("a@b.example"),),
)
PLAIN = REQUEST.serialize()


def proofs(octets: bytes) -> tuple[Authentication, ...]:
    read = RegistrationRequest.parse(octets)
    return tuple(one for one in read.extensions if isinstance(one, Authentication))


@pytest.mark.parametrize(
    ("algorithm", "key", "data", "expected"),
    [
        # RFC 2202 section 2.
        (Algorithm.HMAC_MD5, "0b" * 16, b"Hi There".hex(), "9294727a3638bb1c13f48ef8158bfc9d"),
        (
            Algorithm.HMAC_MD5,
            b"Jefe".hex(),
            b"what do ya want for nothing?".hex(),
            "750c783e6ab0b503eaa86e310a5db738",
        ),
        (Algorithm.HMAC_MD5, "aa" * 16, "dd" * 50, "56be34521d144c88dbb8c733f0e8b3f6"),
        (
            Algorithm.HMAC_MD5,
            "aa" * 80,
            b"Test Using Larger Than Block-Size Key - Hash Key First".hex(),
            "6b1ab7fe4bd7bf8f0b62e6ce61b9d0cd",
        ),
        # RFC 4231 sections 4.2, 4.3 and 4.7.
        (
            Algorithm.HMAC_SHA256,
            "0b" * 20,
            b"Hi There".hex(),
            "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
        ),
        (
            Algorithm.HMAC_SHA256,
            b"Jefe".hex(),
            b"what do ya want for nothing?".hex(),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
        ),
        (
            Algorithm.HMAC_SHA256,
            "aa" * 131,
            b"Test Using Larger Than Block-Size Key - Hash Key First".hex(),
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
        ),
        # RFC 1321 appendix A.5: eighty digits, the first and the last ten as the key.
        (
            Algorithm.KEYED_MD5,
            b"1234567890".hex(),
            (b"1234567890" * 6).hex(),
            "57edf4a22be3c955ac49da2e2107b67a",
        ),
    ],
)
def test_published_vectors(algorithm: Algorithm, key: str, data: str, expected: str) -> None:
    association = SecurityAssociation(256, bytes.fromhex(key), algorithm)
    for _ in range(2):
        assert authenticator(bytes.fromhex(data), association).hex() == expected


@pytest.mark.parametrize("association", ALL)
@pytest.mark.parametrize("kind", AuthenticationKind)
def test_what_is_signed_verifies(
    association: SecurityAssociation, kind: AuthenticationKind
) -> None:
    octets = sign(PLAIN, kind, association, 1 if kind == AuthenticationKind.GENERALIZED else 0)
    assert octets.startswith(PLAIN)
    (proof,) = proofs(octets)
    assert proof.kind == kind
    assert proof.spi == 1000
    assert octets[: proof.covered_octets] + proof.authenticator == octets
    assert verify(octets, proof, association)


def test_each_authenticator_covers_all_before_it() -> None:
    home = sign(PLAIN, AuthenticationKind.MOBILE_HOME, MD5)
    relayed = sign(home, AuthenticationKind.FOREIGN_HOME, OTHER)
    mobile, foreign = proofs(relayed)
    assert verify(relayed, mobile, MD5)
    assert verify(relayed, foreign, OTHER)
    forged = relayed[: mobile.offset + 8] + b"\xff" + relayed[mobile.offset + 9 :]
    mobile, foreign = proofs(forged)
    assert not verify(forged, mobile, MD5)
    assert not verify(forged, foreign, OTHER)


def test_h54_octets_behind_an_authenticator_are_not_its_business() -> None:
    octets = sign(PLAIN, AuthenticationKind.MOBILE_HOME, MD5) + Nai("late@b").serialize()
    (proof,) = proofs(octets)
    assert verify(octets, proof, MD5)
    assert RegistrationRequest.parse(octets).first(Nai, before=proof) == Nai("a@b.example")


@pytest.mark.parametrize("association", ALL)
def test_h54_every_covered_bit_counts(association: SecurityAssociation) -> None:
    octets = sign(PLAIN, AuthenticationKind.MOBILE_HOME, association)
    (proof,) = proofs(octets)
    for bit in range(8 * proof.covered_octets):
        flipped = bytearray(octets)
        flipped[bit // 8] ^= 0x80 >> bit % 8
        assert not verify(bytes(flipped), proof, association)
    for bit in range(8 * len(proof.authenticator)):
        wrong = bytearray(proof.authenticator)
        wrong[bit // 8] ^= 0x80 >> bit % 8
        assert not verify(octets, replace(proof, authenticator=bytes(wrong)), association)


@pytest.mark.parametrize("association", ALL)
def test_h54_authenticators_of_any_other_length(association: SecurityAssociation) -> None:
    octets = sign(PLAIN, AuthenticationKind.MOBILE_HOME, association)
    (proof,) = proofs(octets)
    right = proof.authenticator
    for size in range(len(right)):
        assert not verify(octets, replace(proof, authenticator=right[:size]), association)
    assert not verify(octets, replace(proof, authenticator=right + b"\x00"), association)


@pytest.mark.parametrize("association", ALL)
def test_h54_a_shorter_authenticator_that_is_right_over_its_own_header(
    association: SecurityAssociation,
) -> None:
    for size in (0, 1, 12):
        header = bytes([32, 4 + size]) + association.spi.to_bytes(4, "big")
        octets = PLAIN + header + authenticator(PLAIN + header, association)[:size]
        (proof,) = proofs(octets)
        assert not verify(octets, proof, association)


@pytest.mark.parametrize("spi", [0, 1, 2, 255])
def test_h54_reserved_spis_never_verify(spi: int) -> None:
    reserved = SecurityAssociation(spi, KEY)
    with pytest.raises(ValueError, match="is reserved; use 256 or more"):
        sign(PLAIN, AuthenticationKind.MOBILE_HOME, reserved)
    header = bytes([32, 20]) + spi.to_bytes(4, "big")
    octets = PLAIN + header + authenticator(PLAIN + header, reserved)
    (proof,) = proofs(octets)
    assert not verify(octets, proof, reserved)


def test_an_association_of_another_spi_does_not_verify() -> None:
    octets = sign(PLAIN, AuthenticationKind.MOBILE_HOME, MD5)
    (proof,) = proofs(octets)
    assert not verify(octets, proof, replace(MD5, spi=1001))


@pytest.mark.parametrize("made_with", ALL)
@pytest.mark.parametrize("checked_with", ALL)
def test_h66_modes_are_not_taken_for_each_other(
    made_with: SecurityAssociation, checked_with: SecurityAssociation
) -> None:
    octets = sign(PLAIN, AuthenticationKind.MOBILE_HOME, made_with)
    (proof,) = proofs(octets)
    assert verify(octets, proof, checked_with) is (made_with is checked_with)


def test_h66_one_key_in_two_modes_has_two_contexts() -> None:
    for association in (*ALL, *reversed(ALL)):
        octets = sign(PLAIN, AuthenticationKind.MOBILE_HOME, association)
        assert verify(octets, proofs(octets)[0], association)


def test_kinds_are_not_taken_for_each_other() -> None:
    octets = bytearray(sign(PLAIN, AuthenticationKind.MOBILE_HOME, MD5))
    octets[len(PLAIN)] = AuthenticationKind.FOREIGN_HOME
    (proof,) = proofs(bytes(octets))
    assert not verify(bytes(octets), proof, MD5)


@given(st.binary(max_size=80), st.sampled_from(ALL))
def test_h54_rubbish_in_place_of_an_authenticator(wrong: bytes, association: object) -> None:
    assert isinstance(association, SecurityAssociation)
    octets = PLAIN + bytes([32, 4 + len(wrong)]) + association.spi.to_bytes(4, "big") + wrong
    (proof,) = proofs(octets)
    assert not verify(octets, proof, association)


def test_an_offset_that_lies_does_not_raise() -> None:
    octets = sign(PLAIN, AuthenticationKind.MOBILE_HOME, MD5)
    (proof,) = proofs(octets)
    assert not verify(octets, replace(proof, offset=10_000), MD5)
    assert not verify(b"", proof, MD5)


def test_keys_are_not_shown() -> None:
    assert KEY.hex() not in repr(MD5)
    assert repr(KEY) not in repr(MD5)
