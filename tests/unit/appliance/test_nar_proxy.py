"""Plain SOCKS5 on loopback with real sockets: CONNECT, BIND, UDP ASSOCIATE, and their ends."""

import asyncio
import contextlib
import shutil
import socket
import struct
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from nar_fakes import World, connect_by, reply_of, serving, until

from gateway.appliance.nar import bind_relay, connection, dialing
from gateway.appliance.nar.dialing import DialError, bound, dial, is_own
from gateway.appliance.nar.dialing import reply_of as reply_for
from gateway.domain.endpoint import Endpoint
from gateway.nar.codec.datagram import RelayDatagram
from gateway.nar.codec.numbers import Reply

LOOPBACK = ip_address("127.0.0.1")


opened: list[Any] = []


def run(test: Any) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60):
            try:
                await test
            finally:
                for one in opened:
                    one.close()
                opened.clear()
                for _ in range(5):  # transports that were closed close
                    await asyncio.sleep(0)

    asyncio.run(bounded())


async def echo(reader: Any, writer: Any) -> None:
    while octets := await reader.read(65_536):
        writer.write(octets)
        await writer.drain()
    writer.write(b"that was all")
    writer.close()


def test_connect_relays_both_ways_and_passes_half_close_on(tmp_path: Path) -> None:
    async def main() -> None:
        async with World(tmp_path) as world, serving(echo) as port:
            reader, writer, (reply, address, _) = await connect_by(world, 1, "127.0.0.1", port)
            assert (reply, address) == (0, "127.0.0.1")
            big = bytes(range(256)) * 8192
            writer.write(big)
            assert await reader.readexactly(len(big)) == big
            writer.write_eof()
            assert await reader.read() == b"that was all"
            writer.close()
            await until(lambda: world.soho.called("disconnected"))
            assert world.soho.streams == {}
            assert len(world.nar._fleet.running["soho"].proxy) == 0

    run(main())


def test_h72_one_byte_per_segment_and_octets_that_come_early(tmp_path: Path) -> None:
    async def main() -> None:
        async with World(tmp_path) as world, serving(echo) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            request = b"\5\1\0\5\1\0\1\x7f\0\0\1" + struct.pack("!H", port)
            for octet in request:
                writer.write(bytes((octet,)))
                await asyncio.sleep(0)
            assert await reader.readexactly(2) == b"\5\0"
            assert (await reply_of(reader))[0] == 0
            writer.close()
            reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
            writer.write(request + b"early bird")
            await reader.readexactly(2)
            assert (await reply_of(reader))[0] == 0
            assert await reader.readexactly(10) == b"early bird"
            writer.close()

    run(main())


def test_a_target_that_refuses_and_one_that_is_us(tmp_path: Path) -> None:
    async def main() -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        async with World(tmp_path) as world:
            reader, writer, (reply, *_) = await connect_by(world, 1, "127.0.0.1", port)
            assert reply == Reply.CONNECTION_REFUSED
            assert await reader.read() == b""
            writer.close()
            world.nar._fleet.running["soho"].proxy._own = is_own
            reader, writer, (reply, *_) = await connect_by(world, 1, "127.0.0.1", port)
            assert reply == Reply.NOT_ALLOWED
            writer.close()

    run(main())


def test_h76_addresses_of_this_box_are_known() -> None:
    assert is_own(LOOPBACK)
    assert is_own(ip_address("127.1.2.3"))
    assert not is_own(ip_address("192.0.2.77"))


def test_a_reset_is_passed_on(tmp_path: Path) -> None:
    async def main() -> None:
        async def broken(reader: Any, writer: Any) -> None:
            await reader.read(1)
            connection.send_reset(writer.transport)
            writer.transport.abort()

        async with World(tmp_path) as world, serving(broken) as port:
            reader, writer, _ = await connect_by(world, 1, "127.0.0.1", port)
            writer.write(b"x")
            with pytest.raises(ConnectionResetError):
                await reader.read()
            await until(lambda: not world.soho.streams)

    run(main())


def test_a_client_that_leaves_ends_the_targets_connection(tmp_path: Path) -> None:
    async def main() -> None:
        ended = asyncio.Event()

        async def patient(reader: Any, writer: Any) -> None:
            with contextlib.suppress(ConnectionError):
                await reader.read()
            writer.close()
            ended.set()

        async with World(tmp_path) as world, serving(patient) as port:
            _, writer, _ = await connect_by(world, 1, "127.0.0.1", port)
            connection.send_reset(writer.transport)
            writer.transport.abort()
            await ended.wait()
            await until(lambda: not world.soho.streams)

    run(main())


def test_back_pressure_bounds_what_waits(tmp_path: Path) -> None:
    async def main() -> None:
        gate = asyncio.Event()
        taken = 0

        async def slow(reader: Any, writer: Any) -> None:
            nonlocal taken
            await gate.wait()
            while octets := await reader.read(1 << 16):
                taken += len(octets)
            writer.close()

        async with World(tmp_path) as world, serving(slow) as port:
            reader, writer, _ = await connect_by(world, 1, "127.0.0.1", port)
            proxy = world.nar._fleet.running["soho"].proxy
            end, inside = next(iter(proxy._ends.values()))
            total = 64 << 20
            writing = asyncio.ensure_future(flood(writer, total))
            await until(lambda: inside._paused)
            waiting = end._transport.get_write_buffer_size()
            assert waiting <= connection.RELAY_BUFFER_OCTETS + connection.READ_OCTETS
            gate.set()
            await writing
            assert await reader.read() == b""
            assert taken == total
            writer.close()

    run(main())


async def flood(writer: Any, total: int) -> None:
    block = bytes(1 << 18)
    for _ in range(total // len(block)):
        writer.write(block)
        await writer.drain()
    writer.write_eof()


def test_bind_answers_twice_and_turns_strangers_away(tmp_path: Path) -> None:
    async def main() -> None:
        async with World(tmp_path) as world:
            reader, writer, (reply, address, port) = await connect_by(world, 2, "127.0.0.1", 0)
            assert (reply, address) == (0, "127.0.0.1")
            stranger = socket.socket()
            stranger.bind(("127.0.0.2", 0))
            stranger.setblocking(False)
            await asyncio.get_running_loop().sock_connect(stranger, ("127.0.0.1", port))
            peer_reader, peer_writer = await asyncio.open_connection("127.0.0.1", port)
            mine = peer_writer.get_extra_info("sockname")[1]
            assert await reply_of(reader) == (0, "127.0.0.1", mine)
            assert await asyncio.get_running_loop().sock_recv(stranger, 1) == b""
            stranger.close()
            peer_writer.write(b"from outside")
            assert await reader.readexactly(12) == b"from outside"
            writer.write(b"and back")
            assert await peer_reader.readexactly(8) == b"and back"
            peer_writer.close()
            assert await reader.read() == b""
            writer.close()

    run(main())


def test_bind_gives_up_when_nobody_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bind_relay.BindListener.accept, "__defaults__", (0.01,))

    async def main() -> None:
        async with World(tmp_path) as world:
            reader, writer, (reply, *_) = await connect_by(world, 2, "127.0.0.1", 0)
            assert reply == 0
            assert (await reply_of(reader))[0] == Reply.TTL_EXPIRED
            assert await reader.read() == b""
            writer.close()

    run(main())


class Datagrams(asyncio.DatagramProtocol):
    def __init__(self, answer: Any = None) -> None:
        self.got = []
        self.answer = answer

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.got.append((data, addr))
        if self.answer is not None:
            self.transport.sendto(self.answer + data, addr)


async def datagrams(answer: Any = None, host: str = "127.0.0.1") -> Any:
    made = Datagrams(answer)
    loop = asyncio.get_running_loop()
    await loop.create_datagram_endpoint(lambda: made, (host, 0))
    opened.append(made.transport)
    made.port = made.transport.get_extra_info("sockname")[1]
    return made


def test_h73_udp_relay_is_the_clients_alone_and_ends_with_its_connection(tmp_path: Path) -> None:
    async def main() -> None:
        async with World(tmp_path) as world:
            _, writer, (reply, address, port) = await connect_by(world, 3, "0.0.0.0", 0)
            assert (reply, address) == (0, "127.0.0.1")
            target, client = await datagrams(b"re:"), await datagrams()
            thief, unasked = await datagrams(host="127.0.0.2"), await datagrams(host="127.0.0.3")
            relay = next(iter(world.nar._fleet.running["soho"].proxy._ends.values()))[0]

            def ask(data: bytes, fragment: int = 0) -> bytes:
                return RelayDatagram(LOOPBACK, target.port, data, fragment).to_octets()

            thief.transport.sendto(ask(b"stolen"), ("127.0.0.1", port))
            await until(lambda: relay.counters["dropped"] == 1)
            client.transport.sendto(ask(b"one"), ("127.0.0.1", port))
            await until(lambda: client.got)
            assert RelayDatagram.parse(client.got[0][0]) == RelayDatagram(
                LOOPBACK, target.port, b"re:one"
            )
            outside = target.got[0][1]
            unasked.transport.sendto(b"hello", outside)
            await until(lambda: relay.counters["dropped"] == 2)
            client.transport.sendto(ask(b"part", 1), ("127.0.0.1", port))
            client.transport.sendto(b"\0\0\0", ("127.0.0.1", port))
            await until(lambda: relay.counters["dropped"] == 4)
            other_port = await datagrams()
            other_port.transport.sendto(ask(b"other"), ("127.0.0.1", port))
            await until(lambda: relay.counters["dropped"] == 5)
            world.soho.relay_rule = lambda _target, _port: False
            client.transport.sendto(ask(b"forbidden"), ("127.0.0.1", port))
            await until(lambda: relay.counters["dropped"] == 6)
            assert [data for data, _ in target.got] == [b"one"]
            writer.write_eof()
            await until(lambda: not world.soho.streams)
            assert relay._closed
            assert len(client.got) == 1
            writer.close()

    run(main())


def test_udp_relay_looks_names_up(tmp_path: Path) -> None:
    async def main() -> None:
        async with World(tmp_path) as world:
            world.nar._resolver._look_up = lambda name, _ipv6: (
                [LOOPBACK] if name == "here.example" else []
            )
            _, writer, (_, _, port) = await connect_by(world, 3, "0.0.0.0", 0)
            target, client = await datagrams(b"re:"), await datagrams()
            for name in ("here.example", "gone.example"):
                octets = RelayDatagram(name, target.port, b"x").to_octets()
                client.transport.sendto(octets, ("127.0.0.1", port))
            await until(lambda: client.got)
            assert RelayDatagram.parse(client.got[0][0]).data == b"re:x"
            relay = next(iter(world.nar._fleet.running["soho"].proxy._ends.values()))[0]
            await until(lambda: relay.counters["dropped"] == 1)
            writer.close()

    run(main())


def test_idle_relays_are_swept(tmp_path: Path) -> None:
    async def main() -> None:
        async with World(tmp_path) as world, serving(echo) as port:
            reader, writer, _ = await connect_by(world, 1, "127.0.0.1", port)
            proxy = world.nar._fleet.running["soho"].proxy
            now = asyncio.get_running_loop().time()
            proxy.sweep(now)
            assert proxy.counters["idle"] == 0
            proxy.sweep(now + 3601)
            assert await reader.read() == b""
            assert proxy.counters["idle"] == 1
            writer.close()

    run(main())


def test_the_second_address_is_tried_while_the_first_is_silent() -> None:
    async def main() -> None:
        async with serving(echo) as port:
            real = dialing._connect

            async def half_silent(address: Any, wanted: int) -> Any:
                if address == ip_address("192.0.2.1"):
                    await asyncio.Event().wait()
                return await real(address, wanted)

            dialing._connect = half_silent
            try:
                sock = await dial([ip_address("192.0.2.1"), LOOPBACK], port, stagger_s=0.01)
                assert sock.getpeername() == ("127.0.0.1", port)
                sock.close()
                with pytest.raises(DialError) as raised:
                    await dial([ip_address("192.0.2.1")], port, stagger_s=0.01, deadline_s=0.05)
                assert raised.value.reply is Reply.HOST_UNREACHABLE
                with pytest.raises(DialError):
                    await dial([], port)
            finally:
                dialing._connect = real

    run(main())


def test_of_two_that_answer_at_once_one_is_closed() -> None:
    async def main() -> None:
        pairs = [socket.socketpair() for _ in range(2)]
        left = [pair[0] for pair in pairs]
        gate = asyncio.Event()
        real = dialing._connect

        async def both(_address: Any, _port: int) -> Any:
            sock = left.pop()
            await gate.wait()
            return sock

        dialing._connect = both
        try:
            dialling = asyncio.ensure_future(dial([LOOPBACK, LOOPBACK], 9, stagger_s=0.0))
            await until(lambda: not left)
            gate.set()
            sock = await dialling
            await until(lambda: sum(pair[0].fileno() < 0 for pair in pairs) == 1)
            assert sock.fileno() >= 0
        finally:
            dialing._connect = real
            for pair in pairs:
                pair[0].close()
                pair[1].close()

    run(main())


def test_errors_have_their_replies() -> None:
    assert reply_for(OSError(101, "x")) is Reply.NETWORK_UNREACHABLE
    assert reply_for(OSError(113, "x")) is Reply.HOST_UNREACHABLE
    assert reply_for(OSError(1, "x")) is Reply.NOT_ALLOWED
    assert reply_for(OSError(5, "x")) is Reply.GENERAL_FAILURE


def test_sockets_of_the_proxy_avoid_leased_ports() -> None:
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with bound(kind, LOOPBACK, lambda port: port >= 2048) as sock:
            assert 1024 <= sock.getsockname()[1] < 2048
    with pytest.raises(OSError, match="leased"):
        bound(socket.SOCK_STREAM, LOOPBACK, lambda _port: True)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl_fetches_through_the_proxy(tmp_path: Path) -> None:
    async def web(reader: Any, writer: Any) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.0 200 OK\r\nContent-Length: 7\r\n\r\nthrough")
        writer.close()

    async def main() -> None:
        async with World(tmp_path) as world, serving(web) as port:
            process = await asyncio.create_subprocess_exec(
                "curl",
                "--silent",
                "--max-time",
                "20",
                "--proxy",
                f"socks5://127.0.0.1:{world.port}",
                "--noproxy",
                "",
                f"http://127.0.0.1:{port}/",
                stdout=asyncio.subprocess.PIPE,
            )
            out, _ = await process.communicate()
            assert (process.returncode, out) == (0, b"through")

    run(main())


def test_endpoints_are_told_without_their_mapping() -> None:
    assert connection._endpoint(("::ffff:192.0.2.9", 7, 0, 0)) == Endpoint(
        ip_address("192.0.2.9"), 7
    )
