"""Classic BPF programs: which packets of a socket are this process's."""

import ctypes
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

Program = Sequence[tuple[int, int, int, int]]
"""Code, jump if true, jump if false, operand."""

MAX_PORTS: Final = 64
"""UDP ports that one socket listens to."""

_LD_WORD_ABS, _LD_HALF_ABS, _LD_BYTE_ABS = 0x20, 0x28, 0x30
_LD_HALF_IND, _LD_WORD_IND = 0x48, 0x40
_LDX_IMMEDIATE, _LDX_HEADER_LENGTH = 0x01, 0xB1
_MOD, _JUMP, _JUMP_EQUAL, _JUMP_GREATER = 0x94, 0x05, 0x15, 0x25
_RETURN, _RETURN_A = 0x06, 0x16
_RIGHT_SHIFT = 0x74
_WHOLE = 0xFFFFFFFF
_ATTACH = 26

_AT_ONCE: Final = 200
"""Comparisons before one ending: a jump goes 255 steps at most."""
MAX_KNOWN: Final = 2000
"""SPIs that one program has room for, among at most 4096 steps."""

_PROTOCOL, _PACKET_TYPE = 0xFFFFF000, 0xFFFFF004
"""``SKF_AD_PROTOCOL``: the Ethernet type; ``SKF_AD_PKTTYPE``: to whom it goes."""
_PACKET_OUTGOING = 4

ONLY_IP: Final[Program] = (
    (_LD_BYTE_ABS, 0, 0, _PACKET_TYPE),
    (_JUMP_EQUAL, 3, 0, _PACKET_OUTGOING),
    (_LD_HALF_ABS, 0, 0, _PROTOCOL),
    (_JUMP_EQUAL, 2, 0, 0x0800),
    (_JUMP_EQUAL, 1, 0, 0x86DD),
    (_RETURN, 0, 0, 0),
    (_RETURN, 0, 0, _WHOLE),
)
"""Of what comes in: sockets that share an interface hear what leaves it as well."""
EVERYTHING: Final[Program] = ((_RETURN, 0, 0, _WHOLE),)
NOTHING: Final[Program] = ((_RETURN, 0, 0, 0),)


def _transport(version: int) -> tuple[int, int, int, int]:
    """Let X point to the transport header: raw IPv6 sockets see packets from there on."""
    return (_LDX_HEADER_LENGTH, 0, 0, 0) if version == 4 else (_LDX_IMMEDIATE, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Share:
    """Which SPIs are for one socket of one process."""

    worker: int
    workers: int
    aside: tuple[int, ...] = ()
    """SPIs that have a socket of their own."""
    known: tuple[int, ...] | None = None
    """All SPIs of this process: others have that socket as well. None: nobody looks."""

    def others(self) -> Program:
        """Takes what is not set aside; the SPI is in the accumulator."""
        return (
            *_any_of(self.aside, 0),
            *(self._mine() if self.known is None else _any_of(self.known, _WHOLE)),
            (_RETURN, 0, 0, 0),
        )

    def set_aside(self) -> Program:
        """Takes what is set aside."""
        known = () if self.known is None else (*_any_of(self.known, 0), *self._mine())
        return (*_any_of(self.aside, _WHOLE), *known, (_RETURN, 0, 0, 0))

    def _mine(self) -> Program:
        return (
            (_MOD, 0, 0, self.workers),
            (_JUMP_EQUAL, 0, 1, self.worker),
            (_RETURN, 0, 0, _WHOLE),
        )


def _any_of(spis: Sequence[int], result: int) -> Program:
    """Ends with ``result`` for these, and goes on behind itself for others."""
    steps: list[tuple[int, int, int, int]] = []
    for start in range(0, len(spis), _AT_ONCE):
        some = spis[start : start + _AT_ONCE]
        steps += [(_JUMP_EQUAL, len(some) - at, 0, spi) for at, spi in enumerate(some)]
        steps += [(_JUMP, 0, 0, 1), (_RETURN, 0, 0, result)]
    return steps


def esp(version: int, spis: Program) -> Program:
    """ESP packets of a raw socket whose SPI a :class:`Share` takes."""
    return (_transport(version), (_LD_WORD_IND, 0, 0, 0), *spis)


def esp_in_udp(version: int, ports: Sequence[int], spis: Program) -> Program:
    """The same for ESP in UDP (RFC 3948): no IKE, whose first four octets are 0; no keepalives."""
    return (
        *_ports(version, ports),
        (_LD_HALF_IND, 0, 0, 4),
        (_JUMP_GREATER, 1, 0, 8 + 8),
        (_RETURN, 0, 0, 0),
        (_LD_WORD_IND, 0, 0, 8),
        (_JUMP_EQUAL, 0, 1, 0),
        (_RETURN, 0, 0, 0),
        *spis,
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
