"""What to ask for instead, by the code of a denial (RFC 5944 sections 3.4 and 3.6.2.2)."""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from gateway.domain.mobility import Encapsulation
from gateway.mip_agents.codec.codes import (
    FIRST_DENIAL,
    FIRST_HOME_AGENT_DENIAL,
    FIRST_LATER_DENIAL,
    LAST_LATER_DENIAL,
    ReplyCode,
)
from gateway.mip_agents.codec.extensions import Challenge
from gateway.mip_agents.codec.registration import RegistrationReply
from gateway.mobile_node.registering.request import Wish

SHORTEST_LIFETIME_S = 10
"""A foreign agent's offer is nobody's word: it does not make us register all the time."""
FEWEST_CHALLENGE_OCTETS = 4
"""RFC 4721 section 2."""
TRANSIENT: Final = frozenset(
    {
        ReplyCode.HA_UNSPECIFIED,
        ReplyCode.HA_INSUFFICIENT_RESOURCES,
        ReplyCode.HA_IDENTIFICATION_MISMATCH,
    }
)
"""What the next request may not get any more; on a bad net nonces cross for a while."""


def by_foreign_agent(code: int) -> bool:
    """Whose denial a code is."""
    return (
        FIRST_DENIAL <= code < FIRST_HOME_AGENT_DENIAL
        or FIRST_LATER_DENIAL <= code <= LAST_LATER_DENIAL
    )


def remedy(reply: RegistrationReply, wish: Wish) -> Wish | None:
    """Another wish that this denial leaves open; None without one."""
    try:
        find = _REMEDIES.get(ReplyCode(reply.code))
    except ValueError:
        return None
    found = None if find is None else find(reply, wish)
    return None if found == wish else found


def next_challenge(reply: RegistrationReply, before: bytes) -> bytes:
    """A foreign agent's newer challenge in its reply (RFC 4721 section 3.3); empty without."""
    challenges = [one.value for one in reply.extensions if type(one) is Challenge]
    for value in reversed(challenges):
        if len(value) >= FEWEST_CHALLENGE_OCTETS and value != before:
            return value
    return b""


def _plainest_encapsulation(_reply: RegistrationReply, wish: Wish) -> Wish:
    return replace(wish, encapsulation=Encapsulation.IP_IP)


def _lifetime_offered(reply: RegistrationReply, wish: Wish) -> Wish:
    if not reply.lifetime_s:
        return wish
    return replace(
        wish, lifetime_s=min(wish.lifetime_s, max(reply.lifetime_s, SHORTEST_LIFETIME_S))
    )


def _challenge_given(reply: RegistrationReply, wish: Wish) -> Wish:
    return replace(wish, challenge=next_challenge(reply, wish.challenge) or wish.challenge)


def _without_extras(_reply: RegistrationReply, wish: Wish) -> Wish:
    return replace(wish, plain=True, zero_overhead=None)


_Remedy = Callable[[RegistrationReply, Wish], Wish]
_REMEDIES: Final[dict[ReplyCode, _Remedy]] = {
    ReplyCode.FA_LIFETIME_TOO_LONG: _lifetime_offered,
    ReplyCode.FA_ENCAPSULATION_UNAVAILABLE: _plainest_encapsulation,
    ReplyCode.FA_UNKNOWN_CHALLENGE: _challenge_given,
    ReplyCode.FA_MISSING_CHALLENGE: _challenge_given,
    ReplyCode.FA_STALE_CHALLENGE: _challenge_given,
    ReplyCode.HA_POOR_REQUEST: _without_extras,
    ReplyCode.HA_ENCAPSULATION_UNAVAILABLE: _plainest_encapsulation,
    ReplyCode.HA_UDP_ENCAPSULATION_UNAVAILABLE: _plainest_encapsulation,
}
