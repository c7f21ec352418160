"""What a registration request has to meet before it is relayed (RFC 5944 section 3.7.2.1).

Each check raises :class:`Denied` with the code that says what is wrong. The order matters: who
is asking first, what is asked for then, whether there is room last.
"""

from collections.abc import Callable
from ipaddress import IPv4Address

from gateway.domain.mobility import Encapsulation
from gateway.mip_agents.authentication import verify
from gateway.mip_agents.codec.codes import ReplyCode
from gateway.mip_agents.codec.extensions import (
    AuthenticationKind,
    Challenge,
    EncapsulatingDelivery,
    VendorExtension,
)
from gateway.mip_agents.codec.registration import RegistrationRequest, RequestFlag
from gateway.mip_agents.foreign_agent import by_nar, vpn
from gateway.mip_agents.foreign_agent.addresses import UNSPECIFIED, is_unicast
from gateway.mip_agents.foreign_agent.asked import Asked
from gateway.mip_agents.foreign_agent.core import Core
from gateway.mip_agents.foreign_agent.pending import Pending
from gateway.mip_agents.foreign_agent.refusal import Denied
from gateway.mip_agents.policy import INFINITE_LIFETIME_S, Allowance, ForeignAgentPolicy

ON_LINK_TTL = 255
"""No router was in between (RFC 3024 section 5.1)."""


def check_form(_core: Core, asked: Asked) -> None:
    """Extensions that belong here, once, in their order (RFC 5944 section 3.6.1.3)."""
    request = asked.request
    if not asked.authorization_end:
        raise Denied(
            ReplyCode.FA_POOR_REQUEST,
            "the request has no mobile-home authentication",
            "configure the home agent's key on the mobile node",
        )
    if len(request.authentications(AuthenticationKind.MOBILE_HOME)) > 1:
        raise Denied(ReplyCode.FA_POOR_REQUEST, "two mobile-home authentications")
    if request.authentications(AuthenticationKind.FOREIGN_HOME):
        raise Denied(ReplyCode.FA_POOR_REQUEST, "a mobile node sent a foreign-home authentication")
    proof = asked.mobile_foreign
    if proof is not None and proof.offset < asked.authorization_end:
        raise Denied(
            ReplyCode.FA_POOR_REQUEST,
            "the mobile-foreign authentication stands before the mobile-home authentication",
        )
    for one in request.extensions:
        if type(one) is VendorExtension and one.critical and one.offset >= asked.authorization_end:
            raise Denied(
                ReplyCode.FA_VENDOR_EXTENSION_OF_MOBILE_NODE,
                f"the critical extension {one.type} of vendor {one.vendor} is not known here",
            )


def check_authentication(core: Core, asked: Asked) -> None:
    """The mobile node proves itself to us (RFC 5944 section 3.5.3)."""
    code = ReplyCode.FA_MOBILE_NODE_AUTHENTICATION
    proof = asked.mobile_foreign
    if proof is None:
        if core.policy.require_visitor_authentication:
            raise Denied(
                code,
                "the request has no mobile-foreign authentication",
                "configure this foreign agent's key on the mobile node",
            )
        return
    if len(asked.request.authentications(AuthenticationKind.MOBILE_FOREIGN)) > 1:
        raise Denied(code, "two mobile-foreign authentications")
    association = core.policy.visitor_associations.get(proof.spi)
    if association is None:
        if core.policy.visitor_associations or core.policy.require_visitor_authentication:
            raise Denied(code, f"SPI {proof.spi} is not known here", "configure the same SPI")
        return
    if not verify(asked.request.octets, proof, association):
        raise Denied(
            code,
            f"the authenticator of SPI {proof.spi} is wrong",
            "configure the same key and algorithm on both sides",
        )
    asked.pending.association = association


def check_challenge(core: Core, asked: Asked) -> None:
    """The challenge is one of ours and was not used yet (RFC 4721 section 3.2)."""
    if not core.policy.challenge or core.policy.through_vpn:
        return
    given = asked.for_us(Challenge)
    if given is None:
        raise Denied(
            ReplyCode.FA_MISSING_CHALLENGE,
            "the request does not give our challenge back",
            "the mobile node has to support challenges (RFC 4721)",
        )
    wrong = None if asked.again else core.challenges.judge(asked.pending.challenged, given.value)
    if wrong is not None:
        raise Denied(wrong, wrong.text, "the mobile node finds a new one in this reply")


def check_care_of_address(core: Core, asked: Asked) -> None:
    """Ours, or an address of the node's own (RFC 5944 section 3.7.2.1, D bit)."""
    request = asked.request
    ours = core.policy.care_of_address
    if asked.pending.nar_server:
        by_nar.check_request(core, asked, encapsulation_of(request))
    elif request.flags & RequestFlag.CO_LOCATED:
        if request.care_of_address == ours or not is_unicast(request.care_of_address):
            raise Denied(
                ReplyCode.FA_INVALID_CARE_OF_ADDRESS,
                f"{request.care_of_address} cannot be a co-located care-of address",
                f"clear the D bit to use {ours}",
            )
    elif request.care_of_address != ours:
        raise Denied(
            ReplyCode.FA_INVALID_CARE_OF_ADDRESS,
            f"the care-of address {request.care_of_address} is not ours",
            f"use {ours}",
        )


def check_home_agent(core: Core, asked: Asked) -> None:
    """One that can be reached and may be used."""
    home_agent = asked.request.home_agent
    policy = core.policy
    if home_agent == UNSPECIFIED:
        raise Denied(
            ReplyCode.FA_NONZERO_HOME_AGENT_REQUIRED,
            "the request names no home agent",
            "configure the home agent's address on the mobile node",
        )
    if home_agent == policy.care_of_address or not is_unicast(home_agent):
        raise Denied(
            ReplyCode.FA_INVALID_HOME_AGENT_ADDRESS,
            f"{home_agent} cannot be a home agent",
            "use its own address, or the broadcast address of the home network to look for one",
        )
    if not _is_listed(policy, home_agent):
        raise Denied(
            ReplyCode.FA_PROHIBITED,
            f"home agent {home_agent} is not allowed here",
            "add it to the foreign agent's home agents if it should be",
        )
    if not may_use(policy, home_agent):
        raise Denied(
            ReplyCode.FA_PROHIBITED,
            f"home agent {home_agent} shares no key with this foreign agent",
            "configure a key on both, or allow agents without one",
        )


def _is_listed(policy: ForeignAgentPolicy, home_agent: IPv4Address) -> bool:
    return not policy.home_agents or any(home_agent in one for one in policy.home_agents)


def may_use(policy: ForeignAgentPolicy, home_agent: IPv4Address) -> bool:
    """Whether registrations with this home agent are relayed."""
    peer = policy.peer_agents.get(home_agent)
    has_key = peer is not None and bool(peer.associations)
    return _is_listed(policy, home_agent) and (policy.trust_unsigned_agents or has_key)


def check_home_address(core: Core, asked: Asked) -> None:
    """Known, or to be given by the home agent to a node with an NAI (RFC 2794)."""
    request = asked.request
    home_address = request.home_address
    if home_address == UNSPECIFIED:
        if not asked.pending.nai:
            raise Denied(
                ReplyCode.FA_MISSING_NAI,
                "the request has neither a home address nor an NAI",
                "configure one of them on the mobile node",
            )
        return
    if not is_unicast(home_address) or home_address in (
        request.home_agent,
        request.care_of_address,
        core.policy.care_of_address,
    ):
        raise Denied(ReplyCode.FA_POOR_REQUEST, f"{home_address} cannot be a home address")
    check_nobody_else_has_it(core, asked.pending, home_address)


def check_nobody_else_has_it(core: Core, pending: Pending, home_address: IPv4Address) -> None:
    """A home address is not taken over from another link-layer address by another home agent.

    Any home agent on the Internet may accept any home address; without this, whoever runs one
    could divert the packets of a node on the same link. With the same home agent, a node that
    changed its link-layer address registers again, because the home agent knows it. A home agent
    that shares a key with us is trusted to accept its own nodes only. Where NAR delivers, the home
    agent is part of what packets are told apart by, and one address may be of use in two networks.
    """
    home_agent = pending.request.home_agent
    if core.peer(home_agent) is not None or pending.nar_server:
        return
    for entry in core.visitors.of(home_address):
        if entry.nar_server:
            continue
        if entry.party != pending.party and entry.home_agent != home_agent:
            raise Denied(
                ReplyCode.FA_PROHIBITED,
                f"{home_address} is registered from another link-layer address, with home agent"
                f" {entry.home_agent}",
                f"register with {entry.home_agent} first, or wait until that registration ends",
            )


def check_lifetime(core: Core, asked: Asked) -> None:
    """Not longer than ours (RFC 5944 section 3.7.2.1)."""
    longest = core.policy.lifetime_s
    lifetime_s = asked.request.lifetime_s
    if longest < INFINITE_LIFETIME_S and lifetime_s > longest:
        raise Denied(
            ReplyCode.FA_LIFETIME_TOO_LONG,
            f"a lifetime of {lifetime_s} s is too long",
            f"ask for {longest} s or less",
            longest,
        )


def check_encapsulation(core: Core, asked: Asked) -> None:
    """One that we can undo, or deliver; a node with its own care-of address needs neither."""
    if asked.request.flags & RequestFlag.CO_LOCATED and not asked.pending.nar_server:
        return
    wanted = encapsulation_of(asked.request)
    allowed = core.policy.encapsulations
    if wanted not in allowed:
        names = ", ".join(sorted(one.value for one in allowed))
        raise Denied(
            ReplyCode.FA_ENCAPSULATION_UNAVAILABLE,
            f"encapsulation {wanted.value} is not allowed here",
            f"allowed: {names}",
        )
    if asked.request.lifetime_s:
        by_nar.check_tuple(core, wanted, asked.request.home_agent, asked.request.home_address)


def encapsulation_of(request: RegistrationRequest) -> Encapsulation:
    """What the M and G bits ask for; GRE, which carries more, when both are set."""
    if request.flags & RequestFlag.GRE:
        return Encapsulation.GRE
    if request.flags & RequestFlag.MINIMAL:
        return Encapsulation.MINIMAL
    return Encapsulation.IP_IP


def of_protocol(protocol: int) -> Encapsulation | None:
    """The encapsulation with this IP protocol number."""
    for one in Encapsulation:
        if one.protocol == protocol:
            return one
    return None


def check_reverse_tunnel(core: Core, asked: Asked) -> None:
    """The T bit, the delivery style and the distance (RFC 3024 sections 3 and 5.1)."""
    reverse = bool(asked.request.flags & RequestFlag.REVERSE)
    co_located = bool(asked.request.flags & RequestFlag.CO_LOCATED)
    if not co_located or asked.pending.nar_server:
        _check_reverse_allowance(core.policy, reverse)
    if asked.for_us(EncapsulatingDelivery) is not None:
        if not reverse:
            raise Denied(
                ReplyCode.FA_POOR_REQUEST,
                "encapsulating delivery is asked for without a reverse tunnel",
                "set the T bit",
            )
        if co_located or core.policy.through_vpn:
            where = "through the VPN" if core.policy.through_vpn else "past the foreign agent"
            raise Denied(
                ReplyCode.FA_DELIVERY_STYLE_UNSUPPORTED,
                f"packets that go {where} cannot be encapsulated for it",
                "use direct delivery",
            )
        asked.pending.encapsulating = True
    if (
        reverse
        and not core.policy.through_vpn
        and not asked.pending.nar_server
        and asked.ttl is not None
        and asked.ttl != ON_LINK_TTL
    ):
        raise Denied(
            ReplyCode.FA_TTL_TOO_LOW,
            f"the request came with a TTL of {asked.ttl}",
            f"register on the foreign agent's own link, with a TTL of {ON_LINK_TTL}",
        )


def _check_reverse_allowance(policy: ForeignAgentPolicy, reverse: bool) -> None:
    allowance = Allowance.REQUIRED if policy.through_vpn else policy.reverse_tunnelling
    if reverse and allowance is Allowance.OFF:
        raise Denied(
            ReplyCode.FA_REVERSE_TUNNEL_UNAVAILABLE,
            "reverse tunnelling is switched off here",
            "clear the T bit",
        )
    if not reverse and allowance is Allowance.REQUIRED:
        raise Denied(
            ReplyCode.FA_REVERSE_TUNNEL_MANDATORY,
            "a registration without reverse tunnelling is not allowed here",
            "set the T bit",
        )


def check_room(core: Core, asked: Asked) -> None:
    """There is room for one more, or it renews what it has, or it leaves."""
    request = asked.request
    if request.lifetime_s:
        check_room_for_visitor(core, request.home_agent, request.home_address)
    limit = core.policy.max_pending
    if not asked.again and not core.pending.has_room(asked.pending.party, limit):
        raise Denied(
            ReplyCode.FA_INSUFFICIENT_RESOURCES,
            f"{limit} registrations wait for their home agents",
            "raise the foreign agent's limit of pending registrations, or look who floods it",
        )


def check_room_for_visitor(core: Core, home_agent: IPv4Address, home_address: IPv4Address) -> None:
    """Asked before a request is relayed, and again when many were accepted since."""
    if (
        len(core.visitors) >= core.policy.max_visitors
        and core.visitors.get(home_agent, home_address) is None
    ):
        raise Denied(
            ReplyCode.FA_INSUFFICIENT_RESOURCES,
            f"all places for {core.policy.max_visitors} visitors are taken",
            "raise the foreign agent's limit of visitors",
        )


CHECKS: tuple[Callable[[Core, Asked], None], ...] = (
    check_form,
    vpn.check_request,
    check_authentication,
    check_challenge,
    check_care_of_address,
    check_home_agent,
    check_home_address,
    check_lifetime,
    check_encapsulation,
    check_reverse_tunnel,
    check_room,
)
"""All of them, in their order."""
