"""What idle connections and many leases cost, and that nothing of it stays."""

import gc
import random
import sys
import tracemalloc
from dataclasses import replace
from ipaddress import IPv4Address

from nar_server_world import LEASES, LOCAL, POLICY, RULE, YB

from gateway.domain.endpoint import Endpoint
from gateway.nar.codec.negotiation import MethodOffer
from gateway.nar.codec.numbers import SocksCommand
from gateway.nar.codec.request import SocksRequest
from gateway.nar.outputs import LeaseOpened, Send
from gateway.nar.server.engine import NarServer

CONNECTIONS = 2_000
OCTETS_PER_IDLE_CONNECTION = 1400
OCTETS_PER_MAPPING = 1024
HELLO = MethodOffer(b"\x00").to_octets()
NAR_MODE = SocksRequest(SocksCommand.NAR_MODE, YB, 0, LEASES).to_octets()
CONNECT = SocksRequest(SocksCommand.CONNECT, YB, 443).to_octets()
XA = IPv4Address("10.128.0.0")
WIDE = replace(POLICY, ports=(range(1024, 65_536),), rules=(replace(RULE, max_leases=100_000),))


def server() -> NarServer:
    return NarServer(
        WIDE,
        random=random.Random(7).randbytes,
        wall_clock=lambda: 0.0,
        occupied=lambda *_: False,
    )


def used() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def arrive(engine: NarServer, number: int) -> int:
    connection = engine.connected(Endpoint(XA + number, 40_000), LOCAL, 0.0, tls=False)
    assert connection is not None
    engine.received(connection, HELLO, 0.0)
    engine.received(connection, NAR_MODE, 0.0)
    engine.outputs()
    return connection


def test_idle_connections_and_leases_are_small_and_leave_nothing() -> None:
    engine = server()
    arrive(engine, 0)
    tracemalloc.start()
    try:
        before = used()
        connections = [arrive(engine, number) for number in range(1, CONNECTIONS + 1)]
        idle = used()
        assert idle - before < OCTETS_PER_IDLE_CONNECTION * CONNECTIONS
        for connection in connections:
            for _ in range(3):
                engine.received(connection, CONNECT, 0.0)
            assert sum(isinstance(one, LeaseOpened) for one in engine.outputs()) == 3
        leased = used()
        assert leased - idle < OCTETS_PER_MAPPING * 3 * CONNECTIONS
        for connection in connections:
            engine.disconnected(connection, 1.0)
        engine.handle_timer(1.0 + POLICY.grace_s)
        engine.outputs()
        assert engine.mappings() == []
        assert used() - before < 2_000_000, "ports rest for a while, tables keep their size"
    finally:
        tracemalloc.stop()


def test_a_flood_of_strangers_leaves_nothing() -> None:
    engine = server()
    tracemalloc.start()
    try:
        before = used()
        for number in range(4_000):
            endpoint = Endpoint(XA + number, 40_000)
            connection = engine.connected(endpoint, LOCAL, float(number), tls=False)
            assert connection is not None
            engine.received(connection, HELLO + NAR_MODE + CONNECT + b"\x04", float(number))
            engine.handle_timer(float(number))
            engine.outputs()
        engine.handle_timer(10_000.0)
        engine.outputs()
        assert engine.clients() == []
        assert used() - before < 500_000
    finally:
        tracemalloc.stop()


def test_leases_do_not_become_slower_as_they_become_many() -> None:
    """Counted in calls, not in time: every lease costs the same."""
    engine = server()
    connection = arrive(engine, 0)

    def calls(of: int) -> int:
        count = 0

        def note(*_: object) -> None:
            nonlocal count
            count += 1

        sys.setprofile(note)
        try:
            for _ in range(of):
                engine.received(connection, CONNECT, 0.0)
                engine.outputs()
        finally:
            sys.setprofile(None)
        return count

    first = calls(100)
    for _ in range(20_000):
        engine.received(connection, CONNECT, 0.0)
    sent = [one for one in engine.outputs() if isinstance(one, Send)]
    assert len(sent) == 20_000
    assert calls(100) < 1.3 * first
