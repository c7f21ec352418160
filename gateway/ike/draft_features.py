"""Negotiation of the drafts' features (draft 001, appendices B.1 to B.3, C.1 and C.2).

Phase 1 (IKE_SA_INIT in IKEv2) says by vendor ids what both sides know; beside each child SA the
initiator asks for what it wants to use, and the responder's policy grants it or not. What was
known and is refused still leaves a plain child SA, unless policy requires it.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from gateway.domain.child_sa import TrafficSelector
from gateway.ike.home_addresses import HomeAddresses
from gateway.ike.policy import ConnectionPolicy, Feature
from gateway.ike.refusal import Refused
from gateway.ike.registry import NotifyType
from gateway.ike.sa import IkeSa

VID_VPN_FA = bytes.fromhex("8bf65cf9be617ae17ff241d36b04d196")
"""MD5 of "draft-ietf-mobileip-vpn-problem-solution-01 FA in VPN device"."""
VID_ENDPOINT_UPDATE = bytes.fromhex("f5ffaa9a816a2223bbcf4f7968bd28a9")
"""MD5 of "draft-ietf-mobileip-vpn-problem-solution-01 IPsec SA endpoint update"."""
MAX_ADVERTISEMENT_OCTETS = 1024
"""Of a foreign agent advertisement that a peer sends us."""


@dataclass(frozen=True, slots=True)
class Features:
    """What is asked for, or agreed on, for a child SA."""

    endpoint_update: bool = False
    vpn_fa: bool = False

    def __str__(self) -> str:
        names = [
            *(["endpoint update"] if self.endpoint_update else []),
            *(["VPN/FA"] if self.vpn_fa else []),
        ]
        return ", ".join(names)


PLAIN = Features()


def vendor_ids(connections: Iterable[ConnectionPolicy]) -> tuple[bytes, ...]:
    """The vendor ids that say what any of these connections may use."""
    endpoint_update = vpn_fa = False
    for connection in connections:
        endpoint_update |= connection.endpoint_update is not Feature.OFF
        vpn_fa |= connection.vpn_fa is not Feature.OFF
    return (
        *([VID_VPN_FA] if vpn_fa else []),
        *([VID_ENDPOINT_UPDATE] if endpoint_update else []),
    )


def note_vendor_ids(sa: IkeSa, theirs: Collection[bytes], ours: Collection[bytes]) -> None:
    """Remember what both sides know."""
    sa.peer_knows_vpn_fa = VID_VPN_FA in theirs and VID_VPN_FA in ours
    sa.peer_knows_endpoint_update = VID_ENDPOINT_UPDATE in theirs and VID_ENDPOINT_UPDATE in ours


def advertisement(sa: IkeSa, connection: ConnectionPolicy) -> bytes:
    """The advertisement that the gateway sends to this peer; empty when it gets none (B.2)."""
    if not sa.peer_knows_vpn_fa or connection.vpn_fa is Feature.OFF:
        return b""
    return connection.fa_advertisement


def take_advertisement(sa: IkeSa, connection: ConnectionPolicy, octets: bytes) -> bool:
    """Keep the gateway's advertisement for the mobile node; False when it was not expected."""
    expected = sa.peer_knows_vpn_fa and connection.vpn_fa is not Feature.OFF
    if not expected or not sa.session_initiator or not 0 < len(octets) <= MAX_ADVERTISEMENT_OCTETS:
        return False
    sa.fa_advertisement = octets
    return True


def wanted(
    sa: IkeSa,
    connection: ConnectionPolicy,
    local_ts: Collection[TrafficSelector],
    remote_ts: Collection[TrafficSelector],
) -> Features:
    """What we ask for beside a child SA with these selectors.

    Raises:
        Refused: policy requires what the peer does not know, or what the selectors rule out.
    """
    return Features(
        _ask_endpoint_update(sa, connection), _ask_vpn_fa(sa, connection, local_ts, remote_ts)
    )


def _ask_endpoint_update(sa: IkeSa, connection: ConnectionPolicy) -> bool:
    if connection.endpoint_update is Feature.OFF:
        return False
    if not sa.peer_knows_endpoint_update and connection.endpoint_update is Feature.REQUIRED:
        raise _unknown("SA endpoint update", "endpoint_update", connection)
    return sa.peer_knows_endpoint_update


def _ask_vpn_fa(
    sa: IkeSa,
    connection: ConnectionPolicy,
    local_ts: Collection[TrafficSelector],
    remote_ts: Collection[TrafficSelector],
) -> bool:
    if connection.vpn_fa is Feature.OFF:
        return False
    required = connection.vpn_fa is Feature.REQUIRED
    if not sa.peer_knows_vpn_fa:
        if required:
            raise _unknown("VPN/FA", "vpn_fa", connection)
        return False
    wrong = selectors_objection(sa, local_ts, remote_ts)
    if wrong is not None and required:
        raise _wrong_selectors(wrong, connection)
    return wrong is None


def granted(
    sa: IkeSa,
    connection: ConnectionPolicy,
    asked: Features,
    local_ts: Collection[TrafficSelector],
    remote_ts: Collection[TrafficSelector],
) -> Features:
    """What the responder's policy allows of what the peer asked for.

    Raises:
        Refused: policy requires what the peer did not ask for, or cannot be done.
    """
    return Features(
        _grant_endpoint_update(sa, connection, asked),
        _grant_vpn_fa(sa, connection, asked, local_ts, remote_ts),
    )


def _grant_endpoint_update(sa: IkeSa, connection: ConnectionPolicy, asked: Features) -> bool:
    policy = connection.endpoint_update
    if policy is Feature.OFF:
        return False
    knows = sa.peer_knows_endpoint_update and asked.endpoint_update
    if policy is Feature.REQUIRED:
        if not knows:
            raise _unknown("SA endpoint update", "endpoint_update", connection)
        if sa.local_natted:
            raise Refused(
                NotifyType.NO_PROPOSAL_CHOSEN,
                f"connection {connection.name} requires SA endpoint update, which cannot work:"
                " the gateway itself is behind a NAT",
                f'set endpoint_update of {connection.name} to "allowed"',
            )
    return knows and not sa.local_natted


def _grant_vpn_fa(
    sa: IkeSa,
    connection: ConnectionPolicy,
    asked: Features,
    local_ts: Collection[TrafficSelector],
    remote_ts: Collection[TrafficSelector],
) -> bool:
    policy = connection.vpn_fa
    if policy is Feature.OFF:
        return False
    if not (sa.peer_knows_vpn_fa and asked.vpn_fa):
        if policy is Feature.REQUIRED:
            raise _unknown("VPN/FA", "vpn_fa", connection)
        return False
    wrong = selectors_objection(sa, local_ts, remote_ts)
    if wrong is not None and policy is Feature.REQUIRED:
        raise _wrong_selectors(wrong, connection)
    return wrong is None


def refuse_held(homes: HomeAddresses, sa: IkeSa, device: Collection[TrafficSelector]) -> None:
    """Raises :class:`Refused` when another identity holds the device's home address."""
    holder = homes.other_holder(device, sa.peer_id)
    if holder is not None:
        raise Refused(
            NotifyType.TS_UNACCEPTABLE,
            f"{holder} holds the home address {next(iter(device)).start}",
            "give each device a home address of its own",
        )


def agreed(connection: ConnectionPolicy, asked: Features, answered: Features) -> Features:
    """What holds after the responder's answer.

    Raises:
        Refused: policy requires what the peer did not grant.
    """
    both = Features(
        asked.endpoint_update and answered.endpoint_update, asked.vpn_fa and answered.vpn_fa
    )
    if connection.endpoint_update is Feature.REQUIRED and not both.endpoint_update:
        raise _unknown("SA endpoint update", "endpoint_update", connection)
    if connection.vpn_fa is Feature.REQUIRED and not both.vpn_fa:
        raise _unknown("VPN/FA", "vpn_fa", connection)
    return both


def selectors_objection(
    sa: IkeSa,
    local_ts: Collection[TrafficSelector],
    remote_ts: Collection[TrafficSelector],
) -> str | None:
    """Why these selectors cannot carry VPN/FA (draft 001, appendix B.5), or None."""
    device, gateway = (local_ts, remote_ts) if sa.session_initiator else (remote_ts, local_ts)
    if len(device) != 1 or any(one.start != one.end for one in device):
        return "the device's side must be a single address"
    # IPv6 selectors of the gateway's side fall away in narrowing: the device's address is IPv4.
    reachable = [one for one in gateway if one.start.version == 4]
    if not reachable or any(one.start.version != 4 for one in device):
        return "Mobile IPv4 needs IPv4 selectors"
    for one in (*device, *reachable):
        if one.protocol or (one.start_port, one.end_port) != (0, 65535):
            return "protocol and ports must be any"
    return None


def _unknown(what: str, key: str, connection: ConnectionPolicy) -> Refused:
    return Refused(
        NotifyType.NO_PROPOSAL_CHOSEN,
        f"connection {connection.name} requires {what}, the peer does not agree to it",
        f'use a client that knows it, or set {key} of {connection.name} to "allowed"',
    )


def _wrong_selectors(wrong: str, connection: ConnectionPolicy) -> Refused:
    return Refused(
        NotifyType.TS_UNACCEPTABLE,
        f"connection {connection.name} requires VPN/FA: {wrong}",
        "let the device ask for an inner address, and do not restrict protocols or ports",
    )
