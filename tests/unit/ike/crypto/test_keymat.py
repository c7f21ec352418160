"""HMAC, prf+ and key derivation against published vectors."""

import hashlib
import hmac
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.child_sa import Encryption, EspSuite, Integrity
from gateway.ike.crypto.keymat import child_keymat, derive_ike_keys, sk_ciphers
from gateway.ike.crypto.prf import Prf
from gateway.ike.crypto.proposals import IkeSuite
from gateway.ike.registry import DhGroup, EncrId, IntegId, PrfId

# RFC 4231 sections 4.2, 4.3 and 4.7.
HMAC_VECTORS = [
    (
        "0b" * 20,
        b"Hi There",
        "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
        (
            "afd03944d84895626b0825f4ab46907f15f9dadbe4101ec682aa034c7cebc59c"
            "faea9ea9076ede7f4af152e8b2fa9cb6"
        ),
        (
            "87aa7cdea5ef619d4ff0b4241a1d6cb02379f4e2ce4ec2787ad0b30545e17cde"
            "daa833b7d6b8a702038b274eaea3f4e4be9d914eeb61f1702e696c203a126854"
        ),
    ),
    (
        b"Jefe".hex(),
        b"what do ya want for nothing?",
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
        (
            "af45d2e376484031617f78d2b58a6b1b9c7ef464f5a01b47e42ec3736322445e"
            "8e2240ca5e69e2c78b3239ecfab21649"
        ),
        (
            "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea250554"
            "9758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737"
        ),
    ),
    (
        "aa" * 131,
        b"Test Using Larger Than Block-Size Key - Hash Key First",
        "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
        (
            "4ece084485813e9088d2c63a041bc5b44f9ef1012a2b588f3cd11f05033ac4c6"
            "0c2ef6ab4030fe8296248df163f44952"
        ),
        (
            "80b24263c7c1a3ebb71493c1dd7be8b49b46d1f41b4aeec1121b013783f8f352"
            "6b56d037e05f2598bd0fd2215d6a1e5295e64f73f63f0aec8b915a985d786598"
        ),
    ),
]

# NIST CAVP, SP 800-135 IKEv2 KDF, HMAC-SHA1.
CAVP = {
    "ni": "32b50d5f4a3763f3",
    "nr": "9206a04b26564cb1",
    "gir": "4b2c1f971981a8ad8d0abeafabf38cf75fc8349c148142465ed9c8b516b8be52",
    "gir_new": "863f3c9d06efd39d2b907b97f8699e5dd5251ef64a2a176f36ee40c87d4f9330",
    "spii": "34c9e7c188868785",
    "spir": "3ff77d760d2b2199",
    "skeyseed": "a9a7b222b59f8f48645f28a1db5b5f5d7479cba7",
    "skeyseed_rekey": "63e81194946ebd05df7df5ebf5d8750056bf1f1d",
    "dkm": "a14293677cc80ff8f9cc0eee30d895da9d8f405666e30ef0dfcb63c634a46002"
    "a2a63080e514a062768b76606f9fa5e992204fc5a670bde3f10d6b027113936a"
    "5c55b648a194ae587b0088d52204b702c979fa280870d2ed41efa9c549fd1119"
    "8af1670b143d384bd275c5f594cf266b05ebadca855e4249520a441a81157435"
    "a7a56cc4",
}
V = {name: bytes.fromhex(value) for name, value in CAVP.items()}
CAVP_SUITE = IkeSuite(EncrId.AES_CBC, 128, IntegId.HMAC_SHA1_96, PrfId.HMAC_SHA1, DhGroup.MODP_2048)


@pytest.mark.parametrize(("key", "data", "sha256", "sha384", "sha512"), HMAC_VECTORS)
def test_hmac_vectors_of_rfc_4231(
    key: Any, data: Any, sha256: Any, sha384: Any, sha512: Any
) -> None:
    expected = {
        PrfId.HMAC_SHA2_256: sha256,
        PrfId.HMAC_SHA2_384: sha384,
        PrfId.HMAC_SHA2_512: sha512,
    }
    for prf, output in expected.items():
        assert Prf(prf).digest(bytes.fromhex(key), data) == bytes.fromhex(output)
        assert Prf.of(prf).length == len(output) // 2


def reference_plus(name: Any, key: Any, seed: Any, size: Any) -> bytes:
    block, out, n = b"", b"", 1
    while len(out) < size:
        block = hmac.new(key, block + seed + bytes([n]), name).digest()
        out += block
        n += 1
    return out[:size]


@given(
    st.sampled_from(
        [
            (PrfId.HMAC_SHA1, "sha1"),
            (PrfId.HMAC_SHA2_256, "sha256"),
            (PrfId.HMAC_SHA2_384, "sha384"),
            (PrfId.HMAC_SHA2_512, "sha512"),
        ]
    ),
    st.binary(min_size=1, max_size=140),
    st.binary(max_size=200),
    st.integers(1, 700),
)
def test_prf_plus_is_the_construction_of_section_2_13(
    prf: Any, key: Any, seed: Any, size: Any
) -> None:
    assert Prf(prf[0]).plus(key, seed, size) == reference_plus(prf[1], key, seed, size)


def test_prf_plus_is_bounded() -> None:
    prf = Prf(PrfId.HMAC_SHA2_256)
    assert len(prf.plus(b"k", b"s", 255 * 32)) == 255 * 32
    for size in (0, -1, 255 * 32 + 1):
        with pytest.raises(ValueError, match="cannot give"):
            prf.plus(b"k", b"s", size)


@pytest.mark.parametrize("prf", [0, 1, 4, 8, 65535])
def test_unknown_prf(prf: Any) -> None:
    with pytest.raises(ValueError, match="not supported"):
        Prf(prf)


def test_ike_keys_of_the_nist_vector() -> None:
    keys = derive_ike_keys(CAVP_SUITE, V["ni"], V["nr"], V["gir"], V["spii"], V["spir"])
    prf = Prf(PrfId.HMAC_SHA1)
    assert prf.digest(V["ni"] + V["nr"], V["gir"]) == V["skeyseed"]
    parts = (
        keys.sk_d,
        keys.sk_ai,
        keys.sk_ar,
        keys.sk_ei,
        keys.sk_er,
        keys.sk_pi,
        keys.sk_pr,
    )
    assert [len(part) for part in parts] == [20, 20, 20, 16, 16, 20, 20]
    assert b"".join(parts) == V["dkm"]


def test_rekeyed_ike_keys_of_the_nist_vector() -> None:
    keys = derive_ike_keys(
        CAVP_SUITE,
        V["ni"],
        V["nr"],
        V["gir_new"],
        V["spii"],
        V["spir"],
        V["dkm"][:20],
        PrfId.HMAC_SHA1,
    )
    seed = V["ni"] + V["nr"] + V["spii"] + V["spir"]
    assert keys.sk_d == reference_plus("sha1", V["skeyseed_rekey"], seed, 20)


def test_rekeying_uses_the_old_prf_for_the_seed_and_the_new_one_after() -> None:
    suite = IkeSuite(EncrId.AES_GCM_16, 256, IntegId.NONE, PrfId.HMAC_SHA2_384, DhGroup.X25519)
    keys = derive_ike_keys(
        suite, b"i" * 32, b"r" * 32, b"g" * 32, b"1" * 8, b"2" * 8, b"d" * 32, PrfId.HMAC_SHA2_256
    )
    seed = hmac.new(b"d" * 32, b"g" * 32 + b"i" * 32 + b"r" * 32, hashlib.sha256).digest()
    plain = b"i" * 32 + b"r" * 32 + b"1" * 8 + b"2" * 8
    assert keys.sk_d == reference_plus("sha384", seed, plain, 48)
    with pytest.raises(ValueError, match="old SA"):
        derive_ike_keys(suite, b"", b"", b"", b"", b"", b"d" * 32)


@pytest.mark.parametrize(
    ("suite", "encr", "integ"),
    [
        (EspSuite(Encryption.AES_GCM_16, 128, Integrity.NONE, esn=True), 20, 0),
        (EspSuite(Encryption.AES_GCM_16, 256, Integrity.NONE, esn=True), 36, 0),
        (EspSuite(Encryption.CHACHA20_POLY1305, 256, Integrity.NONE, esn=True), 36, 0),
        (EspSuite(Encryption.AES_CBC, 128, Integrity.HMAC_SHA2_256_128, esn=False), 16, 32),
        (EspSuite(Encryption.AES_CBC, 256, Integrity.HMAC_SHA2_512_256, esn=False), 32, 64),
    ],
)
@pytest.mark.parametrize("shared", [b"", b"g" * 32])
def test_child_keys_are_cut_in_the_order_of_section_2_17(
    suite: Any, encr: Any, integ: Any, shared: Any
) -> None:
    ours, theirs = child_keymat(suite, PrfId.HMAC_SHA2_256, b"d" * 32, b"i" * 32, b"r" * 32, shared)
    plain = reference_plus("sha256", b"d" * 32, shared + b"i" * 32 + b"r" * 32, 2 * (encr + integ))
    assert ours.encryption + ours.integrity + theirs.encryption + theirs.integrity == plain
    assert (len(ours.encryption), len(ours.integrity)) == (encr, integ)


def test_keys_are_not_shown() -> None:
    keys = derive_ike_keys(CAVP_SUITE, V["ni"], V["nr"], V["gir"], V["spii"], V["spir"])
    assert "hidden" in repr(keys)
    assert keys.sk_d.hex() not in repr(keys)
    assert repr(keys.sk_d) not in repr(keys)


@pytest.mark.parametrize(
    "suite",
    [
        CAVP_SUITE,
        IkeSuite(EncrId.AES_GCM_16, 128, IntegId.NONE, PrfId.HMAC_SHA2_256, DhGroup.X25519),
        IkeSuite(EncrId.CHACHA20_POLY1305, None, IntegId.NONE, PrfId.HMAC_SHA2_512, DhGroup.X25519),
        IkeSuite(EncrId.TRIPLE_DES, None, IntegId.HMAC_SHA1_96, PrfId.HMAC_SHA1, DhGroup.MODP_1024),
    ],
)
def test_both_directions_have_their_own_cipher(suite: Any) -> None:
    keys = derive_ike_keys(suite, b"i" * 32, b"r" * 32, b"g" * 32, b"1" * 8, b"2" * 8)
    initiator, responder = sk_ciphers(suite, keys)
    again = sk_ciphers(suite, keys)
    assert again[0].open(initiator.seal(b"prefix", b"hello"), 6) == b"hello"
    assert again[1].open(responder.seal(b"prefix", b"hello"), 6) == b"hello"
    with pytest.raises(ValueError, match="integrity"):
        again[1].open(initiator.seal(b"prefix", b"hello"), 6)
