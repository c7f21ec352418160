"""Checks of the credential files: missing, wrong, unfitting, about to expire."""

import stat
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

from gateway.config import to_policy, to_users
from gateway.config.checks import check_secret
from gateway.config.connection import ConnectionSection
from gateway.config.credential_files import (
    EXPIRY_WARNING,
    CredentialKeys,
    FileRefusedError,
    credential_keys,
    read_authorities,
    read_certificates,
    read_file,
    read_private_key,
    read_secret,
    revocation_keys,
    subject,
)
from gateway.config.credential_reader import CredentialReader
from gateway.config.document import Config
from gateway.config.findings import Findings
from gateway.config.mobility_node_checks import check_mobility_files
from gateway.config.provisioned import still_to_be_made
from gateway.config.to_nar import tls_files
from gateway.domain.user_auth import LOCAL
from gateway.ike.auth import crl
from gateway.ike.auth.credentials import LocalCredential, TrustAnchors
from gateway.ike.auth.identity import Identity
from gateway.ike.v1.methods import method_of
from gateway.names.settings import secret_of
from gateway.users.document import UserFileError
from gateway.users.store import UserBase


def check_files(config: Config, path: Path) -> Findings:
    """Read every file the configuration names; note what is missing, wrong or about to expire."""
    findings = Findings(path)
    checked: set[tuple[object, ...]] = set()
    for name, section in config.connections.items():
        keys = credential_keys(config, name, section)
        if section.needs_certificate:
            pair = (keys.section, keys.certificate, keys.private_key)
            if pair not in checked:
                checked.add(pair)
                if not _to_be_made(config, keys.certificate, findings):
                    _check_pair(config, section, keys, findings)
        if section.needs_authorities and (keys.ca_section,) not in checked:
            checked.add((keys.ca_section,))
            there = [file for file in keys.ca_certificates if not still_to_be_made(config, file)]
            if there or not keys.ca_certificates:
                _check_authorities(replace(keys, ca_certificates=tuple(there)), name, findings)
        for field in ("psk_file", "ppk_file"):
            file: Path | None = getattr(section, field)
            if file is not None:
                _check_secret_file(f"connections.{name}.{field}", file, findings)
        if section.password_file is not None:
            key = f"connections.{name}.password_file"
            _check_secret_file(key, section.password_file, findings, guessable=False)
        for field in ("psk", "password"):
            if getattr(section, field) is not None and _readable_by_others(path):
                why = f"the file is readable by others; run: chmod 600 {path}"
                findings.warn(f"connections.{name}.{field}", None, why)
        _check_crls(config, name, section, checked, findings)
    _check_backends(config, findings)
    _check_names_key(config, findings)
    check_mobility_files(config, findings)
    _check_tls_pairs(config, findings)
    if not findings.problems and not any(_makes(config, one) for one in config.connections):
        _check_v1(config, findings)
    if config.api.enabled and config.api.token_file is not None:
        _check_secret_file("api.token_file", config.api.token_file, findings)
    return findings


def _to_be_made(config: Config, file: Path | None, findings: Findings) -> bool:
    """Whether our certificate is still to be made; says so."""
    if not still_to_be_made(config, file):
        return False
    why = "is not there yet; the gateway makes it when it starts"
    findings.warn("provisioning.enabled", file, why)
    return True


def _makes(config: Config, name: str) -> bool:
    """Whether a connection waits for files that the gateway makes when it starts."""
    section = config.connections[name]
    keys = credential_keys(config, name, section)
    files = (keys.certificate, keys.private_key, *keys.ca_certificates)
    return any(still_to_be_made(config, file) for file in files)


def _readable_by_others(path: Path) -> bool:
    try:
        return bool(path.stat().st_mode & (stat.S_IROTH | stat.S_IWOTH))
    except OSError:
        return False


def _readable_by_group(path: Path) -> bool:
    try:
        return bool(path.stat().st_mode & (stat.S_IRGRP | stat.S_IWGRP))
    except OSError:
        return False


def _check_crls(
    config: Config,
    name: str,
    section: ConnectionSection,
    checked: set[tuple[object, ...]],
    findings: Findings,
) -> None:
    keys = revocation_keys(config, name, section)
    if keys.mode == "off" or not section.needs_authorities:
        return
    for file in keys.crl_files:
        if (file,) in checked:
            continue
        checked.add((file,))
        if still_to_be_made(config, file):
            continue
        try:
            crl.read(read_file(file, crl.MAX_FILE_OCTETS), str(file))
        except (FileRefusedError, crl.CrlRefused) as error:
            why = str(error).removeprefix(f"CRL {file} ")
            findings.refuse(f"{keys.crl_section}.crl_files", file, why)


def _check_backends(config: Config, findings: Findings) -> None:
    """The files of those who know users, where a connection asks them."""
    sections = config.connections.values()
    settings = to_users.user_base(config)
    reuse = any(section.backend == LOCAL for section in config.nar.values())
    needed = reuse or any(section.needs_local_users for section in sections)
    if settings is not None and (reuse or any(section.asks_for_user for section in sections)):
        try:
            users = UserBase.load(settings)
        except UserFileError as error:
            why = str(error).removeprefix(f"{settings.path}: ")
            findings.refuse("users.file", settings.path, why)
        else:
            if not len(users) and needed:
                why = "there is no user, so nobody can log in; run: gateway users add NAME"
                findings.warn("users.file", settings.path, why)
            _check_names(config, users, findings)
            if _readable_by_group(settings.path):
                why = f"its group may read it; run: chmod 600 {settings.path}"
                findings.warn("users.file", settings.path, why)
    for name, radius in config.radius.items():
        for one, server in radius.servers.items():
            if server.secret_file is not None:
                key = f"radius.{name}.servers.{one}.secret_file"
                _check_secret_file(key, server.secret_file, findings)


def _check_names_key(config: Config, findings: Findings) -> None:
    """The key that devices' names are registered with."""
    section = config.names.registration
    if section is None:
        return
    file, key = section.secret_file, "names.registration.secret_file"
    try:
        secret_of(read_secret(file))
    except (FileRefusedError, ValueError) as error:
        findings.refuse(key, file, str(error))
        return
    if _readable_by_others(file):
        findings.warn(key, file, f"readable by others; run: chmod 600 {file}")


def _check_names(config: Config, users: UserBase, findings: Findings) -> None:
    """Users of rules that nobody is."""
    for name, section in config.nar.items():
        for rule_name, rule in section.rules.items() if section.backend == LOCAL else ():
            for user in rule.users:
                if users.find(user) is None:
                    why = "no local user who may log in has this name; see: gateway users list"
                    findings.warn(f"nar.{name}.rules.{rule_name}.users", user, why)


def _check_v1(config: Config, findings: Findings) -> None:
    """What IKEv1 cannot do with these credentials, an Ed25519 key for example."""
    reader = CredentialReader(config)
    for name, section in config.connections.items():
        if section.ike_version != 1:
            continue
        policy = to_policy.connection(config, name, reader)
        try:
            method_of(policy, initiator=policy.remote is not None)
        except ValueError as error:
            why = str(error).removeprefix(f"{name}: ")
            findings.refuse(f"connections.{name}.ike_version", 1, why)


def _check_secret_file(key: str, file: Path, findings: Findings, *, guessable: bool = True) -> None:
    try:
        secret = read_secret(file)
    except FileRefusedError as error:
        findings.refuse(key, file, str(error))
        return
    if guessable:
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


def _check_tls_pairs(config: Config, findings: Findings) -> None:
    """What NAR servers prove themselves with to clients that connect by TLS."""
    checked: set[tuple[Path, Path]] = set()
    for name, section in config.nar.items():
        certificate, private_key = tls_files(config, section)
        if not section.tls_listen or certificate is None or private_key is None:
            continue
        if (certificate, private_key) in checked:
            continue
        checked.add((certificate, private_key))
        own = section.certificate is not None
        _check_tls_pair(f"nar.{name}" if own else "credentials", certificate, private_key, findings)


def _check_tls_pair(key: str, certificate: Path, private_key: Path, findings: Findings) -> None:
    try:
        chain = read_certificates(certificate)
    except FileRefusedError as error:
        findings.refuse(f"{key}.certificate", certificate, str(error))
        return
    try:
        secret = read_private_key(private_key)
    except FileRefusedError as error:
        findings.refuse(f"{key}.private_key", private_key, str(error))
        return
    if _readable_by_others(private_key):
        why = f"readable by others; run: chmod 600 {private_key}"
        findings.warn(f"{key}.private_key", private_key, why)
    try:
        fits = secret.public_key() == chain[0].public_key()
    except (ValueError, UnsupportedAlgorithm):
        fits = False
    if not fits:
        why = f"is not the key of {certificate}; name the one that the certificate was issued for"
        findings.refuse(f"{key}.private_key", private_key, why)
    _check_validity(f"{key}.certificate", certificate, chain[:1], findings)


def _check_authorities(keys: CredentialKeys, connection: str, findings: Findings) -> None:
    full = f"{keys.ca_section}.ca_certificates"
    if not keys.ca_certificates:
        where = f"connections.{connection}"
        why = f"is required by {where} to judge certificates; list the CA's PEM file"
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
