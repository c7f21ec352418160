"""The matrix as data: its rows, its columns, and what a peer does not offer."""

from __future__ import annotations

import enum
import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass, field


class Exchange(enum.Enum):
    """How the IKE SA comes to be."""

    MAIN = "main mode"
    AGGRESSIVE = "aggressive mode"
    IKEV2 = "IKEv2"


class Auth(enum.Enum):
    """Who proves itself how; with a user, the initiator is the user's device."""

    PSK = "pre-shared key"
    RSA = "RSA certificates"
    ECDSA = "ECDSA certificates"
    HYBRID = "hybrid (XAUTH, RSA certificate)"
    XAUTH_PSK = "pre-shared key, XAUTH"
    XAUTH_RSA = "RSA certificates, XAUTH"
    EAP_MSCHAPV2 = "EAP-MSCHAPv2"
    EAP_TLS = "EAP-TLS"
    EAP_GTC = "EAP-GTC"

    @property
    def user(self) -> bool:
        """Whether a user logs in."""
        return self not in {Auth.PSK, Auth.RSA, Auth.ECDSA}

    @property
    def eap(self) -> bool:
        """Whether the user logs in by EAP."""
        return self in {Auth.EAP_MSCHAPV2, Auth.EAP_TLS, Auth.EAP_GTC}

    @property
    def xauth(self) -> bool:
        """Whether the user logs in by XAUTH."""
        return self in {Auth.HYBRID, Auth.XAUTH_PSK, Auth.XAUTH_RSA}


class Configuration(enum.Enum):
    """Where the initiator's inner addresses come from."""

    SUBNETS = "subnets"
    """From nowhere: both sides name their networks."""
    PULL = "pull"
    """It asks for one: mode configuration, or the configuration payload of IKEv2."""
    PUSH = "push"
    """Mode configuration begun by the responder."""


class Event(enum.Enum):
    """What happens to the tunnel once it stands."""

    PEER_REKEYS_CHILD = "the peer rekeys the child SA"
    WE_REKEY_CHILD = "we rekey the child SA"
    PEER_REKEYS_IKE = "the peer rekeys the IKE SA"
    WE_REKEY_IKE = "we rekey the IKE SA"
    PEER_REAUTHENTICATES = "the peer logs in again"
    WE_REAUTHENTICATE = "we log in again"
    PEER_DELETES = "the peer deletes"
    WE_DELETE = "we delete"
    PEER_DIES = "the peer dies"
    PEER_PROBES = "the peer asks for signs of life"
    INITIATOR_MOVES = "the initiator moves (MOBIKE)"


class Fault(enum.Enum):
    """What is wrong, so that nobody may be let in."""

    SECRET = "another pre-shared key"
    PASSWORD = "another password"
    STRANGER = "a certificate of another CA"
    EXCHANGE = "an exchange that the responder does not allow"
    PPK = "no post-quantum key where one is required"
    NO_USER = "no user where one has to log in"


class Role(enum.Enum):
    """The peer's part."""

    INITIATOR = "initiator"
    RESPONDER = "responder"


PEERS = ("strongswan", "libreswan")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One method, to be tried with every peer in every role."""

    name: str
    exchange: Exchange
    auth: Auth = Auth.PSK
    configuration: Configuration = Configuration.PULL
    nat: bool = False
    radius: bool = False
    """The responder passes the user on to freeradius."""
    large: bool = False
    """Certificates far larger than a packet: IKE has to fragment."""
    ppk: bool = False
    childless: bool = False
    pfs: bool = False
    additional_exchange: bool = False
    """ML-KEM besides the elliptic curve (RFC 9370)."""
    return_routability: bool = True
    """Whether our gateway asks for a sign of life at a peer's new address."""
    fault: Fault | None = None
    events: tuple[Event, ...] = ()
    not_offered: Mapping[str, str] = field(default_factory=dict)
    """Why not, by the names of columns (`libreswan-responder`), with * and ?."""
    roles: tuple[Role, ...] = (Role.INITIATOR, Role.RESPONDER)
    """Parts of the peer in which the row says something about us."""

    @property
    def version(self) -> int:
        """Of IKE."""
        return 2 if self.exchange is Exchange.IKEV2 else 1

    @property
    def group(self) -> str:
        """The table of the report that it stands in."""
        if self.fault:
            return "Refused"
        return f"IKEv{self.version}, " + ("events" if self.events else "methods")


@dataclass(frozen=True, slots=True)
class Cell:
    """A row with one peer in one role."""

    row: Row
    peer: str
    role: Role

    @property
    def column(self) -> str:
        """Such as `strongswan-initiator`."""
        return f"{self.peer}-{self.role.value}"

    @property
    def name(self) -> str:
        """Unique, for selecting it."""
        return f"{self.column}/{self.row.name}"

    @property
    def not_offered(self) -> str | None:
        """Why this peer cannot do it in this role; None when it can."""
        for pattern, reason in self.row.not_offered.items():
            if fnmatch.fnmatch(self.column, pattern):
                return reason
        return None
