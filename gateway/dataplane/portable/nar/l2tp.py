"""Clients' L2TPv3 sessions as link pairs that the forwarder serves.

The ruleset brings what clients send to a port at :data:`constants.LOCAL`, and gives what comes from
there the address and port that they know. Here the session's id tells clients apart, so one port
stands for each address of ours that clients know.
"""

import contextlib
import errno
from ipaddress import IPv4Address
from typing import Final

from gateway.dataplane.kernel.l2tp import L2TP_PORT
from gateway.dataplane.kernel.mobility.devices import Devices
from gateway.dataplane.kernel.nar import constants
from gateway.dataplane.kernel.nar.devices import without_ipv6
from gateway.dataplane.kernel.nar.l2tp import L2tpLink, link_name
from gateway.dataplane.portable.forwarder import Forwarder
from gateway.dataplane.portable.nar.links import LARGEST, serve
from gateway.dataplane.portable.tunnel_link import TunnelKind, TunnelLink
from gateway.dataplane.portable.wire import links
from gateway.domain.nar import L2tpSession

PORTS: Final = range(64_950, 65_000)
"""Above those that programs are given by themselves."""


def tunnel_link(session: L2tpSession, port: int) -> TunnelLink:
    """What the forwarder is told of a session."""
    return TunnelLink(
        link_name(session),
        TunnelKind.L2TP,
        local=constants.LOCAL,
        remote=session.client,
        # The client's would lead back into its session.
        mark=0,
        local_port=port,
        remote_port=L2TP_PORT,
        session=session.session_id,
        peer_session=session.peer_session_id,
        cookie=session.cookie,
        peer_cookie=session.peer_cookie,
        link_address=session.link_address,
    )


class L2tpLinks:
    """Implements :class:`gateway.dataplane.kernel.nar.below.L2tpSessions`."""

    problem = ""

    def __init__(self, forwarder: Forwarder) -> None:
        self._forwarder = forwarder
        self._names: dict[int, str] = {}
        """Of the interfaces, by tunnel id."""
        self._ports: dict[IPv4Address, int] = {}
        """By the address that clients know us by."""
        self._found: dict[str, TunnelLink] | None = None

    def open(
        self,
        session: L2tpSession,
        server: IPv4Address,
        mtu: int,  # noqa: ARG002 - routes say what fits
    ) -> L2tpLink:
        """See :meth:`L2tpSessions.open`. The pair of an earlier process goes on."""
        name = link_name(session)
        self.delete(session.tunnel_id)
        if name in self._names.values():
            raise OSError(errno.EEXIST, f"interface {name} is of another session")
        port = self._port(server, name)
        fresh = not links.exists(name)
        if fresh:
            links.make_pair(name, LARGEST, constants.DEVICE_GROUP)
            without_ipv6(name)
        try:
            serve(self._forwarder, tunnel_link(session, port))
        except OSError:
            self._remove(name)
            raise
        self._names[session.tunnel_id] = name
        return L2tpLink(session, name, port)

    def _port(self, server: IPv4Address, name: str) -> int:
        if self._found is None:
            self._found = {one.name: one for one in self._served()}
        if server not in self._ports:
            taken = set(self._ports.values())
            before = self._found.get(name)
            if before is not None and before.local_port in set(PORTS) - taken:
                self._ports[server] = before.local_port
            else:
                # Others of an earlier process may go on with theirs.
                taken |= {one.local_port for one in self._found.values()}
                left = [port for port in PORTS if port not in taken]
                if not left:
                    raise OSError(errno.EADDRINUSE, "no port left for L2TP sessions")
                self._ports[server] = left[0]
        return self._ports[server]

    def _served(self) -> list[TunnelLink]:
        prefix = constants.L2TP_PREFIX
        return [one for one in self._forwarder.tunnels() if one.name.startswith(prefix)]

    def delete(self, tunnel_id: int) -> None:
        """See :meth:`L2tpSessions.delete`."""
        name = self._names.pop(tunnel_id, None)
        if name is not None:
            self._remove(name)

    def _remove(self, name: str) -> None:
        self._forwarder.remove_tunnel(name)
        try:
            self._forwarder.commit()
        finally:
            links.delete(name)

    def delete_unused(self, wanted: set[int]) -> None:
        """See :meth:`L2tpSessions.delete_unused`."""
        kept = {name for number, name in self._names.items() if number in wanted}
        with contextlib.closing(Devices()) as devices:
            there = {
                name
                for name, one in devices.every().items()
                if name.startswith(constants.L2TP_PREFIX) and one.group == constants.DEVICE_GROUP
            }
        for name in (there | {one.name for one in self._served()}) - kept:
            self._remove(name)
        self._names = {number: name for number, name in self._names.items() if name in kept}
        self._found = {}

    def delete_all(self) -> None:
        """See :meth:`L2tpSessions.delete_all`."""
        self.delete_unused(set())

    def close(self) -> None:
        """See :meth:`L2tpSessions.close`: there is nothing to close."""
