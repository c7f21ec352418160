"""The two responders for each method of the handshake benchmark: configurations and credentials."""

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from gateway.eap.mschapv2_crypto import nt_password_hash
from gateway.lab import plan
from gateway.lab.appliance import Appliance
from gateway.lab.pki import Authority, Issued, KeyKind
from gateway.lab.strongswan import StrongSwan
from gateway.lab.topology import Lab
from gateway.users.editing import UserFile
from gateway.users.settings import ScryptCost, UserBaseSettings

NAME = "gateway.bench"
PSK = "the same long secret for both responders"
USER, PASSWORD = "ann", "the same password for both responders"

GATEWAY_TOML = """
[gateway]
name = "{name}"
runtime_dir = "{folder}"
log_format = "json"
[ike]
listen = ["{address}"]
cookie_threshold = 100000
half_open_limit = 100000
half_open_per_source = 100000
{users}
[pools.bench]
network = "10.16.0.0/16"
[connections.bench]
ike_version = {version}
{proof}
remote_id = "*@{method}.bench"
pool = "bench"
local_subnets = ["10.1.0.0/24"]
{proposals}
"""

SWANCTL_CONF = """
connections {{ bench {{
    version = {version}
    local_addrs = {address}
    proposals = {ike}
    pools = bench
    unique = never
    local {{ {local}
        id = {name} }}
    remote {{ {remote}
        id = *@{method}.bench }}
    children {{ net {{
        local_ts = 10.1.0.0/24
        esp_proposals = {esp} }} }}
}} }}
pools {{ bench {{ addrs = 10.16.0.0/16 }} }}
secrets {{
    ike-bench {{ secret = "{psk}" }}
    eap-bench {{ id = {user}
        secret = "{password}" }}
}}
"""


@dataclass(frozen=True, slots=True)
class Method:
    """One way to prove oneself."""

    name: str
    """As :data:`bench.ike_initiators.INITIATORS` has it."""
    title: str
    version: int = 2
    key: KeyKind | None = None
    """Of the certificates, where there are any."""
    devices: bool = False
    """Whether the devices have some too."""
    user: bool = False
    has_bar: bool = True
    pairs: int = 8
    count: int = 100
    """Handshakes of a turn."""

    @property
    def ike_proposal(self) -> str:
        """What both responders take."""
        return "aes128gcm16-prfsha256-x25519" if self.version == 2 else "aes128-sha256-ecp256"

    @property
    def esp_proposal(self) -> str:
        """What both responders take."""
        return "aes128gcm16" if self.version == 2 else "aes128-sha256"


METHODS = (
    Method("psk", "pre-shared key", pairs=10, count=150),
    Method("ecdsa", "certificates, ECDSA P-256", key=KeyKind.ECDSA, devices=True),
    Method("rsa", "certificates, RSA 2048", key=KeyKind.RSA, devices=True),
    Method("eap", "EAP-MSCHAPv2", key=KeyKind.ECDSA, user=True),
    Method("v1psk", "IKEv1 main mode, pre-shared key", version=1, has_bar=False, pairs=4, count=60),
    Method(
        "v1cert",
        "IKEv1 main mode, ECDSA certificates",
        version=1,
        key=KeyKind.ECDSA,
        devices=True,
        has_bar=False,
        pairs=4,
        count=60,
    ),
)


@dataclass(frozen=True, slots=True)
class Bed:
    """What both responders share."""

    lab: Lab
    method: Method
    folder: Path
    """The devices' certificates, and the files of our gateway."""
    authority: Authority | None
    gateway: Issued | None

    @classmethod
    def make(cls, lab: Lab, method: Method) -> "Bed":
        """In a lab."""
        folder = lab.folder / f"credentials-{method.name}"
        folder.mkdir()
        return cls.write(lab, folder, method)

    @classmethod
    def write(cls, lab: Lab, folder: Path, method: Method) -> "Bed":
        """Write certificates and the user file."""
        authority = gateway = None
        if method.key is not None:
            authority = Authority(kind=method.key)
            gateway = authority.gateway(NAME, method.key)
            gateway.write(folder, "gateway")
            authority.root.write(folder, "ca")
            count = (method.pairs + 1) * (method.count + 20) if method.devices else 1
            _write_devices(folder, authority, method, count)
        if method.user:
            settings = UserBaseSettings(folder / "users.toml", folder / "users.key", ScryptCost(10))
            UserFile(settings).add_user(USER, PASSWORD, nt_hash=nt_password_hash(PASSWORD))
        return cls(lab, method, folder, authority, gateway)

    def ours(self) -> Appliance:
        """Our gateway, started."""
        gateway = Appliance(self.lab, fresh=True)
        gateway.write_text(self.toml(gateway.folder))
        gateway.start()
        return gateway

    def toml(self, runtime_dir: Path) -> str:
        """Its configuration."""
        method, folder = self.method, self.folder
        psk = method.key is None
        proof = {"local_auth": "psk" if psk else "certificate", "remote_auth": "psk"}
        if psk:
            proof["psk"] = PSK
        else:
            proof["certificate"] = str(folder / "gateway.crt")
            proof["private_key"] = str(folder / "gateway.key")
            proof["remote_auth"] = "user" if method.user else "certificate"
        lines = [f'{key} = "{value}"' for key, value in proof.items()]
        if method.devices:
            lines.append(f'ca_certificates = ["{folder / "ca.crt"}"]')
        users = ""
        if method.user:
            lines.append('user_auth = ["eap-mschapv2"]')
            users = f'[users]\nfile = "{folder / "users.toml"}"\n'
            users += f'key_file = "{folder / "users.key"}"'
        proposals = ""
        if method.version == 1:
            proposals = f'ike_proposals = ["{method.ike_proposal}"]\n'
            proposals += f'esp_proposals = ["{method.esp_proposal}"]'
        return GATEWAY_TOML.format(
            name=NAME,
            folder=runtime_dir,
            address=plan.GATEWAY_OUTSIDE,
            method=method.name,
            version=method.version,
            proof="\n".join(lines),
            users=users,
            proposals=proposals,
        )

    def strongswan(self) -> StrongSwan:
        """Debian's, without a log and without the limits that a load from one address would hit."""
        method = self.method
        charon = StrongSwan(self.lab, "attacker", extra="dos_protection = no", quiet=True)
        charon.start()
        proof = "auth = psk" if method.key is None else "auth = pubkey"
        local = proof if method.key is None else f"{proof}\n        certs = gateway.crt"
        text = SWANCTL_CONF.format(
            name=NAME,
            address=plan.ATTACKER,
            psk=PSK,
            user=USER,
            password=PASSWORD,
            method=method.name,
            version=method.version,
            ike=method.ike_proposal,
            esp=method.esp_proposal,
            local=local,
            remote="auth = eap-mschapv2\n        eap_id = %any" if method.user else proof,
        )
        held: Mapping[str, Issued] = {"gateway": self.gateway} if self.gateway is not None else {}
        authorities = [self.authority.root] if self.authority is not None else []
        charon.load(text, authorities=authorities, credentials=held)
        return charon

    def load(self, address: str, count: int, at_once: int, first_number: int) -> list[str]:
        """Arguments of :mod:`bench.ike_load`."""
        argv = [address, "--method", self.method.name, "--psk", PSK, "--name", NAME]
        argv += ["--count", str(count), "--at-once", str(at_once)]
        argv += ["--first-number", str(first_number)]
        if self.method.key is not None:
            argv += ["--folder", str(self.folder)]
        if self.method.user:
            argv += ["--user", USER, "--password", PASSWORD]
        return argv


def _write_devices(folder: Path, authority: Authority, method: Method, count: int) -> None:
    """Certificates of ``count`` devices, all with one key; the names are what responders see."""
    if method.key is None:
        raise ValueError("no certificates with this method")
    model = authority.device(f"d0@{method.name}.bench", method.key)
    (folder / "device.key").write_bytes(model.key_pem())
    extensions = list(model.certificate.extensions)
    with (folder / "devices").open("wb") as file:
        for number in range(count):
            name = f"d{number}@{method.name}.bench"
            builder = x509.CertificateBuilder(
                issuer_name=model.certificate.issuer,
                subject_name=x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]),
                public_key=model.key.public_key(),
                serial_number=x509.random_serial_number(),
                not_valid_before=model.certificate.not_valid_before_utc,
                not_valid_after=model.certificate.not_valid_before_utc
                + datetime.timedelta(days=300),
                extensions=[],
            )
            for extension in extensions:
                value = extension.value
                if isinstance(value, x509.SubjectAlternativeName):
                    value = x509.SubjectAlternativeName([x509.RFC822Name(name)])
                builder = builder.add_extension(value, critical=extension.critical)
            certificate = builder.sign(authority.root.key, hashes.SHA256())
            der = certificate.public_bytes(Encoding.DER)
            file.write(len(der).to_bytes(4, "big") + der)
