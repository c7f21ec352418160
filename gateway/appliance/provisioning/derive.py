"""From the configuration in force to what one device must be told. Nothing here is guessed."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network

from cryptography import x509

from gateway.appliance.provisioning.choosing import Choice, Wish
from gateway.appliance.provisioning.peers import peer_name
from gateway.config.connection import ConnectionSection, ProfileSection
from gateway.config.credential_files import (
    FileRefusedError,
    credential_keys,
    read_authorities,
    read_certificates,
    read_secret,
)
from gateway.config.credential_reader import CredentialReader
from gateway.config.document import Config
from gateway.config.mobility import MobileNodeSection
from gateway.config.mobility_logins import reached_at
from gateway.config.mobility_nodes import agents_serving, all_nodes, node_keys
from gateway.config.to_policy import shown
from gateway.ike.auth.identity import Identity
from gateway.ike.crypto.offers import ProposalSpec, SuiteOffer
from gateway.ike.crypto.transforms import transform_name
from gateway.ike.registry import ADDITIONAL_KE, DhGroup, EsnId, TransformType
from gateway.provisioning import ca
from gateway.provisioning.names import one_line
from gateway.provisioning.problem import ProvisioningRefusedError
from gateway.provisioning.setup import HomeAgent, Platform, Proof, Setup, Suite, require

_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
_EVERY_IPV6 = IPv6Network("::/0")
_PROOFS = {"certificate": Proof.CERTIFICATE, "psk": Proof.PSK}

Subnets = tuple[IPv4Network | IPv6Network, ...]


@dataclass(frozen=True, slots=True)
class DeviceCredential:
    """What was issued to a device, or for it."""

    certificate: x509.Certificate
    issuer: ca.Authority
    private_key: bytes | None = field(default=None, repr=False)
    """PEM; None where the device keeps it."""


def needs_certificate(section: ConnectionSection) -> bool:
    """Whether a device of a connection proves itself, or its user, with a certificate."""
    return section.remote_auth == "certificate" or section.user_auth[:1] == ("eap-tls",)


def setup_of(
    config: Config, wish: Wish, choice: Choice, credential: DeviceCredential | None
) -> Setup:
    """Everything for a device's bundle; reads the files that the connection names.

    Raises :class:`ProvisioningRefusedError`, and :class:`gateway.config.ConfigError` for files
    that cannot be read.
    """
    name, section = choice.connection, choice.section
    reader = CredentialReader(config)
    key = f"connections.{name}"
    require(section.send_certificate, f"{key}.send_certificate", "must be true for new devices")
    if credential is not None:
        _check_believed(config, choice, credential)
    gateway_proof = _PROOFS.get(section.local_auth, Proof.CERTIFICATE)
    authorities = _authorities(config, choice) if gateway_proof is Proof.CERTIFICATE else ()
    uses_psk = "psk" in {section.local_auth, section.remote_auth}
    pool = config.pools[section.pool] if section.pool is not None else None
    inside, outside = _home_agents(config, wish, choice)
    methods = section.user_auth if section.asks_for_user else ()
    return Setup(
        device=wish.device,
        title=config.gateway.name,
        address=_address(config),
        port=config.ike.port,
        tcp_ports=tuple(dict.fromkeys(one.port for one in config.ike.tcp_listen)),
        version=section.ike_version,
        gateway=peer_name(Identity.parse(section.local_id or config.gateway.name)),
        gateway_proof=gateway_proof,
        identity=peer_name(choice.identity),
        device_proof=_PROOFS.get(section.remote_auth),
        user=wish.user,
        user_methods=methods,
        any_identity=choice.pattern.text == "*",
        ike=_suites("ike", section.ike_proposals),
        esp=_suites("esp", section.esp_proposals),
        own_proposals=bool(section.ike_proposals or section.esp_proposals),
        subnets=_reached(config, section),
        inner_versions=_inner_versions(config, section),
        dns=section.dns or (pool.dns if pool is not None else ()),
        domains=section.domains,
        authorities=tuple(map(ca.certificate_pem, authorities)),
        authority_title=ca.Authority(authorities[0]).title if authorities else "",
        certificate=None if credential is None else ca.certificate_pem(credential.certificate),
        private_key=None if credential is None else credential.private_key,
        psk=reader.preshared_key(name, section).secret.decode() if uses_psk else None,
        mobike=section.mobike,
        force_encapsulation=section.encapsulation == "always",
        aggressive=section.ike_version == 1 and section.exchange == "aggressive",
        ppk_id=section.ppk_id,
        ppk=None
        if section.ppk_id is None
        else reader.secret(f"{key}.ppk_file", section.ppk_file).decode(),
        ppk_required=section.ppk_required,
        only_ours=_only_ours(name, section),
        inside=inside,
        outside=outside,
    )


def _only_ours(name: str, section: ConnectionSection) -> str | None:
    for field_name in ("vpn_fa", "endpoint_update"):
        if getattr(section, field_name) == "required":
            return f"connections.{name}.{field_name}"
    return None


def _address(config: Config) -> str:
    """What devices connect to."""
    if config.provisioning.address is not None:
        return config.provisioning.address
    named = _HOST.fullmatch(config.gateway.name) and "." in config.gateway.name
    if named:
        return config.gateway.name
    for address in config.ike.listen:
        if not address.is_unspecified:
            return str(address)
    why = "devices must know where the gateway is: give its host name or address"
    raise ProvisioningRefusedError("provisioning.address", why)


def _inner_versions(config: Config, section: ConnectionSection) -> tuple[int, ...]:
    """IP versions that any of its users may get inner addresses of."""
    users: list[ConnectionSection | ProfileSection] = [section]
    users += (config.profiles[name] for name in section.profiles)
    pools = [one for user in users for one in (user.pool, user.pool6) if one is not None]
    versions = {config.pools[one].network.version for one in pools}
    if versions and _blocks_ipv6(config, section):
        versions.add(6)
    return tuple(sorted(versions))


def _blocks_ipv6(config: Config, section: ConnectionSection) -> bool:
    """Whether any of its users is to send IPv6 into the tunnel, where it ends."""
    return "block" in (section.ipv6, *(config.profiles[name].ipv6 for name in section.profiles))


def _reached(config: Config, section: ConnectionSection) -> Subnets:
    """All that any of its users may reach; the gateway narrows it. Empty for everything."""
    offers = [shown(config, section.local_subnets, section.translations)]
    for name in section.profiles:
        profile = config.profiles[name]
        subnets = section.local_subnets if profile.subnets is None else profile.subnets
        own = section.translations if profile.translations is None else profile.translations
        offers.append(shown(config, subnets, own))
    if any(not offer or any(not one.prefixlen for one in offer) for offer in offers):
        return ()
    nowhere = (_EVERY_IPV6,) if _blocks_ipv6(config, section) else ()
    return (*dict.fromkeys(one for offer in offers for one in offer), *nowhere)


# -- proposals -----------------------------------------------------------------------------


def _suites(kind: str, texts: tuple[str, ...]) -> tuple[Suite, ...]:
    if texts:
        offer = SuiteOffer.parse(kind, list(texts))
    else:
        offer = SuiteOffer.default_ike() if kind == "ike" else SuiteOffer.default_esp()
    return tuple(map(_suite, offer.proposals))


def _suite(spec: ProposalSpec) -> Suite:
    return Suite(
        encryption=_words(spec, TransformType.ENCR),
        integrity=_words(spec, TransformType.INTEG),
        prf=_words(spec, TransformType.PRF),
        groups=_words(spec, TransformType.KE),
        additional=tuple(word for kind in ADDITIONAL_KE for word in _demanded(spec, kind)),
        esn=tuple(one == EsnId.ESN for one, _ in spec.allowed(TransformType.ESN)),
    )


def _words(spec: ProposalSpec, kind: TransformType) -> tuple[str, ...]:
    choices = spec.allowed(kind)
    optional = (int(DhGroup.NONE), None) if kind is TransformType.KE else None
    return tuple(transform_name(kind, *one) for one in choices if one != optional)


def _demanded(spec: ProposalSpec, kind: TransformType) -> Iterable[str]:
    """Words of an additional key exchange that a device may not leave out."""
    choices = spec.allowed(kind)
    if (int(DhGroup.NONE), None) in choices:
        return ()
    number = ADDITIONAL_KE.index(kind) + 1
    return (f"ke{number}_{transform_name(TransformType.KE, *one)}" for one in choices)


# -- certificates --------------------------------------------------------------------------


def _check_believed(config: Config, choice: Choice, credential: DeviceCredential) -> None:
    """Whether the connection believes who issued the device's certificate."""
    keys = credential_keys(config, choice.connection, choice.section)
    try:
        believed = [one for file in keys.ca_certificates for one in read_authorities(file)]
    except FileRefusedError as error:
        raise ProvisioningRefusedError(f"{keys.ca_section}.ca_certificates", str(error)) from None
    if credential.issuer.certificate not in believed:
        why = (
            f"does not have {one_line(credential.issuer.title)}, which issues certificates for "
            "devices; add it, or remove the setting"
        )
        raise ProvisioningRefusedError(f"{keys.ca_section}.ca_certificates", why)


def _authorities(config: Config, choice: Choice) -> tuple[x509.Certificate, ...]:
    """Under which the gateway's certificate is, its issuer first."""
    keys = credential_keys(config, choice.connection, choice.section)
    where = f"{keys.section}.certificate"
    if keys.certificate is None:
        raise ProvisioningRefusedError(where, "the gateway has none; give one")
    try:
        chain = read_certificates(keys.certificate)
        known = [one for file in keys.ca_certificates for one in read_authorities(file)]
    except FileRefusedError as error:
        raise ProvisioningRefusedError(where, str(error)) from None
    top = chain[-1]
    if len(chain) > 1 and top.subject == top.issuer:
        return (top,)
    found = tuple(one for one in known if _issued(one, top))
    if not found:
        why = (
            "the CA that issued it is not known here; put its certificate behind ours in that "
            "file, or into credentials.ca_certificates"
        )
        raise ProvisioningRefusedError(where, why)
    return found


def _issued(authority: x509.Certificate, certificate: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except Exception:  # noqa: BLE001 - whatever is wrong with either of them, it is not
        return False
    return True


# -- mobility ------------------------------------------------------------------------------


def _home_agents(
    config: Config, wish: Wish, choice: Choice
) -> tuple[HomeAgent | None, HomeAgent | None]:
    """Inside and outside, where no login teaches them."""
    found: dict[str, HomeAgent] = {}
    if wish.platform is Platform.GATEWAY_MN:
        for name, node in all_nodes(config).items():
            if _is_its(wish, choice, name, node) and not node.logs_in:
                found.update(_taught(config, name, node))
    return found.get("inside"), found.get("outside")


def _is_its(wish: Wish, choice: Choice, name: str, node: MobileNodeSection) -> bool:
    if wish.mobile_node is not None:
        return name == wish.mobile_node
    return node.nai is not None and node.nai == peer_name(choice.identity).plain


def _taught(config: Config, name: str, node: MobileNodeSection) -> Iterable[tuple[str, HomeAgent]]:
    key = next((one for _, one in node_keys(node)), None)
    if key is None or node.home_address is None:
        return
    try:
        file = key.key_file
        text = key.key.get_secret_value() if key.key is not None else ""
        if not text and file is not None:
            text = read_secret(file)
    except FileRefusedError as error:
        raise ProvisioningRefusedError(f"mobile_nodes.{name}.key_file", str(error)) from None
    for agent_name in agents_serving(config, node):
        agent = config.home_agents[agent_name]
        for network in (config.home_networks[one].network for one in agent.home_networks):
            if node.home_address in network:
                yield (
                    agent.placement,
                    HomeAgent(
                        address=reached_at(agent),
                        home_address=node.home_address,
                        home_network=network,
                        spi=key.spi,
                        key=text,
                        algorithm=key.algorithm,
                        replay=key.replay,
                        nai=node.nai,
                    ),
                )
