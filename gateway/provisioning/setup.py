"""Everything that a device must be told to connect, whatever its platform."""

import enum
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from gateway.provisioning.names import PeerName
from gateway.provisioning.problem import ProvisioningRefusedError

DEVICE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
"""Part of file names in bundles, of sections and of host names."""


class Platform(enum.StrEnum):
    """Whom a bundle is for."""

    GATEWAY_MN = "gateway-mn"
    STRONGSWAN = "strongswan"
    ANDROID = "android"
    APPLE = "apple"
    WINDOWS = "windows"
    NETWORK_MANAGER = "networkmanager"
    OTHER = "other"


class Proof(enum.Enum):
    """What a side proves itself with."""

    CERTIFICATE = "certificate"
    PSK = "psk"


@dataclass(frozen=True, slots=True)
class Suite:
    """One proposal: the allowed algorithms of each type in strongSwan's words, best first."""

    encryption: tuple[str, ...]
    integrity: tuple[str, ...]
    """Empty where the ciphers authenticate by themselves."""
    prf: tuple[str, ...]
    """Empty for ESP."""
    groups: tuple[str, ...]
    """Key exchange methods; for ESP those of PFS, empty without."""
    additional: tuple[str, ...] = ()
    """Words such as ``ke1_mlkem768``, where one side may not do without."""
    esn: tuple[bool, ...] = ()
    """For ESP: whether sequence numbers of 64 bits are allowed, and others."""

    @property
    def words(self) -> str:
        """As strongSwan writes it."""
        sequence = tuple("esn" if one else "noesn" for one in self.esn)
        parts = (
            *self.encryption,
            *self.integrity,
            *self.prf,
            *self.groups,
            *sequence,
            *self.additional,
        )
        return "-".join(parts)


@dataclass(frozen=True, slots=True)
class HomeAgent:
    """A home agent that no login teaches, with the key that the device shares with it."""

    address: IPv4Address
    home_address: IPv4Address
    home_network: IPv4Network
    spi: int
    key: str = field(repr=False)
    """As the configuration writes keys."""
    algorithm: str = "hmac-md5"
    replay: str = "timestamps"
    nai: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """A connection as one device sees it. Secrets are not in its repr."""

    device: str
    title: str
    """What people call the gateway."""
    address: str
    """Host name or address of the gateway."""
    port: int = 500
    tcp_ports: tuple[int, ...] = ()
    """Of its TCP encapsulation (RFC 9329)."""
    version: int = 2
    gateway: PeerName
    gateway_proof: Proof = Proof.CERTIFICATE
    identity: PeerName
    device_proof: Proof | None = Proof.CERTIFICATE
    """None where the login of its user is enough."""
    user: str | None = None
    user_methods: tuple[str, ...] = ()
    """How the user logs in, in the configuration's words, best first; empty without user."""
    any_identity: bool = False
    """Whether the connection takes whatever identity a device shows."""
    ike: tuple[Suite, ...]
    esp: tuple[Suite, ...]
    own_proposals: bool = False
    """Whether the connection names its proposals; otherwise they are our defaults."""
    subnets: tuple[IPv4Network | IPv6Network, ...] = ()
    """What is reached through the tunnel; empty for everything."""
    inner_versions: tuple[int, ...] = (4,)
    """Of the inner addresses that the gateway gives out; empty without a pool."""
    dns: tuple[IPv4Address | IPv6Address, ...] = ()
    domains: tuple[str, ...] = ()
    authorities: tuple[bytes, ...] = ()
    """PEM: under which the gateway's certificate is."""
    authority_title: str = ""
    """Common name of the first."""
    certificate: bytes | None = None
    """PEM of the device."""
    private_key: bytes | None = field(default=None, repr=False)
    """PKCS#8 PEM; None where the device keeps it itself."""
    psk: str | None = field(default=None, repr=False)
    mobike: bool = True
    force_encapsulation: bool = False
    aggressive: bool = False
    """IKEv1 only."""
    ppk_id: str | None = None
    ppk: str | None = field(default=None, repr=False)
    ppk_required: bool = False
    only_ours: str | None = None
    """The setting that only our mobile node can fulfil, such as ``vpn_fa``."""
    inside: HomeAgent | None = None
    outside: HomeAgent | None = None

    def __post_init__(self) -> None:
        if not DEVICE_NAME.fullmatch(self.device):
            why = "use 1 to 63 letters, digits, - and _, beginning with a letter or digit"
            raise ProvisioningRefusedError("name", why)

    @property
    def splits(self) -> bool:
        """Whether only some networks are reached through the tunnel."""
        return bool(self.subnets)


@dataclass(frozen=True, slots=True)
class Bundle:
    """What a device gets."""

    file_name: str
    """ASCII, without any path."""
    media_type: str
    content: bytes = field(repr=False)


Maker = Callable[[Setup, Callable[[int], bytes]], Bundle]
"""Makes a bundle; takes a source of randomness. Raises :class:`ProvisioningRefusedError`."""


def require(met: object, field_name: str, why: str) -> None:
    """Refuse where something is not as it must be."""
    if not met:
        raise ProvisioningRefusedError(field_name, why)
