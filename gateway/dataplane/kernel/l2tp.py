"""Static L2TPv3 in the kernel: tunnels in UDP, each with one Ethernet session (RFC 3931).

Layouts: ``linux/l2tp.h``, ``linux/genetlink.h``. Tunnels and sessions are the kernel's, not those
of a socket of ours: they outlive this process.
"""

import errno
import struct
import time
from collections.abc import Iterator
from ipaddress import IPv4Address
from typing import Final

from gateway.dataplane.kernel.netlink import (
    NLM_F_ACK,
    NetlinkError,
    NetlinkSocket,
    attribute,
    attributes,
    request,
)
from gateway.domain.nar import L2tpSession

L2TP_PORT: Final = 1701
CLOSING_TRIES: Final = 100
CLOSING_S: Final = 0.002
"""The kernel closes a deleted tunnel a moment later; its number is taken until then."""

IFNAME, CONN_ID, PEER_CONN_ID, SESSION_ID, PEER_SESSION_ID = 8, 9, 10, 11, 12
COOKIE, PEER_COOKIE, SADDR, DADDR, SPORT = 15, 16, 24, 25, 26
"""Attributes of what :meth:`L2tpNetlink.tunnels` and :meth:`L2tpNetlink.sessions` tell."""

_NETLINK_GENERIC: Final = 16
_CONTROL, _GETFAMILY, _FAMILY_ID, _FAMILY_NAME = 16, 3, 1, 2
_TUNNEL_CREATE, _TUNNEL_DELETE, _TUNNEL_GET = 1, 2, 4
_SESSION_CREATE, _SESSION_GET = 5, 8
_PW_TYPE, _ENCAP_TYPE, _L2SPEC_TYPE, _VERSION, _DPORT = 1, 2, 5, 7, 27
_ETHERNET, _OVER_UDP, _DEFAULT_SUBLAYER = 5, 0, 1
_GENL = struct.Struct("=BBH")
_U16 = struct.Struct("=H")
_U32 = struct.Struct("=I")


class L2tpNetlink:
    """The generic netlink family "l2tp". Call :meth:`find_family` before anything else."""

    def __init__(self) -> None:
        self._socket = NetlinkSocket(_NETLINK_GENERIC)
        self.family = 0
        """Its number; 0: not found."""

    def close(self) -> None:
        """Close the socket; sessions stay."""
        self._socket.close()

    def find_family(self) -> bool:
        """Ask the kernel for the family; whether it has it. Raises OSError."""
        body = _GENL.pack(_GETFAMILY, 1, 0) + attribute(_FAMILY_NAME, b"l2tp\0")
        _, answers = self._socket.transact([request(_CONTROL, NLM_F_ACK, body)])
        for _, _, answer in answers:
            number = attributes(answer, _GENL.size).get(_FAMILY_ID, b"")
            if len(number) == 2:
                self.family = _U16.unpack(number)[0]
        return self.family != 0

    def create_tunnel(
        self, session: L2tpSession, local: IPv4Address, remote: IPv4Address, port: int
    ) -> None:
        """The tunnel of a session as seen from here, from ``port`` to L2TP's.

        Waits a moment for one of the same number that was just deleted. Raises OSError.
        """
        body = (
            attribute(CONN_ID, _U32.pack(session.tunnel_id))
            + attribute(PEER_CONN_ID, _U32.pack(session.peer_tunnel_id))
            + attribute(_VERSION, b"\3")
            + attribute(_ENCAP_TYPE, _U16.pack(_OVER_UDP))
            + attribute(SADDR, local.packed)
            + attribute(DADDR, remote.packed)
            + attribute(SPORT, _U16.pack(port))
            + attribute(_DPORT, _U16.pack(L2TP_PORT))
        )
        for rest in reversed(range(CLOSING_TRIES)):
            try:
                self._socket.check("L2TP tunnel", [self._request(_TUNNEL_CREATE, body)])
            except NetlinkError as error:
                if error.errno != errno.EEXIST or not rest:
                    raise
                time.sleep(CLOSING_S)
            else:
                return

    def create_session(self, session: L2tpSession, interface: str) -> None:
        """Its session as seen from here, with a device of this name. Raises OSError."""
        body = (
            attribute(CONN_ID, _U32.pack(session.tunnel_id))
            + attribute(SESSION_ID, _U32.pack(session.session_id))
            + attribute(PEER_SESSION_ID, _U32.pack(session.peer_session_id))
            + attribute(_PW_TYPE, _U16.pack(_ETHERNET))
            + attribute(_L2SPEC_TYPE, bytes([_DEFAULT_SUBLAYER]))
            # The kernel sends the one and expects the other.
            + attribute(COOKIE, session.peer_cookie)
            + attribute(PEER_COOKIE, session.cookie)
            + attribute(IFNAME, interface.encode() + b"\0")
        )
        self._socket.check("L2TP session", [self._request(_SESSION_CREATE, body)])

    def delete_tunnel(self, tunnel_id: int) -> None:
        """Close a tunnel with its session; it may be gone. Raises OSError."""
        body = attribute(CONN_ID, _U32.pack(tunnel_id))
        gone = self._request(_TUNNEL_DELETE, body)
        self._socket.check("closing an L2TP tunnel", [gone], errno.ENODEV)

    def tunnels(self) -> Iterator[dict[int, bytes]]:
        """All tunnels of this network namespace, by attribute."""
        return self._dump(_TUNNEL_GET)

    def sessions(self) -> Iterator[dict[int, bytes]]:
        """All sessions of this network namespace, by attribute."""
        return self._dump(_SESSION_GET)

    def _dump(self, command: int) -> Iterator[dict[int, bytes]]:
        for _, body in self._socket.dump(self.family, _GENL.pack(command, 1, 0)):
            yield attributes(body, _GENL.size)

    def _request(self, command: int, body: bytes) -> bytes:
        return request(self.family, NLM_F_ACK, _GENL.pack(command, 1, 0) + body)
