"""A home agent ends a registration before its time (RFC 3543), the mobile node's half.

Only a node with an address of its own speaks for itself; behind a foreign agent that one is told.
"""

from dataclasses import dataclass

from gateway.domain.wire import WireError
from gateway.mip_agents.authentication import sign, verify
from gateway.mip_agents.codec.extensions import AuthenticationKind
from gateway.mip_agents.codec.revocation import Revocation, RevocationAcknowledgment
from gateway.mip_agents.policy import SecurityAssociation
from gateway.mobile_node.policy import HomeAgentPolicy
from gateway.mobile_node.registering.outcome import Via

_BITS_32 = 0xFFFF_FFFF


@dataclass(slots=True)
class Revocable:
    """A registration that its home agent may revoke."""

    via: Via
    home_address: int
    home_agent: int
    association: SecurityAssociation
    timestamp: int
    """The home agent's clock when it granted; revocations of it are not older."""
    heeded: int | None = None
    """Identifier of the last revocation heeded here: none that is not newer counts again."""
    ended: bool = False


def agree(
    policy: HomeAgentPolicy,
    via: Via,
    association: SecurityAssociation,
    timestamp: int | None,
    before: Revocable | None,
) -> Revocable | None:
    """What a new registration and the home agent's support make of it; None without support."""
    if timestamp is None:
        return None
    return Revocable(
        via,
        int(policy.home_address),
        int(policy.home_agent),
        association,
        timestamp,
        None if before is None else before.heeded,
    )


@dataclass(frozen=True, slots=True)
class Heard:
    """What a revocation comes to."""

    ours: bool = False
    ends: bool = False
    acknowledgment: bytes = b""
    discarded: str = ""


def hear(octets: bytes, revocable: Revocable | None) -> Heard:
    """Judge a revocation; changes ``revocable`` when it is heeded."""
    if revocable is None:
        return Heard()
    try:
        message = Revocation.parse(octets)
    except WireError as problem:
        return Heard(discarded=f"malformed: {problem}")
    if (
        int(message.home_address) != revocable.home_address
        or int(message.home_domain_address) != revocable.home_agent
        or message.foreign_domain_address != revocable.via.care_of_address
    ):
        return Heard()
    proofs = message.authentications(AuthenticationKind.MOBILE_HOME)
    association = revocable.association
    if len(proofs) != 1 or not verify(octets, proofs[0], association):
        return Heard(ours=True, discarded="the authenticator of the revocation is wrong")
    if not message.from_home_agent:
        return Heard(ours=True, discarded="a revocation that comes from no home agent")
    if not _not_older(message.identifier, revocable.timestamp):
        return Heard(ours=True, discarded="a revocation of an earlier registration")
    fresh = revocable.heeded is None or (
        message.identifier != revocable.heeded and _not_older(message.identifier, revocable.heeded)
    )
    if not fresh and not revocable.ended:
        return Heard(ours=True, discarded="a revocation that was heeded before")
    ends = not revocable.ended
    if fresh:
        revocable.heeded = message.identifier
    revocable.ended = True
    answer = RevocationAcknowledgment(
        message.home_address, message.identifier, message.inform
    ).serialize()
    # It is acknowledged each time: our last acknowledgment may be lost.
    return Heard(
        ours=True,
        ends=ends,
        acknowledgment=sign(answer, AuthenticationKind.MOBILE_HOME, association),
    )


def _not_older(identifier: int, reference: int) -> bool:
    return (identifier - reference) & _BITS_32 < 1 << 31
