"""A peer that knows the keys and no rules."""

from collections.abc import Sequence

from harness_v1 import only_sa
from harness_v2 import Host, Network

from gateway.domain.endpoint import Path
from gateway.ike.core import Core
from gateway.ike.v1 import exchange, protect
from gateway.ike.v1.codec import ExchangeType, Payload
from gateway.ike.v1.sa import IkeSa


class Rogue(exchange.Phase2Exchange):
    """Any exchange after phase 1; keeps the payloads that come back."""

    __slots__ = ("answers",)
    answers: list[Payload]
    exchange_type = ExchangeType.TRANSACTION

    def receive(
        self, core: Core, sa: IkeSa, payloads: Sequence[Payload], path: Path, now: float
    ) -> None:
        self.answers += payloads

    def unanswered(self, core: Core, sa: IkeSa, now: float) -> None:
        pass


def inject(
    network: Network,
    host: Host,
    payloads: Sequence[Payload],
    kind: ExchangeType = ExchangeType.TRANSACTION,
    *,
    run: bool = True,
) -> Rogue:
    """Let a host's ISAKMP SA send the first message of an exchange, with a right HASH."""
    core, sa = host.engine._core, only_sa(host)
    rogue = Rogue(exchange.new_message_id(core, sa), initiator=True, now=network.now)
    rogue.answers = []
    assert exchange.add(sa, rogue)
    # The class variable is that of all; what counts is what goes into the header.
    rogue.sent = protect.seal(core, sa, rogue, payloads, exchange_type=kind)
    core.transmit(rogue.sent, sa.path)
    if run:
        network.run()
        sa.exchanges.pop(rogue.message_id, None)
    return rogue
