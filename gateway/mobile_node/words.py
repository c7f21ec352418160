"""Why the node is as it is, and what to do about it, in one sentence each."""

from gateway.domain.access_mode import AccessMode
from gateway.mobile_node import modes
from gateway.mobile_node.core import Core
from gateway.mobile_node.detection import Place
from gateway.mobile_node.modes import Plan


def no_link(core: Core) -> str:
    """Nothing to send on."""
    if not core.places:
        if core.policy.interfaces:
            return f"no interface fits {', '.join(core.policy.interfaces)}; plug one in"
        return "there is no network interface; plug a cable in or join a wireless network"
    if any(place.link.carrier for place in core.places.values()):
        return "connected, but without an address; waiting for DHCP or a foreign agent"
    return "no interface is connected; plug a cable in or join a wireless network"


def no_vpn(core: Core, place: Place) -> str:
    """Only the inside would do."""
    if core.policy.internal is None:
        return "the profile names neither a gateway nor an i-HA; add one"
    return (
        f"{_inside(core, place)}, and the profile has no VPN gateway; "
        "connect to the internal network, or add a gateway"
    )


def detecting(core: Core, place: Place) -> str:
    """The i-HA has its chance."""
    agent = core.policy.internal.home_agent if core.policy.internal is not None else ""
    if place.external.answered:
        return f"the x-HA answered through {place.interface}; waiting a moment for the i-HA {agent}"
    return f"asking the i-HA {agent} through {place.interface} whether this is the inside"


def captive(place: Place) -> str:
    """Somebody wants to see a page first."""
    return (
        f"{place.interface} wants a login: run `gateway mn portal`, "
        "and log in at the network's page"
    )


def connecting(core: Core, plan: Plan) -> str:
    """IKE is at it."""
    gateway = core.policy.vpn.gateway if core.policy.vpn is not None else ""
    way = {"direct": "", "TCP": " over TCP", "without mobility": ""}.get(
        plan.name, f" by the {plan.name}"
    )
    return f"connecting to the gateway {gateway}{way}"


def waiting_for_external(core: Core, place: Place) -> str:
    """No x-HoA, no IKE."""
    agent = core.policy.external.home_agent if core.policy.external is not None else ""
    if place.external.denial:
        return f"the x-HA {agent} refuses: {place.external.denial}"
    return f"registering with the x-HA {agent} through {place.interface}"


def waiting_for_inner(core: Core) -> str:
    """The VPN is up, the i-HoA does not lead here yet."""
    agent = core.policy.internal.home_agent if core.policy.internal is not None else ""
    if core.inner_denial:
        return f"the VPN is up, but the i-HA {agent} refuses: {core.inner_denial}"
    if core.inner_silent:
        return (
            f"the VPN is up, but the i-HA {agent} gives no answer through it; it is asked again, "
            "ask the administrator whether it runs"
        )
    return f"the VPN is up; registering with the i-HA {agent} through it"


def vpn_waits(core: Core) -> str:
    """A later try."""
    if core.vpn.refusal:
        return f"the gateway refuses: {core.vpn.refusal}; it is tried again later"
    return f"the VPN ended ({core.vpn.last_failure}); connecting again in a moment"


def resting(core: Core, place: Place) -> str:
    """Every way was tried."""
    vpn = core.vpn
    reason = place.external.denial or vpn.last_failure or "nobody answers"
    return (
        f"no way out through {place.interface} ({reason}); it is tried again in a moment, "
        "or use another network"
    )


def no_way(core: Core, place: Place) -> str:
    """The profile leaves nothing to try here."""
    if place.own_address is None and core.policy.external is None:
        return (
            f"{place.interface} has only a foreign agent, and the profile has no x-HA; "
            "use a network that gives an address"
        )
    return "no access mode that the profile allows works here; allow more of them"


def locked() -> str:
    """The user has to do something."""
    return "locked: nothing is connected; unlock with the password"


def outside(core: Core, place: Place, mode: AccessMode, mobile: str) -> str:
    """A working mode outside, and why no better one."""
    parts = [_inside(core, place)]
    better = _no_better(core, place, mode, mobile)
    if better:
        parts.append(better)
    return "; ".join(parts)


def _inside(core: Core, place: Place) -> str:
    agent = core.policy.internal.home_agent if core.policy.internal is not None else None
    if agent is None:
        return f"outside through {place.interface}: the profile has no i-HA"
    if place.denial:
        return f"not inside: the i-HA {agent} refuses directly ({place.denial})"
    if place.external.answered:
        return f"outside: the x-HA answered through {place.interface}, the i-HA {agent} did not"
    return f"outside: the i-HA {agent} did not answer through {place.interface}"


def _no_better(core: Core, place: Place, mode: AccessMode, mobile: str) -> str:
    """What stands in the way of the mode before this one in the order of preference."""
    session, vpn, plan = core.vpn.session, core.policy.vpn, core.vpn.plan
    if session is None or vpn is None or plan is None:
        return ""
    if session.tcp:
        return "over TCP, because UDP got no answer; a move ends the session"
    reasons = []
    if mode in (AccessMode.VC, AccessMode.MC, AccessMode.CVC, AccessMode.FVC):
        reasons.append(_no_vpn_fa(core))
    if mode in (AccessMode.VC, AccessMode.VF, AccessMode.V) and not mobile:
        reasons.append(_immobile(core, place))
    if mode in (AccessMode.CVC, AccessMode.CVF):
        if core.knowledge.lacks_mobility or not mobile:
            reasons.append("the gateway has neither endpoint update nor MOBIKE, so by the x-HA")
        elif modes.direct_plan(core.policy, core.knowledge) is None:
            reasons.append("the profile wants the x-HA")
        else:
            reasons.append("the gateway gave no answer directly, so by the x-HA")
    if mode in (AccessMode.FVC, AccessMode.FVF):
        reasons.append("this network has only a foreign agent, so by the x-HA")
    return "; ".join(one for one in reasons if one)


def _no_vpn_fa(core: Core) -> str:
    vpn = core.policy.vpn
    if vpn is not None and not vpn.vpn_fa:
        return "the profile does not want the gateway's foreign agent"
    if core.knowledge.refuses_vpn_fa:
        return f"not by the gateway's foreign agent: {core.knowledge.refuses_vpn_fa}"
    return "the gateway offers no foreign agent"


def _immobile(core: Core, place: Place) -> str:
    text = "the gateway has neither endpoint update nor MOBIKE"
    if core.policy.external is None:
        return f"{text}, and the profile has no x-HA: a move ends the session and connects again"
    if place.external.silent:
        return f"{text}, and the x-HA gives no answer: a move ends the session"
    return f"{text}: a move ends the session and connects again"
