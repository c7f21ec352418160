"""From the validated file to what the IKE engine takes."""

from dataclasses import fields
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

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
)
from gateway.config.document import Config
from gateway.config.problem import ConfigError, Problem, shown
from gateway.domain.child_sa import ANY_IPV4, TrafficSelector
from gateway.domain.endpoint import Endpoint
from gateway.domain.pools import AddressPool
from gateway.ike.auth.credentials import LocalCredential, PresharedKey, TrustAnchors
from gateway.ike.auth.identity import Identity, IdentityPattern
from gateway.ike.crypto.proposals import SuiteOffer
from gateway.ike.policy import ConnectionPolicy, EngineSettings, Feature, Lifetimes, PeerAuth


class _Files:
    """Reads each credential file once, however many connections name it."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._local: dict[tuple[Path, Path], LocalCredential] = {}
        self._anchors: dict[tuple[Path, ...], TrustAnchors] = {}

    def _refuse(self, key: str, file: Path | None, why: str) -> ConfigError:
        value = None if file is None else shown(file)
        return ConfigError([Problem(self._config.path, key, why, value)])

    def preshared_key(self, name: str, section: ConnectionSection) -> PresharedKey:
        if section.psk is not None:
            return PresharedKey(section.psk.get_secret_value().encode())
        key = f"connections.{name}.psk_file"
        if section.psk_file is None:
            raise self._refuse(key, None, "is required for psk authentication")
        try:
            return PresharedKey(read_secret(section.psk_file).encode())
        except FileRefusedError as error:
            raise self._refuse(key, section.psk_file, str(error)) from None

    def local(self, name: str, section: ConnectionSection) -> LocalCredential:
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
        keys = credential_keys(self._config, name, section)
        if keys.ca_certificates not in self._anchors:
            key, file = f"{keys.ca_section}.ca_certificates", None
            found: list[x509.Certificate] = []
            try:
                for file in keys.ca_certificates:
                    found += read_authorities(file)
                self._anchors[keys.ca_certificates] = TrustAnchors(found)
            except (FileRefusedError, ValueError) as error:
                raise self._refuse(key, file, str(error)) from None
        return self._anchors[keys.ca_certificates]


def connections(config: Config) -> tuple[ConnectionPolicy, ...]:
    """The policies in the order of the file. Reads the credential files.

    Raises :class:`ConfigError` where a file cannot be used (any more).
    """
    files = _Files(config)
    return tuple(_policy(config, name, s, files) for name, s in config.connections.items())


def _policy(
    config: Config, name: str, section: ConnectionSection, files: _Files
) -> ConnectionPolicy:
    local: LocalCredential | PresharedKey
    if section.local_auth == "psk":
        local = files.preshared_key(name, section)
    else:
        local = files.local(name, section)
    if section.remote_auth == "psk":
        peer = PeerAuth(preshared_key=files.preshared_key(name, section))
    else:
        peer = PeerAuth(anchors=files.anchors(name, section))
    pool = config.pools[section.pool] if section.pool is not None else None
    local_ts = tuple(map(TrafficSelector.of_network, section.local_subnets))
    return ConnectionPolicy(
        name=name,
        local_id=Identity.parse(section.local_id or config.gateway.name),
        local_credential=local,
        remote_id=IdentityPattern.parse(section.remote_id),
        peer_auth=peer,
        ike_offer=_offer("ike", section.ike_proposals),
        esp_offer=_offer("esp", section.esp_proposals),
        local_ts=local_ts or (ANY_IPV4,),
        remote_ts=tuple(map(TrafficSelector.of_network, section.remote_subnets)),
        pool=section.pool,
        dns=section.dns or (pool.dns if pool else ()),
        dns_domains=section.domains,
        subnets=_announced(section),
        lifetimes=_lifetimes(section),
        force_encapsulation=section.encapsulation == "always",
        mobike=section.mobike,
        endpoint_update=Feature.ALLOWED if section.endpoint_update else Feature.OFF,
        liveness_s=section.liveness_s,
        replay_window=section.replay_window,
        send_certificate=section.send_certificate,
        remote=section.remote,
        local=Endpoint(section.local, config.ike.port) if section.local else None,
        request_inner_address=section.request_inner_address,
    )


def _offer(kind: str, strings: tuple[str, ...]) -> SuiteOffer:
    if strings:
        return SuiteOffer.parse(kind, list(strings))
    return SuiteOffer.default_ike() if kind == "ike" else SuiteOffer.default_esp()


def _announced(section: ConnectionSection) -> tuple[IPv4Network | IPv6Network, ...]:
    """Subnets for the device's routes; a default route needs no announcement."""
    if section.pool is None or any(n.prefixlen == 0 for n in section.local_subnets):
        return ()
    return section.local_subnets


def _lifetimes(section: ConnectionSection) -> Lifetimes:
    names = (field.name for field in fields(Lifetimes))
    return Lifetimes(**{name: getattr(section.lifetimes, name) for name in names})


def pools(config: Config) -> dict[str, AddressPool]:
    """The address pools by name."""
    return {
        name: AddressPool(name, pool.network, [a for r in pool.reserved for a in r])
        for name, pool in config.pools.items()
    }


def engine_settings(config: Config) -> EngineSettings:
    """The limits of the engine; every field is a key of ``[ike]``."""
    names = (field.name for field in fields(EngineSettings))
    return EngineSettings(**{name: getattr(config.ike, name) for name in names})
