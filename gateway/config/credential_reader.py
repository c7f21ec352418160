"""Reads what connections prove themselves with and believe, each file once."""

import secrets
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from gateway.config.connection import ConnectionSection
from gateway.config.credential_files import (
    FileRefusedError,
    credential_keys,
    read_authorities,
    read_certificates,
    read_private_key,
    read_secret,
    revocation_keys,
)
from gateway.config.document import Config
from gateway.config.problem import ConfigError, Problem, shown
from gateway.ike.auth.credentials import LocalCredential, PresharedKey, TrustAnchors
from gateway.ike.auth.revocation import Revocation, RevocationMode, RevocationPolicy

_MODES = {
    "off": RevocationMode.OFF,
    "when-known": RevocationMode.WHEN_KNOWN,
    "required": RevocationMode.REQUIRED,
}
NO_DEVICE_PROOF: Final = PresharedKey(secrets.token_bytes(32))
"""Stands where a device has nothing of its own, its user's login being its proof: a key that
nobody knows, never leaves this process, and so never opens anything."""


class CredentialReader:
    """The credentials of a configuration's connections.

    Every method raises :class:`ConfigError` for a file that cannot be used (any more).
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._local: dict[tuple[Path, Path], LocalCredential] = {}
        self._anchors: dict[tuple[tuple[Path, ...], RevocationPolicy | None], TrustAnchors] = {}

    def _refuse(self, key: str, file: Path | None, why: str) -> ConfigError:
        value = None if file is None else shown(file)
        return ConfigError([Problem(self._config.path, key, why, value)])

    def secret(self, key: str, file: Path | None) -> bytes:
        """The secret in a file; ``key`` names the setting."""
        if file is None:
            raise self._refuse(key, None, "is required")
        try:
            return read_secret(file).encode()
        except FileRefusedError as error:
            raise self._refuse(key, file, str(error)) from None

    def preshared_key(self, name: str, section: ConnectionSection) -> PresharedKey:
        """The shared key of a connection."""
        if section.psk is not None:
            return PresharedKey(section.psk.get_secret_value().encode())
        return PresharedKey(self.secret(f"connections.{name}.psk_file", section.psk_file))

    def password(self, name: str, section: ConnectionSection) -> bytes:
        """What our user logs in with; empty where it has a certificate alone."""
        if section.password is not None:
            return section.password.get_secret_value().encode()
        if section.password_file is None:
            return b""
        return self.secret(f"connections.{name}.password_file", section.password_file)

    def local(self, name: str, section: ConnectionSection) -> LocalCredential:
        """Our certificates and key."""
        keys = credential_keys(self._config, name, section)
        if keys.certificate is None or keys.private_key is None:
            raise self._refuse(f"{keys.section}.certificate", None, "is required")
        pair = (keys.certificate, keys.private_key)
        if pair not in self._local:
            key, file = f"{keys.section}.certificate", keys.certificate
            try:
                certificates = read_certificates(file)
                key, file = f"{keys.section}.private_key", keys.private_key
                self._local[pair] = LocalCredential(certificates, read_private_key(file))
            except (FileRefusedError, ValueError, UnsupportedAlgorithm) as error:
                raise self._refuse(key, file, str(error)) from None
        return self._local[pair]

    def anchors(self, name: str, section: ConnectionSection) -> TrustAnchors:
        """Whom we believe, and what we know of revoked certificates.

        Connections with the same files share one object, and so its caches.
        """
        keys = credential_keys(self._config, name, section)
        policy = self._revocation(name, section)
        shared = (keys.ca_certificates, policy)
        if shared not in self._anchors:
            key, file = f"{keys.ca_section}.ca_certificates", None
            found: list[x509.Certificate] = []
            try:
                for file in keys.ca_certificates:
                    found += read_authorities(file)
                revocation = None if policy is None else Revocation(policy)
                self._anchors[shared] = TrustAnchors(found, revocation)
            except (FileRefusedError, ValueError) as error:
                raise self._refuse(key, file, str(error)) from None
        return self._anchors[shared]

    def _revocation(self, name: str, section: ConnectionSection) -> RevocationPolicy | None:
        keys = revocation_keys(self._config, name, section)
        if keys.mode == "off" or not (keys.crl_files or keys.ocsp_responder):
            return None
        grace_s = self._config.credentials.crl_grace_s
        try:
            return RevocationPolicy(_MODES[keys.mode], keys.crl_files, keys.ocsp_responder, grace_s)
        except ValueError as error:
            key = f"{keys.ocsp_section}.ocsp_responder"
            raise self._refuse(key, None, str(error)) from None
