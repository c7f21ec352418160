"""The visitor list: who is registered by way of us, where and for how long (RFC 5944, 3.7.1)."""

from dataclasses import dataclass, field
from ipaddress import IPv4Address

from gateway.domain.endpoint import Endpoint
from gateway.domain.mobility import Tunnel, Visitor
from gateway.domain.nar import TUNNEL_PROTOCOLS, Delivery, NarMapping, NarTuple
from gateway.mip_agents.outputs import Link
from gateway.mip_agents.policy import SecurityAssociation

VisitorKey = tuple[IPv4Address, IPv4Address]
"""Home agent, home address."""


@dataclass(slots=True)
class VisitorEntry:
    """One registration of one mobile node."""

    home_agent: IPv4Address
    home_address: IPv4Address
    care_of_address: IPv4Address
    nai: str
    party: bytes
    link: Link
    remote: Endpoint
    """Where it registered from."""
    tunnel: Tunnel
    """Of no use with a co-located care-of address."""
    reverse: bool
    encapsulating: bool
    co_located: bool
    """It only registers by way of us; its packets go past us, or see ``nar_server``."""
    lifetime_s: int
    """Granted, or asked for when that is less."""
    granted_at: float
    """Of the wall clock."""
    code: int
    association: SecurityAssociation | None = field(default=None, repr=False)
    max_packet_octets: int = 1400
    through_vpn: bool = False
    peer: str = ""
    """Whose VPN tunnel it registered through."""
    revocable: bool = False
    """The home agent and we have agreed on revocations."""
    inform: bool = False
    """Both know the I bit: the mobile node is told when the home agent wants it told."""
    peer_timestamp: int = 0
    """The home agent's clock when it accepted; older revocations mean an older registration."""
    keepalive_s: int = 0
    """Only with a tunnel in UDP."""
    registrations: int = 1
    installed: bool = False
    """The dataplane knows it."""
    nar_server: str = ""
    """Not empty: it is co-located at our care-of address, and this NAR server delivers."""

    @property
    def key(self) -> VisitorKey:
        """What makes a registration another one."""
        return (self.home_agent, self.home_address)

    @property
    def reached_at(self) -> IPv4Address:
        """The address that it listens at on its link."""
        own = self.remote.address
        return own if self.nar_server and isinstance(own, IPv4Address) else self.home_address

    @property
    def nar_tuple(self) -> NarTuple | None:
        """What its tunnelled packets have in common; None for tunnels that NAR does not know."""
        protocol = TUNNEL_PROTOCOLS.get(self.tunnel.encapsulation)
        if protocol is None or self.tunnel.udp_port:
            return None
        value = int(self.home_address)
        return NarTuple(protocol, self.tunnel.local, value, self.home_agent)

    def delivered(self) -> Visitor | NarMapping:
        """What a dataplane has to do for it: that of Mobile IP, or that of NAR."""
        key, client = self.nar_tuple, self.remote.address
        if self.nar_server and key is not None and isinstance(client, IPv4Address):
            delivery = Delivery.TRANSLATED
            return NarMapping(self.nar_server, key, client, delivery, peer=self.home_agent)
        return self.visitor()

    def visitor(self) -> Visitor:
        """What the dataplane of Mobile IP has to do for it."""
        return Visitor(
            self.home_address,
            self.home_agent,
            self.tunnel,
            self.link.interface,
            self.link.address,
            self.reverse,
            self.encapsulating,
            self.max_packet_octets,
            self.through_vpn,
        )


class VisitorList:
    """Visitors by home agent and home address; every operation costs O(1)."""

    __slots__ = ("_by_home_address", "_by_key")

    def __init__(self) -> None:
        self._by_key: dict[VisitorKey, VisitorEntry] = {}
        self._by_home_address: dict[IPv4Address, dict[VisitorKey, VisitorEntry]] = {}

    def __len__(self) -> int:
        return len(self._by_key)

    def get(self, home_agent: IPv4Address, home_address: IPv4Address) -> VisitorEntry | None:
        """The registration of this home address with this home agent."""
        return self._by_key.get((home_agent, home_address))

    def all(self) -> list[VisitorEntry]:
        """All of them."""
        return list(self._by_key.values())

    def of(self, home_address: IPv4Address) -> list[VisitorEntry]:
        """All registrations of a home address: one with each of its home agents."""
        return list(self._by_home_address.get(home_address, {}).values())

    def put(self, entry: VisitorEntry) -> None:
        """Enter it, in place of the one with the same key."""
        key = entry.key
        self._by_key[key] = entry
        self._by_home_address.setdefault(entry.home_address, {})[key] = entry

    def remove(self, entry: VisitorEntry) -> None:
        """Forget it; not knowing it is fine."""
        if self._by_key.pop(entry.key, None) is None:
            return
        entries = self._by_home_address[entry.home_address]
        del entries[entry.key]
        if not entries:
            del self._by_home_address[entry.home_address]
