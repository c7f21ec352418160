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

from collections import Counter
from ipaddress import IPv4Address

from gateway.dataplane.kernel.nfqueue import Queue
from gateway.dataplane.mobility import MobilitySettings
from gateway.domain.mobility import MobilityBinding, Visitor


class SlowPath:
    """Owns the ``queue`` from now on. Raises OSError when it gets no raw socket."""

    def __init__(self, queue: Queue, settings: MobilitySettings) -> None:
        self._queue = queue
        self._settings = settings
        self.counters: Counter[str] = Counter()
        """Packets by what became of them."""

    def fileno(self) -> int:
        """For selectors: readable when packets wait."""
        return self._queue.fileno()

    def set_binding(self, binding: MobilityBinding) -> None:
        """Tunnel for it, replacing what was set for its home address. Costs O(1)."""

    def remove_binding(self, home_agent: IPv4Address, home_address: IPv4Address) -> None:
        """Forget it; unknown ones are fine."""

    def set_visitor(self, visitor: Visitor) -> None:
        """Deliver to it and tunnel for it, replacing what was set. Costs O(1)."""

    def remove_visitor(self, home_agent: IPv4Address, home_address: IPv4Address) -> None:
        """Forget it; unknown ones are fine."""

    def reconfigure(self, settings: MobilitySettings) -> None:
        """Use other networks and addresses; bindings and visitors stay."""

    def poll(self) -> None:
        """Decide about a bounded number of waiting packets; never raises for what is in them."""

    def close(self) -> None:
        """Give up the queue and the sockets; what waits is dropped."""
        self._queue.close()
