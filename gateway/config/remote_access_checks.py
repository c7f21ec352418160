"""Checks of remote access across sections: connections, profiles, and what they name.

None costs more than sorting what there is: there may be thousands of rules and redirects.
"""

from collections.abc import Iterable, Iterator, Mapping

from gateway.config.connection import ConnectionSection, ProfileSection
from gateway.config.document import Config
from gateway.config.findings import Findings
from gateway.config.names_checks import check_names
from gateway.config.redirect_checks import check_redirects
from gateway.config.remote_access import AccessFields
from gateway.config.rule_checks import check_rules
from gateway.config.translation_checks import check_translations
from gateway.domain.child_sa import IpNetwork
from gateway.domain.endpoint import IpAddress

_TUNNEL_ONLY = (
    "pool",
    "pool6",
    "presence",
    "napt",
    "translations",
    "bridge",
    "ipv6",
    "remote_subnets",
    "local_subnets",
    "profiles",
    "rules",
    "bandwidth_up_kbit_s",
    "bandwidth_down_kbit_s",
)
_FILTERED = ("rules", "bandwidth_up_kbit_s", "bandwidth_down_kbit_s")
"""They hold for addresses that a session has for itself."""
_NOT_BLOCKED = (
    "does not hold for devices that get no address at all; add a pool, or block IPv6 on the device"
)
_GIVEN_TO_DEVICES = ("presence", "ipv6", "bridge", *_FILTERED)


def check_remote_access(config: Config, findings: Findings) -> None:
    """Everything of it, apart from what connections give devices."""
    _napt(config, findings)
    check_translations(config, findings)
    check_rules(config, findings)
    check_redirects(config, findings)
    _bridges(config, findings)
    check_names(config, findings)
    for name, connection in config.connections.items():
        _access(config, f"connections.{name}", connection, findings)
        _of_connection(f"connections.{name}", connection, findings)
    for name, profile in config.profiles.items():
        _access(config, f"profiles.{name}", profile, findings)
    _pairs(config, findings)


def needs_no_pool(config: Config, section: ConnectionSection) -> bool:
    """Whether its peers come without an inner address of ours, and without networks of their own.

    They do in transport mode and with NAPT.
    """
    profiles = [config.profiles[name] for name in section.profiles if name in config.profiles]
    napt = section.presence == "napt"
    return section.mode == "transport" or (
        napt and not any(one.presence == "address" for one in profiles)
    )


def _access(
    config: Config, key: str, section: ConnectionSection | ProfileSection, findings: Findings
) -> None:
    """What connections and profiles have in common."""
    _named(f"{key}.napt", section.napt, config.napt, "napt", findings)
    _named(f"{key}.bridge", section.bridge, config.bridges, "bridges", findings)
    _named(f"{key}.pool6", section.pool6, config.pools, "pools", findings)
    for field, known in (("rules", config.rules), ("translations", config.translations)):
        names: tuple[str, ...] = getattr(section, field) or ()
        _listed(f"{key}.{field}", names, known, field, findings)
    pool, pool6 = _network(config, section.pool), _network(config, section.pool6)
    if pool is not None and pool6 is not None and pool.version == pool6.version:
        why = (
            f"has IPv{pool6.version} addresses, as {key}.pool; "
            "name a pool of the other IP version, or remove it"
        )
        findings.refuse(f"{key}.pool6", section.pool6, why)


def _of_connection(key: str, section: ConnectionSection, findings: Findings) -> None:
    if section.pool6 is not None and section.pool is None:
        why = "needs pool: name this one there, if devices get no other address"
        findings.refuse(f"{key}.pool6", section.pool6, why)
    if section.ipv6 == "block" and section.presence == "napt" and section.pool is None:
        findings.refuse(f"{key}.ipv6", section.ipv6, _NOT_BLOCKED)
    if section.mode == "transport":
        for field in _TUNNEL_ONLY:
            value = getattr(section, field)
            if value:
                why = 'is for mode = "tunnel": transport mode ends at the gateway; remove it'
                findings.refuse(f"{key}.{field}", _plain(value), why)
    if section.remote is None:
        _of_networks(key, section, findings)
        return
    for field in _GIVEN_TO_DEVICES:
        value = getattr(section, field)
        if value not in (None, "address", "pass", ()):
            why = "is for devices that connect to us, not for a connection with remote; remove it"
            findings.refuse(f"{key}.{field}", _plain(value), why)


def _of_networks(key: str, section: ConnectionSection, findings: Findings) -> None:
    """What would silently hold for nobody: peers with networks of their own have no address."""
    has_address = section.pool is not None or section.presence == "napt" or section.profiles
    if not section.remote_subnets or has_address or section.asks_for_user:
        return
    if section.mode == "transport" or section.vpn_fa != "off":
        return
    for field in _FILTERED:
        value = getattr(section, field)
        if value:
            why = (
                "is for devices with an inner address, not for networks behind a peer; "
                "remove it, and narrow local_subnets or remote_subnets"
            )
            findings.refuse(f"{key}.{field}", _plain(value), why)


def _pairs(config: Config, findings: Findings) -> None:
    """Keys that need each other, in whatever a profile adds to a connection."""
    used: dict[str, list[ConnectionSection]] = {}
    for name, connection in config.connections.items():
        if connection.napt is not None and connection.presence != "napt":
            profiles = (config.profiles.get(one) for one in connection.profiles)
            if not any(one is not None and one.presence == "napt" for one in profiles):
                why = 'is never used; set presence = "napt", or remove it'
                findings.refuse(f"connections.{name}.napt", connection.napt, why)
        for one in connection.profiles:
            used.setdefault(one, []).append(connection)
    for name, profile in config.profiles.items():
        _pair(config, f"profiles.{name}", profile, used.get(name, []), findings)


def _pair(
    config: Config,
    key: str,
    profile: ProfileSection,
    connections: list[ConnectionSection],
    findings: Findings,
) -> None:
    inherits = profile.presence is None and any(one.presence == "napt" for one in connections)
    if profile.napt is not None and connections and profile.presence != "napt" and not inherits:
        why = 'is never used; set presence = "napt", or remove it'
        findings.refuse(f"{key}.napt", profile.napt, why)
    for connection in connections:
        pool = profile.pool or connection.pool
        pool6 = profile.pool6 or connection.pool6
        presence = profile.presence or connection.presence
        if presence != "napt" and profile.presence == "address" and pool is None:
            why = "needs addresses to give; name a pool here or in the connection"
            findings.refuse(f"{key}.presence", profile.presence, why)
            return
        if profile.ipv6 == "block" and presence == "napt" and pool is None:
            findings.refuse(f"{key}.ipv6", profile.ipv6, _NOT_BLOCKED)
            return
        one, two = _network(config, pool), _network(config, pool6)
        given = [field for field in ("pool", "pool6") if getattr(profile, field) is not None]
        if len(given) == 1 and one is not None and two is not None and one.version == two.version:
            why = (
                f"with what the connection says, both pools have IPv{one.version} addresses; "
                "name both pools here, one of each IP version"
            )
            findings.refuse(f"{key}.{given[0]}", getattr(profile, given[0]), why)
            return


def _napt(config: Config, findings: Findings) -> None:
    for name, section in config.napt.items():
        for network in section.any_source:
            if network.version != 4:
                why = "only IPv4 networks can be named here; remove it"
                findings.refuse(f"napt.{name}.any_source", network, why)
        for first, last in section.addresses:
            where, text = f"napt.{name}.addresses", _range(first, last)
            if first.is_multicast or first.is_loopback or first.is_unspecified:
                findings.refuse(where, text, "not addresses that a packet can come from")


def _bridges(config: Config, findings: Findings) -> None:
    users = {one.bridge for one in _all_access(config)}
    for name, section in config.bridges.items():
        key = f"bridges.{name}"
        _inside(config, f"{key}.interface", section.interface, findings)
        if section.address.is_multicast or section.address.is_unspecified:
            findings.refuse(f"{key}.address", section.address, "not an address of a host")
        elif section.address.version != 4:
            why = "not an IPv4 address; what is not IP passes by GRE over IPv4"
            findings.refuse(f"{key}.address", section.address, why)
        if name not in users:
            why = f'is never used; set bridge = "{name}" in a connection or profile'
            findings.warn(key, None, why)
    for name, connection in config.connections.items():
        bridge = config.bridges.get(connection.bridge or "")
        reached = connection.local_subnets
        if bridge is None or not reached or any(bridge.address in one for one in reached):
            continue
        why = (
            f"is {bridge.address}, which local_subnets do not hold: "
            f'devices cannot reach it; add "{bridge.address}"'
        )
        findings.refuse(f"connections.{name}.bridge", connection.bridge, why)


def _inside(config: Config, key: str, interface: str, findings: Findings) -> None:
    if interface in config.dataplane.outside_interfaces:
        why = "is one of dataplane.outside_interfaces; name one towards the inside"
        findings.refuse(key, interface, why)
    if interface == config.dataplane.xfrm_interface:
        why = "is dataplane.xfrm_interface, the tunnels' own; name one towards the inside"
        findings.refuse(key, interface, why)


def _named(
    key: str, name: str | None, known: Mapping[str, object], table: str, findings: Findings
) -> None:
    if name is not None and name not in known:
        findings.refuse(key, name, f"no such table; {_choice(known, table, name)}")


def _listed(
    key: str,
    names: Iterable[str],
    known: Mapping[str, object],
    table: str,
    findings: Findings,
) -> None:
    seen: set[str] = set()
    for name in names:
        _named(key, name, known, table, findings)
        if name in seen:
            findings.refuse(key, name, "is listed twice")
        seen.add(name)


_SHOWN_NAMES = 20


def _choice(known: Mapping[str, object], table: str, name: str) -> str:
    if not known:
        return f"add [{table}.{name}]"
    names = list(known)
    more = f" and {len(names) - _SHOWN_NAMES} more" if len(names) > _SHOWN_NAMES else ""
    return f"choose one of: {', '.join(names[:_SHOWN_NAMES])}{more}, or add [{table}.{name}]"


def _network(config: Config, pool: str | None) -> IpNetwork | None:
    found = config.pools.get(pool) if pool is not None else None
    return found.network if found is not None else None


def _all_access(config: Config) -> Iterator[AccessFields]:
    yield from config.connections.values()
    yield from config.profiles.values()


def _plain(value: object) -> object:
    return [str(one) for one in value] if isinstance(value, tuple) else value


def _range(first: IpAddress, last: IpAddress) -> str:
    return str(first) if first == last else f"{first}-{last}"
