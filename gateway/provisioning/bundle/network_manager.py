"""For Linux desktops: a connection of NetworkManager's strongSwan plugin, as a tar archive."""

import uuid
from collections.abc import Callable

from gateway.provisioning.archive import tar
from gateway.provisioning.bundle.limits import common_limits, gateway_certificate, one_proof
from gateway.provisioning.names import one_line
from gateway.provisioning.quoting import keyfile
from gateway.provisioning.setup import Bundle, Proof, Setup, require
from gateway.provisioning.suites import for_strongswan

MEDIA_TYPE = "application/x-tar"
CONNECTIONS = "etc/NetworkManager/system-connections"
FILES = "etc/NetworkManager/gateway"
_NAME = "NetworkManager's strongSwan plugin"
_MIN_PSK = 20

Section = list[tuple[str, str]]


def make(setup: Setup, _random: Callable[[int], bytes]) -> Bundle:
    """The archive, to be unpacked in the root folder. Raises ProvisioningRefusedError."""
    _limits(setup)
    folder = f"{FILES}/{setup.device}"
    files = {f"{CONNECTIONS}/{setup.device}.nmconnection": _connection(setup, f"/{folder}")}
    if setup.authorities:
        files[f"{folder}/ca.pem"] = setup.authorities[0]
    if setup.certificate is not None:
        files[f"{folder}/device.pem"] = setup.certificate
    if setup.private_key is not None:
        files[f"{folder}/device.key"] = setup.private_key
    return Bundle(f"{setup.device}-networkmanager.tar", MEDIA_TYPE, tar(files))


def _limits(setup: Setup) -> None:
    common_limits(setup, _NAME)
    one_proof(setup, _NAME)
    if setup.device_proof is not Proof.PSK:
        gateway_certificate(setup, _NAME)
        return
    why = f'{_NAME} has shared keys on both sides or on none: set local_auth = "psk"'
    require(setup.gateway_proof is Proof.PSK, "local_auth", why)
    why = f"{_NAME} takes shared keys of {_MIN_PSK} characters and more: give a longer one"
    require(len((setup.psk or "").encode()) >= _MIN_PSK, "psk", why)


def _connection(setup: Setup, folder: str) -> bytes:
    vpn, secrets = _vpn(setup, folder)
    name = f"{one_line(setup.title, 60)} ({setup.device})"
    sections: list[tuple[str, Section]] = [
        (
            "connection",
            [
                ("id", name),
                ("uuid", str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{setup.device}.{setup.address}"))),
                ("type", "vpn"),
                ("autoconnect", "false"),
            ],
        ),
        ("vpn", vpn),
    ]
    if secrets:
        sections.append(("vpn-secrets", secrets))
    sections += [(f"ipv{version}", _ip(setup)) for version in (4, 6)]
    lines = [
        "# Set it up with:",
        f"#   sudo tar -xf {setup.device}-networkmanager.tar -C / --no-same-owner",
        "#   sudo nmcli connection reload",
    ]
    for title, entries in sections:
        lines += ["", f"[{title}]", *(f"{key}={keyfile(value)}" for key, value in entries)]
    return ("\n".join(lines) + "\n").encode()


def _vpn(setup: Setup, folder: str) -> tuple[Section, Section]:
    found: Section = [
        ("service-type", "org.freedesktop.NetworkManager.strongswan"),
        ("address", setup.address),
        ("remote-identity", setup.gateway.swan),
        ("local-identity", setup.identity.swan),
        ("virtual", "yes"),
        ("encap", "yes" if setup.force_encapsulation else "no"),
        ("proposal", "yes"),
        ("ike", ";".join(for_strongswan(setup.ike))),
        ("esp", ";".join(for_strongswan(setup.esp))),
    ]
    if setup.port != 500:
        found.append(("server-port", str(setup.port)))
    if setup.subnets:
        found.append(("remote-ts", ";".join(map(str, setup.subnets))))
    if setup.authorities:
        found.append(("certificate", f"{folder}/ca.pem"))
    if setup.device_proof is Proof.PSK:
        return [*found, ("method", "psk"), ("password-flags", "0")], [("password", setup.psk or "")]
    if setup.certificate is not None:
        method = "eap-tls" if setup.device_proof is None else "cert"
        return [
            *found,
            ("method", method),
            ("cert-source", "file"),
            ("usercert", f"{folder}/device.pem"),
            ("userkey", f"{folder}/device.key"),
        ], []
    return [*found, ("method", "eap"), ("user", setup.user or ""), ("password-flags", "1")], []


def _ip(setup: Setup) -> Section:
    found: Section = [("method", "auto")]
    if setup.splits:
        found.append(("never-default", "true"))
    if setup.domains:
        found.append(("dns-search", "".join(f"{one};" for one in setup.domains)))
    return found
