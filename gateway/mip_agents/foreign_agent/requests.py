"""Registration requests of mobile nodes: judged, then relayed (RFC 5944 section 3.7.2)."""

from ipaddress import IPv4Address

from gateway.domain.endpoint import Endpoint, Path
from gateway.domain.mobility import MIP_PORT
from gateway.mip_agents.authentication import sign
from gateway.mip_agents.codec.codes import ReplyCode
from gateway.mip_agents.codec.extensions import (
    AuthenticationKind,
    Challenge,
    Nai,
    RevocationSupport,
    UdpTunnelRequest,
)
from gateway.mip_agents.codec.registration import RegistrationRequest, RequestFlag
from gateway.mip_agents.foreign_agent import by_nar
from gateway.mip_agents.foreign_agent.addresses import (
    LIMITED_BROADCAST,
    UNSPECIFIED,
    is_unicast,
)
from gateway.mip_agents.foreign_agent.answers import deny
from gateway.mip_agents.foreign_agent.asked import AUTHORIZING, Arrival, Asked, end_of_authorization
from gateway.mip_agents.foreign_agent.checks import CHECKS, encapsulation_of
from gateway.mip_agents.foreign_agent.core import Core, TimerKind
from gateway.mip_agents.foreign_agent.pending import Pending, PendingKey
from gateway.mip_agents.foreign_agent.refusal import Denied, Discarded
from gateway.mip_agents.outputs import Link, Transmit
from gateway.mip_agents.policy import Allowance, ForeignAgentPolicy, PeerAgent


def receive_request(core: Core, octets: bytes, came: Arrival, now: float) -> None:
    """Take a request; relay it, deny it, or raise Discarded or WireError."""
    link = came.link
    if link is None or link.interface != core.policy.interface:
        where = "an unknown link" if link is None else link.interface
        text = f"a request from {came.path.remote}: it came over {where}"
        raise Discarded("foreign_link", text)
    request = RegistrationRequest.parse(octets)
    asked = _asked(core, request, came, link)
    core.counters["requests"] += 1
    try:
        for check in CHECKS:
            check(core, asked)
    except Denied as denied:
        deny(core, asked.pending, denied, now)
        return
    except Exception as error:
        # The mobile node learns at least that it is of no use to try the same again.
        unspecified = Denied(ReplyCode.FA_UNSPECIFIED, "an internal error")
        deny(core, asked.pending, unspecified, now)
        raise error
    _relay(core, asked, now)


def _asked(core: Core, request: RegistrationRequest, came: Arrival, link: Link) -> Asked:
    path = came.path
    source = path.remote.address
    if not isinstance(source, IPv4Address) or not (source == UNSPECIFIED or is_unicast(source)):
        raise Discarded("source", f"a request from {path.remote}: no host has that address")
    if not path.remote.port:
        raise Discarded("source", f"a request from {path.remote}: no reply could reach that port")
    # Nobody has an address of ours in common with all agents (224.0.0.11) to answer from.
    local = path.local.address
    if not isinstance(local, IPv4Address) or not is_unicast(local):
        local = core.policy.care_of_address
    _check_revocation_support(request)
    nai = request.first(Nai)
    nar_server = by_nar.server_for(core.policy, request)
    # With NAR, a router may be in between: its link-layer address is not the node's.
    party = source.packed if nar_server else link.address or source.packed
    pending = Pending(
        request,
        nai.nai if nai is not None else "",
        party,
        link,
        Endpoint(local, MIP_PORT),
        Endpoint(LIMITED_BROADCAST if source == UNSPECIFIED else source, path.remote.port),
        nar_server=nar_server,
        own_address=source != UNSPECIFIED,
    )
    same = core.pending.get(pending.key)
    if same is not None and same.party != pending.party:
        raise Discarded(
            "copied_request",
            f"a request of {source}: {link.address.hex(':') or source} repeats what"
            f" {same.party.hex(':')} has just sent",
        )
    authorizing = tuple(one for kind in AUTHORIZING for one in request.authentications(kind))
    proofs = request.authentications(AuthenticationKind.MOBILE_FOREIGN)
    return Asked(
        pending,
        came.ttl,
        end_of_authorization(authorizing),
        proofs[0] if proofs else None,
        same is not None and same.request.octets == request.octets,
    )


def _check_revocation_support(request: RegistrationRequest) -> None:
    """Only with an address of its own may a node speak for itself (RFC 3543 section 4.2.1)."""
    support = request.first(RevocationSupport)
    if support is None or request.flags & RequestFlag.CO_LOCATED:
        return
    proofs = request.authentications(AuthenticationKind.MOBILE_HOME)
    if proofs and support.offset < proofs[0].offset:
        raise Discarded(
            "revocation_support",
            f"a request of {request.home_address}: it speaks of revocation for us",
        )


def _relay(core: Core, asked: Asked, now: float) -> None:
    """Pass the request on: untouched as far as the home agent believes it, then what is ours."""
    policy = core.policy
    pending = asked.pending
    request = pending.request
    # A deregistration is proved by the mobile node alone (RFC 5944 section 3.5.4).
    peer = core.peer(request.home_agent) if request.lifetime_s else None
    octets = request.octets[: asked.authorization_end] + _own_extensions(core, pending, peer)
    if peer is not None:
        octets = sign(octets, AuthenticationKind.FOREIGN_HOME, peer.associations[0])
    challenge = asked.for_us(Challenge)
    if challenge is not None and policy.challenge:
        core.challenges.use(pending.challenged, challenge.value)
    gone = core.pending.add(pending, policy.max_pending)
    if gone is not None:
        core.counters["pending_replaced"] += 1
        core.timers.cancel((TimerKind.PENDING, gone.key))
    core.timers.set((TimerKind.PENDING, pending.key), now + policy.pending_timeout_s)
    core.counters["requests_relayed"] += 1
    # From port 434: a NAT on the way then lets data in UDP through as well (RFC 3519).
    path = Path(Endpoint(policy.care_of_address, MIP_PORT), Endpoint(request.home_agent, MIP_PORT))
    core.outputs.append(Transmit(octets, path))


def _own_extensions(core: Core, pending: Pending, peer: PeerAgent | None) -> bytes:
    octets = b""
    policy = core.policy
    request = pending.request
    if request.lifetime_s and not request.flags & RequestFlag.CO_LOCATED and _offers_udp(policy):
        # It is up to us, not to the mobile node, to ask for our care-of address (RFC 3519, 4.1):
        # the home agent sees from the request's source whether there is a NAT in between.
        forced = policy.udp_tunnelling is Allowance.REQUIRED
        pending.udp = UdpTunnelRequest(forced, False, encapsulation_of(request).protocol)
        octets += pending.udp.serialize()
    if peer is not None and policy.revocation:
        octets += RevocationSupport(core.timestamp(), inform=True).serialize()
    return octets


def _offers_udp(policy: ForeignAgentPolicy) -> bool:
    """The gateway's inside has no NAT; there, only who configures it wants it."""
    if policy.through_vpn:
        return policy.udp_tunnelling is Allowance.REQUIRED
    return policy.udp_tunnelling is not Allowance.OFF


def pending_timed_out(core: Core, key: PendingKey, now: float) -> None:
    """The home agent did not answer in time (RFC 5944 section 3.4, code 78)."""
    pending = core.pending.get(key)
    if pending is None:
        return
    core.pending.remove(pending)
    if pending.told:
        return
    home_agent = pending.request.home_agent
    reason = f"home agent {home_agent} did not answer in {core.policy.pending_timeout_s:g} s"
    hint = f"see whether UDP port {MIP_PORT} of {home_agent} can be reached from here"
    deny(core, pending, Denied(ReplyCode.FA_REGISTRATION_TIMEOUT, reason, hint), now)


ICMP_UNREACHABLE = {
    0: ReplyCode.FA_HOME_NETWORK_UNREACHABLE,
    1: ReplyCode.FA_HOME_AGENT_HOST_UNREACHABLE,
    3: ReplyCode.FA_HOME_AGENT_PORT_UNREACHABLE,
}
"""By the code of the ICMP message; any other is code 88."""


def home_agent_unreachable(core: Core, home_agent: IPv4Address, icmp_code: int, now: float) -> None:
    """Tell those who wait for this home agent; its reply, should one come, still counts."""
    code = ICMP_UNREACHABLE.get(icmp_code, ReplyCode.FA_HOME_AGENT_UNREACHABLE)
    for pending in core.pending.all():
        if pending.request.home_agent == home_agent and not pending.told:
            reason = f"home agent {home_agent} cannot be reached (ICMP code {icmp_code})"
            deny(core, pending, Denied(code, reason, "check routes and firewalls"), now)
