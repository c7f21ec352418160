"""A profile's gateway and login as the one connection that ``gateway.config`` knows already."""

from ipaddress import IPv4Address
from pathlib import Path

from gateway.config.connection import ConnectionSection
from gateway.config.document import Config
from gateway.config.problem import Problem
from gateway.config.profile import GatewayPart, LoginPart, Profile

CONNECTION = "gateway"
"""Name of the connection."""
_UNKNOWN = IPv4Address("192.0.2.1")
"""Stands for the gateway where its name was not looked up: a check needs no address."""
_FROM_LOGIN = (
    "certificate",
    "private_key",
    "ca_certificates",
    "psk_file",
    "user",
    "password_file",
    "crl_files",
    "ocsp_responder",
    "revocation",
    "ppk_id",
    "ppk_file",
    "ppk_required",
)
_KEYS = {
    "local_id": "login.identity",
    "local_auth": "login.method",
    "remote_auth": "login.gateway_method",
    "user_auth": "login.method",
    "remote_id": "gateway.identity",
    "remote": "gateway.address",
    "ike_version": "gateway.version",
    "ike_proposals": "gateway.ike_proposals",
    "esp_proposals": "gateway.esp_proposals",
    "liveness_s": "gateway.liveness_s",
}
_WORDS = {
    "local_auth": "login.method",
    "remote_auth": "login.gateway_method",
    "ike_version": "gateway.version",
    "local_id": "login.identity",
    "remote_id": "gateway.identity",
}


def identity_of(login: LoginPart) -> str | None:
    """Who we say we are."""
    return login.identity or login.user


def gateway_identity(gateway: GatewayPart) -> str:
    """Who the gateway must be; never anybody."""
    return gateway.identity or str(gateway.address)


def gateway_method(login: LoginPart) -> str:
    """How the gateway proves itself."""
    return login.gateway_method or ("psk" if login.method == "psk" else "certificate")


def one_connection(profile: Profile, address: IPv4Address | None = None) -> Config:
    """The configuration with the one connection; ``address`` is where the gateway's name led to.

    Secrets that are sealed are named by the sealed file: a reader that was unlocked has them.
    Raises ValueError for a profile without gateway or login.
    """
    gateway, login = profile.gateway, profile.login
    if gateway is None or login is None:
        raise ValueError("the profile has no [gateway] and [login]")
    if address is None and isinstance(gateway.address, IPv4Address):
        address = gateway.address
    by_user = login.method in {"password", "eap-tls"}
    values: dict[str, object] = {name: getattr(login, name) for name in _FROM_LOGIN}
    values |= {
        "ike_version": gateway.version,
        "local_id": identity_of(login),
        "local_auth": "user" if by_user else login.method,
        "remote_id": gateway_identity(gateway),
        "remote_auth": gateway_method(login),
        "psk": login.psk.get_secret_value() if login.psk else None,
        "password": login.password.get_secret_value() if login.password else None,
        "remote": f"{address or _UNKNOWN}:{gateway.port}",
        "request_inner_address": True,
        "remote_subnets": ["0.0.0.0/0"],
        "ike_proposals": gateway.ike_proposals,
        "esp_proposals": gateway.esp_proposals,
        "vpn_fa": "allowed" if gateway.vpn_fa and gateway.version == 2 else "off",
        "endpoint_update": "allowed" if gateway.endpoint_update and gateway.version == 2 else "off",
        "mobike": gateway.mobike,
        "liveness_s": gateway.liveness_s,
        "encapsulation": "always" if profile.network.force_udp_encapsulation else "auto",
    }
    if login.sealed is not None:
        values |= _sealed(login, login.sealed)
    connection = ConnectionSection.model_validate({k: v for k, v in values.items() if v != ()})
    config = Config(connections={CONNECTION: connection})
    config._path = profile.path  # noqa: SLF001 - private to this package
    return config


def _sealed(login: LoginPart, file: Path) -> dict[str, object]:
    """The sealed file in place of what it may hold."""
    found: dict[str, object] = {}
    if "psk" in (login.method, gateway_method(login)) and not (login.psk or login.psk_file):
        found["psk_file"] = file
    if login.user and login.method != "eap-tls" and not (login.password or login.password_file):
        found["password_file"] = file
    if login.certificate is not None and login.private_key is None:
        found["private_key"] = file
    if login.ppk_id is not None and login.ppk_file is None:
        found["ppk_file"] = file
    return found


def in_profile(problem: Problem, file: Path) -> Problem:
    """A problem of the connection in the words of the profile."""
    prefix = f"connections.{CONNECTION}."
    key = problem.key.removeprefix(prefix).removeprefix("credentials.")
    why = problem.why.replace(prefix, "login.")
    for word, ours in _WORDS.items():
        why = why.replace(f"{word} =", f"{ours} =")
    if key == problem.key:
        return Problem(file, key, why, problem.value)
    return Problem(file, _KEYS.get(key, f"login.{key}"), why, problem.value)
