"""Which interface carries the stack, and who is asked through which one."""

from gateway.mobile_node import modes, outside
from gateway.mobile_node.core import Core
from gateway.mobile_node.detection import Place
from gateway.mobile_node.inputs import Portal
from gateway.mobile_node.outputs import ProbePortal
from gateway.mobile_node.vpn_layer import VpnState


def choose(core: Core, now: float) -> Place | None:
    """Inside wins over outside, then the profile's order; what works stays until then."""
    ranked = core.ranked()
    for place in ranked:
        if place.proof is not None:
            return place
    front = front_runner(core, ranked)
    current = core.place
    if current is None or current not in ranked or front is None or current is front:
        return front
    if core.vpn.state is VpnState.UP and not current.captive and not _ready(core, front, now):
        return current
    return front


def front_runner(core: Core, ranked: list[Place]) -> Place | None:
    """The interface to go out by if it works: the first that is not known to lead nowhere."""
    for place in ranked:
        if not place.captive and core.alarm.reached(place.rest_until):
            return place
    return ranked[0] if ranked else None


def _ready(core: Core, place: Place, now: float) -> bool:
    """Whether the session can go over to a better interface without a gap."""
    if not outside.can_carry(core, place):
        return False
    if core.policy.external is not None:
        if place.external.answered:
            return True
        if not place.external.silent:
            return False
    if not place.period_over(core.alarm):
        return False
    # Without an answer of the x-HA something else has to tell that the link leads anywhere.
    if place.portals.answered and place.portals.found in (Portal.OPEN, Portal.UNKNOWN):
        return True
    if place.portals.may_probe(now, core.alarm):
        core.outputs.append(ProbePortal(place.interface))
    return False


def ask(core: Core, chosen: Place | None, now: float) -> None:
    """Let each interface ask whom it may ask now."""
    ranked = core.ranked()
    front = front_runner(core, ranked)
    inside = chosen is not None and chosen.proof is not None
    working = core.vpn.state is VpnState.UP
    astray = False
    for place in list(core.places.values()):
        place.settled = working or inside
        if not place.usable:
            continue
        better = chosen is None or core.preference(place) < core.preference(chosen)
        internal = (not inside or better or place is chosen) and modes.inside_allowed(
            core.policy, place.foothold, home=place.at_home
        )
        external = not inside and (place is chosen or place is front)
        if external and place is chosen and working and not _needs_external(core, place):
            # The session goes straight to the gateway: an answer would only say "outside".
            external = not place.external.answered
            if place.external.answered:
                place.external.release()
        elif not external and not inside:
            place.external.release()
        if place.proof is None and not internal:
            astray |= place.hush()
        place.ask(now, core.alarm, internal=internal, external=external)
    if astray and chosen is not None:
        chosen.confirm(now)


def _needs_external(core: Core, place: Place) -> bool:
    outer = core.vpn.outer
    return outer is None or outer != place.own_address
