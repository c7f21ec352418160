"""Outside: x-MIP where it is needed, the VPN, and i-MIP through it (draft 001, section 3)."""

from dataclasses import dataclass
from ipaddress import IPv4Address

from gateway.dataplane.node import Attachment, NodeTunnel
from gateway.mobile_node import inner, layers, modes, words
from gateway.mobile_node.core import Core
from gateway.mobile_node.detection import Place
from gateway.mobile_node.modes import Plan
from gateway.mobile_node.outputs import ConnectVpn, MoveVpn, ProbePortal
from gateway.mobile_node.vpn_layer import VpnState


@dataclass(frozen=True, slots=True)
class Bottom:
    """What carries IPsec."""

    letter: str
    """Of the x-MIP layer, or none."""
    outer: IPv4Address
    tunnel: NodeTunnel | None
    attachment: Attachment | None


def settle(core: Core, place: Place | None, now: float) -> None:
    """Go on with whatever is the next step from this interface."""
    if place is None:
        core.use(None, now)
        core.hold(words.no_link(core), now)
        return
    if core.policy.vpn is None:
        core.use(place, now)
        core.hold(words.no_vpn(core, place), now, _attachment(core, place))
        return
    if core.vpn.state is VpnState.UP and _carry(core, place, now):
        return
    core.use(place, now)
    if core.vpn.state is VpnState.CONNECTING and _wait(core, place, now):
        return
    _start(core, place, now)


# -- while the VPN is up --------------------------------------------------------------------


def _carry(core: Core, place: Place, now: float) -> bool:
    """Keep the session, move it if we moved; False when it cannot live on from here."""
    vpn, session = core.vpn, core.vpn.session
    if session is None or vpn.plan is None:
        return False
    mobile = modes.moves_by(core.policy, core.knowledge, session)
    bottom = _bottom(core, place, mobile)
    if bottom is None:
        if _external_possible(core, place, mobile) and not place.external.silent:
            core.use(place, now)
            core.hold(
                "moved; waiting for the x-HA to know the new address", now, _attachment(core, place)
            )
            return True
        core.end_vpn("the session cannot follow to this link", now)
        return False
    link = place.link
    was = (vpn.interface, vpn.generation, vpn.outer)
    goes = (link.interface, link.generation, bottom.outer)
    core.use(place, now)
    if was != goes:
        vpn.moved(*goes)
    tunnel = inner.carry(core, now)
    if vpn.state is not VpnState.UP:
        return False
    if core.policy.internal is None or tunnel is not None:
        by_agent = tunnel is not None and not tunnel.co_located
        mode = modes.mode_of(core.policy, bottom.letter, session, mobile=mobile, by_agent=by_agent)
        core.why = words.outside(core, place, mode, mobile)
    else:
        mode = layers.held(core.policy).mode
        core.why = words.waiting_for_inner(core)
    layer = layers.vpn(core.policy, bottom.outer, session)
    stack = layers.outside(
        core.policy, bottom.attachment, bottom.tunnel, layer, internal=tunnel, mode=mode
    )
    core.apply(stack, now)
    # Below an x-MIP layer IPsec does not see the move. On a new link with the address of the old
    # one the way has changed all the same.
    if mobile and was != goes and (bottom.outer != was[2] or not bottom.letter):
        core.outputs.append(MoveVpn(bottom.outer, mobike=mobile == "mobike"))
        core.tell("vpn_moved", f"the VPN moved to {bottom.outer} on {link.interface}")
    return True


def can_carry(core: Core, place: Place) -> bool:
    """Whether the session could go on from another interface now.

    One that cannot move at all comes up anew there: a short gap for the better link.
    """
    session, external = core.vpn.session, core.policy.external
    if session is None:
        return True
    mobile = modes.moves_by(core.policy, core.knowledge, session)
    if not mobile and (external is None or core.vpn.outer != external.home_address):
        return True
    return _bottom(core, place, mobile) is not None


def _bottom(core: Core, place: Place, mobile: str) -> Bottom | None:
    """How the session is carried from an interface; None if it is not, or not yet."""
    own, outer = place.own_address, core.vpn.outer
    insists = place.foothold.by_agent and _external_possible(core, place, mobile)
    if (
        own is not None
        and not insists
        and (own == outer or (mobile and "direct" not in place.failed))
    ):
        direct = modes.direct_plan(core.policy, core.knowledge)
        if own == outer or direct is not None:
            return Bottom("", own, None, place.foothold.attachment(None, direct=True))
    tunnel = place.external_tunnel
    if tunnel is None or not _external_possible(core, place, mobile):
        return None
    return _external_bottom(core, place, tunnel)


def _external_bottom(core: Core, place: Place, tunnel: NodeTunnel) -> Bottom:
    letter = "c" if tunnel.co_located else "f"
    return Bottom(letter, tunnel.home_address, tunnel, _attachment(core, place))


def _external_possible(core: Core, place: Place, mobile: str) -> bool:
    external = core.policy.external
    if external is None or place.external.via(place.foothold) is None:
        return False
    if not mobile and core.vpn.outer != external.home_address:
        return False
    return any(one.external for one in modes.plans(core.policy, place.foothold, core.knowledge))


# -- while it comes up ----------------------------------------------------------------------


def _wait(core: Core, place: Place, now: float) -> bool:
    """IKE is at it; False when it has taken too long or was overtaken by events."""
    vpn, plan = core.vpn, core.vpn.plan
    if plan is None or vpn.outer is None or place.captive:
        core.end_vpn("a captive portal is in the way", now)
        return False
    bottom = _bottom_of_plan(core, place, plan)
    if plan.external:
        overtaken = place.external.silent and bottom is None
        vpn.interface, vpn.generation = place.interface, place.link.generation
    else:
        goes = (place.interface, place.link.generation, vpn.outer)
        overtaken = bottom is None or goes != (vpn.interface, vpn.generation, bottom.outer)
    if overtaken:
        core.end_vpn("the device moved before the VPN was up", now)
        return False
    if core.alarm.reached(vpn.gives_up_at(sooner=place.external.silent)):
        gave_up(core, f"the gateway gave no answer ({plan.name})", now)
        core.end_vpn("no answer in time", now)
        return False
    _suspect(core, place, now)
    core.why = words.connecting(core, plan)
    tunnel = bottom.tunnel if bottom is not None else None
    attachment = bottom.attachment if bottom is not None else _attachment(core, place)
    layer = layers.vpn(core.policy, vpn.outer)
    core.apply(layers.outside(core.policy, attachment, tunnel, layer), now)
    return True


def gave_up(core: Core, reason: str, now: float) -> None:
    """The way that was tried leads nowhere; the next one is taken."""
    vpn = core.vpn
    vpn.last_failure = reason
    place = core.places.get(vpn.interface)
    if place is not None and vpn.plan is not None:
        place.failed.add(vpn.plan.name)
        place.portals.hurry(now)
        others = (one for one in core.ranked() if one is not place and not one.captive)
        if any(now >= one.rest_until for one in others):
            # Another link is tried before another way over this one.
            place.rest_until = now + place.retry.next_s()


def _bottom_of_plan(core: Core, place: Place, plan: Plan) -> Bottom | None:
    if plan.external:
        tunnel = place.external_tunnel
        return None if tunnel is None else _external_bottom(core, place, tunnel)
    own = place.own_address
    if own is None:
        return None
    return Bottom("", own, None, place.foothold.attachment(None, direct=True))


# -- while it is down -----------------------------------------------------------------------


def _start(core: Core, place: Place, now: float) -> None:
    """Take the best way out that has not failed yet."""
    attachment = _attachment(core, place)
    _suspect(core, place, now)
    if place.captive:
        core.hold(words.captive(place), now, attachment)
        return
    if not place.period_over(core.alarm):
        core.hold(words.detecting(core, place), now, attachment)
        return
    if not core.alarm.reached(core.vpn.retry_at):
        core.hold(words.vpn_waits(core), now, attachment)
        return
    if not core.alarm.reached(place.rest_until):
        core.hold(words.resting(core, place), now, attachment)
        return
    ways = modes.plans(core.policy, place.foothold, core.knowledge)
    if place.rest_until:
        place.rest_until = 0.0
        if all(plan.name in place.failed for plan in ways):
            place.failed.clear()
    if not ways:
        core.hold(words.no_way(core, place), now, attachment)
        return
    for plan in ways:
        if plan.name not in place.failed and _try(core, place, plan, now):
            return
    place.rest_until = now + place.retry.next_s()
    core.alarm.want(place.rest_until)
    core.hold(words.resting(core, place), now, attachment)


def _try(core: Core, place: Place, plan: Plan, now: float) -> bool:
    """Begin or go on with a plan; False when it leads nowhere."""
    if plan.external:
        if plan.forced_udp and not _force_udp(place, now):
            place.failed.add(plan.name)
            return False
        if place.external_tunnel is None or not place.external.current:
            if place.external.silent:
                place.failed.add(plan.name)
                return False
            core.hold(words.waiting_for_external(core, place), now, _attachment(core, place))
            return True
    bottom = _bottom_of_plan(core, place, plan)
    if bottom is None:
        place.failed.add(plan.name)
        return False
    link = place.link
    core.vpn.connecting(plan, link.interface, link.generation, bottom.outer, now)
    core.alarm.want(core.vpn.gives_up_at(sooner=place.external.silent))
    core.why = words.connecting(core, plan)
    layer = layers.vpn(core.policy, bottom.outer)
    core.apply(layers.outside(core.policy, bottom.attachment, bottom.tunnel, layer), now)
    internal = core.policy.internal
    core.messages["VPN connections"] += 1
    core.outputs.append(
        ConnectVpn(
            bottom.outer,
            internal.home_address if internal is not None else None,
            plan.vpn_fa,
            plan.endpoint_update,
            plan.mobike,
            plan.tcp,
            place.force_esp_udp and not plan.tcp,
        )
    )
    return True


def _force_udp(place: Place, now: float) -> bool:
    """Make the x-HA's tunnel one in UDP; False when it is, and that did not help."""
    if place.external.forced_udp:
        return True
    tunnel = place.external_tunnel
    if tunnel is None or tunnel.udp_port:
        return False
    place.external.force_udp(now)
    return True


def _suspect(core: Core, place: Place, now: float) -> None:
    """Where nobody answers, look for a captive portal."""
    silent = place.external.silent and not place.external.answered and not place.proof
    # The x-HA may have answered before somebody got in the way: what failed since then counts.
    if (place.failed or place.captive or silent) and place.portals.may_probe(now, core.alarm):
        core.outputs.append(ProbePortal(place.interface))


def _attachment(core: Core, place: Place) -> Attachment | None:
    return place.foothold.attachment(core.policy.external or core.policy.internal)
