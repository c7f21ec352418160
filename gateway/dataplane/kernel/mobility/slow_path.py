"""The slow path of the mobility dataplane: what the kernel does not do by itself.

The ruleset decides what is queued. In prerouting that may be: tunnel packets to our home agent
and care-of addresses (protocols 4, 47, 55, and UDP port 434 of type 4), packets from the care-of
address of a zero-overhead binding, ICMP errors to our addresses, and broadcasts and multicasts
that arrive on the link of a home network. They are accepted with their inner packet as payload
and the mark :data:`~gateway.dataplane.packet.marks.HOME`, ``DELIVER`` or ``REVERSE``, accepted
unchanged when they are not ours, or dropped.

In postrouting that may be: whatever is routed to a transmitting device (with the mark
``REVERSE`` for the tunnel of the visitor that is its source, else for the binding of its
destination), and ICMP errors of ours that quote a switched address. The former are dropped, and
their encapsulated copies sent by a raw socket with the mark ``SENT``.
"""

import os
import time
from collections import Counter
from collections.abc import Callable
from ipaddress import IPv4Address
from typing import Final

from gateway.dataplane.kernel.mobility import constants
from gateway.dataplane.kernel.mobility.group_memberships import GroupMemberships
from gateway.dataplane.kernel.mobility.means import PacketQueue
from gateway.dataplane.kernel.mobility.raw_sender import PacketTooLongError, RawSender
from gateway.dataplane.kernel.nfqueue import LOCAL_OUT, PREROUTING, Conclusion
from gateway.dataplane.mobility import MobilitySettings
from gateway.dataplane.packet import marks
from gateway.dataplane.packet.mobility_path import MobilityPath
from gateway.dataplane.packet.outbound import Send
from gateway.domain.mobility import MobilityBinding, Visitor

PACKETS_PER_TURN: Final = 64
"""Packets decided about before other work of the process gets its turn."""
_SENT_MARKS: Final = range(marks.SENT + 1, marks.SENT + marks.MAX_NESTING + 1)


class SlowPath:
    """Owns the ``queue`` from now on. Raises OSError when it gets no raw socket."""

    def __init__(
        self,
        queue: PacketQueue,
        settings: MobilitySettings,
        *,
        clock: Callable[[], float] = time.monotonic,
        identification: int | None = None,
    ) -> None:
        """``identification`` is where IP identifications start; anywhere unless told."""
        self._queue = queue
        self._clock = clock
        self._sender = RawSender(_SENT_MARKS)
        self._groups = GroupMemberships()
        if identification is None:
            identification = int.from_bytes(os.urandom(2), "big")
        self._path = MobilityPath(settings, identification, (constants.FOU_PORT,))
        self.counters: Counter[str] = self._path.counters
        """Packets by what became of them."""
        self._devices: dict[str, int] = {}
        self.reconfigure(settings)

    def fileno(self) -> int:
        """For selectors: readable when packets wait."""
        return self._queue.fileno()

    def set_binding(self, binding: MobilityBinding) -> None:
        """Tunnel for it, replacing what was set for its home address. Costs O(1)."""
        self._know(binding.home_network.interface)
        self._path.set_binding(binding)
        self._apply_groups()

    def remove_binding(self, home_agent: IPv4Address, home_address: IPv4Address) -> None:
        """Forget it; unknown ones are fine."""
        self._path.remove_binding(home_agent.packed, home_address.packed)
        self._apply_groups()

    def set_visitor(self, visitor: Visitor) -> None:
        """Deliver to it and tunnel for it, replacing what was set. Costs O(1)."""
        self._know(visitor.interface)
        self._path.set_visitor(visitor)

    def remove_visitor(self, home_agent: IPv4Address, home_address: IPv4Address) -> None:
        """Forget it; unknown ones are fine."""
        self._path.remove_visitor(home_agent.packed, home_address.packed)

    def reconfigure(self, settings: MobilitySettings) -> None:
        """Use other networks and addresses; bindings and visitors stay."""
        self._settings = settings
        names = {
            *self._devices,
            *settings.outside_interfaces,
            *settings.visited_interfaces,
            *(one.interface for one in settings.home_networks if one.interface is not None),
        }
        self._devices = {name: self._sender.interface_index(name) for name in names}
        self._path.reconfigure(settings, self._devices)
        self._apply_groups()

    def _know(self, interface: str | None) -> None:
        """Look an interface up again: it may have been made anew since."""
        if interface is None:
            return
        index = self._sender.interface_index(interface)
        if self._devices.get(interface) != index:
            self._devices[interface] = index
            self._path.reconfigure(self._settings, self._devices)
            self._apply_groups()

    def poll(self) -> None:
        """Decide about a bounded number of waiting packets; never raises for what is in them."""
        path = self._path
        path.advance(self._clock())
        conclusions: list[Conclusion] = []
        for number, hook, mark, device, octets in self._queue.receive(PACKETS_PER_TURN):
            if hook == PREROUTING:
                verdict, made, new_mark = path.arrived(octets, mark, device)
            else:
                verdict, made, new_mark = path.leaving(octets, mark, tunnelled=hook != LOCAL_OUT)
            conclusions.append((number, verdict, made, new_mark))
        if not self._queue.conclude(conclusions):
            self.counters["verdicts_lost"] += 1
        if path.sends:
            self._send(path.sends)
        if path.group_changes:
            self._apply_groups()

    def _send(self, sends: list[Send]) -> None:
        """Send everything; what the link does not take is cut up once, or given up."""
        waiting = sends[:]
        sends.clear()
        for packet in waiting:
            try:
                self._sender.send(packet)
            except PacketTooLongError as error:
                self._path.too_long(packet, error.mtu)
            except OSError:
                self.counters["send_failed"] += 1
        again = sends[:]
        sends.clear()
        for packet in again:
            try:
                self._sender.send(packet)
            except OSError:
                self.counters["send_failed"] += 1

    def _apply_groups(self) -> None:
        changes = self._path.group_changes
        for change in changes:
            if not self._groups.apply(change):
                self.counters["groups_refused"] += 1
        changes.clear()

    def close(self) -> None:
        """Give up the queue and the sockets; what waits is dropped."""
        self._queue.close()
        self._sender.close()
        self._groups.close()
