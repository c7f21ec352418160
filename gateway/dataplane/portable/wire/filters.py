"""Classic BPF programs: which packets of a socket are this process's."""

import ctypes
import socket
import struct
from collections.abc import Sequence
from typing import Final

Program = Sequence[tuple[int, int, int, int]]
"""Code, jump if true, jump if false, operand."""

MAX_PORTS: Final = 64
"""UDP ports that one socket listens to."""

_LD_WORD_ABS, _LD_HALF_ABS, _LD_BYTE_ABS = 0x20, 0x28, 0x30
_LD_HALF_IND, _LD_WORD_IND = 0x48, 0x40
_LDX_IMMEDIATE, _LDX_HEADER_LENGTH = 0x01, 0xB1
_MOD, _JUMP_EQUAL, _JUMP_GREATER = 0x94, 0x15, 0x25
_RETURN, _RETURN_A = 0x06, 0x16
_RIGHT_SHIFT = 0x74
_WHOLE = 0xFFFFFFFF
_ATTACH = 26

_PROTOCOL = 0xFFFFF000
"""``SKF_AD_PROTOCOL``: the Ethernet type."""

ONLY_IP: Final[Program] = (
    (_LD_HALF_ABS, 0, 0, _PROTOCOL),
    (_JUMP_EQUAL, 1, 0, 0x0800),
    (_JUMP_EQUAL, 0, 1, 0x86DD),
    (_RETURN, 0, 0, _WHOLE),
    (_RETURN, 0, 0, 0),
)
EVERYTHING: Final[Program] = ((_RETURN, 0, 0, _WHOLE),)
NOTHING: Final[Program] = ((_RETURN, 0, 0, 0),)


def _transport(version: int) -> tuple[int, int, int, int]:
    """Let X point to the transport header: raw IPv6 sockets see packets from there on."""
    return (_LDX_HEADER_LENGTH, 0, 0, 0) if version == 4 else (_LDX_IMMEDIATE, 0, 0, 0)


def esp(version: int, worker: int, workers: int) -> Program:
    """ESP packets of a raw socket whose SPI modulo ``workers`` is ``worker``."""
    return (
        _transport(version),
        (_LD_WORD_IND, 0, 0, 0),
        (_MOD, 0, 0, workers),
        (_JUMP_EQUAL, 0, 1, worker),
        (_RETURN, 0, 0, _WHOLE),
        (_RETURN, 0, 0, 0),
    )


def esp_in_udp(version: int, ports: Sequence[int], worker: int, workers: int) -> Program:
    """The same for ESP in UDP (RFC 3948): no IKE, whose first four octets are 0; no keepalives."""
    return (
        *_ports(version, ports),
        (_LD_HALF_IND, 0, 0, 4),
        (_JUMP_GREATER, 0, 5, 8 + 8),
        (_LD_WORD_IND, 0, 0, 8),
        (_JUMP_EQUAL, 3, 0, 0),
        (_MOD, 0, 0, workers),
        (_JUMP_EQUAL, 0, 1, worker),
        (_RETURN, 0, 0, _WHOLE),
        (_RETURN, 0, 0, 0),
    )


def udp(version: int, ports: Sequence[int]) -> Program:
    """UDP packets of a raw socket to any of these ports."""
    return (*_ports(version, ports), (_RETURN, 0, 0, _WHOLE))


def _ports(version: int, ports: Sequence[int]) -> Program:
    """Goes on behind itself for these destination ports, and takes nothing else."""
    few = list(ports)[:MAX_PORTS]
    checks = [(_JUMP_EQUAL, len(few) - at, 0, port) for at, port in enumerate(few)]
    return (_transport(version), (_LD_HALF_IND, 0, 0, 2), *checks, (_RETURN, 0, 0, 0))


def by_destination() -> Program:
    """The last four octets of an inner destination, for ``PACKET_FANOUT_CBPF``."""
    return (
        (_LD_BYTE_ABS, 0, 0, 0),
        (_RIGHT_SHIFT, 0, 0, 4),
        (_JUMP_EQUAL, 2, 0, 6),
        (_LD_WORD_ABS, 0, 0, 16),
        (_RETURN_A, 0, 0, 0),
        (_LD_WORD_ABS, 0, 0, 36),
        (_RETURN_A, 0, 0, 0),
    )


def attach(
    sock: socket.socket, program: Program, level: int = socket.SOL_SOCKET, option: int = _ATTACH
) -> None:
    """Give a program to the kernel, which takes it in place of the one before. Raises OSError."""
    code = b"".join(struct.pack("=HBBI", *step) for step in program)
    buffer = ctypes.create_string_buffer(code)
    described = struct.pack("@HP", len(program), ctypes.addressof(buffer))
    sock.setsockopt(level, option, described)
