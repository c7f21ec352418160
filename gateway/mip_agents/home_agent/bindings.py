"""The binding table: who is registered, at which care-of addresses, until when.

A :class:`Registrant` is a mobile node that has proved itself lately. It has bindings, or it is
remembered for a moment so that nothing it sent can be played again.
"""

from collections.abc import Hashable, Iterator
from ipaddress import IPv4Address

from gateway.domain.endpoint import Endpoint
from gateway.domain.mobility import HomeNetwork, MobilityBinding, Tunnel
from gateway.mip_agents.codec.extensions import AuthenticationKind
from gateway.mip_agents.codec.registration import RequestFlag
from gateway.mip_agents.policy import HomeAgentPolicy, MobileNode, SecurityAssociation
from gateway.mip_agents.replay import Identification
from gateway.mip_agents.ticket import Ticket

NEVER = float("inf")
_CO_LOCATED = int(RequestFlag.CO_LOCATED)
_REVERSE = int(RequestFlag.REVERSE)
_BROADCASTS = int(RequestFlag.BROADCASTS)


def dotted(address: int) -> str:
    """The text of an IPv4 address; four times as fast as ``str``, which counts here."""
    return f"{address >> 24}.{address >> 16 & 255}.{address >> 8 & 255}.{address & 255}"


class Revocable:
    """Who wants to be told when a binding ends before its time (RFC 3543)."""

    __slots__ = ("inform", "kind", "our_timestamp", "peer", "spi", "their_timestamp")

    def __init__(
        self,
        peer: Endpoint,
        kind: AuthenticationKind,
        spi: int,
        their_timestamp: int,
        our_timestamp: int,
        *,
        inform: bool,
    ) -> None:
        self.peer = peer
        self.kind = kind
        """FOREIGN_HOME with a foreign agent, MOBILE_HOME with a co-located mobile node."""
        self.spi = spi
        self.their_timestamp = their_timestamp
        self.our_timestamp = our_timestamp
        self.inform = inform
        """It understands whether to tell the mobile node."""


class CareOf:
    """One care-of address of a mobile node, and all that was agreed on for it."""

    __slots__ = (
        "address",
        "agent",
        "expires_at",
        "flags",
        "granted_at",
        "kept_expires_at",
        "lifetime_s",
        "nat",
        "revocable",
        "text",
        "tunnel",
        "zero_overhead",
    )

    def __init__(
        self,
        address: IPv4Address,
        flags: int,
        tunnel: Tunnel,
        zero_overhead: IPv4Address | None,
        agent: IPv4Address | None,
        *,
        nat: bool,
    ) -> None:
        self.address = address
        self.text = dotted(int(address))
        self.flags = flags
        """Of :class:`~gateway.mip_agents.codec.registration.RequestFlag`, as a plain number."""
        self.tunnel = tunnel
        self.zero_overhead = zero_overhead
        self.agent = agent
        """The foreign agent that relayed the request."""
        self.nat = nat
        self.lifetime_s = 0
        self.granted_at = 0.0
        self.expires_at = NEVER
        self.kept_expires_at = NEVER
        """As in the record that was written last."""
        self.revocable: Revocable | None = None


class Logins:
    """What must be remembered of a mobile node's logins at the gateway."""

    __slots__ = ("association", "expires_wall_s", "kept", "newest_us", "octets", "opened", "since")

    def __init__(self, newest_us: int, since: float, expires_wall_s: float) -> None:
        self.newest_us = newest_us
        """When the newest login was whose ticket was shown, by the gateway's clock."""
        self.since = since
        """When that ticket was shown first, by our wall clock."""
        self.expires_wall_s = expires_wall_s
        """Until then older tickets could still be shown."""
        self.kept = False
        """Whether the record that was written last knows all that."""
        self.octets = b""
        """The ticket that was shown last, and what it says: opened once, not each time."""
        self.opened: Ticket | None = None
        self.association: SecurityAssociation | None = None
        """The one of that ticket."""


class Registrant:
    """A mobile node that has proved itself lately."""

    __slots__ = (
        "accepted_wall_s",
        "care_ofs",
        "change_after",
        "home_address",
        "home_network",
        "home_text",
        "kept_skew_s",
        "key",
        "last_code",
        "leased",
        "logins",
        "mismatch_after",
        "node",
        "quiet_until",
        "record_key",
        "refused_until",
        "registrations",
        "replay",
    )

    def __init__(self, key: Hashable, node: MobileNode) -> None:
        self.key = key
        self.record_key = ""
        """The name of its record; empty while there is none."""
        self.node = node
        self.home_address: IPv4Address | None = None
        """None while it has no binding and no lease."""
        self.home_text = ""
        self.home_network: HomeNetwork | None = None
        self.leased = False
        self.care_ofs: tuple[CareOf, ...] = ()
        """The latest one last."""
        self.replay: dict[int, Identification] = {}
        """By SPI."""
        self.registrations = 0
        self.last_code = 0
        self.quiet_until = 0.0
        """Without bindings it is forgotten then."""
        self.refused_until = 0.0
        """The dataplane refused its binding: it need not be asked again before."""
        self.mismatch_after = 0.0
        """Meter of the replies with code 133."""
        self.accepted_wall_s = 0.0
        """When the last fresh request came, by the wall clock."""
        self.kept_skew_s = 0.0
        """How far the mobile node's clock was ahead of ours when the last record was written."""
        self.change_after = 0.0
        """Meter of the changes that it asks of the dataplane."""
        self.logins: Logins | None = None
        """Of a node whose keys come with tickets: what is known of those."""

    def find(self, address: int) -> tuple[CareOf | None, tuple[CareOf, ...]]:
        """The care-of address of this number, and the others."""
        bound = self.care_ofs
        if not bound:
            return None, ()
        if len(bound) == 1 and int(bound[0].address) == address:
            return bound[0], ()
        existing = next((one for one in bound if int(one.address) == address), None)
        return existing, tuple(one for one in bound if one is not existing)


def node_key(node: MobileNode) -> Hashable:
    """What a mobile node is known by here: its NAI, or its home address as a number."""
    return node.nai or int(node.home_address or 0)


class BindingTable:
    """Registrants by what they are known by, and those with a home address by that."""

    __slots__ = ("_switched", "by_home", "by_key")

    def __init__(self) -> None:
        self.by_key: dict[Hashable, Registrant] = {}
        self.by_home: dict[int, Registrant] = {}
        """Only those that have a binding."""
        self._switched: dict[int, Registrant] = {}
        """By care-of addresses with zero overhead."""

    def __iter__(self) -> Iterator[Registrant]:
        """Those that have a binding."""
        return iter(self.by_home.values())

    def __len__(self) -> int:
        """How many mobile nodes have bindings."""
        return len(self.by_home)

    def registrant(self, key: Hashable, node: MobileNode) -> Registrant:
        """The one of this key, a new one if need be."""
        found = self.by_key.get(key)
        if found is None:
            found = self.by_key[key] = Registrant(key, node)
        return found

    def bind(self, registrant: Registrant, home: IPv4Address, network: HomeNetwork) -> None:
        """It has this home address as long as it has a binding."""
        registrant.home_address = home
        registrant.home_text = dotted(int(home))
        registrant.home_network = network
        self.by_home[int(home)] = registrant

    def set_care_ofs(self, registrant: Registrant, care_ofs: tuple[CareOf, ...]) -> None:
        """It is at these care-of addresses now."""
        switched = self._switched
        for one in registrant.care_ofs:
            if switched.get(int(one.address)) is registrant:
                del switched[int(one.address)]
        registrant.care_ofs = care_ofs
        for one in care_ofs:
            if one.zero_overhead is not None:
                switched[int(one.address)] = registrant

    def may_switch(self, registrant: Registrant | None, care_of: int) -> bool:
        """Whether nobody else's packets are switched at a care-of address.

        They carry no other mark of whose they are. A node that lost its address to another one
        may still be bound to it.
        """
        holder = self._switched.get(care_of)
        return holder is None or holder is registrant

    def unbind(self, registrant: Registrant) -> None:
        """It has no binding any more."""
        self.set_care_ofs(registrant, ())
        if registrant.home_address is not None:
            self.by_home.pop(int(registrant.home_address), None)
        registrant.home_address = None
        registrant.home_network = None

    def forget(self, registrant: Registrant) -> None:
        """Nothing it ever sent could still be taken for new."""
        self.by_key.pop(registrant.key, None)


def dataplane_binding(registrant: Registrant, policy: HomeAgentPolicy) -> MobilityBinding:
    """What the dataplane has to do for a registrant with bindings."""
    home, network, care_ofs = registrant.home_address, registrant.home_network, registrant.care_ofs
    if home is None or network is None or not care_ofs:
        raise ValueError(f"{registrant.node.name} has no binding")
    every = ever = care_ofs[0].flags
    for one in care_ofs[1:]:
        every &= one.flags
        ever |= one.flags
    return MobilityBinding(
        policy.address,
        home,
        network,
        tuple([one.tunnel for one in care_ofs]),
        every & _CO_LOCATED != 0,
        ever & _REVERSE != 0,
        policy.broadcasts and ever & _BROADCASTS != 0,
        registrant.node.max_packet_octets or policy.max_packet_octets,
        care_ofs[0].zero_overhead if len(care_ofs) == 1 else None,
    )
