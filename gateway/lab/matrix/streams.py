"""Numbered datagrams through the tunnel in both directions, counted at both ends."""

from __future__ import annotations

from typing import Self

from gateway.lab import plan
from gateway.lab.measured import start_receiver, start_sender
from gateway.lab.processes import LabError
from gateway.lab.topology import Lab

RATE = 100.0
IDLE_S = 1.5


class Streams:
    """From the device to the server and back; a context manager."""

    _count = 0

    def __init__(self, lab: Lab, inner: str) -> None:
        Streams._count += 1
        name = f"stream{Streams._count}"
        up, down = f"{plan.SERVER}:9000", f"{inner}:9001"
        self._receivers = [
            start_receiver(lab, "server", up, name=f"{name}-at-server", idle_s=IDLE_S),
            start_receiver(lab, "device", down, name=f"{name}-at-device", idle_s=IDLE_S),
        ]
        self._senders = [
            start_sender(lab, "device", up, rate=RATE, seconds=600, name=f"{name}-up"),
            start_sender(lab, "server", down, rate=RATE, seconds=600, name=f"{name}-down"),
        ]
        for receiver in self._receivers:
            receiver.wait_for("received", 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for each in (*self._senders, *self._receivers):
            each.process.stop()

    def wait_for_more(self, count: int) -> None:
        """Wait until that many more came in either direction."""
        for receiver in self._receivers:
            receiver.wait_for("received", (receiver.latest("received") or 0) + count)

    def must_lose_nothing(self) -> None:
        """End the streams; raises LabError with what was sent and not received."""
        sent = [int(sender.stop()["sent"]) for sender in self._senders]
        results = [receiver.result() for receiver in self._receivers]
        for count, result, way in zip(sent, results, ("to the server", "back"), strict=True):
            # A sender may be ended between sending and counting: then more arrive than were sent.
            if (lost := count - int(result["received"])) > 0:
                missing = result["missing"][:9]
                raise LabError(f"{lost} of {count} datagrams lost {way}, such as {missing}")
