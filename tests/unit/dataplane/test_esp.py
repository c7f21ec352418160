"""ESP packets against published vectors, and what broken ones do."""

import struct
from ipaddress import IPv4Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dataplane.packet import esp_evidence, ipv4
from gateway.dataplane.packet.esp import EspCipher, IntegrityCheckError, parse_header
from gateway.dataplane.packet.esp_evidence import Proven, Rejected, examine, full_sequence
from gateway.domain.child_sa import Encryption, EspKeys, EspSuite, Integrity
from gateway.domain.wire import WireError

GCM = EspSuite(Encryption.AES_GCM_16, 128, Integrity.NONE, esn=False)
GCM_ESN = EspSuite(Encryption.AES_GCM_16, 256, Integrity.NONE, esn=True)
CHACHA = EspSuite(Encryption.CHACHA20_POLY1305, 256, Integrity.NONE, esn=True)
CBC = EspSuite(Encryption.AES_CBC, 256, Integrity.HMAC_SHA2_256_128, esn=False)
CBC_ESN = EspSuite(Encryption.AES_CBC, 128, Integrity.HMAC_SHA2_512_256, esn=True)
SUITES = [GCM, GCM_ESN, CHACHA, CBC, CBC_ESN]


def cipher_for(suite: EspSuite) -> EspCipher:
    size = suite.key_bits // 8 + (4 if suite.encryption.is_aead else 0)
    return EspCipher(suite, EspKeys(bytes(range(size)), bytes(range(64))))


def sealed(suite: EspSuite, sequence: int, payload: bytes = b"inner packet") -> bytes:
    iv = bytes(8 if suite.encryption.is_aead else 16)
    return cipher_for(suite).seal(0x1001, sequence, payload, 4, iv)


def outer(esp: bytes, *, protocol: int = 50, fragment: int = 0) -> bytes:
    return struct.pack(
        "!BBHHHBBH4s4s", 0x45, 0, 20 + len(esp), 1, fragment, 64, protocol, 0,
        IPv4Address("198.51.100.7").packed, IPv4Address("192.0.2.1").packed,
    ) + esp  # fmt: skip


def test_rfc7634_appendix_a_chacha20_poly1305() -> None:
    keys = EspKeys(
        bytes.fromhex("808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9fa0a1a2a3")
    )
    suite = EspSuite(Encryption.CHACHA20_POLY1305, 256, Integrity.NONE, esn=False)
    inner = bytes.fromhex(
        "45000054a6f200004001e778c6336405c000020508005b7a3a080000553bec10"
        "0007362708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20212223"
        "2425262728292a2b2c2d2e2f3031323334353637"
    )
    packet = bytes.fromhex(
        "0102030400000005"
        "1011121314151617"
        "24039428b97f417e3c13753a4f05087b67c352e6a7fab1b982d466ef407ae5c6"
        "14ee8099d52844eb61aa95dfab4c02f72aa71e7c4c4f64c9befe2facc638e8f3"
        "cbec163fac469b502773f6fb94e664da9165b82829f641e0"
        "76aaa8266b7fb0f7b11b369907e1ad43"
    )
    cipher = EspCipher(suite, keys)
    assert cipher.seal(0x01020304, 5, inner, 4, bytes.fromhex("1011121314151617")) == packet
    opened = cipher.open(packet, 5)
    assert (opened.octets, opened.next_header) == (inner, 4)


def test_rfc3602_case_5_aes_cbc_encryption_part() -> None:
    """The vector has no integrity: its ciphertext is compared, the ICV is ours."""
    keys = EspKeys(bytes.fromhex("90d382b410eeba7ad938c46cec1a82bf"), bytes(32))
    suite = EspSuite(Encryption.AES_CBC, 128, Integrity.HMAC_SHA2_256_128, esn=False)
    inner = bytes.fromhex(
        "08000ebda70a00008e9c083db95b070008090a0b0c0d0e0f1011121314151617"
        "18191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f3031323334353637"
    )
    packet = EspCipher(suite, keys).seal(
        0x4321, 1, inner, 1, bytes.fromhex("e96e8c08ab465763fd098d45dd3ff893")
    )
    assert packet[:-16].hex() == (
        "0000432100000001e96e8c08ab465763fd098d45dd3ff893f663c25d325c18c6a9453e194e120849"
        "a4870b66cc6b9965330013b4898dc856a4699e523a55db080b59ec3a8e4b7e52775b07d1db34ed9c"
        "538ab50c551b874aa269add047ad2d5913ac19b7cfbad4a6"
    )


@pytest.mark.parametrize("suite", SUITES, ids=str)
@given(payload=st.binary(max_size=100), sequence=st.integers(1, (1 << 32) - 1))
def test_what_is_sealed_opens(suite: EspSuite, payload: bytes, sequence: int) -> None:
    opened = cipher_for(suite).open(sealed(suite, sequence, payload), sequence)
    assert (opened.octets, opened.next_header) == (payload, 4)


@pytest.mark.parametrize("suite", SUITES, ids=str)
def test_h05_h06_every_cut_and_every_flipped_octet_is_refused(suite: EspSuite) -> None:
    packet = sealed(suite, 7)
    cipher = cipher_for(suite)
    for length in range(len(packet)):
        with pytest.raises(IntegrityCheckError):
            cipher.verify(packet[:length], 7)
    for place in range(len(packet)):
        broken = bytearray(packet)
        broken[place] ^= 0x40
        with pytest.raises(IntegrityCheckError):
            cipher.verify(bytes(broken), 7)


@pytest.mark.parametrize("suite", [GCM_ESN, CHACHA, CBC_ESN], ids=str)
def test_esn_high_bits_are_authenticated(suite: EspSuite) -> None:
    packet = sealed(suite, (3 << 32) + 7)
    cipher_for(suite).verify(packet, (3 << 32) + 7)
    with pytest.raises(IntegrityCheckError):
        cipher_for(suite).verify(packet, 7)


def test_a_wrong_pad_length_sealed_by_the_peer_is_a_wire_error() -> None:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    header = (0x1001).to_bytes(4, "big") + (1).to_bytes(4, "big")
    body = AESGCM(bytes(range(16))).encrypt(bytes(range(16, 20)) + bytes(8), b"\0\0\xff\4", header)
    with pytest.raises(WireError, match="pad length"):
        cipher_for(GCM).open(header + bytes(8) + body, 1)


# -- evidence -------------------------------------------------------------------------------


@pytest.mark.parametrize("suite", SUITES, ids=str)
def test_a_fresh_authentic_packet_proves_the_move(suite: EspSuite) -> None:
    packet = esp_evidence.parse(outer(sealed(suite, 42)))
    assert packet.source == IPv4Address("198.51.100.7")
    assert examine(packet, cipher_for(suite), 41, esn=suite.esn) == Proven(42)


@pytest.mark.parametrize("suite", SUITES, ids=str)
@pytest.mark.parametrize("highest", [42, 43, 5000])
def test_h45_h46_replayed_and_older_packets_prove_nothing(suite: EspSuite, highest: int) -> None:
    packet = esp_evidence.parse(outer(sealed(suite, 42)))
    verdict = examine(packet, cipher_for(suite), highest, esn=suite.esn)
    assert isinstance(verdict, Rejected)
    assert verdict.late


def test_forged_and_short_packets_prove_nothing() -> None:
    broken = bytearray(sealed(GCM, 42))
    broken[-1] ^= 1
    assert examine(
        esp_evidence.parse(outer(bytes(broken))), cipher_for(GCM), 41, esn=False
    ) == Rejected("integrity check failed")
    short = esp_evidence.parse(outer(sealed(GCM, 42)[:20]))
    verdict = examine(short, cipher_for(GCM), 41, esn=False)
    assert isinstance(verdict, Rejected)
    assert not verdict.late


def test_across_the_32_bit_boundary() -> None:
    highest = (1 << 32) - 3
    packet = esp_evidence.parse(outer(sealed(GCM_ESN, (1 << 32) + 5)))
    assert examine(packet, cipher_for(GCM_ESN), highest, esn=True) == Proven((1 << 32) + 5)


@pytest.mark.parametrize(
    ("low", "highest", "esn", "expected"),
    [
        (1, 0, False, 1),
        (0, 0, False, None),
        (5, 0xFFFFFFFF, False, None),
        (5, 0xFFFFFFFF, True, (1 << 32) + 5),
        (5, (7 << 32) + 4, True, (7 << 32) + 5),
        (4, (7 << 32) + 4, True, None),
        (5, (1 << 64) - 1, True, None),
    ],
)
def test_full_sequence(low: int, highest: int, esn: bool, expected: int | None) -> None:
    assert full_sequence(low, highest, esn=esn) == expected


@given(low=st.integers(0, (1 << 32) - 1), highest=st.integers(0, (1 << 64) - 1))
def test_full_sequence_is_above_the_highest_and_ends_in_low(low: int, highest: int) -> None:
    found = full_sequence(low, highest, esn=True)
    if found is not None:
        assert found > highest
        assert found & 0xFFFFFFFF == low
        assert found < 1 << 64


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        outer(sealed(GCM, 1))[:19],
        outer(sealed(GCM, 1))[:-1],
        outer(sealed(GCM, 1), protocol=17),
        outer(sealed(GCM, 1), fragment=0x2000),
        outer(sealed(GCM, 1), fragment=3),
        outer(b"1234567"),
        b"\x65" + outer(sealed(GCM, 1))[1:],
        b"\x44" + outer(sealed(GCM, 1))[1:],
    ],
)
def test_h03_what_is_no_whole_esp_packet_is_a_wire_error(packet: bytes) -> None:
    with pytest.raises(WireError):
        esp_evidence.parse(packet)


def outer6(content: bytes, next_header: int = 50) -> bytes:
    addresses = ip_address("2001:db8::7").packed + ip_address("2001:db8::1").packed
    length = len(content).to_bytes(2, "big")
    return bytes((0x60, 0, 0, 0)) + length + bytes((next_header, 64)) + addresses + content


def test_over_ipv6_a_packet_proves_as_much() -> None:
    packet = esp_evidence.parse(outer6(sealed(GCM, 42)) + b"ethernet padding")
    assert packet.source == ip_address("2001:db8::7")
    assert examine(packet, cipher_for(GCM), 41, esn=False) == Proven(42)


@pytest.mark.parametrize(
    "packet",
    [
        outer6(sealed(GCM, 1))[:39],
        outer6(sealed(GCM, 1))[:-1],
        outer6(sealed(GCM, 1), next_header=44),
        outer6(b"1234567"),
    ],
)
def test_h03_what_is_no_whole_esp_packet_over_ipv6_is_a_wire_error(packet: bytes) -> None:
    with pytest.raises(WireError):
        esp_evidence.parse(packet)


def test_h04_octets_after_the_packet_are_not_looked_at() -> None:
    packet = esp_evidence.parse(outer(sealed(GCM, 42)) + b"ethernet padding")
    assert examine(packet, cipher_for(GCM), 41, esn=False) == Proven(42)


@given(st.binary(max_size=200))
def test_any_octets_raise_nothing_but_wire_errors(octets: bytes) -> None:
    for parse in (ipv4.parse_header, parse_header, esp_evidence.parse):
        try:
            parse(octets)
        except WireError:
            continue
    if len(octets) >= 8:
        packet = esp_evidence.parse(outer(octets))
        for suite in SUITES:
            assert not isinstance(examine(packet, cipher_for(suite), 0, esn=suite.esn), Proven)
