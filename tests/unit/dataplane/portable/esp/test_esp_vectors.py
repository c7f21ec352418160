"""Keyed ESP against published vectors, against EspCipher, and against tshark."""

import shutil
import struct
import subprocess
from pathlib import Path

import esp_bed as bed
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dataplane.packet.esp import EspCipher
from gateway.dataplane.packet.esp_keyed import keyed
from gateway.dataplane.portable.esp.inbound import content
from gateway.domain.child_sa import Encryption, EspKeys, EspSuite, Integrity

MCGREW = [
    # key, salt with IV, SPI and sequence number, plaintext with its padding, ciphertext with ICV
    (
        "4c80cdefbb5d10da906ac73c3613a634",
        "2e443b684956ed7e3b244cfe",
        "000043218765432100000000",
        (
            "45000048699a000080114db7c0a80102c0a801010a9bf15638d301000001000000000000045f736970045f"
            "756470037369700963796265726369747902646b000021000101020201"
        ),
        (
            "fecf537e729d5b07dc30df528dd22b768d1b98736696a6fd348509fa13ceac34cfa2436f14a3f3cf65925b"
            "f1f4a13c5d15b21e1884f5ff6247aeabb786b93bce61bc17d768fd9732"
            "459018148f6cbe722fd04796562dfdb4"
        ),
    ),
    (
        "feffe9928665731c6d6a8f9467308308",
        "cafebabefacedbaddecaf888",
        "0000a5f80000000a",
        (
            "4500003e698f000080114dccc0a80102c0a801010a980035002a2343b2d0010000010000000000000373697"
            "00963796265726369747902646b00000100010001"
        ),
        (
            "deb22cd9b07c72c16e3a65beeb8df304a5a5897d33ae530f1ba76d5d114d2a5c3de81827c10e9a4f51330d0"
            "eec416642cfbb85a5b47e48a4ec3b9ba95d918bd183b70d3aa8bc6ee4c309e9d85a41ad4a"
        ),
    ),
    (
        "abbccddef00112233445566778899aababbccddef00112233445566778899aab",
        "112233440102030405060708",
        "4a2cbfe300000002",
        (
            "4500003069a6400080062690c0a801029389155e0a9e008b2dc57ee0000000007002400020bf0000020405b"
            "40101040201020201"
        ),
        (
            "ff425c9b724599df7a3bcd510194e00d6a78107f1b0b1cbf06efae9d65a5d763748a637985771d347f05456"
            "59f14e99def842d8eb335f4eecfdbf831824b4c4915956c96"
        ),
    ),
    (
        "feffe9928665731c6d6a8f9467308308feffe9928665731c",
        "cafebabefacedbaddecaf888",
        "0000a5f80000000a",
        "45000028a4ad4000400678800a01038f0a010612802306b8cb712602dd6bb03e501016d075680001",
        (
            "a5b1f8066029aea40e598b8122de02420938b3ab33f828e687b8858b5bfbdbd0315b27452144cc77"
            "95457b9652037f5318027b5b4cd7a636"
        ),
    ),
    (
        "7d773d00c144c525ac619d18c84a3f47",
        "d966426743457e9182443bc6",
        "335467aeffffffff",
        "01020201",
        "437f866bcb3f699fe9b0822bac961c4504bef270",
    ),
    (
        "6c6567616c697a656d6172696a75616e61616e64646f69746265666f72656961",
        "7475726e333021696765746d",
        "796b6963ffffffffffffffff",
        (
            "45000030da3a00008001df3bc0a80005c0a800010800c6cd020007006162636465666768696a6b6c6d6e6f7"
            "07172737401020201"
        ),
        (
            "f97ab2aa356d8edce17644ac8c78e25dd24dedbb29ebf1b64a274b39b49c3a864cd3d78ca4ae68a32b42458"
            "fb57dbe821dcc63b9d0937ba2945f669368661a329fb4c053"
        ),
    ),
]


@pytest.mark.parametrize("vector", MCGREW, ids=lambda vector: vector[2])
def test_aes_gcm_esp_draft_mcgrew_gcm_test_01(vector: tuple[str, str, str, str, str]) -> None:
    key, nonce, header, plain, expected = map(bytes.fromhex, vector)
    esn = len(header) == 12
    suite = EspSuite(Encryption.AES_GCM_16, len(key) * 8, Integrity.NONE, esn)
    esp = keyed(suite, EspKeys(key + nonce[:4]))
    sequence = int.from_bytes(header[4:], "big")
    on_wire = header[:4] + header[-4:]
    assert esp.seal(on_wire, sequence, nonce[4:], plain) == nonce[4:] + expected
    packet = b"before" + on_wire + nonce[4:] + expected + b"after"
    assert esp.open(packet, 6, len(packet) - 5, sequence) == plain
    inside = content(plain)
    assert inside is not None
    assert inside + b"\1\2\2\1"[: len(plain) - len(inside)] == plain or plain[-2:] == b"\0\1"


def test_chacha20_poly1305_rfc7634_appendix_a() -> None:
    suite = EspSuite(Encryption.CHACHA20_POLY1305, 256, Integrity.NONE, esn=False)
    keys = "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9fa0a1a2a3"
    esp = keyed(suite, EspKeys(bytes.fromhex(keys)))
    plain = bytes.fromhex(
        "45000054a6f200004001e778c6336405c000020508005b7a3a080000553bec10"
        "0007362708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20212223"
        "2425262728292a2b2c2d2e2f303132333435363701020204"
    )
    sealed = bytes.fromhex(
        "1011121314151617"
        "24039428b97f417e3c13753a4f05087b67c352e6a7fab1b982d466ef407ae5c6"
        "14ee8099d52844eb61aa95dfab4c02f72aa71e7c4c4f64c9befe2facc638e8f3"
        "cbec163fac469b502773f6fb94e664da9165b82829f641e0"
        "76aaa8266b7fb0f7b11b369907e1ad43"
    )
    header = bytes.fromhex("0102030400000005")
    assert esp.seal(header, 5, sealed[:8], plain) == sealed
    assert esp.open(header + sealed, 0, 8 + len(sealed), 5) == plain


def test_aes_cbc_rfc3602_case_5_opens() -> None:
    """The vector has no integrity: the ICV is HMAC as Python's own library makes it."""
    import hashlib
    import hmac

    keys = EspKeys(bytes.fromhex("90d382b410eeba7ad938c46cec1a82bf"), bytes(range(32)))
    esp = keyed(EspSuite(Encryption.AES_CBC, 128, Integrity.HMAC_SHA2_256_128, False), keys)
    covered = bytes.fromhex(
        "0000432100000001e96e8c08ab465763fd098d45dd3ff893f663c25d325c18c6a9453e194e120849"
        "a4870b66cc6b9965330013b4898dc856a4699e523a55db080b59ec3a8e4b7e52775b07d1db34ed9c"
        "538ab50c551b874aa269add047ad2d5913ac19b7cfbad4a6"
    )
    packet = covered + hmac.digest(keys.integrity, covered, hashlib.sha256)[:16]
    assert content(esp.open(packet, 0, len(packet), 1) or b"\0\0") == bytes.fromhex(
        "08000ebda70a00008e9c083db95b070008090a0b0c0d0e0f1011121314151617"
        "18191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f3031323334353637"
    )


@pytest.mark.parametrize(
    ("integrity", "key", "code"),
    [
        # RFC 4868 section 2.7.2, the first of each: "Hi There".
        (
            Integrity.HMAC_SHA2_256_128, b"\x0b" * 32,
            "198a607eb44bfbc69903a0f1cf2bbdc5",
        ),
        (
            Integrity.HMAC_SHA2_384_192, b"\x0b" * 48,
            "b6a8d5636f5c6a7224f9977dcf7ee6c7fb6d0c48cbdee973",
        ),
        (
            Integrity.HMAC_SHA2_512_256, b"\x0b" * 64,
            "637edc6e01dce7e6742a99451aae82df23da3e92439e590e43e761b33e910fb8",
        ),
    ],
)  # fmt: skip
def test_hmac_sha2_rfc4868(integrity: Integrity, key: bytes, code: str) -> None:
    suite = EspSuite(Encryption.AES_CBC, 128, integrity, esn=False)
    esp = keyed(suite, EspKeys(bytes(16), key))
    assert esp._code(b"Hi There", 0).hex() == code  # type: ignore[attr-defined]


@pytest.mark.parametrize("suite", bed.SUITES, ids=str)
@given(data=st.data())
def test_agrees_with_the_cipher_that_keeps_no_context(suite: EspSuite, data: st.DataObject) -> None:
    keys = bed.keys_for(suite, 5)
    slow, fast = EspCipher(suite, keys), keyed(suite, keys)
    iv = bytes(8 if suite.encryption.is_aead else 16)
    for _ in range(3):
        sequence = data.draw(st.integers(1, (1 << 64 if suite.esn else 1 << 32) - 1))
        payload = data.draw(st.binary(max_size=80))
        packet = slow.seal(0x1001, sequence, payload, 4, iv)
        plain = fast.open(packet, 0, len(packet), sequence)
        assert plain is not None
        assert (content(plain), plain[-1]) == (payload, 4)
        header = packet[:8]
        iv = data.draw(st.binary(min_size=len(iv), max_size=len(iv)))
        again = header + fast.seal(header, sequence, iv, plain)
        told = slow.open(again, sequence)
        assert (told.octets, told.next_header) == (payload, 4)
        at = data.draw(st.integers(0, len(packet) - 1))
        broken = bytearray(packet)
        broken[at] ^= data.draw(st.integers(1, 255))
        if not 4 <= at < 8 or not suite.esn:
            assert fast.open(bytes(broken), 0, len(packet), sequence) is None


def test_keys_of_another_length_are_refused() -> None:
    for suite in bed.SUITES:
        keys = bed.keys_for(suite, 1)
        with pytest.raises(ValueError, match="key of"):
            keyed(suite, EspKeys(keys.encryption[:-1], keys.integrity))


@pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed")
@pytest.mark.parametrize("suite", [one for one in bed.CBC if not one.esn], ids=str)
def test_tshark_opens_what_we_send(suite: EspSuite, tmp_path: Path) -> None:
    """Its ICV check and its decryption, with the keys given to it; of ESN it knows nothing."""
    gateway, device = bed.both_ends(suite)
    ours, _ = bed.connected(gateway, device)
    inner = [bed.to_device(payload=bytes(size)) for size in range(0, 40, 3)]
    capture = tmp_path / "esp.pcap"
    octets = struct.pack("=IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 0xFFFF, 228)
    for packet in bed.sealed(ours, *inner):
        octets += struct.pack("=IIII", 0, 0, len(packet), len(packet)) + packet
    capture.write_bytes(octets)
    integrity = {
        Integrity.HMAC_SHA2_256_128: "HMAC-SHA-256-128 [RFC4868]",
        Integrity.HMAC_SHA2_512_256: "HMAC-SHA-512-256 [RFC4868]",
    }[suite.integrity]
    keys = gateway.keys_out
    cipher = f'"AES-CBC [RFC3602]","0x{keys.encryption.hex()}"'
    sa = f'"IPv4","*","*","*",{cipher},"{integrity}","0x{keys.integrity.hex()}"'
    shown = subprocess.run(
        ["tshark", "-r", capture, "-o", "esp.enable_encryption_decode:TRUE",
         "-o", "esp.enable_authentication_check:TRUE", "-o", f"uat:esp_sa:{sa}",
         "-T", "fields", "-E", "separator=,", "-E", "occurrence=a", "-E", "aggregator=;",
         "-e", "ip.dst", "-e", "esp.icv_good", "-e", "udp.length", "-e", "_ws.malformed"],
        check=True, capture_output=True, text=True, timeout=60,
    ).stdout.splitlines()  # fmt: skip
    assert len(shown) == len(inner)
    for packet, line in zip(inner, shown, strict=True):
        addresses, good, length, malformed = line.split(",")
        assert not malformed
        assert addresses == f"{bed.DEVICE};{bed.HOST}"
        assert (good, length) == ("1", str(len(packet) - 20))
