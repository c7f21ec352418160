"""From a grant to the registration that is remembered, and to the outcome that is told."""

from ipaddress import IPv4Address

from gateway.dataplane.node import NodeTunnel
from gateway.mobile_node.policy import HomeAgentPolicy
from gateway.mobile_node.registering.answers import Answer
from gateway.mobile_node.registering.attempt import Registration, Sent
from gateway.mobile_node.registering.grant import Grant
from gateway.mobile_node.registering.outcome import Accepted, Denied


def registration(
    answer: Answer, grant: Grant, before: Registration | None, now: float
) -> Registration:
    """What is there from now on; ``before`` is what was there."""
    sent = answer.sent
    return Registration(
        sent.via,
        sent.wish,
        answer.challenge or sent.wish.challenge,
        grant.tunnel,
        grant.lifetime_s,
        sent.sent_at,
        before.since if before is not None and _same_place(before, sent) else now,
        sent.attempt.retransmission,
        grant.natted,
        grant.keepalive_s,
    )


def accepted(answer: Answer, grant: Grant, before: Registration | None) -> Accepted:
    """A registration."""
    sent, tunnel = answer.sent, grant.tunnel
    return Accepted(
        sent.via,
        tunnel,
        grant.lifetime_s,
        sent.sent_at,
        natted=grant.natted,
        udp=bool(tunnel.udp_port),
        zero_overhead=tunnel.zero_overhead is not None,
        renewed=before is not None and _same_place(before, sent) and before.tunnel == tunnel,
        revocable=grant.revocation_timestamp is not None,
        code=answer.code,
    )


def deregistered(
    policy: HomeAgentPolicy, sent: Sent, ended: Registration | None, *, again: bool
) -> Accepted:
    """A deregistration; ``ended`` is what was ours of it."""
    via = sent.via
    tunnel = NodeTunnel(policy.home_address, policy.home_agent, via.care_of_address, via.co_located)
    return Accepted(
        via,
        tunnel if ended is None else ended.tunnel,
        0,
        sent.sent_at,
        deregistered=True,
        renewed=again,
    )


def denied(answer: Answer) -> Denied:
    """A denial."""
    return Denied(
        answer.code,
        answer.text,
        answer.hint,
        answer.by_foreign_agent,
        answer.authentic,
        answer.final,
        answer.sent.via,
    )


def ends(registration: Registration, care_of_address: IPv4Address, home: IPv4Address) -> bool:
    """Whether deregistering that address ends it; the home address stands for all."""
    return care_of_address in (home, registration.via.care_of_address)


def _same_place(before: Registration, sent: Sent) -> bool:
    return before.via.attachment == sent.via.attachment
