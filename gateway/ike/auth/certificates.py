"""Reading certificates from the network: bounded, once each, everything hostile refused."""

import warnings
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from threading import RLock

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.x509.oid import ExtensionOID

from gateway.ike.auth.identity import Identity, certificate_identities, escape

MAX_CERTIFICATE_OCTETS = 16_384
MIN_RSA_BITS = 2048
MAX_RSA_BITS = 8192
"""Larger keys only cost time."""
MAX_PARSED = 256
"""Certificates kept parsed."""

PublicKey = (
    rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | ed448.Ed448PublicKey
)

_CURVES = ("secp256r1", "secp384r1", "secp521r1")
_HANDLED = frozenset(
    (
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
        ExtensionOID.NAME_CONSTRAINTS,
        # No policy is ever required of a peer, so any policy is fine.
        ExtensionOID.CERTIFICATE_POLICIES,
    )
)
BROKEN = (
    ValueError,
    TypeError,
    OverflowError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
"""What the library raises for octets that are not what they should be."""


_QUIET = RLock()


class CertificateRefused(ValueError):  # noqa: N818 - named for what it is
    """A certificate or its chain was refused. The text is a sentence for the administrator."""


def key_problem(key: PublicKeyTypes) -> str | None:
    """Why a public key must not be used, in words that follow "key"; None if it may."""
    if isinstance(key, rsa.RSAPublicKey):
        if not MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS:
            return f"is RSA with {key.key_size} bits; {MIN_RSA_BITS} to {MAX_RSA_BITS} are allowed"
        exponent = key.public_numbers().e
        if exponent in (1, 3) or exponent % 2 == 0:
            return f"is RSA with the exponent {exponent}; use 65537"
        return None
    if isinstance(key, ec.EllipticCurvePublicKey):
        if key.curve.name in _CURVES:
            return None
        return f"is on the curve {key.curve.name}; allowed: {', '.join(_CURVES)}"
    if isinstance(key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
        return None
    return "is of a kind that cannot sign here; allowed: RSA, ECDSA, Ed25519, Ed448"


@dataclass(frozen=True, slots=True)
class ParsedCertificate:
    """A certificate with all that path validation looks at, read in one go."""

    certificate: x509.Certificate
    der: bytes
    subject: bytes
    issuer: bytes
    key: PublicKey
    not_before: datetime
    not_after: datetime
    is_ca: bool
    path_length: int | None
    usage: x509.KeyUsage | None
    extended_usage: x509.ExtendedKeyUsage | None
    constraints: x509.NameConstraints | None
    alternative_names: tuple[x509.GeneralName, ...]
    identities: tuple[Identity, ...]
    title: str
    """``"CN=alice, O=Example"`` in quotes, for messages."""

    @property
    def self_issued(self) -> bool:
        """Whether subject and issuer are the same name."""
        return self.subject == self.issuer


def title_of(name: x509.Name) -> str:
    """A certificate's name for messages: in quotes, printable, bounded."""
    identity = Identity(9, name.public_bytes())
    text = str(identity) if identity.distinguished_name() is not None else "(no name)"
    return f'"{escape(text, 120)}"'


def _critical_problem(extensions: x509.Extensions) -> str | None:
    for extension in extensions:
        if extension.critical and extension.oid not in _HANDLED:
            return f"has the critical extension {extension.oid.dotted_string}, which is not known"
    return None


def read(certificate: x509.Certificate, der: bytes) -> ParsedCertificate:
    """Take a certificate apart. Raises :class:`CertificateRefused`."""
    try:
        return _read(certificate, der)
    except CertificateRefused:
        raise
    except BROKEN as error:
        raise CertificateRefused(f"a certificate is broken: {escape(str(error), 160)}") from None


def _read(certificate: x509.Certificate, der: bytes) -> ParsedCertificate:
    title = title_of(certificate.subject)
    key = certificate.public_key()
    problem = key_problem(key)
    if problem is not None:
        raise CertificateRefused(f"the key of {title} {problem}")
    if not isinstance(key, PublicKey):
        raise CertificateRefused(f"the key of {title} cannot sign")
    extensions = certificate.extensions
    if certificate.version is not x509.Version.v3:
        raise CertificateRefused(f"the certificate of {title} is not of version 3")
    problem = _critical_problem(extensions)
    if problem is not None:
        raise CertificateRefused(f"the certificate of {title} {problem}")
    values = {extension.oid: extension.value for extension in extensions}
    basic = values.get(ExtensionOID.BASIC_CONSTRAINTS)
    usage = values.get(ExtensionOID.KEY_USAGE)
    extended = values.get(ExtensionOID.EXTENDED_KEY_USAGE)
    constraints = values.get(ExtensionOID.NAME_CONSTRAINTS)
    names = values.get(ExtensionOID.SUBJECT_ALTERNATIVE_NAME)
    is_ca = isinstance(basic, x509.BasicConstraints) and basic.ca
    return ParsedCertificate(
        certificate=certificate,
        der=der,
        subject=certificate.subject.public_bytes(),
        issuer=certificate.issuer.public_bytes(),
        key=key,
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        is_ca=is_ca,
        path_length=basic.path_length if isinstance(basic, x509.BasicConstraints) else None,
        usage=usage if isinstance(usage, x509.KeyUsage) else None,
        extended_usage=extended if isinstance(extended, x509.ExtendedKeyUsage) else None,
        constraints=constraints if isinstance(constraints, x509.NameConstraints) else None,
        alternative_names=(tuple(names) if isinstance(names, x509.SubjectAlternativeName) else ()),
        identities=certificate_identities(certificate),
        title=title,
    )


def digest(data: bytes) -> bytes:
    """A key for caches."""
    context = hashes.Hash(hashes.SHA256())
    context.update(data)
    return context.finalize()


@contextmanager
def quiet() -> Iterator[None]:
    """Without the library's warnings of odd encodings: nobody writes on our standard error.

    Filters belong to the whole process, hence one at a time: CRLs are read in a thread.
    """
    with _QUIET, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


class CertificateReader:
    """Parses DER certificates and remembers the last ones. Never fetches anything."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, ParsedCertificate] = OrderedDict()

    def parse(self, der: bytes) -> ParsedCertificate:
        """Read a certificate. Raises :class:`CertificateRefused`."""
        if len(der) > MAX_CERTIFICATE_OCTETS:
            raise CertificateRefused(
                f"a certificate has {len(der)} octets, at most {MAX_CERTIFICATE_OCTETS} are allowed"
            )
        fingerprint = digest(der)
        known = self._known.get(fingerprint)
        if known is not None:
            self._known.move_to_end(fingerprint)
            return known
        with quiet():
            try:
                certificate = x509.load_der_x509_certificate(der)
            except BROKEN as error:
                raise CertificateRefused(
                    f"a certificate is not X.509 in DER: {escape(str(error), 160)}"
                ) from None
            parsed = read(certificate, der)
        self._known[fingerprint] = parsed
        if len(self._known) > MAX_PARSED:
            self._known.popitem(last=False)
        return parsed
