"""A registration request while it is judged: what it says, and what was found out so far."""

from collections.abc import Hashable
from ipaddress import IPv4Address

from gateway.domain.endpoint import Path
from gateway.mip_agents.codec.extensions import (
    Authentication,
    AuthenticationKind,
    Extension,
    Nai,
    RevocationSupport,
    UdpTunnelRequest,
    VendorExtension,
    ZeroOverheadRequest,
)
from gateway.mip_agents.codec.registration import RegistrationRequest, RequestFlag
from gateway.mip_agents.codec.ticket import ticket_in
from gateway.mip_agents.home_agent.bindings import Registrant
from gateway.mip_agents.home_agent.nat_traversal import Traversal
from gateway.mip_agents.policy import MobileNode, SecurityAssociation
from gateway.mip_agents.ticket import Ticket

_CO_LOCATED = int(RequestFlag.CO_LOCATED)


class Case:
    """A request while it is judged."""

    __slots__ = (
        "agent_association",
        "agent_revocation",
        "agent_udp",
        "agent_vendor",
        "association",
        "authenticators",
        "care_of",
        "direct",
        "flags",
        "foreign_home",
        "foreign_homes",
        "home_address",
        "key",
        "mobile_home",
        "nai",
        "node",
        "now",
        "opened",
        "path",
        "registrant",
        "request",
        "revocation",
        "source",
        "ticket",
        "traversal",
        "udp",
        "vendor",
        "wall_s",
        "zero_overhead",
    )

    def __init__(
        self, request: RegistrationRequest, path: Path, source: IPv4Address, now: float
    ) -> None:
        self.request = request
        self.path = path
        self.source = source
        self.now = now
        self.wall_s = 0.0
        self.flags = int(request.flags)
        self.care_of = int(request.care_of_address)
        self.direct = source == request.care_of_address
        """From the care-of address, or from home, without an agent or NAT in between."""
        self.node: MobileNode | None = None
        self.key: Hashable = None
        self.registrant: Registrant | None = None
        self.association: SecurityAssociation | None = None
        """Of the mobile node; set once its authenticator was found right."""
        self.agent_association: SecurityAssociation | None = None
        """Of the foreign agent; likewise."""
        self.home_address: IPv4Address | None = None
        self.traversal: Traversal | None = None
        self.authenticators = self.foreign_homes = 0
        self.mobile_home: Authentication | None = None
        self.foreign_home: Authentication | None = None
        self.nai: Nai | None = None
        self.udp: UdpTunnelRequest | None = None
        self.agent_udp: UdpTunnelRequest | None = None
        self.zero_overhead: ZeroOverheadRequest | None = None
        self.revocation: RevocationSupport | None = None
        self.agent_revocation: RevocationSupport | None = None
        self.vendor = self.agent_vendor = False
        self.ticket = b""
        """Of a login at the gateway; the mobile node vouches for having shown it."""
        self.opened: Ticket | None = None
        """What it says, once it was found to be good for this node."""
        self._read_extensions(request)

    def _read_extensions(self, request: RegistrationRequest) -> None:
        """Sort the extensions by who vouches for them.

        Before the mobile-home authenticator the mobile node speaks, behind it the foreign
        agent, and behind the foreign-home authenticator nobody.
        """
        for one in request.extensions:
            if isinstance(one, Authentication):
                self._note_authenticator(one)
            elif self.mobile_home is None:
                self._note_of_mobile_node(one)
            elif self.foreign_home is None:
                self._note_of_foreign_agent(one)

    def _note_authenticator(self, one: Authentication) -> None:
        if one.kind is AuthenticationKind.MOBILE_HOME:
            self.authenticators += 1
            self.mobile_home = self.mobile_home or one
        elif one.kind is AuthenticationKind.FOREIGN_HOME:
            self.foreign_homes += 1
            self.foreign_home = self.foreign_home or one

    def _note_of_mobile_node(self, one: Extension) -> None:
        if isinstance(one, Nai):
            self.nai = self.nai or one
        elif isinstance(one, UdpTunnelRequest):
            self.udp = one
        elif isinstance(one, ZeroOverheadRequest):
            self.zero_overhead = one
        elif isinstance(one, RevocationSupport):
            self.revocation = one
        elif isinstance(one, VendorExtension):
            self.vendor |= one.critical
            self.ticket = self.ticket or ticket_in(one)

    def _note_of_foreign_agent(self, one: Extension) -> None:
        if isinstance(one, UdpTunnelRequest):
            self.agent_udp = one
        elif isinstance(one, RevocationSupport):
            self.agent_revocation = one
        elif isinstance(one, VendorExtension):
            self.agent_vendor |= one.critical

    @property
    def deregisters(self) -> bool:
        """Lifetime 0."""
        return self.request.lifetime_s == 0

    @property
    def agent(self) -> IPv4Address | None:
        """The foreign agent that it came by way of, as far as can be told."""
        if not self.flags & _CO_LOCATED:
            return self.source
        if self.direct or (self.traversal is not None and self.traversal.udp_port):
            return None
        return self.source
