"""Reading the PEM files and secrets that the configuration names."""

import stat
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from gateway.config.checks import check_secret
from gateway.config.connection import ConnectionSection
from gateway.config.document import Config
from gateway.config.findings import Findings

MAX_FILE_OCTETS = 1024 * 1024
MAX_SECRET_OCTETS = 4096
EXPIRY_WARNING = timedelta(days=30)


class FileRefusedError(Exception):
    """A file cannot be used; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class CredentialKeys:
    """Where a connection's credentials are: the key of the configuration and the files."""

    section: str
    certificate: Path | None
    private_key: Path | None
    ca_section: str
    ca_certificates: tuple[Path, ...]


def credential_keys(config: Config, name: str, section: ConnectionSection) -> CredentialKeys:
    """The connection's own files where it names them, else those of ``[credentials]``."""
    shared = config.credentials
    own = f"connections.{name}"
    mine = section.certificate is not None or section.private_key is not None
    return CredentialKeys(
        own if mine else "credentials",
        section.certificate if mine else shared.certificate,
        section.private_key if mine else shared.private_key,
        own if section.ca_certificates else "credentials",
        section.ca_certificates or shared.ca_certificates,
    )


def _read(path: Path, limit: int = MAX_FILE_OCTETS) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except FileNotFoundError:
        raise FileRefusedError("no such file") from None
    except PermissionError:
        raise FileRefusedError(
            "not readable by this user; become root or change its owner"
        ) from None
    except OSError as error:
        raise FileRefusedError(f"cannot be read: {error.strerror}") from None
    if len(data) > limit:
        raise FileRefusedError(f"larger than {limit} octets")
    return data


def read_certificates(path: Path) -> tuple[x509.Certificate, ...]:
    """All certificates of a PEM file, at least one. Raises :class:`FileRefusedError`."""
    data = _read(path)
    if b"-----BEGIN CERTIFICATE" not in data:
        if data[:1] == b"\x30":
            raise FileRefusedError(
                "is DER; convert it with: openssl x509 -inform der -in FILE -out NEW.pem"
            )
        raise FileRefusedError("holds no certificate; give a PEM file (BEGIN CERTIFICATE)")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # old CAs with odd serial numbers are not our problem
            return tuple(x509.load_pem_x509_certificates(data))
    except (ValueError, UnsupportedAlgorithm):
        raise FileRefusedError("holds a damaged certificate") from None


def read_authorities(path: Path) -> tuple[x509.Certificate, ...]:
    """The CA certificates of a file, or of a directory's ``*.pem`` and ``*.crt`` files."""
    if not path.is_dir():
        return read_certificates(path)
    try:
        files = sorted(f for f in path.iterdir() if f.suffix in (".pem", ".crt"))
    except OSError as error:
        raise FileRefusedError(f"cannot be read: {error.strerror}") from None
    if not files:
        raise FileRefusedError("is a directory without *.pem or *.crt files")
    found: list[x509.Certificate] = []
    for file in files:
        try:
            found += read_certificates(file)
        except FileRefusedError as error:
            raise FileRefusedError(f"{file.name} {error}") from None
    return tuple(found)


def read_private_key(path: Path) -> PrivateKeyTypes:
    """An unencrypted PEM private key. Raises :class:`FileRefusedError`."""
    data = _read(path)
    try:
        return load_pem_private_key(data, None)
    except TypeError:
        raise FileRefusedError(
            "is encrypted; decrypt it with: openssl pkey -in FILE -out NEW.key"
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise FileRefusedError("holds no usable private key; give an unencrypted PEM") from None


def read_secret(path: Path) -> str:
    """A shared secret: the file's text without the line end. Raises :class:`FileRefusedError`."""
    try:
        text = _read(path, MAX_SECRET_OCTETS).decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        raise FileRefusedError("is not UTF-8 text") from None
    if not text:
        raise FileRefusedError("is empty; write the shared secret into it")
    return text


def check_files(config: Config, path: Path) -> Findings:
    """Read every file the configuration names; note what is missing, wrong or about to expire."""
    findings = Findings(path)
    checked: set[tuple[object, ...]] = set()
    for name, section in config.connections.items():
        keys = credential_keys(config, name, section)
        if section.local_auth == "certificate":
            pair = (keys.section, keys.certificate, keys.private_key)
            if pair not in checked:
                checked.add(pair)
                _check_pair(keys, findings)
        if section.remote_auth == "certificate" and (keys.ca_section,) not in checked:
            checked.add((keys.ca_section,))
            _check_authorities(keys, f"connections.{name}", findings)
        if section.psk_file is not None:
            _check_secret_file(f"connections.{name}.psk_file", section.psk_file, findings)
        if section.psk is not None and _readable_by_others(path):
            why = f"the file is readable by others; run: chmod 600 {path}"
            findings.warn(f"connections.{name}.psk", None, why)
    if config.api.enabled and config.api.token_file is not None:
        _check_secret_file("api.token_file", config.api.token_file, findings)
    return findings


def _readable_by_others(path: Path) -> bool:
    try:
        return bool(path.stat().st_mode & (stat.S_IROTH | stat.S_IWOTH))
    except OSError:
        return False


def _check_secret_file(key: str, file: Path, findings: Findings) -> None:
    try:
        secret = read_secret(file)
    except FileRefusedError as error:
        findings.refuse(key, file, str(error))
        return
    check_secret(key, secret, findings)
    if _readable_by_others(file):
        findings.warn(key, file, f"readable by others; run: chmod 600 {file}")


def _check_pair(keys: CredentialKeys, findings: Findings) -> None:
    certificates: tuple[x509.Certificate, ...] = ()
    key: PrivateKeyTypes | None = None
    for field, file in (("certificate", keys.certificate), ("private_key", keys.private_key)):
        full = f"{keys.section}.{field}"
        if file is None:
            why = 'is required for local_auth = "certificate"; give a PEM file'
            findings.refuse(full, None, why)
            continue
        try:
            if field == "certificate":
                certificates = read_certificates(file)
            else:
                key = read_private_key(file)
        except FileRefusedError as error:
            findings.refuse(full, file, str(error))
            continue
        if field == "private_key" and _readable_by_others(file):
            findings.warn(full, file, f"readable by others; run: chmod 600 {file}")
    if certificates:
        _check_validity(f"{keys.section}.certificate", keys.certificate, certificates[:1], findings)
    if certificates and key is not None and _public(certificates[0]) != _public(key):
        why = f"does not belong to the first certificate of {keys.certificate}"
        findings.refuse(f"{keys.section}.private_key", keys.private_key, why)


def _public(source: x509.Certificate | PrivateKeyTypes) -> bytes:
    return source.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _check_authorities(keys: CredentialKeys, connection: str, findings: Findings) -> None:
    full = f"{keys.ca_section}.ca_certificates"
    if not keys.ca_certificates:
        why = f'is required by {connection}.remote_auth = "certificate"; list the CA\'s PEM file'
        findings.refuse(full, None, why)
    for file in keys.ca_certificates:
        try:
            authorities = read_authorities(file)
        except FileRefusedError as error:
            findings.refuse(full, file, str(error))
            continue
        for authority in authorities:
            if not _is_authority(authority):
                why = f'"{subject(authority)}" in it is not a CA certificate; remove it'
                findings.refuse(full, file, why)
        _check_validity(full, file, authorities, findings)


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    except x509.ExtensionNotFound:
        return certificate.subject == certificate.issuer  # version 1 roots have no extensions
    except ValueError:
        return False
    return constraints.value.ca


def subject(certificate: x509.Certificate) -> str:
    """The subject on one line, control characters escaped."""
    try:
        text = certificate.subject.rfc4514_string()
    except ValueError:
        return "?"
    return "".join(c if c.isprintable() else "?" for c in text)[:200]


def _check_validity(
    key: str, file: Path | None, certificates: Iterable[x509.Certificate], findings: Findings
) -> None:
    now = datetime.now(UTC)
    for certificate in certificates:
        until, since = certificate.not_valid_after_utc, certificate.not_valid_before_utc
        name = f'"{subject(certificate)}"'
        if until < now:
            why = f"{name} expired at {until:%Y-%m-%d %H:%M} UTC; renew it"
            findings.warn(key, file, why)
        elif since > now:
            why = f"{name} is valid from {since:%Y-%m-%d %H:%M} UTC only; check this host's clock"
            findings.warn(key, file, why)
        elif until - now < EXPIRY_WARNING:
            findings.warn(key, file, f"{name} expires at {until:%Y-%m-%d}; renew it")
