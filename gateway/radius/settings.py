"""What the administrator says about RADIUS servers."""

import enum
from dataclasses import dataclass, field

from gateway.domain.endpoint import Endpoint, IpAddress
from gateway.radius.attributes import AttributeType


class GroupAttribute(enum.Enum):
    """Attributes of an answer that can name the user's groups."""

    FILTER_ID = "filter-id"
    CLASS = "class"

    @property
    def type(self) -> AttributeType:
        """Its number."""
        return _NUMBERS[self]


_NUMBERS = {
    GroupAttribute.FILTER_ID: AttributeType.FILTER_ID,
    GroupAttribute.CLASS: AttributeType.CLASS,
}


@dataclass(frozen=True, slots=True)
class RadiusServer:
    """A server and the secret we share with it."""

    authentication: Endpoint
    """Usually port 1812."""
    secret: bytes = field(repr=False)
    accounting: Endpoint | None = None
    """Usually port 1813; None when this server takes no accounting."""

    def __post_init__(self) -> None:
        if not self.secret:
            raise ValueError("a RADIUS server needs a secret")


@dataclass(frozen=True, slots=True)
class RadiusSettings:
    """A backend: servers that know the same users, the preferred first."""

    name: str
    servers: tuple[RadiusServer, ...]
    nas_identifier: str = "gateway"
    nas_address: IpAddress | None = None
    """NAS-IP-Address; the address of ours that the peer came to when None."""
    groups_from: tuple[GroupAttribute, ...] = (GroupAttribute.FILTER_ID, GroupAttribute.CLASS)
    framed_mtu: int = 1400
    """Bounds the EAP packets of the server (RFC 3579 section 2.4)."""
    retransmit_first_s: float = 1.0
    retransmit_factor: float = 2.0
    tries: int = 3
    """Transmissions to one server before another is asked."""
    deadline_s: float = 20.0
    """For one question, whatever happens."""
    hold_s: float = 60.0
    """A server that did not answer gets one request to try after this long."""
    max_waiting: int = 2048
    """Questions at the same time; more are answered with Unavailable at once."""
    accounting_max_waiting: int = 10_000
    """Records that wait for a server; beyond it interim ones go first, then the oldest."""
    accounting_keep_s: float = 24 * 3600.0
    """A record that no server took by then is given up."""
    interim_interval_s: float | None = None
    """When the server does not say; None sends no interim records."""

    def __post_init__(self) -> None:
        if not self.servers:
            raise ValueError(f"RADIUS backend {self.name} has no server")
        ends = [one.authentication for one in self.servers]
        ends += [one.accounting for one in self.servers if one.accounting is not None]
        if len(set(ends)) != len(ends):
            raise ValueError(f"RADIUS backend {self.name} has an address and port twice")
        if not 0 < len(self.nas_identifier.encode()) <= 253:
            raise ValueError("nas_identifier must have 1 to 253 octets")
