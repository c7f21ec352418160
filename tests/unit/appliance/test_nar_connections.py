"""Control connections with real sockets: TLS, slow and silent clients, crowds, half-close."""

import asyncio
import contextlib
import datetime
import gc
import resource
import socket
import ssl
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from nar_fakes import LOOPBACK, World, until

from gateway.appliance.nar import connection, connections
from gateway.appliance.nar.listener import Listener, NarListenError
from gateway.appliance.nar.plan import NarTls
from gateway.domain.endpoint import Endpoint
from gateway.ike.socket_errors import TransportError
from gateway.nar.outputs import CloseConnection, Send


def run(test: Any) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(90):
            await test

    asyncio.run(bounded())


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> NarTls:
    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "nar.example")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("nar.example")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    made = NarTls(folder / "certificate.pem", folder / "key.pem")
    made.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    made.private_key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return made


def secure_world(folder: Path, tls: NarTls) -> World:
    world = World(folder)
    world.servers = [
        replace(world.servers[0], listen=(), tls_listen=(Endpoint(LOOPBACK, 0),), tls=tls)
    ]
    return world


def client_context(tls: NarTls) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(tls.certificate))


def test_octets_and_replies(tmp_path: Path) -> None:
    async def main() -> None:
        async with World(tmp_path) as world:
            reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
            writer.write(b"\1hello")
            assert await reader.readexactly(6) == b"\1hello"
            _, number, client, secure = world.soho.called("connected")[0]
            assert (number, secure) == (1, False)
            assert client.port == writer.get_extra_info("sockname")[1]
            world.soho.waiting.append(Send(99, b"to nobody"))
            world.nar.flush(0.0)
            world.soho.waiting.append(Send(1, b"last words"))
            world.soho.close(1)
            world.nar.flush(0.0)
            assert await reader.read() == b"last words"
            writer.close()
            await until(lambda: len(world.nar._fleet.running["soho"].connections) == 0)
            assert world.soho.called("disconnected") == []

    run(main())


def test_h72_half_close_still_gets_the_answers_to_what_came_before(tmp_path: Path) -> None:
    async def main() -> None:
        async with World(tmp_path) as world:
            reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
            writer.write(b"\1question")
            writer.write_eof()
            assert await reader.read() == b"\1question"
            writer.close()
            assert world.soho.called("disconnected") == [("disconnected", 1)]

    run(main())


def test_a_client_that_does_not_read_is_cut_off(tmp_path: Path) -> None:
    async def main() -> None:
        async with World(tmp_path) as world:
            with socket.socket() as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                client.connect(("127.0.0.1", world.port))
                client.send(b"\1")
                await until(lambda: world.soho.journal)
                sent = 0
                while world.soho.streams:
                    world.soho.waiting.append(Send(1, bytes(65_536)))
                    world.nar.flush(0.0)
                    sent += 65_536
                    assert sent < 64 << 20
                    await asyncio.sleep(0)
                assert world.soho.called("disconnected") == [("disconnected", 1)]

    run(main())


def test_connections_that_the_engine_refuses(tmp_path: Path) -> None:
    async def main() -> None:
        async with World(tmp_path) as world:
            world.soho.limit = 0
            reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
            writer.close()
            server = world.nar._fleet.running["soho"]
            assert server.connections.counters["refused"] == 1
            assert len(server.connections) == 0

    run(main())


def test_h72_two_thousand_idle_connections_are_small(tmp_path: Path) -> None:
    crowd = 2000
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4 * crowd), hard))

    def resident() -> int:
        gc.collect()
        text = Path("/proc/self/status").read_text()
        return int(text.partition("VmRSS:")[2].split()[0])

    async def main() -> None:
        async with World(tmp_path) as world:
            server = world.nar._fleet.running["soho"]
            loop = asyncio.get_running_loop()
            clients = []
            before = resident()
            for _ in range(crowd):
                client = socket.socket()
                client.setblocking(False)
                await loop.sock_connect(client, ("127.0.0.1", world.port))
                clients.append(client)
            await until(lambda: len(server.connections) == crowd)
            grown = resident() - before
            # The clients of this process are in it.
            assert grown < crowd * 8, f"{grown / crowd:.1f} kB each"
            one = clients[crowd // 2]
            await loop.sock_sendall(one, b"\1still there")
            assert await loop.sock_recv(one, 64) == b"\1still there"
            for client in clients:
                client.close()
            await until(lambda: len(server.connections) == 0)
            assert world.soho.streams == {}

    try:
        run(main())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_tls_from_the_first_octet(tmp_path: Path, tls: NarTls) -> None:
    async def main() -> None:
        async with secure_world(tmp_path, tls) as world:
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", world.port, ssl=client_context(tls), server_hostname="nar.example"
            )
            assert writer.get_extra_info("ssl_object").version() == "TLSv1.3"
            big = b"\1" + bytes(100_000)
            writer.write(big)
            assert await reader.readexactly(len(big)) == big
            assert world.soho.called("connected")[0][3] is True
            world.soho.waiting.append(Send(1, b"bye"))
            world.soho.waiting.append(CloseConnection(1))
            world.soho.streams.clear()
            world.nar.flush(0.0)
            assert await reader.read() == b"bye"
            writer.close()
            server = world.nar._fleet.running["soho"]
            assert server.connections.counters["handshakes"] == 1
            assert server.connections.counters["tls_failures"] == 0

    run(main())


def test_h72_tls_octet_by_octet_and_what_is_no_tls(tmp_path: Path, tls: NarTls) -> None:
    async def main() -> None:
        async with secure_world(tmp_path, tls) as world:
            loop = asyncio.get_running_loop()
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            session = client_context(tls).wrap_bio(
                incoming, outgoing, server_hostname="nar.example"
            )
            sock = socket.socket()
            sock.setblocking(False)
            await loop.sock_connect(sock, ("127.0.0.1", world.port))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

            async def drip() -> None:
                for octet in outgoing.read():
                    await loop.sock_sendall(sock, bytes((octet,)))
                    await asyncio.sleep(0)

            while True:
                try:
                    session.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    await drip()
                    incoming.write(await loop.sock_recv(sock, 65_536))
            session.write(b"\1slow")
            await drip()
            while True:
                try:
                    assert session.read(64) == b"\1slow"
                    break
                except ssl.SSLWantReadError:
                    incoming.write(await loop.sock_recv(sock, 65_536))
            sock.close()

            reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
            writer.write(b"\5\1\0" + bytes(64))
            with contextlib.suppress(ConnectionResetError):
                await reader.read()
            writer.close()
            await until(lambda: not world.soho.streams)
            counters = world.nar._fleet.running["soho"].connections.counters
            assert counters["tls_failures"] == 1
            assert world.soho.journal == [(1, b"\1slow")]

    run(main())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_too_old_tls_is_refused(tmp_path: Path, tls: NarTls) -> None:
    async def main() -> None:
        async with secure_world(tmp_path, tls) as world:
            context = client_context(tls)
            context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
            context.maximum_version = ssl.TLSVersion.TLSv1_1
            context.set_ciphers("ALL:@SECLEVEL=0")
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await asyncio.open_connection(
                    "127.0.0.1", world.port, ssl=context, server_hostname="nar.example"
                )

    run(main())


def test_h72_handshakes_are_bounded_in_number(
    tmp_path: Path, tls: NarTls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "MAX_HANDSHAKES", 8)

    async def main() -> None:
        async with secure_world(tmp_path, tls) as world:
            clients = [socket.create_connection(("127.0.0.1", world.port)) for _ in range(20)]
            server = world.nar._fleet.running["soho"]
            await until(lambda: server.connections.counters["crowded_out"] == 12)
            await until(lambda: len(world.soho.streams) == 8)
            _, writer = await asyncio.open_connection(
                "127.0.0.1", world.port, ssl=client_context(tls), server_hostname="nar.example"
            )
            writer.close()
            for client in clients:
                client.close()

    run(main())


def test_h72_handshakes_are_bounded_in_pace(tmp_path: Path, tls: NarTls) -> None:
    async def main() -> None:
        async with secure_world(tmp_path, tls) as world:
            server = world.nar._fleet.running["soho"]
            server.connections._pace.tokens = 3.0
            server.connections._pace.rate = 0.0
            clients = [socket.create_connection(("127.0.0.1", world.port)) for _ in range(5)]
            await until(lambda: server.connections.counters["slowed"] == 2)
            assert len(world.soho.streams) == 3
            for client in clients:
                client.close()
            await until(lambda: not world.soho.streams)

    run(main())


def test_a_reload_makes_a_port_secure_and_takes_a_new_certificate(
    tmp_path: Path, tls: NarTls
) -> None:
    async def main() -> None:
        async with World(tmp_path) as world:
            port = world.port
            (soho,) = world.servers
            where = soho.listen
            world.servers = [replace(soho, listen=(), tls_listen=where, tls=tls)]
            await world.nar.reload(world.planner)
            assert world.port == port
            _, writer = await asyncio.open_connection(
                "127.0.0.1", port, ssl=client_context(tls), server_hostname="nar.example"
            )
            writer.close()
            bad = NarTls(tls.certificate, tmp_path / "gone.pem")
            world.servers = [replace(soho, listen=(), tls_listen=where, tls=bad)]
            with pytest.raises(NarListenError, match="cannot be used"):
                await world.nar.reload(world.planner)
            _, writer = await asyncio.open_connection(
                "127.0.0.1", port, ssl=client_context(tls), server_hostname="nar.example"
            )
            writer.close()
            await until(lambda: not world.soho.streams)

    run(main())


def test_half_close_inside_tls_reaches_the_engine(tmp_path: Path, tls: NarTls) -> None:
    async def main() -> None:
        async with secure_world(tmp_path, tls) as world:
            context = client_context(tls)

            def talk() -> bytes:
                with (
                    socket.create_connection(("127.0.0.1", world.port)) as plain,
                    context.wrap_socket(plain, server_hostname="nar.example") as secure,
                ):
                    secure.sendall(b"\1x")
                    got = secure.recv(2)
                    secure.unwrap()
                    return got

            assert await asyncio.to_thread(talk) == b"\1x"
            await until(lambda: not world.soho.streams)

    run(main())


def test_ports_and_certificates_that_cannot_be_had(tmp_path: Path, tls: NarTls) -> None:
    async def main() -> None:
        world = World(tmp_path)
        plan = world.servers[0]
        with socket.create_server(("127.0.0.1", 0)) as taken:
            where = Endpoint(LOOPBACK, taken.getsockname()[1])
            with pytest.raises(NarListenError, match=r"nar\.soho: TCP port \d+ .* is in use"):
                Listener(replace(plan, listen=(where,)))
        bad = NarTls(tls.private_key, tls.private_key)
        secure = replace(plan, listen=(), tls_listen=(Endpoint(LOOPBACK, 0),))
        with pytest.raises(NarListenError, match="cannot be used"):
            Listener(replace(secure, tls=bad))
        with pytest.raises(TransportError, match="needs certificate"):
            Listener(secure)
        with pytest.raises(NarListenError, match=r"No such file"):
            Listener(replace(secure, tls=NarTls(tmp_path / "gone", tmp_path / "gone")))

    run(main())


def test_a_connection_owns_no_buffer() -> None:
    assert len(connection._buffer) == connection.READ_OCTETS
    assert not hasattr(connection.NarConnection(None, None), "__dict__")
