"""Judges registration replies: whose they are, what proves them, what they come to.

Nothing is believed before identification, home agent, home address and authenticator are right
(RFC 5944 section 3.6.2.1). A denial without authenticator may be a foreign agent's, which has no
key in common with us, or anybody's.
"""

from dataclasses import dataclass, replace

from gateway.domain.endpoint import Endpoint
from gateway.domain.wire import WireError
from gateway.mip_agents.authentication import verify
from gateway.mip_agents.codec.advice import advice
from gateway.mip_agents.codec.codes import FIRST_DENIAL, ReplyCode, describe
from gateway.mip_agents.codec.extensions import (
    Authentication,
    AuthenticationKind,
    UnknownExtensionError,
)
from gateway.mip_agents.codec.registration import RegistrationReply
from gateway.mip_agents.policy import ReplayProtection
from gateway.mobile_node.policy import HomeAgentPolicy
from gateway.mobile_node.registering.attempt import NEVER, Outstanding, Sent
from gateway.mobile_node.registering.grant import Grant, Unfit, read_grant
from gateway.mobile_node.registering.identification import Identifications
from gateway.mobile_node.registering.remedy import (
    TRANSIENT,
    by_foreign_agent,
    next_challenge,
    remedy,
)
from gateway.mobile_node.registering.request import Wish, direct

_ACCEPTED = (ReplyCode.ACCEPTED, ReplyCode.ACCEPTED_NO_SIMULTANEOUS)

_NOT_OUR_TIME = (
    "its identification is another request's; if this lasts, the home agent takes nonces: set"
    " replay to nonces"
)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a reply comes to."""

    sent: Sent
    code: int = 0
    discarded: str = ""
    """Why it is not believed; nothing else counts then."""
    granted: Grant | None = None
    deregistered: bool = False
    challenge: bytes = b""
    """The foreign agent's next."""
    authentic: bool = False
    by_foreign_agent: bool = False
    final: bool = False
    text: str = ""
    hint: str = ""
    remedy: Wish | None = None
    """What may be asked for instead."""
    resynchronise: int | None = None
    """Identification field that tells the home agent's clock or nonce."""
    seconds_off: float = NEVER
    """How wrong our clock is by that."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Of whom, and what is not answered yet."""

    policy: HomeAgentPolicy
    outstanding: Outstanding
    identifications: Identifications


def judge(
    octets: bytes, source: Endpoint, interface: str | None, asked: Asked, now: float
) -> Answer | None:
    """What a registration reply comes to; None if it answers nothing that was sent here."""
    policy, outstanding = asked.policy, asked.outstanding
    try:
        reply = RegistrationReply.parse(octets)
    except UnknownExtensionError as problem:
        return _unreadable(octets, policy, outstanding, now, str(problem))
    except WireError:
        return None
    sent = _match(reply, policy, outstanding, now)
    if sent is None:
        return None
    if interface not in ("", sent.via.interface):
        where = "the VPN" if interface is None else interface
        return Answer(sent, discarded=f"it came over {where}, where nothing was asked")
    proofs = reply.authentications(AuthenticationKind.MOBILE_HOME)
    if not proofs:
        return _unproven(reply, source, policy, sent)
    if len(proofs) > 1 or not verify(octets, proofs[0], sent.association):
        return Answer(sent, discarded="its authenticator is wrong")
    return _proven(reply, proofs[0], policy, sent, asked.identifications)


def _match(
    reply: RegistrationReply, policy: HomeAgentPolicy, outstanding: Outstanding, now: float
) -> Sent | None:
    if reply.home_address != policy.home_address:
        return None
    # Who is not the home agent that was asked says who it is (RFC 5944 section 3.4, code 136).
    same = reply.home_agent == policy.home_agent or reply.code == ReplyCode.HA_UNKNOWN_HOME_AGENT
    return outstanding.find(reply.identification, now) if same else None


def _unreadable(
    octets: bytes, policy: HomeAgentPolicy, outstanding: Outstanding, now: float, why: str
) -> Answer | None:
    """A reply that has to be discarded as a whole; whose it is, its fixed part tells."""
    sent = _match(RegistrationReply.parse(octets[:20]), policy, outstanding, now)
    return None if sent is None else Answer(sent, discarded=why)


def _unproven(
    reply: RegistrationReply, source: Endpoint, policy: HomeAgentPolicy, sent: Sent
) -> Answer:
    via = sent.via
    if reply.code < FIRST_DENIAL:
        return Answer(sent, discarded="it accepts without a proof")
    if source.address != via.destination and not via.destination.is_multicast:
        return Answer(sent, discarded=f"it comes from elsewhere than {via.destination}")
    foreign = by_foreign_agent(reply.code)
    if foreign and direct(policy, via):
        return Answer(sent, discarded="it is a foreign agent's, and there is none")
    if reply.home_agent != policy.home_agent:
        return Answer(sent, discarded=f"it is of home agent {reply.home_agent}, unproven")
    return Answer(
        sent,
        reply.code,
        by_foreign_agent=foreign,
        text=describe(reply.code),
        hint=advice(reply.code),
        remedy=remedy(reply, sent.wish) if foreign else None,
        challenge=next_challenge(reply, sent.wish.challenge),
    )


def _proven(
    reply: RegistrationReply,
    proof: Authentication,
    policy: HomeAgentPolicy,
    sent: Sent,
    identifications: Identifications,
) -> Answer:
    accepted = reply.code in _ACCEPTED
    if not identifications.matches(sent.identification, reply.identification, accepted=accepted):
        return Answer(sent, discarded=_NOT_OUR_TIME)
    # Any proven reply gives out the next nonce, a denial too.
    identifications.learn(reply.identification)
    if accepted:
        return _accepted(reply, proof, policy, sent)
    if reply.code < FIRST_DENIAL:
        return Answer(sent, discarded=f"code {reply.code} is not known here")
    return _denied(reply, policy, sent, identifications)


def _accepted(
    reply: RegistrationReply, proof: Authentication, policy: HomeAgentPolicy, sent: Sent
) -> Answer:
    challenge = next_challenge(reply, sent.wish.challenge)
    if sent.attempt.deregisters:
        return Answer(sent, reply.code, deregistered=True, challenge=challenge)
    found = read_grant(reply, proof, policy, sent.via, sent.wish)
    if isinstance(found, Grant):
        return Answer(sent, reply.code, granted=found, challenge=challenge, authentic=True)
    return _unfit(found, reply, sent)


def _unfit(found: Unfit, reply: RegistrationReply, sent: Sent) -> Answer:
    if not (found.switching and sent.wish.zero_overhead is not None):
        return Answer(sent, discarded=found.why)
    # The home agent switches addresses now that we would not: another request ends that.
    return Answer(
        sent,
        reply.code,
        authentic=True,
        text=found.why,
        hint="switch zero overhead off for this home agent",
        remedy=replace(sent.wish, zero_overhead=None),
    )


def _denied(
    reply: RegistrationReply,
    policy: HomeAgentPolicy,
    sent: Sent,
    identifications: Identifications,
) -> Answer:
    code = reply.code
    mismatch = code == ReplyCode.HA_IDENTIFICATION_MISMATCH
    hint = advice(code)
    if code == ReplyCode.HA_UNKNOWN_HOME_AGENT and reply.home_agent != policy.home_agent:
        hint = f"the home agent that answered is {reply.home_agent}: enter that in the profile"
    seconds_off = NEVER
    if mismatch and sent.association.replay is ReplayProtection.TIMESTAMPS:
        seconds_off = identifications.seconds_off(sent.identification, reply.identification)
    return Answer(
        sent,
        code,
        authentic=True,
        by_foreign_agent=by_foreign_agent(code),
        final=code not in TRANSIENT,
        text=describe(code),
        hint=hint,
        remedy=remedy(reply, sent.wish),
        challenge=next_challenge(reply, sent.wish.challenge),
        resynchronise=reply.identification if mismatch else None,
        seconds_off=seconds_off,
    )
