"""Checks of NAR servers beside each other, and beside mobility agents."""

from ipaddress import IPv4Address
from itertools import combinations

from gateway.config.document import Config
from gateway.config.findings import Findings
from gateway.config.nar import NarServerSection
from gateway.config.nar_checks import collide, overlap, spans
from gateway.config.problem import span_text


def check_nar_together(config: Config, findings: Findings) -> None:
    """What is right by itself and wrong beside others."""
    for (one, a), (two, b) in combinations(config.nar.items(), 2):
        _two_servers((one, a), (two, b), findings)
    _shared(config, findings)
    _foreign_agents(config, findings)


def _two_servers(
    first: tuple[str, NarServerSection], second: tuple[str, NarServerSection], findings: Findings
) -> None:
    (one, a), (two, b) = first, second
    for field, wheres in (("listen", b.listen), ("tls_listen", b.tls_listen)):
        for where in wheres:
            if any(collide(where, other) for other in (*a.listen, *a.tls_listen)):
                why = f"is where nar.{one} listens already; choose another address or port"
                findings.refuse(f"nar.{two}.{field}", where, why)
    if not _share_addresses(a, b):
        return
    for mine in b.ports:
        for its in a.ports:
            if overlap(mine, its):
                why = _both(one, f"ports {span_text(its)}")
                findings.refuse(f"nar.{two}.ports", span_text(mine), why)
    for field in ("icmp_ids", "spis"):
        mine, its = getattr(b, field), getattr(a, field)
        if overlap(mine, its):
            why = _both(one, f"{field} {span_text(its)}")
            findings.refuse(f"nar.{two}.{field}", span_text(mine), why)


def _both(name: str, what: str) -> str:
    return (
        f"overlaps {what} of nar.{name}, which lends the same address: both would lease the same; "
        "give each its own part, or other addresses"
    )


def _share_addresses(a: NarServerSection, b: NarServerSection) -> bool:
    if set(a.lent_interfaces) & set(b.lent_interfaces):
        return True
    return any(mine.overlaps(its) for mine in spans(a) for its in spans(b))


def _shared(config: Config, findings: Findings) -> None:
    if not config.needs_nar:
        return
    queue = config.nar_settings.queue
    others = {"dataplane.queue": config.dataplane.queue}
    if config.needs_mobility:
        others["mobility.queue"] = config.mobility.queue
    for name, number in others.items():
        if queue == number:
            why = f"is {name} as well; each needs a queue of its own"
            findings.refuse("nar_settings.queue", queue, why)
    agents = {agent.address: f"home_agents.{n}" for n, agent in config.own_home_agents.items()}
    for name, section in config.nar.items():
        if not _leases_tunnels(section):
            continue
        for span in spans(section):
            for address, agent in agents.items():
                if span.first <= address <= span.last:
                    _agent_address(name, address, agent, findings)


def _leases_tunnels(section: NarServerSection) -> bool:
    rules = section.rules.values()
    return not rules or any({"ip-ip", "gre"} & set(rule.protocols) for rule in rules)


def _agent_address(name: str, address: IPv4Address, agent: str, findings: Findings) -> None:
    """Reverse tunnels of mobile nodes come to it, from wherever they are."""
    why = (
        f"is the address of {agent}: who leases a tunnel from a mobile node's care-of address "
        "gets what that node sends; keep ip-ip and gre out of the protocols of the rules, or lend "
        "another address"
    )
    findings.warn(f"nar.{name}.addresses", address, why)


def _foreign_agents(config: Config, findings: Findings) -> None:
    """Care-of addresses that visitors share by NAR (draft 004, section 2.6.3)."""
    for name, agent in config.foreign_agents.items():
        if agent.nar_server is None:
            continue
        where, key = f"foreign_agents.{name}.nar_server", f"nar.{agent.nar_server}"
        server = config.nar.get(agent.nar_server)
        if server is None:
            known = ", ".join(config.nar)
            rest = f"choose one of: {known}" if known else f"add a table [{key}]"
            findings.refuse(where, agent.nar_server, f"no such NAR server; {rest}")
            continue
        if agent.through_vpn:
            why = "is for visitors on a link; through the VPN they need no address of their own"
            findings.refuse(where, agent.nar_server, why)
        elif agent.interface not in server.client_interfaces:
            why = f"serves no clients on {agent.interface}; add it to {key}.client_interfaces"
            findings.refuse(where, agent.nar_server, why)
        address = agent.care_of_address
        lent = any(span.first <= address <= span.last for span in spans(server))
        if not lent and not server.lent_interfaces:
            why = f"does not lend {address}, the care-of address; add it to {key}.addresses"
            findings.refuse(where, agent.nar_server, why)
        if not agent.registration_required:
            why = (
                "excludes nar_server, which learns of visitors from registrations by way of this "
                "agent; remove one of them"
            )
            findings.refuse(f"foreign_agents.{name}.registration_required", False, why)
