"""What this host has to offer to a mobile node, and what gets in its way."""

import errno
import shutil
import socket
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address
from pathlib import Path

from gateway.cli.host_checks import port_free
from gateway.cli.sockets_in_use import holder, inodes_of_port
from gateway.cli.verdict import Verdict
from gateway.config.profile import Profile
from gateway.domain.endpoint import Endpoint
from gateway.domain.mobility import MIP_PORT
from gateway.mobile_host.duties import forwards, open_services

_ANY = IPv4Address("0.0.0.0")  # noqa: S104 - where the node's own sockets are
_TUNNELS = ("tun", "tap", "wg", "ppp", "ipsec", "vti", "nordlynx", "tailscale", "proton", "xfrm")
_NODE_DEVICES = ("mn0", "mn-")
_NM_CONF = "/etc/NetworkManager/conf.d/90-gateway-mn.conf"
MAX_SERVICES = 32


def service_verdicts(profile: Profile | None, root: Path = Path("/")) -> Iterator[Verdict]:
    """Who listens here, and what the switch does about it."""
    here = sorted({(one.protocol, one.port) for one in open_services(root)})
    accepted = {(a.protocol, a.port): a for a in profile.network.accept_inside} if profile else {}
    for protocol, port in here[:MAX_SERVICES]:
        name = f"{protocol} {port}"
        who = _listener(protocol, port, root / "proc")
        entry = accepted.get((protocol, port))
        if entry is None:
            yield Verdict("host", name, "ok", f"{who} listens; closed while the node runs")
        elif entry.source.prefixlen == 0:
            detail = f"{who} listens, open to everybody inside"
            remedy = "name the networks in network.accept_inside that need it"
            yield Verdict("host", name, "warn", detail, remedy)
        else:
            yield Verdict("host", name, "ok", f"{who} listens, open to {entry.source} inside")
    if len(here) > MAX_SERVICES:
        detail = f"{len(here) - MAX_SERVICES} more listen; closed while the node runs"
        yield Verdict("host", "other services", "ok", detail)
    for key, entry in accepted.items():
        if key not in here:
            detail = f"network.accept_inside opens it to {entry.source}, nothing listens"
            remedy = "start the service, or remove the entry"
            yield Verdict("host", f"{key[0]} {key[1]}", "warn", detail, remedy)


def _listener(protocol: str, port: int, proc: Path) -> str:
    inodes = inodes_of_port("tcp" if protocol == "tcp" else "udp", port, proc)
    return holder(inodes, proc) or "a process"


def port_verdicts(*, ours: bool) -> Iterator[Verdict]:
    """The ports that the node takes."""
    for port in (500, 4500, MIP_PORT):
        found = port_free(socket.SOCK_DGRAM, Endpoint(_ANY, port), "", ours=ours)
        if found.state == "missing":
            remedy = "stop it, and disable it (systemctl disable --now): the node has no other port"
            found = Verdict(found.area, found.name, found.state, found.detail, remedy)
        elif ours and "gateway" in found.detail:
            found = Verdict(found.area, found.name, "ok", "in use by the running node")
        yield found


def forwarding_verdict(*, runs: bool, root: Path = Path("/")) -> Verdict:
    """A mobile node is no router (draft 000, section 4)."""
    if not forwards(root):
        return Verdict("network", "forwarding", "ok", "off")
    if runs:
        detail = "somebody turned it on while the node runs; the switch drops what is forwarded"
        remedy = "sysctl -w net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0"
        return Verdict("network", "forwarding", "warn", detail, remedy)
    detail = "on; the node turns it off while it runs: containers and virtual machines are cut off"
    remedy = "do without what needs it while the node runs"
    return Verdict("network", "forwarding", "warn", detail, remedy)


def other_tunnels(net: Path = Path("/proc/self/net")) -> Iterator[Verdict]:
    """Default routes of other VPNs: two cannot both have all of the traffic."""
    try:
        lines = (net / "route").read_text().splitlines()[1:]
    except OSError:
        return
    found: set[str] = set()
    for line in lines:
        columns = line.split()
        if len(columns) < 8 or columns[0].startswith(_NODE_DEVICES):
            continue
        wide = columns[7] in {"00000000", "00000080"}  # /0, and the two halves that hide it
        if wide and columns[0].startswith(_TUNNELS):
            found.add(columns[0])
    for interface in sorted(found):
        detail = "has a default route: another VPN takes this host's traffic"
        remedy = "stop it before the node starts, or list what it needs in network.interfaces"
        yield Verdict("network", f"interface {interface}", "missing", detail, remedy)
    if not found:
        yield Verdict("network", "other VPNs", "ok", "none has a default route")


def name_servers(profile: Profile, root: Path = Path("/")) -> Verdict:
    """Whether the gateway's name servers can be made known to this host."""
    name, how = "name servers", profile.network.dns
    resolved = (root / "run/systemd/resolve").is_dir()
    tool = shutil.which("resolvectl") is not None
    if how == "off":
        return Verdict("host", name, "ok", 'network.dns = "off": names are the host\'s own matter')
    if how == "resolvectl" and not (resolved and tool):
        lacking = "resolvectl is not installed" if not tool else "systemd-resolved does not run"
        remedy = 'start systemd-resolved, or set network.dns = "auto"'
        return Verdict("host", name, "missing", lacking, remedy)
    if how != "resolv.conf" and resolved and tool:
        return Verdict("host", name, "ok", "by resolvectl, with split names")
    if profile.network.split_domains:
        detail = "written to /etc/resolv.conf, which knows no split names: all go to the gateway's"
        return Verdict("host", name, "warn", detail, "install and start systemd-resolved")
    return Verdict("host", name, "ok", "by /etc/resolv.conf")


def network_manager(root: Path = Path("/")) -> Iterator[Verdict]:
    """NetworkManager must leave the node's own devices alone."""
    if not (root / "run/NetworkManager").is_dir():
        return
    told = any(
        "mn0" in _text(file) or "mn*" in _text(file)
        for folder in ("etc/NetworkManager/conf.d", "usr/lib/NetworkManager/conf.d")
        for file in sorted((root / folder).glob("*.conf"))
    )
    if told:
        yield Verdict("host", "NetworkManager", "ok", "leaves the node's devices alone")
        return
    detail = "runs, and may take the node's devices for its own"
    remedy = f'write "[keyfile]" and "unmanaged-devices=interface-name:mn*" into {_NM_CONF}, then: '
    remedy += "nmcli general reload"
    yield Verdict("host", "NetworkManager", "warn", detail, remedy)


def _text(file: Path) -> str:
    try:
        return file.read_text(errors="replace")
    except OSError:
        return ""


def gateway_name(profile: Profile) -> Iterator[Verdict]:
    """Whether the gateway's name leads anywhere."""
    gateway = profile.gateway
    if gateway is None or isinstance(gateway.address, IPv4Address):
        return
    name = f"gateway {gateway.address}"
    try:
        found = socket.getaddrinfo(gateway.address, None, socket.AF_INET, socket.SOCK_DGRAM)
    except OSError as error:
        why = error.strerror or errno.errorcode.get(error.errno or 0, "no answer")
        remedy = "correct gateway.address, or give the gateway's IPv4 address"
        yield Verdict("network", name, "missing", f"is not known to DNS: {why}", remedy)
        return
    addresses = sorted({str(one[4][0]) for one in found})
    yield Verdict("network", name, "ok", ", ".join(addresses))


def switch_verdict(*, left: bool, runs: bool, kill_switch: str) -> Verdict:
    """The state of the kill switch."""
    name = "kill switch"
    if runs:
        state = "closed, the node decides" if left else "is not there although a node runs"
        if left:
            return Verdict("host", name, "ok", state)
        return Verdict("host", name, "missing", state, "restart it: systemctl restart gateway-mn")
    if left:
        detail = "was left by a node that ended: nothing of yours leaves"
        if kill_switch == "always":
            detail += ' (kill_switch = "always")'
        return Verdict("host", name, "warn", detail, "start the node, or run: gateway mn release")
    return Verdict("host", name, "ok", "not in place: no node runs")


def split_verdicts(networks: Iterable[object]) -> Iterator[Verdict]:
    """What a split tunnel lets out in the clear."""
    listed = ", ".join(map(str, networks))
    if listed:
        detail = f"{listed} in the clear, also where others listen"
        remedy = "keep it to networks that need no protection"
        yield Verdict("network", "split tunnel", "warn", detail, remedy)
