"""Certificates, keys and secrets: what is wrong with a file is said in one line."""

import pytest
from config_workshop import CA_KEY, GW_KEY, MINIMAL, Workshop, certificate, pem_key
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
)

from gateway.config.credential_files import read_authorities


def test_key_of_another_certificate(workshop: Workshop) -> None:
    workshop.put("gw.key", pem_key(ec.generate_private_key(ec.SECP256R1())))
    line = workshop.complaint(MINIMAL)
    assert line.startswith("gateway.toml: credentials.private_key = ")
    assert "the private key does not belong to the certificate of" in line


def test_encrypted_key(workshop: Workshop) -> None:
    data = GW_KEY.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"password")
    )
    workshop.put("gw.key", data)
    assert "is encrypted; decrypt it with: openssl pkey" in workshop.complaint(MINIMAL)


def test_der_certificate(workshop: Workshop) -> None:
    leaf = certificate("gw.example.com", GW_KEY, "Example CA", CA_KEY)
    workshop.put("gw.pem", leaf.public_bytes(Encoding.DER))
    assert "is DER; convert it with: openssl x509" in workshop.complaint(MINIMAL)


@pytest.mark.parametrize("middle", [b"", b"AAAA\n", b"!\n", b"MIIB\n" * 50])
def test_damaged_certificate(workshop: Workshop, middle: bytes) -> None:
    frame = b"-----BEGIN CERTIFICATE-----\n" + middle + b"-----END CERTIFICATE-----\n"
    workshop.put("gw.pem", frame)
    assert "damaged certificate" in workshop.complaint(MINIMAL)


def test_oversized_file(workshop: Workshop) -> None:
    workshop.put("gw.pem", b"x" * (1024 * 1024 + 1))
    assert "larger than 1048576 octets" in workshop.complaint(MINIMAL)


def test_directory_of_authorities(workshop: Workshop) -> None:
    folder = workshop.directory / "cas"
    folder.mkdir()
    text = workshop.changed('["ca.pem"]', '["cas"]')
    assert "is a directory without *.pem or *.crt files" in workshop.complaint(text)
    for name in ("one.pem", "two.crt", "README"):
        (folder / name).write_bytes((workshop.directory / "ca.pem").read_bytes())
    assert workshop.load(text)
    assert len(read_authorities(folder)) == 2
    (folder / "two.crt").write_text("nothing")
    assert "two.crt holds no certificate" in workshop.complaint(text)


def test_secret_file(workshop: Workshop) -> None:
    text = workshop.added("connections.staff", "remote_auth = 'psk'\npsk_file = 's'")
    assert "connections.staff.psk_file" in workshop.complaint(text)
    workshop.put("s", b"\n")
    assert "is empty; write the shared secret into it" in workshop.complaint(text)
    workshop.put("s", b"\xff\xfe")
    assert "is not UTF-8 text" in workshop.complaint(text)
    workshop.put("s", b"a secret of sufficient length\r\n")
    assert workshop.load(text)


def test_token_file(workshop: Workshop) -> None:
    text = workshop.added("api", "token_file = 'token'")
    assert "api.token_file" in workshop.complaint(text)
    assert workshop.load(text.replace("token_file", "enabled = false\ntoken_file"))


def test_files_are_beside_the_configuration(workshop: Workshop) -> None:
    assert workshop.load().credentials.certificate == workshop.directory / "gw.pem"


def test_a_connections_own_credentials(workshop: Workshop) -> None:
    lines = workshop.complaints(workshop.added("connections.staff", 'certificate = "gw.pem"'))
    why = 'is required for local_auth = "certificate"; give a PEM file'
    assert lines == [f"gateway.toml: connections.staff.private_key: {why}"]


def test_weak_key(workshop: Workshop) -> None:
    weak = rsa.generate_private_key(65537, 1024)
    leaf = certificate("gw.example.com", weak, "Example CA", CA_KEY)
    workshop.put("gw.key", pem_key(weak))
    workshop.put("gw.pem", leaf.public_bytes(Encoding.PEM))
    line = workshop.complaint(MINIMAL)
    assert line.startswith("gateway.toml: credentials.private_key = ")
    assert "1024" in line


def test_identity_that_the_certificate_does_not_name(workshop: Workshop) -> None:
    config = workshop.load(workshop.changed('name = "gw.example.com"', 'name = "other"'))
    (warning,) = config.warnings
    assert 'does not name our identity "other"' in str(warning)


def test_trusting_a_single_certificate(workshop: Workshop) -> None:
    (warning,) = workshop.load(workshop.changed('["ca.pem"]', '["gw.pem"]')).warnings
    assert '"CN=gw.example.com" is no CA; only this very certificate' in str(warning)
