"""Tunnels with servers where the kernel has no such devices: link pairs that a forwarder serves.

The forwarder lives on the host, as long as the session does. One end of each pair is the hub's.
"""

import shutil
from pathlib import Path
from typing import Final

from gateway.dataplane.kernel.l2tp import L2TP_PORT
from gateway.dataplane.portable.forwarder import ForwarderUnavailableError
from gateway.dataplane.portable.launch import open_forwarder
from gateway.dataplane.portable.tunnel_link import TunnelKind, TunnelLink
from gateway.dataplane.portable.wire import links
from gateway.domain.nar import Delivery
from gateway.nar_host.failure import NarHostError
from gateway.nar_host.record import Tunnel

LARGEST: Final = 65_535
"""MTU of a pair: what comes out of a tunnel has the size that it has. Routes say what goes in."""
_KINDS: Final = {Delivery.IP_IP: TunnelKind.IP_IP, Delivery.GRE: TunnelKind.GRE}


def link_of(name: str, tunnel: Tunnel) -> TunnelLink:
    """What the forwarder is told."""
    session = tunnel.l2tp
    if session is None:
        return TunnelLink(name, _KINDS[tunnel.delivery], local=tunnel.local, remote=tunnel.remote)
    return TunnelLink(
        name,
        TunnelKind.L2TP,
        local=tunnel.local,
        remote=tunnel.remote,
        local_port=L2TP_PORT,
        remote_port=L2TP_PORT,
        # What the server names its peer's is ours.
        session=session.peer_session_id,
        peer_session=session.session_id,
        cookie=session.peer_cookie,
        peer_cookie=session.cookie,
        link_address=session.link_address,
    )


class PortableTunnels:
    """Makes them. Methods raise OSError, as NarHostError where there is something to say."""

    def __init__(self, folder: Path) -> None:
        """``folder`` is the forwarder's, and goes with it. It is started here."""
        self._folder = folder
        try:
            # One process: it carries what one program sends.
            self._forwarder = open_forwarder(
                folder, interface="", adopt=False, workers=1, lasting=False
            )
        except ForwarderUnavailableError as error:
            raise NarHostError(f"no tunnels in user space: {error}", error.errno) from error

    def make(self, name: str, tunnel: Tunnel) -> int:
        """The index of the device, on the host."""
        links.delete(name)
        index = links.make_pair(name, LARGEST)
        try:
            self._forwarder.set_tunnel(link_of(name, tunnel))
            _, refused = self._forwarder.commit()
            if refused:
                raise NarHostError(f"no tunnel with {tunnel.remote}: {refused[0].reason}")
        except OSError:
            links.delete(name)
            raise
        return index

    def dropped(self, name: str) -> None:
        """A device of ours is gone."""
        self._forwarder.remove_tunnel(name)
        self._forwarder.commit()

    def close(self) -> None:
        """End the forwarder."""
        self._forwarder.close(keep=False)
        shutil.rmtree(self._folder, ignore_errors=True)
