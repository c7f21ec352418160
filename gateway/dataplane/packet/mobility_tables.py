"""Bindings and visitors as the path of packets looks them up: by octets of the packet."""

from dataclasses import dataclass

from gateway.dataplane.packet.address_switch import AddressSwitch
from gateway.dataplane.packet.tunnel_ends import TunnelEnd, tunnel_end
from gateway.domain.mobility import MobilityBinding, Visitor


@dataclass(slots=True)
class ZeroOverhead:
    """Address switching for one binding (draft 001, appendix D)."""

    peer: bytes
    """The default destination."""
    to_peer: AddressSwitch
    """What comes from the care-of address."""
    to_node: AddressSwitch
    """What goes to the home address."""
    quoted: AddressSwitch
    """Back again in errors of routers on the way to the care-of address."""
    half_quoted: AddressSwitch
    """Back again in errors of our own kernel, when only the destination had been changed."""
    half_key: bytes


@dataclass(slots=True, eq=False)
class Home:
    """A binding."""

    binding: MobilityBinding
    agent: bytes
    address: bytes
    ends: tuple[TunnelEnd, ...]
    limit_octets: int
    directed_broadcast: bytes
    switch: ZeroOverhead | None


@dataclass(slots=True, eq=False)
class Guest:
    """A visitor. ``ends`` has one element."""

    visitor: Visitor
    agent: bytes
    address: bytes
    care_of: bytes
    ends: tuple[TunnelEnd, ...]
    limit_octets: int


class MobilityTables:
    """What is set. Setting and removing cost the same however many there are."""

    def __init__(self) -> None:
        self.homes: dict[bytes, Home] = {}
        """By home address."""
        self.inbound: dict[bytes, Home] = {}
        """By key of the tunnel and inner source."""
        self.switched: dict[bytes, Home] = {}
        """By care-of address and home agent, as in packets from the mobile node."""
        self.half_switched: dict[bytes, Home] = {}
        """By default destination and care-of address."""
        self.guests: dict[bytes, Guest] = {}
        """By home address."""
        self.deliveries: dict[bytes, Guest] = {}
        """By key of the tunnel and inner destination."""
        self.encapsulating: dict[bytes, Guest] = {}
        """By home address, care-of address and inner source, which is the home address again."""
        self.ends_in_use: dict[bytes, int] = {}
        """How many tunnels there are between two addresses."""

    def set_binding(self, binding: MobilityBinding) -> Home:
        """Replace what is there for the home address."""
        home = _home(binding)
        old = self.homes.get(home.address)
        if old is not None:
            self._forget_home(old)
        self.homes[home.address] = home
        for end in home.ends:
            self._use(end)
            # Keepalives of the mobile node are answered even if it does not send by the tunnel.
            if binding.reverse or end.tunnel.udp_port:
                self.inbound[end.key + home.address] = home
        if home.switch is not None:
            if binding.reverse:
                self.switched[home.ends[0].key] = home
            self.half_switched[home.switch.half_key] = home
        return home

    def remove_binding(self, agent: bytes, address: bytes) -> Home | None:
        """What was set, if it was."""
        home = self.homes.get(address)
        if home is None or home.agent != agent:
            return None
        self._forget_home(home)
        del self.homes[address]
        return home

    def _forget_home(self, home: Home) -> None:
        for end in home.ends:
            self._release(end)
            key = end.key + home.address
            if self.inbound.get(key) is home:
                del self.inbound[key]
        if home.switch is not None:
            if self.switched.get(home.ends[0].key) is home:
                del self.switched[home.ends[0].key]
            if self.half_switched.get(home.switch.half_key) is home:
                del self.half_switched[home.switch.half_key]

    def set_visitor(self, visitor: Visitor) -> None:
        """Replace what is there for this home address at this home agent."""
        before = self.guests.get(visitor.home_address.packed)
        if before is not None and before.visitor == visitor:
            return
        self.remove_visitor(visitor.home_agent.packed, visitor.home_address.packed)
        end = tunnel_end(visitor.tunnel)
        address, care_of = visitor.home_address.packed, visitor.tunnel.local.packed
        guest = Guest(
            visitor,
            visitor.home_agent.packed,
            address,
            care_of,
            (end,),
            visitor.max_packet_octets,
        )
        self._use(end)
        other = self.guests.get(address)
        if other is not None:
            self._forget_guest(other)
        self.guests[address] = guest
        self.deliveries[end.key + address] = guest
        if visitor.encapsulating:
            self.encapsulating[address + care_of + address] = guest

    def remove_visitor(self, agent: bytes, address: bytes) -> None:
        """Forget it; unknown ones are fine."""
        guest = self.guests.get(address)
        if guest is not None and guest.agent == agent:
            self._forget_guest(guest)
            del self.guests[address]

    def _forget_guest(self, guest: Guest) -> None:
        self._release(guest.ends[0])
        self.deliveries.pop(guest.ends[0].key + guest.address, None)
        self.encapsulating.pop(guest.address + guest.care_of + guest.address, None)

    def _use(self, end: TunnelEnd) -> None:
        self.ends_in_use[end.ends] = self.ends_in_use.get(end.ends, 0) + 1

    def _release(self, end: TunnelEnd) -> None:
        left = self.ends_in_use[end.ends] - 1
        if left:
            self.ends_in_use[end.ends] = left
        else:
            del self.ends_in_use[end.ends]


def _home(binding: MobilityBinding) -> Home:
    agent, address = binding.home_agent.packed, binding.home_address.packed
    ends = tuple(tunnel_end(tunnel) for tunnel in binding.tunnels)
    switch = None
    if binding.zero_overhead is not None and len(ends) == 1 and not binding.tunnels[0].udp_port:
        peer, care_of = binding.zero_overhead.packed, binding.tunnels[0].remote.packed
        switch = ZeroOverhead(
            peer,
            AddressSwitch(care_of + agent, address + peer),
            AddressSwitch(peer + address, agent + care_of),
            AddressSwitch(agent + care_of, peer + address),
            AddressSwitch(peer + care_of, peer + address),
            peer + care_of,
        )
    return Home(
        binding,
        agent,
        address,
        ends,
        binding.max_packet_octets,
        binding.home_network.network.broadcast_address.packed,
        switch,
    )
