"""Replies to mobile nodes: those of ours, and those of home agents that are passed on."""

from gateway.domain.endpoint import Path
from gateway.domain.event import Severity
from gateway.mip_agents.authentication import sign
from gateway.mip_agents.codec.codes import ReplyCode
from gateway.mip_agents.codec.extensions import AuthenticationKind, Challenge
from gateway.mip_agents.codec.registration import RegistrationReply, RegistrationRequest
from gateway.mip_agents.foreign_agent.core import Core
from gateway.mip_agents.foreign_agent.pending import Pending
from gateway.mip_agents.foreign_agent.refusal import Denied
from gateway.mip_agents.outputs import Transmit


def deny(core: Core, pending: Pending, denied: Denied, now: float) -> None:
    """Tell the mobile node that we refuse its registration (RFC 5944 section 3.7.2.3)."""
    request = pending.request
    reply = RegistrationReply(
        denied.code,
        denied.lifetime_s,
        request.home_address,
        request.home_agent,
        request.identification,
    )
    send(core, pending, reply.serialize())
    pending.told = True
    core.counters[code_name(denied.code)] += 1
    tell_denied(core, pending, denied, now)


def send(core: Core, pending: Pending, octets: bytes) -> None:
    """Send a reply where the mobile node waits for it.

    A new challenge and our authenticator go behind what is there (RFC 4721 section 3.3,
    RFC 5944 section 3.7.3.2).
    """
    if core.policy.challenge and not core.policy.through_vpn:
        octets += Challenge(core.challenges.give(pending.challenged)).serialize()
    if pending.association is not None:
        octets = sign(octets, AuthenticationKind.MOBILE_FOREIGN, pending.association)
    # By its interface, always: no route leads to a node that is no visitor (yet, or any more).
    core.outputs.append(Transmit(octets, Path(pending.local, pending.remote), pending.link))


def tell_denied(core: Core, pending: Pending, denied: Denied, now: float) -> None:
    """One event for a registration that came to nothing, whoever refused it."""
    request = pending.request
    node = name_of(request, pending.nai)
    text = f"{node} cannot register with home agent {request.home_agent} here: {denied.reason}"
    if denied.hint:
        text = f"{text}; {denied.hint}"
    core.tell(
        "visitor_denied",
        now,
        f"foreign agent {core.policy.name}: {text}",
        Severity.WARNING,
        home_agent=str(request.home_agent),
        home_address=str(request.home_address),
        node=pending.nai or str(request.home_address),
        nai=pending.nai,
        source=str(pending.remote),
        care_of_address=str(request.care_of_address),
        link_address=pending.link.address.hex(":"),
        code=int(denied.code),
        code_name=code_name(denied.code),
        reason=denied.reason,
        hint=denied.hint,
    )


def name_of(request: RegistrationRequest, nai: str) -> str:
    """What people call the node by."""
    if int(request.home_address) == 0:
        return nai or "a node without home address"
    return f"{nai} ({request.home_address})" if nai else str(request.home_address)


def code_name(code: int) -> str:
    """The name of a reply code in counters and events."""
    return _NAMES.get(code, f"code_{code}")


_NAMES = {int(code): code.name.lower() for code in ReplyCode}
