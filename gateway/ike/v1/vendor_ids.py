"""Vendor ids: what each side knows beyond RFC 2409 (RFC 3706, RFC 3947, the drafts, Cisco)."""

from collections.abc import Iterable
from hashlib import md5

from gateway.ike import draft_features
from gateway.ike.policy import ConnectionPolicy
from gateway.ike.v1.sa import IkeSa, NatTraversal, Peer


def _of(text: str) -> bytes:
    return md5(text.encode(), usedforsecurity=False).digest()


XAUTH = bytes.fromhex("09002689dfd6b712")
DPD = bytes.fromhex("afcad71368a1f1c96b8696fc77570100")
UNITY = bytes.fromhex("12f5f28c457168a9702d9fe274cc0100")
UNITY_PREFIX = UNITY[:14]
"""The two octets after it are a version."""
FRAGMENTATION = bytes.fromhex("4048b7d56ebce88525e7de7f00d6c2d3")
FRAGMENTATION_MAIN = 0x80000000
"""In the four octets that may follow: fragments in main and aggressive mode."""
RFC_3947 = _of("RFC 3947")
DRAFT_03 = _of("draft-ietf-ipsec-nat-t-ike-03")
DRAFT_02 = _of("draft-ietf-ipsec-nat-t-ike-02")
DRAFT_02_NEWLINE = _of("draft-ietf-ipsec-nat-t-ike-02\n")

_NAT_TRAVERSAL: dict[bytes, NatTraversal] = {
    RFC_3947: NatTraversal.RFC_3947,
    DRAFT_03: NatTraversal.DRAFT_02,
    DRAFT_02: NatTraversal.DRAFT_02,
    DRAFT_02_NEWLINE: NatTraversal.DRAFT_02,
}
"""Best first."""


def offered(connection: ConnectionPolicy) -> list[bytes]:
    """What the initiator sends with its first message."""
    found = [XAUTH, DPD, FRAGMENTATION + FRAGMENTATION_MAIN.to_bytes(4, "big"), UNITY]
    found += list(_NAT_TRAVERSAL)
    return [*found, *draft_features.vendor_ids([connection])]


def answered(
    sa: IkeSa, theirs: Iterable[bytes], candidates: Iterable[ConnectionPolicy]
) -> list[bytes]:
    """What the responder sends back: of the initiator's, what it knows and policy allows."""
    shown = set(theirs)
    found = [XAUTH, DPD]
    if sa.fragmentation:
        found.append(FRAGMENTATION + FRAGMENTATION_MAIN.to_bytes(4, "big"))
    if sa.peer.unity:
        found.append(UNITY)
    best = next((vid for vid in _NAT_TRAVERSAL if vid in shown), None)
    if best is not None:
        found.append(best)
    return [*found, *(vid for vid in draft_features.vendor_ids(candidates) if vid in shown)]


def take(sa: IkeSa, theirs: Iterable[bytes], connections: Iterable[ConnectionPolicy]) -> None:
    """Note what the peer's vendor ids say; unknown ones say nothing."""
    shown = set(theirs)
    best = next(
        (kind for vid, kind in _NAT_TRAVERSAL.items() if vid in shown), sa.peer.nat_traversal
    )
    sa.peer = Peer(
        best,
        dpd=sa.peer.dpd or any(vid[:14] == DPD[:14] and len(vid) == len(DPD) for vid in shown),
        xauth=sa.peer.xauth or XAUTH in shown,
        unity=sa.peer.unity or any(vid[:14] == UNITY_PREFIX for vid in shown),
    )
    sa.fragmentation = sa.fragmentation or any(_fragments(vid) for vid in shown)
    draft_features.note_vendor_ids(sa, shown, draft_features.vendor_ids(connections))


def _fragments(vid: bytes) -> bool:
    if vid[:16] != FRAGMENTATION:
        return False
    return len(vid) == 16 or (
        len(vid) == 20 and bool(int.from_bytes(vid[16:], "big") & FRAGMENTATION_MAIN)
    )
