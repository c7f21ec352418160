"""Checks of the credential files: missing, wrong, unfitting, about to expire."""

import stat
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

from gateway.config.checks import check_secret
from gateway.config.connection import ConnectionSection
from gateway.config.credential_files import (
    EXPIRY_WARNING,
    CredentialKeys,
    FileRefusedError,
    credential_keys,
    read_authorities,
    read_certificates,
    read_private_key,
    read_secret,
    subject,
)
from gateway.config.document import Config
from gateway.config.findings import Findings
from gateway.ike.auth.credentials import LocalCredential, TrustAnchors
from gateway.ike.auth.identity import Identity


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
                _check_pair(config, section, keys, findings)
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


def _check_pair(
    config: Config, section: ConnectionSection, keys: CredentialKeys, findings: Findings
) -> None:
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
    if certificates and key is not None:
        _check_credential(config, section, keys, (certificates, key), findings)


def _check_credential(
    config: Config,
    section: ConnectionSection,
    keys: CredentialKeys,
    pair: tuple[tuple[x509.Certificate, ...], PrivateKeyTypes],
    findings: Findings,
) -> None:
    try:
        credential = LocalCredential(*pair)
        identity = Identity.parse(section.local_id or config.gateway.name)
        proven = credential.proves(identity)
    except (ValueError, UnsupportedAlgorithm) as error:
        findings.refuse(f"{keys.section}.private_key", keys.private_key, str(error))
        return
    if not proven:
        why = (
            f'does not name our identity "{identity}", so peers may refuse it; '
            "issue one that does, or set local_id"
        )
        findings.warn(f"{keys.section}.certificate", keys.certificate, why)


def _check_authorities(keys: CredentialKeys, connection: str, findings: Findings) -> None:
    full = f"{keys.ca_section}.ca_certificates"
    if not keys.ca_certificates:
        why = f'is required by {connection}.remote_auth = "certificate"; list the CA\'s PEM file'
        findings.refuse(full, None, why)
    for file in keys.ca_certificates:
        try:
            authorities = read_authorities(file)
            TrustAnchors(authorities)
        except (FileRefusedError, ValueError) as error:
            findings.refuse(full, file, str(error))
            continue
        for authority in authorities:
            if not _is_authority(authority):
                why = f'"{subject(authority)}" is no CA; only this very certificate is accepted'
                findings.warn(full, file, why)
        _check_validity(full, file, authorities, findings)


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    except x509.ExtensionNotFound:
        return certificate.subject == certificate.issuer  # version 1 roots have no extensions
    except ValueError:
        return False
    return constraints.value.ca


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
