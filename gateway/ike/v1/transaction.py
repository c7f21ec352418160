"""Transaction exchanges: the carrier of mode configuration and XAUTH, both roles.

draft-ietf-ipsec-isakmp-mode-cfg-05 section 2. Who may begin what is decided here, by role and
state; everything else is dropped and changes nothing.
"""

from collections.abc import Sequence
from typing import ClassVar, Self

from gateway.domain.endpoint import Path
from gateway.domain.wire import WireError
from gateway.ike.core import Core
from gateway.ike.record_values import Record
from gateway.ike.v1 import exchange
from gateway.ike.v1.codec import Attribute, Configuration, ExchangeType, Payload, find
from gateway.ike.v1.codec.registry import CfgAttribute, CfgType
from gateway.ike.v1.sa import IkeSa

_ANSWERS = {CfgType.REQUEST: CfgType.REPLY, CfgType.SET: CfgType.ACK}


def is_xauth(configuration: Configuration) -> bool:
    """Whether it speaks of the user's login."""
    return any(
        CfgAttribute.XAUTH_TYPE <= one.type <= CfgAttribute.XAUTH_ANSWER
        for one in configuration.attributes
    )


class Ask(exchange.Phase2Exchange):
    """A request or set of ours; :meth:`take_answer` takes the reply or acknowledgement."""

    __slots__ = ("_type",)
    asks: ClassVar[CfgType]
    """What a kind that is recorded sends."""
    exchange_type: ClassVar[ExchangeType] = ExchangeType.TRANSACTION

    def start(
        self, core: Core, sa: IkeSa, kind: CfgType, attributes: Sequence[Attribute], now: float
    ) -> None:
        """Send it."""
        self._type = kind
        if not exchange.add(sa, self):
            core.count("exchanges_too_many")
            return
        identifier = int.from_bytes(core.random(2), "big")
        payload = Configuration(kind, tuple(attributes), identifier)
        exchange.send(core, sa, self, [payload], now)

    @classmethod
    def resumed(cls, message_id: int, record: Record, now: float) -> Self:
        """Its answer may still come."""
        del record
        mine = cls(message_id, initiator=True, now=now)
        mine._type = cls.asks
        return mine

    def receive(
        self, core: Core, sa: IkeSa, payloads: Sequence[Payload], path: Path, now: float
    ) -> None:
        """The answer. Raises WireError for anything else."""
        del path
        configuration = find(payloads, Configuration)
        if configuration is None or configuration.type != _ANSWERS[self._type]:
            raise WireError(f"no answer to {self.name}")
        exchange.forget(core, sa, self)
        self.take_answer(core, sa, configuration, now)

    def take_answer(self, core: Core, sa: IkeSa, answer: Configuration, now: float) -> None:
        """Act on the authentic answer."""
        raise NotImplementedError


class Answer(exchange.Phase2Exchange):
    """A request or set of the peer's, which has a single answer."""

    __slots__ = ()
    name = "transaction exchange"
    in_record = "answer"
    exchange_type: ClassVar[ExchangeType] = ExchangeType.TRANSACTION
    goes_on: ClassVar[bool] = True
    """libreswan pushes the configuration under the message id of the login's last exchange."""

    @classmethod
    def resumed(cls, message_id: int, record: Record, now: float) -> Self:
        """Repetitions are answered from memory."""
        del record
        return cls(message_id, initiator=False, now=now)

    def receive(
        self, core: Core, sa: IkeSa, payloads: Sequence[Payload], path: Path, now: float
    ) -> None:
        """There is no third message."""
        del sa, payloads, path, now
        core.count("transactions_out_of_state")


def answer(  # noqa: PLR0917 - one fact each
    core: Core,
    sa: IkeSa,
    arrival: exchange.Arrival,
    asked: Configuration,
    attributes: Sequence[Attribute],
    now: float,
) -> bool:
    """Answer a request or set of the peer's; False when it has too many under way."""
    mine = Answer(arrival.message_id, initiator=False, now=now)
    if not exchange.add(sa, mine, arrival):
        core.count("exchanges_too_many")
        return False
    kind = _ANSWERS[CfgType(asked.type)]
    payload = Configuration(kind, tuple(attributes), asked.identifier)
    exchange.send(core, sa, mine, [payload], now, expect_answer=False)
    exchange.finish(core, sa, mine, now)
    return True
