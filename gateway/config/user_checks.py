"""Checks of what users log in with, who knows them, and what their groups get."""

from gateway.config.connection import ConnectionSection, ProfileSection
from gateway.config.document import Config
from gateway.config.findings import Findings
from gateway.config.sections import RadiusServerSection
from gateway.config.vpn_agent import vpn_agents
from gateway.domain.user_auth import LOCAL
from gateway.ike.auth.identity import IdentityPattern

_EAP = '"eap-mschapv2", "eap-tls", "eap-gtc", "eap-radius"'
_ONLY_WITH_USERS = ("user_names", "profiles", "profile_required", "user_backend", "eap_identity")


def check_users(config: Config, findings: Findings) -> None:
    """``[users]``, ``[radius.NAME]`` and ``[profiles.NAME]`` by themselves."""
    if config.users.file is None and config.users.key_file is not None:
        why = "is never used: there are no local users; give users.file, or remove it"
        findings.refuse("users.key_file", config.users.key_file, why)
    if LOCAL in config.radius:
        why = 'is the name of the local user base; choose another, such as "office"'
        findings.refuse(f"radius.{LOCAL}", None, why)
    for name, server_section in config.radius.items():
        for one, server in server_section.servers.items():
            _radius_secret(f"radius.{name}.servers.{one}", server, findings)
            if server_section.accounting and server.accounting_port == server.authentication_port:
                why = "is authentication_port as well; RADIUS uses 1812 and 1813"
                key = f"radius.{name}.servers.{one}.accounting_port"
                findings.refuse(key, server.accounting_port, why)
    for name, profile in config.profiles.items():
        _profile(config, f"profiles.{name}", profile, findings)


def _radius_secret(key: str, server: RadiusServerSection, findings: Findings) -> None:
    if server.secret_file is None and server.secret is None:
        findings.refuse(f"{key}.secret_file", None, "is required; give secret_file, or secret")
    if server.secret_file is not None and server.secret is not None:
        findings.refuse(f"{key}.secret", None, "excludes secret_file; give one of them")


def _profile(config: Config, key: str, profile: ProfileSection, findings: Findings) -> None:
    if profile.pool is not None and profile.pool not in config.pools:
        known = ", ".join(config.pools)
        why = f"no such pool; choose one of: {known}" if known else "no such pool"
        findings.refuse(f"{key}.pool", profile.pool, why)
    if profile.subnets == ():
        why = "is empty, so members could reach nothing; list networks, or remove the key"
        findings.refuse(f"{key}.subnets", None, why)


def check_login(config: Config, key: str, section: ConnectionSection, findings: Findings) -> None:
    """How the peer's user logs in on a connection, and how ours does."""
    if section.asks_for_user:
        _methods(key, section, findings)
        _backend(config, key, section, findings)
        _names(key, section, findings)
    else:
        _unused(key, section, findings)
    _profiles(config, key, section, findings)
    _own_login(key, section, findings)


def _methods(key: str, section: ConnectionSection, findings: Findings) -> None:
    where, methods = f"{key}.user_auth", section.user_auth
    if section.remote is not None:
        why = 'is for users that log in to us, not for a connection with remote; give "user" and '
        findings.refuse(where, methods or None, why + "password_file to log in there")
        return
    if not methods:
        allowed = '["xauth"]' if section.ike_version == 1 else f"some of {_EAP}"
        why = f'is required by remote_auth = "user"; give {allowed}'
        findings.refuse(where, None, why)
    for method in dict.fromkeys(methods):
        if methods.count(method) > 1:
            findings.refuse(where, method, "is listed twice")
        if section.ike_version == 1 and method != "xauth":
            why = 'is for IKEv2; with ike_version = 1 only "xauth" is allowed'
            findings.refuse(where, method, why)
        if section.ike_version == 2 and method == "xauth":
            why = f"is for IKEv1; set ike_version = 1, or choose some of {_EAP}"
            findings.refuse(where, method, why)
    if "eap-radius" in methods and len(methods) > 1:
        why = "leaves the choice of the method to the RADIUS server; list it alone"
        findings.refuse(where, "eap-radius", why)
    if section.remote_auth == "user" and section.local_auth != "certificate":
        why = (
            'must be "certificate" with remote_auth = "user": '
            "users may give their secrets only to a gateway that has proven itself so"
        )
        findings.refuse(f"{key}.local_auth", section.local_auth, why)


def _backend(config: Config, key: str, section: ConnectionSection, findings: Findings) -> None:
    where, backend = f"{key}.user_backend", section.user_backend
    local = backend == LOCAL
    if not local and backend not in config.radius:
        allowed = ", ".join((LOCAL, *config.radius))
        why = f"no such backend; choose one of: {allowed}, or add a table [radius.{backend}]"
        findings.refuse(where, backend, why)
    if "eap-radius" in section.user_auth and local:
        known = ", ".join(config.radius) or "add a table [radius.NAME]"
        why = f"has no RADIUS server for eap-radius; name one: {known}"
        findings.refuse(where, backend, why)
    if "eap-mschapv2" in section.user_auth and not local:
        why = (
            "keeps no NT hashes that we could use for eap-mschapv2; let the RADIUS server speak "
            'it: user_auth = ["eap-radius"], or set user_backend = "local"'
        )
        findings.refuse(where, backend, why)


def _names(key: str, section: ConnectionSection, findings: Findings) -> None:
    if section.user_names is None:
        return
    try:
        IdentityPattern.parse(section.user_names)
    except ValueError as error:
        findings.refuse(f"{key}.user_names", section.user_names, f"not a pattern: {error}")


def _unused(key: str, section: ConnectionSection, findings: Findings) -> None:
    for name in _ONLY_WITH_USERS:
        value = getattr(section, name)
        if value != type(section).model_fields[name].default:
            why = "is for users that log in; set user_auth, or remove it"
            findings.refuse(f"{key}.{name}", value, why)


def _profiles(config: Config, key: str, section: ConnectionSection, findings: Findings) -> None:
    for name in section.profiles:
        if name not in config.profiles:
            known = ", ".join(config.profiles)
            rest = f"choose one of: {known}" if known else f"add a table [profiles.{name}]"
            findings.refuse(f"{key}.profiles", name, f"no such profile; {rest}")
            continue
        profile = config.profiles[name]
        served = section.foreign_agent is not None or vpn_agents(config)
        if profile.vpn_fa in ("allowed", "required") and not served:
            why = (
                "needs a table [foreign_agents.NAME] with through_vpn = true, or "
                f"[{key}.foreign_agent] in each connection that uses the profile"
            )
            findings.refuse(f"profiles.{name}.vpn_fa", profile.vpn_fa, why)
        if profile.pool is not None and section.pool is None:
            why = f"{key} gives no inner addresses; give it a pool, or take this one away"
            findings.refuse(f"profiles.{name}.pool", profile.pool, why)
    if section.profile_required and not section.profiles:
        why = "lets nobody in without profiles; list some, or remove it"
        findings.refuse(f"{key}.profile_required", True, why)


def _own_login(key: str, section: ConnectionSection, findings: Findings) -> None:
    given = [n for n in ("user", "password", "password_file") if getattr(section, n) is not None]
    if section.remote is None:
        for name in given:
            value = section.user if name == "user" else None
            why = 'only for connections that we open; add remote = "ADDRESS" or remove it'
            findings.refuse(f"{key}.{name}", value, why)
        if section.local_auth == "user":
            why = "only for connections that we open; a gateway proves itself by certificate or psk"
            findings.refuse(f"{key}.local_auth", section.local_auth, why)
        return
    if section.remote_auth == "user":
        why = "the gateway that we connect to has no user; choose certificate or psk"
        findings.refuse(f"{key}.remote_auth", section.remote_auth, why)
    if given and "user" not in given:
        findings.refuse(f"{key}.{given[0]}", None, 'needs a name; give user = "NAME" too')
    if "password" in given and "password_file" in given:
        findings.refuse(f"{key}.password", None, "excludes password_file; give one of them")
    if section.user is not None:
        _proof_of_user(key, section, given, findings)
    elif section.local_auth == "user":
        why = 'is required by local_auth = "user"; give the name to log in with'
        findings.refuse(f"{key}.user", None, why)


def _proof_of_user(
    key: str, section: ConnectionSection, given: list[str], findings: Findings
) -> None:
    if len(given) == 1 and not section.eap_certificate:
        why = "is required to log in; give password_file (better) or password"
        if section.ike_version == 2:
            why += ", or certificate and private_key for EAP-TLS"
        findings.refuse(f"{key}.password_file", None, why)
    if section.local_auth == "user" and section.remote_auth != "certificate":
        why = (
            'must be "certificate" with local_auth = "user": '
            "whoever shares a key could pose as the gateway and ask for our password"
        )
        findings.refuse(f"{key}.remote_auth", section.remote_auth, why)
