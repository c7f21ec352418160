"""Checks of a profile across its tables, and of the files that it names."""

import stat
from ipaddress import IPv4Address
from pathlib import Path

from gateway.config.checks import check_text
from gateway.config.credential_checks import check_files
from gateway.config.credential_files import (
    FileRefusedError,
    read_authorities,
    read_certificates,
)
from gateway.config.findings import Findings
from gateway.config.mobility_node_checks import check_key, check_key_file
from gateway.config.mobility_nodes import NodeKey
from gateway.config.profile import HomeAgentPart, LoginPart, Profile
from gateway.config.profile_login import gateway_method, identity_of, in_profile, one_connection
from gateway.config.profile_sealing import read_sealed

PLAINTEXT_BOUND_S = 60.0
"""Draft 001, section 4.2.2: plaintext stops within a minute."""
_HAND = ("home_agent", "home_address", "spi")
_THROUGH_VPN = {"vc", "vf", "cvc", "cvf", "fvc", "fvf", "mc", "v"}


def check_profile(profile: Profile, path: Path, *, with_files: bool) -> Findings:
    """Everything that a profile can get wrong."""
    findings = Findings(path)
    _parts(profile, findings)
    if profile.login is not None:
        _login(profile.login, findings)
    _home_agent(profile, "inside", profile.inside, findings)
    _home_agent(profile, "outside", profile.outside, findings)
    _both(profile, findings)
    _detection(profile, findings)
    _network(profile, findings)
    if findings.problems:
        return findings
    _connection(profile, findings, with_files=with_files)
    if with_files:
        _files(profile, findings)
    return findings


def _parts(profile: Profile, findings: Findings) -> None:
    if profile.gateway is not None and profile.login is None:
        why = "is required with [gateway]; say how to log in, see: gateway mn profile example"
        findings.refuse("login", None, why)
    if profile.login is not None and profile.gateway is None:
        why = "is required with [login]; give the gateway's address"
        findings.refuse("gateway", None, why)
    if profile.gateway is None and profile.login is None and not profile.inside.by_hand:
        why = "is required; give the gateway's address, or [inside] by hand for a node without VPN"
        findings.refuse("gateway", None, why)
    if profile.gateway is None and profile.outside.by_hand:
        why = "leads to the gateway, and there is none; add [gateway], or remove it"
        findings.refuse("outside.home_agent", profile.outside.home_agent, why)


def _login(login: LoginPart, findings: Findings) -> None:
    method = login.method
    if identity_of(login) is None:
        why = "is required; give who this device is, such as ann@example.com"
        findings.refuse("login.identity", None, why)
    if method in {"certificate", "eap-tls"}:
        for name in ("certificate", "private_key"):
            sealed = name == "private_key" and login.sealed is not None
            if getattr(login, name) is None and not sealed:
                why = f'is required by method = "{method}"; give a PEM file'
                findings.refuse(f"login.{name}", None, why)
    elif login.certificate is not None or login.private_key is not None:
        key = "certificate" if login.certificate is not None else "private_key"
        why = f'is never used with method = "{method}"; remove it, or change method'
        findings.refuse(f"login.{key}", getattr(login, key), why)
    if method in {"password", "eap-tls"}:
        if login.user is None:
            why = f'is required by method = "{method}"; give the name to log in with'
            findings.refuse("login.user", None, why)
        if login.gateway_method == "psk":
            why = (
                f'must be "certificate" with method = "{method}": whoever shares a key could pose '
                "as the gateway"
            )
            findings.refuse("login.gateway_method", "psk", why)
    _secrets(login, findings)
    needs_ca = gateway_method(login) == "certificate" or method == "eap-tls"
    if needs_ca and not login.ca_certificates:
        why = "is required to judge the gateway's certificate; list the CA's PEM file"
        findings.refuse("login.ca_certificates", None, why)


def _secrets(login: LoginPart, findings: Findings) -> None:
    uses = {
        "psk": "psk" in {login.method, gateway_method(login)},
        "password": login.user is not None and login.method != "eap-tls",
    }
    for name, used in uses.items():
        given = [key for key in (name, f"{name}_file") if getattr(login, key) is not None]
        if len(given) == 2:
            findings.refuse(f"login.{name}", None, f"excludes {name}_file; give one of them")
        if given and not used:
            needs = "user" if name == "password" else 'method = "psk"'
            findings.refuse(f"login.{given[0]}", None, f"is never used; add {needs}, or remove it")
        if used and not given and login.sealed is None:
            why = f"is required to log in; give {name}_file (better), {name} or sealed"
            findings.refuse(f"login.{name}_file", None, why)


def _home_agent(profile: Profile, key: str, part: HomeAgentPart, findings: Findings) -> None:
    given = [name for name in _HAND if getattr(part, name) is not None]
    has_key = part.key is not None or part.key_file is not None
    if not given:
        for name in ("key", "key_file", "home_network"):
            if getattr(part, name) is not None:
                why = "is only for a home agent by hand; give home_agent, home_address and spi too"
                findings.refuse(f"{key}.{name}", None, why)
        return
    for name in _HAND:
        if name not in given:
            why = "is required for a home agent by hand; give it, or leave all to the login"
            findings.refuse(f"{key}.{name}", None, why)
    if has_key or profile.sealed is None:
        check_key(key, _node_key(part), findings)
    for name in ("home_agent", "home_address"):
        address: IPv4Address | None = getattr(part, name)
        if address is not None and _impossible(address):
            findings.refuse(f"{key}.{name}", address, "not an address that a host can have")
    home, network = part.home_address, part.home_network
    if home is not None and network is not None and home not in network:
        why = f"not in home_network {network}"
        findings.refuse(f"{key}.home_address", home, why)
    if home is not None and home == part.home_agent:
        findings.refuse(f"{key}.home_address", home, "is home_agent as well; give the node its own")


def _impossible(address: IPv4Address) -> bool:
    return address.is_multicast or address.is_loopback or address.is_unspecified


def _node_key(part: HomeAgentPart) -> NodeKey:
    return NodeKey(
        part.spi or 256, part.key, part.key_file, part.algorithm, part.replay, part.replay_window_s
    )


def _both(profile: Profile, findings: Findings) -> None:
    """What the two home agents and the gateway must not share."""
    inside, outside = profile.inside, profile.outside
    gateway = profile.gateway.address if profile.gateway else None
    if inside.home_agent is not None and inside.home_agent == outside.home_agent:
        why = (
            "is inside.home_agent as well: an answer of it could not tell the inside from the "
            "outside; give the two home agents addresses of their own (draft 001, section 4.4)"
        )
        findings.refuse("outside.home_agent", outside.home_agent, why)
    if inside.home_address is not None and inside.home_address == outside.home_address:
        why = "is inside.home_address as well; give each layer its own"
        findings.refuse("outside.home_address", outside.home_address, why)
    if inside.home_agent is not None and inside.home_agent == gateway:
        why = (
            "is gateway.address as well: the i-HA must be reachable from inside only, the "
            "gateway from everywhere; give the i-HA an address of its own"
        )
        findings.refuse("inside.home_agent", inside.home_agent, why)


def _detection(profile: Profile, findings: Findings) -> None:
    part = profile.detection
    bound = part.monitor_interval_s + part.monitor_tries_s
    if bound > PLAINTEXT_BOUND_S:
        why = (
            f"with monitor_tries_s = {part.monitor_tries_s:g}, plaintext may leave for {bound:g} s "
            "after a silent move to the outside; keep the sum at 60 s or less"
        )
        findings.warn("detection.monitor_interval_s", part.monitor_interval_s, why)
    if part.retransmit_max_s < part.retransmit_first_s:
        why = f"below retransmit_first_s = {part.retransmit_first_s:g}; give that or more"
        findings.refuse("detection.retransmit_max_s", part.retransmit_max_s, why)
    if part.monitor_tries_s < part.retransmit_first_s:
        why = (
            f"below retransmit_first_s = {part.retransmit_first_s:g}: one lost packet would stop "
            "everything; give some times that"
        )
        findings.refuse("detection.monitor_tries_s", part.monitor_tries_s, why)


def _network(profile: Profile, findings: Findings) -> None:
    part = profile.network
    if not part.networks:
        why = 'is empty, so nothing would go through the tunnels; give ["0.0.0.0/0"] for all'
        findings.refuse("network.networks", None, why)
    for network in part.direct_networks:
        if network.prefixlen == 0:
            why = "would send everything in the clear; name the networks that need no protection"
            findings.refuse("network.direct_networks", network, why)
    if part.dns == "off" and part.split_domains:
        findings.refuse("network.split_domains", part.split_domains, 'is never used: dns = "off"')
    if part.dhcp_command and not any("{interface}" in word for word in part.dhcp_command):
        why = 'names no interface; write {interface} where its name goes, as in ["udhcpc", "-i", '
        findings.refuse("network.dhcp_command", part.dhcp_command, f'{why}"{{interface}}"]')
    if part.modes:
        _modes(profile, findings)
    if profile.outside.zero_overhead and _forced(profile) and _given(profile, "zero_overhead"):
        why = "is never granted in a UDP tunnel (draft 001, D.8); remove it, or what forces UDP"
        findings.warn("outside.zero_overhead", True, why)


def _forced(profile: Profile) -> bool:
    return profile.outside.force_udp or profile.network.force_udp_encapsulation


def _given(profile: Profile, name: str) -> bool:
    return name in profile.outside.model_fields_set


def _modes(profile: Profile, findings: Findings) -> None:
    modes = profile.network.modes
    outside = _THROUGH_VPN.intersection(modes)
    for mode in dict.fromkeys(modes):
        if modes.count(mode) > 1:
            findings.refuse("network.modes", mode, "is listed twice")
    if profile.gateway is None:
        for one in sorted(outside):
            findings.refuse("network.modes", one, "needs a VPN; add [gateway], or remove it")
    elif not outside:
        why = (
            "has no mode with a VPN: outside, nothing would leave this host; add vc, cvc or others"
        )
        findings.warn("network.modes", modes, why)


def _connection(profile: Profile, findings: Findings, *, with_files: bool) -> None:
    """What gateway.toml's own checks say of the same login."""
    if profile.gateway is None:
        return
    config = one_connection(profile)
    told = check_text(config, findings.file)
    if with_files and not told.problems and profile.sealed is None:
        told.add(check_files(config, findings.file))
    findings.problems += [in_profile(one, findings.file) for one in told.problems]
    findings.warnings += [in_profile(one, findings.file) for one in told.warnings]


def _files(profile: Profile, findings: Findings) -> None:
    login = profile.login
    if login is not None and login.sealed is not None:
        _sealed(login, login.sealed, findings)
    for key, part in (("inside", profile.inside), ("outside", profile.outside)):
        if part.by_hand:
            check_key_file(key, _node_key(part), findings)
        if part.key is not None and _others_read(findings.file):
            why = f"the file is readable by others; run: chmod 600 {findings.file}"
            findings.warn(f"{key}.key", None, why)


def _sealed(login: LoginPart, file: Path, findings: Findings) -> None:
    try:
        read_sealed(file)
    except FileRefusedError as error:
        findings.refuse("login.sealed", file, str(error))
    try:
        if login.certificate is not None:
            read_certificates(login.certificate)
    except FileRefusedError as error:
        findings.refuse("login.certificate", login.certificate, str(error))
    for one in login.ca_certificates:
        try:
            read_authorities(one)
        except FileRefusedError as error:
            findings.refuse("login.ca_certificates", one, str(error))
    for name in ("psk", "psk_file", "password", "password_file", "private_key"):
        if getattr(login, name) is not None:
            why = "stands beside sealed secrets in the clear; seal it too, and remove it here"
            findings.warn(f"login.{name}", None, why)


def _others_read(path: Path) -> bool:
    try:
        return bool(path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO))
    except OSError:
        return False
