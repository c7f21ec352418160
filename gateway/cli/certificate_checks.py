"""Validity of the certificates that a configuration names."""

from collections.abc import Iterator
from datetime import UTC, datetime

from cryptography import x509

from gateway.cli.verdict import Verdict
from gateway.config import Config
from gateway.config.credential_files import (
    EXPIRY_WARNING,
    FileRefusedError,
    credential_keys,
    read_authorities,
    read_certificates,
    subject,
)


def certificate_verdict(kind: str, certificate: x509.Certificate, now: datetime) -> Verdict:
    """How long one certificate is good for."""
    name = f"{kind} {subject(certificate)}"
    until, since = certificate.not_valid_after_utc, certificate.not_valid_before_utc
    if until < now:
        detail = f"expired at {until:%Y-%m-%d %H:%M} UTC"
        return Verdict("configuration", name, "missing", detail, "renew it, then: gateway reload")
    if since > now:
        detail = f"valid only from {since:%Y-%m-%d %H:%M} UTC"
        return Verdict("configuration", name, "missing", detail, "set this host's clock")
    detail = f"valid until {until:%Y-%m-%d}"
    if until - now < EXPIRY_WARNING:
        return Verdict("configuration", name, "warn", detail, "renew it, then: gateway reload")
    return Verdict("configuration", name, "ok", detail)


def certificate_verdicts(config: Config, now: datetime | None = None) -> Iterator[Verdict]:
    """One verdict per certificate in use; unreadable files are problems of the configuration."""
    now = now or datetime.now(UTC)
    seen: set[bytes] = set()
    for name, section in config.connections.items():
        keys = credential_keys(config, name, section)
        found: list[tuple[str, x509.Certificate]] = []
        try:
            if section.needs_certificate and keys.certificate is not None:
                found += [("certificate", c) for c in read_certificates(keys.certificate)[:1]]
            if section.needs_authorities:
                files = keys.ca_certificates
                found += [("CA", c) for file in files for c in read_authorities(file)]
        except FileRefusedError:
            continue
        for kind, certificate in found:
            der = certificate.tbs_certificate_bytes
            if der not in seen:
                seen.add(der)
                yield certificate_verdict(kind, certificate, now)
