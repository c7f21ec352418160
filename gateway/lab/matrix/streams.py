"""Numbered datagrams through the tunnel in both directions, counted at both ends."""

from __future__ import annotations

from typing import Self

from gateway.lab import plan
from gateway.lab.measured import Measured, start, start_sender
from gateway.lab.processes import LabError
from gateway.lab.topology import Lab

RATE = 100.0
IDLE_S = 1.5


class Streams:
    """From the device to the server and back; a context manager."""

    _count = 0

    def __init__(self, lab: Lab, inner: str) -> None:
        Streams._count += 1
        self._lab = lab
        self._name = f"stream{Streams._count}"
        self._ways = {"up": ("device", f"{plan.SERVER}:9000"), "down": ("server", f"{inner}:9001")}
        self._receivers: list[Measured] = []
        self._senders: list[Measured] = []

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _start(self) -> None:
        for way, (_, to) in self._ways.items():
            host = "server" if way == "up" else "device"
            arguments = ["receive", to, "--idle", f"{IDLE_S:g}"]
            name = f"{self._name}-{way}-in"
            self._receivers.append(start(self._lab, host, "traffic", arguments, name))
        for receiver in self._receivers:
            receiver.wait_for("ready", 1)
        for way, (host, to) in self._ways.items():
            name = f"{self._name}-{way}-out"
            sender = start_sender(self._lab, host, to, rate=RATE, seconds=600, name=name)
            self._senders.append(sender)
        for receiver in self._receivers:
            receiver.wait_for("received", 1)

    def __exit__(self, *_: object) -> None:
        for each in (*self._senders, *self._receivers):
            each.process.stop()

    def wait_for_more(self, count: int) -> None:
        """Wait until that many more came in either direction."""
        for receiver in self._receivers:
            receiver.wait_for("received", (receiver.latest("received") or 0) + count)

    def must_lose_nothing(self, *, up: int = 0, down: int = 0) -> None:
        """End the streams; raises LabError with what was sent and not received.

        `up` and `down` are datagrams whose loss is somebody else's doing.
        """
        sent = [int(sender.stop()["sent"]) for sender in self._senders]
        results = [receiver.result() for receiver in self._receivers]
        ways = (("to the server", up), ("back", down))
        for count, result, (way, allowed) in zip(sent, results, ways, strict=True):
            # A sender may be ended between sending and counting: then more arrive than were sent.
            if (lost := count - int(result["received"])) > allowed:
                missing = result["missing"][:9]
                raise LabError(f"{lost} of {count} datagrams lost {way}, such as {missing}")
