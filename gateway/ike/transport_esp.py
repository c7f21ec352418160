"""What an IKE socket does with the ESP that comes to the NAT port beside IKE (RFC 3948)."""

import ctypes
import enum
import socket
import struct

UDP_ENCAP = 100
UDP_ENCAP_ESPINUDP = 2
IP_XFRM_POLICY = 17
IPV6_XFRM_POLICY = 35
SO_ATTACH_FILTER = 26
SO_DETACH_FILTER = 27

_SELECTOR = struct.Struct("=16s16sHHHHHBBB3xiI")
_POLICY_REST = struct.Struct("=96xIIBBBB4x")  # lifetimes left at 0, then priority ... share
_INSTRUCTION = struct.Struct("=HBBI")
_PROGRAM = struct.Struct("@HP")
_LOAD_LENGTH, _LOAD_WORD, _EQUAL, _RETURN = 0x80, 0x20, 0x15, 0x06
_UDP_HEADER = 8
_KEEPALIVE_OCTETS = _UDP_HEADER + 1
_WHOLE = 0xFFFF_FFFF


class EspInUdp(enum.Enum):
    """Who takes it."""

    KERNEL = "kernel"
    """The socket hands it to the kernel's IPsec, and bypasses every policy of that itself."""
    FILTERED = "filtered"
    """Another process reads it: it never comes to this socket, and wakes nobody here."""
    NONE = "none"
    """Nobody; it is counted and dropped. Needs no privileges."""


def settle(sock: socket.socket, esp: EspInUdp, *, nat: bool) -> None:
    """Set the options of a socket, of an earlier process perhaps. Raises OSError."""
    six = sock.family == socket.AF_INET6
    if esp is EspInUdp.KERNEL:
        level = socket.IPPROTO_IPV6 if six else socket.IPPROTO_IP
        for outbound in (False, True):
            policy = bypass_policy(sock.family, outbound=outbound)
            sock.setsockopt(level, IPV6_XFRM_POLICY if six else IP_XFRM_POLICY, policy)
        if nat:
            sock.setsockopt(socket.IPPROTO_UDP, UDP_ENCAP, UDP_ENCAP_ESPINUDP)
    if esp is EspInUdp.FILTERED and nat:
        attach_filter(sock)


def release(sock: socket.socket) -> None:
    """Make a socket of an earlier process as if it had no such options; policies may stay."""
    if sock.getsockopt(socket.IPPROTO_UDP, UDP_ENCAP):
        sock.setsockopt(socket.IPPROTO_UDP, UDP_ENCAP, 0)
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)
    except FileNotFoundError:
        return  # it has none


def bypass_policy(family: int, *, outbound: bool) -> bytes:
    """``struct xfrm_userpolicy_info`` of a per-socket policy that lets everything pass."""
    selector = _SELECTOR.pack(b"", b"", 0, 0, 0, 0, family, 0, 0, 0, 0, 0)
    return selector + _POLICY_REST.pack(0, 0, 1 if outbound else 0, 0, 0, 0)


def attach_filter(sock: socket.socket) -> None:
    """Let keepalives and what begins with the non-ESP marker in, and nothing else.

    Classic BPF; the socket's filter sees datagrams from their UDP header on.
    """
    program = b"".join(
        _INSTRUCTION.pack(*one)
        for one in (
            (_LOAD_LENGTH, 0, 0, 0),
            (_EQUAL, 2, 0, _KEEPALIVE_OCTETS),
            (_LOAD_WORD, 0, 0, _UDP_HEADER),  # too short: dropped
            (_EQUAL, 0, 1, 0),
            (_RETURN, 0, 0, _WHOLE),
            (_RETURN, 0, 0, 0),
        )
    )
    kept = ctypes.create_string_buffer(program, len(program))
    count = len(program) // _INSTRUCTION.size
    described = _PROGRAM.pack(count, ctypes.addressof(kept))
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, described)
