"""The built-in certificate authority: makes itself, issues, and judges what others issued.

Keys are ECDSA over P-256 or P-384, or RSA where a platform takes nothing else. Certificates have
what the clients of Apple, Windows, Android and strongSwan each demand: the identity as a subject
alternative name, and for a gateway the purposes serverAuth and IKE intermediate.
"""

import enum
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from gateway.provisioning.names import Kind, PeerName, one_line
from gateway.provisioning.problem import ProvisioningRefusedError

AUTHORITY_DAYS = 3650
GATEWAY_DAYS = 397
"""Apple takes no more than 398 from public CAs, 825 from others."""
DEVICE_DAYS = 730
MAX_DAYS = 3650
BACKDATE = timedelta(hours=1)
"""Clocks of devices are not all right."""
EARLIEST = datetime(2025, 1, 1, tzinfo=UTC)
"""A small board that has no clock begins in 1970, and so would its CA."""
MAX_PEM_OCTETS = 64 * 1024
IKE_INTERMEDIATE = ObjectIdentifier("1.3.6.1.5.5.8.2.2")
_MAX_COMMON_NAME = 64
"""Octets of UTF-8."""
_MIN_RSA_BITS = 2048
_CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey


class KeyKind(enum.StrEnum):
    """What kind of key is made."""

    P256 = "ecdsa-p256"
    P384 = "ecdsa-p384"
    RSA3072 = "rsa-3072"


def new_key(kind: KeyKind = KeyKind.P256) -> PrivateKey:
    """A new private key; RSA takes up to a second."""
    match kind:
        case KeyKind.P256:
            return ec.generate_private_key(ec.SECP256R1())
        case KeyKind.P384:
            return ec.generate_private_key(ec.SECP384R1())
        case KeyKind.RSA3072:
            return rsa.generate_private_key(public_exponent=65537, key_size=3072)


def kind_of(certificate: x509.Certificate) -> KeyKind | None:
    """The kind of a certificate's key; None for one that we do not make."""
    match certificate.public_key():
        case ec.EllipticCurvePublicKey(curve=ec.SECP256R1()):
            return KeyKind.P256
        case ec.EllipticCurvePublicKey(curve=ec.SECP384R1()):
            return KeyKind.P384
        case rsa.RSAPublicKey(key_size=3072):
            return KeyKind.RSA3072
    return None


def key_pem(key: PrivateKey) -> bytes:
    """The key as unencrypted PKCS#8 PEM."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def certificate_pem(certificate: x509.Certificate) -> bytes:
    """The certificate as PEM."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def serial_text(certificate: x509.Certificate) -> str:
    """The serial number in hexadecimal, as the store and the REST interface name it."""
    return f"{certificate.serial_number:x}"


@dataclass(frozen=True, slots=True)
class Authority:
    """A CA: its certificate, and its key when it is ours to use."""

    certificate: x509.Certificate
    key: PrivateKey | None = field(default=None, repr=False)

    @property
    def title(self) -> str:
        """Its common name, or its whole subject."""
        names = self.certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        return str(names[0].value) if names else self.certificate.subject.rfc4514_string()

    def issue_gateway(
        self, public_key: PublicKey, names: Sequence[PeerName], now: datetime, days: int
    ) -> x509.Certificate:
        """A gateway's certificate; the first name is its common name too.

        Raises :class:`ProvisioningRefusedError`.
        """
        if not names:
            raise ProvisioningRefusedError("gateway.name", "the gateway has no name to prove")
        purposes = [
            ExtendedKeyUsageOID.SERVER_AUTH,
            ExtendedKeyUsageOID.CLIENT_AUTH,
            IKE_INTERMEDIATE,
        ]
        return self._issue(
            public_key, _subject(names[0], names[0].plain), names, purposes, (now, days)
        )

    def issue_device(
        self, public_key: PublicKey, name: PeerName, device: str, now: datetime, days: int
    ) -> x509.Certificate:
        """A device's certificate: it proves ``name``.

        Raises :class:`ProvisioningRefusedError`.
        """
        purposes = [ExtendedKeyUsageOID.CLIENT_AUTH, IKE_INTERMEDIATE]
        return self._issue(public_key, _subject(name, device), [name], purposes, (now, days))

    def _issue(
        self,
        public_key: PublicKey,
        subject: x509.Name,
        names: Sequence[PeerName],
        purposes: Sequence[ObjectIdentifier],
        validity: tuple[datetime, int],
    ) -> x509.Certificate:
        (now, days), key = validity, self.key
        if key is None:
            why = f"the key of {one_line(self.title)} is not here; upload what it issued"
            raise ProvisioningRefusedError("ca", why)
        if not 1 <= days <= MAX_DAYS:
            raise ProvisioningRefusedError("lifetime_days", f"{days}: 1 to {MAX_DAYS} is allowed")
        if now < self.certificate.not_valid_before_utc:
            raise ProvisioningRefusedError("ca", _clock(now))
        end = min(now + timedelta(days=days), self.certificate.not_valid_after_utc)
        if end <= now:
            why = f"{one_line(self.title)} ended on {end:%Y-%m-%d}; create a new one"
            raise ProvisioningRefusedError("ca", why)
        start = max(now - BACKDATE, self.certificate.not_valid_before_utc)
        builder = _builder(subject, self.certificate.subject, public_key, start, end)
        builder = builder.add_extension(
            x509.BasicConstraints(ca=False, path_length=None), critical=True
        )
        builder = builder.add_extension(_usage(authority=False), critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        alternatives = [one for one in (name.in_certificate() for name in names) if one is not None]
        if alternatives:
            builder = builder.add_extension(
                x509.SubjectAlternativeName(dict.fromkeys(alternatives)), critical=False
            )
        builder = builder.add_extension(key_identifier(self.certificate), critical=False)
        return builder.sign(key, signing_digest(key))


def create(
    name: str, now: datetime, *, kind: KeyKind = KeyKind.P256, days: int = AUTHORITY_DAYS
) -> Authority:
    """A new CA. Raises :class:`ProvisioningRefusedError` for a name that is none."""
    text = name.strip()
    # Printable text has no surrogates, so it has octets.
    if not text.isprintable() or not 1 <= len(text.encode()) <= _MAX_COMMON_NAME:
        why = f"give a name of 1 to {_MAX_COMMON_NAME} printable characters (octets of UTF-8)"
        raise ProvisioningRefusedError("name", why)
    if now < EARLIEST:
        raise ProvisioningRefusedError("name", _clock(now))
    key = new_key(kind)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])
    end = now + timedelta(days=days)
    builder = _builder(subject, subject, key.public_key(), now - BACKDATE, end)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(authority=True), critical=True)
    return Authority(builder.sign(key, signing_digest(key)), key)


def _clock(now: datetime) -> str:
    return f"the clock of this host says {now:%Y-%m-%d %H:%M} UTC; set it first, by NTP for example"


def load(certificate: bytes, key: bytes | None, now: datetime) -> Authority:
    """A CA of others, or ours as it was stored: PEM. Raises :class:`ProvisioningRefusedError`."""
    found = read_certificate("certificate", certificate)
    try:
        constraints = found.extensions.get_extension_for_class(x509.BasicConstraints).value
        is_authority = constraints.ca
    except (x509.ExtensionNotFound, ValueError):
        is_authority = False
    if not is_authority:
        why = "is no CA (basicConstraints CA:TRUE is missing); give the certificate of the CA"
        raise ProvisioningRefusedError("certificate", why)
    if found.not_valid_after_utc <= now:
        why = f"ended on {found.not_valid_after_utc:%Y-%m-%d}; give one that is valid"
        raise ProvisioningRefusedError("certificate", why)
    checked_key("certificate", found.public_key())
    if key is None:
        return Authority(found)
    private = _read_key(key)
    if private.public_key() != found.public_key():
        why = "does not belong to the certificate; give the key of this CA"
        raise ProvisioningRefusedError("key", why)
    return Authority(found, private)


def read_certificate(field_name: str, pem: bytes) -> x509.Certificate:
    """One certificate of a PEM text. Raises :class:`ProvisioningRefusedError`."""
    if len(pem) > MAX_PEM_OCTETS:
        why = f"{len(pem)} octets, at most {MAX_PEM_OCTETS} are allowed"
        raise ProvisioningRefusedError(field_name, why)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what others issued is judged below, not in a log
            found = x509.load_pem_x509_certificate(pem)
            found.public_key()
            found.extensions  # noqa: B018 - parses them, so that nobody else meets the error
    except (ValueError, UnsupportedAlgorithm):
        why = "holds no usable certificate; give PEM (BEGIN CERTIFICATE)"
        raise ProvisioningRefusedError(field_name, why) from None
    return found


def _read_key(pem: bytes) -> PrivateKey:
    try:
        if len(pem) > MAX_PEM_OCTETS:
            raise ValueError
        key = serialization.load_pem_private_key(pem, None)
    except TypeError:
        why = "is encrypted; decrypt it with: openssl pkey -in FILE -out NEW.key"
        raise ProvisioningRefusedError("key", why) from None
    except (ValueError, UnsupportedAlgorithm):
        why = "holds no usable private key; give an unencrypted PEM"
        raise ProvisioningRefusedError("key", why) from None
    if not isinstance(key, PrivateKey):
        raise ProvisioningRefusedError("key", "is neither ECDSA nor RSA; give one that is")
    return key


def checked_key(field_name: str, key: object) -> PublicKey:
    """The public key if it is strong enough. Raises :class:`ProvisioningRefusedError`."""
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, _CURVES):
        return key
    if isinstance(key, rsa.RSAPublicKey) and _MIN_RSA_BITS <= key.key_size <= 2 * 4096:
        return key
    why = f"has another key than ECDSA over P-256, P-384, P-521 or RSA of {_MIN_RSA_BITS} bits up"
    raise ProvisioningRefusedError(field_name, why)


def read_request(pem: bytes) -> PublicKey:
    """The public key of a certificate request; whoever made it has the private one.

    Nothing else in it counts: whose key it is, the administrator says. Raises
    :class:`ProvisioningRefusedError`.
    """
    try:
        if len(pem) > MAX_PEM_OCTETS:
            raise ValueError
        request = x509.load_pem_x509_csr(pem)
        valid = request.is_signature_valid
        key = request.public_key()
    except (ValueError, UnsupportedAlgorithm):
        why = "is no certificate request; give PEM (BEGIN CERTIFICATE REQUEST)"
        raise ProvisioningRefusedError("request", why) from None
    if not valid:
        why = "its signature is wrong; make it anew with the private key it is for"
        raise ProvisioningRefusedError("request", why)
    return checked_key("request", key)


def check_uploaded(
    authority: Authority, certificate: x509.Certificate, name: PeerName, now: datetime
) -> None:
    """Whether a certificate that the CA issued elsewhere proves ``name`` now.

    Raises :class:`ProvisioningRefusedError`.
    """
    checked_key("certificate", certificate.public_key())
    try:
        certificate.verify_directly_issued_by(authority.certificate)
    except (ValueError, TypeError, InvalidSignature):
        why = f"was not issued by {one_line(authority.title)}"
        raise ProvisioningRefusedError("certificate", why) from None
    if not certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc:
        why = f"is valid until {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC, not now"
        raise ProvisioningRefusedError("certificate", why)
    if not _proves(certificate, name):
        why = f"does not name {one_line(name.plain)}; have it issued with that identity"
        raise ProvisioningRefusedError("certificate", why)


def _proves(certificate: x509.Certificate, name: PeerName) -> bool:
    if name.kind is Kind.SUBJECT:
        return certificate.subject.public_bytes() == name.octets or [
            (one.oid.dotted_string, one.value) for one in certificate.subject
        ] == list(name.attributes)
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return False
    return name.in_certificate() in list(names)


def _subject(name: PeerName, common_name: str) -> x509.Name:
    if name.kind is Kind.SUBJECT:
        attributes = [
            x509.NameAttribute(ObjectIdentifier(oid), value) for oid, value in name.attributes
        ]
        return x509.Name(attributes)
    text = one_line(common_name, _MAX_COMMON_NAME)
    text = text.encode("utf-8", "replace")[:_MAX_COMMON_NAME].decode("utf-8", "ignore")
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def signing_digest(key: PrivateKey) -> hashes.SHA256 | hashes.SHA384:
    """The hash that fits the strength of a key."""
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.key_size > 256:
        return hashes.SHA384()
    return hashes.SHA256()


def _builder(
    subject: x509.Name, issuer: x509.Name, key: PublicKey, start: datetime, end: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start.astimezone(UTC))
        .not_valid_after(end.astimezone(UTC))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def key_identifier(certificate: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    """How what a CA issues names the CA's key."""
    try:
        own = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        key = checked_key("ca", certificate.public_key())
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(key)
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )
