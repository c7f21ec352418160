"""Checking signatures with public keys, over messages and over signed ASN.1 objects."""

from dataclasses import dataclass
from itertools import islice

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from gateway.ike.auth.algorithm_identifier import Scheme, SignatureAlgorithm, decode
from gateway.ike.auth.der import SEQUENCE, element, elements, only
from gateway.ike.registry import HashId

HASHES: dict[HashId, hashes.HashAlgorithm] = {
    HashId.SHA1: hashes.SHA1(),  # noqa: S303 - verified only where it was asked for by name
    HashId.SHA2_256: hashes.SHA256(),
    HashId.SHA2_384: hashes.SHA384(),
    HashId.SHA2_512: hashes.SHA512(),
}
STRONG_HASHES = (HashId.SHA2_256, HashId.SHA2_384, HashId.SHA2_512, HashId.IDENTITY)
KEYS = {
    Scheme.RSA_PKCS1: rsa.RSAPublicKey,
    Scheme.RSA_PSS: rsa.RSAPublicKey,
    Scheme.ECDSA: ec.EllipticCurvePublicKey,
    Scheme.ED25519: ed25519.Ed25519PublicKey,
    Scheme.ED448: ed448.Ed448PublicKey,
}
_BIT_STRING = 0x03


def rsa_padding(algorithm: SignatureAlgorithm) -> padding.PSS | padding.PKCS1v15:
    """The padding that an RSA signature of this algorithm has."""
    if algorithm.scheme is Scheme.RSA_PSS:
        return padding.PSS(padding.MGF1(HASHES[algorithm.hash]), algorithm.salt)
    return padding.PKCS1v15()


def verifies(
    key: PublicKeyTypes,
    algorithm: SignatureAlgorithm,
    signature: bytes,
    octets: bytes,
    *,
    prehashed: bool = False,
) -> bool:
    """Whether the signature over ``octets`` is the key's.

    ``prehashed``: ``octets`` is already the digest, except with the Edwards curves.
    """
    try:
        if isinstance(key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
            key.verify(signature, octets)
            return True
        hash_: hashes.HashAlgorithm | Prehashed = HASHES[algorithm.hash]
        if prehashed:
            hash_ = Prehashed(HASHES[algorithm.hash])
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, octets, rsa_padding(algorithm), hash_)
        elif isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, octets, ec.ECDSA(hash_))
        else:
            return False
    except (InvalidSignature, ValueError, UnsupportedAlgorithm):
        return False
    return True


@dataclass(frozen=True, slots=True)
class SignedObject:
    """What is left to check of a signed object (RFC 5280 section 5.1.1, RFC 6960 section 4.2.1).

    Only the digest of large contents is kept, so that they need not stay in memory.
    """

    algorithm: SignatureAlgorithm
    signature: bytes
    _content: bytes

    @classmethod
    def split(cls, der: bytes, *, inner_algorithm: bool) -> "SignedObject":
        """Take content, algorithm and signature from ``SEQUENCE { content, algorithm, bits }``.

        ``inner_algorithm``: the content repeats the algorithm as its first SEQUENCE, which must be
        the same. Raises :class:`ValueError` for broken ASN.1, weak or unknown algorithms.
        """
        parts = list(elements(only(der, SEQUENCE)))
        if len(parts) < 3 or [tag for tag, _ in parts[:3]] != [SEQUENCE, SEQUENCE, _BIT_STRING]:
            raise ValueError("broken ASN.1: not a signed object")
        identifier, bits = parts[1][1], parts[2][1]
        if inner_algorithm and _first_sequence(parts[0][1]) != identifier:
            raise ValueError("it names two different signature algorithms")
        algorithm = decode(element(SEQUENCE, identifier))
        if algorithm.hash not in STRONG_HASHES:
            raise ValueError(f"it is signed with {algorithm}, which is too weak")
        if bits[:1] != b"\0":
            raise ValueError("broken ASN.1: signature")
        content = element(SEQUENCE, parts[0][1])
        if algorithm.hash is not HashId.IDENTITY:
            context = hashes.Hash(HASHES[algorithm.hash])
            context.update(content)
            content = context.finalize()
        return cls(algorithm, bits[1:], content)

    def signed_by(self, key: PublicKeyTypes) -> bool:
        """Whether the signature is the key's."""
        return isinstance(key, KEYS[self.algorithm.scheme]) and verifies(
            key, self.algorithm, self.signature, self._content, prehashed=True
        )


def _first_sequence(content: bytes) -> bytes | None:
    """The algorithm: only version and serial number may come before it."""
    first = islice(elements(content), 3)
    return next((value for tag, value in first if tag == SEQUENCE), None)
