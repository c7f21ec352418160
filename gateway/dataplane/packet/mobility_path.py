"""The path of packets through the mobility agents, in pure Python: octets in, verdicts out.

What a home agent and a foreign agent do to packets: tunnels in and out (RFC 2003, 2004, 2784,
3519, 3024), address switching (draft 001, appendix D), fragmenting before encapsulation (draft
002, section 4.2.4), errors of the path (RFC 2003 section 4), broadcasts and multicasts (RFC 5944
sections 4.3 and 4.4). A router stands before and behind it: the kernel, or another.
"""

from collections import Counter
from collections.abc import Collection, Iterable
from typing import Final

from gateway.dataplane.mobility import MobilitySettings
from gateway.dataplane.packet import fragments, icmp, igmp, ip_ip, ipv4, marks, udp_tunnel
from gateway.dataplane.packet.demultiplex import TUNNELS, TunnelPacket, open_tunnel
from gateway.dataplane.packet.fragments import FragmentationNeededError
from gateway.dataplane.packet.home_links import GroupChange, HomeLinks
from gateway.dataplane.packet.ipv4 import OuterHeader
from gateway.dataplane.packet.mobility_tables import Guest, Home, MobilityTables
from gateway.dataplane.packet.outbound import Outbound, Send
from gateway.dataplane.packet.reassembly import Reassembly
from gateway.dataplane.packet.tunnel_errors import TunnelErrors
from gateway.domain.mobility import HomeNetwork, MobilityBinding, Visitor
from gateway.domain.token_bucket import TokenBucket
from gateway.domain.wire import WireError

DROP: Final = 0
ACCEPT: Final = 1
Outcome = tuple[int, bytes | None, int]
"""Verdict; the packet's new octets or None to leave it; its new mark or 0 to leave it."""
DROPPED: Final[Outcome] = (DROP, None, 0)
UNCHANGED: Final[Outcome] = (ACCEPT, None, 0)
COPIES_PER_S: Final = 5000.0
"""Of broadcasts and multicasts, for all mobile nodes together."""
_UDP: Final = 17
_NOBODY: Final = frozenset((0, 127, *range(224, 256)))
"""First octets of addresses that no packet comes from."""


class MobilityPath:
    """Bindings, visitors, and what becomes of packets.

    ``identification`` is where to start; ``tunnel_ports`` are UDP ports of the host that are ends
    of tunnels themselves, and closed to what comes out of one.
    """

    def __init__(
        self,
        settings: MobilitySettings,
        identification: int = 0,
        tunnel_ports: Collection[int] = (),
    ) -> None:
        self._tunnel_ports = frozenset(tunnel_ports)
        self._tables = MobilityTables()
        self._links = HomeLinks()
        self._errors = TunnelErrors(self._tables)
        self._pieces = Reassembly()
        self._now = 0.0
        self._copies = TokenBucket(COPIES_PER_S, COPIES_PER_S)
        self.counters: Counter[str] = Counter()
        """Packets by what became of them."""
        self._out = Outbound(self._errors, self.counters, identification)
        self.sends: list[Send] = self._out.sends
        """To be sent, in order; the caller empties the list."""
        self.reconfigure(settings, {})

    def reconfigure(self, settings: MobilitySettings, devices: dict[str, int]) -> None:
        """Use other networks and addresses; ``devices`` are interface indexes by name."""
        self._local = {
            address.packed for address in (*settings.home_agents, *settings.care_of_addresses)
        }
        self._devices = devices
        self._outside = {devices.get(name, 0) for name in settings.outside_interfaces} - {0}
        networks: Iterable[tuple[HomeNetwork, int]] = (
            (one, devices.get(one.interface or "", 0)) for one in settings.home_networks
        )
        self._links.configure(networks)
        for home in self._tables.homes.values():
            self._links.set_home(home)

    @property
    def group_changes(self) -> list[GroupChange]:
        """Multicast groups to join and leave; the caller empties the list."""
        return self._links.changes

    def set_binding(self, binding: MobilityBinding) -> None:
        """Tunnel for it, replacing what was set for its home address."""
        before = self._tables.homes.get(binding.home_address.packed)
        if before is not None:
            if before.binding == binding:
                return
            if before.binding.home_network != binding.home_network:
                self._links.remove_home(before)
        self._links.set_home(self._tables.set_binding(binding))

    def remove_binding(self, agent: bytes, address: bytes) -> None:
        """Forget it; unknown ones are fine."""
        home = self._tables.remove_binding(agent, address)
        if home is not None:
            self._links.remove_home(home)

    def set_visitor(self, visitor: Visitor) -> None:
        """Deliver to it and tunnel for it, replacing what was set."""
        self._tables.set_visitor(visitor)

    def remove_visitor(self, agent: bytes, address: bytes) -> None:
        """Forget it; unknown ones are fine."""
        self._tables.remove_visitor(agent, address)

    def advance(self, now: float) -> None:
        """Tell the time, in seconds, once for each batch of packets."""
        self._now = self._out.now = now

    def arrived(self, octets: bytes, mark: int, device: int) -> Outcome:
        """Decide about a packet that came from the wire ``device``, before it is routed.

        The kernel or another router has checked its IPv4 header. Raises nothing.
        """
        try:
            if octets[16:20] in self._local:
                return self._for_us(octets, device)
            return self._on_link(octets, mark, device)
        except (WireError, IndexError):
            self.counters["malformed"] += 1
            return DROPPED

    def leaving(self, octets: bytes, mark: int, *, tunnelled: bool = True) -> Outcome:
        """Decide about a packet that was routed into a tunnel.

        With ``tunnelled=False`` it is a packet of our own host on its way to anywhere: only
        quotes of switched packets are put right. Raises nothing.
        """
        try:
            if mark == marks.REVERSE or mark >> 8 == marks.REVERSE_RANGE >> 8:
                return self._from_guest(octets)
            return self._for_home(octets, mark, tunnelled=tunnelled)
        except (WireError, IndexError):
            self.counters["malformed"] += 1
            return DROPPED

    # What arrives for one of our addresses.

    def _for_us(self, octets: bytes, device: int) -> Outcome:
        protocol = octets[9]
        if (octets[6] << 8 | octets[7]) & 0x3FFF and (protocol in TUNNELS or protocol == _UDP):
            return self._fragment(octets, device)
        if protocol == ip_ip.PROTOCOL and octets[0] == 0x45 and len(octets) >= 40:
            home = self._tables.inbound.get(octets[12:20] + octets[32:36])
            if home is not None and home.binding.reverse and _is_plain(octets):
                return self._from_home(home, octets[1], octets[20:], device)
        if protocol in TUNNELS or protocol == _UDP:
            found = open_tunnel(octets)
            if found is not None:
                return self._from_tunnel(found, octets[1], device)
        elif protocol == icmp.PROTOCOL and icmp.is_error(octets):
            outcome = self._path_error(octets, device)
            if outcome is not None:
                return outcome
        home = self._tables.switched.get(octets[12:20])
        if home is not None and home.switch is not None:
            switched = home.switch.to_peer.apply(octets)
            if switched is not None:
                self.counters["switched_to_peer"] += 1
                return ACCEPT, switched, self._home_mark(device)
        return UNCHANGED

    def _fragment(self, octets: bytes, device: int) -> Outcome:
        """A piece of what may be a tunnel packet; from strangers it is the kernel's to keep."""
        if octets[16:20] + octets[12:16] not in self._tables.ends_in_use:
            return UNCHANGED
        whole = self._pieces.add(octets, self._now)
        if whole is None:
            return self._drop("fragment_kept")
        self.counters["reassembled"] += 1
        outcome = self._for_us(whole, device)
        return (ACCEPT, whole, 0) if outcome is UNCHANGED else outcome

    def _from_tunnel(self, found: TunnelPacket, outer_tos: int, device: int) -> Outcome:
        """The one check that lets a packet out of a tunnel: outer addresses with an inner one."""
        port, inner = found.port, found.inner
        key = found.ends + port.to_bytes(2, "big") if port else found.ends
        tables = self._tables
        home = tables.inbound.get(key + inner[12:16])
        if home is not None:
            if port and not _agreed(home, key, found.encapsulation):
                return self._drop("tunnel_of_another_kind")
            if not home.binding.reverse and inner[16:20] != home.agent:
                return self._drop("tunnel_not_reverse")
            return self._from_home(home, outer_tos, inner, device)
        guest = tables.deliveries.get(key + inner[16:20])
        if guest is not None:
            if port and not _agreed(guest, key, found.encapsulation):
                return self._drop("tunnel_of_another_kind")
            return self._decapsulated(outer_tos, inner, marks.DELIVER, "decapsulated_for_visitor")
        guest = None if port else tables.encapsulating.get(found.ends + inner[12:16])
        if guest is None or device != self._devices.get(guest.visitor.interface, 0):
            return self._drop("tunnel_unknown")
        if inner[16] >= 224:
            self._out.tunnel(guest, inner, 0, quiet=True)
            return DROPPED
        return self._decapsulated(outer_tos, inner, marks.REVERSE, "decapsulated_from_visitor")

    def _from_home(self, home: Home, outer_tos: int, inner: bytes, device: int) -> Outcome:
        if self._links.is_for_network(home, inner[16:20]):
            return self._to_many(home, inner)
        return self._decapsulated(outer_tos, inner, self._home_mark(device), "decapsulated")

    def _home_mark(self, device: int) -> int:
        return marks.HOME_OUTSIDE if device in self._outside else marks.HOME

    def _decapsulated(self, outer_tos: int, inner: bytes, mark: int, counter: str) -> Outcome:
        if inner[8] == 0:
            return self._drop("ttl_zero")
        if inner[12] in _NOBODY or inner[16] in _NOBODY:
            return self._drop("inner_address")
        if inner[16:20] in self._local and self._is_tunnel(inner):
            # The kernel would open it with the mark of the one around it, and not look twice.
            return self._drop("tunnel_in_tunnel")
        if outer_tos & 3 == 3:
            marked = ipv4.congestion_marked(inner)
            if marked is None:
                return self._drop("congestion")
            inner = marked
        self.counters[counter] += 1
        return ACCEPT, inner, mark

    def _is_tunnel(self, inner: bytes) -> bool:
        """Whether a tunnel of ours would open the packet: recursion is refused."""
        if inner[9] in TUNNELS:
            return True
        at = (inner[0] & 15) * 4
        if inner[9] != _UDP or (inner[6] << 8 | inner[7]) & 0x1FFF or len(inner) < at + 8:
            return False
        return (inner[at + 2] << 8 | inner[at + 3]) in self._tunnel_ports or (
            udp_tunnel.is_tunnel_data(inner, at)
        )

    def _drop(self, counter: str) -> Outcome:
        self.counters[counter] += 1
        return DROPPED

    # What is for many.

    def _to_many(self, home: Home, inner: bytes) -> Outcome:
        """A broadcast or multicast of a mobile node: its home link and the others away get it."""
        if inner[8] == 0:
            return self._drop("ttl_zero")
        if inner[9] == igmp.PROTOCOL:
            self._links.learn(home, inner)
            return self._drop("group_report")
        device = self._links.device_of(home)
        if device:
            self.counters["sent_on_home_link"] += 1
            self.sends.append(Send(inner, marks.SENT + 1, device))
        self._copy(inner, self._links.from_node(home, inner[16:20]))
        return DROPPED

    def _on_link(self, octets: bytes, mark: int, device: int) -> Outcome:
        """A broadcast or multicast on a home link also goes to those who are away."""
        if marks.SENT <= mark <= marks.SENT + marks.MAX_NESTING:
            return UNCHANGED
        for homes in self._links.from_link(device, octets[16:20]):
            self._copy(octets, homes)
        return UNCHANGED

    def _copy(self, octets: bytes, homes: Collection[Home]) -> None:
        for home in homes:
            if octets[12:16] == home.address:
                continue
            if not self._copies.take(self._now):
                self.counters["copies_refused"] += 1
                return
            self.counters["copied"] += 1
            if home.binding.co_located:
                self._out.tunnel(home, octets, 0, quiet=True)
                continue
            # A foreign agent takes off one header and delivers by the other (RFC 5944 4.3).
            outer = OuterHeader(home.agent, home.address, ip_ip.PROTOCOL)
            room = home.limit_octets - ip_ip.OVERHEAD_OCTETS
            try:
                pieces = fragments.fragment(octets, room)
            except FragmentationNeededError:
                self.counters["too_long"] += 1
                continue
            for piece in pieces:
                twice = ip_ip.encapsulate(outer, piece, self._out.next_identification())
                self._out.tunnel(home, twice, 0, quiet=True)

    # What goes into a tunnel.

    def _from_guest(self, octets: bytes) -> Outcome:
        guest = self._tables.guests.get(octets[12:16])
        if guest is None:
            return self._drop("no_visitor")
        self._out.tunnel(guest, octets, 0)
        return DROPPED

    def _for_home(self, octets: bytes, mark: int, *, tunnelled: bool) -> Outcome:
        outcome = UNCHANGED
        if octets[9] == icmp.PROTOCOL and self._tables.half_switched and icmp.is_error(octets):
            octets, outcome = self._own_error(octets)
        if not tunnelled:
            return outcome
        home = self._tables.homes.get(octets[16:20])
        if home is None:
            return outcome if icmp.is_error(octets) else self._drop("no_binding")
        nesting = mark - marks.SENT if marks.SENT < mark <= marks.SENT + marks.MAX_NESTING else 0
        if nesting == marks.MAX_NESTING:
            return self._drop("nested_too_deep")
        switch = home.switch
        if switch is not None and octets[12:16] == switch.peer and octets[9] not in TUNNELS:
            whole = len(octets) <= home.limit_octets
            switched = switch.to_node.apply(octets) if whole else None
            if switched is not None:
                self.counters["switched_to_node"] += 1
                self.sends.append(Send(switched, marks.SENT + 1 + nesting))
                return DROPPED
        self._out.tunnel(home, octets, nesting)
        return DROPPED

    # Errors about what we have sent.

    def _path_error(self, octets: bytes, device: int = 0) -> Outcome | None:
        """An ICMP error to one of our addresses; None when it is about something else."""
        told = icmp.parse_error(octets)
        report = self._errors.about(told, self._now)
        if report is not None:
            self.counters["tunnel_errors"] += 1
            if report.owner is not None and report.inner is not None and report.type:
                self._out.tell(report.owner, report.inner, report.code, report.mtu)
            return DROPPED
        quoted = told.quote[12:20]
        home = self._tables.switched.get(quoted[4:8] + quoted[:4])
        if home is None or home.switch is None or told.quote[9] in TUNNELS:
            return None
        self.counters["errors_translated"] += 1
        switch = home.switch
        if octets[12:16] == quoted[4:8]:
            made = icmp.translated(octets, home.address, switch.peer, switch.quoted)
            return ACCEPT, made, self._home_mark(device)
        # From a router abroad: its address may be martian where the sender is, ours is not. As
        # RFC 2003 section 4 has it for errors about tunnel packets.
        made = icmp.translated(octets, home.agent, switch.peer, switch.quoted)
        self.sends.append(Send(made, marks.SENT + 1))
        return DROPPED

    def _own_error(self, octets: bytes) -> tuple[bytes, Outcome]:
        """Our host's error about a packet whose destination had been switched already."""
        told = icmp.parse_error(octets)
        home = self._tables.half_switched.get(told.quote[12:20])
        if home is None or home.switch is None:
            return octets, UNCHANGED
        self.counters["errors_translated"] += 1
        made = icmp.translated(octets, octets[12:16], octets[16:20], home.switch.half_quoted)
        return made, (ACCEPT, made, 0)

    def too_long(self, sent: Send, mtu: int) -> None:
        """A packet of :attr:`sends` does not fit the link that it is routed to: do better.

        It goes out in fragments, or if that is forbidden, its sender is told.
        """
        try:
            pieces = fragments.fragment(sent.octets, mtu)
        except FragmentationNeededError:
            told = icmp.error(
                sent.octets[12:16],
                sent.octets,
                icmp.DESTINATION_UNREACHABLE,
                icmp.FRAGMENTATION_NEEDED,
                mtu,
            )
            if told is not None:
                self._path_error(told)
            self.counters["too_long"] += 1
        except WireError:
            self.counters["too_long"] += 1
        else:
            if len(pieces) > 1:
                self.sends += [Send(piece, sent.mark, sent.device) for piece in pieces]


def _is_plain(octets: bytes) -> bool:
    """Whether an IP-in-IP packet is no fragment, and has a sound inner header without options."""
    return (
        not (octets[6] << 8 | octets[7]) & 0x3FFF
        and octets[20] == 0x45
        and octets[22] << 8 | octets[23] == len(octets) - 20
        and not int.from_bytes(octets[20:40], "big") % 0xFFFF
    )


def _agreed(owner: Home | Guest, key: bytes, encapsulation: int) -> bool:
    """Whether a UDP tunnel carries what was agreed on (RFC 3519 section 3.3).

    IP-in-IP always may: fragments have no other way.
    """
    return encapsulation == ip_ip.PROTOCOL or any(
        end.key == key and end.tunnel.encapsulation.protocol == encapsulation for end in owner.ends
    )
