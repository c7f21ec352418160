"""IKEv1 key derivation against NIST's CAVP samples (as published with Mozilla NSS) and RFC 2409."""

import hashlib
import hmac
from dataclasses import dataclass

import pytest

from gateway.ike.crypto.prf import Prf
from gateway.ike.registry import EncrId, PrfId
from gateway.ike.v1 import keys


@dataclass
class Sample:
    prf: PrfId
    shared: str
    skeyid: str
    cookie_i: str
    cookie_r: str
    d: str
    a: str
    e: str


SAMPLES = [
    Sample(
        PrfId.HMAC_SHA1,
        "8ba4cbc73c0187301dc19a975823854dbd641c597f637f8d053a83b9514673eb",
        "707197817fb2d90cf54d1842606bdea59b9f4823",
        "8c3bcd3a69831d7f",
        "d2d9a7ff4fbe95a7",
        "384be709a8a5e63c3ed160cfe3921c4b37d5b32d",
        "48b327575abe3adba0f279849e289022a13e2b47",
        "a4a415c8e0c38c0da847c356cc61c24df8025560",
    ),
    Sample(
        PrfId.HMAC_SHA2_256,
        "a1ff3dc6cf9b4c04709943cb4ca1f1789bcf360b03f1d027de3ae8ee039e9155",
        "750c5c94b9c2ec20b68033e024dadf0fa87e8b48c6561b21c72478451a06583d",
        "6c6beb72631ddc3d",
        "b84e24b22cffbd14",
        "a4f7ca7de913814813e3312099e7c943bd293483f387532330237f1b20957310",
        "1d4b705746c43b0a6fcbb8db33983c0f24ff6f8b6543e3779fed227c6067f004",
        "03e6f16cd9ce9f64b5cdc5b34cca7163483ba5389a30afebef3d14640b0a815e",
    ),
    Sample(
        PrfId.HMAC_SHA2_384,
        "1724dbd893523764bfef8c6fa927856fccfb77ae254358cce29c2769a32915c1",
        "6e4514610bf82d0ab7bf0260096f6146a153c712071abb633ced813c572156c783e36874a"
        "65a64690ca701d40d56ea18",
        "1c8aba986a00af0f",
        "b049d9672f73c920",
        "b083234e9ed7745911f93eb31faa66fcf88906266830eb17ef166d295cb1f86a3543b8b8e"
        "fa5df918533df537e9c809c",
        "938295a374aceb4147a8024c9a007dd313403fd8fd7070dbd0cfbe1ccd308dbfbb7b9e9c6"
        "4049e4df44ff551016cb7b5",
        "8595b249dc1fa8599729f87eb6b9dd13bfbfdfd4f9ebd78929bab6ecc402539ad32cb6e7e"
        "f4ba6a0f53da14e4df07ed4",
    ),
]


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.prf.name)
def test_skeyid_d_a_e_of_the_nist_samples(sample: Sample) -> None:
    made = keys.derive(
        Prf.of(sample.prf),
        bytes.fromhex(sample.skeyid),
        bytes.fromhex(sample.shared),
        bytes.fromhex(sample.cookie_i),
        bytes.fromhex(sample.cookie_r),
    )
    assert (made.d.hex(), made.a.hex(), made.e.hex()) == (sample.d, sample.a, sample.e)
    assert made.skeyid.hex() == sample.skeyid
    assert sample.e not in repr(made)


@pytest.mark.parametrize(
    ("prf", "nonce_i", "nonce_r", "shared", "skeyid"),
    [
        (
            PrfId.HMAC_SHA1,
            "69a62284195f1680",
            "80c94ba25c8abda5",
            SAMPLES[0].shared,
            SAMPLES[0].skeyid,
        ),
        (
            PrfId.HMAC_SHA2_384,
            "cec89d845add83ef",
            "cebd43ab71d17db9",
            SAMPLES[2].shared,
            SAMPLES[2].skeyid,
        ),
    ],
)
def test_skeyid_of_signatures(
    prf: PrfId, nonce_i: str, nonce_r: str, shared: str, skeyid: str
) -> None:
    made = keys.skeyid_of_signatures(
        Prf.of(prf), bytes.fromhex(nonce_i), bytes.fromhex(nonce_r), bytes.fromhex(shared)
    )
    assert made.hex() == skeyid


@pytest.mark.parametrize(
    ("prf", "secret", "nonce_i", "nonce_r", "skeyid"),
    [
        (
            PrfId.HMAC_SHA1,
            "c0",
            "03a6f25a83c8c2a3",
            "9d958a6618f77e7f",
            "ab3be41bc62f2ef0c41a3076d58768be77fadd2e",
        ),
        (
            PrfId.HMAC_SHA2_256,
            "a0",
            "ead9ced494868f41",
            "f1aff4f425a94f18",
            "558a99b299773d267cf7c8ef073bf3b7af362c206c75a538403c5ef884d4cace",
        ),
        (
            PrfId.HMAC_SHA2_384,
            "9e",
            "d6596b7e5b398534",
            "136fbdfa8d0ceb8e",
            (
                "b54fa27cb4251051e44a659d73591845691d11f1874bf4e4088e5df6462d28e57a3a2af3a"
                "b4f9b746a8f5766f8785f2b"
            ),
        ),
    ],
)
def test_skeyid_of_a_preshared_key(
    prf: PrfId, secret: str, nonce_i: str, nonce_r: str, skeyid: str
) -> None:
    made = keys.skeyid_of_preshared_key(
        Prf.of(prf), bytes.fromhex(secret), bytes.fromhex(nonce_i), bytes.fromhex(nonce_r)
    )
    assert made.hex() == skeyid


LONG = "5f00d1bd2c58ec224b1e6b71fa0f19a1faa7a193952c444411b47c1a9d8ba6fe"


@pytest.mark.parametrize(
    ("prf", "key", "expanded"),
    [
        (
            PrfId.HMAC_SHA2_256,
            LONG,
            (
                "b10fff32cbeaa1e7afe6ab0b191e0bd63cd524849a4b56019146d232a24cf9af6b89494d2"
                "a360b06825db8bb0324c15cecf47fc0bc99e39bf1171a7f4bf1733dc49ef64c642e73b054"
                "b2e82456e34fa3c822da475e27e403b3da3929da50e6aa9e7f9252c68fa069b4b0edd374e"
                "80d35378c4f5e8ec285a1b169c92bbb5353d05ba94165"
            ),
        ),
        (PrfId.HMAC_SHA2_256, LONG, LONG),
        (PrfId.HMAC_SHA2_256, LONG, LONG[:30]),
        (
            PrfId.HMAC_SHA1,
            "63e81194946ebd05df7df5ebf5d8750056bf1f1d",
            "933347a07de5782247dd36d1562ffe0eecade1eb4134165257e3af1000af8ae3f165063828cbb60d",
        ),
        (
            PrfId.HMAC_SHA1,
            "63e81194946ebd05df7df5ebf5d8750056bf1f1d",
            "63e81194946ebd05df7df5ebf5d875",
        ),
    ],
)
def test_key_expansion_of_appendix_b(prf: PrfId, key: str, expanded: str) -> None:
    size = len(expanded) // 2
    assert keys.expand(Prf.of(prf), bytes.fromhex(key), size).hex() == expanded


def test_cipher_keys_have_the_size_of_the_cipher() -> None:
    prf = Prf.of(PrfId.HMAC_SHA1)
    made = keys.derive(prf, b"s" * 20, b"x" * 128, b"i" * 8, b"r" * 8)
    assert keys.encryption_key(prf, made, EncrId.AES_CBC, 128) == made.e[:16]
    assert len(keys.encryption_key(prf, made, EncrId.AES_CBC, 256)) == 32
    assert len(keys.encryption_key(prf, made, EncrId.TRIPLE_DES, None)) == 24


def test_hashes_are_over_what_rfc_2409_lists() -> None:
    prf = Prf.of(PrfId.HMAC_SHA2_256)
    made = keys.derive(prf, b"k" * 32, b"x" * 256, b"i" * 8, b"r" * 8)
    of_i = keys.hash_i(prf, made, b"gxi", b"gxr", b"cky-i", b"cky-r", b"sa", b"id")
    of_r = keys.hash_r(prf, made, b"gxi", b"gxr", b"cky-i", b"cky-r", b"sa", b"id")
    assert of_i == hmac.new(b"k" * 32, b"gxigxrcky-icky-rsaid", "sha256").digest()
    assert of_r == hmac.new(b"k" * 32, b"gxrgxicky-rcky-isaid", "sha256").digest()


def test_initialization_vectors() -> None:
    prf = Prf.of(PrfId.HMAC_SHA1)
    first = keys.phase1_iv(prf, b"gxi", b"gxr", EncrId.AES_CBC)
    assert first == hashlib.sha1(b"gxigxr").digest()[:16]
    assert len(keys.phase1_iv(prf, b"gxi", b"gxr", EncrId.TRIPLE_DES)) == 8
    later = keys.phase2_iv(prf, b"b" * 16, 0x01020304, EncrId.AES_CBC)
    assert later == hashlib.sha1(b"b" * 16 + b"\1\2\3\4").digest()[:16]


@pytest.mark.parametrize("shared", [b"", b"g(qm)^xy"])
def test_keymat_of_quick_mode(shared: bytes) -> None:
    prf = Prf.of(PrfId.HMAC_SHA1)
    seed = shared + b"\3" + b"spi." + b"ni" + b"nr"
    k1 = hmac.new(b"d" * 20, seed, "sha1").digest()
    k2 = hmac.new(b"d" * 20, k1 + seed, "sha1").digest()
    k3 = hmac.new(b"d" * 20, k2 + seed, "sha1").digest()
    made = keys.quick_keymat(prf, b"d" * 20, 3, b"spi.", b"ni", b"nr", 52, shared)
    assert made == (k1 + k2 + k3)[:52]
