"""Transport mode, whatever the version: the sides are the two hosts themselves."""

from gateway.domain.child_sa import TrafficSelector
from gateway.ike.core import Core
from gateway.ike.refusal import Refused
from gateway.ike.registry import NotifyType
from gateway.ike.sa import IkeSa


def hosts(sa: IkeSa) -> tuple[TrafficSelector, TrafficSelector]:
    """(local, remote) selectors of the hosts with all that they say."""
    path = sa.path
    return (
        TrafficSelector.of_address(path.local.address),
        TrafficSelector.of_address(path.remote.address),
    )


def refuse_held(
    core: Core,
    sa: IkeSa,
    local_ts: tuple[TrafficSelector, ...],
    remote_ts: tuple[TrafficSelector, ...],
) -> None:
    """As the responder: see :mod:`gateway.ike.transport_hosts`.

    Raises:
        Refused: TS_UNACCEPTABLE; another identity has some of this traffic.
    """
    holder = core.transport_hosts.other_holder(local_ts, remote_ts, sa.peer_id)
    if holder is not None:
        raise Refused(
            NotifyType.TS_UNACCEPTABLE,
            f"{holder} is at {remote_ts[0].start} too, and in transport mode the two cannot be"
            " told apart",
            "let one device behind a NAT use it, or clients that choose their port, or tunnel mode",
        )
