"""What this host has to offer to the mobility agents of a configuration."""

import os
import socket
from collections.abc import Iterable, Iterator
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.cli.host_checks import address_present, port_free
from gateway.cli.verdict import Verdict
from gateway.config import Config
from gateway.dataplane.kernel.routes_in_use import Route
from gateway.domain.endpoint import Endpoint
from gateway.domain.mobility import MIP_PORT

if TYPE_CHECKING:
    from gateway.dataplane.kernel.mobility.outside_trial import OutsideTrial

SYSCTL_FILE = "/etc/sysctl.d/90-gateway.conf"
_ANY = IPv4Address("0.0.0.0")  # noqa: S104 - registrations come to all addresses of agents
_STRICT = "1"
_APPLY = "sysctl --system"


def mobility_verdicts(config: Config, routes: Iterable[Route], *, ours: bool) -> Iterator[Verdict]:
    """Everything that needs no trial; nothing without mobility agents and relays."""
    yield from _addresses(config)
    if not config.has_mobility_agents:
        return
    port = port_free(socket.SOCK_DGRAM, Endpoint(_ANY, MIP_PORT), "", ours=ours)
    if port.state == "missing":
        port = replace(port, remedy="stop it: registrations have no other port")
    yield port
    yield from _interfaces(config)
    yield from _state(config)
    yield from reverse_path(config)
    yield from tcp_loose()
    yield from _routes(config, list(routes))


def _addresses(config: Config) -> Iterator[Verdict]:
    agents = [
        (agent.address, f"home_agents.{name}.address")
        for name, agent in config.own_home_agents.items()
    ]
    agents += [
        (agent.care_of_address, f"foreign_agents.{name}.care_of_address")
        for name, agent in config.foreign_agents.items()
    ]
    agents += [
        (relay.public_address, f"mobility.relays[{number}].public_address")
        for number, relay in enumerate(config.mobility.relays)
    ]
    told = set(config.ike.listen)
    for address, key in agents:
        if address not in told:
            yield address_present(address, key)
        told.add(address)


def _interfaces(config: Config) -> Iterator[Verdict]:
    """The links that agents serve."""
    named = {
        f"home_networks.{name}.interface": section.interface
        for name, section in config.home_networks.items()
    }
    named |= {
        f"foreign_agents.{name}.interface": section.interface
        for name, section in config.foreign_agents.items()
        if not section.through_vpn
    }
    present = {name for _, name in socket.if_nameindex()}
    for key, interface in named.items():
        if interface is None:
            continue
        name = f"interface {interface}"
        if interface in present:
            yield Verdict("host", name, "ok", f"present, for {key}")
        else:
            remedy = f"correct {key}; there are: {', '.join(sorted(present))}"
            yield Verdict("host", name, "missing", "no such interface", remedy)


def _state(config: Config) -> Iterator[Verdict]:
    """Whether bindings can be kept; the gateway makes the folder itself."""
    if not config.own_home_agents:
        return
    folder = config.mobility.state_dir
    name = f"folder {folder}"
    there = next((one for one in (folder, *folder.parents) if one.exists()), folder)
    if there.is_dir() and os.access(there, os.W_OK):
        yield Verdict("host", name, "ok", "keeps the bindings" if there == folder else "to be made")
        return
    why = f"{there} is {'not writable by this user' if there.is_dir() else 'no folder'}"
    remedy = f"install -d -m 700 {folder}; or correct mobility.state_dir"
    yield Verdict("host", name, "missing", f"{why}: a restart would lose the bindings", remedy)


def reverse_path(config: Config, sysctl: Path = Path("/proc/sys")) -> Iterator[Verdict]:
    """Strict reverse path filters drop what the slow path and address switching let in.

    Those packets seem to come from the interface of the tunnel, and their sources are home
    addresses, whose route is a tunnel. Tunnels' own devices and visited links are set by the
    gateway itself.
    """
    if not config.has_mobility_agents:
        return
    folder = sysctl / "net/ipv4/conf"
    every = _read(folder / "all/rp_filter")
    strict = [
        path.parent.name
        for path in sorted(folder.glob("*/rp_filter"))
        if path.parent.name not in ("all", "default", "lo")
        and max(_read(path), every, key=lambda text: text or "0") == _STRICT
    ]
    wanted = [name for name in strict if name in _tunnels_come_by(config, strict)]
    name = "reverse path filters"
    if not wanted:
        yield Verdict("network", name, "ok", "none is strict where tunnels come in")
        return
    detail = f"strict (1) on {', '.join(wanted)}: {_lost(config)}"
    lines = ", ".join(f'"net.ipv4.conf.{one}.rp_filter = 2"' for one in wanted)
    yield Verdict(
        "network", name, "warn", detail, f"write {lines} into {SYSCTL_FILE}, then: {_APPLY}"
    )


def _tunnels_come_by(config: Config, interfaces: Iterable[str]) -> set[str]:
    """Interfaces that tunnels may come in by: the outside ones alone if nothing is inside."""
    outside = set(config.dataplane.outside_interfaces)
    inside = any(agent.placement == "inside" for agent in config.own_home_agents.values())
    if outside and not inside and not config.foreign_agents:
        return outside
    ours = {config.dataplane.xfrm_interface}
    ours |= {name for name in interfaces if name.startswith("mob-")}
    return set(interfaces) - ours


def _lost(config: Config) -> str:
    """What a strict filter drops."""
    if not config.mobility.offload:
        return "it drops everything that comes out of tunnels (offload = false)"
    return (
        "it drops zero-overhead packets, and those of tunnels with minimal encapsulation or GRE "
        "options"
    )


def _read(path: Path) -> str:
    try:
        return path.read_text("ascii").strip()
    except OSError:
        return ""


def tcp_loose(sysctl: Path = Path("/proc/sys")) -> Iterator[Verdict]:
    """Whether connection tracking takes up TCP sessions in the middle.

    A session that began inside is seen here for the first time after its device went outside
    (draft 001, section 6.3).
    """
    switch = "net.netfilter.nf_conntrack_tcp_loose"
    value = _read(sysctl / switch.replace(".", "/"))
    if value == "0":
        detail = f"{switch} = 0: sessions of devices that moved count as invalid"
        remedy = f'sysctl -w {switch}=1, and for good: write "{switch} = 1" into {SYSCTL_FILE}'
        yield Verdict("network", "sessions that moved", "warn", detail, remedy)
    else:
        said = f"{switch} = {value}" if value else "no connection tracking"
        yield Verdict("network", "sessions that moved", "ok", said)


def _routes(config: Config, routes: list[Route]) -> Iterator[Verdict]:
    """A physical home network is on its link, a virtual one nowhere else."""
    for name, section in config.home_networks.items():
        label = f"home network {name} {section.network}"
        same = [route for route in routes if route.network == section.network]
        if section.interface is None:
            for route in same:
                detail = f"route {route.network} on {route.interface}: it is no virtual network"
                remedy = f'set home_networks.{name}.interface = "{route.interface}", or remove it'
                yield Verdict("network", label, "warn", detail, remedy)
            if not same:
                yield Verdict("network", label, "ok", "virtual")
        elif any(route.interface == section.interface for route in same):
            yield Verdict("network", label, "ok", f"on {section.interface}")
        else:
            detail = f"no route to it on {section.interface}"
            remedy = (
                f"give {section.interface} an address of it, or remove "
                f"home_networks.{name}.interface if it is virtual"
            )
            yield Verdict("network", label, "missing", detail, remedy)


def kernel_verdicts(config: Config, *, portable: bool = False) -> Iterator[Verdict]:
    """Start what the kernel does for the agents, all of it, in a namespace of its own.

    With ``portable`` that is the forwarder's, which needs no more of the kernel than SAs do.
    """
    from gateway.config.to_mobility import mobility_settings  # noqa: PLC0415 - only with agents

    settings = mobility_settings(config)
    if settings is None or portable:
        return
    from gateway.dataplane.kernel.mobility.start_trial import try_start  # noqa: PLC0415

    problem = try_start(settings)
    if problem is None:
        detail = "tunnel devices, rules, routes and queue were made, and removed"
        yield Verdict("kernel", "mobility agents", "ok", detail)
    else:
        why = problem.splitlines()[0][:300]
        remedy = "use a kernel with CONFIG_NET_IPIP, CONFIG_NET_IPGRE, CONFIG_NET_FOU_IP_TUNNELS, "
        remedy += "CONFIG_NF_TABLES and CONFIG_NFT_QUEUE (load the modules, or rebuild)"
        yield Verdict("kernel", "mobility agents", "missing", f"cannot be started: {why}", remedy)


def outside_verdicts(config: Config) -> Iterator[Verdict]:
    """Send registrations from outside at the ruleset, in a namespace of its own."""
    from gateway.config.to_mobility import mobility_settings  # noqa: PLC0415 - only with agents

    settings = mobility_settings(config)
    if settings is None or not settings.inside_home_agents:
        return
    from gateway.dataplane.kernel.mobility.outside_trial import try_from_outside  # noqa: PLC0415
    from gateway.dataplane.kernel.mobility.ruleset import QUEUED  # noqa: PLC0415
    from gateway.dataplane.kernel.scratch import TrialFailedError  # noqa: PLC0415
    from gateway.dataplane.portable.mobility.wording import wording  # noqa: PLC0415

    name = "registrations from outside"
    if not settings.outside_interfaces:
        remedy = 'set dataplane.outside_interfaces = ["INTERFACE"], or let a firewall drop them'
        detail = "reach inside home agents: no interface is known to be outside"
        yield Verdict("network", name, "warn", detail, remedy)
        return
    # Who is let in is the same, whether rules queue or log.
    wordings = QUEUED, wording(settings.queue_number)
    try:
        trials = try_from_outside(settings, wordings)
    except TrialFailedError as error:
        why = str(error).splitlines()[0][:200]
        yield Verdict("network", name, "warn", f"could not be tried: {why}", "see kernel, below")
        return
    for trial in trials:
        yield outside_verdict(trial, settings.outside_interfaces)


def outside_verdict(trial: "OutsideTrial", outside: tuple[str, ...]) -> Verdict:
    """What became of registrations to one inside home agent."""
    name = f"registrations to {trial.home_agent}"
    if trial.leaks:
        detail = f"arrive from outside, by {', '.join(trial.leaks)}"
        remedy = "report this: the gateway's ruleset does not protect an inside home agent"
        return Verdict("network", name, "missing", detail, remedy)
    if not trial.reachable:
        remedy = "report this: the gateway's ruleset drops what it must not"
        return Verdict("network", name, "missing", "do not even arrive from inside", remedy)
    tried = f"tried: dropped from {', '.join(outside)}, taken from inside"
    return Verdict("network", name, "ok", tried)
