"""Signatures of HASH_I and HASH_R: RSA (RFC 2409 section 5.1) and ECDSA (RFC 4754)."""

import hmac

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.asymmetric.utils import (
    NoDigestInfo,
    Prehashed,
    decode_dss_signature,
    encode_dss_signature,
)

from gateway.ike.auth.certificates import key_problem, title_of
from gateway.ike.auth.credentials import LocalCredential, PrivateKey
from gateway.ike.auth.methods import MAX_SIGNATURE_OCTETS, AuthenticationRefused
from gateway.ike.crypto.prf import Prf
from gateway.ike.registry import PrfId
from gateway.ike.v1.sa import AuthMethod

_ECDSA: dict[AuthMethod, tuple[str, hashes.HashAlgorithm, PrfId, int]] = {
    AuthMethod.ECDSA_SHA256_P256: ("secp256r1", hashes.SHA256(), PrfId.HMAC_SHA2_256, 32),
    AuthMethod.ECDSA_SHA384_P384: ("secp384r1", hashes.SHA384(), PrfId.HMAC_SHA2_384, 48),
    AuthMethod.ECDSA_SHA512_P521: ("secp521r1", hashes.SHA512(), PrfId.HMAC_SHA2_512, 66),
}
_METHOD_OF_CURVE = {curve: method for method, (curve, *_) in _ECDSA.items()}


def method_of_key(key: PrivateKey) -> AuthMethod | None:
    """The authentication method that a key of ours can do; None for Edwards curves."""
    if isinstance(key, rsa.RSAPrivateKey):
        return AuthMethod.RSA_SIGNATURES
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return _METHOD_OF_CURVE.get(key.curve.name)
    return None


def prf_of_hash(method: AuthMethod, negotiated: Prf) -> Prf:
    """The function that makes HASH_I and HASH_R: ECDSA methods bring their own."""
    return Prf.of(_ECDSA[method][2]) if method in _ECDSA else negotiated


def sign(credential: LocalCredential, method: AuthMethod, hash_: bytes) -> bytes:
    """The data of our SIG payload over HASH_I or HASH_R.

    RSA encrypts the hash itself, without the DigestInfo of PKCS #1; an ECDSA signature is r and s
    side by side. Raises :class:`AuthenticationRefused` where our key is of another kind.
    """
    key = credential.signing_key
    if method in _ECDSA:
        curve, algorithm, _, half = _ECDSA[method]
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != curve:
            raise AuthenticationRefused(f"{method.name} needs a key on {curve}")
        r, s = decode_dss_signature(key.sign(hash_, ec.ECDSA(Prehashed(algorithm))))
        return r.to_bytes(half, "big") + s.to_bytes(half, "big")
    if not isinstance(key, rsa.RSAPrivateKey):
        raise AuthenticationRefused(f"{method.name} needs an RSA key")
    return key.sign(hash_, padding.PKCS1v15(), NoDigestInfo())


def verify(
    certificate: x509.Certificate, method: AuthMethod, hash_: bytes, signature: bytes
) -> None:
    """Check the peer's SIG payload. Raises :class:`AuthenticationRefused`."""
    key = certificate.public_key()
    title = title_of(certificate.subject)
    problem = key_problem(key)
    if problem is not None:
        raise AuthenticationRefused(f"the key of {title} {problem}")
    if len(signature) > MAX_SIGNATURE_OCTETS:
        raise AuthenticationRefused(f"the signature has {len(signature)} octets")
    try:
        fits = _fits(key, method, hash_, signature)
    except (InvalidSignature, ValueError, UnsupportedAlgorithm):
        fits = False
    if not fits:
        raise AuthenticationRefused(f"the {method.name} signature does not fit the key of {title}")


def _fits(key: PublicKeyTypes, method: AuthMethod, hash_: bytes, signature: bytes) -> bool:
    if method not in _ECDSA:
        if not isinstance(key, rsa.RSAPublicKey):
            return False
        signed = key.recover_data_from_signature(signature, padding.PKCS1v15(), None)
        return hmac.compare_digest(signed, hash_)
    curve, algorithm, _, half = _ECDSA[method]
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != curve:
        return False
    if len(signature) != 2 * half:
        return False
    r, s = int.from_bytes(signature[:half], "big"), int.from_bytes(signature[half:], "big")
    key.verify(encode_dss_signature(r, s), hash_, ec.ECDSA(Prehashed(algorithm)))
    return True
