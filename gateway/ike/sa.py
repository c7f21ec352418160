"""What an IKE SA of either version has, and the child SAs under it."""

import enum
from ipaddress import IPv4Address
from typing import ClassVar

from gateway.domain.child_sa import EspSuite, Mode, TrafficSelector
from gateway.domain.endpoint import IpAddress, Path
from gateway.domain.mobility_credential import MobilityCredential
from gateway.domain.remote_access import Grant
from gateway.domain.user_auth import Accepted, Session
from gateway.ike.assigned import Assigned
from gateway.ike.auth.identity import Identity
from gateway.ike.endpoint_update import Move, MoveBudget
from gateway.ike.lease import Lease
from gateway.ike.policy import ConnectionPolicy
from gateway.ike.registry import DhGroup


class ChildState(enum.Enum):
    """Where a child SA is in its life."""

    INSTALLED = "installed"
    REKEYING = "rekeying"
    """An exchange of ours that replaces it is on its way."""
    REKEYED = "rekeyed"
    """Replaced; waits for its Delete."""
    DELETING = "deleting"
    """Our Delete is on its way."""


class Child:
    """A child SA as the engine remembers it; the keys live in the dataplane only."""

    __slots__ = (
        "endpoint_update",
        "group",
        "installed_at",
        "local_ts",
        "mode",
        "outbound_active",
        "remote_ts",
        "replaced_by",
        "reqid",
        "spi_in",
        "spi_out",
        "state",
        "suite",
        "udp_encapsulation",
        "vpn_fa",
        "zone",
    )

    def __init__(  # noqa: PLR0917 - one fact each
        self,
        spi_in: int,
        spi_out: int,
        reqid: int,
        suite: EspSuite,
        group: DhGroup | None,
        local_ts: tuple[TrafficSelector, ...],
        remote_ts: tuple[TrafficSelector, ...],
        udp_encapsulation: bool,
        now: float,
    ) -> None:
        self.spi_in = spi_in
        self.spi_out = spi_out
        self.reqid = reqid
        self.suite = suite
        self.group = group
        self.local_ts = local_ts
        self.remote_ts = remote_ts
        self.udp_encapsulation = udp_encapsulation
        self.state = ChildState.INSTALLED
        self.outbound_active = True
        self.replaced_by: int | None = None
        self.installed_at = now
        self.endpoint_update = False
        """Whether both sides agreed on SA endpoint update (draft 001, appendix C)."""
        self.vpn_fa = False
        """Whether both sides agreed on the foreign agent in the gateway (appendix B)."""
        self.mode = Mode.TUNNEL
        self.zone = 0
        """See :attr:`gateway.domain.child_sa.ChildSa.zone`."""


class IkeSa:
    """An IKE SA of either version: what the shared parts of the engine read and write."""

    version: ClassVar[int]

    __slots__ = (
        "_peer_name",
        "assigned",
        "auth",
        "children",
        "connection",
        "created_at",
        "encapsulate",
        "established_at",
        "fa_advertisement",
        "family",
        "fragmentation",
        "granted",
        "home_address",
        "initiator",
        "initiator_spi",
        "last_inbound",
        "last_move",
        "leases",
        "local_id",
        "local_natted",
        "local_spi",
        "mobike",
        "mobility_credentials",
        "move_budget",
        "origin",
        "own_addresses",
        "path",
        "peer_id",
        "peer_knows_endpoint_update",
        "peer_knows_vpn_fa",
        "policy_mark",
        "profile",
        "remote_natted",
        "responder_spi",
        "rtt_s",
        "session",
        "session_initiator",
        "ticket",
        "user",
        "zone",
    )

    def __init__(  # noqa: PLR0915 - one fact each
        self, initiator_spi: bytes, responder_spi: bytes, initiator: bool, path: Path, now: float
    ) -> None:
        self.initiator_spi = initiator_spi
        self.responder_spi = responder_spi
        self.initiator = initiator
        """Whether we are the original initiator of this SA."""
        self.session_initiator = initiator
        """Whether we initiated the first of the IKE SAs of which this one is a successor."""
        self.local_spi = initiator_spi if initiator else responder_spi
        self.path = path
        self.connection: ConnectionPolicy | None = None
        """As the peer's profile has it, once its user is known."""
        self.peer_id: Identity | None = None
        self.local_id: Identity | None = None
        self.leases: tuple[Lease, ...] = ()
        """The inner addresses: the peer's, or, as the initiator, ours. IPv4 comes first."""
        self.own_addresses: tuple[IpAddress, ...] = ()
        """As the gateway, with presence by NAPT: what the device has and keeps in the tunnel."""
        self.zone = 0
        """With presence by NAPT: see :class:`gateway.domain.remote_access.Grant`."""
        self.granted: Grant | None = None
        """As the gateway: what was told of the session (see :mod:`gateway.ike.access`)."""
        self.assigned: Assigned | None = None
        """As the initiator: what the gateway told us about its network."""
        self.home_address: IPv4Address | None = None
        """As the gateway: the peer's own home address, which its child SAs may have as a side."""
        self.mobility_credentials: tuple[MobilityCredential, ...] = ()
        """As the initiator: what this login lets us register with (draft 002, section 4.2.1)."""
        self.children: dict[int, Child] = {}
        self.fragmentation = False
        self.mobike = False
        self.local_natted = False
        self.remote_natted = False
        self.encapsulate = False
        self.created_at = now
        self.established_at = 0.0
        self.last_inbound = now
        self.rtt_s: float | None = None
        """From our last request to its answer, where it was sent once only."""
        self._peer_name: str | None = None
        self.last_move: Move | None = None
        self.move_budget: MoveBudget | None = None
        self.peer_knows_endpoint_update = False
        """The peer sent the vendor id, as we did."""
        self.peer_knows_vpn_fa = False
        self.fa_advertisement = b""
        """The foreign agent advertisement that the gateway sent us (draft 001, appendix B.2)."""
        self.user: Accepted | None = None
        """The user that proved itself by EAP or XAUTH."""
        self.profile = ""
        """Name of the profile that the user's groups gave."""
        self.auth = ""
        """How the peer proved itself, in a few words for people."""
        self.session: Session | None = None
        """What accounting knows of it; moves on to a successor."""
        self.origin = ""
        """``session_id`` of the SA whose place this one took; empty for the first one."""
        self.family = self.local_spi
        """Our SPI of the first IKE SA of the login that this one came of by rekeying."""
        self.policy_mark: tuple[ConnectionPolicy, bytes] | None = None
        """The connection and its fingerprint, once it was computed (see ``record_policy``)."""
        self.ticket = 0
        """Of the question about the user or its certificate that waits for an answer, or 0."""

    @property
    def peer_name(self) -> str:
        """The peer's identity for people, or ``(unknown)`` before it gave one."""
        if self._peer_name is None:
            if self.peer_id is None:
                return "(unknown)"
            self._peer_name = str(self.peer_id)
        return self._peer_name

    @property
    def inner_addresses(self) -> tuple[IpAddress, ...]:
        """The addresses of ``leases``."""
        return tuple(one.address for one in self.leases)

    @property
    def inner_address(self) -> IpAddress | None:
        """The first of them: that of IPv4, where there is one."""
        return self.leases[0].address if self.leases else None

    @property
    def connection_name(self) -> str:
        """The connection's name, or ``(none yet)``."""
        return self.connection.name if self.connection is not None else "(none yet)"

    @property
    def spis(self) -> str:
        """Both SPIs in hexadecimal."""
        return f"{self.initiator_spi.hex()}_{self.responder_spi.hex()}"

    @property
    def session_id(self) -> str:
        """Names the session in logs and accounting: the SPIs of its first IKE SA.

        It stays the same through rekeying. A handshake has the name that its session will have.
        """
        if self.session is not None:
            return self.session.session_id
        return self.origin or self.spis

    def esp_sas(self) -> list[tuple[int, bool]]:
        """(inbound SPI, whether encapsulated in UDP) of each child SA."""
        return [(child.spi_in, child.udp_encapsulation) for child in self.children.values()]

    # -- what each version answers in its own way -------------------------------------------

    @property
    def state_name(self) -> str:
        """The state, for people."""
        raise NotImplementedError

    @property
    def suite_name(self) -> str:
        """The negotiated suite, for people; empty before there is one."""
        raise NotImplementedError

    @property
    def established(self) -> bool:
        """Whether the peer has proven itself and nobody ended the SA."""
        raise NotImplementedError

    @property
    def closed(self) -> bool:
        """Whether it is over; it may still lie around to answer retransmissions."""
        raise NotImplementedError

    @property
    def had_session(self) -> bool:
        """Whether it is or was established, being deleted included, and no successor has it."""
        raise NotImplementedError

    @property
    def replaced(self) -> bool:
        """Whether a successor carries the session on."""
        raise NotImplementedError

    @property
    def movable(self) -> bool:
        """Whether authenticated packets from elsewhere may still move the peer."""
        raise NotImplementedError
