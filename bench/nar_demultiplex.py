"""NAR's decisions about packets in pure Python: how fast, how that grows, how much memory.

No kernel, no queue: that is `nar_forwarding`. Two thirds of the packets arrive from outside for
clients (TCP, UDP, ESP), one third is what clients send. The portable way also puts them into
tunnels and takes them out; the kernel's queue only has them judged.
"""

import gc
import struct
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address

from bench.measure import Bar, Result, alternate
from gateway.dataplane.nar import NarServerSettings, NarSettings
from gateway.dataplane.packet.ipv4 import build
from gateway.dataplane.packet.nar_path import NarPath
from gateway.dataplane.packet.nar_steering import NarSteering
from gateway.domain.nar import Delivery, NarMapping, NarProtocol, NarTuple

FEW = 3
"""One of each kind."""
MAPPINGS = 10_000
PACKETS = 6_000
"""Of one round."""
PAIRS = 9
GROWTH_BAR = 1.5
"""The steps are the same; what is left is that 10,000 keys are not in the processor's cache."""
MEMORY_BAR_KB = 1.5
"""Of the 2 kB that a mapping may cost in all places together."""
FROM_CLIENT = 0x4759_0001
TUNNELS = IPv4Address("240.0.0.2")

SERVER_ADDRESS = IPv4Address("10.0.0.1")
LENT = IPv4Address("192.0.2.1")
FAR = IPv4Address("203.0.113.9")
FIRST_CLIENT = int(IPv4Address("10.1.0.0"))
SETTINGS = NarSettings(
    servers=(NarServerSettings("bench", SERVER_ADDRESS, (LENT,), ("inside",), ("outside",)),)
)


class _Numbers:
    """As the kernel side has them, without one."""

    def client_mark(
        self, _server_address: IPv4Address, client: IPv4Address, _delivery: Delivery
    ) -> int:
        return 0x4759_8000 | int(client) & 0x3FFF

    def alias(self, _mark: int, _address: IPv4Address) -> IPv4Address:
        return IPv4Address("240.1.0.1")

    def out_mark(self, _address: IPv4Address, *, with_port: bool) -> int:
        return 0x4759_2000 + 0x1000 * with_port


def mapping(number: int) -> NarMapping:
    """One of TCP, UDP and ESP in turn, each of another client."""
    client = IPv4Address(FIRST_CLIENT + number)
    port = 20_000 + number
    key = (
        NarTuple(NarProtocol.TCP, LENT, port, FAR, 443),
        NarTuple(NarProtocol.UDP, LENT, port),
        NarTuple(NarProtocol.ESP, LENT, 0x4000_0000 + number),
    )[number % 3]
    return NarMapping("bench", key, client, Delivery.IP_IP)


def incoming(one: NarMapping) -> bytes:
    """From outside, for the mapping."""
    return build(FAR, LENT, one.tuple.protocol, _payload(one, outward=False))


def inner(one: NarMapping) -> bytes:
    """What its client sends."""
    return build(LENT, FAR, one.tuple.protocol, _payload(one, outward=True))


def _payload(one: NarMapping, *, outward: bool) -> bytes:
    key = one.tuple
    if key.protocol is NarProtocol.ESP:
        return struct.pack("!II", 0x99 if outward else key.value, 1) + bytes(72)
    ports = (key.value, 443) if outward else (443, key.value)
    return struct.pack("!HH", *ports) + struct.pack("!HH", 80, 0) + bytes(72)


class Subject:
    """So many mappings, and rounds of packets for as many of them as there is room for."""

    def __init__(self, mappings: int) -> None:
        there = [mapping(number) for number in range(mappings)]
        self._steering = NarSteering(SETTINGS, _Numbers(), FROM_CLIENT, TUNNELS)
        self._path = NarPath(SETTINGS)
        for one in there:
            self._steering.set_mapping(one)
            self._path.set_mapping(one)
        # No multiple of 3: all kinds get as many packets of each direction.
        step = mappings // PACKETS * 3 + 1
        chosen = [there[number * step % mappings] for number in range(PACKETS)]
        self._judged: list[tuple[bytes, int, str]] = []
        self._carried: list[tuple[bytes, str]] = []
        for number, one in enumerate(chosen):
            if number // 3 % 3 < 2:
                octets = incoming(one)
                self._judged.append((octets, 0, "outside"))
                self._carried.append((octets, "outside"))
            else:
                octets = inner(one)
                mark = _Numbers().client_mark(SERVER_ADDRESS, one.client, one.delivery)
                self._judged.append((octets, mark, "nar-in-ipip"))
                self._carried.append((build(one.client, SERVER_ADDRESS, 4, octets), "inside"))

    def judge(self) -> float:
        """Packets per second of processor time of what the kernel's queue asks."""
        arrived = self._steering.arrived
        before = self._steering.counters.copy()
        started = time.process_time()
        for octets, mark, interface in self._judged:
            arrived(octets, mark, interface)
        took = time.process_time() - started
        _check(self._steering.counters - before)
        return PACKETS / took

    def carry(self) -> float:
        """Packets per second of processor time, the whole way, tunnels included."""
        arrived = self._path.arrived
        before = self._path.counters.copy()
        started = time.process_time()
        for octets, interface in self._carried:
            arrived(octets, interface)
        took = time.process_time() - started
        _check(self._path.counters - before)
        if len(self._path.sends) != PACKETS:
            raise RuntimeError(f"{len(self._path.sends)} packets sent of {PACKETS}")
        self._path.sends.clear()
        return PACKETS / took


def _check(counted: Counter[str]) -> None:
    if counted.keys() - {"delivered", "sent"} or counted.total() != PACKETS:
        raise RuntimeError(f"packets went other ways: {dict(counted)}")


def _memory_kb() -> float:
    """Of one mapping in the tables, with the mapping itself and its own client."""
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        steering = NarSteering(SETTINGS, _Numbers(), FROM_CLIENT, TUNNELS)
        for number in range(MAPPINGS):
            steering.set_mapping(mapping(number))
        gc.collect()
        return (tracemalloc.get_traced_memory()[0] - before) / MAPPINGS / 1000
    finally:
        tracemalloc.stop()


def _rate(
    name: str,
    few: Callable[[], float],
    many: Callable[[], float],
    say: Callable[[str], None],
) -> list[Result]:
    few(), many()
    pairs = alternate(few, many, PAIRS, say)
    return [
        Result(
            f"nar_demultiplex.{name}",
            pairs.median_theirs,
            "packets/s",
            None,
            {f"with {FEW} mappings": pairs.median_ours, "mappings": MAPPINGS},
            pairs.scatter,
        ),
        Result(
            f"nar_demultiplex.{name}_growth",
            pairs.ratio,
            f"of {FEW}",
            Bar(GROWTH_BAR, at_least=False),
        ),
    ]


def run(say: Callable[[str], None]) -> Sequence[Result]:
    """Judging, carrying, and the memory of the tables."""
    memory = _memory_kb()
    few, many = Subject(FEW), Subject(MAPPINGS)
    return [
        *_rate("judged", few.judge, many.judge, say),
        *_rate("carried", few.carry, many.carry, say),
        Result(
            "nar_demultiplex.memory",
            memory,
            "kB/mapping",
            Bar(MEMORY_BAR_KB, at_least=False),
            {"mappings": MAPPINGS},
        ),
    ]
