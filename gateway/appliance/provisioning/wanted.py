"""What the configuration wants of the CA."""

from dataclasses import dataclass, field

from gateway.appliance.provisioning.peers import peer_name
from gateway.config.credential_files import FileRefusedError, credential_keys, read_file
from gateway.config.document import Config
from gateway.config.problem import ConfigError, Problem, shown
from gateway.config.provisioned import ProvisionedFiles, provisioned_files
from gateway.ike.auth.identity import Identity
from gateway.provisioning.ca import KeyKind
from gateway.provisioning.names import PeerName
from gateway.provisioning.problem import ProvisioningRefusedError


@dataclass(frozen=True, slots=True)
class Wanted:
    """Read from the configuration and the files that it names."""

    files: ProvisionedFiles
    ca_name: str
    ca_days: int
    gateway_days: int
    gateway_key: KeyKind
    crl_days: int
    names: tuple[PeerName, ...]
    """That the gateway's certificate must prove; empty where it has one of others."""
    external: tuple[bytes, bytes] | None = field(default=None, repr=False)
    """PEM of the configuration's own CA and its key."""


def wanted_of(config: Config) -> Wanted | None:
    """None where provisioning is off. Raises :class:`ConfigError` for a CA that is unreadable."""
    files, section = provisioned_files(config), config.provisioning
    if files is None:
        return None
    external = None
    if section.ca_certificate is not None and section.ca_private_key is not None:
        try:
            external = read_file(section.ca_certificate), read_file(section.ca_private_key)
        except FileRefusedError as error:
            where = "provisioning.ca_certificate"
            problem = Problem(config.path, where, str(error), shown(section.ca_certificate))
            raise ConfigError([problem]) from None
    return Wanted(
        files,
        section.ca_name,
        section.ca_days,
        section.gateway_days,
        KeyKind(section.gateway_key),
        section.crl_days,
        _names(config, files),
        external,
    )


def _names(config: Config, files: ProvisionedFiles) -> tuple[PeerName, ...]:
    """The gateway's name first: it is the common name; then each connection's, and the address."""
    credentials = config.credentials
    if credentials.certificate is not None or credentials.private_key is not None:
        return ()
    texts = [config.gateway.name]
    for name, section in config.connections.items():
        if credential_keys(config, name, section).certificate == files.certificate:
            texts.append(section.local_id or config.gateway.name)
    if config.provisioning.address is not None:
        texts.append(config.provisioning.address)
    found: dict[PeerName, None] = {}
    for text in texts:
        try:
            proven = peer_name(Identity.parse(text))
            if proven.in_certificate() is not None:
                found[proven] = None
        except (ValueError, ProvisioningRefusedError):
            continue  # a subject or keyid: no alternative name says it
    return tuple(found)
