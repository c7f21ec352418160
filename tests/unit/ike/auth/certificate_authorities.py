"""Certificates for tests, made on the spot."""

from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

NOW = datetime(2030, 6, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)


@cache
def key(kind: str, number: int = 0) -> Any:
    """A private key of a kind; the same number gives the same key again."""
    del number
    match kind:
        case "ed25519":
            return ed25519.Ed25519PrivateKey.generate()
        case "ed448":
            return ed448.Ed448PrivateKey.generate()
        case "ecp256":
            return ec.generate_private_key(ec.SECP256R1())
        case "ecp384":
            return ec.generate_private_key(ec.SECP384R1())
        case "ecp521":
            return ec.generate_private_key(ec.SECP521R1())
        case "secp256k1":
            return ec.generate_private_key(ec.SECP256K1())
        case "rsa3":
            return rsa.generate_private_key(3, 2048)
        case _:
            return rsa.generate_private_key(65537, int(kind.removeprefix("rsa")))


def name(common: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Example"),
            x509.NameAttribute(NameOID.COMMON_NAME, common),
        ]
    )


class Authority:
    """A certificate and its key, which can issue others."""

    def __init__(self, certificate: x509.Certificate, private: Any) -> None:
        self.certificate = certificate
        self.private = private

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    def issue(
        self,
        common: str,
        *names: x509.GeneralName,
        ca: bool = False,
        kind: str = "ed25519",
        extensions: tuple[tuple[x509.ExtensionType, bool], ...] = (),
        path_length: int | None = None,
        before: datetime = NOW - DAY,
        after: datetime = NOW + 365 * DAY,
        digest: hashes.HashAlgorithm | None = None,
        public: Any = None,
    ) -> "Authority":
        private = key(kind, hash(common))
        certificate = build(
            name(common),
            self.certificate.subject,
            public or private.public_key(),
            self.private,
            names,
            ca=ca,
            extensions=extensions,
            path_length=path_length,
            before=before,
            after=after,
            digest=digest,
        )
        return Authority(certificate, private)


def build(
    subject: x509.Name,
    issuer: x509.Name,
    public: Any,
    signer: Any,
    names: tuple[x509.GeneralName, ...] = (),
    *,
    ca: bool = False,
    extensions: tuple[tuple[x509.ExtensionType, bool], ...] = (),
    path_length: int | None = None,
    before: datetime = NOW - DAY,
    after: datetime = NOW + 365 * DAY,
    digest: hashes.HashAlgorithm | None = None,
) -> x509.Certificate:
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(before)
        .not_valid_after(after)
    )
    if ca:
        builder = builder.add_extension(x509.BasicConstraints(True, path_length), critical=True)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    edwards = isinstance(signer, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey)
    return builder.sign(signer, None if edwards else digest or hashes.SHA256())


def root(common: str = "Root", kind: str = "ed25519", **options: Any) -> Authority:
    private = key(kind, hash(common))
    subject = name(common)
    options.setdefault("ca", True)
    certificate = build(subject, subject, private.public_key(), private, **options)
    return Authority(certificate, private)


def usage(*allowed: str) -> x509.KeyUsage:
    names = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    )
    return x509.KeyUsage(**{one: one in allowed for one in names})
