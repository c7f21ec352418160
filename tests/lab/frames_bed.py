"""Ethernet frames of any kind: made, sent and heard in a namespace."""

import contextlib
import socket
import struct

from dataplane_bed import entered

IPX, ARP, IP, IP6, VLAN = 0x8137, 0x0806, 0x0800, 0x86DD, 0x8100
EVERYBODY = b"\xff" * 6


class Ear:
    """Frames of one interface."""

    def __init__(self, name: str, interface: str) -> None:
        with entered(name):
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self._socket.bind((interface, 3))
        self._socket.setblocking(False)
        self._heard: list[bytes] = []

    def has(self, frame: bytes) -> bool:
        with contextlib.suppress(BlockingIOError):
            while True:
                self._heard.append(self._socket.recv(4096))
        return any(one.rstrip(b"\0") == frame.rstrip(b"\0") for one in self._heard)

    def close(self) -> None:
        self._socket.close()


def frame(kind: int, text: bytes, source: int = 1) -> bytes:
    data = text.ljust(50, b".")
    return EVERYBODY + bytes((2, 0, 0, 0, 9, source)) + struct.pack("!H", kind) + data


def in_snap(kind: int, text: bytes) -> bytes:
    data = b"\xaa\xaa\x03\0\0\0" + struct.pack("!H", kind) + text.ljust(50, b".")
    return EVERYBODY + bytes((2, 0, 0, 0, 9, 1)) + struct.pack("!H", len(data)) + data


def send(name: str, interface: str, octets: bytes) -> None:
    with entered(name):
        raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    with raw:
        raw.bind((interface, 0))
        raw.send(octets)
