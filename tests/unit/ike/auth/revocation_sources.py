"""CRLs and OCSP answers for tests, made on the spot; and the openssl CLI as a judge."""

import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from certificate_authorities import DAY, NOW, Authority
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed448, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509 import ocsp

HOUR = timedelta(hours=1)
COMPROMISE = x509.CRLReason(x509.ReasonFlags.key_compromise)
needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl CLI")


def signing_hash(private: Any) -> hashes.HashAlgorithm | None:
    edwards = isinstance(private, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey)
    return None if edwards else hashes.SHA256()


def entry(
    revoked: Authority | int, *extensions: tuple[x509.ExtensionType, bool], at: datetime = NOW - DAY
) -> x509.RevokedCertificate:
    serial = revoked if isinstance(revoked, int) else revoked.certificate.serial_number
    builder = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(at)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.build()


def crl(
    issuer: Authority,
    *entries: x509.RevokedCertificate,
    extensions: tuple[tuple[x509.ExtensionType, bool], ...] = (),
    this_update: datetime = NOW - HOUR,
    next_update: datetime = NOW + DAY,
    number: int | None = None,
    signer: Authority | None = None,
    digest: hashes.HashAlgorithm | None = None,
    encoding: Encoding = Encoding.DER,
) -> bytes:
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(this_update)
        .next_update(next_update)
    )
    builder._revoked_certificates = list(entries)  # adding one by one takes quadratic time
    if number is not None:
        builder = builder.add_extension(x509.CRLNumber(number), False)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    private = (signer or issuer).private
    return builder.sign(private, digest or signing_hash(private)).public_bytes(encoding)


def scope(**changes: Any) -> x509.IssuingDistributionPoint:
    fields: dict[str, Any] = {
        "full_name": None,
        "relative_name": None,
        "only_contains_user_certs": False,
        "only_contains_ca_certs": False,
        "only_some_reasons": None,
        "indirect_crl": False,
        "only_contains_attribute_certs": False,
    }
    return x509.IssuingDistributionPoint(**{**fields, **changes})


def answer(
    subject: Authority,
    issuer: Authority,
    *,
    status: ocsp.OCSPCertStatus = ocsp.OCSPCertStatus.GOOD,
    signer: Authority | None = None,
    certificates: tuple[Authority, ...] = (),
    this_update: datetime = NOW - HOUR,
    next_update: datetime | None = NOW + DAY,
    nonce: bytes | None = None,
    digest: hashes.HashAlgorithm | None = None,
    by_name: bool = False,
    extensions: tuple[tuple[x509.ExtensionType, bool], ...] = (),
) -> bytes:
    revoked = status is ocsp.OCSPCertStatus.REVOKED
    responder = signer or issuer
    encoding = ocsp.OCSPResponderEncoding.NAME if by_name else ocsp.OCSPResponderEncoding.HASH
    builder = (
        ocsp.OCSPResponseBuilder()
        .add_response(
            cert=subject.certificate,
            issuer=issuer.certificate,
            algorithm=digest or hashes.SHA1(),
            cert_status=status,
            this_update=this_update,
            next_update=next_update,
            revocation_time=NOW - DAY if revoked else None,
            revocation_reason=x509.ReasonFlags.key_compromise if revoked else None,
        )
        .responder_id(encoding, responder.certificate)
    )
    if certificates:
        builder = builder.certificates([one.certificate for one in certificates])
    if nonce is not None:
        builder = builder.add_extension(x509.OCSPNonce(nonce), False)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(responder.private, signing_hash(responder.private)).public_bytes(
        Encoding.DER
    )


def wall_clock() -> datetime:
    """For what the openssl CLI makes: it knows no other time."""
    return datetime.now(UTC)


def openssl(*arguments: str | Path) -> str:
    done = subprocess.run(
        ["openssl", *map(str, arguments)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


class OpensslCa:
    """A folder with which ``openssl ca`` and ``openssl ocsp`` act for an authority."""

    def __init__(
        self, folder: Path, authority: Authority, crl_extensions: str = "", version: int = 2
    ) -> None:
        self.folder = folder
        self.authority = authority
        self.index = folder / "index.txt"
        self.index.write_text("")
        (folder / "crlnumber").write_text("05\n")
        self.certificate = self.write("ca", authority)
        self.config = folder / "openssl.cnf"
        number = f"crlnumber = {folder}/crlnumber\n" if version == 2 else ""
        self.config.write_text(
            "[ca]\ndefault_ca = this\n[this]\n"
            f"database = {self.index}\n"
            f"{number}"
            f"certificate = {self.certificate}\nprivate_key = {folder}/ca.key\n"
            "default_md = sha256\ndefault_crl_days = 3\n" + crl_extensions
        )

    def write(self, stem: str, one: Authority) -> Path:
        key = one.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (self.folder / f"{stem}.key").write_bytes(key)
        path = self.folder / f"{stem}.pem"
        path.write_bytes(one.certificate.public_bytes(Encoding.PEM))
        return path

    def list(self, one: Authority, *, revoked: bool) -> None:
        """Enter a certificate in the index, as openssl itself writes it (UTCTime)."""
        until = one.certificate.not_valid_after_utc.strftime("%y%m%d%H%M%SZ")
        since = (wall_clock() - DAY).strftime("%y%m%d%H%M%SZ") + ",keyCompromise"
        serial = format(one.certificate.serial_number, "X")
        serial = serial if len(serial) % 2 == 0 else "0" + serial
        row = ["R" if revoked else "V", until, since if revoked else "", serial, "unknown", "/CN=x"]
        with self.index.open("a") as file:
            file.write("\t".join(row) + "\n")

    def crl(self, *options: str) -> bytes:
        out = self.folder / "out.crl"
        openssl("ca", "-config", self.config, "-gencrl", "-out", out, *options)
        return out.read_bytes()

    def answer(self, request: bytes, responder: Authority | None = None, *options: str) -> bytes:
        signer = self.write("responder", responder or self.authority)
        asked, out = self.folder / "request.der", self.folder / "response.der"
        asked.write_bytes(request)
        openssl(
            *("ocsp", "-index", self.index, "-CA", self.certificate, "-ndays", "1"),
            *("-rsigner", signer, "-rkey", signer.with_suffix(".key")),
            *("-reqin", asked, "-respout", out, *options),
        )
        return out.read_bytes()
