"""A small SOCKS5 engine, a dataplane, addresses, and a composition that tests can look into."""

import asyncio
import contextlib
import os
import struct
from dataclasses import replace
from ipaddress import IPv4Address, ip_address
from pathlib import Path
from typing import Any, Self

from kept_state import KeptState

from gateway.appliance.nar.composition import Nar
from gateway.appliance.nar.plan import NarPlan, NarServerPlan
from gateway.dataplane.nar import NarRefusal, NarServerSettings, NarSettings
from gateway.domain.endpoint import Endpoint
from gateway.domain.nar import Delivery, NarMapping, NarProtocol, NarTuple
from gateway.nar.codec.numbers import Reply, SocksCommand
from gateway.nar.outputs import (
    CloseConnection,
    LeaseOpened,
    OpenProxy,
    Remember,
    Send,
    SetMapping,
    StartRelay,
)
from gateway.nar.policy import NarServerPolicy

LOOPBACK = ip_address("127.0.0.1")
NB = IPv4Address("192.0.2.1")
CLIENT = IPv4Address("10.0.0.7")


def tcp(port: int, address: IPv4Address = NB) -> NarTuple:
    return NarTuple(NarProtocol.TCP, address, port)


def mapping(port: int, client: IPv4Address = CLIENT, name: str = "soho") -> NarMapping:
    return NarMapping(name, tcp(port), client, Delivery.IP_IP)


class FakeListing:
    """Nobody has anything."""

    def sessions(self, client: Any, user: Any) -> Any:
        return []


class FakeNarEngine:
    """Method 0, then one plain command; what tests queue in :attr:`waiting` comes out as well.

    A first octet other than 5 is echoed, so that connections can be told apart.
    """

    def __init__(self, policy: Any, occupied: Any) -> None:
        self.policy, self.occupied = policy, occupied
        self.waiting = []
        self.counters = {"nar_session_opened": 3}
        self.calls = []
        self.journal = []
        self.streams = {}
        self.next_number = 0
        self.greeted = set()
        self.asked = {}
        self.timer = None
        self.limit = 1 << 30
        self.relay_rule = lambda _target, _port: True

    def respect(self, visiting: Any) -> None:
        self.visiting = visiting

    def connected(self, client: Any, local: Any, now: float, *, tls: bool) -> Any:
        if len(self.streams) >= self.limit:
            return None
        self.next_number += 1
        self.streams[self.next_number] = b""
        self.calls.append(("connected", self.next_number, client, tls))
        return self.next_number

    def received(self, connection: int, data: bytes, now: float) -> None:
        self.journal.append((connection, data))
        octets = self.streams[connection] = self.streams[connection] + data
        if octets[:1] != b"\5":
            self.waiting.append(Send(connection, data))
            self.streams[connection] = b""
            return
        if connection not in self.greeted:
            if len(octets) < 2 or len(octets) < 2 + octets[1]:
                return
            self.greeted.add(connection)
            octets = self.streams[connection] = octets[2 + octets[1] :]
            self.waiting.append(Send(connection, b"\5\0"))
        if len(octets) < 10:
            return
        _, command, _, _ = octets[:4]
        target, port = ip_address(octets[4:8]), struct.unpack("!H", octets[8:10])[0]
        self.streams[connection] = octets[10:]
        targets = () if command == SocksCommand.UDP_ASSOCIATE else (target,)
        self.asked[connection] = [command, 0]
        self.waiting.append(OpenProxy(connection, SocksCommand(command), targets, port, "all"))

    def disconnected(self, connection: int, now: float) -> None:
        assert connection in self.streams
        del self.streams[connection]
        self.calls.append(("disconnected", connection))

    def proxy_opened(self, connection: int, bound: Endpoint, now: float) -> None:
        if connection not in self.streams:
            return
        asked = self.asked[connection]
        asked[1] += 1
        name = bound.address.packed + struct.pack("!H", bound.port)
        self.waiting.append(Send(connection, b"\5\0\0\1" + name))
        if asked[0] == SocksCommand.CONNECT or asked == [SocksCommand.BIND, 2]:
            self.waiting.append(StartRelay(connection, self.streams[connection]))

    def proxy_failed(self, connection: int, reply: Reply, why: str, now: float) -> None:
        self.calls.append(("proxy_failed", reply, why))
        if self.streams.pop(connection, None) is not None:
            self.waiting.append(Send(connection, bytes((5, reply, 0, 1)) + bytes(6)))
            self.waiting.append(CloseConnection(connection))

    def close(self, connection: int) -> None:
        del self.streams[connection]
        self.waiting.append(CloseConnection(connection))

    def may_relay_to(self, rule: str, target: Any, port: int) -> bool:
        return self.relay_rule(target, port)

    def lease(self, port: int, user: str = "anna") -> NarTuple:
        made = mapping(port, name=self.policy.name)
        opened = LeaseOpened(self.policy.name, user, Endpoint(CLIENT, 9), made, 1000.0)
        self.waiting += [SetMapping(made), Remember(f"s{port}", b"%d" % port), opened]
        return made.tuple

    def user_answered(self, ticket: int, answer: Any, now: float) -> None:
        self.calls.append(("user_answered", ticket, answer))

    def resolved(self, ticket: int, addresses: Any, now: float) -> None:
        self.calls.append(("resolved", ticket, addresses))

    def address_changed(self, old: Any, new: Any, now: float) -> None:
        self.calls.append(("address_changed", old, new))

    def restore(self, records: Any, now: float) -> None:
        self.calls.append(("restore", sorted(records)))
        for record in sorted(records):
            self.waiting.append(SetMapping(mapping(int(record), name=self.policy.name)))

    def mapping_refused(self, key: Any, reason: str, now: float) -> None:
        self.calls.append(("mapping_refused", key, reason))

    def reconfigure(self, policy: Any, now: float) -> None:
        self.policy = policy
        self.calls.append(("reconfigure", policy))

    def end_lease(self, key: Any, now: float, reason: str) -> bool:
        self.calls.append(("end_lease", key))
        return True

    def end_client(self, client: Any, now: float, reason: str) -> int:
        self.calls.append(("end_client", client))
        return 1

    def stopping(self, now: float) -> None:
        self.calls.append(("stopping",))

    @property
    def listing(self) -> Any:
        return FakeListing()

    def clients(self) -> Any:
        return [{"client": str(CLIENT)}]

    def mappings(self) -> Any:
        return []

    def handle_timer(self, now: float) -> None:
        self.timer = None
        self.calls.append(("timer",))

    def next_timer(self) -> Any:
        return self.timer

    def outputs(self) -> Any:
        waiting, self.waiting = self.waiting, []
        return waiting

    def called(self, name: str) -> list[Any]:
        return [call for call in self.calls if call[0] == name]


class FakeNarDataplane:
    """Everything in one journal."""

    kind = "fake"

    def __init__(self, settings: NarSettings) -> None:
        self.settings = settings
        self.journal = []
        self.refusals = []
        self.taken = set()

    def set_mapping(self, mapping: Any) -> None:
        self.journal.append(("set", mapping.tuple))

    def remove_mapping(self, key: Any) -> None:
        self.journal.append(("remove", key))

    def set_l2tp(self, server: str, session: Any) -> None:
        self.journal.append(("set_l2tp", server))

    def remove_l2tp(self, client: Any) -> None:
        self.journal.append(("remove_l2tp", client))

    def occupied(self, protocol: Any, address: Any, value: int) -> bool:
        return value in self.taken

    def hold_port(self, protocol: Any, address: Any, port: int) -> bool:
        self.journal.append(("hold", port))
        return port not in self.taken

    def free_port(self, protocol: Any, address: Any, port: int) -> None:
        self.journal.append(("free", port))

    def adopt(self) -> Any:
        self.journal.append(("adopt",))
        return set()

    def reconfigure(self, settings: NarSettings) -> None:
        self.settings = settings
        self.journal.append(("reconfigure", settings.servers))

    def alive(self) -> None:
        self.journal.append(("alive",))

    def commit(self) -> Any:
        self.journal.append(("commit",))
        refusals, self.refusals = self.refusals, []
        return refusals

    def refuse(self, key: NarTuple, reason: str) -> None:
        self.refusals.append(NarRefusal(key, reason))

    def counters(self) -> Any:
        return {}

    def event_fds(self) -> Any:
        return ()

    def read_events(self) -> None:
        pass

    def close(self, *, keep: bool) -> None:
        self.journal.append(("close", keep))


class FakeAddresses:
    """Addresses of interfaces, told by the test; a pipe wakes the loop as netlink would."""

    def __init__(self, main: Any = None) -> None:
        self.main = dict(main or {})
        self.fresh = False
        self._out, self._in = os.pipe()

    def address_of(self, interface: str) -> Any:
        return self.main.get(interface)

    @property
    def local(self) -> Any:
        return frozenset(self.main.values())

    def change(self, **main: Any) -> None:
        self.main = {name: one for name, one in {**self.main, **main}.items() if one is not None}
        self.fresh = True
        os.write(self._in, b"x")

    def fileno(self) -> int:
        return self._out

    def read(self) -> bool:
        fresh, self.fresh = self.fresh, False
        if fresh:
            os.read(self._out, 16)
        return fresh

    def close(self) -> None:
        if self._in >= 0:
            os.close(self._in)
            os.close(self._out)
            self._in = -1


class World:
    """A composition on loopback. Use as an async context."""

    def __init__(self, folder: Path, **changes: Any) -> None:
        self.folder = folder
        self.engines = {}
        self.events = []
        self.dataplane = None
        self.addresses = FakeAddresses()
        self.servers = [
            NarServerPlan(
                NarServerPolicy("soho", IPv4Address("10.0.0.1"), (NB,), max_connections=4000),
                (Endpoint(LOOPBACK, 0),),
            )
        ]
        self.changes = changes
        self.questions = []
        self.spis = set()

    def planner(self, address_of: Any, local: Any) -> NarPlan:
        servers = []
        for one in self.servers:
            found = [address_of(name) for name in one.interfaces]
            lent = (*one.policy.addresses, *(address for address in found if address is not None))
            servers.append(replace(one, policy=replace(one.policy, addresses=lent)))
        settings = NarSettings(
            tuple(
                NarServerSettings(
                    one.policy.name, one.policy.tunnel_address, one.policy.addresses, (), ()
                )
                for one in servers
            )
        )
        return NarPlan(tuple(servers), settings, self.folder, **self.changes)

    def engine(self, policy: Any, occupied: Any) -> Any:
        made = self.engines[policy.name] = FakeNarEngine(policy, occupied)
        return made

    def make_dataplane(self, settings: Any) -> Any:
        self.dataplane = FakeNarDataplane(settings)
        return self.dataplane

    def build(self) -> Nar:
        self.state = KeptState(self.folder, self.events.append)

        class Makers:
            engine = staticmethod(self.engine)
            dataplane = staticmethod(self.make_dataplane)

        return Nar(
            self.planner,
            Makers(),
            ask_user=lambda question, answered: self.questions.append((question, answered)),
            spi_in_use=self.spis.__contains__,
            emit=self.events.append,
            taken=self.state.taken,
            addresses=lambda: self.addresses,
        )

    async def __aenter__(self) -> Self:
        self.nar = self.build()
        self.state.start()
        await self.nar.start()
        for server in self.nar._fleet.running.values():
            server.proxy._own = lambda _address: False
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.nar.stop()
        self.nar.close()
        await self.state.stop()

    @property
    def soho(self) -> FakeNarEngine:
        return self.engines["soho"]

    @property
    def port(self) -> int:
        return self.nar._fleet.listeners["soho"].listening[0].port

    def named(self, name: str) -> list[Any]:
        return [event for event in self.events if event.name == name]


async def until(condition: Any, within_s: float = 20.0) -> None:
    """The loop's other work goes on meanwhile."""
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 - of several loops and threads
            await asyncio.sleep(0.002)


async def connect_by(world: World, command: int, address: Any, port: int) -> Any:
    """Negotiate a plain command; returns reader, writer and the endpoint of the reply."""
    reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
    writer.write(b"\5\1\0")
    assert await reader.readexactly(2) == b"\5\0"
    writer.write(bytes((5, command, 0, 1)) + ip_address(address).packed + struct.pack("!H", port))
    return reader, writer, await reply_of(reader)


async def reply_of(reader: Any) -> Any:
    octets = await reader.readexactly(10)
    return octets[1], str(ip_address(octets[4:8])), struct.unpack("!H", octets[8:])[0]


@contextlib.asynccontextmanager
async def serving(handler: Any) -> Any:
    """A TCP server on loopback; yields its port."""
    server = await asyncio.start_server(handler, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
