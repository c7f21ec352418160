"""INFORMATIONAL exchanges: liveness and deletes (RFC 7296 sections 1.4 and 2.4)."""

from collections.abc import Sequence
from typing import Self

from gateway.ike import closing
from gateway.ike.codec import Delete, Payload
from gateway.ike.core import Core, TimerKind
from gateway.ike.record_values import Record
from gateway.ike.registry import ExchangeType, NotifyType, ProtocolId
from gateway.ike.sa import ChildState
from gateway.ike.v2 import (
    deleting,
    exchange,
    mobike,
    reauthentication,
    rekey,
    rekey_ike_answer,
)
from gateway.ike.v2.sa import IkeSa, State
from gateway.ike.v2.view import Payloads, Request


def receive_request(core: Core, sa: IkeSa, request: Request) -> None:
    """Answer an INFORMATIONAL request: deletes, MOBIKE, liveness."""
    view, now = request.view, request.now
    reply: list[Payload] = []
    distrusted = view.notify(NotifyType.AUTHENTICATION_FAILED) is not None
    ends = distrusted or any(one.protocol == ProtocolId.IKE for one in view.deletes)
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
        reply += mobike.answer(core, sa, view, request.path, now)
        reauthentication.take_lifetime(core, sa, view, now)
    exchange.respond(core, sa, request, reply)
    if ends:
        rekey_ike_answer.settle_before_close(core, sa, now)
        why = "the peer does not accept our proof" if distrusted else "the peer deleted it"
        closing.close(core, sa, why, now)


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
        successor = rekey.successor_of(sa, child)
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
    in_record = "liveness"

    def request(self, core: Core, sa: IkeSa, now: float) -> Sequence[Payload] | None:  # noqa: ARG002 - as in Exchange
        """Nothing, or NAT detection payloads where MOBIKE wants to know (RFC 4555 section 3.8)."""
        return mobike.probe(core, sa)

    def response(self, core: Core, sa: IkeSa, view: Payloads, now: float) -> None:
        """The peer lives."""
        mobike.probed(core, sa, view, now)

    def record(self) -> Record:
        """Nothing."""
        return {}

    @classmethod
    def resumed(cls, record: Record) -> Self:
        """As from :meth:`record`."""
        del record
        return cls()


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
        ask(core, sa, now)


def ask(core: Core, sa: IkeSa, now: float) -> None:
    """Check the peer now."""
    core.count("liveness_checks")
    exchange.begin(core, sa, LivenessCheck(), now)
