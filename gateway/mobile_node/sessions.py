"""What IKE tells: a session came up, could not, or ended; and what the login taught."""

from dataclasses import replace

from gateway.domain.event import Severity
from gateway.domain.mobility_credential import MobilityCredential
from gateway.mip_agents.policy import Algorithm, SecurityAssociation
from gateway.mobile_node import inner, modes, outside
from gateway.mobile_node.core import Core
from gateway.mobile_node.inputs import VpnSession
from gateway.mobile_node.outputs import CloseVpn, KeepCredentials
from gateway.mobile_node.policy import HomeAgentPolicy, NodePolicy
from gateway.mobile_node.registration import RegistrationClient
from gateway.mobile_node.vpn_layer import VpnState

MOBILITY_AGAIN_S = 3600.0
_SELECTORS = ("TS_UNACCEPTABLE", "INVALID_ID_INFORMATION", "traffic selectors", "the child SA")
"""What a refusal of the SA, after the login, has in its text."""
STEADY_S = 60.0
"""A session that lasted so long ended for another reason than the one before."""


def came_up(core: Core, session: VpnSession, now: float) -> None:
    """IKE and a child SA are there, or their terms changed."""
    vpn = core.vpn
    if vpn.state is VpnState.DOWN:
        core.outputs.append(CloseVpn("it is not wanted any more"))
        return
    if vpn.state is VpnState.CONNECTING and _without_mobility(core, session, now):
        return
    vpn.up(session, now)
    vpn.outer = session.outer
    core.tell(
        "vpn_up",
        f"the VPN is up from {session.outer}, inner address {session.inner}",
        outer=str(session.outer),
        inner=str(session.inner),
        suite=session.suite,
    )
    if session.credentials:
        try:
            learn(core, session.credentials)
            core.outputs.append(KeepCredentials(session.credentials))
        except ValueError as problem:
            core.tell(
                "credentials_refused",
                f"what the login taught cannot be used: {problem}; ask your administrator",
                Severity.WARNING,
            )


def _without_mobility(core: Core, session: VpnSession, now: float) -> bool:
    """Whether this way is abandoned for one by the x-HA (draft 001, sections 3.3 and 3.4)."""
    plan = core.vpn.plan
    place = core.places.get(core.vpn.interface)
    if plan is None or plan.name != "direct" or place is None:
        return False
    if modes.moves_by(core.policy, core.knowledge, session):
        return False
    core.knowledge.lacks_mobility = True
    core.knowledge.mobility_again_at = now + MOBILITY_AGAIN_S
    ways = modes.plans(core.policy, place.foothold, core.knowledge)
    if not any(one.external for one in ways) or place.external.silent:
        return False
    core.tell(
        "vpn_without_mobility",
        "the gateway lets no SA follow a moving device: connecting again by the x-HA",
    )
    core.end_vpn("connecting again from the x-HoA", now)
    return True


def failed(core: Core, reason: str, hint: str, refused: bool, now: float) -> None:
    """IKE could not come up."""
    vpn = core.vpn
    if vpn.state is not VpnState.CONNECTING:
        return
    text = f"{reason}; {hint}" if hint else reason
    core.tell("vpn_failed", f"the VPN did not come up: {text}", Severity.WARNING, refused=refused)
    if refused and _refuses_home_address(core, reason):
        # It knows the feature, but has another address for us than the i-HoA.
        inner.without_vpn_fa(core, text, now)
    elif refused:
        # Another way to the same gateway would be refused as well, but perhaps it insists on what
        # was left out.
        core.knowledge.refuses_vpn_fa = ""
        vpn.refusal = text
        vpn.retry_at = now + vpn.refused.next_s()
    else:
        outside.gave_up(core, text, now)
    vpn.down(now)
    core.forget_inner()


def _refuses_home_address(core: Core, reason: str) -> bool:
    plan = core.vpn.plan
    return plan is not None and plan.vpn_fa and any(one in reason for one in _SELECTORS)


def went_down(core: Core, reason: str, now: float) -> None:
    """A session ended that we did not close: perhaps we are somewhere else without knowing."""
    vpn = core.vpn
    if vpn.state is VpnState.DOWN:
        return
    core.tell("vpn_down", f"the VPN ended: {reason}", Severity.WARNING)
    vpn.last_failure = reason
    if now - vpn.since >= STEADY_S:
        core.flaps.reset()
    vpn.retry_at = now + (core.flaps.next_s() if vpn.state is VpnState.UP else 0.0)
    if core.flaps.tries <= 1:
        vpn.retry_at = now
    vpn.down(now)
    core.forget_inner()
    if core.place is not None:
        core.place.begin(now)


def learn(core: Core, credentials: tuple[MobilityCredential, ...]) -> None:
    """Use what the login taught, from the next request on; what stands goes on.

    Raises ValueError for a credential that no request could carry.
    """
    policy = taught(core.policy, credentials)
    if policy == core.policy:
        return
    _check(policy)
    for layer in (policy.internal, policy.external):
        if layer is not None:
            # What no client can use changes nothing.
            RegistrationClient(layer, random=core.random, wall_clock=core.wall_clock)
    before, core.policy = core.policy, policy
    for place in core.places.values():
        place.teach(policy)
    if core.inner is None or before.internal is None or policy.internal is None:
        core.new_inner()
    elif _another_home(before.internal, policy.internal):
        core.forget_inner()
        core.new_inner()
    else:
        core.inner.change_policy(policy.internal)


def _check(policy: NodePolicy) -> None:
    """An i-HA that can be reached from outside would prove nothing (draft 001, section 4.1)."""
    internal = policy.internal
    if internal is None:
        return
    for other, name in ((policy.external, "x-HA"), (policy.vpn, "gateway")):
        if other is None:
            continue
        address = other.home_agent if isinstance(other, HomeAgentPolicy) else other.gateway
        if address == internal.home_agent:
            raise ValueError(
                f"the i-HA has the address {address} of the {name}, which is outside; "
                "give the i-HA one that only the inside reaches"
            )


def taught(policy: NodePolicy, credentials: tuple[MobilityCredential, ...]) -> NodePolicy:
    """The policy with the home agents that the gateway granted."""
    for credential in credentials:
        grant = credential.grant
        before = policy.internal if grant.inside else policy.external
        association = SecurityAssociation(credential.spi, credential.key, Algorithm.HMAC_SHA256)
        if before is None:
            layer = HomeAgentPolicy(
                grant.home_agent,
                grant.home_address,
                grant.home_network,
                association,
                credential.ticket,
            )
        else:
            layer = replace(
                before,
                home_agent=grant.home_agent,
                home_address=grant.home_address,
                home_network=grant.home_network,
                association=association,
                ticket=credential.ticket,
            )
        policy = (
            replace(policy, internal=layer) if grant.inside else replace(policy, external=layer)
        )
    return policy


def _another_home(before: HomeAgentPolicy, after: HomeAgentPolicy) -> bool:
    return (before.home_agent, before.home_address) != (after.home_agent, after.home_address)
