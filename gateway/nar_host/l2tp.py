"""The L2TPv3 session with a server (RFC 3931), in the kernel: an Ethernet device in UDP.

The tunnel's socket is in this host's network
namespace and stays there, its device moves to the hub. Unlike other devices it does not end with
the hub, so what the dead leave is closed by its number.
"""

import errno
import subprocess
from collections.abc import Iterable
from dataclasses import replace

from gateway.dataplane.kernel.l2tp import L2TP_PORT, L2tpNetlink
from gateway.dataplane.kernel.netlink import NetlinkError, NetlinkSocket
from gateway.domain.nar import L2tpSession
from gateway.nar_host import rtnetlink
from gateway.nar_host.failure import NarHostError
from gateway.nar_host.record import Record, Tunnel


def make(name: str, tunnel: Tunnel, host: NetlinkSocket) -> int:
    """Open the tunnel and its session; the index of the device. Raises OSError."""
    session = tunnel.l2tp
    if session is None:
        raise ValueError("no L2TP session")
    ours = _from_here(session)
    netlink = L2tpNetlink()
    try:
        _need_family(netlink)
        netlink.delete_tunnel(ours.tunnel_id)
        try:
            netlink.create_tunnel(ours, tunnel.local, tunnel.remote, L2TP_PORT)
        except NetlinkError as error:
            if error.errno == errno.EADDRINUSE:
                text = f"UDP port {L2TP_PORT} is in use: end the program that has it, or try --gre"
                raise NarHostError(text, error.errno) from error
            raise
        try:
            netlink.create_session(ours, name)
            index = rtnetlink.links(host)[name]
            configured = rtnetlink.configure(index, tunnel.mtu, session.link_address)
            host.check(name, [configured])
        except OSError:
            netlink.delete_tunnel(ours.tunnel_id)
            raise
        return index
    finally:
        netlink.close()


def clear(dead: Iterable[Record], living: Iterable[Record]) -> None:
    """Close what the dead had in the kernel and nobody has. Raises OSError."""
    kept = {one.tunnel for one in living if one.attached}
    gone = {one.tunnel for one in dead if one.tunnel is not None and not one.apart} - kept
    sessions = {one.l2tp for one in gone if one is not None and one.l2tp is not None}
    if not sessions:
        return
    netlink = L2tpNetlink()
    try:
        _need_family(netlink)
        for session in sessions:
            netlink.delete_tunnel(_from_here(session).tunnel_id)
    finally:
        netlink.close()


def _from_here(session: L2tpSession) -> L2tpSession:
    """What the server names its peer's is ours."""
    return replace(
        session,
        tunnel_id=session.peer_tunnel_id,
        peer_tunnel_id=session.tunnel_id,
        session_id=session.peer_session_id,
        peer_session_id=session.session_id,
        cookie=session.peer_cookie,
        peer_cookie=session.cookie,
    )


def find_family(netlink: L2tpNetlink) -> bool:
    """Whether the kernel has L2TPv3; its module is loaded where there is one. Raises OSError."""
    if netlink.find_family():
        return True
    _load_module()
    return netlink.find_family()


def _need_family(netlink: L2tpNetlink) -> None:
    """Raises :class:`NarHostError`."""
    if not find_family(netlink):
        text = "the kernel has no L2TPv3 (CONFIG_L2TP_ETH, module l2tp_eth); try without --l2tp"
        raise NarHostError(text, errno.EOPNOTSUPP)


def _load_module() -> None:
    """It is not loaded on demand. Never raises."""
    try:
        command = ["modprobe", "-q", "l2tp_eth"]
        subprocess.run(command, check=False, timeout=10, capture_output=True)
    except (OSError, subprocess.SubprocessError):
        return
