"""What a NAR client is told before it starts."""

from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from typing import Final

from gateway.domain.nar import Delivery
from gateway.nar.codec.leases import NEW_SESSION

ANY: Final = IPv4Address(0)
"""As target of NAR-MODE: no peer in particular."""
_RESERVED: Final = IPv4Network("240.0.0.0/4")


@dataclass(frozen=True, slots=True)
class NarClientSettings:
    """One control connection to a NAR server."""

    user: str | None = None
    """None: only method 0 (no login) is offered."""
    password: bytes | None = field(default=None, repr=False)
    target: IPv4Address | str = ANY
    """Yb of NAR-MODE; a name is resolved by the server."""
    delivery: Delivery = Delivery.IP_IP
    """Asked for; the server may impose another one."""
    acceptable: frozenset[Delivery] = frozenset(Delivery)
    """What this host can do; what is imposed and is not among it ends the connection."""
    leases: bool = True
    """Whether to ask for lease times (our extension); the draft's own behaviour without."""
    token: bytes = field(default=NEW_SESSION, repr=False)
    """Of a session of an earlier process, see :class:`SessionAgreed`."""

    def __post_init__(self) -> None:
        if (self.user is None) != (self.password is None):
            raise ValueError("give user and password, or neither")
        if self.delivery not in self.acceptable:
            raise ValueError(f"delivery {self.delivery.value} is not acceptable itself")


def usable(address: IPv4Address) -> bool:
    """Whether a host can have this address: a hostile server may lend anything."""
    special = address.is_multicast or address.is_loopback or address.is_link_local
    return not (special or address.is_unspecified or address in _RESERVED)
