"""From the validated file to the rules that :mod:`gateway.filtering` takes."""

from functools import lru_cache
from typing import Final

from gateway.config.administration import DeviceSection
from gateway.config.administration_checks import comparable_identity
from gateway.config.document import Config
from gateway.config.findings import Findings
from gateway.config.remote_access import RuleSection
from gateway.dataplane.filter import GatewayServices
from gateway.domain.filtering import Direction, Span
from gateway.filtering.book import Book, KnownDevice, Terms
from gateway.filtering.rule import Action, Rule, boxes

_ICMP, _IPIP, _TCP, _UDP, _GRE, _MINIMAL, _ICMPV6, _L2TP = 1, 4, 6, 17, 47, 55, 58, 115
_DNS: Final = (53, 53)
_MOBILE_IP: Final = (434, 434)
_L2TP_PORT: Final = (1701, 1701)


Known = dict[str, tuple[RuleSection, Rule]]
"""Rules that were made, with what they were made from."""


def book(config: Config, known: Known | None = None) -> Book:
    """All rules of the configuration, and who they are for.

    Sections in ``known`` are not looked at again; it is brought up to date.
    """
    filtering = config.filtering
    return Book(
        rules=_rules(config, {} if known is None else known),
        connections={
            name: Terms(one.rules, one.bandwidth_up_kbit_s, one.bandwidth_down_kbit_s)
            for name, one in config.connections.items()
        },
        profiles={
            name: Terms(one.rules, one.bandwidth_up_kbit_s, one.bandwidth_down_kbit_s)
            for name, one in config.profiles.items()
        },
        isolate_devices=filtering.isolate_devices,
        to_gateway=filtering.to_gateway,
        log_refusals=filtering.log_refusals,
        log_refusals_per_minute=filtering.log_refusals_per_minute,
        comparable=comparable_identity,
    )


def _rules(config: Config, known: Known) -> dict[str, Rule]:
    for name, section in config.rules.items():
        there = known.get(name)
        if there is None or (there[0] is not section and there[0] != section):
            known[name] = section, _rule(name, section)
    for name in known.keys() - config.rules.keys():
        del known[name]
    return {name: known[name][1] for name in config.rules}


def _rule(name: str, section: RuleSection) -> Rule:
    return Rule(
        name,
        Action(section.action),
        Direction(section.direction),
        section.networks,
        section.protocols,
        section.ports,
        section.times,
        section.helper,
        section.log,
        frozenset(map(comparable_identity, section.users)),
        frozenset(section.groups),
        # Names of devices, or identities in any spelling.
        frozenset({*section.devices, *map(comparable_identity, section.devices)}),
    )


def known_device(name: str, section: DeviceSection) -> KnownDevice:
    """What rules have to know of a configured device."""
    terms = Terms(None, section.bandwidth_up_kbit_s, section.bandwidth_down_kbit_s)
    return KnownDevice(name, terms)


def helpers(config: Config) -> frozenset[str]:
    """The helpers that rules ask for."""
    return frozenset(rule.helper for rule in config.rules.values() if rule.helper)


def gateway_services(config: Config) -> GatewayServices:
    """What of the gateway devices reach without rules."""
    to_gateway = config.filtering.to_gateway
    if to_gateway == "all":
        return GatewayServices(everything=True)
    if to_gateway == "none":
        return GatewayServices()
    protocols = {_ICMP, _ICMPV6}
    # Resolvers of the administrator's own may run here, too.
    ports: set[tuple[int, Span]] = {(_TCP, _DNS), (_UDP, _DNS)}
    ports |= {(_UDP, (one, one)) for one in (config.ike.port, config.ike.nat_port)}
    if config.names.listen:
        ports |= {(one, (config.names.port, config.names.port)) for one in (_TCP, _UDP)}
    if config.bridges:
        protocols.add(_GRE)
    if config.needs_mobility:
        protocols |= {_IPIP, _GRE, _MINIMAL}
        ports.add((_UDP, _MOBILE_IP))
        ports |= {(_UDP, (one.public_port, one.public_port)) for one in config.mobility.relays}
    if config.needs_nar:
        protocols |= {_IPIP, _GRE, _L2TP}
        ports.add((_UDP, _L2TP_PORT))
        for server in config.nar.values():
            for where in (*server.listen, *server.tls_listen):
                ports.add((_TCP, (where.port, where.port)))
    return GatewayServices(frozenset(protocols), frozenset(ports))


@lru_cache(maxsize=20_000)
def _size_problem(rule: Rule) -> str:
    try:
        boxes(rule)
    except ValueError as error:
        return str(error)
    return ""


def check_rule_sizes(config: Config, findings: Findings) -> None:
    """Rules that are too large for the kernel's sets."""
    for name, section in config.rules.items():
        problem = _size_problem(_rule(name, section)) if len(section.networks) > 1 else ""
        if problem:
            findings.refuse(f"rules.{name}.networks", len(section.networks), problem)
