"""A captive portal on a router of the lab: all names and all pages are its own until somebody pays.

Name queries are answered with an address of its own choice, every connection to port 80 ends at
a server that redirects to a login page, and nothing else is let through.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
import threading
from typing import Self

from gateway.lab import netns
from gateway.lab.topology import Lab

HTTP_PORT, DNS_PORT = 8081, 5353
LIE = bytes((203, 0, 113, 99))
"""The address that every name has."""
LOGIN = "http://login.portal.example/pay"
REDIRECT = (
    f"HTTP/1.1 302 Found\r\nLocation: {LOGIN}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
).encode()
RULES = f"""
table ip portal {{
    chain names_and_pages {{
        type nat hook prerouting priority dstnat; policy accept;
        iifname "device" udp dport 53 redirect to :{DNS_PORT}
        iifname "device" tcp dport 80 redirect to :{HTTP_PORT}
    }}
    chain nothing_else {{
        type filter hook forward priority filter; policy accept;
        iifname "device" drop
        oifname "device" drop
    }}
}}
"""


class CaptivePortal:
    """Holds a host's access network until `let_in`; a context manager."""

    def __init__(self, lab: Lab, host: str) -> None:
        self._lab, self._host = lab, host
        self.pages = self.names = 0
        """How many were asked for."""
        self._open = True
        self._selector = selectors.DefaultSelector()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        namespace = self._lab.namespace(self._host)
        self._http = netns.socket_in(namespace, socket.AF_INET, socket.SOCK_STREAM)
        self._http.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._http.bind(("0.0.0.0", HTTP_PORT))
        self._http.listen(16)
        self._dns = netns.socket_in(namespace, socket.AF_INET, socket.SOCK_DGRAM)
        self._dns.bind(("0.0.0.0", DNS_PORT))
        for sock in (self._http, self._dns):
            sock.setblocking(False)
            self._selector.register(sock, selectors.EVENT_READ)
        self._lab.nft(self._host, RULES)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._open = False
        self._thread.join()
        self.let_in()
        self._http.close()
        self._dns.close()
        self._selector.close()

    def let_in(self) -> None:
        """Somebody logged in: everything passes."""
        self._lab.nft(self._host, "add table ip portal; delete table ip portal")
        netns.flush_conntrack(self._lab.namespace(self._host))

    def _run(self) -> None:
        while self._open:
            for key, _ in self._selector.select(0.1):
                with contextlib.suppress(OSError):
                    self._page() if key.fileobj is self._http else self._name()

    def _page(self) -> None:
        connection, _ = self._http.accept()
        with connection:
            connection.settimeout(2)
            connection.recv(4096)
            connection.sendall(REDIRECT)
        self.pages += 1

    def _name(self) -> None:
        asked, sender = self._dns.recvfrom(1500)
        # Header: a response without error and one answer; then the question, then a pointer to it.
        head = asked[:2] + struct.pack("!HHHHH", 0x8180, 1, 1, 0, 0)
        answer = struct.pack("!HHHIH", 0xC00C, 1, 1, 60, len(LIE)) + LIE
        self._dns.sendto(head + asked[12:] + answer, sender)
        self.names += 1
