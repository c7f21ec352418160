"""The end of everything that stands: the profile changed, the user locked it, or it goes off."""

from gateway.mobile_node.core import Core
from gateway.mobile_node.outputs import Forbid, TransmitRegistration
from gateway.mobile_node.registering.outcome import Retransmission
from gateway.mobile_node.vpn_layer import VpnState

ONCE = Retransmission(give_up_s=1.0)


def leave(core: Core, reason: str, now: float) -> None:
    """Deregister everywhere, close the VPN, permit nothing."""
    core.permits.clear()
    core.outputs.append(Forbid())
    client = core.inner
    if client is not None and client.via is not None and core.vpn.state is VpnState.UP:
        client.deregister(client.via, now, ONCE)
    for place in core.places.values():
        internal = place.internal
        if internal is not None and internal.via is not None and place.proof is not None:
            internal.deregister(internal.via, now, ONCE)
        place.external.leave(place.foothold, now)
        place.proof = None
    # What is sent through the VPN has to be sent before it closes.
    for layer, _, one in core.clients():
        for output in one.take_outputs():
            if isinstance(output, TransmitRegistration):
                core.messages[layer] += 1
                core.outputs.append(output)
        one.stop()
    core.hold(reason, now)
    core.end_vpn(reason, now)
    core.use(None, now)
    core.idle.used(now)
