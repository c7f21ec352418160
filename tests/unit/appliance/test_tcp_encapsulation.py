"""Both ends of TCP encapsulation over loopback, without a kernel that speaks ESP; hostile input 35.

An IKE socket of the gateway is played by a UDP socket.
"""

import asyncio
import contextlib
import os
import socket
import struct
from dataclasses import replace
from ipaddress import IPv4Address, ip_address
from pathlib import Path
from typing import Any

import pytest

from gateway.appliance import tcp_encapsulation
from gateway.appliance.backends import Backends, BackendSettings
from gateway.appliance.tcp_encapsulation import (
    TcpEncapsulation,
    TcpLimits,
    engine_address,
    forgeable_interfaces,
)
from gateway.domain.endpoint import TCP_PEERS, Endpoint
from gateway.domain.event import Event, Severity
from gateway.domain.user_auth import Asker, PasswordQuestion, Session
from gateway.ike import tcp_relay
from gateway.ike.outputs import AskAboutUser, SessionOpened
from gateway.ike.socket_errors import PortInUseError, TransportError
from gateway.ike.tcp_stream import KEEPALIVE, STREAM_PREFIX, frame
from gateway.mobile_host.tcp_encapsulation import TcpTunnel, TcpTunnelError

LOOPBACK = IPv4Address("127.0.0.1")
ESP = struct.pack("!II", 0x1234_5678, 1) + bytes(32)
IKE = bytes(4) + bytes(range(1, 17)) + bytes((0, 0x20, 37, 8)) + bytes(4) + struct.pack("!I", 28)
LIMITS = TcpLimits(connections=8, per_source=5)


class Gateway:
    """A relay with a UDP socket in the place of the IKE socket."""

    def __init__(self, limits: TcpLimits) -> None:
        self.engine = udp()
        self.events: list[Event] = []
        self.established: set[Endpoint] = set()
        self.writers: list[Any] = []
        self.relay = TcpEncapsulation(
            [Endpoint(LOOPBACK, 0)],
            ike_listen=[LOOPBACK],
            nat_port=self.engine.getsockname()[1],
            limits=limits,
            emit=self.events.append,
            random=os.urandom,
        )
        self.relay.bind()
        (self.where,) = self.relay.listening

    @property
    def counters(self) -> dict[str, int]:
        return self.relay.counters

    def names(self) -> list[str]:
        return [event.name for event in self.events]

    async def connect(self, source: str = "127.0.0.1") -> Any:
        address = (str(self.where.address), self.where.port)
        reader, writer = await asyncio.open_connection(*address, local_addr=(source, 0))
        self.writers.append(writer)
        return reader, writer

    async def peer(self, source: str = "127.0.0.1", message: bytes = IKE) -> Any:
        """A peer whose first message has arrived: its streams and what stands for it."""
        reader, writer = await self.connect(source)
        writer.write(STREAM_PREFIX + frame(message))
        octets, sender = await received(self.engine)
        assert octets == message
        return reader, writer, sender


def udp(address: str = "127.0.0.1", port: int = 0) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.bind((address, port))
    return sock


async def received(sock: socket.socket) -> Any:
    async with asyncio.timeout(10):
        return await asyncio.get_running_loop().sock_recvfrom(sock, 65_535)


async def until(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - all kinds of conditions
            await asyncio.sleep(0)


async def ended(reader: Any) -> bytes:
    """What came before the other side ended the connection."""
    octets = b""
    async with asyncio.timeout(10):
        with contextlib.suppress(ConnectionResetError):
            while part := await reader.read(65_536):
                octets += part
    return octets


@contextlib.asynccontextmanager
async def gateway(limits: TcpLimits = LIMITS) -> Any:
    made = Gateway(limits)
    try:
        await made.relay.start(lambda: made.established)
        yield made
    finally:
        made.relay.close()
        made.engine.close()
        for writer in made.writers:
            writer.transport.abort()
        for _ in range(3):
            await asyncio.sleep(0)


def test_messages_travel_both_ways_as_datagrams_of_an_endpoint_of_their_own() -> None:
    async def scenario() -> None:
        async with gateway() as gate:
            reader, writer, sender = await gate.peer()
            assert ip_address(sender[0]) in TCP_PEERS
            writer.write(frame(ESP) + frame(KEEPALIVE) + frame(IKE))
            assert await received(gate.engine) == (ESP, sender)
            assert await received(gate.engine) == (IKE, sender)
            for message in (ESP, KEEPALIVE, IKE):
                gate.engine.sendto(message, sender)
            expected = frame(ESP) + frame(IKE)  # TCP has keepalives of its own
            assert await reader.readexactly(len(expected)) == expected
            assert gate.counters["keepalives_in"] == 1
            assert gate.counters["messages_in"] == 3
            assert gate.counters["messages_out"] == 2
            writer.close()
            await until(lambda: not gate.relay.facts()["connections"])

    asyncio.run(scenario())


def test_connections_of_one_source_share_an_address_and_others_do_not() -> None:
    async def scenario() -> None:
        async with gateway() as gate:
            senders = [(await gate.peer(source))[2] for source in ("127.0.0.1", "127.0.0.1")]
            other = (await gate.peer("127.0.0.2"))[2]
            assert senders[0][0] == senders[1][0]
            assert senders[0][1] != senders[1][1]
            assert other[0] != senders[0][0]

    asyncio.run(scenario())


def test_events_and_views_show_where_a_peer_really_is() -> None:
    async def scenario() -> None:
        async with gateway() as gate:
            _, writer, (host, port) = await gate.peer()
            true = "127.0.0.1:{}".format(writer.get_extra_info("sockname")[1])
            fields = {"remote": f"{host}:{port}", "seen": [f"{host}:{port}"], "count": 3}
            event = Event("x", f"ann at {host}:{port}, {host} too", Severity.INFO, fields)
            named = gate.relay.names.in_event(event)
            assert named.text == f"ann at {true}, 127.0.0.1 too"
            assert named.fields == {"remote": true, "seen": [true], "count": 3}
            plain = Event("x", "ann at 192.0.2.1:4500, 127.0.0.1", Severity.INFO, {})
            assert gate.relay.names.in_event(plain) is plain
            where = gate.relay.names.true_remote(Endpoint(ip_address(host), port))
            assert str(where) == true
            assert gate.relay.names.in_view({"last_move": {"old": f"{host}:{port}"}}) == {
                "last_move": {"old": true}
            }
            writer.close()
            await until(lambda: not gate.relay.facts()["connections"])
            assert gate.relay.names.of(f"{host}:{port}") == true

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "octets",
    [
        b"GET / HTTP/1.1\r\nHost: gw\r\n\r\n",
        STREAM_PREFIX + b"\0\0",
        STREAM_PREFIX + b"\0\1\0",
        STREAM_PREFIX + b"\xff\xff",
        STREAM_PREFIX + frame(b"\0\0"),
    ],
)
def test_h35_garbage_ends_the_connection_and_costs_no_socket(octets: bytes) -> None:
    async def scenario() -> None:
        async with gateway() as gate:
            reader, writer = await gate.connect()
            writer.write(octets)
            assert await ended(reader) == b""
            assert gate.counters["protocol_errors"] == 1
            assert gate.names() == ["tcp_protocol_error"]
            assert gate.events[0].severity is Severity.WARNING
            with pytest.raises(BlockingIOError):
                gate.engine.recv(100)

    asyncio.run(scenario())


def test_h35_what_came_before_the_garbage_still_counts() -> None:
    async def scenario() -> None:
        async with gateway() as gate:
            reader, writer = await gate.connect()
            writer.write(STREAM_PREFIX + frame(IKE) + frame(ESP) + b"\0\1")
            assert (await received(gate.engine))[0] == IKE
            assert (await received(gate.engine))[0] == ESP
            await ended(reader)

    asyncio.run(scenario())


@pytest.mark.parametrize("octets", [b"", b"IKE", STREAM_PREFIX, STREAM_PREFIX + b"\xff\xe0" + IKE])
def test_h35_64_kb_length_then_silence(octets: bytes) -> None:
    """And silence from the beginning, half a prefix, a prefix alone."""

    async def scenario() -> None:
        async with gateway() as gate:
            reader, writer = await gate.connect()
            writer.write(octets)
            await until(lambda: gate.counters["octets_in"] == len(octets))
            await until(lambda: gate.relay.facts()["connections"] == 1)
            now = asyncio.get_running_loop().time()
            gate.relay.sweep(now + LIMITS.first_message_s - 1)
            assert gate.relay.facts()["connections"] == 1
            gate.relay.sweep(now + LIMITS.first_message_s + 1)
            assert await ended(reader) == b""
            assert gate.counters["timeouts"] == 1

    asyncio.run(scenario())


def test_h35_byte_at_a_time() -> None:
    """Slowly sent, a message may arrive in time; but its rest must not take long."""

    async def scenario() -> None:
        async with gateway() as gate:
            reader, writer = await gate.connect()
            for octet in STREAM_PREFIX + frame(IKE):
                writer.write(bytes((octet,)))
                await writer.drain()
            assert (await received(gate.engine))[0] == IKE
            writer.write(frame(ESP)[:-1])
            before = gate.counters["octets_in"]
            await until(lambda: gate.counters["octets_in"] > before)
            now = asyncio.get_running_loop().time()
            gate.relay.sweep(now + LIMITS.rest_s - 1)
            assert gate.relay.facts()["connections"] == 1
            gate.relay.sweep(now + LIMITS.rest_s + 1)
            assert await ended(reader) == b""

    asyncio.run(scenario())


def test_h35_rst_mid_message() -> None:
    async def scenario() -> None:
        async with gateway() as gate:
            _, writer, sender = await gate.peer()
            writer.write(frame(ESP)[:10])
            await writer.drain()
            linger = struct.pack("ii", 1, 0)
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.close()
            await until(lambda: not gate.relay.facts()["connections"])
            assert gate.names() == ["tcp_closed"]
            gate.engine.sendto(IKE, sender)  # nobody is there any more, and nothing happens
            with pytest.raises(BlockingIOError):
                gate.engine.recv(100)

    asyncio.run(scenario())


def test_h35_second_connection_and_the_first_ends_once_it_stands_for_nobody() -> None:
    async def scenario() -> None:
        async with gateway() as gate:
            old_reader, _, old = await gate.peer()
            gate.established = {Endpoint(ip_address(old[0]), old[1])}
            _, _, new = await gate.peer()
            later = asyncio.get_running_loop().time() + LIMITS.login_s + 10
            gate.established = {Endpoint(ip_address(new[0]), new[1])}
            gate.relay.sweep(later)
            assert await ended(old_reader) == b""
            assert gate.relay.facts()["connections"] == 1
            gate.engine.sendto(IKE, new)
            await until(lambda: gate.counters["messages_out"] == 1)

    asyncio.run(scenario())


def test_whoever_has_an_ike_sa_may_be_silent_for_long() -> None:
    async def scenario() -> None:
        async with gateway() as gate:
            _, writer, sender = await gate.peer()
            gate.established = {Endpoint(ip_address(sender[0]), sender[1])}
            writer.write(frame(ESP)[:10])  # a stall of the network, say
            gate.relay.sweep(asyncio.get_running_loop().time() + 100_000)
            assert gate.relay.facts()["connections"] == 1
            gate.established = set()
            gate.relay.sweep(asyncio.get_running_loop().time() + 100_000)
            assert gate.relay.facts()["connections"] == 0

    asyncio.run(scenario())


def test_h35_a_flood_of_one_source_takes_its_own_places_only() -> None:
    async def scenario() -> None:
        async with gateway() as gate:
            flood = [await gate.connect("127.0.0.9") for _ in range(LIMITS.per_source + 2)]
            await until(lambda: gate.counters["accepted"] == len(flood))
            assert gate.counters["refused"] == 2
            assert gate.relay.facts()["connections"] == LIMITS.per_source
            refused = [event for event in gate.events if event.name == "tcp_refused"]
            assert "too many connections" in refused[0].text
            for _, writer in flood:
                writer.close()
            await until(lambda: not gate.relay.facts()["connections"])
            await gate.peer("127.0.0.9")

    asyncio.run(scenario())


def test_h35_a_flood_of_many_sources_crowds_out_strangers_and_nobody_else() -> None:
    async def scenario() -> None:
        async with gateway() as gate:
            _, _, friend = await gate.peer("127.0.0.1")
            gate.established = {Endpoint(ip_address(friend[0]), friend[1])}
            crowd = [await gate.connect("127.0.0.2") for _ in range(5)]
            single = [await gate.connect(f"127.0.0.{last}") for last in (3, 4)]
            await until(lambda: gate.relay.facts()["connections"] == LIMITS.connections)
            _, _, newcomer = await gate.peer("127.0.0.5")
            assert gate.counters["crowded_out"] == 1
            assert await ended(crowd[0][0]) == b""  # the oldest of the largest crowd
            assert gate.relay.facts()["connections"] == LIMITS.connections
            gate.engine.sendto(IKE, newcomer)
            gate.engine.sendto(IKE, friend)
            await until(lambda: gate.counters["messages_out"] == 2)
            again, _ = await gate.connect("127.0.0.2")  # has the most: nobody goes for it
            assert await ended(again) == b""
            assert gate.counters["refused"] == 1
            for _, writer in single:
                assert not writer.is_closing()

    asyncio.run(scenario())


def test_h35_a_stranger_cannot_keep_us_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every message costs a datagram; who has an SA may send as many as it likes."""
    monkeypatch.setattr(tcp_relay, "STRANGERS_MESSAGES_PER_S", 10)

    async def scenario() -> None:
        async with gateway() as gate:
            _, writer, sender = await gate.peer()
            writer.write(frame(ESP) * 50)
            await until(lambda: gate.counters["messages_in"] == 51)
            dropped = gate.counters["strangers_dropped"]
            assert dropped in {40, 41}  # by whether a new second began
            gate.engine.sendto(ESP, sender)
            await until(lambda: gate.counters["messages_out"] == 1)
            writer.write(frame(ESP) * 50)
            await until(lambda: gate.counters["messages_in"] == 101)
            assert gate.counters["strangers_dropped"] == dropped
            gate.relay.sweep(0.0)  # its SA is not here, or no longer
            (connection,) = gate.relay._open
            assert not connection.trusted

    asyncio.run(scenario())


def test_h35_a_flood_costs_some_lines_only() -> None:
    async def scenario() -> None:
        async with gateway() as gate:
            for _ in range(20):
                reader, writer = await gate.connect()
                writer.write(b"GET")
                await ended(reader)
            assert gate.counters["protocol_errors"] == 20
            assert len(gate.events) <= 2 * tcp_encapsulation.EVENTS_PER_S

    asyncio.run(scenario())


def test_h35_a_stranger_that_does_not_read_costs_little(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp_relay, "IKE_BUFFER_OCTETS", 1 << 40)
    body = bytes(9_000)
    big_ike = IKE[:28] + struct.pack("!I", 28 + len(body)) + body

    async def scenario() -> None:
        async with gateway() as gate:
            _, writer, sender = await gate.peer()
            writer.transport.pause_reading()
            async with asyncio.timeout(20):
                while gate.relay.facts()["connections"]:
                    with contextlib.suppress(OSError):
                        await asyncio.get_running_loop().sock_sendto(gate.engine, big_ike, sender)
                    await asyncio.sleep(0)
            assert "does not take" in gate.events[-1].text

    asyncio.run(scenario())


def test_a_slow_reader_loses_esp_and_then_its_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp_relay, "ESP_BUFFER_OCTETS", 20_000)
    monkeypatch.setattr(tcp_relay, "IKE_BUFFER_OCTETS", 60_000)
    big_esp = ESP + bytes(9_000)
    body = bytes(9_000)
    big_ike = IKE[:28] + struct.pack("!I", 28 + len(body)) + body

    async def scenario() -> None:
        async with gateway() as gate:
            _, writer, sender = await gate.peer()
            writer.transport.pause_reading()
            loop = asyncio.get_running_loop()
            async with asyncio.timeout(20):
                while not gate.counters["esp_dropped"]:
                    await loop.sock_sendto(gate.engine, big_esp, sender)
                    await asyncio.sleep(0)
                out = gate.counters["messages_out"]
                await loop.sock_sendto(gate.engine, big_ike, sender)
                await until(lambda: gate.counters["messages_out"] > out)
                while gate.relay.facts()["connections"]:
                    with contextlib.suppress(OSError):
                        await loop.sock_sendto(gate.engine, big_ike, sender)
                    await asyncio.sleep(0)
            assert "does not take" in gate.events[-1].text
            writer.transport.abort()

    asyncio.run(scenario())


def test_ports_in_use_and_missing_addresses_are_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for where, kind, why in (
            (Endpoint(LOOPBACK, port), PortInUseError, rf"TCP port {port} of 127.0.0.1 is in use"),
            (Endpoint(ip_address("192.0.2.99"), port), TransportError, "ike.tcp_listen"),
        ):
            relay = TcpEncapsulation(
                [where],
                ike_listen=[LOOPBACK],
                nat_port=4500,
                limits=LIMITS,
                emit=lambda _event: None,
                random=os.urandom,
            )
            with pytest.raises(kind, match=why):
                relay.bind()


def test_descriptors_bound_the_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp_encapsulation.resource, "getrlimit", lambda _which: (456, 456))
    relay = TcpEncapsulation(
        [],
        ike_listen=[LOOPBACK],
        nat_port=4500,
        limits=replace(LIMITS, connections=5000),
        emit=lambda _event: None,
        random=os.urandom,
    )
    assert relay.limits.connections == 100


@pytest.mark.parametrize(
    ("accepted", "listen", "engine"),
    [
        ("203.0.113.1", ["203.0.113.1", "203.0.113.2"], "203.0.113.1"),
        ("203.0.113.9", ["203.0.113.1", "203.0.113.2"], "203.0.113.1"),
        ("203.0.113.9", ["0.0.0.0"], "203.0.113.9"),
        ("2001:db8::1", ["2001:db8::1", "203.0.113.2"], "203.0.113.2"),
        ("2001:db8::1", ["::", "0.0.0.0"], "127.0.0.1"),
    ],
)
def test_which_ike_socket_stands_for_us(accepted: str, listen: list[str], engine: str) -> None:
    found = engine_address(ip_address(accepted), [ip_address(one) for one in listen])
    assert found == ip_address(engine)


def test_without_an_ipv4_ike_socket_there_is_none() -> None:
    with pytest.raises(ValueError, match="IPv4"):
        engine_address(ip_address("2001:db8::1"), [ip_address("::")])


def test_interfaces_that_let_loopback_addresses_in_are_named(tmp_path: Path) -> None:
    for name, value in (("all", "0"), ("eth0", "1"), ("eth1", "0"), ("lo", "1")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "route_localnet").write_text(f"{value}\n")
    assert forgeable_interfaces(tmp_path) == ["eth0"]


def test_backends_hear_of_the_true_address(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        backends = Backends(BackendSettings(), usage=lambda _: None, emit=lambda _: None)
        heard: list[Any] = []
        monkeypatch.setattr(backends._users, "ask", heard.append)
        monkeypatch.setattr(
            backends._accounting, "session_opened", lambda session, **_: heard.append(session)
        )
        here = Endpoint(ip_address("203.0.113.1"), 4500)
        by_tcp = Endpoint(ip_address("127.70.1.2"), 40_001)
        true = Endpoint(ip_address("198.51.100.7"), 50_000)
        backends.true_remote = lambda at: true if at == by_tcp else at
        for remote in (by_tcp, here):
            asker = Asker("road", here, remote, "s1")
            question = PasswordQuestion("local", "anna", b"right", asker)
            backends.ask_about_user(AskAboutUser(7, question))
            session = Session("s1", "local", "anna", "road", here, remote, None)
            backends.session_opened(SessionOpened(session))
        assert [one.question.asker.remote for one in heard[::2]] == [true, here]
        assert [one.remote for one in heard[1::2]] == [true, here]
        assert heard[0].question.password == b"right"
        await backends.stop()

    asyncio.run(scenario())


# -- the device's side ----------------------------------------------------------------------------


def tunnel(gate: Gateway, engine: socket.socket, ports: list[int] | None = None) -> Any:
    down: list[str] = []
    port = engine.getsockname()[1]
    ports = [gate.where.port] if ports is None else ports
    made = TcpTunnel(
        LOOPBACK, ports, interface=None, mark=0, on_down=down.append, nat_port=port, connect_s=5
    )
    return made, down


def test_a_tunnel_ends_and_comes_back_at_the_same_endpoint() -> None:
    async def scenario() -> None:
        async with gateway() as gate:
            engine = udp()
            made, down = tunnel(gate, engine)
            endpoint = await made.open()
            assert endpoint.stands_for_tcp
            assert await made.open() == endpoint  # it is open
            there = (str(endpoint.address), endpoint.port)
            engine.sendto(IKE, there)
            octets, sender = await received(gate.engine)
            assert octets == IKE
            gate.engine.sendto(ESP, sender)
            assert await received(engine) == (ESP, there)

            gate.relay.sweep(asyncio.get_running_loop().time() + 10_000)
            await until(lambda: down)
            assert not made.is_open
            for stale in (ESP, IKE, ESP):  # IKE goes on asking, nobody needs the old ESP
                engine.sendto(stale, there)
            assert await made.open() == endpoint
            assert (await received(gate.engine))[0] == IKE
            assert made.port == gate.where.port
            made.close()
            await until(lambda: not gate.relay.facts()["connections"])
            assert len(down) == 1
            engine.close()

    asyncio.run(scenario())


def test_ports_are_tried_in_their_order() -> None:
    async def scenario() -> None:
        async with gateway() as gate:
            engine = udp()
            with socket.socket() as closed:
                closed.bind(("127.0.0.1", 0))
                nobody = closed.getsockname()[1]
                made, _ = tunnel(gate, engine, [nobody, gate.where.port])
                await made.open()
                assert made.port == gate.where.port
                made.close()
                hopeless, _ = tunnel(gate, engine, [nobody])
                with pytest.raises(TcpTunnelError, match=f"port {nobody}: Connection refused"):
                    await hopeless.open()
                hopeless.close()
            engine.close()

    asyncio.run(scenario())


def test_only_our_own_ike_socket_can_use_a_tunnel() -> None:
    async def scenario() -> None:
        async with gateway() as gate:
            engine, other = udp(), udp()
            made, _ = tunnel(gate, engine)
            endpoint = await made.open()
            there = (str(endpoint.address), endpoint.port)
            other.sendto(ESP, there)
            engine.sendto(IKE, there)
            assert (await received(gate.engine))[0] == IKE
            assert gate.counters["messages_in"] == 1
            made.close()
            engine.close()
            other.close()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\0\0", STREAM_PREFIX + frame(IKE), b""]
)
def test_h35_a_port_where_nobody_speaks_the_protocol_is_tried_last(answer: bytes) -> None:
    async def scenario() -> None:
        writers: list[Any] = []

        async def nonsense(_reader: Any, writer: Any) -> None:
            writers.append(writer)
            writer.write(answer)

        server = await asyncio.start_server(nonsense, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with gateway() as gate:
            engine = udp()
            down: list[str] = []
            made = TcpTunnel(
                LOOPBACK,
                [port, gate.where.port],
                interface=None,
                mark=0,
                on_down=down.append,
                nat_port=engine.getsockname()[1],
                answer_s=0.02,
            )
            endpoint = await made.open()
            assert made.port == port
            engine.sendto(IKE, (str(endpoint.address), endpoint.port))
            await until(lambda: down)
            assert not made.is_open
            await made.open()
            assert made.port == gate.where.port
            assert len(down) == 1
            made.close()
            engine.close()
        for writer in writers:
            writer.transport.abort()
        server.close()
        await asyncio.sleep(0)

    asyncio.run(scenario())
