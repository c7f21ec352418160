"""NAT detection in phase 1 (RFC 3947 section 3.2) and the change to the NAT port."""

from collections.abc import Sequence

from gateway.domain.endpoint import Endpoint, Path
from gateway.ike.crypto.prf import Prf
from gateway.ike.v1 import keys
from gateway.ike.v1.sa import IkeSa, NatTraversal

NAT_D = 20
"""Payload type of RFC 3947."""
NAT_D_DRAFT = 130
"""That of the drafts 00 to 03."""


def payload_type(sa: IkeSa) -> int:
    """The type of NAT-D payloads that both sides know."""
    return NAT_D_DRAFT if sa.peer.nat_traversal is NatTraversal.DRAFT_02 else NAT_D


def _hash(sa: IkeSa, endpoint: Endpoint) -> bytes:
    if sa.suite is None:
        raise ValueError("no suite")
    material = sa.initiator_spi + sa.responder_spi
    material += endpoint.address.packed + endpoint.port.to_bytes(2, "big")
    return keys.digest(Prf.of(sa.suite.prf), material)


def detection_hashes(sa: IkeSa, path: Path, *, force_encapsulation: bool) -> tuple[bytes, bytes]:
    """The contents of our two NAT-D payloads, that of the destination first.

    With ``force_encapsulation`` the source hash is that of port 0, which no datagram comes from:
    the peer then sees a NAT in front of us and encapsulates.
    """
    source = Endpoint(path.local.address, 0) if force_encapsulation else path.local
    return _hash(sa, path.remote), _hash(sa, source)


def take(sa: IkeSa, path: Path, hashes: Sequence[bytes]) -> None:
    """Judge the peer's NAT-D payloads: the first is about us, the others about the peer.

    One alone says nothing about the peer's side; a hash of a wrong length fits nothing.
    """
    if not hashes or sa.peer.nat_traversal is NatTraversal.NONE:
        return
    sa.local_natted = hashes[0] != _hash(sa, path.local)
    sa.remote_natted = len(hashes) > 1 and _hash(sa, path.remote) not in hashes[1:]


def floated(sa: IkeSa, nat_port: int, *, force: bool) -> bool:
    """Decide on encapsulation; as the initiator go to the NAT port. Whether the path changed."""
    if sa.peer.nat_traversal is NatTraversal.NONE:
        return False
    sa.encapsulate = sa.local_natted or sa.remote_natted or force
    if not sa.encapsulate or not sa.initiator or sa.path.local.port == nat_port:
        return False
    sa.path = Path(
        Endpoint(sa.path.local.address, nat_port), Endpoint(sa.path.remote.address, nat_port)
    )
    return True
