"""Small exchanges between hosts of the lab, by sockets that this process has in their namespaces.

Every function says what the far side really saw, so that a test can hold it against the lease.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import time
from collections.abc import Iterator
from ipaddress import IPv4Address
from typing import Self

from gateway.domain.checksum import internet_checksum
from gateway.lab import netns
from gateway.lab.processes import LabError
from gateway.lab.topology import Lab

PATIENCE_S = 5.0
QUIET_S = 0.3
"""How long nothing has to come before it is said that nothing comes."""
ICMP, ECHO_REPLY, ECHO_REQUEST = 1, 0, 8
Address = tuple[str, int]


def stream_socket(lab: Lab, host: str, address: object = "0.0.0.0", port: int = 0) -> socket.socket:
    """A TCP socket of a host, bound."""
    return _bound(lab, host, socket.SOCK_STREAM, address, port)


def datagram_socket(
    lab: Lab, host: str, address: object = "0.0.0.0", port: int = 0
) -> socket.socket:
    """A UDP socket of a host, bound."""
    return _bound(lab, host, socket.SOCK_DGRAM, address, port)


def _bound(lab: Lab, host: str, kind: int, address: object, port: int) -> socket.socket:
    sock = netns.socket_in(lab.namespace(host), socket.AF_INET, kind)
    sock.settimeout(PATIENCE_S)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((str(address), port))
    except OSError as error:
        sock.close()
        raise LabError(f"{host}: nobody can bind {address}:{port}: {error}") from None
    return sock


@contextlib.contextmanager
def connected(
    lab: Lab,
    client: tuple[str, object, int],
    server: tuple[str, object, int],
    *,
    to: tuple[object, int] | None = None,
) -> Iterator[tuple[socket.socket, socket.socket, Address]]:
    """A TCP connection between (host, address, port) and the same of the other side.

    Yields both ends, and whom the server saw. `to` is where the client connects to when it is not
    what the server has bound.
    """
    with stream_socket(lab, *server) as listening, stream_socket(lab, *client) as near:
        listening.listen()
        target = to or (server[1], listening.getsockname()[1])
        near.connect((str(target[0]), target[1]))
        far, seen = listening.accept()
        far.settimeout(PATIENCE_S)
        with far:
            yield near, far, seen


def exchange(near: socket.socket, far: socket.socket, octets: int = 100_000) -> None:
    """Send as much both ways over a connection; raises LabError where it arrives changed."""
    transfer(near, far, octets, 17)
    transfer(far, near, octets, 91)


def transfer(a: socket.socket, b: socket.socket, octets: int, seed: int = 17) -> None:
    """Send octets from one end to the other; raises LabError where they arrive changed."""
    data = bytes((at * seed) & 0xFF for at in range(256)) * (octets // 256 + 1)
    data, got, sent = data[:octets], b"", 0
    while len(got) < octets:
        if sent < octets and select.select([], [a], [], 0)[1]:
            sent += a.send(data[sent : sent + 16_384])
        if select.select([b], [], [], 0.01 if sent < octets else PATIENCE_S)[0]:
            part = b.recv(65_536)
            if not part:
                raise LabError(f"the connection ended after {len(got)} of {octets} octets")
            got += part
        elif sent >= octets:
            raise LabError(f"{len(got)} of {octets} octets arrived")
    if got != data:
        raise LabError("what arrived is not what was sent")


class RawSocket:
    """What a host hears of one IP protocol, and a way to say things in it; a context manager."""

    def __init__(self, lab: Lab, host: str, protocol: int) -> None:
        self.host, self.protocol = host, protocol
        name = lab.namespace(host)
        self._hears = netns.socket_in(name, socket.AF_INET, socket.SOCK_RAW, protocol)
        self._says = netns.socket_in(name, socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._hears.close()
        self._says.close()

    def say(
        self, source: object, destination: object, payload: bytes, *, tos: int = 0, ttl: int = 61,
        identification: int = 0x4E42, df: bool = True, protocol: int | None = None,
    ) -> bytes:  # fmt: skip
        """Send an IPv4 packet with exactly these values, and return it."""
        packet = ip_packet(
            source, destination, self.protocol if protocol is None else protocol, payload,
            tos=tos, ttl=ttl, identification=identification, df=df,
        )  # fmt: skip
        self._says.sendto(packet, (str(destination), 0))
        return packet

    def hear(self, timeout_s: float = PATIENCE_S) -> bytes:
        """The next packet, its header included; raises LabError when none comes."""
        self._hears.settimeout(timeout_s)
        try:
            return self._hears.recv(65_535)
        except TimeoutError:
            raise LabError(
                f"{self.host} hears nothing of protocol {self.protocol} for {timeout_s:g} s"
            ) from None

    def hears(self, payload: bytes, timeout_s: float = PATIENCE_S) -> bytes:
        """The next packet that has this behind its header; others are passed over."""
        end = time.monotonic() + timeout_s
        while True:
            packet = self.hear(max(0.001, end - time.monotonic()))
            if packet[(packet[0] & 15) * 4 :] == payload:
                return packet

    def silence(self, seconds: float = QUIET_S) -> list[bytes]:
        """What comes within so long: an empty list is what one hopes for."""
        found = []
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and select.select([self._hears], [], [], left)[
            0
        ]:
            found.append(self._hears.recv(65_535))
        return found


def ip_packet(
    source: object, destination: object, protocol: int, payload: bytes, *, tos: int = 0,
    ttl: int = 61, identification: int = 0x4E42, df: bool = True,
) -> bytes:  # fmt: skip
    """An IPv4 packet."""
    header = struct.pack(
        ">BBHHHBBH4s4s", 0x45, tos, 20 + len(payload), identification, 0x4000 if df else 0, ttl,
        protocol, 0, IPv4Address(str(source)).packed, IPv4Address(str(destination)).packed,
    )  # fmt: skip
    return header[:10] + internet_checksum(header).to_bytes(2, "big") + header[12:] + payload


def echo(identifier: int, sequence: int = 1, *, kind: int = ECHO_REQUEST) -> bytes:
    """An ICMP echo message."""
    body = struct.pack(">BBHHH", kind, 0, 0, identifier, sequence) + b"negotiated address reuse"
    return body[:2] + internet_checksum(body).to_bytes(2, "big") + body[4:]


def udp(source: object, destination: object, ports: tuple[int, int], payload: bytes) -> bytes:
    """A UDP datagram with its checksum, to be put behind a header with these addresses."""
    length = 8 + len(payload)
    pseudo = IPv4Address(str(source)).packed + IPv4Address(str(destination)).packed
    pseudo += struct.pack(">BBH", 0, 17, length)
    head = struct.pack(">HHHH", *ports, length, 0)
    value = internet_checksum(pseudo + head + payload) or 0xFFFF
    return head[:6] + value.to_bytes(2, "big") + payload


def gre(inner: bytes, *, key: int | None = None) -> bytes:
    """GRE (RFC 2784, RFC 2890) around an IPv4 packet."""
    if key is None:
        return struct.pack(">HH", 0, 0x0800) + inner
    return struct.pack(">HHI", 0x2000, 0x0800, key) + inner


def same_but_for_the_way(sent: bytes, received: bytes) -> bool:
    """Whether a packet arrived as it was sent: only its TTL, and so the checksum, may be less."""

    def fixed(packet: bytes) -> bytes:
        return packet[:8] + packet[9:10] + packet[12:]

    return fixed(sent) == fixed(received) and received[8] <= sent[8]
