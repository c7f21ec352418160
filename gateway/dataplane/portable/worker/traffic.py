"""Takes packets from sockets to the engines, and what these make of them to sockets."""

import contextlib
import os
import socket
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from gateway.dataplane.interface import DataplaneEvent
from gateway.dataplane.portable.esp.engine import EspEngine
from gateway.dataplane.portable.packets import Delivery
from gateway.dataplane.portable.tunnel_link import TunnelLink
from gateway.dataplane.portable.tunnels.engine import TunnelEngine
from gateway.dataplane.portable.wire import filters
from gateway.dataplane.portable.wire.esp_sockets import UDP, EspSockets
from gateway.dataplane.portable.wire.floods import UNKNOWN, Floods
from gateway.dataplane.portable.wire.inside import Inside
from gateway.dataplane.portable.wire.paths import KernelPaths
from gateway.dataplane.portable.wire.receive import Batches, RawReceiver
from gateway.dataplane.portable.wire.send import RawSender
from gateway.dataplane.portable.wire.veth import VethLink
from gateway.dataplane.portable.worker.handover import Handover
from gateway.dataplane.portable.worker.poller import Poller

SORT_S: Final = 1.0
"""Between two looks at which floods have ended, and which SAs have come."""
MAX_EVENTS: Final = 4096
"""Events that wait for a core; the oldest ones are forgotten first."""


@dataclass(frozen=True, slots=True)
class Place:
    """Which process of the forwarder this is."""

    worker: int
    workers: int
    interface: str
    """Whose packets are protected by ESP; empty: none."""

    @property
    def serves_tunnels(self) -> bool:
        """One process has all tunnel links: which link a packet is for depends on all of them."""
        return self.worker == self.workers - 1


class Traffic:
    """The packets of one process. Raises OSError from the constructor."""

    def __init__(
        self, place: Place, poller: Poller, inside: Inside | None, handover: Handover
    ) -> None:
        self.place = place
        self.events: deque[DataplaneEvent] = deque(maxlen=MAX_EVENTS)
        self.gone = False
        """Whether the interface was deleted."""
        now = time.monotonic()
        worker, workers = place.worker, place.workers
        self.esp = EspEngine(
            place.interface, worker, workers, os.urandom, now=now, paths=KernelPaths()
        )
        self.tunnels = TunnelEngine(now)
        self._poller = poller
        self._handover = handover
        self._receive = Batches()
        self._sender = RawSender(by_source=True, narrowed=self.esp.narrowed)
        self._tunnel_sender = RawSender(by_source=False)
        self._links: dict[str, Inside] = {}
        self._for_esp: EspSockets | None = None
        self._floods = Floods()
        self._sorted_at = now
        self._for_tunnels: dict[int, RawReceiver] = {}
        self._tunnel_ports: frozenset[int] = frozenset()
        self._deaf: dict[int, socket.socket] = {}
        self._counters: dict[str, int] = {}
        if inside is not None:
            self._open_inside(inside)

    def _open_inside(self, inside: Inside) -> None:
        self._links[inside.name] = inside
        self._poller.add(inside.fileno(), lambda: self._from_inside(inside))
        worker, workers = self.place.worker, self.place.workers
        self._for_esp = EspSockets(worker, workers, self._receive)
        for receiver in self._for_esp:
            self._poller.add(receiver.fileno(), self._from_wire(receiver, self.esp))
        if workers > 1:
            self._poller.add(self._handover.fileno(worker), self._handed_over)

    def listen(self, port: int) -> None:
        """Receive ESP in UDP at this port as well. Raises OSError."""
        if self._for_esp is not None:
            self._for_esp.listen(port)

    # -- packets ---------------------------------------------------------------------------------

    def _from_inside(self, link: Inside) -> None:
        try:
            packets = link.receive()
        except OSError:
            self._count("link_errors")
            if link.gone:
                self._drop_link(link)
            return
        now = time.monotonic()
        if link.name == self.place.interface:
            self.esp.advance(now)
            self.esp.leaving(link.name, packets)
            self._flush_esp()
        else:
            self.tunnels.advance(now)
            self.tunnels.leaving(link.name, packets)
            self._flush_tunnels()

    def _from_wire(
        self, receiver: RawReceiver, engine: EspEngine | TunnelEngine
    ) -> Callable[[], None]:
        flush = self._flush_esp if isinstance(engine, EspEngine) else self._flush_tunnels

        def read() -> None:
            try:
                packets = receiver.receive()
            except OSError:
                self._count("receive_errors")
                return
            engine.advance(time.monotonic())
            engine.arrived(packets)
            flush()

        return read

    def _handed_over(self) -> None:
        self.esp.advance(time.monotonic())
        self.esp.handed_over(self._handover.receive(self.place.worker))
        self._flush_esp()

    def patience(self, most_s: float) -> float:
        """Seconds until :meth:`settle` has something to do, at most so many."""
        due = self.esp.due
        return most_s if due is None else min(most_s, max(0.0, due - time.monotonic()))

    def settle(self) -> None:
        """Let go of what has waited for a move long enough, or for one that was carried out."""
        esp = self.esp
        if esp.due is not None:
            esp.advance(time.monotonic())
        if esp.delivers:
            self._flush_esp()

    def _sort(self) -> None:
        """Set aside whose packets are mostly garbage, and take back who has become calm."""
        esp, floods = self.esp, self._floods
        changed = floods.refused(esp.refused, esp.now)
        esp.refused.clear()
        if floods.aside and esp.now - self._sorted_at >= SORT_S:
            self._sorted_at = esp.now
            changed = True
            floods.settle(esp.now)
        if not changed or self._for_esp is None:
            return
        spis = tuple(sorted(floods.aside.keys() - {UNKNOWN}))
        known = tuple(sorted(esp.spis())) if UNKNOWN in floods.aside else None
        if known is not None and len(known) > filters.MAX_KNOWN:
            known = None
        try:
            try:
                self._for_esp.set_aside(spis, known)
            except OSError:
                # Older kernels allow a socket a few hundred SPIs (net.core.optmem_max).
                self._for_esp.set_aside(spis, None)
        except OSError:
            self._count("sort_errors")

    def _flush_esp(self) -> None:
        esp = self.esp
        if esp.refused or self._floods.aside:
            self._sort()
        if esp.sends:
            self._sender.send(esp.sends)
            esp.sends.clear()
        if esp.delivers:
            self._deliver(esp.delivers)
            esp.delivers.clear()
        if esp.handovers:
            self._handover.send(esp.handovers)
            esp.handovers.clear()
        if esp.events:
            self.events.extend(esp.events)
            esp.events.clear()

    def _flush_tunnels(self) -> None:
        tunnels = self.tunnels
        if tunnels.sends:
            self._tunnel_sender.send(tunnels.sends)
            tunnels.sends.clear()
        if tunnels.sends_below:
            self._tunnel_sender.send_below(tunnels.sends_below)
            tunnels.sends_below.clear()
        if tunnels.delivers:
            self._deliver(tunnels.delivers)
            tunnels.delivers.clear()

    def _deliver(self, delivers: list[Delivery]) -> None:
        for name in {one[0] for one in delivers}:
            link = self._links.get(name)
            if link is None:
                self._count("link_gone")
                continue
            link.send([(packet, mark) for to, packet, mark in delivers if to == name])

    # -- tunnel links ----------------------------------------------------------------------------

    def set_tunnel(self, link: TunnelLink) -> str | None:
        """Serve a link, or serve it in another way; why not, or None."""
        opened = self._links.get(link.name)
        if opened is not None and opened.gone:
            self._drop_link(opened)
            opened = None
        if opened is None:
            try:
                opened = VethLink(link.name, self._receive.plain)
            except OSError as error:
                return f"{link.name}: {error}"
            self._links[link.name] = opened
            self._poller.add(opened.fileno(), lambda: self._from_inside(opened))
        reason = self.tunnels.set_tunnel(link)
        if reason is not None:
            self._drop_link(opened)
            return reason
        try:
            self._listen_for_tunnels()
        except OSError as error:
            self.remove_tunnel(link.name)
            return f"{link.name}: {error}"
        return None

    def remove_tunnel(self, name: str) -> None:
        """Serve it no more."""
        link = self._links.get(name)
        if link is not None and name != self.place.interface:
            self._drop_link(link)
        with contextlib.suppress(OSError):
            self._listen_for_tunnels()

    def _drop_link(self, link: Inside) -> None:
        self._poller.remove(link.fileno())
        link.close()
        del self._links[link.name]
        self._count("link_unsent", link.unsent)
        if link.name == self.place.interface:
            self.gone = True
        else:
            self.tunnels.remove_tunnel(link.name)

    def _listen_for_tunnels(self) -> None:
        protocols, ports = self.tunnels.wanted()
        wanted = protocols | ({UDP} if ports else frozenset[int]())
        for protocol in set(self._for_tunnels) - wanted:
            receiver = self._for_tunnels.pop(protocol)
            self._poller.remove(receiver.fileno())
            receiver.close()
        for protocol in wanted:
            program = filters.udp(4, sorted(ports)) if protocol == UDP else filters.EVERYTHING
            there = self._for_tunnels.get(protocol)
            if there is None:
                there = RawReceiver(4, protocol, program, self._receive)
                self._for_tunnels[protocol] = there
                self._poller.add(there.fileno(), self._from_wire(there, self.tunnels))
            elif protocol == UDP:
                there.change(program)
        self._be_deaf_at(ports)

    def _be_deaf_at(self, ports: frozenset[int]) -> None:
        """Sockets that read nothing, or the kernel would answer "port unreachable"."""
        for port in set(self._deaf) - ports:
            self._deaf.pop(port).close()
        for port in ports - set(self._deaf):
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            try:
                filters.attach(sock, filters.NOTHING)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.bind(("", port))
            except OSError:
                # Somebody else has the port, and hears what there is.
                sock.close()
            else:
                self._deaf[port] = sock

    # -- what is known of it ---------------------------------------------------------------------

    def _count(self, what: str, packets: int = 1) -> None:
        if packets:
            self._counters[what] = self._counters.get(what, 0) + packets

    def counters(self) -> dict[str, int]:
        """Packets by what became of them."""
        total = dict(self._counters)
        unsent = sum(link.unsent for link in self._links.values())
        lost = self._handover.lost
        own = {"link_unsent": unsent, "handover_full": lost, "faults": self._poller.faults}
        senders = self._sender.counters, self._tunnel_sender.counters
        for counters in (self.esp.counters, self.tunnels.counters, *senders, own):
            for what, packets in counters.items():
                if packets:
                    total[what] = total.get(what, 0) + packets
        return total

    def stop(self) -> None:
        """Carry no more packets."""
        handed = [self._handover.fileno(self.place.worker)] if self.place.workers > 1 else []
        receivers = (*self._for_tunnels.values(), *(self._for_esp or ()))
        for source in (*self._links.values(), *receivers):
            self._poller.remove(source.fileno())
        for fd in handed:
            self._poller.remove(fd)

    def close(self) -> None:
        """Close the sockets."""
        for link in self._links.values():
            link.close()
        for receiver in (*self._for_tunnels.values(), *(self._for_esp or ())):
            receiver.close()
        for sock in self._deaf.values():
            sock.close()
        self._sender.close()
        self._tunnel_sender.close()
