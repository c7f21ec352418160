"""Everything after phase 1, by exchange and state."""

from collections.abc import Callable, Sequence

from gateway.domain.user_auth import Answer
from gateway.ike.core import Core, TimerKind
from gateway.ike.sa import Child
from gateway.ike.v1 import (
    dpd,
    exchange,
    informational,
    mode_config,
    quick,
    quick_initiator,
    quick_responder,
    setup,
    transaction,
    xauth,
)
from gateway.ike.v1.codec import (
    Configuration,
    Delete,
    ExchangeType,
    Payload,
    ProtocolId,
    find,
)
from gateway.ike.v1.codec.registry import CfgType
from gateway.ike.v1.sa import IkeSa, State

_Handler = Callable[[Core, IkeSa, exchange.Arrival, Configuration, float], None]
_TRANSACTIONS: dict[tuple[int, bool, State], _Handler] = {
    (CfgType.REQUEST, True, State.AUTHENTICATED): xauth.asked,
    (CfgType.SET, True, State.AUTHENTICATED): xauth.status_set,
    (CfgType.REQUEST, False, State.ESTABLISHED): mode_config.asked,
    (CfgType.SET, False, State.ESTABLISHED): mode_config.pushed,
}
"""By type, whether it is about the login, and state. All others are dropped."""


def begin(core: Core, sa: IkeSa, now: float) -> None:
    """Phase 1 is proven: the user's login, else what follows it."""
    if sa.state is State.AUTHENTICATED:
        xauth.begin(core, sa, now)
    else:
        setup.proceed(core, sa, now)


def receive_new(  # noqa: PLR0917 - one fact each
    core: Core,
    sa: IkeSa,
    exchange_type: int,
    arrival: exchange.Arrival,
    payloads: Sequence[Payload],
    now: float,
) -> None:
    """The first message of an exchange that the peer begins, verified."""
    if exchange_type == ExchangeType.INFORMATIONAL:
        informational.receive(core, sa, payloads, arrival.path, now)
    elif exchange_type == ExchangeType.QUICK and sa.state is State.ESTABLISHED:
        quick_responder.receive_first(core, sa, arrival, payloads, now)
    elif exchange_type == ExchangeType.TRANSACTION:
        _transaction(core, sa, arrival, payloads, now)
    else:
        core.count("requests_out_of_state")


def _transaction(
    core: Core, sa: IkeSa, arrival: exchange.Arrival, payloads: Sequence[Payload], now: float
) -> None:
    configuration = find(payloads, Configuration)
    handler = None
    if configuration is not None:
        about_login = transaction.is_xauth(configuration)
        handler = _TRANSACTIONS.get((configuration.type, about_login, sa.state))
    if handler is None or configuration is None:
        core.count("transactions_out_of_state")
        if sa.state is State.AUTHENTICATED:
            # The acknowledgement of the login may be on its way, or lost.
            exchange.take_later(sa, arrival.message_id)
        return
    handler(core, sa, arrival, configuration, now)


def user_answered(core: Core, sa: IkeSa, answer: Answer, now: float) -> None:
    """What the backend says of the user."""
    xauth.answered(core, sa, answer, now)


def rekey_child(core: Core, sa: IkeSa, child: Child, now: float) -> None:
    """Replace a child SA, unless that is under way."""
    quick_initiator.rekey(core, sa, child, now)


def create_child(core: Core, sa: IkeSa, reqid: int, now: float) -> None:
    """Make child SAs where there are none, unless that is under way."""
    if sa.state is State.ESTABLISHED and not quick.under_way(sa, initiator=True):
        setup.start_quick_modes(core, sa, now, reqid=reqid)


def delete_child(core: Core, sa: IkeSa, child: Child, reason: str, now: float) -> None:
    """End a child SA with a Delete."""
    quick.delete(core, sa, child, reason, now)


def fire_child(core: Core, kind: TimerKind, sa: IkeSa, child: Child, now: float) -> None:
    """A child SA that was replaced has waited long enough."""
    if kind is TimerKind.RETIRE:
        quick.delete(core, sa, child, "rekeyed", now)


def send_delete(core: Core, sa: IkeSa) -> None:
    """Tell the peer that the ISAKMP SA is gone, and its child SAs with it."""
    if sa.children:
        quick.send_delete(core, sa, list(sa.children))
    cookies = sa.initiator_spi + sa.responder_spi
    exchange.send_alone(
        core, sa, ExchangeType.INFORMATIONAL, [Delete(ProtocolId.ISAKMP, (cookies,))]
    )


def check_liveness(core: Core, sa: IkeSa, now: float) -> None:
    """The liveness timer."""
    dpd.check(core, sa, now)


def let_go(core: Core, sa: IkeSa) -> None:
    """The SA is over: keep nothing of it."""
    core.asked.pop(sa.ticket, None)
    sa.ticket = 0
    sa.xauth = sa.dpd = sa.quick = None
