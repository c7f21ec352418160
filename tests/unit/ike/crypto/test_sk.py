"""Sealing and opening of encrypted payloads."""

import hmac
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.ike.crypto.sk import IntegrityError, SkCipher
from gateway.ike.crypto.transforms import encryption_key_octets, integrity_key_octets
from gateway.ike.registry import EncrId, IntegId

SUITES = [
    (EncrId.AES_GCM_16, 128, IntegId.NONE),
    (EncrId.AES_GCM_16, 192, IntegId.NONE),
    (EncrId.AES_GCM_16, 256, IntegId.NONE),
    (EncrId.CHACHA20_POLY1305, None, IntegId.NONE),
    (EncrId.AES_CBC, 128, IntegId.HMAC_SHA2_256_128),
    (EncrId.AES_CBC, 192, IntegId.HMAC_SHA2_384_192),
    (EncrId.AES_CBC, 256, IntegId.HMAC_SHA2_512_256),
    (EncrId.AES_CBC, 128, IntegId.HMAC_SHA1_96),
    (EncrId.TRIPLE_DES, None, IntegId.HMAC_SHA1_96),
]
suites = st.sampled_from(SUITES)
PREFIX = bytes(range(32))


def key_of(size: int) -> bytes:
    return bytes((index * 7 + 3) % 256 for index in range(size))


def cipher_of(suite: Any) -> SkCipher:
    encr, bits, integ = suite
    return SkCipher(
        encr,
        bits,
        integ,
        key_of(encryption_key_octets(encr, bits)),
        key_of(integrity_key_octets(integ)),
    )


def test_chacha20_poly1305_example_of_rfc_7634_appendix_b() -> None:
    cipher = SkCipher(
        EncrId.CHACHA20_POLY1305,
        None,
        IntegId.NONE,
        bytes(range(0x80, 0xA0)) + bytes.fromhex("a0a1a2a3"),
    )
    prefix = bytes.fromhex("c0c1c2c3c4c5c6c7d0d1d2d3d4d5d6d72e202500000000090000004529000029")
    iv = bytes.fromhex("1011121314151617")
    sealed = bytes.fromhex("610394701f8d017f7c129248896b71bfe25236efd7cdc67066906315b2")
    plaintext = bytes.fromhex("0000000c000040010000000a")
    assert cipher.open(prefix + iv + sealed, len(prefix)) == plaintext
    cipher._sealed = int.from_bytes(iv, "big")
    assert cipher.seal(prefix, plaintext) == prefix + iv + sealed


def test_aes_gcm_of_rfc_5282_is_gcm_with_salt_and_prefix() -> None:
    """The layout of RFC 5282 section 3, put together by hand."""
    key = key_of(36)
    message = SkCipher(EncrId.AES_GCM_16, 256, IntegId.NONE, key).seal(PREFIX, b"payloads")
    iv = message[32:40]
    assert message[:32] == PREFIX
    assert AESGCM(key[:32]).decrypt(key[32:] + iv, message[40:], PREFIX) == b"payloads\0"


def test_gcm_test_case_4_of_its_specification() -> None:
    """McGrew and Viega, test case 4, opened as an SK payload: only the padding is ours."""
    key = bytes.fromhex("feffe9928665731c6d6a8f9467308308")
    nonce = bytes.fromhex("cafebabefacedbaddecaf888")
    aad = bytes.fromhex("feedfacedeadbeeffeedfacedeadbeefabaddad2")
    plaintext = bytes.fromhex(
        "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
        "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39"
    )
    sealed = bytes.fromhex(
        "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e"
        "21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e0915bc94fbc"
        "3221a5db94fae95ae7121a47"
    )
    cipher = SkCipher(EncrId.AES_GCM_16, 128, IntegId.NONE, key + nonce[:4])
    # The last octet, 0x39, is the pad length: 57 octets of padding go with it.
    assert cipher.open(aad + nonce[4:] + sealed, len(aad)) == plaintext[: len(plaintext) - 58]


def test_cbc_with_hmac_is_what_section_3_14_says() -> None:
    cipher = cipher_of((EncrId.AES_CBC, 256, IntegId.HMAC_SHA2_256_128))
    message = cipher.seal(PREFIX, b"p" * 20)
    assert message[-16:] == hmac.digest(key_of(32), message[:-16], "sha256")[:16]
    decryptor = Cipher(algorithms.AES(key_of(32)), modes.CBC(message[32:48])).decryptor()
    padded = decryptor.update(message[48:-16])
    assert padded[:20] == b"p" * 20
    assert len(padded) == 32
    assert padded[-1] == 11


@given(suites, st.binary(max_size=300), st.binary(min_size=1, max_size=60))
def test_round_trip(suite: Any, plaintext: Any, prefix: Any) -> None:
    message = cipher_of(suite).seal(prefix, plaintext)
    cipher = cipher_of(suite)
    assert message.startswith(prefix)
    assert len(message) == len(prefix) + len(plaintext) + cipher.overhead(len(plaintext))
    assert cipher.open(message, len(prefix)) == plaintext


@given(suites, st.binary(max_size=40), st.data())
def test_h06_any_flipped_bit_fails(suite: Any, plaintext: Any, data: Any) -> None:
    message = bytearray(cipher_of(suite).seal(PREFIX, plaintext))
    bit = data.draw(st.integers(0, 8 * len(message) - 1))
    message[bit // 8] ^= 1 << bit % 8
    with pytest.raises(IntegrityError):
        cipher_of(suite).open(bytes(message), len(PREFIX))


@pytest.mark.parametrize("suite", SUITES)
def test_h22_cut_at_every_octet(suite: Any) -> None:
    message = cipher_of(suite).seal(PREFIX, b"payload")
    cipher = cipher_of(suite)
    for size in range(len(message)):
        with pytest.raises(IntegrityError):
            cipher.open(message[:size], len(PREFIX))


@settings(max_examples=200)
@given(suites, st.binary(max_size=120), st.integers(-5, 130))
def test_h22_garbage_raises_nothing_else(suite: Any, data: Any, offset: Any) -> None:
    with pytest.raises(IntegrityError):
        cipher_of(suite).open(data, offset)


@pytest.mark.parametrize("suite", SUITES)
def test_h22_empty_plaintext_is_fine(suite: Any) -> None:
    assert cipher_of(suite).open(cipher_of(suite).seal(PREFIX, b""), len(PREFIX)) == b""


def test_h22_pad_length_beyond_the_plaintext() -> None:
    key = key_of(20)
    sealed = AESGCM(key[:16]).encrypt(key[16:] + bytes(8), b"abc\x04", PREFIX)
    cipher = SkCipher(EncrId.AES_GCM_16, 128, IntegId.NONE, key)
    with pytest.raises(IntegrityError, match="pad length"):
        cipher.open(PREFIX + bytes(8) + sealed, 32)
    whole = AESGCM(key[:16]).encrypt(key[16:] + bytes(8), b"abc\x03", PREFIX)
    assert cipher.open(PREFIX + bytes(8) + whole, 32) == b""


def test_h22_nothing_but_the_icv() -> None:
    key = key_of(20)
    sealed = AESGCM(key[:16]).encrypt(key[16:] + bytes(8), b"", PREFIX)
    cipher = SkCipher(EncrId.AES_GCM_16, 128, IntegId.NONE, key)
    with pytest.raises(IntegrityError, match="too short"):
        cipher.open(PREFIX + bytes(8) + sealed, 32)


def test_h22_cbc_of_no_whole_blocks_with_a_right_icv() -> None:
    cipher = cipher_of((EncrId.AES_CBC, 128, IntegId.HMAC_SHA2_256_128))
    data = PREFIX + bytes(16) + bytes(21)
    message = data + hmac.digest(key_of(32), data, "sha256")[:16]
    with pytest.raises(IntegrityError, match="block size"):
        cipher.open(message, 32)


@pytest.mark.parametrize("suite", SUITES)
def test_ivs_never_come_again(suite: Any) -> None:
    cipher = cipher_of(suite)
    size = 8 if suite[0] != EncrId.AES_CBC else 16
    ivs = {cipher.seal(PREFIX, b"same")[32 : 32 + size] for _ in range(300)}
    assert len(ivs) == 300


def test_a_used_up_key_seals_no_more() -> None:
    cipher = cipher_of(SUITES[0])
    cipher._sealed = 2**63
    with pytest.raises(OverflowError):
        cipher.seal(PREFIX, b"")


@pytest.mark.parametrize(
    ("encr", "bits", "integ", "encryption", "integrity"),
    [
        (EncrId.AES_GCM_16, 128, IntegId.NONE, 16, 0),
        (EncrId.AES_GCM_16, None, IntegId.NONE, 20, 0),
        (EncrId.AES_GCM_16, 128, IntegId.HMAC_SHA2_256_128, 20, 32),
        (EncrId.AES_CBC, 128, IntegId.NONE, 16, 0),
        (EncrId.AES_CBC, 128, IntegId.HMAC_SHA2_256_128, 16, 31),
        (EncrId.AES_CBC, 128, 99, 16, 0),
        (99, 128, IntegId.NONE, 16, 0),
    ],
)
def test_keys_of_the_wrong_size(
    encr: Any, bits: Any, integ: Any, encryption: Any, integrity: Any
) -> None:
    with pytest.raises(ValueError, match=r"wrong size|no key size|needs|takes no"):
        SkCipher(encr, bits, integ, bytes(encryption), bytes(integrity))
