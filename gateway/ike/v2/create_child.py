"""CREATE_CHILD_SA (RFC 7296 section 1.3)."""

from gateway.domain.endpoint import Path
from gateway.ike.codec import Notify
from gateway.ike.registry import ExchangeType, NotifyType
from gateway.ike.v2 import exchange
from gateway.ike.v2.core import Core
from gateway.ike.v2.sa import IkeSa
from gateway.ike.v2.view import Payloads


def receive_request(
    core: Core, sa: IkeSa, view: Payloads, digest: bytes, path: Path, now: float
) -> None:
    """Refuse (for now)."""
    del view, now
    reply = [Notify(NotifyType.NO_ADDITIONAL_SAS)]
    exchange.respond(core, sa, digest, ExchangeType.CREATE_CHILD_SA, reply, path)


def begin(core: Core, sa: IkeSa, now: float, *, reqid: int) -> None:
    """Not yet."""
