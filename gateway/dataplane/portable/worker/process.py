"""One process of the forwarder: what the core asks of its engines, and its main loop."""

import gc
import time
from collections.abc import Iterator
from typing import Final

from gateway.dataplane.interface import Refusal
from gateway.dataplane.portable import messages
from gateway.dataplane.portable.esp.state import SaState
from gateway.dataplane.portable.forwarder import RefusedTunnel
from gateway.dataplane.portable.legacy import Legacy
from gateway.dataplane.portable.messages import Answer, Request
from gateway.dataplane.portable.plain import to_json
from gateway.dataplane.portable.worker.control import Control
from gateway.dataplane.portable.worker.pace import Pace
from gateway.dataplane.portable.worker.poller import Poller
from gateway.dataplane.portable.worker.traffic import Traffic

EMPTY_S: Final = 60.0
"""A forwarder that has nothing to do and belongs to nobody ends after this time."""
HELD_AT_ONCE: Final = 64
COLLECT_S: Final = 60.0
TURN_S: Final = 0.5
"""Longest time between two looks at what no socket tells."""


class Worker:
    """Carries out requests between batches of packets."""

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic
        self._spis: set[int] = set()
        self._tunnels: set[str] = set()
        self.ending = False
        """Set by whoever wants the loop to end."""

    @property
    def empty(self) -> bool:
        """Whether the forwarder, all of its processes, has nothing to do."""
        return not self._spis and not self._tunnels

    def answers(self, request: Request) -> Iterator[Answer | None]:
        """See :data:`control.Answers`."""
        if isinstance(request, messages.Commit):
            yield from self._commit(request)
        elif isinstance(request, messages.AskHeld):
            yield from self._held()
        else:
            yield self._answer(request)

    def _answer(self, request: Request) -> Answer:
        traffic = self._traffic
        if isinstance(request, messages.AskTunnels):
            return messages.Tunnels(tuple(traffic.tunnels.held()))
        if isinstance(request, messages.AskUsage):
            # Without packets nobody has told it the time.
            traffic.esp.advance(time.monotonic())
            return messages.UsageNow(traffic.esp.usage(request.spi_in))
        if isinstance(request, messages.AskBeforeMove):
            return messages.BeforeMove(traffic.esp.before_move(request.spi_in))
        if isinstance(request, messages.AskCounters):
            return messages.Counters(tuple(traffic.counters().items()))
        return messages.Wrong(f"{type(request).__name__} is not asked here")

    def _held(self) -> Iterator[Answer | None]:
        held = self._traffic.esp.held()
        for start in range(0, len(held), HELD_AT_ONCE):
            part = tuple(held[start : start + HELD_AT_ONCE])
            yield messages.Held(part, more=start + HELD_AT_ONCE < len(held))
        if not held:
            yield messages.Held((), more=False)

    def _commit(self, commit: messages.Commit) -> Iterator[Answer | None]:
        refusals: list[Refusal] = []
        tunnels: list[RefusedTunnel] = []
        for operation in commit.operations:
            self._traffic.esp.advance(time.monotonic())
            if isinstance(operation, messages.SetTunnel):
                refused = self._set_tunnel(operation)
                if refused is not None:
                    tunnels.append(refused)
            else:
                refusal = self._carry_out(operation)
                if refusal is not None:
                    refusals.append(refusal)
            yield None
        yield messages.Committed(tuple(refusals), tuple(tunnels))

    def _set_tunnel(self, operation: messages.SetTunnel) -> RefusedTunnel | None:
        link = operation.link
        if self._traffic.place.serves_tunnels:
            reason = self._traffic.set_tunnel(link)
            if reason is not None:
                return RefusedTunnel(link.name, reason)
        self._tunnels.add(link.name)
        return None

    def _carry_out(self, operation: messages.Operation) -> Refusal | None:
        esp = self._traffic.esp
        match operation:
            case messages.Install():
                return self._install(operation)
            case messages.Restore(state):
                return self._restore(state)
            case messages.Activate(spi_in):
                esp.activate(spi_in)
            case messages.Remove(spi_in):
                esp.remove(spi_in)
                self._spis.discard(spi_in)
            case messages.Move(spi_in, local, remote, udp_encapsulation):
                reason = self._listen(local.port) if udp_encapsulation else None
                if reason is None:
                    reason = esp.move(spi_in, local, remote, udp_encapsulation=udp_encapsulation)
                return None if reason is None else Refusal(spi_in, reason)
            case messages.Release(spi_in):
                esp.release(spi_in)
            case messages.Trap(sa):
                reason = esp.trap(sa)
                return None if reason is None else Refusal(sa.spi_in, reason)
            case messages.Untrap(reqid):
                esp.untrap(reqid)
            case messages.RemoveTunnel(name):
                self._traffic.remove_tunnel(name)
                self._tunnels.discard(name)
        return None

    def _install(self, operation: messages.Install) -> Refusal | None:
        sa = operation.sa
        reason = self._listen(sa.local.port) if sa.udp_encapsulation else None
        if reason is None:
            reason = self._traffic.esp.install(
                sa, outbound=operation.outbound, output_mark=operation.output_mark
            )
        if reason is not None:
            return Refusal(sa.spi_in, reason)
        self._spis.add(sa.spi_in)
        return None

    def _restore(self, state: SaState) -> Refusal | None:
        sa = state.sa
        reason = self._listen(sa.local.port) if sa.udp_encapsulation else None
        if reason is None:
            reason = self._traffic.esp.restore(state)
        if reason is not None:
            return Refusal(sa.spi_in, reason)
        self._spis.add(sa.spi_in)
        return None

    def leave(self) -> bytes:
        """What this process leaves to another version, in JSON; it carries no more packets."""
        traffic = self._traffic
        traffic.stop()
        legacy = Legacy(
            workers=traffic.place.workers,
            interface=traffic.place.interface,
            states=tuple(traffic.esp.states()),
            links=tuple(traffic.tunnels.held()),
        )
        return to_json([legacy])

    def _listen(self, port: int) -> str | None:
        try:
            self._traffic.listen(port)
        except OSError as error:
            return f"UDP port {port}: {error}"
        return None

    def take_events(self, limit: int) -> messages.Events | None:
        """Events for the core, at most so many, or None."""
        events = self._traffic.events
        if not events:
            return None
        return messages.Events(tuple(events.popleft() for _ in range(min(limit, len(events)))))

    def run(self, poller: Poller, control: Control) -> None:
        """Until somebody ends it, the interface is gone, or it is of no use any more."""
        # Neither packets nor verbs make cycles; looking for some takes longer than a packet may
        # wait. It is done all the same, when there are no packets.
        gc.collect()
        gc.freeze()
        gc.disable()
        useful = collected = time.monotonic()
        pace = Pace(useful)
        while not (self.ending or control.ending or self._traffic.gone):
            served = poller.turn(0 if control.busy else self._traffic.patience(TURN_S))
            control.proceed()
            self._traffic.settle()
            if self._traffic.events:
                control.tell(self.take_events)
            now = time.monotonic()
            if served and (pause_s := pace.pause_s(now)):
                time.sleep(pause_s)
            if not served and now - collected > COLLECT_S:
                gc.collect()
                collected = now
            # The first process decides for all.
            if not (self.empty and control.deserted and self._traffic.place.worker == 0):
                useful = now
            elif now - useful > EMPTY_S:
                return
