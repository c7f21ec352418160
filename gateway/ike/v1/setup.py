"""What follows once an ISAKMP SA is established: configuration, then quick mode, in this order."""

from gateway.ike.core import Core
from gateway.ike.policy import ConfigMode
from gateway.ike.v1 import mode_config, quick_ids, quick_initiator
from gateway.ike.v1.quick import Wanted
from gateway.ike.v1.sa import IkeSa, State


def proceed(core: Core, sa: IkeSa, now: float) -> None:
    """Take the next step that is ours."""
    connection = sa.connection
    if connection is None or sa.state is not State.ESTABLISHED or sa.children:
        return
    if not sa.session_initiator:
        pushes = connection.v1_config_mode is ConfigMode.PUSH and connection.pool is not None
        if sa.inner_address is None and pushes:
            mode_config.push(core, sa, now)
        return
    if not connection.request_inner_address or sa.assigned is not None:
        start_quick_modes(core, sa, now)
    elif connection.v1_config_mode is ConfigMode.PULL:
        mode_config.request(core, sa, now)
    # Else the gateway pushes, and the childless timer watches.


def start_quick_modes(core: Core, sa: IkeSa, now: float, *, reqid: int | None = None) -> None:
    """Begin a quick mode for each pair of selectors that policy asks for."""
    connection = sa.connection
    if connection is None:
        return
    subnets = sa.assigned.subnets if sa.assigned is not None else ()
    for local, remote in quick_ids.pairs(sa, connection, subnets):
        quick_initiator.begin(core, sa, Wanted(local, remote, reqid=reqid), now)
        # The reserved reqid is that of one policy.
        reqid = None
