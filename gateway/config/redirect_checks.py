"""Checks of ``[redirects.NAME]``: no two for the same port, none for a port of the gateway's."""

from collections.abc import Iterator

from gateway.config.document import Config
from gateway.config.findings import Findings
from gateway.config.remote_access import RedirectSection
from gateway.domain.endpoint import IpAddress
from gateway.ike.auth.identity import Identity

MAX_MOVED_PORTS = 1024
"""Of one redirect, where the device has others: each is an element of a map."""

_Own = tuple[str, IpAddress | None, int, str]
"""Protocol, address (None: any), port, key of the configuration."""


def check_redirects(config: Config, findings: Findings) -> None:
    """Each by itself, then against each other and against our own services."""
    own = list(_own(config))
    for name, section in config.redirects.items():
        key = f"redirects.{name}"
        _redirect(key, section, config.dataplane.outside_interfaces, findings)
        for protocol, address, port, whose in own:
            first, last = section.ports
            met = address is None or section.address in {None, address}
            if met and protocol == section.protocol and first <= port <= last:
                why = (
                    f"holds {port}, where the gateway itself listens ({whose}); choose other ports"
                )
                findings.refuse(f"{key}.ports", _text(section), why)
    _together(config, findings)


def _redirect(
    key: str, section: RedirectSection, outside: tuple[str, ...], findings: Findings
) -> None:
    try:
        Identity.parse(section.device)
    except ValueError as error:
        findings.refuse(f"{key}.device", section.device, f"neither a name nor an identity: {error}")
    first, last = section.ports
    if section.to_port is not None and section.to_port + last - first > 65_535:
        why = f"too high for {last - first + 1} ports; give at most {65_535 - (last - first)}"
        findings.refuse(f"{key}.to_port", section.to_port, why)
    if section.to_port not in {None, first} and last - first >= MAX_MOVED_PORTS:
        why = (
            f"moves {last - first + 1} ports, at most {MAX_MOVED_PORTS} can be; "
            "give fewer ports, or the same ones on the device"
        )
        findings.refuse(f"{key}.to_port", section.to_port, why)
    address = section.address
    if not (outside or section.sources) and (address is None or address.is_global):
        why = (
            "names no address inside, and dataplane.outside_interfaces is empty: the Internet can "
            "use it, too; name the outside interfaces, or give address or sources"
        )
        findings.warn(key, None, why)
    if address is None:
        return
    if address.is_multicast or address.is_unspecified or address.is_loopback:
        why = "not an address that inside hosts can connect to"
        findings.refuse(f"{key}.address", address, why)
    for source in section.sources:
        if source.version != address.version:
            why = f"not of the IP version of address {address}; remove it"
            findings.refuse(f"{key}.sources", source, why)


def _own(config: Config) -> Iterator[_Own]:
    for listen in config.ike.listen:
        address = None if listen.is_unspecified else listen
        yield "udp", address, config.ike.port, "ike.port"
        yield "udp", address, config.ike.nat_port, "ike.nat_port"
    for where in config.ike.tcp_listen:
        listening = None if where.address.is_unspecified else where.address
        yield "tcp", listening, where.port, "ike.tcp_listen"
    if config.api.enabled and not config.api.listen.address.is_loopback:
        api = config.api.listen
        yield "tcp", None if api.address.is_unspecified else api.address, api.port, "api.listen"
    for server in config.names.listen:
        for protocol in ("udp", "tcp"):
            yield protocol, server, config.names.port, "names.listen"


def _together(config: Config, findings: Findings) -> None:
    """By address, and those of every address against each; in the order of ports."""
    groups: dict[tuple[str, str], list[tuple[int, int, str]]] = {}
    everywhere: dict[str, list[tuple[int, int, str]]] = {}
    for name, section in config.redirects.items():
        entry = (*section.ports, name)
        if section.address is None:
            everywhere.setdefault(section.protocol, []).append(entry)
        else:
            groups.setdefault((section.protocol, str(section.address)), []).append(entry)
    told: set[str] = set()
    for protocol, entries in everywhere.items():
        groups.setdefault((protocol, ""), [])
        for key in [key for key in groups if key[0] == protocol]:
            groups[key] += entries
    for entries in groups.values():
        reach: tuple[int, str] | None = None
        for first, last, name in sorted(entries):
            if reach is not None and first <= reach[0] and name not in told:
                told.add(name)
                why = (
                    f"overlaps redirects.{reach[1]} at the same address and protocol; "
                    "choose other ports, or another address"
                )
                findings.refuse(f"redirects.{name}.ports", _text(config.redirects[name]), why)
            if reach is None or last > reach[0]:
                reach = last, name


def _text(section: RedirectSection) -> str:
    first, last = section.ports
    return str(first) if first == last else f"{first}-{last}"
