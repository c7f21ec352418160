"""SA endpoint update: a peer's SAs follow its authenticated packets (draft 001, appendix C).

The dataplane or the IKE engine has seen an authentic, new packet from an outer address that is
not the peer's. This module says whether that moves the peer, and moves all of it in one step: the
IKE SA and every child SA, so packets in the reverse direction go to where the last proper packet
came from (C.3). Whoever holds a stolen fresh packet can move a peer for a moment; the device's
own next packet moves it back (C.4), and a budget bounds how often.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Protocol

from gateway.domain.child_sa import IpNetwork
from gateway.domain.endpoint import Endpoint, IpAddress, Path
from gateway.ike.outputs import Event, MoveChildSa, Output, Severity


@dataclass(slots=True)
class Move:
    """The last endpoint move of a peer, for status."""

    at: float
    old: str
    new: str
    proof: str


class MoveBudget:
    """How often one peer may still move: ``per_minute`` at once, refilled evenly."""

    __slots__ = ("_at", "_left")

    def __init__(self, per_minute: int, now: float) -> None:
        self._left = float(per_minute)
        self._at = now

    def take(self, per_minute: int, now: float) -> bool:
        """Use up one move; False when none is left."""
        refilled = self._left + max(now - self._at, 0.0) * per_minute / 60
        self._left = min(refilled, float(per_minute))
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class MovingPeer(Protocol):
    """An IKE SA of either version, as far as moving it goes."""

    path: Path
    local_natted: bool
    last_move: Move | None
    move_budget: MoveBudget | None

    @property
    def peer_name(self) -> str:
        """The peer's identity for people."""

    @property
    def connection_name(self) -> str:
        """The connection's name."""

    @property
    def session_id(self) -> str:
        """Names the session, through rekeying."""

    @property
    def spis(self) -> str:
        """Names the IKE SA."""

    def esp_sas(self) -> Iterable[tuple[int, bool]]:
        """(inbound SPI, whether encapsulated in UDP) of each child SA."""


@dataclass(frozen=True, slots=True)
class MovePolicy:
    """What moves are allowed at all."""

    allowed: bool
    """Whether the connection follows its peer."""
    own_addresses: Collection[IpAddress]
    inner_networks: Collection[IpNetwork]
    """Our pools and the peer's side of its tunnels: never an outer address."""
    per_minute: int


def objection(peer: MovingPeer, path: Path, policy: MovePolicy, now: float) -> str | None:
    """Why a peer must not move to this path, or None. Uses up the peer's budget when it may."""
    if not policy.allowed:
        return "endpoint_update is off for this connection"
    if peer.local_natted:
        # Whatever address we see then may be our own NAT's doing (RFC 7296 section 2.23).
        return "we are behind a NAT ourselves"
    wrong = wrong_address(path.remote, path.local, policy)
    if wrong is not None:
        return wrong
    if peer.move_budget is None:
        peer.move_budget = MoveBudget(policy.per_minute, now)
    if not peer.move_budget.take(policy.per_minute, now):
        return f"more than {policy.per_minute} moves in a minute"
    return None


def wrong_address(remote: Endpoint, local: Endpoint, policy: MovePolicy) -> str | None:
    """Why nobody can be at ``remote``, or None."""
    address = remote.address
    if address.version != local.address.version:
        return "the address is of another family"
    if address == local.address or address in policy.own_addresses:
        return "the address is our own"
    if remote.stands_for_tcp:
        return None
    if address.is_unspecified or address.is_multicast or address.is_loopback:
        return "the address is unspecified, multicast or loopback"
    if address.version == 4 and int(address) == 0xFFFFFFFF:
        return "the address is broadcast"
    for network in policy.inner_networks:
        if network.version == address.version and address in network:
            return f"the address is inside our own tunnels ({network})"
    return None


def move(peer: MovingPeer, path: Path, proof: str, now: float, outputs: list[Output]) -> None:
    """Move the IKE SA and every child SA of a peer, and report it once."""
    old = peer.path
    peer.path = path
    for spi_in, encapsulated in peer.esp_sas():
        outputs.append(MoveChildSa(spi_in, path.local, path.remote, udp_encapsulation=encapsulated))
    was, is_now = str(old.remote), str(path.remote)
    if old.remote == path.remote:
        was, is_now = str(old), str(path)
    peer.last_move = Move(now, was, is_now, proof)
    outputs.append(
        Event(
            "endpoint_moved",
            f"{peer.peer_name} ({peer.connection_name}) moved from {was} to {is_now}: {proof}",
            Severity.INFO,
            {
                "old": was,
                "new": is_now,
                "proof": proof,
                "connection": peer.connection_name,
                "peer": peer.peer_name,
                "session": peer.session_id,
                "spis": peer.spis,
            },
        )
    )
