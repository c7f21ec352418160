"""The API process: ``python -m gateway.api --control PATH --listen 127.0.0.1:8443 ...``.

Started and supervised by ``gateway run``. With ``--lifeline`` it ends when its standard input
does, that is with the process that started it, however that ends.
"""

import argparse
import asyncio
import contextlib
import gc
import ipaddress
import logging
import os
import socket
import sys
from pathlib import Path

import uvicorn

from gateway.api.app import create_app
from gateway.api.guard import LOOPBACK_HOSTS
from gateway.api.token import BearerToken, TokenError
from gateway.control.async_client import AsyncControlClient

EXIT_USAGE = 64
EXIT_PORT_IN_USE = 75
EXIT_TOKEN = 77

MAX_CONNECTIONS = 64
MAX_HEADER_OCTETS = 16 * 1024


def _loopback(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    try:
        address = ipaddress.ip_address(host)
        number = int(port)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text}: give ADDRESS:PORT") from None
    if not address.is_loopback or not 0 <= number <= 65_535:
        raise argparse.ArgumentTypeError(
            f"{text}: the API speaks plain HTTP, so on loopback only: 127.0.0.1:PORT or [::1]:PORT"
        )
    return str(address), number


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m gateway.api", description=__doc__)
    parser.add_argument("--control", type=Path, required=True, help="path of the control socket")
    parser.add_argument("--listen", type=_loopback, default=("127.0.0.1", 8443))
    parser.add_argument("--token-file", type=Path, required=True)
    parser.add_argument("--lifeline", action="store_true", help="end with standard input")
    return parser.parse_args()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((host, port))
    return sock


async def _serve(server: uvicorn.Server, sock: socket.socket, *, lifeline: bool) -> None:
    if lifeline:
        loop = asyncio.get_running_loop()
        descriptor = sys.stdin.fileno()
        os.set_blocking(descriptor, False)

        def readable() -> None:
            with contextlib.suppress(BlockingIOError):
                if not os.read(descriptor, 64):
                    loop.remove_reader(descriptor)
                    server.should_exit = True

        loop.add_reader(descriptor, readable)
    await server.serve([sock])


def main() -> int:
    """Run until told to stop; returns the exit status."""
    arguments = _arguments()
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    try:
        token = BearerToken(arguments.token_file)
    except TokenError as error:
        print(f"API: {error}", file=sys.stderr)
        return EXIT_TOKEN
    host, port = arguments.listen
    try:
        sock = _listen(host, port)
    except OSError as error:
        print(
            f"API: cannot listen on {host} port {port}: {error.strerror}; choose another"
            " [api] listen",
            file=sys.stderr,
        )
        return EXIT_PORT_IN_USE
    app = create_app(AsyncControlClient(arguments.control), token, hosts=LOOPBACK_HOSTS)
    config = uvicorn.Config(
        app,
        loop="asyncio",
        http="h11",
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=2,
        h11_max_incomplete_event_size=MAX_HEADER_OCTETS,
    )
    gc.collect()
    gc.freeze()
    asyncio.run(_serve(uvicorn.Server(config), sock, lifeline=arguments.lifeline))
    return 0


if __name__ == "__main__":
    sys.exit(main())
