"""Static L2TPv3 sessions in the kernel, one tunnel and one Ethernet link for each client.

The kernel binds one socket for each tunnel, and no two of them to one port. So every tunnel has a
port of its own at :data:`constants.LOCAL`, and the ruleset exchanges it for Na and port 1701.
"""

import errno
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final

from gateway.dataplane.kernel import l2tp
from gateway.dataplane.kernel.nar import constants
from gateway.dataplane.kernel.nar.devices import without_ipv6
from gateway.dataplane.kernel.netlink import (
    NETLINK_ROUTE,
    NetlinkError,
    NetlinkSocket,
    attribute,
    request,
)
from gateway.domain.nar import L2tpSession

OVERHEAD: Final = 20 + 8 + 20 + 14
"""Octets: IPv4, UDP, L2TPv3 with cookie and sublayer, Ethernet."""
PORTS: Final = range(20_000, 60_000)

_U16 = struct.Struct("=H")
_U32 = struct.Struct("=I")

_RTM_NEWLINK = 16
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_GROUP = 1, 3, 4, 27
_IFF_UP, _IFF_NOARP = 1, 0x80
_INFO = struct.Struct("=BxHiII")


@dataclass(frozen=True, slots=True)
class L2tpLink:
    """A session as the kernel has it."""

    session: L2tpSession
    interface: str
    port: int
    """Where its tunnel listens, at :data:`constants.LOCAL`."""


def link_name(session: L2tpSession) -> str:
    """Of its interface; two sessions that agree in 24 bits cannot be open at a time."""
    return f"{constants.L2TP_PREFIX}{session.session_id & 0xFFFFFF:06x}"


class L2tpDevices:
    """Tunnels and sessions. Where the kernel has no L2TP, :attr:`problem` says so."""

    def __init__(self) -> None:
        self._l2tp = l2tp.L2tpNetlink()
        self._route = NetlinkSocket(NETLINK_ROUTE)
        self.problem = ""
        if not self._l2tp.find_family():
            self.problem = "no L2TP: load l2tp_eth (CONFIG_L2TP_V3, CONFIG_L2TP_ETH)"
        self._next = 0
        self._found: dict[int, tuple[int, bytes, bytes]] | None = None

    def close(self) -> None:
        """Close the sockets; sessions stay."""
        self._l2tp.close()
        self._route.close()

    def open(
        self,
        session: L2tpSession,
        server: IPv4Address,  # noqa: ARG002 - each tunnel has a port of its own, whosever it is
        mtu: int,
    ) -> L2tpLink:
        """Open it, or find it open. Raises OSError."""
        if self.problem:
            raise OSError(errno.EOPNOTSUPP, self.problem)
        port = self._open_already(session)
        fresh = not port
        if fresh:
            self.delete(session.tunnel_id)
            port = self._create(session)
        link = L2tpLink(session, link_name(session), port)
        self._set_up(link, mtu, fresh=fresh)
        return link

    def _create(self, session: L2tpSession) -> int:
        port = self._create_tunnel(session)
        try:
            self._l2tp.create_session(session, link_name(session))
        except OSError:
            self.delete(session.tunnel_id)
            raise
        return port

    def _create_tunnel(self, session: L2tpSession) -> int:
        """Returns its port."""
        start = self._next
        for step in range(len(PORTS)):
            self._next = (start + step + 1) % len(PORTS)
            port = PORTS[(start + step) % len(PORTS)]
            try:
                self._l2tp.create_tunnel(session, constants.LOCAL, session.client, port)
            except NetlinkError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
                continue
            return port
        raise OSError(errno.EADDRINUSE, "no port left for an L2TP tunnel")

    def _set_up(self, link: L2tpLink, mtu: int, *, fresh: bool) -> None:
        without_ipv6(link.interface)
        name = attribute(_IFLA_IFNAME, link.interface.encode() + b"\0")
        flags = _IFF_UP | _IFF_NOARP
        size = attribute(_IFLA_MTU, _U32.pack(mtu))
        group = attribute(_IFLA_GROUP, _U32.pack(constants.DEVICE_GROUP))
        messages = [
            request(_RTM_NEWLINK, 0, _INFO.pack(0, 0, 0, flags, flags) + name + size + group)
        ]
        if fresh:
            # Only while it is down. Nobody is asked for it: both ends have the same.
            address = attribute(_IFLA_ADDRESS, link.session.link_address)
            messages.insert(0, request(_RTM_NEWLINK, 0, _INFO.pack(0, 0, 0, 0, 0) + name + address))
        try:
            self._route.check(link.interface, messages)
        except OSError:
            self.delete(link.session.tunnel_id)
            raise

    def _open_already(self, session: L2tpSession) -> int:
        """The port of a tunnel of an earlier process that is the same in all; 0 if none is."""
        if self._found is None:
            self._found = dict(self._read())
        port, tunnel, inside = self._found.pop(session.tunnel_id, (0, b"", b""))
        same = tunnel == _tunnel_words(session) and inside == _session_words(session)
        return port if same else 0

    def _read(self) -> Iterator[tuple[int, tuple[int, bytes, bytes]]]:
        """Tunnels at our address by number: port, and what tells tunnel and session apart."""
        sessions: dict[bytes, bytes] = {}
        for found in self._l2tp.sessions():
            words = b"".join(
                found.get(kind, b"")
                for kind in (l2tp.SESSION_ID, l2tp.PEER_SESSION_ID, l2tp.COOKIE, l2tp.PEER_COOKIE)
            )
            name = found.get(l2tp.IFNAME, b"").rstrip(b"\0")
            sessions[found.get(l2tp.CONN_ID, b"")] = words + name
        for found in self._l2tp.tunnels():
            number, port = found.get(l2tp.CONN_ID, b""), found.get(l2tp.SPORT, b"")
            ours = found.get(l2tp.SADDR) == constants.LOCAL.packed
            if len(number) == 4 and len(port) == 2 and ours:
                words = found.get(l2tp.PEER_CONN_ID, b"") + found.get(l2tp.DADDR, b"")
                yield (
                    _U32.unpack(number)[0],
                    (_U16.unpack(port)[0], words, sessions.get(number, b"")),
                )

    def delete_unused(self, wanted: set[int]) -> None:
        """Close tunnels of an earlier process that are not among these. Raises OSError."""
        if self.problem:
            return
        for number in [number for number, _ in self._read() if number not in wanted]:
            self.delete(number)
        self._found = {}

    def delete(self, tunnel_id: int) -> None:
        """Close a tunnel with its session; it may be gone. Raises OSError."""
        if self._found:
            self._found.pop(tunnel_id, None)
        self._l2tp.delete_tunnel(tunnel_id)

    def delete_all(self) -> None:
        """Close all of ours. Raises OSError."""
        self.delete_unused(set())


def _tunnel_words(session: L2tpSession) -> bytes:
    return _U32.pack(session.peer_tunnel_id) + IPv4Address(session.client).packed


def _session_words(session: L2tpSession) -> bytes:
    return (
        _U32.pack(session.session_id)
        + _U32.pack(session.peer_session_id)
        + session.peer_cookie
        + session.cookie
        + link_name(session).encode()
    )
