"""What this host has to offer to a configuration."""

import errno
import os
import socket
from collections.abc import Callable, Iterable, Iterator
from ipaddress import IPv4Network
from pathlib import Path

from gateway.cli.routes import Route
from gateway.cli.sockets_in_use import holder, inodes_of_port
from gateway.cli.verdict import Verdict
from gateway.config import Config
from gateway.domain.child_sa import IpNetwork
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


def _overlaps(a: IpNetwork, b: IpNetwork) -> bool:
    return a.version == b.version and int(a[0]) <= int(b[-1]) and int(b[0]) <= int(a[-1])


def pools_and_routes(config: Config, routes: Iterable[Route]) -> Iterator[Verdict]:
    """Whether a pool takes addresses that a route of this host sends elsewhere."""
    others = [r for r in routes if r.interface != config.dataplane.xfrm_interface]
    for name, pool in config.pools.items():
        label = f"pool {name} {pool.network}"
        taken = [r for r in others if _overlaps(pool.network, r.network)]
        if not taken:
            yield Verdict("network", label, "ok", "no route uses it")
        for route in taken:
            inside = route.network.prefixlen >= pool.network.prefixlen
            detail = f"route {route.network} on {route.interface} overlaps it"
            remedy = f"change pools.{name}.network, or remove the route"
            yield Verdict("network", label, "missing" if inside else "warn", detail, remedy)


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
