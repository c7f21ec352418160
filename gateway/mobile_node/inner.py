"""i-MIP through the VPN: by VPN-TIA, or by the foreign agent in the gateway (appendix B)."""

from gateway.dataplane.node import NodeTunnel
from gateway.mip_agents.codec.codes import ReplyCode
from gateway.mobile_node.attaching import vpn_care_of_address, vpn_via
from gateway.mobile_node.core import Core
from gateway.mobile_node.registering.outcome import (
    Accepted,
    Denied,
    Ended,
    GaveUp,
    Outcome,
    Retransmission,
)

THROUGH_VPN = Retransmission(1.0, 2.0, 4.0, give_up_s=10.0)
DENIED_S = 60.0
VPN_FA_AGAIN_S = 300.0
"""A gateway's foreign agent that failed is not asked for in this time."""
SILENCES = 2
"""Attempts without any answer, not even the foreign agent's own, until it is given up."""
_HOME_AGENT_SILENT = frozenset(
    {
        ReplyCode.FA_REGISTRATION_TIMEOUT,
        ReplyCode.FA_HOME_NETWORK_UNREACHABLE,
        ReplyCode.FA_HOME_AGENT_HOST_UNREACHABLE,
        ReplyCode.FA_HOME_AGENT_PORT_UNREACHABLE,
        ReplyCode.FA_HOME_AGENT_UNREACHABLE,
    }
)
"""The foreign agent is well, but the home agent or its network does not answer (RFC 5944 3.4)."""


def carry(core: Core, now: float) -> NodeTunnel | None:
    """Register what the VPN gave us if that is not done; the tunnel once it is."""
    client, session, internal = core.inner, core.vpn.session, core.policy.internal
    if client is None or session is None or internal is None:
        return None
    if session.vpn_fa and vpn_care_of_address(session) is None:
        without_vpn_fa(core, "its foreign agent advertisement is of no use", now)
        return None
    via = vpn_via(internal, session)
    if via != core.inner_via:
        if core.inner_via is not None:
            client.stop()
        core.inner_via, core.inner_current, core.inner_retry_at = via, False, now
    if client.trying or (core.inner_current and not core.inner_silent):
        return client.tunnel if core.inner_current else None
    if core.alarm.reached(core.inner_retry_at):
        # Also a renewal that nobody answered: what stands is not left to run out.
        client.register(via, now, retransmission=THROUGH_VPN)
    return client.tunnel if core.inner_current else None


def confirm(core: Core, now: float) -> None:
    """A request sent elsewhere may have moved the binding: bring it back."""
    if core.inner is not None and core.inner_current and not core.inner.trying:
        core.inner.renew(now, THROUGH_VPN)


def hear(core: Core, outcome: Outcome, now: float) -> None:
    """What came of registering through the VPN."""
    if isinstance(outcome, Accepted):
        if not outcome.deregistered:
            core.inner_current, core.inner_silent, core.inner_denial = True, False, ""
            core.inner_relayed = False
            core.inner_retry.reset()
            if core.place is not None:
                core.place.retry.reset()
    elif isinstance(outcome, Denied):
        _denied(core, outcome, now)
    elif isinstance(outcome, GaveUp) and not outcome.deregistering:
        _silent(core, now)
    elif isinstance(outcome, Ended):
        core.inner_current, core.inner_retry_at = False, now


def _denied(core: Core, denied: Denied, now: float) -> None:
    session = core.vpn.session
    if denied.by_foreign_agent and denied.code in _HOME_AGENT_SILENT:
        core.inner_silent = core.inner_relayed = True
        return
    core.inner_denial = f"{denied.text}; {denied.hint}" if denied.hint else denied.text
    # What the gateway's foreign agent says came through the VPN: it needs no other proof.
    if session is not None and session.vpn_fa and (denied.final or denied.by_foreign_agent):
        without_vpn_fa(core, denied.text, now)
    elif denied.final:
        core.inner_current = False
        core.inner_retry_at = now + max(DENIED_S, core.inner_retry.next_s())


def _silent(core: Core, now: float) -> None:
    """Nobody answers through a VPN that is up: perhaps only IKE passes, and ESP does not."""
    session, place = core.vpn.session, core.place
    core.inner_silent = True
    core.inner_retry_at = now + core.inner_retry.next_s()
    if session is None or place is None or core.inner_current or core.inner_relayed:
        return
    if not session.encapsulated and not session.tcp and not place.force_esp_udp:
        place.force_esp_udp = True
        core.end_vpn("nothing comes through: again with ESP in UDP", now)
    elif session.vpn_fa and core.inner_retry.tries >= SILENCES:
        without_vpn_fa(core, "the i-HA gave no answer through it", now)


def without_vpn_fa(core: Core, reason: str, now: float) -> None:
    """Connect again with a VPN-TIA (fallback of draft 001, section 3)."""
    core.knowledge.refuses_vpn_fa = reason
    core.knowledge.vpn_fa_again_at = now + VPN_FA_AGAIN_S
    core.tell("vpn_fa_refused", f"without the gateway's foreign agent from now on: {reason}")
    core.end_vpn("connecting again without its foreign agent", now)
