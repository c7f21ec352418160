"""Checks of NAR servers: addresses, ports, interfaces, who is let in and how."""

from collections.abc import Iterator, Sequence
from itertools import combinations

from gateway.config.document import Config
from gateway.config.findings import Findings
from gateway.config.mobility_fields import AddressRange
from gateway.config.nar import NarServerSection
from gateway.config.nar_rule_checks import check_rules
from gateway.config.problem import span_text
from gateway.config.to_nar import own_ports, tls_files
from gateway.domain.child_sa import IpNetwork
from gateway.domain.endpoint import Endpoint
from gateway.domain.user_auth import LOCAL

MAX_ADDRESSES = 4096
MIN_TRUSTED_PREFIX = 8
PRIVILEGED_PORTS = range(1, 1024)


def check_nar(config: Config, findings: Findings) -> None:
    """Everything about NAR servers that the text alone can get wrong."""
    for name, section in config.nar.items():
        key = f"nar.{name}"
        _listening(config, key, section, findings)
        _addresses(config, key, section, findings)
        _interfaces(config, key, section, findings)
        _ranges(config, key, section, findings)
        _trusted(key, section, findings)
        _logins(config, key, section, findings)
        _certificate(config, key, section, findings)
        _deliveries(key, section, findings)
        _limits(key, section, findings)
        check_rules(config, key, section, findings)


def _listening(config: Config, key: str, section: NarServerSection, findings: Findings) -> None:
    if not section.listen and not section.tls_listen:
        why = "is required: the address that clients connect to, or tls_listen"
        findings.refuse(f"{key}.listen", None, why)
        return
    both = (*section.listen, *section.tls_listen)
    for field, wheres in (("listen", section.listen), ("tls_listen", section.tls_listen)):
        for where in dict.fromkeys(wheres):
            if both.count(where) > 1:
                findings.refuse(f"{key}.{field}", where, "is listed twice")
            if where.address.is_multicast or where.address.is_reserved:
                findings.refuse(f"{key}.{field}", where, "not an address of a host")
            if config.api.enabled and collide(where, config.api.listen):
                why = "is api.listen as well; choose another port"
                findings.refuse(f"{key}.{field}", where, why)
            if any(collide(where, other) for other in config.ike.tcp_listen):
                why = "is ike.tcp_listen as well; choose another port"
                findings.refuse(f"{key}.{field}", where, why)
    _tunnel_address(key, section, findings)


def collide(one: Endpoint, other: Endpoint) -> bool:
    """Whether two sockets cannot listen at both at once."""
    if one.port != other.port or one.address.version != other.address.version:
        return False
    unspecified = one.address.is_unspecified or other.address.is_unspecified
    return unspecified or one.address == other.address


def _tunnel_address(key: str, section: NarServerSection, findings: Findings) -> None:
    where, address = f"{key}.tunnel_address", section.tunnel_end
    if address is None:
        why = (
            "is required where listen names no address of its own: the end of the tunnels with "
            "the clients, an address of this host that they reach"
        )
        findings.refuse(where, None, why)
    elif address.is_unspecified or address.is_multicast or address.is_reserved:
        findings.refuse(where, address, "not an address of a host")
    elif address.is_loopback and section.tunnel_address is not None:
        why = "nobody but this host reaches it; give an address that clients reach"
        findings.warn(where, address, why)


def spans(section: NarServerSection) -> Iterator[AddressRange]:
    """The lent addresses that the file names."""
    for one in section.addresses:
        if isinstance(one, AddressRange):
            yield one


def _addresses(config: Config, key: str, section: NarServerSection, findings: Findings) -> None:
    where, named = f"{key}.addresses", list(spans(section))
    if not section.addresses:
        why = 'is empty; give at least one address, or "interface:eth0" for what an interface has'
        findings.refuse(where, None, why)
    for span in named:
        if not _of_a_host(span):
            findings.refuse(where, span, "not addresses that a host can have")
            continue
        _taken(config, where, span, findings)
    for a, b in combinations(named, 2):
        if a.overlaps(b):
            findings.refuse(where, b, f"overlaps {a}; list each address once")
    if sum(int(one.last) - int(one.first) + 1 for one in named) > MAX_ADDRESSES:
        findings.refuse(where, None, f"more than {MAX_ADDRESSES} addresses; lend fewer")
    for name in dict.fromkeys(section.lent_interfaces):
        if section.lent_interfaces.count(name) > 1:
            findings.refuse(where, f"interface:{name}", "is listed twice")
        if name in section.client_interfaces and name not in section.outside_interfaces:
            why = (
                "is an interface of the clients, and what is lent is an address outside; name one "
                "of outside_interfaces"
            )
            findings.refuse(where, f"interface:{name}", why)
        elif name not in section.outside_interfaces:
            why = f"is not in outside_interfaces; packets for its address come by it, so add {name}"
            findings.warn(where, f"interface:{name}", why)


def _of_a_host(span: AddressRange) -> bool:
    ends = (span.first, span.last)
    return not any(
        a.is_multicast or a.is_loopback or a.is_unspecified or a.is_reserved or a.is_link_local
        for a in ends
    )


def _taken(config: Config, where: str, span: AddressRange, findings: Findings) -> None:
    """Addresses that are somebody's already."""
    for name, pool in config.pools.items():
        if _meets(pool.network, span):
            why = f"pools.{name}.network {pool.network} gives these to VPN devices; choose others"
            findings.refuse(where, span, why)
    for name, home in config.home_networks.items():
        if home.interface is None and _meets(home.network, span):
            why = (
                f"lies in the virtual home_networks.{name} {home.network}, whose addresses belong "
                "to devices that are away; choose others"
            )
            findings.refuse(where, span, why)


def _meets(network: IpNetwork, span: AddressRange) -> bool:
    if network.version != 4:
        return False
    return int(network[0]) <= int(span.last) and int(span.first) <= int(network[-1])


def _interfaces(config: Config, key: str, section: NarServerSection, findings: Findings) -> None:
    for field in ("client_interfaces", "outside_interfaces"):
        names: tuple[str, ...] = getattr(section, field)
        for name in dict.fromkeys(names):
            if names.count(name) > 1:
                findings.refuse(f"{key}.{field}", name, "is listed twice")
            if name == "lo":
                why = "is the loopback interface; nobody is behind it"
                findings.refuse(f"{key}.{field}", name, why)
    for name in section.client_interfaces:
        if name in section.outside_interfaces:
            why = (
                "is in outside_interfaces as well: whoever is outside could send as a client; put "
                "clients and the outside on different interfaces"
            )
            findings.refuse(f"{key}.client_interfaces", name, why)
    if config.connections and config.dataplane.xfrm_interface in section.outside_interfaces:
        why = "is the interface of the VPN tunnels, whose devices are inside"
        findings.warn(f"{key}.outside_interfaces", config.dataplane.xfrm_interface, why)


def _ranges(config: Config, key: str, section: NarServerSection, findings: Findings) -> None:
    where = f"{key}.ports"
    if not section.ports and not any(rule.ports for rule in section.rules.values()):
        words = {word for rule in section.rules.values() for word in rule.protocols}
        if not section.rules or words & {"tcp", "udp"}:
            why = "is empty, so no TCP or UDP port can be leased; give a range"
            findings.warn(where, None, why)
    for span in section.ports:
        _services(config, section, where, span, findings)
        if span[0] in PRIVILEGED_PORTS:
            why = (
                "holds ports below 1024, which services of the system use; begin at 1024 or above, "
                "and let a rule have single ones of them by its ports"
            )
            findings.warn(where, span_text(span), why)
    for a, b in combinations(section.ports, 2):
        if overlap(a, b):
            why = f"overlaps {span_text(a)}; list each port once"
            findings.refuse(where, span_text(b), why)


def _services(
    config: Config, section: NarServerSection, where: str, span: range, findings: Findings
) -> None:
    """A port of this box's own that is leased would never reach the box again."""
    for port, service in sorted(own_ports(config, section).items()):
        if port in span:
            why = f"holds {port}, {_named(service)} of this gateway; leave that port out"
            findings.refuse(where, span_text(span), why)


def _named(service: str) -> str:
    return service if service.startswith("the ") else f"which is {service}"


def overlap(a: range, b: range) -> bool:
    """Whether they have a number in common."""
    return a.start < b.stop and b.start < a.stop


def _trusted(key: str, section: NarServerSection, findings: Findings) -> None:
    where = f"{key}.trusted"
    for one in section.trusted:
        if one.prefixlen < MIN_TRUSTED_PREFIX:
            why = (
                "too wide: whoever is in it needs no login and gets parts of our address; name the "
                f"clients' own networks, of /{MIN_TRUSTED_PREFIX} or smaller, or set backend"
            )
            findings.refuse(where, one, why)
        elif one.is_multicast or one.is_loopback:
            findings.refuse(where, one, "not addresses that a client can have")
        elif not one.is_private:
            why = (
                "are public addresses, and whoever has one needs no login; name private networks "
                "of yours, or let them log in (backend)"
            )
            findings.warn(where, one, why)
    for a, b in combinations(section.trusted, 2):
        if a.overlaps(b):
            findings.refuse(where, b, f"overlaps {a}; list each network once")
    if not section.trusted and section.backend is None:
        why = (
            "is empty and there is no backend, so nobody is let in; name the clients' networks, "
            'such as ["192.168.1.0/24"], or set backend'
        )
        findings.refuse(where, None, why)


def _logins(config: Config, key: str, section: NarServerSection, findings: Findings) -> None:
    backend = section.backend
    if backend is None:
        return
    where = f"{key}.backend"
    if backend != LOCAL and backend not in config.radius:
        allowed = ", ".join((LOCAL, *config.radius))
        why = f"no such backend; choose one of: {allowed}, or add a table [radius.{backend}]"
        findings.refuse(where, backend, why)
    if section.require_tls and not section.tls_listen:
        why = (
            "is required by backend: passwords are taken over TLS only; give address and port such "
            'as ["192.168.1.1:1081"], or set require_tls = false where nobody can listen'
        )
        findings.refuse(f"{key}.tls_listen", None, why)
    if not section.require_tls and section.listen:
        why = (
            "lets users send their passwords in the clear: whoever listens gets them; use "
            "tls_listen, unless nobody can listen there"
        )
        findings.warn(f"{key}.require_tls", False, why)


def _certificate(config: Config, key: str, section: NarServerSection, findings: Findings) -> None:
    own = [n for n in ("certificate", "private_key") if getattr(section, n) is not None]
    if not section.tls_listen:
        for name in own:
            why = "is for tls_listen, which is empty; give an address there, or remove it"
            findings.refuse(f"{key}.{name}", getattr(section, name), why)
        return
    certificate, private_key = tls_files(config, section)
    for name, file in (("certificate", certificate), ("private_key", private_key)):
        if file is None and own:
            other = own[0]
            findings.refuse(f"{key}.{name}", None, f"is required with {other}; give a PEM file")
        elif file is None:
            why = f"is required by tls_listen; give a PEM file here, or credentials.{name}"
            findings.refuse(f"{key}.{name}", None, why)


def _deliveries(key: str, section: NarServerSection, findings: Findings) -> None:
    twice(f"{key}.deliveries", section.deliveries, findings)
    if section.impose is not None and section.impose not in section.deliveries:
        why = f"is not in deliveries ({', '.join(section.deliveries)}); add it there, or choose one"
        findings.refuse(f"{key}.impose", section.impose, why)
    if section.impose == "l2tp":
        why = (
            "shuts out clients that know the draft alone: L2TP needs the commands for leases; "
            'choose "ip-ip", or remove it'
        )
        findings.warn(f"{key}.impose", "l2tp", why)


def twice(where: str, words: Sequence[str], findings: Findings) -> None:
    """Refuse what is listed more than once."""
    for word in dict.fromkeys(words):
        if words.count(word) > 1:
            findings.refuse(where, word, "is listed twice")


def _limits(key: str, section: NarServerSection, findings: Findings) -> None:
    if section.max_connections_per_source > section.max_connections:
        why = f"above max_connections = {section.max_connections}: one source may take them all"
        if "max_connections_per_source" in section.model_fields_set:
            where = f"{key}.max_connections_per_source"
            findings.warn(where, section.max_connections_per_source, why)
    for one in section.masquerade:
        where = f"{key}.masquerade"
        if not one.prefixlen:
            why = "would translate everything that leaves; name the clients' networks"
            findings.refuse(where, one, why)
        for span in spans(section):
            if _meets(one, span):
                why = f"holds {span}, which is lent; name the clients' networks"
                findings.refuse(where, one, why)
