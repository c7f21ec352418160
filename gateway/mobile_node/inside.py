"""Proven inside: plaintext, for as long as the proof lasts (draft 001, sections 3.1, 3.2, 4.2)."""

from gateway.mobile_node import layers
from gateway.mobile_node.core import Core
from gateway.mobile_node.detection import Place
from gateway.mobile_node.modes import inside_mode
from gateway.mobile_node.vpn_layer import VpnState


def settle(core: Core, place: Place, now: float) -> None:
    """Use an interface that the i-HA has answered through."""
    proof = place.proof
    if proof is None or core.policy.internal is None:
        return
    if core.place is not place or core.stack is None or not core.stack.mode.inside:
        core.idle.used(now)
    core.use(place, now)
    if not core.permit(place, proof, now):
        place.begin(now)
        core.hold("the answer of the i-HA came too late to rest on; asking it again", now)
        return
    core.why = _why(core, place, home=proof.home)
    # The permit comes first: packets that waited are let go as soon as the stack is there.
    core.apply(layers.inside(core.policy, place, home=proof.home), now)
    if core.vpn.state is not VpnState.DOWN:
        core.end_vpn("the device is inside now", now)
    for other in core.places.values():
        if other is not place:
            other.proof = None
        other.external.leave(other.foothold, now)
    _watch(core, place, now)


def _watch(core: Core, place: Place, now: float) -> None:
    if core.idle.look(now):
        fall_asleep(core, place, now)
        return
    core.alarm.want(core.idle.next_look())


def fall_asleep(core: Core, place: Place, now: float) -> None:
    """Nobody has used the network for a while: stop proving, and hold."""
    place.proof = None
    for client in place.clients:
        # Not even the binding is kept up: it ends by itself, and the next proof makes a new one.
        client.stop()
    core.tell("idle", f"{place.interface} is idle: it is proven again before the next packet")
    rest(core, now)


def rest(core: Core, now: float) -> None:
    """Asleep: nothing is asked, nothing leaves."""
    attachment = core.stack.attachment if core.stack is not None else None
    core.hold(
        "idle inside; the next packet waits until the i-HA has answered again", now, attachment
    )


def wake(core: Core, now: float) -> None:
    """A packet waits: prove the inside first (draft 002, section 3.1)."""
    core.idle.used(now)
    if core.place is not None and core.place.proof is None:
        core.place.begin(now, expect_inside=True)


def _why(core: Core, place: Place, *, home: bool) -> str:
    mode = inside_mode(place.foothold, home=home)
    home_agent = core.policy.internal.home_agent if core.policy.internal is not None else ""
    if home:
        return f"the i-HA {home_agent} confirmed that {place.interface} is the home link"
    text = f"the i-HA {home_agent} answered through {place.interface}"
    agent = place.foothold.agent
    if mode.value == "f" and agent is not None:
        return f"{text} by way of the foreign agent {agent.address}"
    return text
