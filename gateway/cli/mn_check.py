"""``gateway mn check``: what this host and this profile can do, and what is missing."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from gateway.cli import exits
from gateway.cli.check import of_capability, of_problem, ordered, tell
from gateway.cli.dataplane_checks import PORTABLE, choose, dataplane_verdicts, for_chosen
from gateway.cli.host_checks import privileges
from gateway.cli.mn import DEFAULT_SOCKET
from gateway.cli.mn_host_checks import (
    forwarding_verdict,
    gateway_name,
    name_servers,
    network_manager,
    other_tunnels,
    port_verdicts,
    service_verdicts,
    split_verdicts,
    switch_verdict,
)
from gateway.cli.mn_release import node_runs
from gateway.cli.verdict import Verdict
from gateway.config.problem import ConfigError
from gateway.config.profile import Profile, load_profile
from gateway.config.profile_login import gateway_identity
from gateway.dataplane.choice import IPSEC, MOBILITY, Choice, Kind

_KERNEL = {
    "net-admin": "nothing about the kernel could be tried",
    "xfrm": "no IPsec at all",
    "esp-aes-gcm": "no tunnel with AES-GCM",
    "esp-aes-cbc": "no tunnel with AES-CBC and HMAC-SHA2",
    "esp-chacha20": "no tunnel with ChaCha20-Poly1305",
    "udp-encapsulation": "no tunnel from behind a NAT",
    "xfrm-interface": "no tunnel: it ends on one",
    "nftables-esp-sets": "no protection against spoofed inner addresses",
    "nft-queue": "no SA follows the gateway to another address",
    "ipip": "no IP-in-IP tunnels of Mobile IPv4",
    "gre": "no GRE and no UDP tunnels of Mobile IPv4",
    "fou": "no UDP tunnels of Mobile IPv4",
    "policy-rules": "no layers: each has a route table of its own",
}
"""What a node needs of the kernel, and what it cannot do without."""
_NEEDED = {"net-admin", "xfrm", "esp-aes-gcm", "udp-encapsulation", "xfrm-interface"}
_NEEDED |= {"nftables-esp-sets", "nft-queue", "ipip", "gre", "policy-rules"}


def verdicts(path: Path | None) -> tuple[list[Verdict], int]:
    """All verdicts and the exit status; without a path, of the host alone."""
    found: list[Verdict] = []
    status, profile = exits.OK, None
    if path is not None:
        try:
            profile = load_profile(path)
            found += _configured(profile)
        except ConfigError as error:
            found += [of_problem(problem, "missing") for problem in error.problems]
            status = exits.BAD_CONFIG
    found += _host(profile)
    found += _kernel("auto" if profile is None else profile.dataplane.kind)
    if status == exits.OK and any(verdict.state == "missing" for verdict in found):
        status = exits.FAILED
    return ordered(found), status


def _configured(profile: Profile) -> Iterator[Verdict]:
    gateway = profile.gateway
    said = f"gateway {gateway_identity(gateway)}" if gateway is not None else "no VPN"
    by_hand = [key for key in ("inside", "outside") if getattr(profile, key).by_hand]
    said += f", by hand: {', '.join(by_hand)}" if by_hand else ", home agents by login"
    yield Verdict("configuration", str(profile.path), "ok", said)
    for warning in profile.warnings:
        yield of_problem(warning, "warn")
    if profile.sealed is not None:
        detail = "secrets are sealed; at each start: gateway mn unlock"
        yield Verdict("configuration", "login.sealed", "ok", detail)
    yield from split_verdicts(profile.network.direct_networks)


def _host(profile: Profile | None) -> Iterator[Verdict]:
    runs = node_runs(profile.control_socket if profile else DEFAULT_SOCKET)
    yield privileges(Path("/proc/self/status").read_text())
    yield from _switch(profile, runs=runs)
    yield from port_verdicts(ours=runs)
    yield from service_verdicts(profile)
    if profile is not None:
        yield name_servers(profile)
        yield from gateway_name(profile)
    yield from network_manager()
    yield forwarding_verdict(runs=runs)
    yield from other_tunnels()


def _switch(profile: Profile | None, *, runs: bool) -> Iterator[Verdict]:
    from gateway.dataplane.kernel.node.release import is_left  # noqa: PLC0415 - costs netlink

    try:
        left = is_left()
    except OSError as error:
        why = error.strerror or str(error)
        yield Verdict("host", "kill switch", "warn", f"not to be seen: {why}", "run as root")
        return
    kind = profile.profile.kill_switch if profile else "until-stopped"
    yield switch_verdict(left=left, runs=runs, kill_switch=kind)


def _kernel(kind: str) -> Iterator[Verdict]:
    from gateway.dataplane.kernel.probe import probe  # noqa: PLC0415 - costs pyroute2

    needs = IPSEC | MOBILITY
    capabilities = probe()
    made = choose(capabilities, kind, needs)
    if len(capabilities) > 1:
        yield from dataplane_verdicts(capabilities, kind, needs)
    for capability in for_chosen(capabilities, made):
        if capability.name in _KERNEL:
            needed, cost = capability.name in _NEEDED, _KERNEL[capability.name]
            yield of_capability(replace(capability, required=needed, cost=cost))
        elif capability.name.startswith(PORTABLE):
            yield of_capability(capability)
    yield _trial(portable=isinstance(made, Choice) and made.kind is Kind.PORTABLE)


def _trial(*, portable: bool) -> Verdict:
    if portable:
        from gateway.dataplane.portable.node.release import try_start  # noqa: PLC0415

        options = "CONFIG_TUN, CONFIG_VETH"
    else:
        from gateway.dataplane.kernel.node.release import try_start  # noqa: PLC0415

        options = "CONFIG_TUN, CONFIG_NET_IPIP, CONFIG_NET_IPGRE"
    problem = try_start()
    if problem is None:
        detail = "switch, tunnels, rules and routes were made, and removed"
        return Verdict("kernel", "mobile node", "ok", detail)
    why = problem.splitlines()[0][:300] if problem else "no reason given"
    remedy = f"use a kernel with {options}, CONFIG_NF_TABLES "
    remedy += "and CONFIG_IP_MULTIPLE_TABLES (load the modules, or rebuild)"
    return Verdict("kernel", "mobile node", "missing", f"cannot be started: {why}", remedy)


def check(path: Path | None, *, as_json: bool) -> int:
    """Print all verdicts; returns 0 when nothing is missing, 78 for a bad profile, else 1."""
    found, status = verdicts(path)
    return tell(found, status, as_json=as_json)
