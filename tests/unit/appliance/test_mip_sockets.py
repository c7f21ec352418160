"""UDP 434 and its neighbours on loopback."""

import asyncio
import socket
from ipaddress import IPv4Address

import pytest

from gateway.appliance.mip_sockets import Datagram, MipSocketError, MipSockets
from gateway.domain.endpoint import Endpoint, Path


def test_a_datagram_comes_with_the_address_it_was_sent_to_and_its_answer_leaves_from_there() -> (
    None
):
    async def scenario() -> None:
        sockets = MipSockets(port=0)
        got: asyncio.Future[list[Datagram]] = asyncio.get_running_loop().create_future()
        sockets.start(asyncio.get_running_loop(), got.set_result)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as node:
            node.bind(("127.0.0.9", 0))
            node.setblocking(False)
            node.sendto(b"request", ("127.0.0.7", sockets.port))
            async with asyncio.timeout(20):
                [(message, path, index)] = await got
            assert message == b"request"
            assert path.local == Endpoint(IPv4Address("127.0.0.7"), sockets.port)
            assert path.remote == Endpoint(IPv4Address("127.0.0.9"), node.getsockname()[1])
            assert socket.if_indextoname(index) == "lo"
            assert sockets.send(b"reply", path) is None
            async with asyncio.timeout(20):
                loop = asyncio.get_running_loop()
                reply, sender = await loop.sock_recvfrom(node, 100)
            assert (reply, sender) == (b"reply", ("127.0.0.7", sockets.port))
        assert sockets.counters["datagrams_in"] == sockets.counters["datagrams_out"] == 1
        sockets.close()

    asyncio.run(scenario())


def test_a_failed_send_is_told_and_counted() -> None:
    sockets = MipSockets(port=0)
    loopback = Endpoint(IPv4Address("127.0.0.1"), sockets.port)
    nowhere = Path(Endpoint(IPv4Address("203.0.113.77"), sockets.port), loopback)
    assert isinstance(sockets.send(b"x", nowhere), OSError)
    assert isinstance(sockets.send(b"x", Path(loopback, loopback), interface=987_654), OSError)
    assert sockets.counters["send_errors"] == 2
    sockets.close()


def test_a_port_in_use_is_explained() -> None:
    first = MipSockets(port=0, address="127.0.0.1")
    with pytest.raises(MipSocketError, match=f"UDP port {first.port} is in use"):
        MipSockets(port=first.port, address="127.0.0.1")
    first.close()


def test_icmp_errors_are_told_and_do_not_keep_it_busy() -> None:
    async def scenario() -> None:
        sockets = MipSockets(port=0)
        told: asyncio.Future[tuple[IPv4Address, int]] = asyncio.get_running_loop().create_future()
        wakings: list[int] = []
        loop = asyncio.get_running_loop()
        read = sockets._read_errors
        sockets._read_errors = lambda: (wakings.append(1), read())[1]  # type: ignore[method-assign]
        sockets.start(loop, lambda _: None, lambda *said: told.set_result(said))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as closed:
            closed.bind(("127.0.0.5", 0))
            gone = Endpoint(IPv4Address("127.0.0.5"), closed.getsockname()[1])
        here = Endpoint(IPv4Address("127.0.0.1"), sockets.port)
        assert sockets.send(b"request", Path(here, gone)) is None
        async with asyncio.timeout(20):
            assert await told == (gone.address, 3)
        before = len(wakings)
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(wakings) == before
        sockets.close()

    asyncio.run(scenario())
