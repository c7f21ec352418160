"""Setups of devices for the tests of bundles."""

from datetime import UTC, datetime
from functools import cache
from ipaddress import IPv4Address, IPv4Network, ip_address
from typing import Any

from gateway.provisioning import ca
from gateway.provisioning.names import Kind, PeerName
from gateway.provisioning.setup import Proof, Setup, Suite

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
IKE = Suite(
    ("aes256gcm16", "aes128gcm16"),
    (),
    ("prfsha384", "prfsha256"),
    ("x25519", "ecp256", "ecp384", "modp2048"),
)
ESP = Suite(
    ("aes256gcm16", "aes128gcm16"), (), (), ("x25519", "ecp256", "ecp384"), (), (True, False)
)
COMMON_NAME = "2.5.4.3"


def host(text: str) -> PeerName:
    return PeerName(Kind.FQDN, text.encode(), (), text)


def mail(text: str) -> PeerName:
    return PeerName(Kind.EMAIL, text.encode(), (), text)


def address(text: str) -> PeerName:
    return PeerName(Kind.ADDRESS, ip_address(text).packed, (), text)


def subject(common_name: str) -> PeerName:
    name = ((COMMON_NAME, common_name),)
    octets = ca.x509.Name(
        [ca.x509.NameAttribute(ca.NameOID.COMMON_NAME, common_name)]
    ).public_bytes()
    return PeerName(Kind.SUBJECT, octets, name, f"CN={common_name}")


@cache
def authority() -> ca.Authority:
    return ca.create("Test CA", NOW)


@cache
def _device(name: PeerName, kind: ca.KeyKind) -> tuple[bytes, bytes]:
    key = ca.new_key(kind)
    issued = authority().issue_device(key.public_key(), name, "laptop", NOW, 30)
    return ca.certificate_pem(issued), ca.key_pem(key)


def by_certificate(
    identity: PeerName | None = None, kind: ca.KeyKind = ca.KeyKind.P256, **changes: Any
) -> Setup:
    name = identity or mail("ann@example.com")
    certificate, key = _device(name, kind)
    return _setup(identity=name, certificate=certificate, private_key=key, **changes)


def by_psk(**changes: Any) -> Setup:
    values: dict[str, Any] = {
        "psk": "a shared key of some length",
        "device_proof": Proof.PSK,
        "gateway_proof": Proof.PSK,
        "authorities": (),
        "authority_title": "",
    }
    return _setup(**(values | changes))


def by_user(**changes: Any) -> Setup:
    values: dict[str, Any] = {
        "device_proof": None,
        "user": "ann@example.com",
        "user_methods": ("eap-mschapv2",),
        "any_identity": True,
    }
    return _setup(**(values | changes))


def _setup(**changes: Any) -> Setup:
    values: dict[str, Any] = {
        "device": "laptop",
        "title": "gw.example.com",
        "address": "gw.example.com",
        "gateway": host("gw.example.com"),
        "identity": mail("ann@example.com"),
        "ike": (IKE,),
        "esp": (ESP,),
        "subnets": (IPv4Network("10.1.0.0/16"),),
        "dns": (IPv4Address("10.1.0.53"),),
        "domains": ("corp.example.com",),
        "authorities": (ca.certificate_pem(authority().certificate),),
        "authority_title": "Test CA",
    }
    return Setup(**(values | changes))
