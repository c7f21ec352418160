"""An ESP security association pair as the dataplane needs it."""

import enum
from dataclasses import dataclass, field
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    summarize_address_range,
)

from gateway.domain.endpoint import Endpoint, IpAddress

IpNetwork = IPv4Network | IPv6Network


class Encryption(enum.Enum):
    """ESP encryption algorithms of the dataplane, by their usual names."""

    AES_GCM_16 = "aes_gcm_16"
    AES_CBC = "aes_cbc"
    CHACHA20_POLY1305 = "chacha20poly1305"

    @property
    def is_aead(self) -> bool:
        """Whether it authenticates as well."""
        return self is not Encryption.AES_CBC


class Integrity(enum.Enum):
    """ESP integrity algorithms of the dataplane; AEAD suites use NONE."""

    NONE = "none"
    HMAC_SHA2_256_128 = "hmac_sha2_256_128"
    HMAC_SHA2_384_192 = "hmac_sha2_384_192"
    HMAC_SHA2_512_256 = "hmac_sha2_512_256"


@dataclass(frozen=True, slots=True)
class EspSuite:
    """The negotiated algorithms of a child SA."""

    encryption: Encryption
    key_bits: int
    """Key size of the cipher without its salt: 128, 192 or 256."""
    integrity: Integrity
    esn: bool
    """Extended (64-bit) sequence numbers, RFC 4304."""

    def __str__(self) -> str:
        parts = [f"{self.encryption.value}_{self.key_bits}"]
        if self.integrity is not Integrity.NONE:
            parts.append(self.integrity.value)
        if self.esn:
            parts.append("esn")
        return "/".join(parts)


@dataclass(frozen=True, slots=True)
class EspKeys:
    """Key material of one direction: cipher key with its salt (RFC 4106, 7634), integrity key."""

    encryption: bytes = field(repr=False)
    integrity: bytes = field(repr=False, default=b"")


@dataclass(frozen=True, slots=True)
class TrafficSelector:
    """An address range, a protocol (0 is any) and a port range (RFC 7296 section 3.13.1)."""

    start: IpAddress
    end: IpAddress
    protocol: int = 0
    start_port: int = 0
    end_port: int = 65535

    @classmethod
    def of_network(cls, network: IpNetwork) -> "TrafficSelector":
        """Any protocol and port of a network."""
        return cls(network[0], network[-1])

    @classmethod
    def of_address(cls, address: IpAddress) -> "TrafficSelector":
        """Any protocol and port of a single address."""
        return cls(address, address)

    def intersect(self, other: "TrafficSelector") -> "TrafficSelector | None":
        """What both allow, or None."""
        if self.start.version != other.start.version:
            return None
        if self.protocol and other.protocol and self.protocol != other.protocol:
            return None
        start = max(int(self.start), int(other.start))
        end = min(int(self.end), int(other.end))
        start_port = max(self.start_port, other.start_port)
        end_port = min(self.end_port, other.end_port)
        if start > end or start_port > end_port:
            return None
        cls: type[IPv4Address | IPv6Address] = type(self.start)
        protocol = self.protocol or other.protocol
        return TrafficSelector(cls(start), cls(end), protocol, start_port, end_port)

    def networks(self) -> list[IpNetwork]:
        """The address range as the fewest prefixes, for the kernel."""
        if isinstance(self.start, IPv4Address) and isinstance(self.end, IPv4Address):
            return list(summarize_address_range(self.start, self.end))
        return list(
            summarize_address_range(IPv6Address(int(self.start)), IPv6Address(int(self.end)))
        )

    def __str__(self) -> str:
        networks = self.networks()
        text = str(networks[0]) if len(networks) == 1 else f"{self.start}-{self.end}"
        if self.protocol:
            text += f"[proto {self.protocol}]"
        if (self.start_port, self.end_port) != (0, 65535):
            text += f"[port {self.start_port}-{self.end_port}]"
        return text


class Mode(enum.Enum):
    """How ESP wraps a packet."""

    TUNNEL = "tunnel"
    TRANSPORT = "transport"


@dataclass(frozen=True, slots=True)
class ChildSa:
    """Both directions of a child SA. ``spi_in`` is its name: we choose it, so it is unique here."""

    spi_in: int
    spi_out: int
    reqid: int
    """Shared by a child SA and those that replace it by rekeying; their policies are one."""
    suite: EspSuite
    keys_in: EspKeys
    keys_out: EspKeys
    local: Endpoint
    remote: Endpoint
    """The outer addresses; the ports count only with ``udp_encapsulation``."""
    udp_encapsulation: bool
    local_ts: tuple[TrafficSelector, ...]
    remote_ts: tuple[TrafficSelector, ...]
    mode: Mode = Mode.TUNNEL
    replay_window: int = 128
    follow_endpoint: bool = False
    """Whether packets from a new outer address may move this SA (draft appendix C)."""
    soft_bytes: int | None = None
    hard_bytes: int | None = None
    soft_packets: int | None = None
    hard_packets: int | None = None
    zone: int = 0
    """Not 0: a device without an inner address (see :mod:`gateway.domain.remote_access`). Others
    may have the same selectors; the zone says which SA a packet came by and has to leave by."""
    vpn_fa: bool = False
    """The peer is a mobile node with the VPN/FA feature (draft 001, appendix B): its selector is
    its home address, and only our foreign agent sends packets there."""

    @property
    def summary(self) -> str:
        """Selectors in one line: ``10.1.0.0/24 === 10.9.0.1/32``."""
        left = " ".join(map(str, self.local_ts))
        right = " ".join(map(str, self.remote_ts))
        return f"{left} === {right}"


ANY_IPV4 = TrafficSelector(IPv4Address(0), IPv4Address(2**32 - 1))
ANY_IPV6 = TrafficSelector(IPv6Address(0), IPv6Address(2**128 - 1))
