"""For iOS, iPadOS and macOS: a ``.mobileconfig`` with an IKEv2 payload and its certificates."""

import plistlib
import uuid
from collections.abc import Callable, Mapping

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from gateway.provisioning.bundle.limits import common_limits, gateway_certificate, one_proof
from gateway.provisioning.names import Kind, one_line
from gateway.provisioning.pkcs12 import pkcs12_of
from gateway.provisioning.setup import Bundle, Proof, Setup, require
from gateway.provisioning.suites import Chosen, Words, choose_esp, choose_ike

MEDIA_TYPE = "application/x-apple-aspen-config"
_NAME = "Apple's client"
_CIPHERS = {
    "aes256gcm16": "AES-256-GCM",
    "aes128gcm16": "AES-128-GCM",
    "chacha20poly1305": "ChaCha20Poly1305",
    "aes256": "AES-256",
    "aes128": "AES-128",
}
_HASHES = {"sha384": "SHA2-384", "sha256": "SHA2-256", "sha512": "SHA2-512", "sha1": "SHA1-96"}
_GROUPS = {
    "ecp256": "19",
    "ecp384": "20",
    "x25519": "31",
    "ecp521": "21",
    "modp2048": "14",
    "modp3072": "15",
    "modp4096": "16",
}
_WORDS = Words(_NAME, _CIPHERS, _CIPHERS, _HASHES, _HASHES, _GROUPS, _GROUPS)
_CURVES = {256: "ECDSA256", 384: "ECDSA384", 521: "ECDSA521"}
_MINUTES_IKE, _MINUTES_CHILD = 1440, 1440
"""The gateway renews earlier."""

Payload = dict[str, object]


def make(setup: Setup, random: Callable[[int], bytes]) -> Bundle:
    """The profile. Raises :class:`ProvisioningRefusedError`."""
    _limits(setup)
    base = f"gateway.{setup.device}"
    payloads: list[Payload] = [
        _authority(pem, number, base, random) for number, pem in enumerate(setup.authorities, 1)
    ]
    identity = None
    if setup.certificate is not None:
        identity = _identity(setup, base, random)
        payloads.append(identity)
    payloads.append(_vpn(setup, identity, base, random))
    title = one_line(setup.title, 60)
    profile = {
        **_payload("Configuration", base, f"{title} ({setup.device})", random),
        "PayloadContent": payloads,
        "PayloadRemovalDisallowed": False,
        "PayloadScope": "System",
    }
    content = plistlib.dumps(profile, fmt=plistlib.FMT_XML, sort_keys=True)
    return Bundle(f"{setup.device}.mobileconfig", MEDIA_TYPE, content)


def _limits(setup: Setup) -> None:
    common_limits(setup, _NAME)
    one_proof(setup, _NAME)
    named = setup.identity.kind in {Kind.FQDN, Kind.EMAIL, Kind.ADDRESS}
    why = f"{_NAME} shows a host name, user@host or an address: give the device such an identity"
    require(named, "identity", why)
    named = setup.gateway.kind in {Kind.FQDN, Kind.EMAIL, Kind.ADDRESS}
    why = f"{_NAME} expects a host name or an address: set local_id to that of the gateway"
    require(named, "local_id", why)
    if setup.device_proof is not Proof.PSK:
        gateway_certificate(setup, _NAME)
    else:
        why = f'{_NAME} has shared keys on both sides or on none: set local_auth = "psk"'
        require(setup.gateway_proof is Proof.PSK, "local_auth", why)
    if setup.user_methods:
        able = {"eap-mschapv2", "eap-tls", "eap-radius"} & set(setup.user_methods)
        require(able, "user_auth", f'{_NAME} knows eap-mschapv2 and eap-tls: add "eap-mschapv2"')


def _payload(kind: str, identifier: str, name: str, random: Callable[[int], bytes]) -> Payload:
    return {
        "PayloadType": kind,
        "PayloadVersion": 1,
        "PayloadIdentifier": identifier,
        "PayloadUUID": str(uuid.UUID(bytes=random(16), version=4)).upper(),
        "PayloadDisplayName": name,
    }


def _authority(pem: bytes, number: int, base: str, random: Callable[[int], bytes]) -> Payload:
    certificate = x509.load_pem_x509_certificate(pem)
    return {
        **_payload(
            "com.apple.security.root", f"{base}.ca{number}", "Certificate authority", random
        ),
        "PayloadCertificateFileName": f"ca{number}.cer",
        "PayloadContent": certificate.public_bytes(Encoding.DER),
    }


def _identity(setup: Setup, base: str, random: Callable[[int], bytes]) -> Payload:
    password = random(16).hex()
    return {
        **_payload("com.apple.security.pkcs12", f"{base}.identity", setup.device, random),
        "PayloadCertificateFileName": f"{setup.device}.p12",
        "PayloadContent": pkcs12_of(setup, password),
        "Password": password,
    }


def _vpn(
    setup: Setup, identity: Mapping[str, object] | None, base: str, random: Callable[[int], bytes]
) -> Payload:
    found = _payload("com.apple.vpn.managed", f"{base}.vpn", "VPN", random)
    found |= {
        "UserDefinedName": f"{one_line(setup.title, 60)} ({setup.device})",
        "VPNType": "IKEv2",
        "IKEv2": _ikev2(setup, identity),
        "IPv4": {"OverridePrimary": 0 if setup.splits else 1},
    }
    if setup.domains and setup.dns:
        found["DNS"] = {
            "ServerAddresses": [str(one) for one in setup.dns],
            "SupplementalMatchDomains": list(setup.domains),
        }
    return found


def _ikev2(setup: Setup, identity: Mapping[str, object] | None) -> Payload:
    ike, esp = choose_ike(_WORDS, setup.ike), choose_esp(_WORDS, setup.esp)
    found: Payload = {
        "RemoteAddress": setup.address,
        "RemoteIdentifier": setup.gateway.plain,
        "LocalIdentifier": setup.identity.plain,
        "ExtendedAuthEnabled": 1 if setup.user_methods else 0,
        "DeadPeerDetectionRate": "Medium",
        "DisableMOBIKE": 0 if setup.mobike else 1,
        "DisableRedirect": 1,
        "EnableCertificateRevocationCheck": 0,
        "EnablePFS": 1 if esp.group else 0,
        "OnDemandEnabled": 0,
        "UseConfigurationAttributeInternalIPSubnet": 1 if setup.splits else 0,
        "IKESecurityAssociationParameters": _parameters(ike, ike.group, _MINUTES_IKE),
        "ChildSecurityAssociationParameters": _parameters(
            esp, esp.group or ike.group, _MINUTES_CHILD
        ),
    }
    if setup.user_methods and setup.user is not None:
        found["AuthName"] = setup.user
    if setup.device_proof is Proof.PSK:
        found |= {"AuthenticationMethod": "SharedSecret", "SharedSecret": setup.psk or ""}
        return found
    if setup.authority_title:
        found["ServerCertificateIssuerCommonName"] = setup.authority_title
    found["AuthenticationMethod"] = "Certificate"  # of the gateway
    if identity is None:
        return found
    found |= {
        "PayloadCertificateUUID": identity["PayloadUUID"],
        "CertificateType": _certificate_type(setup.certificate or b""),
    }
    return found


def _parameters(chosen: Chosen, group: str | None, minutes: int) -> Payload:
    found: Payload = {
        "EncryptionAlgorithm": chosen.encryption,
        "IntegrityAlgorithm": chosen.hash or "SHA2-256",
        "LifeTimeInMinutes": minutes,
    }
    if group is not None:
        found["DiffieHellmanGroup"] = int(group)
    return found


def _certificate_type(pem: bytes) -> str:
    key = x509.load_pem_x509_certificate(pem).public_key()
    return _CURVES[key.curve.key_size] if isinstance(key, ec.EllipticCurvePublicKey) else "RSA"
