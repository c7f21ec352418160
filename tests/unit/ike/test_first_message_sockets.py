"""The first look at datagrams, through real sockets on loopback."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from ipaddress import ip_address

import pytest

from gateway.ike.transport import (
    DATAGRAMS_PER_WAKE_UP,
    LEAST_SHARE,
    PATIENCE,
    Batch,
    IkeSockets,
    Received,
)
from gateway.ike.transport_esp import EspInUdp

Sorted = tuple[list[Received], list[tuple[bytes, Received]]]


class Desk:
    """Sorts: what begins with ``?`` is answered, ``!`` goes first, ``-`` is dropped."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.seen: list[Received] = []
        self.shares: list[float] = []

    def sort(self, received: object, share: float) -> Sorted:
        assert isinstance(received, list)
        self.seen += received
        self.shares.append(share)
        kept = [one for one in received if one[0][:1] not in (b"?", b"-")]
        kept.sort(key=lambda one: one[0][:1] != b"!")
        asked = [one for one in received if one[0][:1] == b"?"]
        return kept, [(b"re:" + one[0], one) for one in asked]

    def receive(self, batch: Batch) -> None:
        self.batches.append(batch)

    @property
    def messages(self) -> list[bytes]:
        return [message for batch in self.batches for message, _ in batch]


@contextlib.asynccontextmanager
async def listening(address: str) -> AsyncIterator[tuple[IkeSockets, Desk]]:
    sockets = IkeSockets([ip_address(address)], ike_port=0, nat_port=0, esp=EspInUdp.NONE)
    desk = Desk()
    try:
        sockets.start(asyncio.get_running_loop(), desk.receive, desk.sort)
        yield sockets, desk
    finally:
        sockets.close()


@contextlib.contextmanager
def peer(host: str) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.bind((host, 0))
        sock.settimeout(10)
        yield sock


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(1_000_000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("in vain")


@pytest.mark.parametrize(
    ("listen", "asked"),
    [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.53"), ("::1", "::1"), ("::", "::1")],
)
@pytest.mark.parametrize("nat", [False, True])
def test_answers_go_back_where_the_question_came_from(listen: str, asked: str, nat: bool) -> None:
    async def scenario() -> None:
        async with listening(listen) as (sockets, desk):
            port = sockets.local_endpoints[nat].port
            marker = bytes(4) if nat else b""
            with peer("::1" if ":" in asked else "127.0.0.1") as sock:
                sock.sendto(marker + b"?who", (asked, port))
                await until(lambda: len(desk.seen) == 1)
                answer, sender = sock.recvfrom(100)
                assert answer == marker + b"re:?who"
                assert sender[:2] == (asked, port)
                near = sock.getsockname()
                assert desk.seen[0][1] == (ip_address(near[0]).packed, near[1])
            assert not desk.batches
            assert sockets.counters["datagrams_in"] == 1
            assert sockets.counters["datagrams_out"] == 1

    asyncio.run(scenario())


def test_what_goes_on_comes_in_the_order_of_the_sorting() -> None:
    async def scenario() -> None:
        async with listening("127.0.0.1") as (sockets, desk):
            with peer("127.0.0.1") as sock:
                for text in (b"1", b"-", b"2", b"!", b"?", b"3"):
                    sock.sendto(text, ("127.0.0.1", sockets.local_endpoints[0].port))
                await until(lambda: len(desk.messages) == 4)
            assert desk.messages == [b"!", b"1", b"2", b"3"]

    asyncio.run(scenario())


def test_a_long_flood_lowers_the_share_of_strangers_and_its_end_raises_it_again() -> None:
    async def scenario() -> None:
        async with listening("127.0.0.1") as (sockets, desk):
            port = sockets.local_endpoints[0].port
            with peer("127.0.0.1") as sock:
                for _ in range(PATIENCE + 40):
                    for _ in range(8 * DATAGRAMS_PER_WAKE_UP):
                        sock.sendto(b"-flood", ("127.0.0.1", port))
                    await asyncio.sleep(0)
                assert LEAST_SHARE <= min(desk.shares) < 1.0
                for _ in range(30):
                    count = len(desk.messages)
                    sock.sendto(b"calm", ("127.0.0.1", port))
                    await until(lambda n=count: len(desk.messages) > n)  # type: ignore[misc]
                await asyncio.sleep(0)
            assert desk.shares[-1] == pytest.approx(1.0)

    asyncio.run(scenario())


def test_a_wake_up_ends_even_in_a_flood() -> None:
    async def scenario() -> None:
        async with listening("127.0.0.1") as (sockets, desk):
            with peer("127.0.0.1") as sock:
                for _ in range(1000):
                    sock.sendto(b"go on", ("127.0.0.1", sockets.local_endpoints[0].port))
                await until(lambda: len(desk.messages) == 1000)
            assert max(map(len, desk.batches)) <= 2 * DATAGRAMS_PER_WAKE_UP

    asyncio.run(scenario())
