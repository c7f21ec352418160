"""Which way out is tried, in which order, and which access mode it makes (draft 001, section 3)."""

from dataclasses import dataclass

from gateway.domain.access_mode import AccessMode
from gateway.mobile_node.attaching import Foothold
from gateway.mobile_node.inputs import VpnSession
from gateway.mobile_node.policy import NodePolicy


@dataclass(slots=True)
class Knowledge:
    """What the gateway taught us; forgotten with a new profile."""

    lacks_mobility: bool = False
    """It knows neither endpoint update nor MOBIKE, or does not let us use them."""
    refuses_vpn_fa: str = ""
    """Why a registration by its foreign agent failed; empty if none did."""
    vpn_fa_again_at: float = 0.0
    mobility_again_at: float = 0.0
    """What was true once is not taken for true for ever."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One way to the gateway."""

    name: str
    external: str = ""
    """The x-MIP layer below IPsec: "c", "f" or none."""
    vpn_fa: bool = False
    endpoint_update: bool = False
    mobike: bool = False
    tcp: bool = False
    forced_udp: bool = False
    """The x-MIP layer in UDP even where no NAT is seen."""


def allows(policy: NodePolicy, mode: AccessMode) -> bool:
    """Whether the profile allows a mode."""
    return not policy.modes or mode.value in policy.modes


def plans(policy: NodePolicy, foothold: Foothold, knowledge: Knowledge) -> list[Plan]:
    """The ways out from a link, the best one first.

    Directly to the gateway where it lets SAs move; by the x-HA otherwise; directly without
    mobility, and at last over TCP, rather than not at all.
    """
    vpn = policy.vpn
    if vpn is None:
        return []
    found: list[Plan] = []
    fa = vpn.vpn_fa and policy.internal is not None and not knowledge.refuses_vpn_fa
    direct = direct_plan(policy, knowledge)
    own = foothold.own_address is not None
    letter = "f" if foothold.by_agent else "c"
    straight = [direct] if own and direct is not None and not knowledge.lacks_mobility else []
    if letter == "c":
        found += straight
    if policy.external is not None and _external_allowed(policy, letter):
        vpn_fa = fa and allows(policy, _EXTERNAL_FA[letter])
        if letter == "c":
            found.append(Plan("x-HA", letter, vpn_fa))
            found.append(Plan("x-HA in UDP", letter, vpn_fa, forced_udp=True))
        else:
            # A session that begins here may go on where there is an address of our own.
            mobile = direct if direct is not None and not knowledge.lacks_mobility else Plan("")
            update, mobike = mobile.endpoint_update, mobile.mobike
            found.append(Plan("x-HA", letter, vpn_fa, update, mobike))
    if letter == "f":
        # An agent that insists on registrations lets others pass only by grace.
        found += straight
    # The draft's fallback is the x-HA; without one, or if it is down, a session that ends with
    # the next move is still better than none.
    if own and (knowledge.lacks_mobility or direct is None) and _direct_allowed(policy):
        vpn_fa = fa and allows(policy, AccessMode.VF)
        found.append(Plan("without mobility", vpn_fa=vpn_fa))
    if own and vpn.tcp and _direct_allowed(policy):
        vpn_fa = fa and allows(policy, AccessMode.VF)
        found.append(Plan("TCP", vpn_fa=vpn_fa, tcp=True))
    return found


def direct_plan(policy: NodePolicy, knowledge: Knowledge) -> Plan | None:
    """Straight from the care-of address, with an SA that can move; None if that is not allowed."""
    vpn = policy.vpn
    if vpn is None:
        return None
    fa = vpn.vpn_fa and policy.internal is not None and not knowledge.refuses_vpn_fa
    vf = fa and allows(policy, AccessMode.VF)
    if policy.internal is None:
        update = vpn.endpoint_update and allows(policy, AccessMode.V)
        mobike = vpn.mobike and allows(policy, AccessMode.V)
    else:
        update = vpn.endpoint_update and (vf or allows(policy, AccessMode.VC))
        mobike = vpn.mobike and (vf or allows(policy, AccessMode.MC))
    if not update and not mobike:
        return None
    return Plan("direct", vpn_fa=vf, endpoint_update=update, mobike=mobike)


def moves_by(policy: NodePolicy, knowledge: Knowledge, session: VpnSession) -> str:
    """How the session follows us: "update", "mobike", or "" if it does not."""
    plan = direct_plan(policy, knowledge)
    vpn = policy.vpn
    if session.tcp or vpn is None:
        return ""
    # A session that came up by the x-HA may move as well; the profile decides, not the way.
    if session.endpoint_update and vpn.endpoint_update and (plan is None or plan.endpoint_update):
        return "update"
    if session.mobike and vpn.mobike and (plan is None or plan.mobike):
        return "mobike"
    return ""


def mode_of(
    policy: NodePolicy, external: str, session: VpnSession, *, mobile: str, by_agent: bool
) -> AccessMode:
    """The access mode of a session above an x-MIP layer, or none.

    ``by_agent``: i-MIP's care-of address is the VPN-CoA; ``mobile`` as of :func:`moves_by`.
    """
    if policy.internal is None:
        return AccessMode.V
    if external:
        return _EXTERNAL_FA[external] if by_agent else _EXTERNAL[external]
    if by_agent and session.vpn_fa:
        return AccessMode.VF
    return AccessMode.MC if mobile == "mobike" else AccessMode.VC


_EXTERNAL = {"c": AccessMode.CVC, "f": AccessMode.FVC}
_EXTERNAL_FA = {"c": AccessMode.CVF, "f": AccessMode.FVF}


def _external_allowed(policy: NodePolicy, letter: str) -> bool:
    if policy.internal is None:
        return allows(policy, AccessMode.V)
    return allows(policy, _EXTERNAL[letter]) or allows(policy, _EXTERNAL_FA[letter])


def _direct_allowed(policy: NodePolicy) -> bool:
    if policy.internal is None:
        return allows(policy, AccessMode.V)
    return any(allows(policy, one) for one in (AccessMode.VF, AccessMode.VC))


def inside_allowed(policy: NodePolicy, foothold: Foothold, *, home: bool) -> bool:
    """Whether the profile allows the mode that an answer of the i-HA here would make."""
    return allows(policy, inside_mode(foothold, home=home))


def inside_mode(foothold: Foothold, *, home: bool) -> AccessMode:
    """The access mode of a link that is proven to be inside."""
    if home:
        return AccessMode.HOME
    return AccessMode.F if foothold.by_agent else AccessMode.C
