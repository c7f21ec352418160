"""Signature algorithms as AlgorithmIdentifier octets (RFC 7427 appendix A, RFC 8420)."""

from dataclasses import dataclass
from enum import Enum

from gateway.ike.auth.der import OID, SEQUENCE, dotted, elements, only
from gateway.ike.registry import HashId

MAX_SALT_OCTETS = 512
"""No RSA key that we take has room for more."""


class Scheme(Enum):
    """Families of signatures."""

    RSA_PKCS1 = "RSA PKCS#1 v1.5"
    RSA_PSS = "RSA-PSS"
    ECDSA = "ECDSA"
    ED25519 = "Ed25519"
    ED448 = "Ed448"


@dataclass(frozen=True, slots=True)
class SignatureAlgorithm:
    """A scheme with its hash; ``salt`` in octets counts for RSA-PSS only."""

    scheme: Scheme
    hash: HashId
    salt: int = 0

    def __str__(self) -> str:
        if self.hash is HashId.IDENTITY:
            return self.scheme.value
        return f"{self.scheme.value} with {self.hash.name.replace('_', '-')}"


_NULL = bytes.fromhex("0500")
_RSASSA_PSS = "1.2.840.113549.1.1.10"
_MGF1 = "1.2.840.113549.1.1.8"
_HASHES = {
    "1.3.14.3.2.26": HashId.SHA1,
    "2.16.840.1.101.3.4.2.1": HashId.SHA2_256,
    "2.16.840.1.101.3.4.2.2": HashId.SHA2_384,
    "2.16.840.1.101.3.4.2.3": HashId.SHA2_512,
}
_HASH_DER = {
    HashId.SHA2_256: bytes.fromhex("0609608648016503040201"),
    HashId.SHA2_384: bytes.fromhex("0609608648016503040202"),
    HashId.SHA2_512: bytes.fromhex("0609608648016503040203"),
}
_SIMPLE: dict[bytes, SignatureAlgorithm] = {
    bytes.fromhex("2a864886f70d010105"): SignatureAlgorithm(Scheme.RSA_PKCS1, HashId.SHA1),
    bytes.fromhex("2a864886f70d01010b"): SignatureAlgorithm(Scheme.RSA_PKCS1, HashId.SHA2_256),
    bytes.fromhex("2a864886f70d01010c"): SignatureAlgorithm(Scheme.RSA_PKCS1, HashId.SHA2_384),
    bytes.fromhex("2a864886f70d01010d"): SignatureAlgorithm(Scheme.RSA_PKCS1, HashId.SHA2_512),
    bytes.fromhex("2a8648ce3d0401"): SignatureAlgorithm(Scheme.ECDSA, HashId.SHA1),
    bytes.fromhex("2a8648ce3d040302"): SignatureAlgorithm(Scheme.ECDSA, HashId.SHA2_256),
    bytes.fromhex("2a8648ce3d040303"): SignatureAlgorithm(Scheme.ECDSA, HashId.SHA2_384),
    bytes.fromhex("2a8648ce3d040304"): SignatureAlgorithm(Scheme.ECDSA, HashId.SHA2_512),
    bytes.fromhex("2b6570"): SignatureAlgorithm(Scheme.ED25519, HashId.IDENTITY),
    bytes.fromhex("2b6571"): SignatureAlgorithm(Scheme.ED448, HashId.IDENTITY),
}
_TO_OID = {algorithm: oid for oid, algorithm in _SIMPLE.items()}


def _tlv(tag: int, content: bytes) -> bytes:
    if len(content) >= 0x80:
        raise ValueError("an algorithm identifier is shorter than 128 octets")
    return bytes((tag, len(content))) + content


def encode(algorithm: SignatureAlgorithm) -> bytes:
    """The octets for an AUTH payload. Raises :class:`ValueError` for what we never sign with."""
    if algorithm.hash is HashId.SHA1:
        raise ValueError("signatures over SHA-1 are not made")
    if algorithm.scheme is Scheme.RSA_PSS:
        hash_ = _tlv(SEQUENCE, _HASH_DER[algorithm.hash] + _NULL)
        mgf = _tlv(SEQUENCE, _tlv(OID, bytes.fromhex("2a864886f70d010108")) + hash_)
        salt = _tlv(0xA2, _tlv(0x02, bytes((algorithm.salt,))))
        parameters = _tlv(SEQUENCE, _tlv(0xA0, hash_) + _tlv(0xA1, mgf) + salt)
        return _tlv(SEQUENCE, _tlv(OID, bytes.fromhex("2a864886f70d01010a")) + parameters)
    parameters = _NULL if algorithm.scheme is Scheme.RSA_PKCS1 else b""
    return _tlv(SEQUENCE, _tlv(OID, _TO_OID[algorithm]) + parameters)


def decode(data: bytes) -> SignatureAlgorithm:
    """Read the octets of an AUTH payload.

    Raises :class:`ValueError` for what is broken or unknown, and for RSA-PSS whose parameters are
    missing or do not use one hash throughout.
    """
    parts = list(elements(only(data, SEQUENCE)))
    if not parts or parts[0][0] != OID:
        raise ValueError("broken ASN.1: algorithm identifier")
    oid, parameters = parts[0][1], parts[1:]
    if dotted(oid) == _RSASSA_PSS:
        if len(parameters) != 1 or parameters[0][0] != SEQUENCE:
            raise ValueError("RSA-PSS has no parameters, which would mean SHA-1")
        return _pss(parameters[0][1])
    algorithm = _SIMPLE.get(oid)
    if algorithm is None:
        raise ValueError(f"signature algorithm {dotted(oid)} is not known")
    # Parameters are NULL with RSA, absent otherwise; both forms are seen everywhere.
    if parameters not in ([], [(0x05, b"")]):
        raise ValueError(f"{algorithm} takes no parameters")
    return algorithm


def _hash(data: bytes) -> HashId:
    parts = list(elements(only(data, SEQUENCE)))
    if not parts or parts[0][0] != OID or parts[1:] not in ([], [(0x05, b"")]):
        raise ValueError("broken ASN.1: hash algorithm")
    hash_ = _HASHES.get(dotted(parts[0][1]))
    if hash_ is None:
        raise ValueError(f"hash algorithm {dotted(parts[0][1])} is not known")
    return hash_


def _pss(content: bytes) -> SignatureAlgorithm:
    parts = list(elements(content))
    fields = dict(parts)
    if len(fields) != len(parts) or [tag for tag, _ in parts] != sorted(fields):
        raise ValueError("broken ASN.1: RSA-PSS parameters")
    if fields.keys() - {0xA0, 0xA1, 0xA2, 0xA3} or not {0xA0, 0xA1} <= fields.keys():
        raise ValueError("RSA-PSS parameters must name the hash and the mask generation function")
    hash_ = _hash(fields[0xA0])
    mgf = list(elements(only(fields[0xA1], SEQUENCE)))
    if len(mgf) != 2 or mgf[0][0] != OID or dotted(mgf[0][1]) != _MGF1:
        raise ValueError("RSA-PSS needs the mask generation function MGF1")
    if _hash(_tlv(*mgf[1])) != hash_:
        raise ValueError("RSA-PSS must use one hash for the message and the mask")
    salt = 20 if 0xA2 not in fields else _integer(fields[0xA2])
    if 0xA3 in fields and _integer(fields[0xA3]) != 1:
        raise ValueError("RSA-PSS has an unknown trailer")
    if salt > MAX_SALT_OCTETS:
        raise ValueError(f"RSA-PSS has a salt of {salt} octets")
    return SignatureAlgorithm(Scheme.RSA_PSS, hash_, salt)


def _integer(data: bytes) -> int:
    content = only(data, 0x02)
    if not 1 <= len(content) <= 4 or content[0] & 0x80:
        raise ValueError("broken ASN.1: number in RSA-PSS parameters")
    return int.from_bytes(content, "big")
