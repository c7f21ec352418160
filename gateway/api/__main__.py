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
import ssl
import sys
from pathlib import Path

from gateway.api.app import SiteSettings, create_site
from gateway.api.http import HttpServer
from gateway.api.static import Dashboard
from gateway.api.tls import CertificateFiles, Reloading, TlsError, context_of, own_files
from gateway.control.async_client import AsyncControlClient

EXIT_USAGE = 64
EXIT_PORT_IN_USE = 75
EXIT_TLS = 78
LOOK_EVERY_S = 10.0


def _endpoint(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    try:
        address = ipaddress.ip_address(host)
        number = int(port)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text}: give ADDRESS:PORT") from None
    if not 0 <= number <= 65_535:
        raise argparse.ArgumentTypeError(f"{text}: a port is 0 to 65535")
    return str(address), number


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m gateway.api", description=__doc__)
    parser.add_argument("--control", type=Path, required=True, help="path of the control socket")
    parser.add_argument("--listen", type=_endpoint, default=("127.0.0.1", 8443))
    parser.add_argument("--name", action="append", default=[], help="a host name that is ours")
    parser.add_argument("--folder", type=Path, help="where our own certificate is, or is made")
    parser.add_argument("--certificate", type=Path)
    parser.add_argument("--private-key", type=Path)
    parser.add_argument("--no-tls", action="store_true", help="plain HTTP, on loopback only")
    parser.add_argument("--lifeline", action="store_true", help="end with standard input")
    given = parser.parse_args()
    if given.no_tls and not ipaddress.ip_address(given.listen[0]).is_loopback:
        parser.error("--no-tls: plain HTTP is for loopback only")
    if not given.no_tls and given.folder is None and given.certificate is None:
        parser.error("give --folder, or --certificate and --private-key, or --no-tls")
    return given


def _files(given: argparse.Namespace) -> CertificateFiles:
    """The certificate that shall be shown; raises :class:`TlsError`."""
    if given.certificate is not None:
        return CertificateFiles(given.certificate, given.private_key or given.certificate)
    address = ipaddress.ip_address(given.listen[0])
    shown = [] if address.is_unspecified or address.is_loopback else [str(address)]
    names = dict.fromkeys([*given.name, socket.gethostname(), *shown, "localhost", "127.0.0.1"])
    return own_files(given.folder, tuple(name for name in names if _is_name(name)))


def _is_name(text: str) -> bool:
    return text.isascii() and 0 < len(text) <= 253 and not text.startswith("-")


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6 and host != "::":
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    sock.bind((host, port))
    return sock


def _end_with_standard_input(server: HttpServer) -> None:
    loop = asyncio.get_running_loop()
    descriptor = sys.stdin.fileno()
    os.set_blocking(descriptor, False)

    def readable() -> None:
        with contextlib.suppress(BlockingIOError):
            if not os.read(descriptor, 64):
                loop.remove_reader(descriptor)
                server.should_exit = True

    loop.add_reader(descriptor, readable)


async def _serve(
    given: argparse.Namespace,
    sock: socket.socket,
    context: ssl.SSLContext | None,
    look: Reloading | None,
) -> None:
    settings = SiteSettings(tuple(given.name), tls=context is not None, dashboard=Dashboard())
    client = AsyncControlClient(given.control, keep=True)
    server = HttpServer(create_site(client, settings), sock, context)
    if given.lifeline:
        _end_with_standard_input(server)
    looking = asyncio.get_running_loop().create_task(_keep_looking(look))
    gc.collect()
    gc.freeze()
    try:
        await server.serve()
    finally:
        looking.cancel()
        client.close()


async def _keep_looking(look: Reloading | None) -> None:
    while look is not None:
        await asyncio.sleep(LOOK_EVERY_S)
        look.look()


def main() -> int:
    """Run until told to stop; returns the exit status."""
    given = _arguments()
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    host, port = given.listen
    try:
        context, look = None, None
        if not given.no_tls:
            files = _files(given)
            context = context_of(files)
            look = Reloading(context, files)
        sock = _listen(host, port)
    except TlsError as error:
        print(f"API: {error}", file=sys.stderr)
        return EXIT_TLS
    except OSError as error:
        print(
            f"API: cannot listen on {host} port {port}: {error.strerror}; choose another"
            " [api] listen",
            file=sys.stderr,
        )
        return EXIT_PORT_IN_USE
    asyncio.run(_serve(given, sock, context, look))
    return 0


if __name__ == "__main__":
    sys.exit(main())
