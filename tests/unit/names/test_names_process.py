"""The process of names as the core starts it: it answers by UDP and TCP, and comes back."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Self

import dns.asyncquery
import dns.message
import dns.rcode
import pytest
from names_bed import ADDRESS, free_port, named

from gateway.appliance.remote_access.names_process import NamesProcess
from gateway.lab import bind
from gateway.names.listening import listening_sockets
from gateway.names.settings import ForwarderSettings, Route

pytestmark = pytest.mark.skipif(not bind.NAMED.exists(), reason="needs bind9")

TEXT = " ".join(f'"{"x" * 200}"' for _ in range(10))
RECORDS = f"""www IN A 198.51.100.7
long IN TXT {TEXT}
svc IN SVCB 1 www alpn=h2
place IN LOC 52 22 23.000 N 4 53 32.000 E -2.00m 0.00m 10000m 10m
@ IN MX 10 www
"""
ZONES = (bind.Zone("corp.test", RECORDS),)


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with named(tmp_path_factory.mktemp("named"), ZONES) as port:
        yield port


@dataclass
class Core:
    """What the core does with the process."""

    upstream: int
    port: int = field(default_factory=free_port)
    hellos: asyncio.Queue[dict[str, object]] = field(default_factory=asyncio.Queue)
    listening: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    def start(self) -> None:
        self.sockets = listening_sockets((ip_address(ADDRESS),), self.port)
        self.process = NamesProcess(None, self._heard, self.ended.set)

    def _heard(self, message: dict[str, object]) -> None:
        if message["what"] == "hello":
            self.hellos.put_nowait(message)
            route = Route(("corp.test",), (ip_address(ADDRESS),), self.upstream)
            self.process.tell({"op": "forwarder", **ForwarderSettings((), (route,), 10).to_json()})
            self.process.tell({"op": "listen"}, [one.fileno() for one in self.sockets])
        elif message["what"] == "listening":
            self.listening.set()

    async def ask(self, name: str, rdtype: str = "A", *, tcp: bool = False) -> dns.message.Message:
        query = dns.message.make_query(name, rdtype, use_edns=0)
        if tcp:
            return await dns.asyncquery.tcp(query, ADDRESS, 10, self.port)
        return await dns.asyncquery.udp(query, ADDRESS, 10, self.port)

    async def __aenter__(self) -> Self:
        self.start()
        await asyncio.wait_for(self.listening.wait(), 30)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.process.stop()
        for one in self.sockets:
            one.close()


def status_of(pid: int) -> str:
    """What the kernel says of a process; empty when there is none."""
    file = Path(f"/proc/{pid}/status")
    return file.read_text() if file.exists() else ""


def test_it_answers_by_udp_and_tcp(upstream: int) -> None:
    async def run() -> None:
        async with Core(upstream) as core:
            for tcp in (False, True):
                reply = await core.ask("www.corp.test", tcp=tcp)
                assert [str(one) for one in reply.answer[0]] == ["198.51.100.7"]
            long = await core.ask("long.corp.test", "TXT", tcp=True)
            assert len(long.answer[0][0].to_text()) > 2000
            for name, rdtype in (("svc", "SVCB"), ("place", "LOC"), ("corp.test", "MX")):
                query = name if "." in name else f"{name}.corp.test"
                assert (await core.ask(query, rdtype)).answer, rdtype
            assert (await core.ask("elsewhere.test")).rcode() == dns.rcode.REFUSED
            facts = await core.process.facts()
            assert facts is not None
            assert facts["cached"] == 5
            assert facts["counters"]["from_cache"] == 1  # type: ignore[index]

    asyncio.run(run())


def test_it_has_no_privileges_and_ends_with_the_core(upstream: int) -> None:
    async def run() -> None:
        core = Core(upstream)
        async with core:
            worker = int(str((await core.hellos.get())["pid"]))
            for pid in (worker, core.process.pid):
                status = status_of(pid)
                assert "CapEff:\t0000000000000000" in status
                assert "CapBnd:\t0000000000000000" in status or os.geteuid()
                assert "NoNewPrivs:\t1" in status
        assert not status_of(worker)
        assert not core.ended.is_set()

    asyncio.run(run())


def test_another_worker_takes_over(upstream: int) -> None:
    async def run() -> None:
        async with Core(upstream) as core:
            core.listening.clear()
            os.kill(int(str((await core.hellos.get())["pid"])), signal.SIGKILL)
            await asyncio.wait_for(core.listening.wait(), 30)
            assert (await core.ask("www.corp.test")).answer

    asyncio.run(run())


def test_hostile_connections_do_not_keep_others_out(upstream: int) -> None:
    async def run() -> None:
        async with Core(upstream) as core:
            idle = []
            for octets in (b"", b"\0", b"\0\0", b"\xff\xff", b"\0\x0cshort", b"\0\x0c" + bytes(12)):
                reader, writer = await asyncio.open_connection(ADDRESS, core.port)
                writer.write(octets)
                idle.append((reader, writer))
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
                for octets in (b"", b"x", bytes(12), os.urandom(4097), os.urandom(512)):
                    udp.sendto(octets, (ADDRESS, core.port))
            assert (await core.ask("www.corp.test", tcp=True)).answer
            assert (await core.ask("www.corp.test")).answer
            for _, writer in idle:
                sock = writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.close()
            assert (await core.ask("www.corp.test", tcp=True)).answer

    asyncio.run(run())


def test_connections_of_one_client_are_bounded(upstream: int) -> None:
    async def run() -> None:
        async with Core(upstream) as core:
            ends = [await asyncio.open_connection(ADDRESS, core.port) for _ in range(12)]
            async with asyncio.timeout(20):
                closed = [await reader.read(1) for reader, _ in ends[10:]]
            assert closed == [b"", b""]
            for _, writer in ends:
                writer.close()

    asyncio.run(run())


def test_an_address_that_is_taken_is_named() -> None:
    port = free_port()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind((ADDRESS, port))
        with pytest.raises(OSError, match=f"in use: {ADDRESS} port {port}"):
            listening_sockets((ip_address(ADDRESS),), port)
