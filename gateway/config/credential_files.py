"""Reading the PEM files and secrets that the configuration names."""

import warnings
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from gateway.config.connection import ConnectionSection
from gateway.config.document import Config
from gateway.config.provisioned import provisioned_files

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
    """The connection's own files where it names them, else those of ``[credentials]``.

    With ``[provisioning]`` the CA's own files count, too: its certificate for us where no other is
    named, and the CA beside those that are named for all.
    """
    shared, made = config.credentials, provisioned_files(config)
    own = f"connections.{name}"
    mine = section.certificate is not None or section.private_key is not None
    certificate, private_key = shared.certificate, shared.private_key
    authorities = shared.ca_certificates
    if made is not None:
        authorities = (*authorities, made.authorities)
        if certificate is None and private_key is None:
            certificate, private_key = made.certificate, made.private_key
    return CredentialKeys(
        own if mine else "credentials",
        section.certificate if mine else certificate,
        section.private_key if mine else private_key,
        own if section.ca_certificates else "credentials",
        section.ca_certificates or authorities,
    )


@dataclass(frozen=True, slots=True)
class RevocationKeys:
    """What a connection knows of revoked certificates, and the tables that say so."""

    mode: str
    mode_section: str
    crl_files: tuple[Path, ...]
    crl_section: str
    ocsp_responder: str | None
    ocsp_section: str


def revocation_keys(config: Config, name: str, section: ConnectionSection) -> RevocationKeys:
    """Each setting of the connection where it has it, else that of ``[credentials]``.

    The list of the built-in CA always counts where its certificates do.
    """
    shared, own = config.credentials, f"connections.{name}"
    made = provisioned_files(config)
    crl_files = section.crl_files or shared.crl_files
    if made is not None and made.crl not in crl_files and _counts(made.authorities, section):
        crl_files = (*crl_files, made.crl)
    return RevocationKeys(
        section.revocation or shared.revocation,
        own if section.revocation else "credentials",
        crl_files,
        own if section.crl_files else "credentials",
        section.ocsp_responder or shared.ocsp_responder,
        own if section.ocsp_responder else "credentials",
    )


def _counts(authorities: Path, section: ConnectionSection) -> bool:
    """Whether a connection believes the CAs of a file that is for all."""
    return not section.ca_certificates or authorities in section.ca_certificates


def read_file(path: Path, limit: int = MAX_FILE_OCTETS) -> bytes:
    """The content of a file. Raises :class:`FileRefusedError`."""
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except FileNotFoundError:
        raise FileRefusedError("no such file; create it, or correct the name") from None
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
    data = read_file(path)
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
    data = read_file(path)
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
        text = read_file(path, MAX_SECRET_OCTETS).decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        raise FileRefusedError("is not UTF-8 text") from None
    if not text:
        raise FileRefusedError("is empty; write the shared secret into it")
    return text


def subject(certificate: x509.Certificate) -> str:
    """The subject on one line, control characters escaped."""
    try:
        text = certificate.subject.rfc4514_string()
    except ValueError:
        return "?"
    return "".join(c if c.isprintable() else "?" for c in text)[:200]
