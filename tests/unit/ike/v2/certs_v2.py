"""Certificates for the engine's tests: made once, under one test authority."""

from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID

from gateway.ike.auth.credentials import LocalCredential, TrustAnchors

START = datetime(2026, 1, 1, tzinfo=UTC)
YEAR = timedelta(days=365)


@cache
def _key(kind: str, label: str) -> Any:
    del label
    if kind == "rsa":
        return rsa.generate_private_key(65537, 2048)
    if kind == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    curves = {"p256": ec.SECP256R1(), "p384": ec.SECP384R1(), "p521": ec.SECP521R1()}
    return ec.generate_private_key(curves[kind])


def _hash(key: Any) -> Any:
    return None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


@cache
def authority(name: str = "Test CA", issuer: str | None = None) -> tuple[x509.Certificate, Any]:
    key = _key("p256", "ca " + name)
    signer = key if issuer is None else authority(issuer)[1]
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(_name(issuer or name))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(START - YEAR)
        .not_valid_after(START + 5 * YEAR)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=False,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                key_cert_sign=True,
                crl_sign=True,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
    )
    return builder.sign(signer, hashes.SHA256()), key


@cache
def credential(
    identity: str,
    kind: str = "p256",
    issuer: str = "Test CA",
    *,
    intermediate: bool = False,
    days: int = 365,
) -> LocalCredential:
    key = _key(kind, identity)
    chain: tuple[x509.Certificate, ...] = ()
    signer_name = issuer
    if intermediate:
        signer_name = "Test Intermediate"
        chain = (authority(signer_name, issuer)[0],)
    signer = authority(signer_name, issuer)[1] if intermediate else authority(issuer)[1]
    name = x509.RFC822Name(identity) if "@" in identity else x509.DNSName(identity)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(_name(identity))
        .issuer_name(_name(signer_name))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(START)
        .not_valid_after(START + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([name]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
        .sign(signer, _hash(authority(issuer)[1]))
    )
    return LocalCredential((certificate, *chain), key)


@cache
def anchors(name: str = "Test CA") -> TrustAnchors:
    return TrustAnchors((authority(name)[0],))
