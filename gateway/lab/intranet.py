"""The intranet's server: a page, a download that never ends, and an echo.

Run as `python -m gateway.lab.intranet --address ADDRESS` (threads rather than asyncio: it starts
in a fraction of the time, and every lab waits for it):

    GET /                    a small page
    GET /stream?rate=N       N octets per second for ever, as fast as possible without `rate`
    GET /bytes?size=N        N octets
    UDP port 7               every datagram comes back
"""

from __future__ import annotations

import socket
import sys
import threading
import time

HTTP_PORT = 80
ECHO_PORT = 7
PAGE = b"<!doctype html><title>Intranet</title><h1>You have reached the intranet.</h1>\n"
CHUNK = bytes(65536)
MAX_REQUEST = 8192
TICK_S = 0.02


def echo(sock: socket.socket) -> None:
    """Send every datagram back to where it came from."""
    while True:
        try:
            data, peer = sock.recvfrom(65536)
            sock.sendto(data, peer)
        except OSError:  # an ICMP error about an earlier one
            continue


def _stream(connection: socket.socket, rate: int | None) -> None:
    started = time.monotonic()
    sent = 0
    while True:
        if rate is None:
            connection.sendall(CHUNK)
            continue
        due = min(int((time.monotonic() - started) * rate) - sent, len(CHUNK))
        connection.sendall(CHUNK[:due])
        sent += due
        time.sleep(TICK_S)


def _number(query: str, name: str) -> int | None:
    for part in query.split("&"):
        key, _, value = part.partition("=")
        if key == name and value.isdigit():
            return int(value)
    return None


def _answer(connection: socket.socket) -> None:
    request = b""
    with connection:
        try:
            while b"\r\n\r\n" not in request:
                part = connection.recv(MAX_REQUEST)
                if not part or len(request) > MAX_REQUEST:
                    return
                request += part
            words = request.split(b"\r\n", 1)[0].decode("ascii", "replace").split(" ")
            path, _, query = (words[1] if len(words) > 1 else "/").partition("?")
            head = "HTTP/1.1 200 OK\r\nConnection: close\r\n"
            if path == "/stream":
                connection.sendall(f"{head}Content-Type: application/octet-stream\r\n\r\n".encode())
                _stream(connection, _number(query, "rate"))
            elif path == "/bytes":
                left = _number(query, "size") or 0
                connection.sendall(f"{head}Content-Length: {left}\r\n\r\n".encode())
                while left > 0:
                    connection.sendall(CHUNK[:left])
                    left -= len(CHUNK)
            else:
                kind = f"Content-Type: text/html\r\nContent-Length: {len(PAGE)}"
                connection.sendall(f"{head}{kind}\r\n\r\n".encode() + PAGE)
        except OSError:
            return  # the client is gone


def main() -> None:
    """Entry point: serve until ended by a signal."""
    if len(sys.argv) != 3 or sys.argv[1] != "--address":
        sys.exit("usage: python -m gateway.lab.intranet --address ADDRESS")
    address = sys.argv[2]
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.bind((address, ECHO_PORT))
    threading.Thread(target=echo, args=(datagrams,), daemon=True).start()
    with socket.create_server((address, HTTP_PORT), backlog=64) as server:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while True:
            connection, _ = server.accept()
            threading.Thread(target=_answer, args=(connection,), daemon=True).start()


if __name__ == "__main__":
    main()
