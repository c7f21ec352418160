"""From the validated file to what NAR servers, their listeners and their dataplane take."""

import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, ip_network
from pathlib import Path
from typing import Final

from gateway.config.document import Config
from gateway.config.mobility_fields import AddressRange
from gateway.config.nar import NarRuleSection, NarServerSection
from gateway.config.nar_fields import InterfaceAddress
from gateway.dataplane.nar import NarServerSettings, NarSettings
from gateway.domain.child_sa import IpNetwork
from gateway.domain.endpoint import Endpoint, IpAddress
from gateway.domain.mobility import MIP_PORT
from gateway.domain.nar import SOCKS_PORT, Delivery, NarProtocol
from gateway.nar.policy import NarRule, NarServerPolicy

L2TP_PORT: Final = 1701
DEFAULT_RULE: Final = "default"
"""Name of the rule that counts when the file has none."""

NEVER_TARGETS: Final[tuple[IpNetwork, ...]] = tuple(
    map(
        ip_network,
        (
            "0.0.0.0/8",
            "127.0.0.0/8",
            "169.254.0.0/16",
            "224.0.0.0/4",
            "240.0.0.0/4",
            "::/128",
            "::1/128",
            "::ffff:0:0/96",
            "fe80::/10",
            "ff00::/8",
        ),
    )
)
"""This host, link-local (and so the metadata services of clouds), multicast, reserved; and IPv4
addresses written as IPv6 ones, which would get around the others."""

PROTOCOLS: Final = {
    "tcp": NarProtocol.TCP,
    "udp": NarProtocol.UDP,
    "icmp": NarProtocol.ICMP,
    "esp": NarProtocol.ESP,
    "ah": NarProtocol.AH,
    "ip-ip": NarProtocol.IP_IP,
    "gre": NarProtocol.GRE,
}
"""The words of the file."""

AddressOf = Callable[[str], IPv4Address | None]
"""The address that an interface has now; None while it has none."""


@dataclass(frozen=True, slots=True)
class NarListener:
    """Where a server's clients connect to."""

    name: str
    """Of the server."""
    listen: tuple[Endpoint, ...]
    tls_listen: tuple[Endpoint, ...]
    certificate: Path | None
    """PEM, leaf first; None without ``tls_listen``."""
    private_key: Path | None


def nar_policies(config: Config, address_of: AddressOf) -> tuple[NarServerPolicy, ...]:
    """The NAR servers in the order of the file."""
    return tuple(_policy(config, name, one, address_of) for name, one in config.nar.items())


def nar_settings(config: Config, address_of: AddressOf) -> NarSettings | None:
    """What the dataplane does for them; None without a server."""
    if not config.needs_nar:
        return None
    shared = config.nar_settings
    return NarSettings(
        servers=tuple(_server(name, one, address_of) for name, one in config.nar.items()),
        offload=shared.offload,
        queue_number=shared.queue,
        queue_length=shared.queue_length,
        mtu=shared.mtu,
        dead_after_s=shared.dead_after_s,
        forwarding=config.dataplane.forwarding,
    )


def nar_listeners(config: Config) -> tuple[NarListener, ...]:
    """Where to listen, in the order of the file."""
    return tuple(_listener(config, name, one) for name, one in config.nar.items())


def lent_interfaces(config: Config) -> dict[str, tuple[str, ...]]:
    """By server: the interfaces whose address it lends, to be watched for changes."""
    return {name: one.lent_interfaces for name, one in config.nar.items() if one.lent_interfaces}


def tls_files(config: Config, section: NarServerSection) -> tuple[Path | None, Path | None]:
    """Certificate and key: its own where it names one, else those of ``[credentials]``."""
    if section.certificate is not None or section.private_key is not None:
        return section.certificate, section.private_key
    return config.credentials.certificate, config.credentials.private_key


def own_ports(config: Config, section: NarServerSection) -> dict[int, str]:
    """Ports of this gateway's own services at what a server lends, and the keys that say so.

    What listens at other addresses only is in nobody's way.
    """
    ike = config.ike
    found: dict[int, str] = {}
    if any(_may_lend(section, address) for address in ike.listen):
        found = {ike.nat_port: "ike.nat_port", ike.port: "ike.port"}
    for where in ike.tcp_listen:
        if _may_lend(section, where.address):
            found.setdefault(where.port, "ike.tcp_listen")
    if config.needs_mobility:
        found.setdefault(MIP_PORT, "the port of mobility agents")
    for number, relay in enumerate(config.mobility.relays):
        if _may_lend(section, relay.public_address):
            found.setdefault(relay.public_port, f"mobility.relays[{number}].public_port")
    if config.api.enabled:
        found.setdefault(config.api.listen.port, "api.listen")
    if any("l2tp" in one.deliveries for one in config.nar.values()):
        found.setdefault(L2TP_PORT, "the port of L2TP tunnels with NAR clients")
    for name, one in config.nar.items():
        for field, wheres in (("listen", one.listen), ("tls_listen", one.tls_listen)):
            for where in wheres:
                if _may_lend(section, where.address):
                    found.setdefault(where.port, f"nar.{name}.{field}")
    return found


def _may_lend(section: NarServerSection, address: IpAddress) -> bool:
    """Whether a service at this address may be at one that the server lends."""
    if address.version != 4:
        return address.is_unspecified  # such a socket may take IPv4 as well
    if address.is_unspecified or section.lent_interfaces:
        return True
    return any(
        int(one.first) <= int(address) <= int(one.last)
        for one in section.addresses
        if isinstance(one, AddressRange)
    )


def _listener(config: Config, name: str, section: NarServerSection) -> NarListener:
    certificate, key = tls_files(config, section) if section.tls_listen else (None, None)
    return NarListener(name, section.listen, section.tls_listen, certificate, key)


def lent_addresses(section: NarServerSection, address_of: AddressOf) -> tuple[IPv4Address, ...]:
    """The addresses that a server lends now, each once, in the order of the file."""
    return tuple(dict.fromkeys(_lent(section, address_of)))


def _lent(section: NarServerSection, address_of: AddressOf) -> Iterator[IPv4Address]:
    for one in section.addresses:
        if isinstance(one, InterfaceAddress):
            address = address_of(one.interface)
            if address is not None:
                yield address
        else:
            yield from map(IPv4Address, range(int(one.first), int(one.last) + 1))


def _tunnel_end(section: NarServerSection) -> IPv4Address:
    """The checks have refused files that do not tell."""
    return section.tunnel_end or IPv4Address(0)


def _server(name: str, section: NarServerSection, address_of: AddressOf) -> NarServerSettings:
    return NarServerSettings(
        name=name,
        tunnel_address=_tunnel_end(section),
        addresses=lent_addresses(section, address_of),
        client_interfaces=section.client_interfaces,
        outside_interfaces=section.outside_interfaces,
        ports=section.ports,
        icmp_ids=section.icmp_ids,
        masquerade=section.masquerade,
        forbidden=tuple(one for one in section.forbidden if isinstance(one, IPv4Network)),
    )


def _policy(
    config: Config, name: str, section: NarServerSection, address_of: AddressOf
) -> NarServerPolicy:
    addresses = lent_addresses(section, address_of)
    listens = (*section.listen, *section.tls_listen)
    return NarServerPolicy(
        name=name,
        tunnel_address=_tunnel_end(section),
        addresses=addresses,
        ports=section.ports,
        icmp_ids=section.icmp_ids,
        spis=section.spis,
        rules=_rules(section),
        trusted=section.trusted,
        backend=section.backend,
        require_tls=section.require_tls,
        impose=None if section.impose is None else Delivery(section.impose),
        default_delivery=_default_delivery(section),
        forbidden=_forbidden(section, addresses),
        lease_s=section.lease_s,
        grace_s=section.grace_s,
        handshake_s=section.handshake_s,
        idle_s=section.idle_s,
        max_connections=section.max_connections,
        max_connections_per_source=section.max_connections_per_source,
        max_leases=section.max_leases,
        listen_port=listens[0].port if listens else SOCKS_PORT,
        occupied_ports=frozenset(own_ports(config, section)),
    )


def _default_delivery(section: NarServerSection) -> Delivery:
    word = "ip-ip" if "ip-ip" in section.deliveries else section.deliveries[0]
    return Delivery(section.impose or word)


def _forbidden(
    section: NarServerSection, addresses: tuple[IPv4Address, ...]
) -> tuple[IpNetwork, ...]:
    ours = [*addresses, _tunnel_end(section)]
    ours += [one.address for one in section.listen if isinstance(one.address, IPv4Address)]
    ours += [one.address for one in section.tls_listen if isinstance(one.address, IPv4Address)]
    own = (ip_network(address) for address in ours if not address.is_unspecified)
    return tuple(dict.fromkeys([*NEVER_TARGETS, *section.forbidden, *own]))


def _rules(section: NarServerSection) -> tuple[NarRule, ...]:
    rules = section.rules or {DEFAULT_RULE: NarRuleSection()}
    return tuple(_rule(name, rule, section) for name, rule in rules.items())


def _rule(name: str, rule: NarRuleSection, section: NarServerSection) -> NarRule:
    named = rule.users or rule.groups
    words = section.deliveries if rule.deliveries is None else rule.deliveries
    return NarRule(
        name=name,
        users=frozenset(map(_normal, rule.users)) if named else None,
        groups=frozenset(map(_normal, rule.groups)),
        clients=rule.clients,
        protocols=frozenset(PROTOCOLS[word] for word in rule.protocols),
        ports=rule.ports,
        remotes=rule.remotes,
        any_remote=rule.any_remote,
        deliveries=frozenset(map(Delivery, words)),
        max_leases=rule.max_leases,
        max_lease_s=rule.max_lease_s,
        proxy=rule.proxy,
        proxy_ipv6=rule.proxy_ipv6,
    )


def _normal(name: str) -> str:
    """As the user base keeps names: an accented letter is one character, however it was typed."""
    return unicodedata.normalize("NFC", name)
