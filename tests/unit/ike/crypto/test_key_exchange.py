"""Key exchange groups against their RFCs, and hostile public values."""

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, x25519

from gateway.ike.crypto import dh
from gateway.ike.crypto.modp import PRIMES
from gateway.ike.registry import DhGroup

GROUPS = sorted(dh.PUBLIC_OCTETS)
KEMS = [DhGroup.ML_KEM_768, DhGroup.ML_KEM_1024]

# RFC 5903 section 8: curve, i, r, the x coordinate of the shared point.
RFC_5903 = [
    (
        DhGroup.ECP_256,
        "C88F01F510D9AC3F70A292DAA2316DE544E9AAB8AFE84049C62A9C57862D1433",
        "C6EF9C5D78AE012A011164ACB397CE2088685D8F06BF9BE0B283AB46476BEE53",
        "D6840F6B42F6EDAFD13116E0E12565202FEF8E9ECE7DCE03812464D04B9442DE",
    ),
    (
        DhGroup.ECP_384,
        (
            "099F3C7034D4A2C699884D73A375A67F7624EF7C6B3C0F160647B67414DCE655"
            "E35B538041E649EE3FAEF896783AB194"
        ),
        (
            "41CB0779B4BDB85D47846725FBEC3C9430FAB46CC8DC5060855CC9BDA0AA2942"
            "E0308312916B8ED2960E4BD55A7448FC"
        ),
        (
            "11187331C279962D93D604243FD592CB9D0A926F422E47187521287E7156C5C4"
            "D603135569B9E9D09CF5D4A270F59746"
        ),
    ),
    (
        DhGroup.ECP_521,
        (
            "0037ADE9319A89F4DABDB3EF411AACCCA5123C61ACAB57B5393DCE47608172A0"
            "95AA85A30FE1C2952C6771D937BA9777F5957B2639BAB072462F68C27A57382D4A52"
        ),
        (
            "0145BA99A847AF43793FDD0E872E7CDFA16BE30FDC780F97BCCC3F078380201E"
            "9C677D600B343757A3BDBF2A3163E4C2F869CCA7458AA4A4EFFC311F5CB151685EB9"
        ),
        (
            "01144C7D79AE6956BC8EDB8E7C787C4521CB086FA64407F97894E5E6B2D79B04"
            "D1427E73CA4BAA240A34786859810C06B3C715A3A8CC3151F2BEE417996D19F3DDEA"
        ),
    ),
]
CURVES = {
    DhGroup.ECP_256: ec.SECP256R1(),
    DhGroup.ECP_384: ec.SECP384R1(),
    DhGroup.ECP_521: ec.SECP521R1(),
}


def arctan_of_inverse(x: int, bits: int) -> int:
    term = (1 << bits) // x
    total, n, sign = term, 3, -1
    while term:
        term //= x * x
        total += sign * (term // n)
        sign, n = -sign, n + 2
    return total


def test_modp_primes_follow_their_formula() -> None:
    bits = 4300
    pi = 4 * (4 * arctan_of_inverse(5, bits) - arctan_of_inverse(239, bits))
    # The constants of RFC 2409 section 6.2 and RFC 3526 sections 2 to 5.
    constants = {1024: 129093, 1536: 741804, 2048: 124476, 3072: 1690314, 4096: 240904}
    assert {prime.bit_length() for prime in PRIMES.values()} == set(constants)
    for group, prime in PRIMES.items():
        n = prime.bit_length()
        assert group.name == f"MODP_{n}"
        top = (pi >> (bits - (n - 130))) + constants[n]
        assert prime == 2**n - 2 ** (n - 64) - 1 + 2**64 * top


@pytest.mark.parametrize(("group", "i", "r", "shared"), RFC_5903)
def test_ecp_vectors_of_rfc_5903(group: Any, i: Any, r: Any, shared: Any) -> None:
    ours = dh.generate(group)
    ours._private = ec.derive_private_key(int(i, 16), CURVES[group])
    numbers = ec.derive_private_key(int(r, 16), CURVES[group]).public_key().public_numbers()
    half = dh.PUBLIC_OCTETS[group] // 2
    public = numbers.x.to_bytes(half, "big") + numbers.y.to_bytes(half, "big")
    assert ours.shared_secret(public) == bytes.fromhex(shared)


def test_x25519_vector_of_rfc_7748() -> None:
    private = bytes.fromhex("a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4")
    peer = bytes.fromhex("e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c")
    shared = bytes.fromhex("c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552")
    assert dh.generate(DhGroup.X25519, lambda size: private[:size]).shared_secret(peer) == shared


@pytest.mark.parametrize("group", [group for group in GROUPS if group not in KEMS])
def test_both_sides_agree(group: Any) -> None:
    a, b = dh.generate(group), dh.generate(group)
    assert a.public != b.public
    assert len(a.public) == len(b.public) == dh.PUBLIC_OCTETS[group]
    secret = a.shared_secret(b.public)
    assert secret == b.shared_secret(a.public)
    assert len(secret) == (len(a.public) // 2 if group in CURVES else len(a.public))


@pytest.mark.parametrize("group", GROUPS)
def test_a_responder_answers_any_method(group: Any) -> None:
    initiator = dh.generate(group)
    answer, secret = dh.respond(group, initiator.public)
    assert initiator.shared_secret(answer) == secret
    other, another = dh.respond(group, initiator.public)
    assert (other, another) != (answer, secret)


@pytest.mark.parametrize("group", KEMS)
def test_ml_kem_rejects_implicitly(group: Any) -> None:
    """A changed ciphertext gives another secret, and says nothing (FIPS 203, section 6.3)."""
    initiator = dh.generate(group)
    answer, secret = dh.respond(group, initiator.public)
    assert len(answer) == dh.CIPHERTEXT_OCTETS[group]
    changed = bytes([answer[0] ^ 1]) + answer[1:]
    assert initiator.shared_secret(changed) != secret
    for wrong in (b"", initiator.public[:-1], b"\xff" * len(initiator.public)):
        with pytest.raises(dh.InvalidKeyExchange):
            dh.respond(group, wrong)


@pytest.mark.parametrize("group", GROUPS)
def test_h18_wrong_length(group: Any) -> None:
    pair = dh.generate(group)
    size = dh.CIPHERTEXT_OCTETS.get(group, dh.PUBLIC_OCTETS[group])
    for wrong in (0, size - 1, size + 1):
        data = (b"\0" + pair.public * 2)[:wrong]
        with pytest.raises(dh.InvalidKeyExchange, match="octets"):
            pair.shared_secret(data)


@pytest.mark.parametrize("group", sorted(PRIMES))
def test_h18_modp_values_out_of_range(group: Any) -> None:
    pair, p = dh.generate(group), PRIMES[group]
    size = dh.PUBLIC_OCTETS[group]
    for value in (0, 1, p - 1, p, p + 1, 2 ** (8 * size) - 1):
        with pytest.raises(dh.InvalidKeyExchange):
            pair.shared_secret(value.to_bytes(size, "big"))


@pytest.mark.parametrize("group", sorted(CURVES))
def test_h18_points_off_the_curve(group: Any) -> None:
    pair = dh.generate(group)
    size = dh.PUBLIC_OCTETS[group]
    flipped = bytearray(pair.public)
    flipped[-1] ^= 1
    for data in (bytes(size), b"\xff" * size, bytes(flipped), bytes(size - 1) + b"\1"):
        with pytest.raises(dh.InvalidKeyExchange, match="not a point"):
            pair.shared_secret(data)


def test_h18_x25519_points_of_small_order() -> None:
    pair = dh.generate(DhGroup.X25519)
    p = 2**255 - 19
    small = 325606250916557431795983626356110631294008115727848805560023387167927233504
    for value in (0, 1, p - 1, p, p + 1, small):
        with pytest.raises(dh.InvalidKeyExchange, match="all-zero"):
            pair.shared_secret(value.to_bytes(32, "little"))


@pytest.mark.parametrize("group", [0, 1, 17, 22, 23, 24, 25, 32, 1025, 65535, -1])
def test_h18_unknown_groups(group: Any) -> None:
    with pytest.raises(ValueError, match="not supported"):
        dh.generate(group)


def test_modp_secret_keeps_leading_zeros() -> None:
    """RFC 7296 section 2.14: g^ir is padded with zeros to the length of the modulus."""
    group = DhGroup.MODP_1024
    size = dh.PUBLIC_OCTETS[group]
    a = dh.generate(group)
    for _ in range(5000):
        b = dh.generate(group)
        secret = a.shared_secret(b.public)
        assert len(secret) == size
        if secret[0] == 0:
            break
    else:
        pytest.fail("no secret with a leading zero")


def test_x25519_uses_the_injected_random() -> None:
    key = bytes(range(32))
    pair = dh.generate(DhGroup.X25519, lambda size: key[:size])
    private = x25519.X25519PrivateKey.from_private_bytes(key)
    assert pair.public == private.public_key().public_bytes_raw()
