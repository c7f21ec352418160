"""Who is at the other end of a unix socket."""

import os
import socket
import struct
from dataclasses import dataclass

from gateway.control.operation import Role

SO_PEERGROUPS = 59
_MAX_GROUPS = 1024
_CREDENTIALS = struct.Struct("3i")


@dataclass(frozen=True, slots=True)
class Peer:
    """Process, user and groups, as the kernel vouches for them."""

    pid: int
    uid: int
    groups: frozenset[int]

    def __str__(self) -> str:
        return f"pid {self.pid}, uid {self.uid}"


def peer_of(sock: socket.socket) -> Peer:
    """The credentials that the peer had when it connected. Raises OSError when it is gone."""
    size = _CREDENTIALS.size
    pid, uid, gid = _CREDENTIALS.unpack(
        sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    )
    try:
        more = sock.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, 4 * _MAX_GROUPS)
    except OSError:
        more = b""
    groups = struct.unpack(f"{len(more) // 4}i", more[: len(more) // 4 * 4])
    return Peer(pid, uid, frozenset((gid, *groups)))


@dataclass(frozen=True, slots=True)
class Access:
    """Who may do what."""

    uids: frozenset[int] = frozenset()
    gids: frozenset[int] = frozenset()
    api_uid: int | None = None

    def role(self, peer: Peer) -> Role | None:
        """The role of a peer, or None when it has no business here."""
        if _is_ours(peer) or peer.uid in self.uids:
            return Role.ADMINISTRATOR
        if self.speaks_for_others(peer):
            return Role.NOBODY  # whatever its groups: it joins the socket's to open the file
        return Role.ADMINISTRATOR if peer.groups & self.gids else None

    def speaks_for_others(self, peer: Peer) -> bool:
        """Whether its requests may carry the credential and address of who asks it."""
        return _is_ours(peer) or (self.api_uid is not None and peer.uid == self.api_uid)


def _is_ours(peer: Peer) -> bool:
    return peer.uid in {0, os.geteuid()}
