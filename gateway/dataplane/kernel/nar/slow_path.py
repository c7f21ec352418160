"""The slow path of NAR: what the ruleset does not decide by itself.

The ruleset queues, in prerouting: ICMP errors to lent addresses, in clients' tunnels, about what
translated clients got, and about our tunnels; without offload every packet of a mapping as well.
They are accepted as the ruleset would have left them, with the mark that leads on, or unchanged
when they are not ours, or dropped. In output: ICMP errors of our own about packets of clients.
"""

import time
from collections import Counter
from collections.abc import Callable
from ipaddress import IPv4Address
from typing import Final

from gateway.dataplane.kernel.mobility.raw_sender import PacketTooLongError, RawSender
from gateway.dataplane.kernel.nar import constants
from gateway.dataplane.kernel.nar.interface_names import InterfaceNames
from gateway.dataplane.kernel.nar.numbers import ClientKey, Numbers
from gateway.dataplane.kernel.nfqueue import PREROUTING, Conclusion, PacketQueue
from gateway.dataplane.nar import NarSettings
from gateway.dataplane.packet import nar_marks
from gateway.dataplane.packet.nar_steering import NarSteering
from gateway.dataplane.packet.outbound import Send
from gateway.domain.nar import Delivery, NarMapping, NarTuple

PACKETS_PER_TURN: Final = 64
"""Packets decided about before other work of the process gets its turn."""


class _Marks:
    """The kernel's numbers as the functions on packets ask for them."""

    def __init__(self, numbers: Numbers) -> None:
        self._numbers = numbers

    def client_mark(
        self, server_address: IPv4Address, client: IPv4Address, delivery: Delivery
    ) -> int:
        return self._numbers.client_mark(ClientKey(server_address, client, delivery))

    def alias(self, mark: int, address: IPv4Address) -> IPv4Address:
        return self._numbers.alias(mark, address)

    def out_mark(self, address: IPv4Address, *, with_port: bool) -> int:
        return self._numbers.out_mark(address) + (constants.WITH_PORT if with_port else 0)


class SlowPath:
    """Owns the ``queue`` from now on. Raises OSError when it gets no raw socket."""

    def __init__(
        self,
        queue: PacketQueue,
        settings: NarSettings,
        numbers: Numbers,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._queue = queue
        self._clock = clock
        self._names = InterfaceNames()
        self._sender = RawSender(range(nar_marks.SENT, nar_marks.SENT + 1))
        self._steering = NarSteering(
            settings, _Marks(numbers), constants.FROM_CLIENT, constants.LOCAL
        )
        self.counters: Counter[str] = self._steering.counters
        """Packets by what became of them."""

    @property
    def overruns(self) -> int:
        """Times the queue's socket buffer was full."""
        return self._queue.overruns

    def fileno(self) -> int:
        """For selectors: readable when packets wait."""
        return self._queue.fileno()

    def set_mapping(self, mapping: NarMapping) -> None:
        """Deliver by it, replacing what was set for its tuple. Costs O(1).

        Its numbers are claimed already. Raises KeyError when they are not, ValueError for a server
        that is not there or a tuple that the draft has not.
        """
        self._steering.set_mapping(mapping)

    def remove_mapping(self, key: NarTuple) -> None:
        """Forget it; unknown ones are fine. Its numbers are released after this."""
        self._steering.remove_mapping(key)

    def reconfigure(self, settings: NarSettings) -> None:
        """Use other addresses and interfaces; mappings stay, but those of servers that are gone."""
        self._names.forget()
        self._steering.reconfigure(settings)

    def poll(self) -> None:
        """Decide about a bounded number of waiting packets; never raises for what is in them."""
        steering = self._steering
        steering.advance(self._clock())
        conclusions: list[Conclusion] = []
        for number, hook, mark, device, octets in self._queue.receive(PACKETS_PER_TURN):
            if hook == PREROUTING:
                name = self._names.of(device)
                verdict, made, new_mark = steering.arrived(octets, mark, name)
            else:
                verdict, made, new_mark = steering.leaving(octets)
            conclusions.append((number, verdict, made, new_mark))
        if not self._queue.conclude(conclusions):
            self.counters["verdicts_lost"] += 1
        if steering.sends:
            self._send(steering.sends)

    def _send(self, sends: list[Send]) -> None:
        for error in sends:
            try:
                self._sender.send(error)
            except (PacketTooLongError, OSError):
                self.counters["send_failed"] += 1
        sends.clear()

    def close(self) -> None:
        """Give up the queue and the sockets; what waits is dropped."""
        self._queue.close()
        self._sender.close()
        self._names.close()
