"""What this host has to offer to a configuration."""

import errno
import os
import shutil
import socket
from collections.abc import Callable, Iterable, Iterator
from ipaddress import IPv4Network
from pathlib import Path

from gateway.appliance.pool_overlaps import overlaps
from gateway.appliance.remote_access.reachability import not_on_link
from gateway.appliance.remote_access.route_hints import route_hints
from gateway.cli.sockets_in_use import holder, inodes_of_port
from gateway.cli.verdict import State, Verdict
from gateway.config import Config
from gateway.dataplane.kernel.routes_in_use import Route
from gateway.domain.endpoint import Endpoint, IpAddress

CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_NET_RAW": 13, "CAP_NET_BIND_SERVICE": 10}
"""What the core needs, with their bits."""


def privileges(status: str) -> Verdict:
    """Whether ``/proc/self/status`` holds the capabilities that the core needs."""
    effective = 0
    for line in status.splitlines():
        if line.startswith("CapEff:"):
            effective = int(line.split()[1], 16)
    lacking = [name for name, bit in CAPABILITIES.items() if not effective >> bit & 1]
    if not lacking:
        return Verdict("host", "privileges", "ok", ", ".join(CAPABILITIES))
    remedy = "run as root, or grant them with AmbientCapabilities= of systemd"
    return Verdict("host", "privileges", "missing", f"without {', '.join(lacking)}", remedy)


def _bind(kind: socket.SocketKind, endpoint: Endpoint) -> int:
    """The error number of binding to an endpoint, 0 when it is free."""
    address = endpoint.address
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    try:
        with socket.socket(family, kind) as sock:
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            if kind == socket.SOCK_STREAM:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((str(address), endpoint.port))
    except OSError as error:
        return error.errno or errno.EIO
    return 0


def address_present(address: IpAddress, key: str = "ike.listen") -> Verdict:
    """Whether this host has an address that ``key`` names."""
    name = f"address {address}"
    code = _bind(socket.SOCK_DGRAM, Endpoint(address, 0))
    if code == errno.EADDRNOTAVAIL:
        remedy = f"add it: ip address add {address} dev INTERFACE; or change {key}"
        return Verdict("host", name, "missing", "no interface has it", remedy)
    if code == errno.EAFNOSUPPORT:
        remedy = f"enable it, or remove the address from {key}"
        return Verdict("host", name, "missing", f"no IPv{address.version} on this host", remedy)
    if code:
        return Verdict("host", name, "warn", os.strerror(code), f"check {key}")
    return Verdict("host", name, "ok", "any address" if address.is_unspecified else "present")


def port_free(kind: socket.SocketKind, endpoint: Endpoint, key: str, *, ours: bool) -> Verdict:
    """Whether a port can be bound; ``ours`` says that a gateway runs here already."""
    protocol = "tcp" if kind == socket.SOCK_STREAM else "udp"
    name = f"{protocol} {endpoint}"
    code = _bind(kind, endpoint)
    held = inodes_of_port("tcp" if protocol == "tcp" else "udp", endpoint.port)
    if code == errno.EADDRINUSE or (code == errno.EACCES and held):
        if ours:
            return Verdict("host", name, "ok", "in use by the running gateway")
        who = holder(held) or "another process"
        remedy = f"stop it, or change {key}"
        return Verdict("host", name, "missing", f"in use by {who}", remedy)
    if code in (0, errno.EACCES):
        return Verdict("host", name, "ok", "free")
    return Verdict("host", name, "warn", os.strerror(code), f"check {key}")


def addresses_and_ports(config: Config, *, ours: bool) -> Iterator[Verdict]:
    """Each listen address once, and its ports where the address is there."""
    for address in config.ike.listen:
        found = address_present(address)
        yield found
        if found.state == "missing":
            continue
        for port, key in ((config.ike.port, "ike.port"), (config.ike.nat_port, "ike.nat_port")):
            yield port_free(socket.SOCK_DGRAM, Endpoint(address, port), key, ours=ours)
    if config.api.enabled:
        yield port_free(socket.SOCK_STREAM, config.api.listen, "api.listen", ours=ours)


def forwarding(config: Config, sysctl: Path = Path("/proc/sys")) -> Iterator[Verdict]:
    """Whether the kernel forwards packets of the IP versions that the tunnels carry."""
    networks = [n for c in config.connections.values() for n in c.local_subnets]
    networks += [pool.network for pool in config.pools.values()]
    networks += [home.network for home in config.home_networks.values()]
    networks += [IPv4Network(a.care_of_address) for a in config.foreign_agents.values()]
    networks += [IPv4Network(0)] if config.needs_nar else []
    switches = {4: "net.ipv4.ip_forward", 6: "net.ipv6.conf.all.forwarding"}
    for version in sorted({network.version for network in networks}):
        switch = switches[version]
        try:
            on = (sysctl / switch.replace(".", "/")).read_text().strip() != "0"
        except OSError:
            on = False
        name = f"forwarding IPv{version}"
        if on:
            yield Verdict("network", name, "ok", f"{switch} = 1")
        elif config.dataplane.forwarding:
            yield Verdict("network", name, "ok", f"{switch} = 0; gateway run turns it on")
        else:
            remedy = f"sysctl -w {switch}=1, and for good in /etc/sysctl.d/"
            yield Verdict("network", name, "missing", f"{switch} = 0", remedy)


def pools_and_routes(config: Config, routes: Iterable[Route]) -> Iterator[Verdict]:
    """Whether a pool takes addresses that a route of this host sends elsewhere."""
    found = list(overlaps(config, routes))
    for name, pool in config.pools.items():
        label = f"pool {name} {pool.network}"
        taken = [one for one in found if one.pool == name]
        if not taken:
            yield Verdict("network", label, "ok", "no route uses it")
        for one in taken:
            state: State = "missing" if one.grave else "warn"
            yield Verdict("network", label, state, one.detail, one.remedy)


def pools_and_inside(config: Config, routes: Iterable[Route]) -> Iterator[Verdict]:
    """Whether and how the inside learns where each pool is."""
    routes = list(routes)
    for name, pool in config.pools.items():
        label = f"pool {name} advertise"
        if pool.advertise == "proxy-arp":
            interface = str(pool.inside_interface)
            why = not_on_link(pool.network, interface, routes)
            if why is None:
                detail = f"ARP is answered on {interface}"
                yield Verdict("network", label, "ok", detail)
            else:
                detail, _, remedy = why.partition("; ")
                yield Verdict("network", label, "missing", detail, remedy)
        elif pool.advertise == "frr":
            if shutil.which("vtysh") is None:
                remedy = "run: apt install frr, and turn a routing daemon of it on"
                yield Verdict("network", label, "missing", "FRR is not installed", remedy)
            else:
                yield Verdict("network", label, "ok", "FRR is installed")
        elif pool.advertise == "route-hint":
            commands = "; ".join(one["command"] for one in route_hints(config, name))
            detail = "inside routers need a route"
            yield Verdict("network", label, "warn", detail, f"enter there: {commands}")


def api_user(config: Config, lookup: Callable[[str], object]) -> Verdict | None:
    """Whether the user that the API runs as exists; None when the API is off."""
    if not config.api.enabled:
        return None
    user = config.api.user
    try:
        lookup(user)
    except KeyError:
        remedy = f"useradd --system {user}; or change api.user"
        return Verdict("host", f"user {user}", "missing", "no such user", remedy)
    return Verdict("host", f"user {user}", "ok", "runs the API")
