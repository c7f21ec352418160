"""What a packet costs on the device's own wire, in octets, captured there (draft 001, 6.2)."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Sequence
from contextlib import ExitStack
from ipaddress import IPv4Address

from gateway.lab import netns
from gateway.lab.intranet import ECHO_PORT
from gateway.lab.processes import LabError, wait_until
from gateway.lab.tap import ETH_P_IP, Frame, Tap
from gateway.lab.topology import Lab

SIZES = range(1000, 1008)
"""Of the data in the datagrams: every remainder that padding of 4 or 8 octets depends on."""
HEADERS = 28
SMALLEST_WIRE = 900
"""What is shorter on the wire is none of ours."""
TRY_S = 5.0
FLOWS_S = 10.0

DEVICE_WIRES = {
    "home": ("iha", "port2"),
    "plain": ("core", "plain"),
    "ifalink": ("ifa", "visited"),
    "xfalink": ("xfa", "visited"),
    "access1": ("access1", "device"),
    "access2": ("access2", "device"),
    "nat": ("nat", "device"),
}
"""By the name of the device's link: the far end of that wire."""


def overheads(
    lab: Lab,
    link: str,
    home_address: IPv4Address,
    server: IPv4Address,
    sizes: Sequence[int] = SIZES,
) -> list[int]:
    """Octets beyond the device's own packet, of one datagram of every size and of its echo.

    The user must be silent otherwise. Raises LabError when datagrams do not come back, or the
    wire does not show them.
    """
    to = (str(server), ECHO_PORT)
    sock = netns.socket_in(lab.namespace("device"), socket.AF_INET, socket.SOCK_DGRAM)
    with contextlib.closing(sock), ExitStack() as ends:
        sock.bind((str(home_address), 0))
        _until_it_flows(sock, to)
        tap = ends.enter_context(Tap(lab, [DEVICE_WIRES[link]]))
        for size in sizes:
            _there_and_back(sock, size, to)
        wait_until(lambda: len(_large(tap.frames)) >= 2 * len(sizes), TRY_S, "what was captured")
    large = _large(tap.frames)
    if len(large) != 2 * len(sizes):
        raise LabError(f"{len(large)} large packets on {link}, expected {2 * len(sizes)}")
    found = []
    for arriving in (True, False):
        one_way = [len(frame.packet) for frame in large if frame.arriving is arriving]
        found += [octets - size - HEADERS for octets, size in zip(one_way, sizes, strict=True)]
    return found


def _until_it_flows(sock: socket.socket, to: tuple[str, int]) -> None:
    """Small datagrams, until one comes back: the first after a move may be lost on the way."""
    end = time.monotonic() + FLOWS_S
    sock.settimeout(0.2)
    while time.monotonic() < end:
        sock.sendto(b"?", to)
        with contextlib.suppress(OSError):
            sock.recv(100)
            break
    sock.settimeout(TRY_S)


def _there_and_back(sock: socket.socket, size: int, to: tuple[str, int]) -> None:
    data = size.to_bytes(2, "big") + bytes(size - 2)
    sock.sendto(data, to)
    try:
        while sock.recv(65535) != data:
            continue
    except OSError as error:
        raise LabError(f"a datagram of {size} octets did not come back: {error}") from None


def _large(frames: Sequence[Frame]) -> list[Frame]:
    return [
        frame
        for frame in frames
        if frame.ethertype == ETH_P_IP and len(frame.packet) > SMALLEST_WIRE
    ]
