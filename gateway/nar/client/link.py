"""The connection there is: what was sent on it, and what was agreed on it so far."""

from collections import deque
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Final

from gateway.domain.nar import Delivery
from gateway.nar.client.asks import Ask, Mode
from gateway.nar.client.clock import Clock
from gateway.nar.client.phases import CLOSED, Phase, may_follow
from gateway.nar.client.settings import ANY
from gateway.nar.client_outputs import Failed, Lease, Output, SendOctets
from gateway.nar.codec.stream import ServerStream

MAX_AHEAD: Final = 64
"""Commands that are sent before the first one's reply is there."""
NO_MODE: Final = Mode(ANY, ANY, Delivery.IP_IP)


@dataclass(frozen=True, slots=True)
class Sent:
    """A command whose reply has not come yet; replies come in order."""

    command: int


@dataclass(frozen=True, slots=True)
class SentAsk(Sent):
    """For a lease."""

    ticket: int
    ask: Ask
    restoring: bool
    """Whether it was asked before, see :mod:`gateway.nar.client.restoring`."""


@dataclass(frozen=True, slots=True)
class SentRelease(Sent):
    """The end of leases."""

    leases: dict[int, Lease] = field(default_factory=dict)
    everything: bool = False
    """Whether it ends all there are."""


class Link:
    """What every part of the client needs: phase, stream, clock, outputs."""

    def __init__(self) -> None:
        self.phase = Phase.AWAY
        self.local = IPv4Address(0)
        """Xa."""
        self.mode = NO_MODE
        self.leases_known = False
        """Whether the server knows our extension."""
        self.clock = Clock()
        self.stream = ServerStream()
        self.sent: deque[Sent] = deque()
        self._outputs: list[Output] = []

    @property
    def agreed(self) -> bool:
        """Whether the server is in NAR mode."""
        return self.mode is not NO_MODE

    @property
    def waits(self) -> bool:
        """Whether the server owes an answer."""
        return self.phase not in (*CLOSED, Phase.READY) or bool(self.sent)

    def open(self, local: IPv4Address) -> None:
        """A new connection: nothing is agreed."""
        self.local, self.mode, self.leases_known = local, NO_MODE, False
        self.stream = ServerStream()
        self.enter(Phase.METHODS)

    def enter(self, phase: Phase) -> None:
        """The one place where the phase changes."""
        if not may_follow(self.phase, phase):
            raise AssertionError(f"{self.phase.name} is not followed by {phase.name}")
        self.phase = phase

    def fail(self, why: str, *, again: bool) -> None:
        """Nothing more on this connection."""
        if self.phase not in CLOSED:
            self.enter(Phase.FAILED)
            self.say(Failed(why, again))

    def write(self, octets: bytes) -> None:
        """To the server."""
        self.clock.asked()
        self.say(SendOctets(octets))

    def command(self, sent: Sent, octets: bytes) -> None:
        """To the server; its reply will be the one to ``sent``."""
        self.sent.append(sent)
        self.write(octets)

    def say(self, output: Output) -> None:
        """One more output."""
        self._outputs.append(output)

    def take_outputs(self) -> list[Output]:
        """All of them, once."""
        outputs, self._outputs = self._outputs, []
        return outputs
