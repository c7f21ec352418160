"""The IKE sockets on loopback, without the IPsec options that need privileges."""

import asyncio
import contextlib
import errno
import socket
from ipaddress import IPv4Address, ip_address
from typing import Any

import pytest

from gateway.domain.endpoint import Endpoint, Path
from gateway.ike import transport, transport_esp
from gateway.ike.socket_errors import (
    KernelLacksError,
    PortInUseError,
    TransportDeniedError,
    TransportError,
)
from gateway.ike.transport import DATAGRAMS_PER_WAKE_UP, KEEPALIVE, IkeSockets
from gateway.ike.transport_esp import EspInUdp, bypass_policy

LOOPBACK = IPv4Address("127.0.0.1")


class Net:
    def __init__(self, sockets: Any, batches: Any, changed: Any) -> None:
        self.sockets = sockets
        self.batches = batches
        self._changed = changed
        self.ike, self.nat = sockets.local_endpoints

    @property
    def messages(self) -> Any:
        return [message for batch in self.batches for message, _ in batch]

    async def until(self, condition: Any) -> None:
        async with asyncio.timeout(10):
            while not condition():
                self._changed.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.01):
                        await self._changed.wait()


@contextlib.asynccontextmanager
async def listening(address: Any = LOOPBACK, **options: Any) -> Any:
    defaults = {"ike_port": 0, "nat_port": 0, "esp": EspInUdp.NONE}
    sockets = IkeSockets([address], **{**defaults, **options})
    batches, changed = [], asyncio.Event()

    def receive(batch: Any) -> None:
        batches.append(batch)
        changed.set()

    try:
        sockets.start(asyncio.get_running_loop(), receive)
        yield Net(sockets, batches, changed)
    finally:
        sockets.close()


@contextlib.contextmanager
def peer(family: Any = socket.AF_INET, host: Any = "127.0.0.1") -> Any:
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.bind((host, 0))
        sock.settimeout(10)
        yield sock, Endpoint(ip_address(host), sock.getsockname()[1])


def test_messages_come_in_with_their_path_and_go_out_with_the_marker() -> None:
    async def scenario() -> None:
        async with listening() as net:
            with peer() as (sock, remote):
                sock.sendto(b"plain", ("127.0.0.1", net.ike.port))
                await net.until(lambda: net.messages == [b"plain"])
                sock.sendto(b"\0\0\0\0behind", ("127.0.0.1", net.nat.port))
                await net.until(lambda: net.messages == [b"plain", b"behind"])
                paths = [path for batch in net.batches for _, path in batch]
                assert paths == [Path(net.ike, remote), Path(net.nat, remote)]
                assert net.sockets.send(b"one", paths[0]) is None
                assert net.sockets.send(b"two", paths[1]) is None
                assert net.sockets.send(b"\xff", paths[1], keepalive=True) is None
                assert [sock.recv(100) for _ in range(3)] == [b"one", b"\0\0\0\0two", b"\xff"]

    asyncio.run(scenario())


@pytest.mark.parametrize("octets", [b"\xff", b"", b"\0", b"\0\0", b"\0\0\0", b"\1\2\3\4esp"])
def test_h34_what_is_no_ike_message_on_the_nat_port_is_counted_and_dropped(octets: Any) -> None:
    async def scenario() -> None:
        async with listening() as net:
            with peer() as (sock, _):
                sock.sendto(octets, ("127.0.0.1", net.nat.port))
                sock.sendto(b"\0\0\0\0ike", ("127.0.0.1", net.nat.port))
                await net.until(lambda: net.messages)
                assert net.messages == [b"ike"]
                name = "keepalives" if octets == b"\xff" else "not_ike"
                assert net.sockets.counters[name] == 1

    asyncio.run(scenario())


def test_h01_an_empty_datagram_reaches_the_engine_as_such() -> None:
    async def scenario() -> None:
        async with listening() as net:
            with peer() as (sock, _):
                sock.sendto(b"", ("127.0.0.1", net.ike.port))
                sock.sendto(b"\0\0\0\0", ("127.0.0.1", net.nat.port))
                await net.until(lambda: len(net.messages) == 2)
                assert net.messages == [b"", b""]

    asyncio.run(scenario())


def test_a_burst_comes_in_bounded_batches() -> None:
    async def scenario() -> None:
        async with listening() as net:
            with peer() as (sock, _):
                count = 2 * DATAGRAMS_PER_WAKE_UP + 3
                for number in range(count):
                    sock.sendto(b"%d" % number, ("127.0.0.1", net.ike.port))
                await net.until(lambda: len(net.messages) == count)
                assert net.messages == [b"%d" % number for number in range(count)]
                assert max(map(len, net.batches)) <= DATAGRAMS_PER_WAKE_UP

    asyncio.run(scenario())


def test_the_paths_of_a_peer_are_one_object() -> None:
    async def scenario() -> None:
        async with listening() as net:
            with peer() as (sock, _):
                for _ in range(2):
                    sock.sendto(b"x", ("127.0.0.1", net.ike.port))
                await net.until(lambda: len(net.messages) == 2)
                first, second = (path for batch in net.batches for _, path in batch)
                assert first is second

    asyncio.run(scenario())


def test_remembered_paths_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "MAX_PATHS", 3)

    async def scenario() -> None:
        async with listening() as net, contextlib.AsyncExitStack() as stack:
            for number in range(10):
                sock, _ = stack.enter_context(peer())
                sock.sendto(b"x", ("127.0.0.1", net.ike.port))
                await net.until(lambda n=number: len(net.messages) == n + 1)
            for batch in net.batches:
                assert net.sockets.send(b"y", batch[0][1]) is None
            opened = net.sockets._sockets[0]
            assert len(opened._paths) <= 3
            assert len(net.sockets._routes) <= 3

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("family", "any_address", "host"),
    [(socket.AF_INET, "0.0.0.0", "127.0.0.53"), (socket.AF_INET6, "::", "::1")],
)
def test_listening_on_any_address_answers_from_the_one_that_was_asked(
    family: Any, any_address: Any, host: Any
) -> None:
    async def scenario() -> None:
        async with listening(ip_address(any_address)) as net:
            near = "127.0.0.1" if family == socket.AF_INET else "::1"
            with peer(family, near) as (sock, _):
                sock.sendto(b"x", (host, net.ike.port))
                await net.until(lambda: net.messages)
                path = net.batches[0][0][1]
                assert path.local == Endpoint(ip_address(host), net.ike.port)
                assert net.sockets.send(b"y", path) is None
                answer, sender = sock.recvfrom(10)
                assert (answer, sender[0]) == (b"y", host)

    asyncio.run(scenario())


def test_without_a_local_address_the_socket_of_the_port_is_taken() -> None:
    async def scenario() -> None:
        async with listening() as net:
            with peer() as (sock, remote):
                anywhere = Path(Endpoint(IPv4Address("0.0.0.0"), net.ike.port), remote)
                assert net.sockets.send(b"x", anywhere) is None
                data, sender = sock.recvfrom(10)
                assert (data, sender[1]) == (b"x", net.ike.port)

    asyncio.run(scenario())


def test_a_send_that_fails_is_counted_and_returned() -> None:
    async def scenario() -> None:
        async with listening() as net:
            with peer() as (_, remote):
                unknown = Path(Endpoint(IPv4Address("192.0.2.1"), 500), remote)
                assert net.sockets.send(b"x", unknown).errno == errno.EADDRNOTAVAIL
                too_long = b"x" * 70_000
                assert net.sockets.send(too_long, Path(net.ike, remote)).errno == errno.EMSGSIZE
                assert net.sockets.counters["send_errors"] == 2
                assert net.sockets.send(b"x", Path(net.ike, remote)) is None

    asyncio.run(scenario())


def test_a_port_in_use_is_named_with_address_and_remedy() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as holder:
        holder.bind(("127.0.0.1", 0))
        port = holder.getsockname()[1]
        with pytest.raises(PortInUseError) as caught:
            IkeSockets([LOOPBACK], ike_port=0, nat_port=port, esp=EspInUdp.NONE)
    text = str(caught.value)
    assert f"port {port} of 127.0.0.1 is in use" in text
    assert "ss -ulpn" in text


def test_an_address_that_is_not_ours_is_named() -> None:
    with pytest.raises(TransportError, match=r"no interface has the address 192\.0\.2\.1"):
        IkeSockets([IPv4Address("192.0.2.1")], ike_port=0, nat_port=0, esp=EspInUdp.NONE)


@pytest.mark.parametrize(
    ("number", "kind", "words"),
    [
        (errno.EPERM, TransportDeniedError, "CAP_NET_ADMIN"),
        (errno.ENOPROTOOPT, KernelLacksError, "CONFIG_INET_ESP"),
    ],
)
def test_a_kernel_that_refuses_ipsec_options_is_explained(
    monkeypatch: pytest.MonkeyPatch, number: Any, kind: Any, words: Any
) -> None:
    class Refusing(socket.socket):
        def setsockopt(self, level: Any, option: Any, value: Any) -> None:
            if option in {transport_esp.IP_XFRM_POLICY, transport_esp.UDP_ENCAP}:
                raise OSError(number, "no")
            super().setsockopt(level, option, value)

    monkeypatch.setattr(transport.socket, "socket", Refusing)
    with pytest.raises(kind, match=words):
        IkeSockets([LOOPBACK], ike_port=0, nat_port=0)


def test_bypass_policy_has_the_kernels_layout() -> None:
    policy = bypass_policy(socket.AF_INET, outbound=True)
    assert len(policy) == 168  # struct xfrm_userpolicy_info
    assert policy[40:42] == socket.AF_INET.to_bytes(2, "little")
    assert policy[160:164] == b"\1\0\0\0"  # direction out, action allow
    assert bypass_policy(socket.AF_INET6, outbound=False)[160] == 0


async def counted(net: Net, *datagrams: bytes) -> Any:
    """Counters after these and an IKE message came to the NAT port."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        for data in (*datagrams, b"\0\0\0\0an IKE message"):
            peer.sendto(data, (str(net.nat.address), net.nat.port))
        await net.until(lambda: net.messages)
    assert net.messages == [b"an IKE message"]
    return net.sockets.counters


def test_esp_that_another_process_reads_never_wakes_the_core() -> None:
    async def scenario() -> None:
        async with listening(esp=EspInUdp.FILTERED) as net:
            esp = (b"\0\0\1\2 esp", b"", b"\0\0\0")
            counters = await counted(net, *esp, b"x", KEEPALIVE)
            # One octet is let in without a look at it.
            assert (counters["keepalives"], counters["not_ike"]) == (1, 1)

    asyncio.run(scenario())


@pytest.mark.parametrize("esp", [EspInUdp.FILTERED, EspInUdp.NONE])
def test_a_held_socket_gets_the_options_of_the_dataplane_there_is(esp: EspInUdp) -> None:
    async def scenario() -> None:
        async with listening(esp=EspInUdp.FILTERED) as first:
            held = [one.dup() for one in first.sockets.sockets]
        transport_esp.release(held[1])
        ports = {"ike_port": first.ike.port, "nat_port": first.nat.port}
        async with listening(esp=esp, held=held, **ports) as net:
            assert net.sockets.sockets == held
            counters = await counted(net, b"\0\0\1\2 esp")
            assert counters["not_ike"] == (0 if esp is EspInUdp.FILTERED else 1)

    asyncio.run(scenario())


def test_releasing_a_socket_without_options_is_fine() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plain:
        transport_esp.release(plain)
        transport_esp.attach_filter(plain)
        transport_esp.release(plain)
        transport_esp.release(plain)
