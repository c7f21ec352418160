"""The foreign agent inside the VPN gateway: what differs from one on a link (draft 001, B).

A VPN tunnel takes the place of the link. Its peer's address is the home address, which IPsec
vouches for. A visitor is in the dataplane only while it has both an accepted registration and an
SA; nothing has to be torn down when the device is inside again (appendix B.8), because every
packet still goes to its home agent, which alone knows where it is.
"""

from ipaddress import IPv4Address

from gateway.domain.event import Severity
from gateway.domain.nar import NarMapping
from gateway.mip_agents.codec.codes import ReplyCode
from gateway.mip_agents.codec.registration import RequestFlag
from gateway.mip_agents.foreign_agent.addresses import UNSPECIFIED
from gateway.mip_agents.foreign_agent.asked import Asked
from gateway.mip_agents.foreign_agent.core import Core
from gateway.mip_agents.foreign_agent.refusal import Denied
from gateway.mip_agents.foreign_agent.visitors import VisitorEntry
from gateway.mip_agents.outputs import (
    RemoveNarMapping,
    RemoveVisitor,
    SetNarMapping,
    SetVisitor,
)


def check_request(core: Core, asked: Asked) -> None:
    """What appendices B.4 to B.6 demand of a request through the VPN."""
    if not core.policy.through_vpn:
        return
    request = asked.request
    if request.home_address == UNSPECIFIED:
        raise Denied(
            ReplyCode.FA_NONZERO_HOME_ADDRESS_REQUIRED,
            "a dynamic home address cannot be used through the VPN's foreign agent",
            "get one through an ordinary VPN tunnel first, with the D bit",
        )
    if asked.pending.remote.address != request.home_address:
        raise Denied(
            ReplyCode.FA_PROHIBITED,
            f"{asked.pending.remote.address} in the VPN may not register {request.home_address}",
            "the inner address of the VPN tunnel has to be the home address",
        )
    if request.flags & RequestFlag.CO_LOCATED:
        raise Denied(
            ReplyCode.FA_POOR_REQUEST,
            "a co-located care-of address cannot be used through the VPN's foreign agent",
            f"clear the D bit and use {core.policy.care_of_address}",
        )
    peer = core.sessions.get(request.home_address)
    if peer is None:
        raise Denied(
            ReplyCode.FA_PROHIBITED,
            f"{request.home_address} has no VPN tunnel with VPN/FA",
            "the mobile node has to negotiate VPN/FA with its SA, or to use the D bit",
        )
    asked.pending.peer = peer


def install(core: Core, entry: VisitorEntry) -> None:
    """Tell the dataplane of a new or changed visitor, if it may have packets now."""
    delivered = entry.delivered()
    if isinstance(delivered, NarMapping):
        entry.installed = True
        core.outputs.append(SetNarMapping(delivered))
    elif not entry.co_located and (not entry.through_vpn or has_session(core, entry)):
        entry.installed = True
        core.outputs.append(SetVisitor(delivered))
    else:
        uninstall(core, entry)


def has_session(core: Core, entry: VisitorEntry) -> bool:
    """Whether the peer that registered still has an SA.

    The home address alone does not tell: another peer may have come by it since.
    """
    return core.sessions.get(entry.home_address) == entry.peer


def uninstall(core: Core, entry: VisitorEntry) -> None:
    """Take it out of the dataplane, if it is there."""
    if not entry.installed:
        return
    entry.installed = False
    delivered = entry.delivered()
    if isinstance(delivered, NarMapping):
        core.outputs.append(RemoveNarMapping(delivered.tuple))
    else:
        core.outputs.append(RemoveVisitor(entry.home_agent, entry.home_address))


def session_up(core: Core, home_address: IPv4Address, peer: str, now: float) -> None:
    """An SA with VPN/FA has this home address: what this peer registered counts again."""
    if core.sessions.get(home_address) != peer:
        core.sessions[home_address] = peer
        _refresh(core, home_address, now)


def session_down(core: Core, home_address: IPv4Address, now: float) -> None:
    """The SA is gone; registrations stay until their lifetime ends."""
    if core.sessions.pop(home_address, None) is not None:
        _refresh(core, home_address, now)


def _refresh(core: Core, home_address: IPv4Address, now: float) -> None:
    for entry in core.visitors.of(home_address):
        before = entry.installed
        install(core, entry)
        if entry.installed != before:
            what = "has its VPN tunnel again" if entry.installed else "gets no packets without SA"
            core.tell(
                "visitor_tunnel",
                now,
                f"foreign agent {core.policy.name}: {home_address}, of home agent"
                f" {entry.home_agent}, {what}",
                Severity.DEBUG,
                home_agent=str(entry.home_agent),
                home_address=str(home_address),
                installed=entry.installed,
            )
