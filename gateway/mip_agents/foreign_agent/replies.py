"""Registration replies of home agents: matched, judged, passed on (RFC 5944 section 3.7.3)."""

import struct
from ipaddress import IPv4Address

from gateway.domain.endpoint import Path
from gateway.domain.mobility import Tunnel
from gateway.domain.wire import WireError
from gateway.mip_agents.authentication import verify
from gateway.mip_agents.codec.codes import (
    FIRST_DENIAL,
    FIRST_HOME_AGENT_DENIAL,
    ReplyCode,
    describe,
)
from gateway.mip_agents.codec.extensions import (
    AuthenticationKind,
    Challenge,
    Nai,
    RevocationSupport,
    UdpTunnelReply,
    VendorExtension,
)
from gateway.mip_agents.codec.registration import RegistrationReply, RequestFlag
from gateway.mip_agents.foreign_agent import answers, by_nar, visiting
from gateway.mip_agents.foreign_agent.addresses import UNSPECIFIED, is_unicast
from gateway.mip_agents.foreign_agent.asked import AUTHORIZING, Arrival, end_of_authorization
from gateway.mip_agents.foreign_agent.checks import (
    check_nobody_else_has_it,
    check_room_for_visitor,
    encapsulation_of,
    of_protocol,
)
from gateway.mip_agents.foreign_agent.core import Core, TimerKind, find_association
from gateway.mip_agents.foreign_agent.keepalives import DEFAULT_KEEPALIVE_S
from gateway.mip_agents.foreign_agent.pending import Pending
from gateway.mip_agents.foreign_agent.refusal import Denied, Discarded
from gateway.mip_agents.foreign_agent.visitors import VisitorEntry
from gateway.mip_agents.policy import PeerAgent

_FIXED = struct.Struct("!BBHIIQ")
_ACCEPTED = (ReplyCode.ACCEPTED, ReplyCode.ACCEPTED_NO_SIMULTANEOUS)
_ACCEPTS_UDP = 0


def receive_reply(core: Core, octets: bytes, came: Arrival, now: float) -> None:
    """Take a reply; pass it on, refuse it, or raise Discarded or WireError."""
    path = came.path
    try:
        reply = RegistrationReply.parse(octets)
    except WireError as error:
        _malformed(core, octets, path, error, now)
        raise
    core.counters["replies"] += 1
    pending = _match(core, reply, path)
    peer = core.peer(pending.request.home_agent)
    try:
        proven = _check_peer(reply, pending, peer)
        if not proven:
            _check_link(core, pending, came)
    except Denied as denied:
        # It may be anybody's: the right one still counts if it comes.
        _refuse_once(core, pending, denied, now)
        raise Discarded("home_agent_authentication", f"a reply from {path.remote}") from denied
    try:
        _check_reply(core, reply, pending)
    except Denied as denied:
        if proven:
            _done(core, pending)
        _refuse_once(core, pending, denied, now)
        return
    _done(core, pending)
    _pass_on(core, reply, pending, path, now)


def _malformed(core: Core, octets: bytes, path: Path, error: WireError, now: float) -> None:
    """Tell the mobile node, unless nobody can say whose reply it was (code 71)."""
    if len(octets) < _FIXED.size:
        return
    _, code, lifetime_s, home, agent, identification = _FIXED.unpack_from(octets)
    fixed = RegistrationReply(
        code, lifetime_s, IPv4Address(home), IPv4Address(agent), identification
    )
    try:
        pending = _match(core, fixed, path)
    except Discarded:
        return
    if core.peer(pending.request.home_agent) is None:
        denied = Denied(ReplyCode.FA_POOR_REPLY, f"the home agent's reply is malformed: {error}")
        _refuse_once(core, pending, denied, now)


def _match(core: Core, reply: RegistrationReply, path: Path) -> Pending:
    """The registration that this is the reply to (RFC 5944 section 3.7.3.1)."""
    candidates = core.pending.matching(reply.identification)
    if not candidates:
        raise Discarded("unsolicited_reply", f"a reply from {path.remote} that nobody waits for")
    nai = reply.first(Nai)
    for pending in candidates:
        if _belongs(reply, nai.nai if nai is not None else "", pending, path):
            return pending
    raise Discarded(
        "mismatching_reply",
        f"a reply from {path.remote} for {reply.home_address} of home agent {reply.home_agent}:"
        " what waits for its identification is another registration",
    )


def _belongs(reply: RegistrationReply, nai: str, pending: Pending, path: Path) -> bool:
    request = pending.request
    if request.home_address != UNSPECIFIED:
        if reply.home_address not in (request.home_address, UNSPECIFIED):
            return False
    elif nai and nai != pending.nai:
        return False
    source = path.remote.address
    if source == request.home_agent:
        # Who refuses may have another address than the one it was asked by.
        same = reply.home_agent in (request.home_agent, UNSPECIFIED)
        return same or reply.code >= FIRST_HOME_AGENT_DENIAL
    # Whoever answers to a broadcast address refuses, and names itself (RFC 5944, 3.6.1.2).
    return reply.code == ReplyCode.HA_UNKNOWN_HOME_AGENT and source == reply.home_agent


def _check_peer(reply: RegistrationReply, pending: Pending, peer: PeerAgent | None) -> bool:
    """Whether the home agent proved itself to us (RFC 5944 section 3.5.4); Denied if it failed."""
    if peer is None:
        return False
    code = ReplyCode.FA_HOME_AGENT_AUTHENTICATION
    hint = f"configure the same SPI, key and algorithm on home agent {peer.address}"
    proofs = reply.authentications(AuthenticationKind.FOREIGN_HOME)
    if not proofs:
        # A deregistration must not have one (RFC 5944 section 3.5.4).
        if peer.required and pending.request.lifetime_s:
            raise Denied(code, "the reply has no foreign-home authentication", hint)
        return False
    if len(proofs) > 1:
        raise Denied(code, "the reply has two foreign-home authentications", hint)
    association = find_association(peer, proofs[0].spi)
    if association is None:
        raise Denied(code, f"SPI {proofs[0].spi} of the reply is not known here", hint)
    if not verify(reply.octets, proofs[0], association):
        raise Denied(code, f"the reply's authenticator of SPI {association.spi} is wrong", hint)
    return True


def _check_link(core: Core, pending: Pending, came: Arrival) -> None:
    """A neighbour of a visitor hears its request and could answer it in the home agent's name."""
    if came.link is not None and came.link.interface == core.policy.interface:
        home_agent = pending.request.home_agent
        raise Denied(
            ReplyCode.FA_HOME_AGENT_AUTHENTICATION,
            f"the reply came over {core.policy.interface}, where visitors are, unproven",
            f"share a key with home agent {home_agent} if it is reached over that link",
        )


def _check_reply(core: Core, reply: RegistrationReply, pending: Pending) -> None:
    """What a reply has to have before a mobile node or the visitor list believes it."""
    end = _end_of_untouched(reply)
    for one in reply.extensions:
        if type(one) is VendorExtension and one.critical and one.offset >= end:
            raise Denied(
                ReplyCode.FA_VENDOR_EXTENSION_OF_HOME_AGENT,
                f"the critical extension {one.type} of vendor {one.vendor} is not known here",
            )
    if FIRST_DENIAL <= reply.code < FIRST_HOME_AGENT_DENIAL:
        raise Denied(
            ReplyCode.FA_POOR_REPLY,
            f"the home agent denies with a foreign agent's code {reply.code}",
        )
    asked, returned = pending.request.first(Challenge), reply.first(Challenge)
    if asked is not None and returned is not None and asked.value != returned.value:
        raise Denied(
            ReplyCode.FA_WRONG_CHALLENGE_IN_REPLY, "the home agent returns another challenge"
        )
    if reply.code in _ACCEPTED:
        _check_acceptance(core, reply, pending)


def _check_acceptance(core: Core, reply: RegistrationReply, pending: Pending) -> None:
    request = pending.request
    if not any(reply.authentications(kind) for kind in AUTHORIZING):
        raise Denied(
            ReplyCode.FA_POOR_REPLY, "the home agent accepts without mobile-home authentication"
        )
    if reply.home_agent == UNSPECIFIED:
        raise Denied(ReplyCode.FA_MISSING_HOME_AGENT, "the reply names no home agent")
    if reply.home_address == UNSPECIFIED:
        raise Denied(ReplyCode.FA_MISSING_HOME_ADDRESS, "the reply has no home address")
    if pending.nai and reply.first(Nai) is None:
        raise Denied(ReplyCode.FA_MISSING_NAI, f"the reply does not return the NAI {pending.nai}")
    if not is_unicast(reply.home_address) or reply.home_address in (
        core.policy.care_of_address,
        request.home_agent,
    ):
        raise Denied(ReplyCode.FA_POOR_REPLY, f"{reply.home_address} cannot be a home address")
    if reply.first(UdpTunnelReply) is not None and not _asked_for_udp(pending):
        raise Denied(
            ReplyCode.FA_POOR_REPLY, "the home agent wants a tunnel in UDP that nobody asked for"
        )
    check_nobody_else_has_it(core, pending, reply.home_address)
    if pending.nar_server:
        by_nar.check_reply(reply)
    if min(reply.lifetime_s, request.lifetime_s):
        if pending.nar_server or not request.flags & RequestFlag.CO_LOCATED:
            wanted = encapsulation_of(request)
            by_nar.check_tuple(core, wanted, request.home_agent, reply.home_address)
        check_room_for_visitor(core, request.home_agent, reply.home_address)


def _asked_for_udp(pending: Pending) -> bool:
    return pending.udp is not None or bool(pending.request.flags & RequestFlag.CO_LOCATED)


def _refuse_once(core: Core, pending: Pending, denied: Denied, now: float) -> None:
    if not pending.told:
        answers.deny(core, pending, denied, now)


def _done(core: Core, pending: Pending) -> None:
    core.pending.remove(pending)
    core.timers.cancel((TimerKind.PENDING, pending.key))


def _end_of_untouched(reply: RegistrationReply) -> int:
    """The end of what goes on to the mobile node as it is.

    That is what its home agent signed for it; of a reply without, everything but what was meant
    for us.
    """
    end = end_of_authorization(
        tuple(one for kind in AUTHORIZING for one in reply.authentications(kind))
    )
    if end:
        return end
    ours = [one.offset for one in reply.authentications(AuthenticationKind.FOREIGN_HOME)]
    support = reply.first(RevocationSupport)
    if support is not None:
        ours.append(support.offset)
    return min(ours, default=len(reply.octets))


def _pass_on(
    core: Core, reply: RegistrationReply, pending: Pending, path: Path, now: float
) -> None:
    request = pending.request
    core.counters[answers.code_name(reply.code)] += 1
    # The dataplane learns first: the mobile node may send as soon as it has the reply.
    if reply.code in _ACCEPTED:
        lifetime_s = min(reply.lifetime_s, request.lifetime_s)
        if lifetime_s:
            visiting.arrive(core, _entry(core, reply, pending, path, lifetime_s), now)
        else:
            entry = core.visitors.get(request.home_agent, reply.home_address)
            if entry is not None:
                visiting.leave(core, entry, "deregistered", "it deregistered", now)
    else:
        answers.tell_denied(core, pending, Denied(reply.code, describe(reply.code)), now)
    answers.send(core, pending, reply.octets[: _end_of_untouched(reply)])
    core.counters["replies_relayed"] += 1


def _entry(
    core: Core, reply: RegistrationReply, pending: Pending, path: Path, lifetime_s: int
) -> VisitorEntry:
    policy = core.policy
    request = pending.request
    udp = reply.first(UdpTunnelReply)
    in_udp = udp is not None and udp.code == _ACCEPTS_UDP and pending.udp is not None
    inside = of_protocol(pending.udp.encapsulation) if in_udp and pending.udp else None
    tunnel = Tunnel(
        policy.care_of_address,
        request.home_agent,
        inside or encapsulation_of(request),
        path.remote.port if in_udp else 0,
    )
    entry = VisitorEntry(
        request.home_agent,
        reply.home_address,
        request.care_of_address,
        pending.nai,
        pending.party,
        pending.link,
        pending.remote,
        tunnel,
        bool(request.flags & RequestFlag.REVERSE),
        pending.encapsulating,
        bool(request.flags & RequestFlag.CO_LOCATED),
        lifetime_s,
        core.wall_clock(),
        reply.code,
        pending.association,
        policy.max_packet_octets,
        policy.through_vpn,
        pending.peer,
        keepalive_s=(udp.keepalive_s or DEFAULT_KEEPALIVE_S) if in_udp and udp else 0,
        nar_server=pending.nar_server,
    )
    # Only what the home agent's proof to us covers counts; an unproven one is nobody's word.
    proofs = reply.authentications(AuthenticationKind.FOREIGN_HOME)
    proven = bool(proofs) and core.peer(request.home_agent) is not None
    support = reply.first(RevocationSupport, proofs[0]) if proven else None
    if support is not None and policy.revocation:
        entry.revocable = True
        entry.inform = support.inform
        entry.peer_timestamp = support.timestamp
    return entry
