"""A name server for a host of the lab: a few A records, answered where resolv.conf points to."""

from __future__ import annotations

import re
import socket
import struct
import threading
from collections.abc import Mapping
from contextlib import suppress
from ipaddress import IPv4Address
from pathlib import Path
from typing import Self

from gateway.lab import netns
from gateway.lab.topology import Lab

RESOLV_CONF = Path("/etc/resolv.conf")
DNS_PORT = 53
A, IN = 1, 1
POLL_S = 0.1


def configured() -> list[IPv4Address]:
    """Where the C library of this machine asks (resolv.conf(5))."""
    text = RESOLV_CONF.read_text() if RESOLV_CONF.exists() else ""
    found = re.findall(r"^\s*nameserver\s+(\d+\.\d+\.\d+\.\d+)\s*$", text, re.MULTILINE)
    return [IPv4Address(one) for one in found] or [IPv4Address("127.0.0.1")]


class NameServer:
    """Answers on a host for names that it knows, and says of others that they do not exist."""

    def __init__(self, lab: Lab, host: str, records: Mapping[str, IPv4Address]) -> None:
        self.asked: list[str] = []
        self._records = dict(records)
        self._sockets = []
        for address in configured():
            if not address.is_loopback:
                lab.run(host, ["ip", "address", "replace", f"{address}/32", "dev", "lo"])
            sock = netns.socket_in(lab.namespace(host), socket.AF_INET, socket.SOCK_DGRAM)
            sock.settimeout(POLL_S)
            sock.bind((str(address), DNS_PORT))
            self._sockets.append(sock)
        self._open = True
        self._threads = [
            threading.Thread(target=self._serve, args=(sock,), daemon=True)
            for sock in self._sockets
        ]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open = False
        for thread in self._threads:
            thread.join()
        for sock in self._sockets:
            sock.close()

    def _serve(self, sock: socket.socket) -> None:
        while self._open:
            with suppress(TimeoutError):
                query, peer = sock.recvfrom(1500)
                sock.sendto(self._answer(query), peer)

    def _answer(self, query: bytes) -> bytes:
        labels, at = [], 12
        while query[at]:
            labels.append(query[at + 1 : at + 1 + query[at]].decode())
            at += 1 + query[at]
        (kind,) = struct.unpack_from(">H", query, at + 1)
        name = ".".join(labels).lower()
        self.asked.append(name)
        known = self._records.get(name)
        answers = known is not None and kind == A
        flags = 0x8180 if known is not None else 0x8183  # no such name
        head = query[:2] + struct.pack(">HHHHH", flags, 1, int(answers), 0, 0)
        record = b""
        if known is not None and answers:
            record = struct.pack(">HHHIH", 0xC00C, A, IN, 60, 4) + known.packed
        return head + query[12 : at + 5] + record
