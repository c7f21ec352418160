"""The intranet's server: a page, a download that never ends, and an echo (`python -m gateway.lab.intranet`).

GET /                    a small page
GET /stream?rate=N       N octets per second for ever, as fast as possible without `rate`
GET /bytes?size=N        N octets
UDP port 7               every datagram comes back
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
from urllib.parse import parse_qs, urlsplit

HTTP_PORT = 80
ECHO_PORT = 7
PAGE = b"<!doctype html><title>Intranet</title><h1>You have reached the intranet.</h1>\n"
CHUNK = bytes(16384)
MAX_REQUEST = 8192
TICK_S = 0.02


class Echo(asyncio.DatagramProtocol):
    """Sends every datagram back to where it came from."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.DatagramTransport)
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._transport.sendto(data, addr)


async def _stream(writer: asyncio.StreamWriter, rate: int | None) -> None:
    loop = asyncio.get_running_loop()
    started = loop.time()
    sent = 0
    while True:
        if rate is None:
            writer.write(CHUNK)
        else:
            due = int((loop.time() - started) * rate) - sent
            writer.write(bytes(max(0, min(due, 1 << 20))))
            sent += max(0, min(due, 1 << 20))
            await asyncio.sleep(TICK_S)
        await writer.drain()


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(
        ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError
    ):
        request = await reader.readuntil(b"\r\n\r\n")
        target = urlsplit(request.split(b" ", 2)[1].decode("ascii", "replace"))
        query = parse_qs(target.query)
        head = "HTTP/1.1 200 OK\r\nConnection: close\r\n"
        if target.path == "/stream":
            writer.write(f"{head}Content-Type: application/octet-stream\r\n\r\n".encode())
            await _stream(writer, int(query["rate"][0]) if "rate" in query else None)
        elif target.path == "/bytes":
            left = int(query["size"][0])
            writer.write(f"{head}Content-Length: {left}\r\n\r\n".encode())
            while left > 0:
                writer.write(CHUNK[:left])
                left -= len(CHUNK)
                await writer.drain()
        else:
            writer.write(
                f"{head}Content-Type: text/html\r\nContent-Length: {len(PAGE)}\r\n\r\n".encode()
                + PAGE
            )
        await writer.drain()
    writer.close()


async def serve(address: str) -> None:
    """Serve on `address` until cancelled."""
    loop = asyncio.get_running_loop()
    await loop.create_datagram_endpoint(Echo, local_addr=(address, ECHO_PORT))
    server = await asyncio.start_server(_answer, address, HTTP_PORT, limit=MAX_REQUEST)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await server.serve_forever()


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--address", required=True)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(parser.parse_args().address))


if __name__ == "__main__":
    main()
