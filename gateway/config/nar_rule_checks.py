"""Checks of the rules of NAR servers: whether somebody fits them, and what they give."""

from collections.abc import Sequence
from ipaddress import IPv4Network
from itertools import combinations

from gateway.config.document import Config
from gateway.config.findings import Findings
from gateway.config.nar import NarRuleSection, NarServerSection
from gateway.config.problem import span_text
from gateway.config.to_nar import own_ports

END_TO_END_ONLY = ("ah",)


def check_rules(config: Config, key: str, section: NarServerSection, findings: Findings) -> None:
    """The rules of one server, each by itself and all in their order."""
    if not section.rules:
        return
    for name, rule in section.rules.items():
        where = f"{key}.rules.{name}"
        _listed_once(where, rule, findings)
        _who(section, where, rule, findings)
        _what(where, rule, findings)
        _ports(config, section, where, rule, findings)
        _delivered(section, where, rule, findings)
        _remotes(section, where, rule, findings)
    for (one, a), (two, b) in combinations(section.rules.items(), 2):
        if _covers(a, b):
            why = (
                f"nobody gets to it: who fits it fits {key}.rules.{one} above, and the first rule "
                "counts; put it above that one"
            )
            findings.refuse(f"{key}.rules.{two}", None, why)


def _listed_once(where: str, rule: NarRuleSection, findings: Findings) -> None:
    for field in ("users", "groups", "protocols", "deliveries"):
        words: tuple[str, ...] = getattr(rule, field) or ()
        for word in dict.fromkeys(words):
            if words.count(word) > 1:
                findings.refuse(f"{where}.{field}", word, "is listed twice")


def _who(section: NarServerSection, where: str, rule: NarRuleSection, findings: Findings) -> None:
    """Whether anybody who is let in can fit."""
    for field in ("users", "groups"):
        names = getattr(rule, field)
        if names and section.backend is None:
            why = "nobody logs in here, so nobody fits; set backend of the server, or remove it"
            findings.refuse(f"{where}.{field}", list(names), why)
    anonymous = section.backend is None
    if anonymous and rule.clients and not _meet(rule.clients, section.trusted):
        why = (
            "nobody from here is let in: it is outside trusted, and there is no backend; add it to "
            "trusted of the server, or set backend"
        )
        findings.refuse(f"{where}.clients", [str(one) for one in rule.clients], why)


def _meet(some: Sequence[IPv4Network], others: Sequence[IPv4Network]) -> bool:
    return any(one.overlaps(other) for one in some for other in others)


def _ports(
    config: Config,
    section: NarServerSection,
    where: str,
    rule: NarRuleSection,
    findings: Findings,
) -> None:
    if rule.ports and not {"tcp", "udp"} & set(rule.protocols):
        why = "is for tcp and udp, which protocols leaves out; add them there, or remove it"
        findings.refuse(f"{where}.ports", [span_text(one) for one in rule.ports], why)
    ours = sorted(own_ports(config, section).items())
    for span in rule.ports:
        for port, service in ours:
            if port in span:
                named = service if service.startswith("the ") else f"which is {service}"
                why = f"holds {port}, {named} of this gateway; leave that port out"
                findings.refuse(f"{where}.ports", span_text(span), why)


def _what(where: str, rule: NarRuleSection, findings: Findings) -> None:
    if rule.proxy and not {"tcp", "udp"} & set(rule.protocols):
        why = "is for tcp and udp, which protocols leaves out; add them there, or remove it"
        findings.refuse(f"{where}.proxy", True, why)
    if rule.proxy_ipv6 and not rule.proxy:
        why = "is never used without proxy = true; set that too, or remove it"
        findings.refuse(f"{where}.proxy_ipv6", True, why)
    if not rule.max_leases and not rule.proxy:
        why = "allows nothing at all without proxy = true; give 1 or more, or remove the rule"
        findings.refuse(f"{where}.max_leases", 0, why)


def _delivered(
    section: NarServerSection, where: str, rule: NarRuleSection, findings: Findings
) -> None:
    for word in dict.fromkeys(rule.deliveries or ()):
        if word not in section.deliveries:
            allowed = ", ".join(section.deliveries)
            why = f"the server does not deliver so; choose some of: {allowed}, or add it there"
            findings.refuse(f"{where}.deliveries", word, why)
    words = section.deliveries if rule.deliveries is None else rule.deliveries
    if section.impose is not None and section.impose not in words:
        why = f"lacks {section.impose}, which the server imposes on everybody; add it"
        findings.refuse(f"{where}.deliveries", list(words), why)
    used = words if section.impose is None else (section.impose,)
    for protocol in END_TO_END_ONLY:
        asked = "protocols" in rule.model_fields_set and protocol in rule.protocols
        if asked and set(used) == {"translated"}:
            why = (
                "is never leased in translated mode: it signs the addresses (draft 004, section "
                "2.6.2); allow a delivery end-to-end, or remove it"
            )
            findings.warn(f"{where}.protocols", protocol, why)


def _remotes(
    section: NarServerSection, where: str, rule: NarRuleSection, findings: Findings
) -> None:
    for remote in rule.remotes:
        for never in section.forbidden:
            if isinstance(never, IPv4Network) and remote.subnet_of(never):
                why = f"lies in {never} of forbidden, which comes first; remove it from one of them"
                findings.refuse(f"{where}.remotes", remote, why)
    if rule.remotes and rule.any_remote:
        why = (
            "is never granted with remotes, which names who may be at the other end; remove one of "
            "them"
        )
        findings.refuse(f"{where}.any_remote", True, why)


def _covers(first: NarRuleSection, second: NarRuleSection) -> bool:
    """Whether whoever fits the second fits the first."""
    if first.users or first.groups:
        if not (second.users or second.groups):
            return False
        if not set(second.users) <= set(first.users):
            return False
        if not set(second.groups) <= set(first.groups):
            return False
    if not first.clients:
        return True
    return bool(second.clients) and all(
        any(one.subnet_of(wide) for wide in first.clients) for one in second.clients
    )
