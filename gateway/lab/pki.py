"""Certificates for the lab: a CA, a gateway, devices, and the ones that must be refused."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
DAY = datetime.timedelta(days=1)


class KeyKind(Enum):
    """The kinds of key that the gateway has to know."""

    RSA = "rsa"
    ECDSA = "ecdsa"
    ED25519 = "ed25519"


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate and its private key."""

    certificate: x509.Certificate
    key: PrivateKey

    def certificate_pem(self) -> bytes:
        """The certificate as PEM."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def key_pem(self) -> bytes:
        """The private key as unencrypted PKCS#8 PEM."""
        return self.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )

    def write(self, folder: Path, name: str) -> tuple[Path, Path]:
        """Write NAME.crt and NAME.key (readable by the owner only); returns both paths."""
        folder.mkdir(parents=True, exist_ok=True)
        certificate, key = folder / f"{name}.crt", folder / f"{name}.key"
        certificate.write_bytes(self.certificate_pem())
        key.touch(mode=0o600)
        key.write_bytes(self.key_pem())
        return certificate, key


class Authority:
    """A certificate authority; two with the same name are still strangers to each other."""

    def __init__(self, name: str = "Lab CA", kind: KeyKind = KeyKind.ECDSA) -> None:
        key = _new_key(kind)
        subject = _name(name)
        now = datetime.datetime.now(datetime.UTC)
        builder = _builder(subject, subject, key, now - 2 * DAY, now + 3650 * DAY)
        builder = builder.add_extension(
            x509.BasicConstraints(ca=True, path_length=1), critical=True
        )
        builder = builder.add_extension(_usage(signs_certificates=True), critical=True)
        self.root = Issued(builder.sign(key, _digest(key)), key)

    def issue(
        self,
        name: str,
        *,
        kind: KeyKind = KeyKind.ECDSA,
        dns: Sequence[str] = (),
        emails: Sequence[str] = (),
        addresses: Sequence[IPv4Address] = (),
        valid_from: datetime.datetime | None = None,
        valid_until: datetime.datetime | None = None,
    ) -> Issued:
        """A certificate for CN=`name`, good for both ends of IKE, valid for a year unless told."""
        key = _new_key(kind)
        now = datetime.datetime.now(datetime.UTC)
        start, end = valid_from or now - DAY, valid_until or now + 365 * DAY
        builder = _builder(_name(name), self.root.certificate.subject, key, start, end)
        names: list[x509.GeneralName] = [x509.DNSName(each) for each in dns]
        names += [x509.RFC822Name(each) for each in emails]
        names += [x509.IPAddress(each) for each in addresses]
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        builder = builder.add_extension(
            x509.BasicConstraints(ca=False, path_length=None), critical=True
        )
        builder = builder.add_extension(_usage(signs_certificates=False), critical=True)
        purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.root.key.public_key())
        builder = builder.add_extension(authority, critical=False)
        return Issued(builder.sign(self.root.key, _digest(self.root.key)), key)

    def gateway(self, name: str = "gateway.example.com", kind: KeyKind = KeyKind.ECDSA) -> Issued:
        """The gateway's certificate: `name` is in it as a DNS name."""
        return self.issue(name, kind=kind, dns=[name])

    def device(self, name: str = "device@example.com", kind: KeyKind = KeyKind.ECDSA) -> Issued:
        """A device's certificate: `name` is in it as an e-mail address."""
        return self.issue(name, kind=kind, emails=[name])

    def expired(self, name: str = "device@example.com", kind: KeyKind = KeyKind.ECDSA) -> Issued:
        """A device's certificate whose last day was yesterday."""
        now = datetime.datetime.now(datetime.UTC)
        return self.issue(
            name, kind=kind, emails=[name], valid_from=now - 2 * DAY, valid_until=now - DAY
        )


def _new_key(kind: KeyKind) -> PrivateKey:
    match kind:
        case KeyKind.RSA:
            return rsa.generate_private_key(public_exponent=65537, key_size=2048)
        case KeyKind.ECDSA:
            return ec.generate_private_key(ec.SECP256R1())
        case KeyKind.ED25519:
            return ed25519.Ed25519PrivateKey.generate()


def _digest(key: PrivateKey) -> hashes.SHA256 | None:
    return None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()


def _name(common: str) -> x509.Name:
    organisation = x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Gateway Lab")
    return x509.Name([organisation, x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: PrivateKey,
    start: datetime.datetime,
    end: datetime.datetime,
) -> x509.CertificateBuilder:
    public = key.public_key()
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )
