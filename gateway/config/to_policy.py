"""From the validated file to what the IKE engine takes."""

from collections.abc import Mapping
from dataclasses import fields

from gateway.config.connection import ConnectionSection, ProfileSection
from gateway.config.credential_reader import NO_DEVICE_PROOF, CredentialReader
from gateway.config.document import Config
from gateway.config.vpn_agent import advertisement
from gateway.domain.child_sa import ANY_IPV4, IpNetwork, Mode, TrafficSelector
from gateway.domain.endpoint import Endpoint, IpAddress
from gateway.domain.pools import AddressPool
from gateway.domain.remote_access import Presence
from gateway.ike.auth.credentials import LocalCredential, PresharedKey
from gateway.ike.auth.identity import Identity, IdentityPattern
from gateway.ike.crypto.proposals import SuiteOffer
from gateway.ike.policy import (
    ConfigMode,
    ConnectionPolicy,
    EngineSettings,
    Feature,
    Lifetimes,
    PeerAuth,
    Ppk,
    PpkPolicy,
    Profile,
    UserAuth,
    UserCredential,
    UserMethod,
    V1Exchange,
)

Subnets = tuple[IpNetwork, ...]


def connections(config: Config) -> tuple[ConnectionPolicy, ...]:
    """The policies in the order of the file. Reads the credential files.

    Raises :class:`ConfigError` where a file cannot be used (any more).
    """
    reader = CredentialReader(config)
    return tuple(connection(config, name, reader) for name in config.connections)


def connection(config: Config, name: str, reader: CredentialReader) -> ConnectionPolicy:
    """One of them. Raises :class:`ConfigError` as :func:`connections`."""
    section = config.connections[name]
    pool = config.pools[section.pool] if section.pool is not None else None
    subnets = shown(config, section.local_subnets, section.translations)
    return ConnectionPolicy(
        name=name,
        version=section.ike_version,
        local_id=Identity.parse(section.local_id or config.gateway.name),
        local_credential=_local_credential(name, section, reader),
        remote_id=IdentityPattern.parse(section.remote_id),
        peer_auth=_peer_auth(name, section, reader),
        ike_offer=_offer("ike", section.ike_proposals),
        esp_offer=_offer("esp", section.esp_proposals),
        local_ts=_selectors(subnets) or (ANY_IPV4,),
        remote_ts=_selectors(section.remote_subnets),
        pool=section.pool,
        pool6=section.pool6,
        presence=Presence(section.presence or Presence.ADDRESS),
        block_ipv6=section.ipv6 == "block",
        mode=Mode(section.mode),
        tunnel_mtu=config.dataplane.mtu,
        dns=section.dns or (pool.dns if pool else ()),
        dns_domains=section.domains,
        subnets=_announced(subnets) if _is_for_devices(section) else (),
        lifetimes=_lifetimes(section),
        force_encapsulation=section.encapsulation == "always",
        mobike=section.mobike,
        return_routability=section.return_routability,
        endpoint_update=Feature(section.endpoint_update),
        follow_plain_peers=section.follow_plain_peers,
        vpn_fa=Feature(section.vpn_fa),
        fa_advertisement=advertisement(config, section),
        liveness_s=section.liveness_s,
        replay_window=section.replay_window,
        send_certificate=section.send_certificate,
        childless=section.childless,
        reauthenticate=section.reauthenticate,
        ppk=_ppk(name, section, reader),
        profiles=tuple(_profile(config, section, one) for one in section.profiles),
        profile_required=section.profile_required,
        v1_exchange=V1Exchange(section.exchange),
        v1_config_mode=ConfigMode(section.config_mode),
        user_credential=_user_credential(name, section, reader),
        device_too=section.proves_device_too,
        remote=section.remote,
        local=Endpoint(section.local, config.ike.port) if section.local else None,
        request_inner_address=section.request_inner_address,
    )


def _local_credential(
    name: str, section: ConnectionSection, reader: CredentialReader
) -> LocalCredential | PresharedKey:
    if section.local_auth == "psk":
        return reader.preshared_key(name, section)
    if section.local_auth == "user":
        return NO_DEVICE_PROOF
    return reader.local(name, section)


def _peer_auth(name: str, section: ConnectionSection, reader: CredentialReader) -> PeerAuth:
    key, anchors = None, None
    if section.remote_auth == "psk":
        key = reader.preshared_key(name, section)
    elif section.remote_auth == "certificate":
        anchors = reader.anchors(name, section)
    user = _user_auth(name, section, reader) if section.asks_for_user else None
    return PeerAuth(key, anchors, user, section.allow_sha1_signatures)


def _user_auth(name: str, section: ConnectionSection, reader: CredentialReader) -> UserAuth:
    names = section.user_names
    return UserAuth(
        methods=tuple(map(UserMethod, section.user_auth)),
        backend=section.user_backend,
        identities=None if names is None else IdentityPattern.parse(names),
        eap_identity=section.eap_identity,
        anchors=reader.anchors(name, section) if "eap-tls" in section.user_auth else None,
    )


def _user_credential(
    name: str, section: ConnectionSection, reader: CredentialReader
) -> UserCredential | None:
    if section.user is None:
        return None
    password = reader.password(name, section)
    if not section.eap_certificate:
        return UserCredential(section.user, password)
    anchors = reader.anchors(name, section)
    return UserCredential(section.user, password, reader.local(name, section), anchors)


def _ppk(name: str, section: ConnectionSection, reader: CredentialReader) -> PpkPolicy | None:
    if section.ppk_id is None:
        return None
    secret = reader.secret(f"connections.{name}.ppk_file", section.ppk_file)
    return PpkPolicy((Ppk(section.ppk_id.encode(), secret),), section.ppk_required)


def _is_for_devices(section: ConnectionSection) -> bool:
    return section.pool is not None or section.presence == "napt"


def _profile(config: Config, connection: ConnectionSection, name: str) -> Profile:
    section: ProfileSection = config.profiles[name]
    pool = config.pools[section.pool] if section.pool is not None else None
    dns = section.dns if section.dns is not None or pool is None else pool.dns
    subnets = None
    if section.subnets is not None or section.translations is not None:
        reached = connection.local_subnets if section.subnets is None else section.subnets
        translations = (
            connection.translations if section.translations is None else section.translations
        )
        subnets = shown(config, reached, translations)
    return Profile(
        name=name,
        groups=frozenset(section.groups),
        pool=section.pool,
        pool6=section.pool6,
        presence=Presence(section.presence) if section.presence else None,
        block_ipv6=None if section.ipv6 is None else section.ipv6 == "block",
        dns=dns,
        dns_domains=section.domains,
        subnets=None if not subnets else _announced(subnets),
        local_ts=None if not subnets else _selectors(subnets),
        endpoint_update=Feature(section.endpoint_update) if section.endpoint_update else None,
        vpn_fa=Feature(section.vpn_fa) if section.vpn_fa else None,
    )


def shown(config: Config, subnets: Subnets, translations: tuple[str, ...] | None) -> Subnets:
    """The networks as devices address them: what is translated is there as ``shown_as``.

    A network that lies within a translated one becomes its part of ``shown_as``; of one that
    contains a translated one, devices reach the rest as before.
    """
    found = list(subnets)
    for name in translations or ():
        one = config.translations[name]
        for at, subnet in enumerate(found):
            if _within(subnet, one.network):
                found[at] = _moved(subnet, one.network, one.shown_as)
        outside = all(not _within(one.shown_as, subnet) for subnet in found)
        if outside and any(_within(one.network, subnet) for subnet in subnets):
            found.append(one.shown_as)
    return tuple(dict.fromkeys(found))


def _within(inner: IpNetwork, outer: IpNetwork) -> bool:
    return inner.network_address in outer and inner.prefixlen >= outer.prefixlen


def _moved(subnet: IpNetwork, network: IpNetwork, shown_as: IpNetwork) -> IpNetwork:
    offset = int(subnet.network_address) - int(network.network_address)
    return type(shown_as)((int(shown_as.network_address) + offset, subnet.prefixlen))


def _selectors(subnets: Subnets) -> tuple[TrafficSelector, ...]:
    return tuple(map(TrafficSelector.of_network, subnets))


def _offer(kind: str, strings: tuple[str, ...]) -> SuiteOffer:
    if strings:
        return SuiteOffer.parse(kind, list(strings))
    return SuiteOffer.default_ike() if kind == "ike" else SuiteOffer.default_esp()


def _announced(subnets: Subnets) -> Subnets:
    """Subnets for the device's routes; a default route needs no announcement."""
    return () if any(n.prefixlen == 0 for n in subnets) else subnets


def _lifetimes(section: ConnectionSection) -> Lifetimes:
    names = (field.name for field in fields(Lifetimes))
    return Lifetimes(**{name: getattr(section.lifetimes, name) for name in names})


def pools(config: Config) -> dict[str, AddressPool]:
    """The address pools by name."""
    return {
        name: AddressPool(
            name,
            pool.network,
            [a for r in pool.reserved for a in r],
            static=_static(pool.static),
            lease_s=pool.lease_s,
        )
        for name, pool in config.pools.items()
    }


def _static(addresses: Mapping[str, IpAddress]) -> dict[str, IpAddress]:
    """As written, for users, and as identities are shown, for what devices prove."""
    found = dict(addresses)
    for text, address in addresses.items():
        try:
            found.setdefault(str(Identity.parse(text)), address)
        except ValueError:
            continue
    return found


def engine_settings(config: Config) -> EngineSettings:
    """The limits of the engine; every field is a key of ``[ike]``."""
    names = (field.name for field in fields(EngineSettings))
    return EngineSettings(**{name: getattr(config.ike, name) for name in names})
