"""Checks of ``[names]``."""

from itertools import chain

from gateway.config.document import Config
from gateway.config.findings import Findings

DNS_PORT = 53
"""The only one that devices ask."""


def check_names(config: Config, findings: Findings) -> None:
    """The forwarder: whom it asks and who asks it; registration."""
    names = config.names
    if not names.listen:
        for field in ("servers", "forward"):
            if getattr(names, field):
                why = "is never used: without names.listen there is no forwarder"
                findings.warn(f"names.{field}", None, why)
        return
    if not names.servers and not names.forward:
        why = "is required with names.listen; give the addresses of name servers"
        findings.refuse("names.servers", None, why)
    elif not names.servers:
        why = "is empty: only names below the domains of names.forward are answered"
        findings.warn("names.servers", None, why)
    _addresses(config, findings)
    _loops(config, findings)
    _domains(config, findings)
    _asked(config, findings)


def _addresses(config: Config, findings: Findings) -> None:
    listen = config.names.listen
    for address in listen:
        if address.is_multicast or address.is_unspecified:
            why = "not an address of the gateway; give one that devices reach through the tunnel"
            findings.refuse("names.listen", address, why)
        for name, pool in config.pools.items():
            if address in pool.network:
                why = f"lies in pools.{name}, whose addresses devices get; choose another"
                findings.refuse("names.listen", address, why)
        if address.is_global:
            why = (
                "an address of the Internet, where the forwarder would answer everybody; choose an"
                " inside one"
            )
            findings.warn("names.listen", address, why)
    for address in sorted({one for one in listen if listen.count(one) > 1}, key=str):
        findings.refuse("names.listen", address, "is listed twice")


def _loops(config: Config, findings: Findings) -> None:
    """A forwarder that asks itself never answers."""
    names = config.names
    if names.port != DNS_PORT:
        return
    ours = set(names.listen)
    for key, servers in (
        ("names.servers", names.servers),
        *((f"names.forward.{n}.servers", one.servers) for n, one in enumerate(names.forward)),
    ):
        for server in servers:
            if server in ours:
                why = "is names.listen itself, so the forwarder would ask itself; name another"
                findings.refuse(key, server, why)


def _domains(config: Config, findings: Findings) -> None:
    seen: set[str] = set()
    for number, one in enumerate(config.names.forward):
        for domain in one.domains:
            plain = str(domain).rstrip(".").lower()
            if plain in seen:
                why = "is in names.forward twice; list it once, with all of its servers"
                findings.refuse(f"names.forward.{number}.domains", domain, why)
            seen.add(plain)


def _asked(config: Config, findings: Findings) -> None:
    names = config.names
    pushed = set(
        chain(
            chain.from_iterable(one.dns for one in config.pools.values()),
            chain.from_iterable(one.dns for one in config.connections.values()),
            chain.from_iterable(one.dns or () for one in config.profiles.values()),
        )
    )
    if not pushed & set(names.listen):
        why = f'no device is told of it; add dns = ["{names.listen[0]}"] to a pool or connection'
        findings.warn("names.listen", names.listen[0], why)
    elif names.port != DNS_PORT:
        why = f"devices ask name servers at port {DNS_PORT} only"
        findings.warn("names.port", names.port, why)
