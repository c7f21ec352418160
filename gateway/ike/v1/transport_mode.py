"""Transport mode in quick mode: the sides are the two hosts, whatever NAT made of their addresses.

RFC 3947 section 5 (encapsulation modes, NAT-OA), RFC 3948 section 5.2, RFC 3193 (L2TP).

The checksums of what comes out of UDP-encapsulated transport mode are those of the original
addresses: the kernel does not look at them (RFC 3948 section 3.1.2), so NAT-OA is only sent.
"""

from dataclasses import replace

from gateway.domain.child_sa import Mode, TrafficSelector
from gateway.domain.endpoint import IpAddress
from gateway.ike.policy import ConnectionPolicy
from gateway.ike.refusal import Refused
from gateway.ike.registry import NotifyType
from gateway.ike.v1.codec import OriginalAddress, OriginalAddressDraft, Payload
from gateway.ike.v1.sa import IkeSa, NatTraversal


def as_seen_here(
    sa: IkeSa, local: TrafficSelector, remote: TrafficSelector
) -> tuple[TrafficSelector, TrafficSelector]:
    """What the peer proposes, with the addresses that packets have here; its ports stay.

    Raises:
        Refused: a side is not one address, or not that of the host without a NAT in front of it.
    """
    path = sa.path
    return (
        _as_seen(local, path.local.address, natted=sa.local_natted),
        _as_seen(remote, path.remote.address, natted=sa.remote_natted),
    )


def _as_seen(selector: TrafficSelector, host: IpAddress, *, natted: bool) -> TrafficSelector:
    whole = selector.start == selector.end and selector.start.version == host.version
    if not whole or (selector.start != host and not natted):
        raise Refused(
            NotifyType.TS_UNACCEPTABLE,
            f"transport mode is for the hosts themselves, the peer names {selector}",
            "use tunnel mode on both sides for networks and inner addresses",
            ours=str(host),
        )
    return replace(selector, start=host, end=host)


def original_addresses(
    sa: IkeSa, connection: ConnectionPolicy, *, initiator: bool
) -> list[Payload]:
    """NAT-OA of quick mode's initiator and responder as we see them; without a NAT, none."""
    if connection.mode is not Mode.TRANSPORT or not sa.encapsulate:
        return []
    if sa.peer.nat_traversal is NatTraversal.NONE:
        return []
    draft = sa.peer.nat_traversal is NatTraversal.DRAFT_02
    kind = OriginalAddressDraft if draft else OriginalAddress
    local, remote = kind(sa.path.local.address), kind(sa.path.remote.address)
    return [local, remote] if initiator else [remote, local]
