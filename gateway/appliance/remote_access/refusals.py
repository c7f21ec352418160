"""The log of what was refused: which device, what, and which rule says so. At a bounded rate."""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final

from gateway.appliance.remote_access.part import Joint
from gateway.dataplane.filter import RefusedPacket
from gateway.domain.filtering import Direction
from gateway.domain.token_bucket import TokenBucket
from gateway.filtering.engine import Filtering
from gateway.filtering.judge import Flow, judge
from gateway.filtering.words import protocol
from gateway.ike.outputs import Event

_MINUTE_S: Final = 60.0
_BURST: Final = 10.0


class Refusals:
    """Makes events of refused packets."""

    def __init__(
        self, joint: Joint, engine: Filtering, is_service: Callable[[int, int], bool]
    ) -> None:
        self._joint = joint
        self._engine = engine
        self._is_service = is_service
        self._bucket = TokenBucket(0.0, _BURST)
        self._silent = 0
        self.counters: Counter[str] = Counter(refusals_logged=0, refusals_not_logged=0)

    def note(self, packets: Iterable[RefusedPacket]) -> None:
        """These were refused."""
        for packet in packets:
            self._note(packet)

    def _note(self, packet: RefusedPacket) -> None:
        book = self._engine.book
        inbound = packet.direction is not Direction.FROM_INSIDE
        own, other = packet.source, packet.destination
        if not inbound:
            own, other = other, own
        session = self._engine.session_at(own, packet.zone)
        grant = None if session is None else self._engine.grant_of(session)
        if grant is None:
            return
        flow = Flow(packet.direction, other, packet.protocol, packet.port)
        names = self._engine.rules_of(grant)
        found = judge(book, names, flow, self._engine.in_force, self._is_service)
        if not (book.log_refusals or found.log):
            return
        self._bucket.rate = book.log_refusals_per_minute / _MINUTE_S
        self._bucket.burst = min(_BURST, float(book.log_refusals_per_minute))
        if not self._bucket.take(self._joint.clock()):
            self._silent += 1
            self.counters["refusals_not_logged"] += 1
            return
        silent, self._silent = self._silent, 0
        self.counters["refusals_logged"] += 1
        who = grant.user or grant.peer
        port = f" {packet.port}" if packet.port else ""
        way = "to" if inbound else "from"
        # The rules may have changed since.
        why = "refused" if found.allowed else found.why
        text = f"{who} ({own}) {way} {other} {protocol(packet.protocol)}{port}: {why}"
        text += f"; {silent} others not logged" if silent else ""
        fields: dict[str, object] = {
            "session": grant.session,
            "peer": grant.peer,
            "user": grant.user,
            "direction": packet.direction.value,
            "source": str(packet.source),
            "destination": str(packet.destination),
            "protocol": packet.protocol,
            "port": packet.port,
            "rule": found.rule,
            "not_logged": silent,
        }
        self._joint.emit(Event("refused", text, fields=fields))
