"""NAT detection and the choice of encapsulation (RFC 7296 section 2.23)."""

from collections.abc import Sequence
from functools import lru_cache
from hashlib import sha1

from gateway.domain.endpoint import Endpoint, Path
from gateway.ike.codec import Notify
from gateway.ike.registry import NotifyType

HASH_OCTETS = 20


@lru_cache(maxsize=4096)
def _endpoint_octets(endpoint: Endpoint) -> bytes:
    return endpoint.address.packed + endpoint.port.to_bytes(2, "big")


def detection_hash(spi_i: bytes, spi_r: bytes, endpoint: Endpoint) -> bytes:
    """SHA-1 over both SPIs, the address and the port, as RFC 7296 wants it (not for security)."""
    material = spi_i + spi_r + _endpoint_octets(endpoint)
    return sha1(material, usedforsecurity=False).digest()


def detection_notifies(
    spi_i: bytes, spi_r: bytes, path: Path, *, force_encapsulation: bool = False
) -> tuple[Notify, Notify]:
    """Our two NAT detection payloads.

    With ``force_encapsulation`` the source hash is that of port 0, which no datagram comes from:
    the peer then sees a NAT in front of us and encapsulates.
    """
    source = Endpoint(path.local.address, 0) if force_encapsulation else path.local
    return (
        Notify(NotifyType.NAT_DETECTION_SOURCE_IP, detection_hash(spi_i, spi_r, source)),
        Notify(NotifyType.NAT_DETECTION_DESTINATION_IP, detection_hash(spi_i, spi_r, path.remote)),
    )


def detect(
    spi_i: bytes,
    spi_r: bytes,
    path: Path,
    sources: Sequence[bytes],
    destinations: Sequence[bytes],
) -> tuple[bool, bool]:
    """Whether (we, the peer) are behind a NAT, by the hashes that the peer sent.

    A hash of a wrong length matches nothing. A peer that sent none of one kind says nothing
    about that side. By TCP nothing of ours is translated, and what the peer sends is always
    encapsulated (RFC 9329): to us it is behind a NAT.
    """
    if path.remote.stands_for_tcp:
        return False, True
    local = bool(destinations) and detection_hash(spi_i, spi_r, path.local) not in destinations
    remote = bool(sources) and detection_hash(spi_i, spi_r, path.remote) not in sources
    return local, remote
