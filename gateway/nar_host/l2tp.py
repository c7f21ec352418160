"""The L2TPv3 session with a server (RFC 3931), in the kernel: an Ethernet device in UDP.

Layouts: ``linux/l2tp.h``, ``linux/genetlink.h``. The tunnel's socket is in this host's network
namespace and stays there, its device moves to the hub. Unlike other devices it does not end with
the hub, so what the dead leave is closed by its number.
"""

import errno
import struct
import subprocess
from collections.abc import Iterable
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
from gateway.nar_host import rtnetlink
from gateway.nar_host.failure import NarHostError
from gateway.nar_host.record import Record, Tunnel

L2TP_PORT: Final = 1701
_NETLINK_GENERIC: Final = 16
_CONTROL, _GETFAMILY, _FAMILY_ID, _FAMILY_NAME = 16, 3, 1, 2
_TUNNEL_CREATE, _TUNNEL_DELETE, _SESSION_CREATE = 1, 2, 5
_PW_TYPE, _ENCAP_TYPE, _L2SPEC_TYPE, _VERSION, _IFNAME = 1, 2, 5, 7, 8
_CONN_ID, _PEER_CONN_ID, _SESSION_ID, _PEER_SESSION_ID = 9, 10, 11, 12
_COOKIE, _PEER_COOKIE, _SADDR, _DADDR, _SPORT, _DPORT = 15, 16, 24, 25, 26, 27
_ETHERNET, _OVER_UDP, _DEFAULT_SUBLAYER = 5, 0, 1
_GENL = struct.Struct("=BBH")
_U16 = struct.Struct("=H")
_U32 = struct.Struct("=I")


def make(name: str, tunnel: Tunnel, host: NetlinkSocket) -> int:
    """Open the tunnel and its session; the index of the device. Raises OSError."""
    session = tunnel.l2tp
    if session is None:
        raise ValueError("no L2TP session")
    generic = NetlinkSocket(_NETLINK_GENERIC)
    try:
        family = _family(generic)
        _delete(generic, family, session.peer_tunnel_id)
        create = _create(tunnel, session)
        try:
            generic.check("L2TP tunnel", [_request(family, _TUNNEL_CREATE, create)])
        except NetlinkError as error:
            if error.errno == errno.EADDRINUSE:
                text = f"UDP port {L2TP_PORT} is in use: end the program that has it, or try --gre"
                raise NarHostError(text, error.errno) from error
            raise
        opened = _request(family, _SESSION_CREATE, _inside(name, session))
        try:
            generic.check("L2TP session", [opened])
            index = rtnetlink.links(host)[name]
            configured = rtnetlink.configure(index, tunnel.mtu, session.link_address)
            host.check(name, [configured])
        except OSError:
            _delete(generic, family, session.peer_tunnel_id)
            raise
        return index
    finally:
        generic.close()


def clear(dead: Iterable[Record], living: Iterable[Record]) -> None:
    """Close what the dead had and nobody has. Raises OSError."""
    kept = {one.tunnel for one in living if one.attached}
    gone = {one.tunnel for one in dead if one.tunnel is not None} - kept
    sessions = {one.l2tp for one in gone if one is not None and one.l2tp is not None}
    if not sessions:
        return
    generic = NetlinkSocket(_NETLINK_GENERIC)
    try:
        family = _family(generic)
        for session in sessions:
            _delete(generic, family, session.peer_tunnel_id)
    finally:
        generic.close()


def _create(tunnel: Tunnel, session: L2tpSession) -> bytes:
    """Our end: what the server names its peer's is ours."""
    return (
        attribute(_CONN_ID, _U32.pack(session.peer_tunnel_id))
        + attribute(_PEER_CONN_ID, _U32.pack(session.tunnel_id))
        + attribute(_VERSION, b"\3")
        + attribute(_ENCAP_TYPE, _U16.pack(_OVER_UDP))
        + attribute(_SADDR, tunnel.local.packed)
        + attribute(_DADDR, tunnel.remote.packed)
        + attribute(_SPORT, _U16.pack(L2TP_PORT))
        + attribute(_DPORT, _U16.pack(L2TP_PORT))
    )


def _inside(name: str, session: L2tpSession) -> bytes:
    return (
        attribute(_CONN_ID, _U32.pack(session.peer_tunnel_id))
        + attribute(_SESSION_ID, _U32.pack(session.peer_session_id))
        + attribute(_PEER_SESSION_ID, _U32.pack(session.session_id))
        + attribute(_PW_TYPE, _U16.pack(_ETHERNET))
        + attribute(_L2SPEC_TYPE, bytes([_DEFAULT_SUBLAYER]))
        # The kernel sends the one and expects the other.
        + attribute(_COOKIE, session.cookie)
        + attribute(_PEER_COOKIE, session.peer_cookie)
        + attribute(_IFNAME, name.encode() + b"\0")
    )


def _family(generic: NetlinkSocket) -> int:
    """The number of generic netlink's family "l2tp". Raises :class:`NarHostError`."""
    number = _ask_family(generic)
    if not number:
        _load_module()
        number = _ask_family(generic)
    if not number:
        text = "the kernel has no L2TPv3 (CONFIG_L2TP_ETH, module l2tp_eth); try without --l2tp"
        raise NarHostError(text, errno.EOPNOTSUPP)
    return number


def _ask_family(generic: NetlinkSocket) -> int:
    body = _GENL.pack(_GETFAMILY, 1, 0) + attribute(_FAMILY_NAME, b"l2tp\0")
    _, answers = generic.transact([request(_CONTROL, NLM_F_ACK, body)])
    for _, _, answer in answers:
        number = attributes(answer, _GENL.size).get(_FAMILY_ID, b"")
        if len(number) == 2:
            return int(_U16.unpack(number)[0])
    return 0


def _load_module() -> None:
    """It is not loaded on demand. Never raises."""
    try:
        command = ["modprobe", "-q", "l2tp_eth"]
        subprocess.run(command, check=False, timeout=10, capture_output=True)
    except (OSError, subprocess.SubprocessError):
        return


def _request(family: int, command: int, body: bytes) -> bytes:
    return request(family, NLM_F_ACK, _GENL.pack(command, 1, 0) + body)


def _delete(generic: NetlinkSocket, family: int, number: int) -> None:
    body = attribute(_CONN_ID, _U32.pack(number))
    gone = _request(family, _TUNNEL_DELETE, body)
    generic.check("closing an L2TP tunnel", [gone], errno.ENODEV)
