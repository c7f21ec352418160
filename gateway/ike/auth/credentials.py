"""What we prove ourselves with, and what we accept as proof of a peer."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.ike.auth import path_validation
from gateway.ike.auth.certificates import (
    CertificateReader,
    CertificateRefused,
    ParsedCertificate,
    digest,
    key_problem,
    read,
    title_of,
)
from gateway.ike.auth.crl import Crl
from gateway.ike.auth.identity import Identity, certificate_identities
from gateway.ike.auth.ocsp import OcspRequest
from gateway.ike.auth.revocation import Revocation, RevocationPending

__all__ = [
    "CertificateRefused",
    "LocalCredential",
    "PresharedKey",
    "PrivateKey",
    "RevocationPending",
    "TrustAnchors",
]

MAX_CHAIN_CERTIFICATES = 8
MAX_CHAIN_OCTETS = 65_536
MAX_VALIDATED = 1024
"""Accepted chains remembered until a certificate in them expires."""

PrivateKey = (
    rsa.RSAPrivateKey
    | ec.EllipticCurvePrivateKey
    | ed25519.Ed25519PrivateKey
    | ed448.Ed448PrivateKey
)


@dataclass(frozen=True, slots=True)
class PresharedKey:
    """A shared secret; never shown. Raises :class:`ValueError` if it is empty."""

    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if not self.secret:
            raise ValueError("the pre-shared key is empty")


@dataclass(frozen=True, slots=True)
class LocalCredential:
    """Our certificate chain, leaf first, and the leaf's private key.

    Raises :class:`ValueError` if they do not belong together or the key is too weak.
    """

    certificates: tuple[x509.Certificate, ...]
    private_key: PrivateKeyTypes = field(repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.certificates:
            raise ValueError("no certificate")
        leaf = self.certificates[0]
        if not isinstance(self.private_key, PrivateKey):
            raise ValueError("the private key cannot sign; use RSA, ECDSA, Ed25519 or Ed448")
        public = self.private_key.public_key()
        if _spki(public) != _spki(leaf.public_key()):
            raise ValueError(
                f"the private key does not belong to the certificate of {title_of(leaf.subject)}"
            )
        problem = key_problem(public)
        if problem is not None:
            raise ValueError(f"the private key {problem}")

    @property
    def signing_key(self) -> PrivateKey:
        """The private key, of a kind that can sign."""
        if not isinstance(self.private_key, PrivateKey):
            raise TypeError("the private key cannot sign")
        return self.private_key

    def proves(self, identity: Identity) -> bool:
        """Whether the leaf names the identity, so that peers can accept it as ours."""
        return any(identity.same_as(one) for one in certificate_identities(self.certificates[0]))


def _spki(key: object) -> bytes:
    encode = getattr(key, "public_bytes", None)
    if encode is None:
        raise ValueError("the key has no public form")
    encoded: bytes = encode(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return encoded


class TrustAnchors:
    """Certificates that are trusted as such: authorities, or a peer's own certificate.

    ``revocation`` says which CRLs and which OCSP responder to believe; None checks nothing.
    Immutable but for that and its caches; equal if it trusts the same certificates. Raises
    :class:`CertificateRefused` (a :class:`ValueError`) for an anchor that cannot be used.
    """

    __slots__ = ("_anchors", "_hashes", "_reader", "_validated", "certificates", "revocation")

    def __init__(
        self, certificates: Sequence[x509.Certificate], revocation: Revocation | None = None
    ) -> None:
        if not certificates:
            raise ValueError("no trusted certificate")
        self.certificates = tuple(certificates)
        self._anchors = tuple(read(one, one.public_bytes(Encoding.DER)) for one in certificates)
        self._reader = CertificateReader()
        self._hashes = b"".join(_sha1(_spki(anchor.key)) for anchor in self._anchors)
        self._validated: OrderedDict[
            tuple[bytes, Identity], tuple[list[ParsedCertificate], datetime, datetime]
        ] = OrderedDict()
        self.revocation = revocation

    def __eq__(self, other: object) -> bool:
        # The same authorities: how revocation is looked at does not end sessions when it changes.
        return isinstance(other, TrustAnchors) and self.certificates == other.certificates

    def __hash__(self) -> int:
        return hash(self._hashes)

    def __repr__(self) -> str:
        return f"TrustAnchors({', '.join(anchor.title for anchor in self._anchors)})"

    def hash_list(self) -> bytes:
        """The SHA-1 hashes of the anchors' public keys, for CERTREQ (RFC 7296 section 3.7)."""
        return self._hashes

    def validate(
        self, chain_der: Sequence[bytes], identity: Identity, now: datetime
    ) -> x509.Certificate:
        """The leaf, if a path leads from it to an anchor at ``now`` and it names the identity.

        ``chain_der``: what the peer sent, leaf first, the rest in any order; ``now`` knows its time
        zone. Nothing is fetched. Raises :class:`CertificateRefused`, and of that the
        :class:`RevocationPending` where an OCSP responder must be asked before one can tell.
        """
        if now.tzinfo is None:
            raise TypeError("the time has no time zone")
        if not chain_der:
            raise CertificateRefused("the peer sent no certificate")
        if len(chain_der) > MAX_CHAIN_CERTIFICATES:
            raise CertificateRefused(
                f"the peer sent {len(chain_der)} certificates, "
                f"at most {MAX_CHAIN_CERTIFICATES} are allowed"
            )
        total = sum(map(len, chain_der))
        if total > MAX_CHAIN_OCTETS:
            raise CertificateRefused(
                f"the certificates have {total} octets, at most {MAX_CHAIN_OCTETS} are allowed"
            )
        path = self._path(chain_der, identity, now)
        if self.revocation is not None:
            self.revocation.check(path, now)
        return path[0].certificate

    def check_revocation(self, path_der: Sequence[bytes], now: datetime) -> None:
        """Judge a path that another protocol has validated (EAP-TLS), leaf first, anchor last.

        Raises :class:`CertificateRefused`, and :class:`RevocationPending` as :meth:`validate`.
        """
        if self.revocation is not None and path_der:
            self.revocation.check([self._reader.parse(der) for der in path_der], now)

    def _path(
        self, chain_der: Sequence[bytes], identity: Identity, now: datetime
    ) -> list[ParsedCertificate]:
        """A valid path, searched for once while none of its certificates begins or ends."""
        key = (b"".join(map(digest, chain_der)), identity)
        known = self._validated.get(key)
        if known is not None and known[1] <= now <= known[2]:
            self._validated.move_to_end(key)
            return known[0]
        supplied: list[ParsedCertificate] = [self._reader.parse(der) for der in chain_der]
        path = path_validation.find_path(supplied[0], supplied[1:], self._anchors, now)
        path_validation.check_leaf(supplied[0], identity)
        first = max(one.not_before for one in path)
        last = min(one.not_after for one in path)
        self._validated[key] = (path, first, last)
        if len(self._validated) > MAX_VALIDATED:
            self._validated.popitem(last=False)
        return path

    def check_crls(self, crls: Sequence[Crl]) -> None:
        """Whether the lists could be put in force. Raises :class:`CrlRefused`."""
        if self.revocation is not None:
            self.revocation.check_crls(crls, self._anchors)

    def take_crls(self, source: str, crls: tuple[Crl, ...]) -> None:
        """Put the lists of a file in force instead of its former. Raises :class:`CrlRefused`."""
        if self.revocation is not None:
            self.revocation.take_crls(source, crls, self._anchors)

    def take_ocsp_response(
        self, request: OcspRequest, der: bytes | None, now: datetime
    ) -> str | None:
        """The responder's answer to a :class:`RevocationPending`, or None if none came.

        Returns why it does not count, for the log; then :meth:`validate` decides without it.
        """
        if self.revocation is None:
            return None
        return self.revocation.take_response(request, der, now)


def _sha1(data: bytes) -> bytes:
    # A name for a key, prescribed by RFC 7296 section 3.7; nothing is authenticated with it.
    context = hashes.Hash(hashes.SHA1())  # noqa: S303
    context.update(data)
    return context.finalize()
