"""INFORMATIONAL exchanges: liveness and deletes (RFC 7296 sections 1.4 and 2.4)."""

from collections.abc import Sequence

from gateway.domain.endpoint import Path
from gateway.ike.codec import Delete, Notify, Payload
from gateway.ike.registry import ExchangeType, NotifyType, ProtocolId
from gateway.ike.v2 import closing, deleting, exchange, mobike
from gateway.ike.v2.core import Core, TimerKind
from gateway.ike.v2.sa import ChildState, IkeSa, State
from gateway.ike.v2.view import Payloads


def receive_request(
    core: Core, sa: IkeSa, view: Payloads, digest: bytes, path: Path, now: float
) -> None:
    """Answer an INFORMATIONAL request: deletes, MOBIKE, liveness."""
    reply: list[Payload] = []
    ends = any(one.protocol == ProtocolId.IKE for one in view.deletes)
    if not ends:
        spis = [
            int.from_bytes(spi, "big")
            for one in view.deletes
            if one.protocol == ProtocolId.ESP
            for spi in one.spis
        ]
        deleted = _delete_children(core, sa, spis, now)
        if deleted:
            reply.append(Delete(ProtocolId.ESP, tuple(deleted)))
        reply += mobike.answer(core, sa, view, path, now)
    exchange.respond(core, sa, digest, ExchangeType.INFORMATIONAL, reply, path)
    if ends:
        closing.close(core, sa, "the peer deleted it", now)


def _delete_children(core: Core, sa: IkeSa, spis_out: list[int], now: float) -> list[bytes]:
    """Remove the children that send to these SPIs; returns our own SPIs of them.

    Of a child that we are deleting ourselves nothing is returned: the Deletes crossed
    (RFC 7296 section 1.4.1).
    """
    answered: list[bytes] = []
    by_spi = {child.spi_out: child for child in sa.children.values()}
    for spi in dict.fromkeys(spis_out):
        child = by_spi.get(spi)
        if child is None:
            core.count("deletes_of_unknown_spi")
            continue
        if child.state is not ChildState.DELETING:
            answered.append(child.spi_in.to_bytes(4, "big"))
        successor = sa.children.get(child.replaced_by) if child.replaced_by else None
        if successor is not None:
            core.activate(successor)
            deleting.retire(core, child, now)
        else:
            closing.remove_child(core, sa, child, "the peer deleted it", now)
    return answered


class LivenessCheck(exchange.Exchange):
    """An empty request: the answer is all that counts."""

    __slots__ = ()
    name = "liveness check"
    exchange_type = ExchangeType.INFORMATIONAL

    def request(self, core: Core, sa: IkeSa, now: float) -> Sequence[Payload] | None:
        """Nothing, or NAT detection payloads where MOBIKE wants to know (RFC 4555 section 3.8)."""
        return mobike.probe(core, sa)

    def response(self, core: Core, sa: IkeSa, view: Payloads, now: float) -> None:
        """The peer lives."""
        mobike.probed(core, sa, view, now)


def check_liveness(core: Core, sa: IkeSa, now: float) -> None:
    """The liveness timer: ask the peer if nothing authentic came for too long."""
    connection = sa.connection
    if connection is None or sa.state is not State.ESTABLISHED:
        return
    last = sa.last_inbound
    if core.last_inbound is not None:
        for spi_in in sa.children:
            age = core.last_inbound(spi_in)
            if age is not None:
                last = max(last, now - age)
    due = last + connection.liveness_s
    if due > now:
        core.timers.set((TimerKind.LIVENESS, sa.local_spi), due)
        return
    core.timers.set((TimerKind.LIVENESS, sa.local_spi), now + connection.liveness_s)
    if sa.window.outstanding is None:
        core.count("liveness_checks")
        exchange.begin(core, sa, LivenessCheck(), now)


def invalid_syntax(
    core: Core, sa: IkeSa, exchange_type: int, digest: bytes, path: Path, now: float, why: str
) -> None:
    """An authentic request breaks the format: fatal for the SA (RFC 7296 section 2.21.3)."""
    core.count("invalid_syntax")
    reply = [Notify(NotifyType.INVALID_SYNTAX)]
    exchange.respond(core, sa, digest, exchange_type, reply, path)
    closing.close(core, sa, f"the peer sent a malformed message: {why}", now)
