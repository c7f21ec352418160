"""What a NAR server asks of a dataplane (draft 004, sections 2.5 and 2.6)."""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Protocol

from gateway.domain.nar import L2tpSession, NarMapping, NarProtocol, NarTuple


@dataclass(frozen=True, slots=True)
class NarServerSettings:
    """One NAR server of this box."""

    name: str
    tunnel_address: IPv4Address
    """Na: the end of the tunnels with the clients."""
    addresses: tuple[IPv4Address, ...]
    """Nb, and more of them: our own, or a pool that is routed to us."""
    client_interfaces: tuple[str, ...]
    """Where clients are; packets with a leased source or tunnels from elsewhere are no client's."""
    outside_interfaces: tuple[str, ...]
    """Where packets for ``addresses`` come from."""
    ports: tuple[range, ...] = ()
    """Ports that are leased: the box's own ephemeral ports and NAPT keep away from them."""
    icmp_ids: range = range(0)
    masquerade: tuple[IPv4Network, ...] = ()
    """Clients' networks whose other traffic leaves by ordinary NAPT, with the remaining ports."""
    forbidden: tuple[IPv4Network, ...] = ()
    """Where no client sends to with a leased source, besides loopback, link-local and the like."""


@dataclass(frozen=True, slots=True)
class NarSettings:
    """What is constant while the gateway runs, or changes by reload."""

    servers: tuple[NarServerSettings, ...] = ()
    offload: bool = True
    """False: every packet of a mapping passes through user space."""
    queue_number: int = 4759
    queue_length: int = 4096
    mtu: int = 1480
    """Of the tunnels between server and client, over a path of 1500 octets."""
    dead_after_s: float = 120.0
    """Mappings work this long without a living process: restarts drop nobody, and a gateway that
    is gone for good leaves no open door."""
    forwarding: bool = True


@dataclass(frozen=True, slots=True)
class NarRefusal:
    """The dataplane could not do what was asked for this tuple."""

    tuple: NarTuple
    reason: str


class NarDataplane(Protocol):
    """Verbs queue work; :meth:`commit` does it in one batch. All calls return quickly.

    Setting what is set replaces it without a gap. Removing what is not there is fine. The cost of
    a verb does not grow with the number of mappings.
    """

    def set_mapping(self, mapping: NarMapping) -> None:
        """Deliver what matches its tuple to its client, and let the client send the reverse."""

    def remove_mapping(self, key: NarTuple) -> None:
        """What matched goes to the box itself again, and nothing of the client's goes out."""

    def set_l2tp(self, server: str, session: L2tpSession) -> None:
        """Open the client's session. Before the first mapping that is delivered by L2TP."""

    def remove_l2tp(self, client: IPv4Address) -> None:
        """Close it."""

    def occupied(self, protocol: NarProtocol, address: IPv4Address, value: int) -> bool:
        """Whether the box itself uses this port (a socket) or SPI (an SA in the kernel) now."""

    def hold_port(self, protocol: NarProtocol, address: IPv4Address, port: int) -> bool:
        """Keep a port outside the leased ranges from the box's own sockets; False: it is taken."""

    def free_port(self, protocol: NarProtocol, address: IPv4Address, port: int) -> None:
        """Reverse of :meth:`hold_port`."""

    def adopt(self) -> set[NarTuple]:
        """What the kernel has of an earlier process.

        Once, at start, after :meth:`set_mapping` for everything that is remembered and before the
        first :meth:`commit`. The commit removes what nobody set, and leaves what is the same in
        place, without a gap.
        """

    def reconfigure(self, settings: NarSettings) -> None:
        """Use other addresses, interfaces, ports; the queue needs a new start. Raises OSError."""

    def alive(self) -> None:
        """Say that the process lives: at start, then at least every third of ``dead_after_s``."""

    def commit(self) -> list[NarRefusal]:
        """Apply everything queued since the last commit; report what was refused."""

    def counters(self) -> dict[str, int]:
        """Packets by what became of them."""

    def close(self, *, keep: bool) -> None:
        """Let go. With ``keep``, mappings go on for ``dead_after_s``, for the next process."""
