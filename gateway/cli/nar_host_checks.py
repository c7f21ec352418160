"""What this host has to offer to the NAR servers of a configuration."""

import os
import socket
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from gateway.cli.host_checks import address_present, port_free
from gateway.cli.interface_addresses import address_of, addresses_in_use
from gateway.cli.nat_chains import nat_chains
from gateway.cli.sockets_in_use import holder, ports_in_use
from gateway.cli.verdict import Verdict
from gateway.config import Config
from gateway.config.nar import NarServerSection
from gateway.config.nar_fields import InterfaceAddress
from gateway.config.problem import span_text
from gateway.dataplane.kernel.routes_in_use import Route

SHOWN_PORTS = 5
SMALLEST_EPHEMERAL = 1024
"""Ports for the host's own connections that should be left beside what is leased."""


@dataclass(frozen=True, slots=True)
class HostView:
    """Where to look; replaced in tests."""

    sysctl: Path = Path("/proc/sys")
    addresses: Callable[[], frozenset[IPv4Address]] = addresses_in_use
    address_of: Callable[[str], IPv4Address | None] = address_of
    chains: Callable[[], Iterable[str] | None] = nat_chains


def nar_verdicts(
    config: Config, routes: Iterable[Route], *, ours: bool, view: HostView | None = None
) -> Iterator[Verdict]:
    """Everything that needs no trial; nothing without NAR servers."""
    if not config.needs_nar:
        return
    seen = view or HostView()
    present = {name for _, name in socket.if_nameindex()}
    known, on_links = seen.addresses(), list(routes)
    for name, section in config.nar.items():
        key = f"nar.{name}"
        yield from _listening(key, section, ours=ours)
        yield from _interfaces(key, section, present)
        yield from _lent(key, section, known, on_links, seen)
        yield from _leased_ports(key, section, ours=ours)
    yield _state(config)
    yield from _ephemeral(config, seen.sysctl)
    yield from _other_nat(config, seen)


def nar_kernel_verdicts(config: Config, *, portable: bool = False) -> Iterator[Verdict]:
    """Start what the kernel does for NAR servers, all of it, in a namespace of its own.

    With ``portable`` that is what the portable dataplane leaves to it.
    """
    if not config.needs_nar:
        return
    from gateway.config.to_nar import nar_settings  # noqa: PLC0415 - only with servers
    from gateway.dataplane.kernel.nar.start_trial import try_start  # noqa: PLC0415
    from gateway.dataplane.portable.nar.start_trial import (  # noqa: PLC0415
        try_start as try_portable,
    )

    settings = nar_settings(config, address_of)
    if settings is None:
        return
    trial = (try_portable if portable else try_start)(settings)
    if trial.problem is not None:
        why = trial.problem.splitlines()[0][:300]
        remedy = "CONFIG_VETH, CONFIG_NF_TABLES and CONFIG_NFT_LOG"
        if not portable:
            remedy = "CONFIG_NET_IPIP, CONFIG_NET_IPGRE, CONFIG_NF_TABLES and CONFIG_NFT_QUEUE"
        remedy = f"use a kernel with {remedy} (load the modules, or rebuild)"
        yield Verdict("kernel", "NAR servers", "missing", f"cannot be started: {why}", remedy)
        return
    said = "tunnel devices, rules, routes, ruleset and queue were made, and removed"
    yield Verdict("kernel", "NAR servers", "ok", said)
    if not any("l2tp" in section.deliveries for section in config.nar.values()):
        return
    if trial.l2tp is None:
        yield Verdict("kernel", "NAR by L2TP", "ok", "there")
    else:
        remedy = "modprobe l2tp_eth l2tp_netlink, or leave l2tp out of nar.NAME.deliveries"
        yield Verdict("kernel", "NAR by L2TP", "warn", trial.l2tp.splitlines()[0][:200], remedy)


def _listening(key: str, section: NarServerSection, *, ours: bool) -> Iterator[Verdict]:
    told: set[object] = set()
    for field, wheres in (("listen", section.listen), ("tls_listen", section.tls_listen)):
        for where in wheres:
            here = address_present(where.address, f"{key}.{field}")
            if where.address not in told:
                yield here
            told.add(where.address)
            if here.state != "missing":
                yield port_free(socket.SOCK_STREAM, where, f"{key}.{field}", ours=ours)
    end = section.tunnel_end
    if end is not None and end not in told:
        yield address_present(end, f"{key}.tunnel_address")


def _interfaces(key: str, section: NarServerSection, present: set[str]) -> Iterator[Verdict]:
    for field in ("client_interfaces", "outside_interfaces"):
        names: tuple[str, ...] = getattr(section, field)
        for interface in names:
            name = f"interface {interface}"
            if interface in present:
                yield Verdict("host", name, "ok", f"present, for {key}.{field}")
            else:
                remedy = f"correct {key}.{field}; there are: {', '.join(sorted(present))}"
                yield Verdict("host", name, "missing", "no such interface", remedy)


def _lent(
    key: str,
    section: NarServerSection,
    known: frozenset[IPv4Address],
    routes: list[Route],
    view: HostView,
) -> Iterator[Verdict]:
    for one in section.addresses:
        name = f"lent {one}"
        if isinstance(one, InterfaceAddress):
            address = view.address_of(one.interface)
            if address is None:
                detail = (
                    f"{one.interface} has no IPv4 address now: nothing can be leased until then"
                )
                remedy = f"bring {one.interface} up, or correct {key}.addresses"
                yield Verdict("network", name, "warn", detail, remedy)
            else:
                yield Verdict("network", name, "ok", f"{address} now, followed when it changes")
            continue
        numbers = range(int(one.first), int(one.last) + 1)
        lacking = [IPv4Address(number) for number in numbers if IPv4Address(number) not in known]
        if not lacking:
            yield Verdict("network", name, "ok", "on this host")
            continue
        yield _not_here(key, name, lacking, section, routes)


def _not_here(
    key: str,
    name: str,
    lacking: list[IPv4Address],
    section: NarServerSection,
    routes: list[Route],
) -> Verdict:
    """Addresses that no interface has: routed to us, or asked for on a link by ARP."""
    for route in routes:
        on_link = route.interface in section.outside_interfaces
        asked = [one for one in lacking if on_link and one in route.network]
        if asked:
            detail = (
                f"{asked[0]} is on the link of {route.interface}, and no interface has it: nobody "
                "answers when others ask for it there"
            )
            remedy = f"ip address add {asked[0]}/32 dev {route.interface}, likewise for the others"
            return Verdict("network", name, "warn", detail, remedy)
    words = f"no interface has {lacking[0]}: it has to be routed to this host"
    return Verdict("network", name, "ok", f"{words}, see {key}.outside_interfaces")


def _leased_ports(key: str, section: NarServerSection, *, ours: bool) -> Iterator[Verdict]:
    """Sockets of this host in the leased ranges; their ports are left out while they are used."""
    for protocol in ("tcp", "udp"):
        used = ports_in_use(protocol)
        for span in section.ports:
            name = f"{protocol} ports {span_text(span)}"
            taken = sorted(port for port in used if port in span)
            if not taken or ours:
                said = "a gateway runs already" if taken else "no socket of this host has one"
                yield Verdict("host", name, "ok", f"{said}, for {key}.ports")
                continue
            who = holder(used[taken[0]]) or "another process"
            shown = ", ".join(map(str, taken[:SHOWN_PORTS]))
            more = f" and {len(taken) - SHOWN_PORTS} more" if len(taken) > SHOWN_PORTS else ""
            detail = f"in use: {shown}{more} ({who}); not leased while they are"
            remedy = f"stop it, or choose other ports for {key}.ports"
            yield Verdict("host", name, "warn", detail, remedy)


def _state(config: Config) -> Verdict:
    """Whether leases can be kept; the gateway makes the folder itself."""
    folder = config.nar_settings.state_dir
    name = f"folder {folder}"
    there = next((one for one in (folder, *folder.parents) if one.exists()), folder)
    if there.is_dir() and os.access(there, os.W_OK):
        said = "keeps leases and audit" if there == folder else "to be made"
        return Verdict("host", name, "ok", said)
    why = f"{there} is {'not writable by this user' if there.is_dir() else 'no folder'}"
    remedy = f"install -d -m 700 {folder}; or correct nar_settings.state_dir"
    return Verdict("host", name, "missing", f"{why}: a restart would lose all leases", remedy)


def _ephemeral(config: Config, sysctl: Path) -> Iterator[Verdict]:
    """The ports of the host's own connections: ``gateway run`` keeps them out of the ranges."""
    switch = "net.ipv4.ip_local_port_range"
    try:
        text = (sysctl / switch.replace(".", "/")).read_text()
        first, last = map(int, text.split())
    except (OSError, ValueError):
        return
    own = range(first, last + 1)
    spans = [span for section in config.nar.values() for span in section.ports]
    inside = {
        port for span in spans for port in range(max(span[0], first), min(span[-1], last) + 1)
    }
    name = "ports of own connections"
    left = len(own) - len(inside)
    if not inside:
        yield Verdict("network", name, "ok", f"{switch} = {first} {last}, nothing of it is leased")
    elif left < SMALLEST_EPHEMERAL:
        detail = f"{switch} = {first} {last}: only {left} are left beside what is leased"
        remedy = f'sysctl -w {switch}="32768 60999", or lease other ports'
        yield Verdict("network", name, "warn", detail, remedy)
    else:
        detail = f"{left} are left; gateway run reserves the others (ip_local_reserved_ports)"
        yield Verdict("network", name, "ok", detail)


def _other_nat(config: Config, view: HostView) -> Iterator[Verdict]:
    """Somebody else's translation may choose a port that is leased; such packets are dropped."""
    name = "other address translation"
    chains = view.chains()
    if chains is None:
        remedy = "run as root, with nft installed"
        yield Verdict("network", name, "warn", "cannot be looked for", remedy)
        return
    found = list(chains)
    if not found:
        yield Verdict("network", name, "ok", "none")
        return
    free = "1024-19999"
    detail = f"{', '.join(found)}: may translate to leased ports, and such packets are dropped"
    remedy = f"let nar.NAME.masquerade do it and remove that, or give it other ports: to :{free}"
    masked = any(section.masquerade for section in config.nar.values())
    if masked:
        remedy = "remove it: nar.NAME.masquerade translates already"
    yield Verdict("network", name, "warn", detail, remedy)
