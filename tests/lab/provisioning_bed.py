"""A fresh gateway that provisions devices, and its bundles as strongSwan understands them."""

import base64
import json
import plistlib
import subprocess
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    pkcs12,
)

from gateway.lab import plan
from gateway.lab.appliance import Appliance
from gateway.lab.strongswan import StrongSwan
from gateway.lab.topology import Lab

PASSWORD = "the password of ann, a user of the lab"
USER = "ann@phones.example.com"
CONFIGURATION = """
[gateway]
name = "gw.lab.example.com"
runtime_dir = "{folder}"
log_format = "json"

[store]
state_dir = "{folder}/state"

[provisioning]
enabled = true
address = "{outside}"

[api]
enabled = false

[ike]
listen = ["{outside}"]

[pools.road]
network = "10.9.0.0/24"
dns = ["10.1.0.10"]

[connections.staff]
remote_id = "*@example.com"
pool = "road"
local_subnets = ["10.1.0.0/24"]
domains = ["corp.example.com"]

[connections.phones]
remote_auth = "user"
user_auth = ["eap-mschapv2"]
remote_id = "*@phones.example.com"
pool = "road"
local_subnets = ["10.1.0.0/24"]
"""
GROUPS = {14: "modp2048", 15: "modp3072", 19: "ecp256", 20: "ecp384", 31: "curve25519"}
CIPHERS = {"AES-256-GCM": "aes256gcm16", "AES-128-GCM": "aes128gcm16"}
HASHES = {"SHA2-256": "sha256", "SHA2-384": "sha384"}


class Provisioning(Appliance):
    """A gateway whose first start makes its CA."""

    def __init__(self, lab: Lab) -> None:
        super().__init__(lab)
        self.write_text(CONFIGURATION.format(folder=self.folder, outside=plan.GATEWAY_OUTSIDE))

    def bundle(self, name: str, platform: str, **arguments: object) -> bytes:
        """A new device's file, by its link."""
        made = self.call("provision", name=name, platform=platform, **arguments)
        token = str(made["link"]).removeprefix("/d/")
        return base64.b64decode(self.call("link-take", token=token)["content"])


def unpack(archive: bytes, folder: Path) -> None:
    """Unpack a tar archive, as the comment in it says."""
    folder.mkdir(parents=True, exist_ok=True)
    argv = ["tar", "-xf", "-", "-C", str(folder), "--no-same-owner"]
    subprocess.run(argv, input=archive, check=True)


class Translated:
    """What another platform's file says, as swanctl.conf and files below ``folder``."""

    def __init__(self, charon: StrongSwan, name: str) -> None:
        self.folder = charon.folder / "swanctl"
        self.name = name
        for kind in ("x509", "x509ca", "private"):
            (self.folder / kind).mkdir(parents=True, exist_ok=True)

    def authority(self, der: bytes) -> None:
        """The CA of the gateway."""
        pem = x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM)
        (self.folder / "x509ca" / f"{self.name}.pem").write_bytes(pem)

    def identity(self, octets: bytes, password: str) -> None:
        """The device's certificate and key."""
        key, certificate, _ = pkcs12.load_key_and_certificates(octets, password.encode())
        assert key is not None
        assert certificate is not None
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (self.folder / "private" / f"{self.name}.pem").write_bytes(pem)
        pem = certificate.public_bytes(Encoding.PEM)
        (self.folder / "x509" / f"{self.name}.pem").write_bytes(pem)

    def text(self, found: dict[str, str], subnets: str) -> str:
        """The configuration; ``found`` has the values, ``user`` only where one logs in."""
        local = f"auth = pubkey\n certs = {self.name}.pem"
        secrets = ""
        if "user" in found:
            local = f"auth = eap-mschapv2\n eap_id = {found['user']}"
            secrets = f'secrets {{ eap {{ id = {found["user"]}\n secret = "{PASSWORD}" }} }}'
        return f"""
connections {{ {self.name} {{
 version = 2
 remote_addrs = {found["address"]}
 vips = 0.0.0.0
 proposals = {found["ike"]}
 local {{
  id = {found["local"]}
  {local}
 }}
 remote {{
  auth = pubkey
  id = {found["remote"]}
  cacerts = {self.name}.pem
 }}
 children {{ {self.name} {{
  remote_ts = {subnets}
  esp_proposals = {found["esp"]}
 }} }}
}} }}
{secrets}
"""


def android(charon: StrongSwan, name: str, content: bytes) -> str:
    """An .sswan profile, read as the app reads it."""
    profile: dict[str, Any] = json.loads(content)
    device = Translated(charon, name)
    device.authority(base64.b64decode(profile["remote"]["cert"]))
    if "p12" in profile["local"]:
        device.identity(base64.b64decode(profile["local"]["p12"]), name)
    found = {
        "address": profile["remote"]["addr"],
        "remote": profile["remote"]["id"],
        "local": profile["local"]["id"],
        "ike": profile["ike-proposal"],
        "esp": profile["esp-proposal"],
    }
    if profile["type"] == "ikev2-eap":
        found["user"] = profile["local"]["eap_id"]
    return device.text(found, ", ".join(profile["split-tunneling"]["subnets"]))


def apple(charon: StrongSwan, name: str, content: bytes) -> str:
    """A .mobileconfig, read as iOS reads it."""
    payloads = {one["PayloadType"]: one for one in plistlib.loads(content)["PayloadContent"]}
    vpn = payloads["com.apple.vpn.managed"]["IKEv2"]
    device = Translated(charon, name)
    device.authority(payloads["com.apple.security.root"]["PayloadContent"])
    assert vpn["AuthenticationMethod"] == "Certificate"
    if not vpn["ExtendedAuthEnabled"]:
        identity = payloads["com.apple.security.pkcs12"]
        assert vpn["PayloadCertificateUUID"] == identity["PayloadUUID"]
        device.identity(identity["PayloadContent"], identity["Password"])
    found = {
        "address": vpn["RemoteAddress"],
        "remote": vpn["RemoteIdentifier"],
        "local": vpn["LocalIdentifier"],
        "ike": _words(vpn["IKESecurityAssociationParameters"], prf=True),
        "esp": _words(vpn["ChildSecurityAssociationParameters"], prf=False),
    }
    if vpn["ExtendedAuthEnabled"]:
        found["user"] = vpn["AuthName"]
    # iOS takes the networks that the gateway names at login.
    assert vpn["UseConfigurationAttributeInternalIPSubnet"] == 1
    return device.text(found, "0.0.0.0/0")


def _words(parameters: dict[str, Any], *, prf: bool) -> str:
    cipher, group = parameters["EncryptionAlgorithm"], parameters["DiffieHellmanGroup"]
    middle = f"-prf{HASHES[parameters['IntegrityAlgorithm']]}" if prf else ""
    return f"{CIPHERS[cipher]}{middle}-{GROUPS[group]}"
