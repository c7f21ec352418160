"""AUTH payloads: signatures and shared keys, right and hostile."""

import hmac
from typing import Any

import pytest
from certificate_authorities import Authority, key, root
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from hypothesis import given
from hypothesis import strategies as st

from gateway.ike.auth.algorithm_identifier import Scheme, SignatureAlgorithm, decode, encode
from gateway.ike.auth.credentials import LocalCredential, PresharedKey
from gateway.ike.auth.methods import (
    SIGNATURE_HASHES,
    AuthenticationRefused,
    psk_auth,
    sign,
    signed_octets,
    verify,
    verify_psk,
)
from gateway.ike.crypto.prf import Prf
from gateway.ike.registry import AuthMethod, HashId, PrfId

OCTETS = b"first message, nonce and identity"
KINDS = ["ed25519", "ed448", "ecp256", "ecp384", "ecp521", "rsa2048"]

# RFC 7427 appendix A, RFC 8420 appendix A.
SAMPLES = [
    ("300d06092a864886f70d0101050500", Scheme.RSA_PKCS1, HashId.SHA1, 0),
    ("300d06092a864886f70d01010b0500", Scheme.RSA_PKCS1, HashId.SHA2_256, 0),
    ("300d06092a864886f70d01010c0500", Scheme.RSA_PKCS1, HashId.SHA2_384, 0),
    ("300d06092a864886f70d01010d0500", Scheme.RSA_PKCS1, HashId.SHA2_512, 0),
    ("300906072a8648ce3d0401", Scheme.ECDSA, HashId.SHA1, 0),
    ("300a06082a8648ce3d040302", Scheme.ECDSA, HashId.SHA2_256, 0),
    ("300a06082a8648ce3d040303", Scheme.ECDSA, HashId.SHA2_384, 0),
    ("300a06082a8648ce3d040304", Scheme.ECDSA, HashId.SHA2_512, 0),
    (
        (
            "304106092a864886f70d01010a3034a00f300d06096086480165030402010500a11c301a06092a864886f7"
            "0d010108300d06096086480165030402010500a203020120"
        ),
        Scheme.RSA_PSS,
        HashId.SHA2_256,
        32,
    ),
    ("300506032b6570", Scheme.ED25519, HashId.IDENTITY, 0),
    ("300506032b6571", Scheme.ED448, HashId.IDENTITY, 0),
]


def signer(kind: str) -> LocalCredential:
    ca = root()
    leaf = ca.issue("alice", kind=kind)
    return LocalCredential((leaf.certificate,), leaf.private)


@pytest.mark.parametrize(("sample", "scheme", "hash_", "salt"), SAMPLES)
def test_algorithm_identifiers_of_the_appendices(
    sample: Any, scheme: Any, hash_: Any, salt: Any
) -> None:
    algorithm = SignatureAlgorithm(scheme, hash_, salt)
    assert decode(bytes.fromhex(sample)) == algorithm
    if hash_ is HashId.SHA1:
        with pytest.raises(ValueError, match="SHA-1"):
            encode(algorithm)
    else:
        assert encode(algorithm) == bytes.fromhex(sample)


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        ("300b06092a864886f70d01010a", "no parameters"),
        ("300d06092a864886f70d01010a3000", "must name the hash"),
        ("300d06092a864886f70d01010a0500", "no parameters"),
        ("300f06092a864886f70d01010b05000500", "takes no parameters"),
        ("300506032b6599", "not known|broken"),
        ("", "broken"),
        ("30", "broken"),
        ("3000", "broken"),
        ("300506032b657000", "broken"),
    ],
)
def test_h30_broken_algorithm_identifiers(sample: Any, message: Any) -> None:
    with pytest.raises(ValueError, match=message):
        decode(bytes.fromhex(sample))


def test_h30_pss_that_mixes_hashes() -> None:
    good = next(sample for sample, scheme, *_ in SAMPLES if scheme is Scheme.RSA_PSS)
    other = good[:-30].replace("0201", "0202") + good[-30:]
    with pytest.raises(ValueError, match="one hash"):
        decode(bytes.fromhex(other))


@given(st.binary(max_size=120))
def test_decoding_garbage_raises_value_error_only(data: Any) -> None:
    for start in (b"", bytes.fromhex("304106092a864886f70d01010a"), b"\x30" + bytes([len(data)])):
        try:
            decode(start + data)
        except ValueError:
            continue


@pytest.mark.parametrize("kind", KINDS)
def test_digital_signatures_of_every_kind(kind: Any) -> None:
    credential = signer(kind)
    method, data = sign(credential, OCTETS, SIGNATURE_HASHES)
    assert method == AuthMethod.DIGITAL_SIGNATURE
    verify(credential.certificates[0], method, data, OCTETS)
    for wrong in (data[:-1], data[:-1] + bytes([data[-1] ^ 1]), data + b"\0"):
        with pytest.raises(AuthenticationRefused):
            verify(credential.certificates[0], method, wrong, OCTETS)
    with pytest.raises(AuthenticationRefused, match="does not fit the key of"):
        verify(credential.certificates[0], method, data, OCTETS + b"!")


@pytest.mark.parametrize(
    ("kind", "method"), [("rsa2048", 1), ("ecp256", 9), ("ecp384", 10), ("ecp521", 11)]
)
def test_old_methods(kind: Any, method: Any) -> None:
    credential = signer(kind)
    used, data = sign(credential, OCTETS, ())
    assert used == method
    verify(credential.certificates[0], method, data, OCTETS)
    assert len(data) == {1: 256, 9: 64, 10: 96, 11: 132}[method]
    for wrong in (b"", data[:-1], bytes(len(data)), b"\xff" * len(data), data + b"\0"):
        with pytest.raises(AuthenticationRefused):
            verify(credential.certificates[0], method, wrong, OCTETS)


def test_the_hash_follows_what_the_peer_announced() -> None:
    rsa_key = signer("rsa2048")
    size = sign(rsa_key, OCTETS, (HashId.SHA2_512,))[1]
    assert decode(size[1 : 1 + size[0]]).hash == HashId.SHA2_512
    curve = signer("ecp384")
    for hash_ in (HashId.SHA2_256, HashId.SHA2_384, HashId.SHA2_512):
        method, data = sign(curve, OCTETS, (hash_,))
        assert decode(data[1 : 1 + data[0]]).hash == hash_
        verify(curve.certificates[0], method, data, OCTETS)
    with pytest.raises(AuthenticationRefused, match="needs one of the hashes"):
        sign(rsa_key, OCTETS, (HashId.SHA1, 99))
    for hashes_ in ((), (HashId.SHA2_256,)):
        with pytest.raises(AuthenticationRefused, match=r"Edwards|IDENTITY"):
            sign(signer("ed25519"), OCTETS, hashes_)


def test_pkcs1_in_method_14_and_other_salts() -> None:
    credential = signer("rsa2048")
    private = credential.signing_key
    prefix = encode(SignatureAlgorithm(Scheme.RSA_PKCS1, HashId.SHA2_384))
    signature = private.sign(OCTETS, padding.PKCS1v15(), hashes.SHA384())
    data = bytes([len(prefix)]) + prefix + signature
    verify(credential.certificates[0], 14, data, OCTETS)
    for salt in (0, 20, 64):
        prefix = encode(SignatureAlgorithm(Scheme.RSA_PSS, HashId.SHA2_256, salt))
        pss = padding.PSS(padding.MGF1(hashes.SHA256()), salt)
        data = bytes([len(prefix)]) + prefix + private.sign(OCTETS, pss, hashes.SHA256())
        verify(credential.certificates[0], 14, data, OCTETS)


def test_h30_sha1_only_by_name() -> None:
    credential = signer("rsa2048")
    signature = credential.signing_key.sign(OCTETS, padding.PKCS1v15(), hashes.SHA1())
    leaf = credential.certificates[0]
    with pytest.raises(AuthenticationRefused, match="SHA-1, which is too weak"):
        verify(leaf, 1, signature, OCTETS)
    with pytest.raises(AuthenticationRefused, match="does not fit"):
        verify(leaf, 1, signature, OCTETS + b"x")
    verify(leaf, 1, signature, OCTETS, allow_sha1=True)
    prefix = bytes.fromhex("300d06092a864886f70d0101050500")
    with pytest.raises(AuthenticationRefused, match="too weak"):
        verify(leaf, 14, bytes([len(prefix)]) + prefix + signature, OCTETS, allow_sha1=True)


@pytest.mark.parametrize("method", [0, 2, 3, 8, 12, 13, 15, 255, 65535])
def test_h30_wrong_methods(method: Any) -> None:
    with pytest.raises(AuthenticationRefused, match="not a signature"):
        verify(signer("ecp256").certificates[0], method, b"x" * 64, OCTETS)


def test_h30_method_and_key_of_different_kinds() -> None:
    rsa_key, curve = signer("rsa2048"), signer("ecp256")
    for certificate, method, data in (
        (rsa_key, 9, bytes(64)),
        (curve, 10, bytes(96)),
        (curve, 1, bytes(256)),
        (curve, *sign(rsa_key, OCTETS, SIGNATURE_HASHES)),
        (rsa_key, *sign(curve, OCTETS, SIGNATURE_HASHES)),
    ):
        with pytest.raises(AuthenticationRefused, match=r"needs a key on|another kind"):
            verify(certificate.certificates[0], method, data, OCTETS)


def test_h30_rsa_signatures_of_0_1_n_and_junk() -> None:
    private = key("rsa2048", 3)
    ca = root()
    certificate = ca.issue("rsa", public=private.public_key()).certificate
    numbers = private.private_numbers()
    n, d = numbers.public_numbers.n, numbers.d
    for value in (0, 1, n - 1, n):
        with pytest.raises(AuthenticationRefused):
            verify(certificate, 1, value.to_bytes(256, "big"), OCTETS)
    context = hashes.Hash(hashes.SHA256())
    context.update(OCTETS)
    info = bytes.fromhex("3031300d060960864801650304020105000420") + context.finalize()

    def signed(block: bytes) -> bytes:
        return pow(int.from_bytes(block, "big"), d, n).to_bytes(256, "big")

    full = b"\0\1" + b"\xff" * (256 - 3 - len(info)) + b"\0" + info
    verify(certificate, 1, signed(full), OCTETS)
    junk_after = b"\0\1" + b"\xff" * 8 + b"\0" + info + b"J" * (256 - 11 - len(info))
    junk_inside = b"\0\1" + b"\xff" * 8 + b"\0" + b"J" * (256 - 11 - len(info)) + info
    for block in (junk_after, junk_inside):
        with pytest.raises(AuthenticationRefused):
            verify(certificate, 1, signed(block), OCTETS)


@given(st.integers(0, 255), st.binary(max_size=200))
def test_h30_any_method_and_octets_are_refused_cleanly(method: Any, data: Any) -> None:
    for certificate in CERTIFICATES:
        with pytest.raises(AuthenticationRefused):
            verify(certificate.certificate, method, data, OCTETS)


CERTIFICATES: list[Authority] = [root().issue("k " + kind, kind=kind) for kind in KINDS]


def test_shared_key_is_the_formula_of_section_2_15() -> None:
    prf, psk = Prf(PrfId.HMAC_SHA2_256), PresharedKey(b"secret")
    inner = hmac.digest(b"secret", b"Key Pad for IKEv2", "sha256")
    data = psk_auth(prf, psk, OCTETS)
    assert data == hmac.digest(inner, OCTETS, "sha256")
    verify_psk(prf, psk, data, OCTETS)
    for wrong in (b"", data[:-1], data + b"\0", bytes(32)):
        with pytest.raises(AuthenticationRefused, match="pre-shared keys differ"):
            verify_psk(prf, psk, wrong, OCTETS)
    with pytest.raises(AuthenticationRefused):
        verify_psk(prf, PresharedKey(b"Secret"), data, OCTETS)


def test_signed_octets() -> None:
    prf = Prf(PrfId.HMAC_SHA2_384)
    octets = signed_octets(prf, b"p" * 48, b"message", b"nonce", b"\2\0\0\0host")
    expected = hmac.digest(b"p" * 48, b"\2\0\0\0host", "sha384")
    assert octets == b"message" + b"nonce" + expected
