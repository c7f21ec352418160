"""Checks of ``[rules.NAME]``."""

from itertools import chain

from gateway.config.document import Config
from gateway.config.findings import Findings
from gateway.config.remote_access import RuleSection
from gateway.config.remote_access_fields import PROTOCOLS
from gateway.config.to_filtering import check_rule_sizes

WITH_PORTS = frozenset(PROTOCOLS[name] for name in ("tcp", "udp", "dccp", "sctp"))
HELPER_PROTOCOLS = {
    "ftp": ("tcp",),
    "sip": ("udp", "tcp"),
    "h323": ("tcp",),
    "irc": ("tcp",),
    "pptp": ("tcp",),
    "tftp": ("udp",),
}
"""By what the first connection of each helper's protocol is made."""


def check_rules(config: Config, findings: Findings) -> None:
    """Each by itself, and whether it applies to anybody."""
    check_rule_sizes(config, findings)
    sections = chain(config.connections.values(), config.profiles.values())
    used = {name for section in sections for name in section.rules or ()}
    for name, section in config.rules.items():
        key = f"rules.{name}"
        _ports(key, section, findings)
        _helper(key, section, findings)
        if section.log and section.action == "allow":
            why = 'is never used: the rule refuses nothing; set action = "refuse", or remove it'
            findings.warn(f"{key}.log", True, why)
        if name not in used and not (section.users or section.groups or section.devices):
            why = (
                "applies to nobody; list it in rules of a connection or profile, "
                "or name users, groups or devices"
            )
            findings.warn(key, None, why)


def _ports(key: str, section: RuleSection, findings: Findings) -> None:
    if not section.ports:
        return
    if not section.protocols:
        why = 'needs protocols; add protocols = ["tcp", "udp"]'
        findings.refuse(f"{key}.ports", _texts(section.ports), why)
    for number in section.protocols:
        if number not in WITH_PORTS:
            why = "has no ports; make it a rule of its own, without ports"
            findings.refuse(f"{key}.protocols", _name(number), why)


def _helper(key: str, section: RuleSection, findings: Findings) -> None:
    if section.helper is None:
        return
    if section.action == "refuse":
        why = 'is for rules that allow; remove it, or set action = "allow"'
        findings.refuse(f"{key}.helper", section.helper, why)
    if section.direction not in {"to-inside", "from-inside"}:
        why = f'not with direction = "{section.direction}"; only to-inside and from-inside have one'
        findings.refuse(f"{key}.helper", section.helper, why)
    expected = HELPER_PROTOCOLS[section.helper]
    numbers = {PROTOCOLS[name] for name in expected}
    if section.protocols and not numbers & set(section.protocols):
        why = f"is for {' or '.join(expected)}, which protocols do not hold; add it there"
        findings.refuse(f"{key}.helper", section.helper, why)


def _name(number: int) -> str:
    return next((name for name, one in PROTOCOLS.items() if one == number), str(number))


def _texts(ports: tuple[tuple[int, int], ...]) -> list[str]:
    return [str(first) if first == last else f"{first}-{last}" for first, last in ports]
