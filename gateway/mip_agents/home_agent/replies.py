"""Registration replies: fields, extensions and authenticators in their order."""

from ipaddress import IPv4Address

from gateway.mip_agents import authentication
from gateway.mip_agents.codec.extensions import (
    AuthenticationKind,
    Extension,
    RevocationSupport,
    UdpTunnelReply,
    ZeroOverheadConfirmation,
)
from gateway.mip_agents.codec.registration import RegistrationReply
from gateway.mip_agents.home_agent.case import Case


def compose(
    case: Case,
    code: int,
    *,
    lifetime_s: int,
    home_address: IPv4Address,
    home_agent: IPv4Address,
    identification: int,
    udp: UdpTunnelReply | None = None,
    zero_overhead: IPv4Address | None = None,
    revocation_to_node: RevocationSupport | None = None,
    revocation_to_agent: RevocationSupport | None = None,
) -> bytes:
    """The reply to a request, signed with whatever association its sender proved to share.

    What is for the mobile node comes first and is covered by its authenticator, what is for the
    foreign agent comes behind it and is covered by the second one (RFC 5944 section 3.8.3.3).
    """
    extensions: list[Extension] = []
    if case.nai is not None:
        extensions.append(case.nai)
    if udp is not None:
        extensions.append(udp)
    if zero_overhead is not None:
        extensions.append(ZeroOverheadConfirmation(zero_overhead))
    if revocation_to_node is not None:
        extensions.append(revocation_to_node)
    octets = RegistrationReply(
        code, lifetime_s, home_address, home_agent, identification, tuple(extensions)
    ).serialize()
    if case.association is not None:
        octets = authentication.sign(octets, AuthenticationKind.MOBILE_HOME, case.association)
    if case.agent_association is None:
        return octets
    if revocation_to_agent is not None:
        octets += revocation_to_agent.serialize()
    return authentication.sign(octets, AuthenticationKind.FOREIGN_HOME, case.agent_association)
