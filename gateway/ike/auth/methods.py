"""The AUTH payload: shared keys and signatures (RFC 7296 section 2.15, RFC 4754, 7427, 8420)."""

from collections.abc import Collection

from cryptography import x509
from cryptography.hazmat.primitives import constant_time
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)

from gateway.ike.auth.algorithm_identifier import Scheme, SignatureAlgorithm, decode, encode
from gateway.ike.auth.certificates import key_problem, title_of
from gateway.ike.auth.credentials import LocalCredential, PresharedKey, PrivateKey
from gateway.ike.auth.identity import escape
from gateway.ike.auth.signatures import HASHES, KEYS, STRONG_HASHES, rsa_padding, verifies
from gateway.ike.crypto.prf import Prf
from gateway.ike.registry import AuthMethod, HashId

KEY_PAD = b"Key Pad for IKEv2"
MAX_SIGNATURE_OCTETS = 1024
"""An RSA key of 8192 bits signs with this many."""

SIGNATURE_HASHES = STRONG_HASHES
"""What we announce in SIGNATURE_HASH_ALGORITHMS and accept in method 14."""

_ECDSA_METHODS: dict[int, tuple[str, HashId, int]] = {
    AuthMethod.ECDSA_SHA256_P256: ("secp256r1", HashId.SHA2_256, 32),
    AuthMethod.ECDSA_SHA384_P384: ("secp384r1", HashId.SHA2_384, 48),
    AuthMethod.ECDSA_SHA512_P521: ("secp521r1", HashId.SHA2_512, 66),
}
_METHOD_OF_CURVE = {curve: method for method, (curve, _, _) in _ECDSA_METHODS.items()}


class AuthenticationRefused(ValueError):  # noqa: N818 - named for what it is
    """An AUTH payload was refused, or cannot be made. The text is for the administrator."""


def signed_octets(prf: Prf, sk_p: bytes, message: bytes, nonce: bytes, id_body: bytes) -> bytes:
    """What AUTH covers: our first message, the other side's nonce, prf(SK_p, identity).

    ``message`` is the signer's IKE_SA_INIT message; ``sk_p`` is SK_pi or SK_pr, ``id_body`` the ID
    payload after its generic header, both the signer's.
    """
    return message + nonce + prf.digest(sk_p, id_body)


def psk_auth(prf: Prf, psk: PresharedKey, octets: bytes) -> bytes:
    """The AUTH data of method 2."""
    return prf.digest(prf.digest(psk.secret, KEY_PAD), octets)


def verify_psk(prf: Prf, psk: PresharedKey, data: bytes, octets: bytes) -> None:
    """Check the AUTH data of method 2. Raises :class:`AuthenticationRefused`."""
    if not constant_time.bytes_eq(psk_auth(prf, psk, octets), data):
        raise AuthenticationRefused("the pre-shared keys differ")


def sign(
    credential: LocalCredential, octets: bytes, peer_hashes: Collection[int]
) -> tuple[AuthMethod, bytes]:
    """The authentication method and the AUTH data.

    ``peer_hashes`` is what the peer announced in SIGNATURE_HASH_ALGORITHMS, empty if it did not:
    then the older methods are used, RSA with SHA2-256. Raises :class:`AuthenticationRefused` if
    the peer announced nothing that our key can do.
    """
    key = credential.signing_key
    if not peer_hashes:
        return _sign_old(key, octets)
    algorithm = _choose(key, peer_hashes)
    identifier = encode(algorithm)
    signature = _sign(key, algorithm, octets)
    return AuthMethod.DIGITAL_SIGNATURE, bytes((len(identifier),)) + identifier + signature


def _choose(key: PrivateKey, peer_hashes: Collection[int]) -> SignatureAlgorithm:
    if isinstance(key, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey):
        scheme = Scheme.ED25519 if isinstance(key, ed25519.Ed25519PrivateKey) else Scheme.ED448
        wanted = [HashId.IDENTITY]
    elif isinstance(key, rsa.RSAPrivateKey):
        scheme = Scheme.RSA_PSS
        wanted = [HashId.SHA2_256, HashId.SHA2_384, HashId.SHA2_512]
    else:
        scheme = Scheme.ECDSA
        own = _ECDSA_METHODS[_METHOD_OF_CURVE[key.curve.name]][1]
        wanted = [own, HashId.SHA2_512, HashId.SHA2_384, HashId.SHA2_256]
    for hash_ in wanted:
        if hash_ in peer_hashes:
            salt = HASHES[hash_].digest_size if scheme is Scheme.RSA_PSS else 0
            return SignatureAlgorithm(scheme, hash_, salt)
    names = ", ".join(dict.fromkeys(hash_.name.replace("_", "-") for hash_ in wanted))
    raise AuthenticationRefused(
        f"our {scheme.value} key needs one of the hashes {names}; "
        f"the peer announced {sorted(peer_hashes)[:16]}"
    )


def _sign(key: PrivateKey, algorithm: SignatureAlgorithm, octets: bytes) -> bytes:
    if isinstance(key, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey):
        return key.sign(octets)
    hash_ = HASHES[algorithm.hash]
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(octets, rsa_padding(algorithm), hash_)
    return key.sign(octets, ec.ECDSA(hash_))


def _sign_old(key: PrivateKey, octets: bytes) -> tuple[AuthMethod, bytes]:
    if isinstance(key, rsa.RSAPrivateKey):
        algorithm = SignatureAlgorithm(Scheme.RSA_PKCS1, HashId.SHA2_256)
        return AuthMethod.RSA_SIGNATURE, _sign(key, algorithm, octets)
    if isinstance(key, ec.EllipticCurvePrivateKey):
        method = _METHOD_OF_CURVE[key.curve.name]
        _, hash_, half = _ECDSA_METHODS[method]
        signature = _sign(key, SignatureAlgorithm(Scheme.ECDSA, hash_), octets)
        r, s = decode_dss_signature(signature)
        return AuthMethod(method), r.to_bytes(half, "big") + s.to_bytes(half, "big")
    raise AuthenticationRefused(
        "the peer announced no signature hashes (RFC 7427), without which an Edwards curve key "
        "cannot be used; take an RSA or ECDSA certificate"
    )


def verify(
    certificate: x509.Certificate,
    method: int,
    data: bytes,
    octets: bytes,
    *,
    allow_sha1: bool = False,
) -> None:
    """Check a signature of the certificate's key over ``octets``.

    ``allow_sha1`` takes RSA PKCS#1 over SHA-1 in method 1, for peers that know nothing else.
    Raises :class:`AuthenticationRefused`.
    """
    key = certificate.public_key()
    problem = key_problem(key)
    if problem is not None:
        raise AuthenticationRefused(f"the key of {title_of(certificate.subject)} {problem}")
    if method == AuthMethod.DIGITAL_SIGNATURE:
        attempts, signature = _digital_signature(data)
    elif method == AuthMethod.RSA_SIGNATURE:
        accepted = [*SIGNATURE_HASHES[:3], *([HashId.SHA1] if allow_sha1 else [])]
        attempts = [SignatureAlgorithm(Scheme.RSA_PKCS1, hash_) for hash_ in accepted]
        signature = data
    elif method in _ECDSA_METHODS:
        attempts, signature = _ecdsa_method(key, method, data)
    else:
        raise AuthenticationRefused(
            f"authentication method {method} is not a signature that is known; "
            "allowed: 1, 9, 10, 11, 14"
        )
    if len(signature) > MAX_SIGNATURE_OCTETS:
        raise AuthenticationRefused(f"the signature has {len(signature)} octets")
    for algorithm in attempts:
        _require_key_of(key, algorithm.scheme)
        if verifies(key, algorithm, signature, octets):
            return
    sha1 = SignatureAlgorithm(Scheme.RSA_PKCS1, HashId.SHA1)
    if method == AuthMethod.RSA_SIGNATURE and verifies(key, sha1, signature, octets):
        raise AuthenticationRefused(
            "the signature is over SHA-1, which is too weak; let the peer announce and use "
            "SIGNATURE_HASH_ALGORITHMS (RFC 7427)"
        )
    raise AuthenticationRefused(
        f"the signature ({attempts[0].scheme.value}) does not fit the key of "
        f"{title_of(certificate.subject)}"
    )


def _digital_signature(data: bytes) -> tuple[list[SignatureAlgorithm], bytes]:
    size = data[0] if data else 0
    if not size or len(data) <= 1 + size:
        raise AuthenticationRefused("the AUTH payload is too short for a digital signature")
    try:
        algorithm = decode(data[1 : 1 + size])
    except ValueError as error:
        raise AuthenticationRefused(escape(str(error))) from None
    if algorithm.hash not in SIGNATURE_HASHES:
        raise AuthenticationRefused(f"{algorithm} is too weak")
    return [algorithm], data[1 + size :]


def _ecdsa_method(
    key: PublicKeyTypes, method: int, data: bytes
) -> tuple[list[SignatureAlgorithm], bytes]:
    curve, hash_, half = _ECDSA_METHODS[method]
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != curve:
        raise AuthenticationRefused(f"method {method} needs a key on {curve}")
    if len(data) != 2 * half:
        raise AuthenticationRefused(
            f"a signature of method {method} has {2 * half} octets, not {len(data)}"
        )
    r, s = int.from_bytes(data[:half], "big"), int.from_bytes(data[half:], "big")
    return [SignatureAlgorithm(Scheme.ECDSA, hash_)], encode_dss_signature(r, s)


def _require_key_of(key: PublicKeyTypes, scheme: Scheme) -> None:
    if not isinstance(key, KEYS[scheme]):
        raise AuthenticationRefused(
            f"the signature is {scheme.value}, but the certificate's key is of another kind"
        )
