"""Sessions and their child SAs become accounting records on a real socket."""

import asyncio
import hashlib
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

from gateway.appliance.accounting import AccountingService
from gateway.dataplane.interface import Usage
from gateway.domain.endpoint import Endpoint
from gateway.domain.user_auth import Session
from gateway.radius.settings import RadiusServer, RadiusSettings

LOOPBACK = ip_address("127.0.0.1")
OURS = Endpoint(LOOPBACK, 500)
SECRET = b"s3cret"
SESSION = Session(
    "s1", "office", "anna", "road", OURS, Endpoint(ip_address("203.0.113.7"), 500), None, (b"c",)
)


class Server(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.records = []
        self.silent = False
        self.came = asyncio.Event()

    async def start(self) -> Any:
        loop = asyncio.get_running_loop()
        self.transport, _ = await loop.create_datagram_endpoint(lambda: self, ("127.0.0.1", 0))
        self.endpoint = Endpoint(LOOPBACK, self.transport.get_extra_info("sockname")[1])
        return self

    def datagram_received(self, data: Any, addr: Any) -> None:
        at, found = 20, {}
        while at < len(data):
            value = data[at + 2 : at + data[at + 1]]
            found[data[at]] = int.from_bytes(value) if len(value) == 4 else value
            at += data[at + 1]
        self.records.append(found)
        self.came.set()
        if not self.silent:
            head = bytes((5, data[1], 0, 20))
            digest = hashlib.md5(head + data[4:20] + SECRET).digest()
            self.transport.sendto(head + digest, addr)

    async def statuses(self, count: Any) -> Any:
        async with asyncio.timeout(20):
            while len(self.records) < count:
                self.came.clear()
                await self.came.wait()
        return [record[40] for record in self.records]


class Bench:
    def __init__(self, server: Any, **settings: Any) -> None:
        own = RadiusServer(Endpoint(LOOPBACK, 9), SECRET, server.endpoint)
        self.settings = RadiusSettings("office", (own,), **settings)
        self.usage = {}
        self.events = []
        self.service = AccountingService(
            {"office": self.settings},
            usage=self.usage.get,
            emit=self.events.append,
            local=LOOPBACK,
        )


def test_a_session_with_a_rekeyed_child() -> None:
    async def main() -> None:
        server = await Server().start()
        bench = Bench(server)
        service = bench.service
        service.start()
        service.child_installed(1, "s1")
        service.session_opened(SESSION)
        service.session_opened(SESSION)
        bench.usage[1] = Usage(100, 1, 1000, 10, None)
        service.child_installed(2, "s1")
        service.child_removed(1)
        del bench.usage[1]
        bench.usage[2] = Usage(7, 2, 2**32, 20, None)
        service.child_removed(2)
        service.session_closed("s1", "the peer deleted it")
        service.session_closed("s1", "the peer deleted it")
        assert await server.statuses(3) == [7, 1, 2]
        stop = server.records[2]
        assert stop[44] == b"s1"
        assert stop[25] == b"c"
        assert (stop[42], stop[47]) == (107, 3)
        assert (stop[43], stop[53], stop[48]) == (1000, 1, 30)
        assert stop[49] == 1
        await service.stop()
        assert (await server.statuses(4))[3:] == [8]
        assert bench.events == []
        server.transport.close()

    asyncio.run(main())


def test_interim_records_count_what_is_in_use_now() -> None:
    async def main() -> None:
        server = await Server().start()
        bench = Bench(server)
        bench.usage[1] = Usage(5, 1, 6, 2, None)
        bench.service.session_opened(replace(SESSION, interim_interval_s=0.01))
        bench.service.child_installed(1, "s1")
        assert (await server.statuses(3))[:3] == [1, 3, 3]
        assert server.records[2][42] == 5
        del bench.usage[1]
        bench.service.child_removed(1)
        await bench.service.stop()
        statuses = [record[40] for record in server.records]
        assert statuses.count(2) == 1
        assert statuses[-1] == 8
        assert next(record for record in server.records if record[40] == 2)[49] == 11
        assert next(record for record in server.records if record[40] == 2)[42] == 5
        assert bench.service._seen == {}
        server.transport.close()

    asyncio.run(main())


def test_sessions_of_other_backends_and_unknown_children_leave_nothing() -> None:
    async def main() -> None:
        server = await Server().start()
        bench = Bench(server)
        bench.service.session_opened(replace(SESSION, backend="local"))
        bench.service.child_installed(1, "s1")
        bench.service.child_removed(1)
        bench.service.child_removed(99)
        bench.service.session_closed("s1", "x")
        assert bench.service._session_of == {}
        assert bench.service._spis == {}
        assert bench.service.facts()["sessions"] == 0
        await bench.service.stop()
        assert await server.statuses(1) == [8]
        server.transport.close()

    asyncio.run(main())


def test_a_silent_server_does_not_hold_up_the_end() -> None:
    async def main() -> None:
        server = await Server().start()
        server.silent = True
        bench = Bench(server)
        bench.service.session_opened(SESSION)
        await bench.service.stop(wait_s=0.05)
        assert [event.name for event in bench.events] == ["accounting_lost"]
        server.transport.close()

    asyncio.run(main())


def test_a_reload_with_another_server_brings_it_what_waits() -> None:
    async def main() -> None:
        silent, good = await Server().start(), await Server().start()
        silent.silent = True
        bench = Bench(silent)
        bench.service.start()
        bench.service.session_opened(SESSION)
        await silent.statuses(1)
        own = RadiusServer(Endpoint(LOOPBACK, 9), SECRET, good.endpoint)
        bench.service.reload({"office": replace(bench.settings, servers=(own,))})
        assert await good.statuses(2) == [7, 1]
        bench.service.session_closed("s1", "x")
        assert await good.statuses(3) == [7, 1, 2]
        assert bench.events == []
        await bench.service.stop()
        silent.transport.close()
        good.transport.close()

    asyncio.run(main())


def test_a_reload_without_the_backend_forgets_its_sessions() -> None:
    async def main() -> None:
        server = await Server().start()
        bench = Bench(server)
        bench.service.session_opened(SESSION)
        await server.statuses(1)
        bench.service.reload({})
        assert bench.service.facts() == {"sessions": 0, "radius": {}}
        await bench.service.stop()
        server.transport.close()

    asyncio.run(main())
