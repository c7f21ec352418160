"""Clients of a NAR server that negotiate as fast as they are answered, or that only stay.

`python -m bench.nar_load SERVER TARGET --clients N --leases N`: connects from 10.50.1.1 upwards,
prints one JSON line when every lease is there, and holds them until its input ends.
"""

import argparse
import json
import resource
import socket
import sys
import time
from ipaddress import IPv4Address

FIRST_CLIENT = IPv4Address("10.50.1.1")
SOURCES = 250
PORT = 1080
NO_LOGIN = b"\x05\x01\x00"
LOGIN_ANSWER = 2
MODE_ANSWER, LEASE_ANSWER = 10, 7
LEASE = b"\x01\x82\x32\x00\x00\x00\x00"
"""IPSEC-ASSOCIATE for ESP, the server chooses the SPI."""


def _exactly(connection: socket.socket, octets: int) -> bytes:
    found = b""
    while len(found) < octets:
        more = connection.recv(octets - len(found))
        if not more:
            raise RuntimeError(f"the server closed after {found!r}")
        found += more
    return found


def _connected(server: str, source: IPv4Address) -> socket.socket:
    connection = socket.create_connection((server, PORT), 30.0, (str(source), 0))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _mode(target: str) -> bytes:
    return b"\x05\x80\x00\x01" + IPv4Address(target).packed + b"\0\0"


def negotiate(server: str, target: str, clients: int, leases: int) -> list[socket.socket]:
    """Each client's whole negotiation; raises RuntimeError when one is refused."""
    held = []
    for number in range(clients):
        connection = _connected(server, FIRST_CLIENT + number % SOURCES)
        connection.sendall(NO_LOGIN)
        _exactly(connection, LOGIN_ANSWER)
        connection.sendall(_mode(target))
        _exactly(connection, MODE_ANSWER)
        # All at once: a client may send ahead of replies.
        connection.sendall(LEASE * leases)
        held.append(connection)
    spis = set()
    for connection in held:
        answers = _exactly(connection, LEASE_ANSWER * leases)
        for at in range(0, len(answers), LEASE_ANSWER):
            if answers[at + 1]:
                raise RuntimeError(f"refused with {answers[at + 1]}")
            spis.add(answers[at + 3 : at + 7])
    if len(spis) != clients * leases:
        raise RuntimeError(f"{clients * leases} leases have {len(spis)} SPIs")
    return held


def main() -> None:
    """What the command line says."""
    parser = argparse.ArgumentParser()
    parser.add_argument("server")
    parser.add_argument("target")
    parser.add_argument("--clients", type=int, required=True)
    parser.add_argument("--leases", type=int, required=True)
    given = parser.parse_args()
    limit = given.clients + 100
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, max(limit, 65_536)))
    began = time.monotonic()
    held = negotiate(given.server, given.target, given.clients, given.leases)
    seconds = time.monotonic() - began
    print(json.dumps({"leases": given.clients * given.leases, "seconds": seconds}), flush=True)
    sys.stdin.read()
    for connection in held:
        connection.close()


if __name__ == "__main__":
    main()
