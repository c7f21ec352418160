"""A directory with a small CA, a certificate of the gateway and a minimal configuration."""

from __future__ import annotations

import datetime
import textwrap
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from gateway.config import Config, ConfigError, load

MINIMAL = """
[gateway]
name = "gw.example.com"

[credentials]
ca_certificates = ["ca.pem"]
certificate = "gw.pem"
private_key = "gw.key"

[pools.staff]
network = "10.83.112.0/22"

[connections.staff]
remote_id = "*@example.com"
pool = "staff"
local_subnets = ["10.1.0.0/16"]
"""


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def certificate(
    name: str,
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey,
    issuer: str,
    issuer_key: ec.EllipticCurvePrivateKey,
    *,
    ca: bool = False,
    since_days: float = -1,
    until_days: float = 365,
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(_name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + datetime.timedelta(days=since_days))
        .not_valid_after(now + datetime.timedelta(days=until_days))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(issuer_key, hashes.SHA256())
    )


def pem_key(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


CA_KEY = ec.generate_private_key(ec.SECP256R1())
GW_KEY = ec.generate_private_key(ec.SECP256R1())


@dataclass
class Workshop:
    """Writes configurations beside a set of good credential files."""

    directory: Path

    def write(self, text: str, name: str = "gateway.toml") -> Path:
        path = self.directory / name
        path.write_text(textwrap.dedent(text))
        path.chmod(0o600)
        return path

    def put(self, name: str, data: bytes) -> Path:
        path = self.directory / name
        path.write_bytes(data)
        path.chmod(0o600)
        return path

    def load(self, text: str = MINIMAL) -> Config:
        return load(self.write(text))

    def complaints(self, text: str) -> list[str]:
        with pytest.raises(ConfigError) as refused:
            self.load(text)
        assert str(refused.value).splitlines() == [str(p) for p in refused.value.problems]
        return [str(problem) for problem in refused.value.problems]

    def complaint(self, text: str) -> str:
        """The one complaint about a text."""
        lines = self.complaints(text)
        assert len(lines) == 1, lines
        assert "\n" not in lines[0]
        return lines[0]

    def changed(self, old: str, new: str) -> str:
        """The minimal configuration with a text replaced."""
        assert old in MINIMAL
        return MINIMAL.replace(old, new)

    def added(self, section: str, line: str) -> str:
        """The minimal configuration with a line more in a section that it has or gets."""
        header = f"[{section}]\n"
        if header in MINIMAL:
            return MINIMAL.replace(header, f"{header}{line}\n")
        return f"{MINIMAL}\n{header}{line}\n"
