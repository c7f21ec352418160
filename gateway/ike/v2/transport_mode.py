"""Transport mode in IKEv2: USE_TRANSPORT_MODE, and selectors behind NATs.

RFC 7296 sections 1.3.1 and 2.23.1.
"""

from collections.abc import Sequence
from dataclasses import replace

from gateway.domain.child_sa import Mode, TrafficSelector
from gateway.domain.endpoint import IpAddress
from gateway.ike.codec import Notify, Payload, UnknownSelector
from gateway.ike.policy import ConnectionPolicy
from gateway.ike.refusal import Refused
from gateway.ike.registry import NotifyType
from gateway.ike.v2.sa import IkeSa
from gateway.ike.v2.view import Payloads

_Offered = Sequence[TrafficSelector | UnknownSelector]


def notifies(connection: ConnectionPolicy) -> list[Payload]:
    """What asks for it, or agrees."""
    if connection.mode is not Mode.TRANSPORT:
        return []
    return [Notify(NotifyType.USE_TRANSPORT_MODE)]


def need(connection: ConnectionPolicy, view: Payloads) -> None:
    """Both sides want what policy wants; whoever asks for a transport may still get a tunnel.

    Raises:
        Refused: policy wants transport mode, the peer a tunnel.
    """
    if connection.mode is not Mode.TRANSPORT:
        return
    if view.notify(NotifyType.USE_TRANSPORT_MODE) is None:
        raise Refused(
            NotifyType.NO_PROPOSAL_CHOSEN,
            f"the peer wants tunnel mode, connection {connection.name} has transport mode",
            'set the client to transport mode, or mode of the connection to "tunnel"',
        )


def refuse_tunnel_wish(connection: ConnectionPolicy, view: Payloads) -> None:
    """As the initiator: the responder agrees to no mode that we did not ask for.

    Raises:
        Refused: it does.
    """
    if connection.mode is Mode.TUNNEL and view.notify(NotifyType.USE_TRANSPORT_MODE) is not None:
        raise Refused(
            NotifyType.NO_PROPOSAL_CHOSEN, "the peer chose transport mode, which was not offered"
        )


class Sides:
    """As the responder: the selectors as packets have them here, and as the peer knows them."""

    __slots__ = ("_as_known", "ours", "theirs")

    def __init__(
        self, sa: IkeSa, connection: ConnectionPolicy, theirs: _Offered, ours: _Offered
    ) -> None:
        self._as_known: dict[IpAddress, IpAddress] = {}
        self.theirs: tuple[TrafficSelector | UnknownSelector, ...] = tuple(theirs)
        """Of the peer's side."""
        self.ours: tuple[TrafficSelector | UnknownSelector, ...] = tuple(ours)
        if connection.mode is Mode.TRANSPORT:
            if sa.remote_natted:
                self.theirs = self._seen(theirs, sa.path.remote.address)
            if sa.local_natted:
                self.ours = self._seen(ours, sa.path.local.address)

    def _seen(self, offered: _Offered, host: IpAddress) -> tuple[TrafficSelector, ...]:
        single = [
            one for one in offered if isinstance(one, TrafficSelector) and one.start == one.end
        ]
        if not single or single[0].start.version != host.version:
            return ()
        known = self._as_known[host] = single[0].start
        return tuple(replace(one, start=host, end=host) for one in single if one.start == known)

    def told(self, agreed: tuple[TrafficSelector, ...]) -> tuple[TrafficSelector, ...]:
        """What was agreed on, in the peer's words."""
        return tuple(
            replace(one, start=known, end=known)
            if one.start == one.end and (known := self._as_known.get(one.start)) is not None
            else one
            for one in agreed
        )
