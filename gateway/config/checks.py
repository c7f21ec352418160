"""Checks across sections that need no file but the configuration itself."""

from ipaddress import IPv4Network
from itertools import combinations
from pathlib import Path

from gateway.config.administration_checks import check_administration
from gateway.config.connection import ConnectionSection
from gateway.config.document import Config
from gateway.config.feature_checks import check_features
from gateway.config.findings import Findings
from gateway.config.lease_checks import check_leases
from gateway.config.mobility_checks import check_mobility
from gateway.config.nar_checks import check_nar
from gateway.config.nar_together_checks import check_nar_together
from gateway.config.remote_access_checks import check_remote_access, needs_no_pool
from gateway.config.sections import PoolSection
from gateway.config.user_checks import check_login, check_users
from gateway.config.vpn_agent import uses_vpn_fa
from gateway.domain.child_sa import IpNetwork
from gateway.ike.auth.identity import Identity, IdentityPattern
from gateway.ike.crypto.proposals import SuiteOffer

HOME_NETWORKS = (
    IPv4Network("192.168.0.0/23"),
    IPv4Network("192.168.178.0/24"),
    IPv4Network("10.0.0.0/24"),
)
"""What home routers hand out; a device at such a home cannot reach a pool in it."""

WEAK = {
    "3des": "its 64-bit blocks leak after some gigabytes",
    "md5": "it is broken",
    "sha1": "it is deprecated",
    "modp768": "it can be broken",
    "modp1024": "it can be broken by large attackers",
    "modp1536": "it is deprecated",
    "null": "it does not encrypt",
}
MIN_PSK_CHARACTERS = 20
MAX_RESERVED = 65_536


def check_text(config: Config, path: Path) -> Findings:
    """Everything that the text alone can get wrong."""
    findings = Findings(path)
    _pools(config, findings)
    check_leases(config, findings)
    check_users(config, findings)
    for name, connection in config.connections.items():
        _connection(config, f"connections.{name}", connection, findings)
    _duplicates(config, findings)
    _services(config, findings)
    check_mobility(config, findings)
    check_nar(config, findings)
    check_nar_together(config, findings)
    check_remote_access(config, findings)
    if not (config.connections or config.has_mobility_agents or config.needs_nar):
        findings.warn("connections", None, "there is none, so nobody can connect")
    return findings


def _overlap(a: IpNetwork, b: IpNetwork) -> bool:
    return a.version == b.version and int(a[0]) <= int(b[-1]) and int(b[0]) <= int(a[-1])


def _covers(outer: IpNetwork, inner: IpNetwork) -> bool:
    return _overlap(outer, inner) and outer.prefixlen <= inner.prefixlen


def _pools(config: Config, findings: Findings) -> None:
    for name, pool in config.pools.items():
        _pool(config, f"pools.{name}", pool, findings)
    for (one, a), (two, b) in combinations(config.pools.items(), 2):
        if _overlap(a.network, b.network):
            why = f"overlaps pools.{one}.network {a.network}; give each pool its own addresses"
            findings.refuse(f"pools.{two}.network", b.network, why)


def _pool(config: Config, key: str, pool: PoolSection, findings: Findings) -> None:
    network = pool.network
    if network.is_multicast or network.is_loopback or network.is_unspecified:
        findings.refuse(f"{key}.network", network, "not addresses that a device can have")
        return
    if network.prefixlen < 8:
        findings.refuse(f"{key}.network", network, "too large; give a network of /8 or smaller")
    for home in HOME_NETWORKS:
        if _overlap(network, home):
            why = (
                f"home routers use {home}, devices there cannot reach this pool; "
                "choose a random network such as 10.83.112.0/22"
            )
            findings.warn(f"{key}.network", network, why)
    for reserved in pool.reserved:
        if not _covers(network, reserved):
            why = f"not part of the pool's network {network}"
            findings.refuse(f"{key}.reserved", reserved, why)
    if sum(reserved.num_addresses for reserved in pool.reserved) > MAX_RESERVED:
        why = f"more than {MAX_RESERVED} addresses; choose a smaller pool network instead"
        findings.refuse(f"{key}.reserved", pool.reserved, why)
    for listen in config.ike.listen:
        if listen in network:
            why = f"contains our own address {listen} of ike.listen; choose another network"
            findings.refuse(f"{key}.network", network, why)


def _connection(config: Config, key: str, section: ConnectionSection, findings: Findings) -> None:
    _inner_addresses(config, key, section, findings)
    _identities(config, key, section, findings)
    _preshared(key, section, findings)
    _proposals(key, section, findings)
    _lifetimes(key, section, findings)
    check_features(config, key, section, findings)
    check_login(config, key, section, findings)
    initiates = section.remote is not None
    for name in ("local", "request_inner_address", "start"):
        if not initiates and name in section.model_fields_set:
            value = getattr(section, name)
            if value not in (None, False, "none"):
                why = 'only for connections that we open; add remote = "ADDRESS" or remove it'
                findings.refuse(f"{key}.{name}", value, why)
    if section.remote and section.local and section.remote.address.version != section.local.version:
        why = f"not the IP version of remote {section.remote.address}"
        findings.refuse(f"{key}.local", section.local, why)


def _inner_addresses(
    config: Config, key: str, section: ConnectionSection, findings: Findings
) -> None:
    if section.pool is not None and section.pool not in config.pools:
        pools = ", ".join(config.pools)
        why = "no such pool; " + (
            f"choose one of: {pools}" if pools else f"add a table [pools.{section.pool}]"
        )
        findings.refuse(f"{key}.pool", section.pool, why)
    if section.pool is not None and section.remote_subnets:
        why = "excludes pool: the peer has either an address from a pool or its own networks"
        findings.refuse(f"{key}.remote_subnets", section.remote_subnets, why)
    if section.pool is not None and section.request_inner_address:
        why = "excludes pool: either we give an inner address or we ask for one"
        findings.refuse(f"{key}.request_inner_address", True, why)
    if section.pool is None and not section.remote_subnets and not needs_no_pool(config, section):
        why = 'is required: give pool = "NAME", or remote_subnets for a peer with its own networks'
        findings.refuse(f"{key}.pool", None, why)
    if section.mode == "transport":
        return  # both sides are the two ends of the tunnel
    if not section.local_subnets and not section.request_inner_address:
        why = 'is required: list the networks that the peer may reach, ["0.0.0.0/0"] for everything'
        findings.refuse(f"{key}.local_subnets", None, why)
    if section.pool in config.pools:
        _pool_and_subnets(key, section, config.pools[section.pool], findings)
    for remote in section.remote_subnets:
        if remote.prefixlen == 0 and section.remote is None:
            why = "a peer that connects to us would get all our traffic; name its networks"
            findings.warn(f"{key}.remote_subnets", remote, why)
    if uses_vpn_fa(config, section):
        return  # home addresses are on both sides: behind the tunnel, and at home when they are not
    for local in section.local_subnets:
        for remote in section.remote_subnets:
            if _overlap(local, remote) and 0 not in (local.prefixlen, remote.prefixlen):
                why = f"overlaps local_subnets {local}; an address can be on one side only"
                findings.refuse(f"{key}.remote_subnets", remote, why)


def _pool_and_subnets(
    key: str, section: ConnectionSection, given: PoolSection, findings: Findings
) -> None:
    pool = given.network
    for local in section.local_subnets:
        if local.prefixlen == 0 or not _overlap(local, pool):
            continue
        if _covers(pool, local):
            why = f"lies in pool {pool}, whose addresses devices get; choose another pool network"
            findings.refuse(f"{key}.local_subnets", local, why)
        elif given.advertise == "none":
            why = (
                f"contains pool {pool}: route {pool} to this gateway on the inside, "
                "or its hosts look for the devices on their own network"
            )
            findings.warn(f"{key}.local_subnets", local, why)


def _identities(config: Config, key: str, section: ConnectionSection, findings: Findings) -> None:
    local = section.local_id
    try:
        Identity.parse(config.gateway.name if local is None else local)
    except ValueError as error:
        if local is None:
            findings.refuse("gateway.name", config.gateway.name, f"not an identity: {error}")
        else:
            findings.refuse(f"{key}.local_id", local, f"not an identity: {error}")
    try:
        IdentityPattern.parse(section.remote_id)
    except ValueError as error:
        findings.refuse(f"{key}.remote_id", section.remote_id, f"not a pattern: {error}")


def _preshared(key: str, section: ConnectionSection, findings: Findings) -> None:
    uses = "psk" in (section.local_auth, section.remote_auth)
    given = [name for name in ("psk", "psk_file") if getattr(section, name) is not None]
    if uses and not given:
        why = "is required for psk authentication; give psk_file (better) or psk"
        findings.refuse(f"{key}.psk_file", None, why)
    if len(given) == 2:
        findings.refuse(f"{key}.psk", None, "excludes psk_file; give one of them")
    if given and not uses:
        why = 'is never used; set local_auth or remote_auth to "psk", or remove it'
        findings.refuse(f"{key}.{given[0]}", None, why)
    if section.psk is not None:
        check_secret(f"{key}.psk", section.psk.get_secret_value(), findings)
    if uses and "*" in section.remote_id and section.local_auth == "psk":
        why = "with one shared secret, every such device can pose as this gateway"
        findings.warn(f"{key}.remote_id", section.remote_id, why)


def check_secret(key: str, secret: str, findings: Findings) -> None:
    """Warn about a shared secret that can be guessed or was written in another syntax."""
    if len(secret) < MIN_PSK_CHARACTERS:
        why = (
            f"shorter than {MIN_PSK_CHARACTERS} characters, it can be guessed offline; "
            'use the output of "openssl rand -base64 32"'
        )
        findings.warn(key, None, why)
    if secret[:2].lower() in ("0x", "0s"):
        why = (
            f"begins with {secret[:2]}, which is taken literally here, not as hexadecimal or base64"
        )
        findings.warn(key, None, why)


def _proposals(key: str, section: ConnectionSection, findings: Findings) -> None:
    for kind in ("ike", "esp"):
        strings: tuple[str, ...] = getattr(section, f"{kind}_proposals")
        for proposal in strings:
            try:
                SuiteOffer.parse(kind, [proposal])
            except ValueError as error:
                findings.refuse(f"{key}.{kind}_proposals", proposal, str(error))
                continue
            for part in proposal.lower().split("-"):
                found = next((weak for weak in WEAK if part.removeprefix("prf") == weak), None)
                if found:
                    why = f"{part} is weak: {WEAK[found]}; remove it once the peer can do better"
                    findings.warn(f"{key}.{kind}_proposals", proposal, why)


def _lifetimes(key: str, section: ConnectionSection, findings: Findings) -> None:
    lifetimes = section.lifetimes
    for unit in ("bytes", "packets"):
        soft: int | None = getattr(lifetimes, f"child_soft_{unit}")
        hard: int | None = getattr(lifetimes, f"child_hard_{unit}")
        if soft is not None and hard is not None and soft >= hard:
            why = f"must be below child_hard_{unit} = {hard}, to leave time for rekeying"
            findings.refuse(f"{key}.lifetimes.child_soft_{unit}", soft, why)


def _duplicates(config: Config, findings: Findings) -> None:
    seen: dict[tuple[object, ...], str] = {}
    for name, section in config.connections.items():
        remote = (section.remote.address, section.remote.port) if section.remote else None
        kind = (section.ike_version, section.exchange)
        proof = (*kind, section.remote_auth, bool(section.user_auth))
        identity = (section.local_id or config.gateway.name, section.remote_id, remote, *proof)
        if identity in seen:
            why = (
                f"connections.{seen[identity]} has the same local_id and remote_id "
                "and proof, so this one would never be used; change one identity"
            )
            findings.refuse(f"connections.{name}.remote_id", section.remote_id, why)
        seen.setdefault(identity, name)


def _services(config: Config, findings: Findings) -> None:
    check_administration(config, findings)
    ike = config.ike
    if ike.port == ike.nat_port:
        why = "is ike.port as well; the two need different ports"
        findings.refuse("ike.nat_port", ike.nat_port, why)
    if ike.cookie_threshold > ike.half_open_limit:
        why = f"above half_open_limit = {ike.half_open_limit}, so cookies are never demanded"
        findings.warn("ike.cookie_threshold", ike.cookie_threshold, why)
    for address in ike.listen:
        if address.is_multicast:
            findings.refuse("ike.listen", address, "not an address of a host")
    repeated = {a for a in ike.listen if ike.listen.count(a) > 1}
    for address in sorted(repeated, key=str):
        findings.refuse("ike.listen", address, "is listed twice")
    _tcp(config, findings)


def _tcp(config: Config, findings: Findings) -> None:
    ike = config.ike
    for where in ike.tcp_listen:
        if where.address.is_multicast:
            findings.refuse("ike.tcp_listen", where, "not an address of a host")
        elif where == config.api.listen and config.api.enabled:
            findings.refuse("ike.tcp_listen", where, "is api.listen as well; choose another port")
    repeated = {where for where in ike.tcp_listen if ike.tcp_listen.count(where) > 1}
    for where in sorted(repeated, key=str):
        findings.refuse("ike.tcp_listen", where, "is listed twice")
    if ike.tcp_listen and not any(address.version == 4 for address in ike.listen):
        why = "needs an IPv4 address in ike.listen, which what comes by TCP is handed on to"
        findings.refuse("ike.tcp_listen", ike.tcp_listen[0], why)
    if ike.tcp_connections_per_source > ike.tcp_connections:
        why = f"above tcp_connections = {ike.tcp_connections}: one source may take them all"
        if "tcp_connections_per_source" in ike.model_fields_set:
            findings.warn("ike.tcp_connections_per_source", ike.tcp_connections_per_source, why)
