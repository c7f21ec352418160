"""For strongSwan's app on Android: an ``.sswan`` profile."""

import base64
import json
import uuid
from collections.abc import Callable

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from gateway.provisioning.bundle.limits import common_limits, no_psk
from gateway.provisioning.names import one_line
from gateway.provisioning.pkcs12 import pkcs12_of
from gateway.provisioning.setup import Bundle, Proof, Setup, require
from gateway.provisioning.suites import for_strongswan, without_esn

MEDIA_TYPE = "application/vnd.strongswan.profile"
_NAME = "strongSwan for Android"
_BY_PASSWORD = ("eap-mschapv2", "eap-gtc", "eap-radius")


def make(setup: Setup, _random: Callable[[int], bytes]) -> Bundle:
    """The profile. Raises :class:`ProvisioningRefusedError`."""
    common_limits(setup, _NAME)
    no_psk(setup, _NAME)
    kind = _kind(setup)
    remote: dict[str, object] = {"addr": setup.address, "id": setup.gateway.swan}
    if setup.port != 500:
        remote["port"] = setup.port
    if setup.authorities:
        first = x509.load_pem_x509_certificate(setup.authorities[0])
        remote["cert"] = _base64(first.public_bytes(Encoding.DER))
    local: dict[str, object] = {"id": setup.identity.swan}
    if setup.user is not None and kind in {"ikev2-eap", "ikev2-cert-eap"}:
        local["eap_id"] = setup.user
    if kind != "ikev2-eap":
        # Android's store takes no key that is in the clear. The password adds nothing to a file
        # that is given out once; it is one that people can be told.
        local["p12"] = _base64(pkcs12_of(setup, setup.device))
    profile: dict[str, object] = {
        "uuid": str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{setup.device}.{setup.address}")),
        "name": f"{one_line(setup.title, 60)} ({setup.device})",
        "type": kind,
        "remote": remote,
        "local": local,
        "ike-proposal": for_strongswan(setup.ike)[0],
        "esp-proposal": for_strongswan(without_esn(setup.esp, _NAME))[0],
    }
    if setup.splits:
        profile["split-tunneling"] = {"subnets": [str(one) for one in setup.subnets]}
    text = json.dumps(profile, indent=2) + "\n"
    return Bundle(f"{setup.device}.sswan", MEDIA_TYPE, text.encode())


def _kind(setup: Setup) -> str:
    """The app's word for how device and user prove themselves."""
    if not setup.user_methods:
        return "ikev2-cert"
    if setup.device_proof is None and setup.user_methods[0] == "eap-tls":
        return "ikev2-eap-tls"
    able = [one for one in setup.user_methods if one in _BY_PASSWORD]
    require(able, "user_auth", f'{_NAME} logs users in by password: add "eap-mschapv2"')
    if setup.device_proof is Proof.CERTIFICATE:
        return "ikev2-cert-eap"
    shown = setup.any_identity or setup.identity.plain == setup.user
    why = f"{_NAME} shows the user's name as identity: leave identity out, or make it the user's"
    require(shown, "identity", why)
    return "ikev2-eap"


def _base64(octets: bytes) -> str:
    return base64.b64encode(octets).decode()
