"""From a profile, and what logins taught, to what the mobile node's parts take."""

import contextlib
from collections.abc import Callable, Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from gateway.config.connection import ConnectionSection
from gateway.config.credential_files import (
    FileRefusedError,
    credential_keys,
    read_certificates,
)
from gateway.config.credential_reader import CredentialReader
from gateway.config.mobility_fields import decode_key
from gateway.config.mobility_nodes import key_octets
from gateway.config.problem import ConfigError, Problem, shown
from gateway.config.profile import HomeAgentPart, OutsidePart, Profile
from gateway.config.profile_login import CONNECTION, in_profile, one_connection
from gateway.config.profile_sealing import (
    NOTHING,
    Sealed,
    Unlocked,
    WrongPasswordError,
    read_sealed,
)
from gateway.config.to_policy import connection
from gateway.dataplane.node import NodeSettings, Peers
from gateway.domain.mobility import Encapsulation
from gateway.domain.mobility_credential import MobilityCredential
from gateway.ike.auth.credentials import LocalCredential, PresharedKey
from gateway.ike.policy import ConnectionPolicy
from gateway.mip_agents.policy import Algorithm, ReplayProtection, SecurityAssociation
from gateway.mobile_node.policy import (
    Detection,
    Hints,
    HomeAgentPolicy,
    NodePolicy,
    VpnPolicy,
)

__all__ = [
    "NOTHING",
    "Unlocked",
    "WrongPasswordError",
    "acceptable",
    "connection_policy",
    "gateway_address",
    "is_locked",
    "node_policy",
    "node_settings",
    "peers",
    "unlock",
]
Lookup = Callable[[str], Sequence[IPv4Address]]
Credentials = Iterable[MobilityCredential]
_REMEMBERED = "gateway-address"


def is_locked(profile: Profile, unlocked: Unlocked = NOTHING) -> bool:
    """Whether the profile's secrets wait for a password."""
    return profile.sealed is not None and not unlocked.secrets


def unlock(profile: Profile, password: str) -> Unlocked:
    """Open the sealed secrets; slow on purpose (a tenth of a second).

    Raises :class:`WrongPasswordError`, or :class:`ConfigError` where the file cannot be used.
    """
    if profile.sealed is None:
        return NOTHING
    try:
        sealed: Sealed = read_sealed(profile.sealed)
    except FileRefusedError as error:
        raise _refuse(profile, "login.sealed", profile.sealed, str(error)) from None
    return sealed.open(password)


def acceptable(
    profile: Profile, credentials: Credentials, *, gateway: IPv4Address | None = None
) -> tuple[MobilityCredential, ...]:
    """What a login taught, without what may not be believed.

    A side that the profile names by hand is left out, and an i-HA at the address of the gateway or
    of an x-HA: it would answer everywhere, and every network would be the inside (draft 001,
    section 4.4).
    """
    by_hand = {True: profile.inside.by_hand, False: profile.outside.by_hand}
    given = [one for one in credentials if not by_hand[one.grant.inside]]
    everywhere = {_address(profile, gateway), profile.outside.home_agent}
    everywhere |= {one.grant.home_agent for one in given if not one.grant.inside}
    return tuple(
        one for one in given if not (one.grant.inside and one.grant.home_agent in everywhere)
    )


def node_policy(
    profile: Profile,
    credentials: Credentials = (),
    *,
    gateway: IPv4Address | None = None,
    unlocked: Unlocked = NOTHING,
) -> NodePolicy:
    """What the engine works by.

    ``credentials`` are what logins taught: they count for a home agent that the profile does not
    name by hand, the newest of each side. ``gateway`` is where the gateway's name led to; without
    it and without an address in the profile there is no VPN layer. A home agent whose key is
    still sealed is left out. Raises :class:`ConfigError` where a key cannot be read (any more).
    """
    address = _address(profile, gateway)
    learnt = _newest(acceptable(profile, credentials, gateway=gateway))
    network, hints = profile.network, profile.hints
    return NodePolicy(
        name=profile.name,
        internal=_home_agent(profile, "inside", profile.inside, learnt.get(True), unlocked),
        external=_home_agent(profile, "outside", profile.outside, learnt.get(False), unlocked),
        vpn=None if address is None else _vpn(profile, address),
        detection=Detection(**profile.detection.model_dump()),
        hints=Hints(
            frozenset(hints.domains), frozenset(hints.nais), frozenset(hints.router_link_addresses)
        ),
        interfaces=network.interfaces,
        modes=frozenset(network.modes),
        networks=network.networks,
        direct_networks=network.direct_networks,
    )


def peers(
    profile: Profile, credentials: Credentials = (), *, gateway: IPv4Address | None = None
) -> Peers:
    """With whom the node may speak before anything is proven."""
    address = _address(profile, gateway)
    learnt = _newest(acceptable(profile, credentials, gateway=gateway))
    return Peers(
        gateways=() if address is None else (address,),
        external_home_agents=_agent_of(profile.outside, learnt.get(False)),
        internal_home_agents=_agent_of(profile.inside, learnt.get(True)),
    )


def node_settings(
    profile: Profile, credentials: Credentials = (), *, gateway: IPv4Address | None = None
) -> NodeSettings:
    """What the node's dataplane is opened with."""
    accept = tuple((a.protocol, a.port, a.source) for a in profile.network.accept_inside)
    return NodeSettings(
        peers=peers(profile, credentials, gateway=gateway),
        tcp_ports=profile.gateway.tcp_ports if profile.gateway else (),
        accept_inside=accept,
        mtu=profile.network.mtu,
    )


def connection_policy(
    profile: Profile, *, gateway: IPv4Address | None = None, unlocked: Unlocked = NOTHING
) -> ConnectionPolicy | None:
    """The VPN layer's connection; None without gateway, or while its secrets are locked.

    Raises :class:`ConfigError` where a credential file cannot be used (any more).
    """
    address = _address(profile, gateway)
    if address is None or profile.login is None or is_locked(profile, unlocked):
        return None
    config = one_connection(profile, address)
    try:
        return connection(config, CONNECTION, _Reader(profile, unlocked, address))
    except ConfigError as error:
        raise ConfigError([in_profile(one, profile.path) for one in error.problems]) from None


def gateway_address(profile: Profile, lookup: Lookup) -> IPv4Address | None:
    """Where the gateway is; a name is looked up, and what was found is remembered.

    The switch of an earlier process may keep name servers out of reach: then the last known
    address counts. None without gateway. Raises OSError when neither helps.
    """
    if profile.gateway is None:
        return None
    named = profile.gateway.address
    if isinstance(named, IPv4Address):
        return named
    file = profile.profile.state_dir / _REMEMBERED
    try:
        found = list(lookup(named))
    except OSError:
        found = []
    known = _remembered(file, named)
    if found:
        chosen = known if known in found else found[0]
        with contextlib.suppress(OSError):  # the next start looks it up anew
            _remember(file, named, chosen)
        return chosen
    if known is None:
        raise OSError(f"gateway.address: {named} has no IPv4 address that this host's DNS knows")
    return known


def _remembered(file: Path, name: str) -> IPv4Address | None:
    try:
        host, _, text = file.read_text("ascii").strip().partition(" ")
        return IPv4Address(text) if host == name else None
    except (OSError, ValueError):
        return None


def _remember(file: Path, name: str, address: IPv4Address) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_name(f".{file.name}.new")
    new.write_text(f"{name} {address}\n", "ascii")
    new.replace(file)


def _refuse(profile: Profile, key: str, value: object, why: str) -> ConfigError:
    return ConfigError([Problem(profile.path, key, why, None if value is None else shown(value))])


def _address(profile: Profile, gateway: IPv4Address | None) -> IPv4Address | None:
    if profile.gateway is None:
        return None
    named = profile.gateway.address
    return named if isinstance(named, IPv4Address) else gateway


def _newest(credentials: Credentials) -> dict[bool, MobilityCredential]:
    """By side, True for inside."""
    found: dict[bool, MobilityCredential] = {}
    for one in credentials:
        known = found.get(one.grant.inside)
        if known is None or one.expires_at >= known.expires_at:
            found[one.grant.inside] = one
    return found


def _agent_of(part: HomeAgentPart, learnt: MobilityCredential | None) -> tuple[IPv4Address, ...]:
    if part.home_agent is not None:
        return (part.home_agent,)
    return () if learnt is None else (learnt.grant.home_agent,)


def _vpn(profile: Profile, address: IPv4Address) -> VpnPolicy:
    part = profile.gateway
    if part is None:
        raise ValueError("no gateway")
    modern = part.version == 2
    return VpnPolicy(
        gateway=address,
        vpn_fa=part.vpn_fa and modern,
        endpoint_update=part.endpoint_update and modern,
        mobike=part.mobike and modern,
        tcp=bool(part.tcp_ports),
    )


def _home_agent(
    profile: Profile,
    key: str,
    part: HomeAgentPart,
    learnt: MobilityCredential | None,
    unlocked: Unlocked,
) -> HomeAgentPolicy | None:
    outside = part if isinstance(part, OutsidePart) else None
    if part.home_agent is not None and part.home_address is not None:
        association = _association(profile, key, part, unlocked)
        home_agent, home_address, ticket = part.home_agent, part.home_address, b""
        home_network = part.home_network or IPv4Network(home_address)
    elif learnt is not None:
        association = SecurityAssociation(learnt.spi, learnt.key, Algorithm.HMAC_SHA256)
        home_agent, home_address = learnt.grant.home_agent, learnt.grant.home_address
        home_network, ticket = learnt.grant.home_network, learnt.ticket
    else:
        return None
    if association is None:
        return None
    force = outside is not None and (outside.force_udp or profile.network.force_udp_encapsulation)
    return HomeAgentPolicy(
        home_agent=home_agent,
        home_address=home_address,
        home_network=home_network,
        association=association,
        ticket=ticket,
        nai=part.nai or "",
        lifetime_s=part.lifetime_s,
        encapsulation=Encapsulation(part.encapsulation),
        force_udp=force,
        zero_overhead=outside is not None and outside.zero_overhead and not force,
    )


def _association(
    profile: Profile, key: str, part: HomeAgentPart, unlocked: Unlocked
) -> SecurityAssociation | None:
    """None while the key is sealed."""
    if part.spi is None:
        raise _refuse(profile, f"{key}.spi", None, "is required with home_agent")
    if part.key is None and part.key_file is None and profile.sealed is not None:
        text = unlocked.get(f"{key}.key")
        if text is None:
            return None
        octets = decode_key(text)
    else:
        try:
            octets = key_octets(part)
        except FileRefusedError as error:
            raise _refuse(profile, f"{key}.key_file", part.key_file, str(error)) from None
    algorithm, replay = Algorithm(part.algorithm), ReplayProtection(part.replay)
    return SecurityAssociation(part.spi, octets, algorithm, replay, part.replay_window_s)


class _Reader(CredentialReader):
    """Reads credentials, those that were sealed from memory."""

    def __init__(self, profile: Profile, unlocked: Unlocked, address: IPv4Address) -> None:
        super().__init__(one_connection(profile, address))
        self._profile = profile
        self._unlocked = unlocked

    def preshared_key(self, name: str, section: ConnectionSection) -> PresharedKey:
        """From memory where the profile names none."""
        text = self._unlocked.get("login.psk")
        login = self._profile.login
        if text is None or (login is not None and (login.psk or login.psk_file)):
            return super().preshared_key(name, section)
        return PresharedKey(text.encode())

    def password(self, name: str, section: ConnectionSection) -> bytes:
        """As with the shared key."""
        text = self._unlocked.get("login.password")
        login = self._profile.login
        if text is None or (login is not None and (login.password or login.password_file)):
            return super().password(name, section)
        return text.encode()

    def secret(self, key: str, file: Path | None) -> bytes:
        """As with the shared key."""
        text = self._unlocked.get("login.ppk")
        if text is not None and file == self._profile.sealed and key.endswith(".ppk_file"):
            return text.encode()
        return super().secret(key, file)

    def local(self, name: str, section: ConnectionSection) -> LocalCredential:
        """As with the shared key."""
        pem = self._unlocked.get("login.private_key")
        login = self._profile.login
        if pem is None or (login is not None and login.private_key is not None):
            return super().local(name, section)
        from cryptography.hazmat.primitives.serialization import (  # noqa: PLC0415
            load_pem_private_key,
        )

        file = credential_keys(one_connection(self._profile), name, section).certificate
        if file is None:
            raise _refuse(self._profile, "login.certificate", None, "is required")
        try:
            return LocalCredential(
                read_certificates(file), load_pem_private_key(pem.encode(), None)
            )
        except (FileRefusedError, ValueError, TypeError) as error:
            raise _refuse(self._profile, "login.certificate", file, str(error)) from None
