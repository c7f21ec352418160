"""How a registration travels, and what comes of it."""

import enum
from dataclasses import dataclass
from ipaddress import IPv4Address

from gateway.dataplane.node import NodeTunnel
from gateway.domain.mobility import Encapsulation


@dataclass(frozen=True, slots=True)
class Via:
    """How a request travels.

    ``destination`` is the home agent, or the foreign agent that relays. Deregistering from the
    home link, ``care_of_address`` and ``source`` are the home address (RFC 5944 section 3.6.1.2).
    """

    interface: str | None
    """None: through the VPN."""
    source: IPv4Address
    """Of the datagram: the care-of address when co-located, the home address otherwise."""
    destination: IPv4Address
    care_of_address: IPv4Address
    co_located: bool
    link_address: bytes = b""
    """The foreign agent's: it is never asked for by ARP."""
    challenge: bytes = b""
    """The newest of the foreign agent's (RFC 4721); empty when it makes none."""
    encapsulations: frozenset[Encapsulation] = frozenset(Encapsulation)
    """What the foreign agent can do; what else is wished for becomes IP in IP."""
    longest_lifetime_s: int = 0xFFFF
    """What the foreign agent advertises; more is never asked for."""

    @property
    def attachment(self) -> tuple[object, ...]:
        """What makes another place of it. A new challenge does not."""
        return (
            self.interface,
            self.source,
            self.destination,
            self.care_of_address,
            self.co_located,
        )


@dataclass(frozen=True, slots=True)
class Retransmission:
    """When a request without an answer is sent again, each time with a new identification."""

    first_s: float = 1.0
    factor: float = 2.0
    max_s: float = 30.0
    give_up_s: float | None = None
    """After the first transmission; None never."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """The home agent itself has answered: it proves that it was reached by ``via``."""

    via: Via
    tunnel: NodeTunnel
    """As granted. After a deregistration: the one that is no more."""
    lifetime_s: int
    """Granted; 65535 has no end. 0 when ``deregistered``."""
    sent_at: float
    """When the very transmission that is answered here was sent: retransmissions differ in their
    identification."""
    natted: bool = False
    """The home agent saw another source address than the care-of address."""
    udp: bool = False
    zero_overhead: bool = False
    deregistered: bool = False
    renewed: bool = False
    """Nothing is new: the registration was there already, with the same tunnel; or it was
    deregistered from here before."""
    revocable: bool = False
    """The home agent will say so when it ends the binding (RFC 3543)."""
    code: int = 0
    """0, or 1: accepted, but not as one of several care-of addresses."""


@dataclass(frozen=True, slots=True)
class Denied:
    """Somebody refuses."""

    code: int
    """See :class:`gateway.mip_agents.codec.codes.ReplyCode`."""
    text: str
    """What happened, for people."""
    hint: str
    """What to do about it, for people."""
    by_foreign_agent: bool
    authentic: bool
    """False: anybody on the way may have made it up. It proves nothing, and the request is sent
    again as before, until it is answered or given up."""
    final: bool
    """Nothing more is sent for this attempt. Only what is authentic ends one."""
    via: Via


@dataclass(frozen=True, slots=True)
class GaveUp:
    """Nobody answered in time. A registration that was there before lasts on until it ends."""

    sent: int
    """Transmissions of this attempt."""
    since: float
    """When the first of them was sent."""
    via: Via
    deregistering: bool = False


class EndReason(enum.Enum):
    """Why a registration is no more."""

    EXPIRED = "its lifetime is over"
    REVOKED = "its home agent revoked it"


@dataclass(frozen=True, slots=True)
class Ended:
    """The registration is no more; the tunnel carries nothing from now on."""

    reason: EndReason
    tunnel: NodeTunnel
    via: Via


Outcome = Accepted | Denied | GaveUp | Ended
