"""Log lines of a registration."""

from gateway.domain.event import Event, Severity
from gateway.mobile_node.policy import HomeAgentPolicy
from gateway.mobile_node.registering.outcome import Accepted, Denied, EndReason, GaveUp, Via

LINES_PER_ATTEMPT = 5
"""Of discarded answers: whoever floods us does not fill the log."""


def _fields(policy: HomeAgentPolicy, via: Via) -> dict[str, object]:
    return {
        "home_agent": str(policy.home_agent),
        "home_address": str(policy.home_address),
        "care_of_address": str(via.care_of_address),
        "interface": via.interface or "",
        "through_vpn": via.interface is None,
        "foreign_agent": "" if via.destination == policy.home_agent else str(via.destination),
    }


def _where(via: Via) -> str:
    return f"{via.care_of_address} on {via.interface or 'the VPN'}"


def accepted(policy: HomeAgentPolicy, outcome: Accepted) -> Event:
    """Registered, renewed or deregistered."""
    tunnel = outcome.tunnel
    fields = _fields(policy, outcome.via) | {
        "lifetime_s": outcome.lifetime_s,
        "code": outcome.code,
        "renewed": outcome.renewed,
        "nat": outcome.natted,
        "udp": outcome.udp,
        "zero_overhead": str(tunnel.zero_overhead or ""),
        "encapsulation": tunnel.encapsulation.value,
    }
    severity = Severity.DEBUG if outcome.renewed else Severity.INFO
    if outcome.deregistered:
        text = f"deregistered {_where(outcome.via)} from home agent {policy.home_agent}"
        return Event("deregistered", text, severity, fields)
    lasting = "for ever" if outcome.lifetime_s == 0xFFFF else f"for {outcome.lifetime_s} s"
    how = [tunnel.encapsulation.value]
    if outcome.udp:
        how.append("in UDP, behind a NAT" if outcome.natted else "in UDP")
    if outcome.zero_overhead:
        how.append(f"zero overhead to {tunnel.zero_overhead}")
    text = (
        f"{'renewed' if outcome.renewed else 'registered'} {_where(outcome.via)} with home agent"
        f" {policy.home_agent} {lasting}, {', '.join(how)}"
    )
    return Event("registered", text, severity, fields)


def denied(policy: HomeAgentPolicy, outcome: Denied) -> Event:
    """Somebody refuses."""
    who = "a foreign agent" if outcome.by_foreign_agent else f"home agent {policy.home_agent}"
    sure = "" if outcome.authentic else ", without a proof"
    text = (
        f"{who} denies {_where(outcome.via)} with code {outcome.code}{sure}:"
        f" {outcome.text}; {outcome.hint}"
    )
    fields = _fields(policy, outcome.via) | {
        "code": outcome.code,
        "authentic": outcome.authentic,
        "final": outcome.final,
        "hint": outcome.hint,
    }
    return Event("registration_denied", text, Severity.WARNING, fields)


def retried(policy: HomeAgentPolicy, via: Via, code: int, what: str) -> Event:
    """A denial that leaves something open."""
    text = f"code {code} for {_where(via)}: {what}"
    return Event(
        "registration_retried", text, Severity.DEBUG, _fields(policy, via) | {"code": code}
    )


def gave_up(policy: HomeAgentPolicy, outcome: GaveUp) -> Event:
    """Nobody answered."""
    text = (
        f"home agent {policy.home_agent} does not answer {_where(outcome.via)};"
        f" {outcome.sent} requests were sent"
    )
    fields = _fields(policy, outcome.via) | {
        "sent": outcome.sent,
        "deregistering": outcome.deregistering,
    }
    return Event("registration_gave_up", text, Severity.INFO, fields)


def ended(policy: HomeAgentPolicy, via: Via, reason: EndReason) -> Event:
    """A registration is no more."""
    text = (
        f"the registration of {_where(via)} with home agent {policy.home_agent} has ended:"
        f" {reason.value}"
    )
    fields = _fields(policy, via) | {"reason": reason.name.lower()}
    return Event("registration_ended", text, Severity.WARNING, fields)


def discarded(policy: HomeAgentPolicy, source: str, why: str, *, logged: bool) -> Event:
    """An answer that is not believed."""
    text = f"discarded an answer from {source} about home agent {policy.home_agent}: {why}"
    fields: dict[str, object] = {
        "home_agent": str(policy.home_agent),
        "home_address": str(policy.home_address),
        "source": source,
        "reason": why,
    }
    return Event("registration_answer_discarded", text, Severity.INFO, fields, logged)
