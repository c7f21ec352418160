"""Deletes that we send (RFC 7296 section 1.4.1)."""

from collections.abc import Sequence
from typing import Self

from gateway.ike import client, closing
from gateway.ike import record_values as values
from gateway.ike.codec import Delete, Payload
from gateway.ike.core import Core, TimerKind
from gateway.ike.record_values import Record
from gateway.ike.registry import ExchangeType, ProtocolId
from gateway.ike.sa import Child, ChildState
from gateway.ike.v2 import exchange
from gateway.ike.v2.sa import IkeSa, State, transition
from gateway.ike.v2.view import Payloads

OLD_INBOUND_S = 5.0
"""How long a deleted child SA still takes packets that are on their way, when it was replaced."""


def retire(core: Core, child: Child, now: float) -> None:
    """A replaced child SA is deleted on both sides: packets on their way may still come in."""
    child.state = ChildState.DELETING
    core.timers.cancel((TimerKind.REKEY_CHILD, child.spi_in))
    core.timers.cancel((TimerKind.EXPIRE_CHILD, child.spi_in))
    core.timers.set((TimerKind.REMOVE, child.spi_in), now + OLD_INBOUND_S)


class DeleteChild(exchange.Exchange):
    """Tell the peer that a child SA is gone."""

    __slots__ = ("_reason", "_spi_in")
    name = "delete child SA"
    exchange_type = ExchangeType.INFORMATIONAL
    in_record = "delete child"

    def __init__(self, spi_in: int, reason: str) -> None:
        self._spi_in = spi_in
        self._reason = reason

    def request(self, core: Core, sa: IkeSa, now: float) -> Sequence[Payload] | None:  # noqa: ARG002 - as in Exchange
        """A Delete with our inbound SPI."""
        child = sa.children.get(self._spi_in)
        if child is None or child.state is ChildState.DELETING:
            return None
        child.state = ChildState.DELETING
        core.timers.cancel((TimerKind.REKEY_CHILD, child.spi_in))
        return [Delete(ProtocolId.ESP, (self._spi_in.to_bytes(4, "big"),))]

    def response(self, core: Core, sa: IkeSa, view: Payloads, now: float) -> None:  # noqa: ARG002 - as in Exchange
        """Whatever it says, the child SA is over."""
        child = sa.children.get(self._spi_in)
        if child is None:
            return
        if child.replaced_by is not None and child.replaced_by in sa.children:
            retire(core, child, now)
        else:
            closing.remove_child(core, sa, child, self._reason, now)

    def record(self) -> Record:
        """The child SA and why it goes."""
        return {"spi": self._spi_in, "why": self._reason}

    @classmethod
    def resumed(cls, record: Record) -> Self:
        """As from :meth:`record`."""
        return cls(values.child_spi(record["spi"]), values.text(record["why"]))


class DeleteIkeSa(exchange.Exchange):
    """Tell the peer that the IKE SA is gone."""

    __slots__ = ("_reason",)
    name = "delete IKE SA"
    exchange_type = ExchangeType.INFORMATIONAL
    in_record = "delete IKE SA"

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def request(self, core: Core, sa: IkeSa, now: float) -> Sequence[Payload] | None:
        """A Delete of this IKE SA."""
        if sa.state not in (State.ESTABLISHED, State.REKEYED):
            return None
        if sa.state is State.ESTABLISHED:
            for child in list(sa.children.values()):
                closing.remove_child(core, sa, child, self._reason, now)
        transition(core, sa, State.DELETING, self._reason)
        return [Delete(ProtocolId.IKE)]

    def response(self, core: Core, sa: IkeSa, view: Payloads, now: float) -> None:  # noqa: ARG002 - as in Exchange
        """Gone on both sides."""
        closing.close(core, sa, self._reason, now)

    def record(self) -> Record:
        """Why it goes."""
        return {"why": self._reason}

    @classmethod
    def resumed(cls, record: Record) -> Self:
        """As from :meth:`record`."""
        return cls(values.text(record["why"]))


def delete_ike_sa(core: Core, sa: IkeSa, reason: str, now: float) -> None:
    """End an established IKE SA with a Delete; any other state just ends."""
    if sa.state in (State.ESTABLISHED, State.REKEYED):
        # The Delete may take its time; whoever drives us need not wait for it.
        client.ended(core, sa, reason, refused=True)
        # What waits in the queue is moot now.
        waiting, sa.exchanges = sa.exchanges, None
        for one in waiting or ():
            one.abandoned(core, sa, now)
        exchange.begin(core, sa, DeleteIkeSa(reason), now)
    else:
        closing.close(core, sa, reason, now)


def delete_child(core: Core, sa: IkeSa, child: Child, reason: str, now: float) -> None:
    """End a child SA with a Delete."""
    exchange.begin(core, sa, DeleteChild(child.spi_in, reason), now)
