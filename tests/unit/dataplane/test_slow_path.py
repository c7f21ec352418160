"""The slow path with a queue and a kernel of its own making, in virtual time."""

import struct
from ipaddress import IPv4Address

import pytest

from gateway.dataplane.interface import EndpointRejected, EndpointSeen
from gateway.dataplane.kernel import slow_path
from gateway.dataplane.kernel.nfqueue import ACCEPT, DROP, QueuedPacket
from gateway.dataplane.kernel.slow_path import SlowPath, WatchedSa
from gateway.dataplane.packet import esp_budget
from gateway.dataplane.packet.esp import EspCipher
from gateway.domain.child_sa import Encryption, EspKeys, EspSuite, Integrity
from gateway.domain.endpoint import Endpoint

SUITE = EspSuite(Encryption.AES_GCM_16, 128, Integrity.NONE, esn=False)
CIPHER = EspCipher(SUITE, EspKeys(bytes(20)))
HOME, AWAY, THIRD = map(IPv4Address, ("192.0.2.10", "192.0.2.11", "192.0.2.12"))
SPI = 0x1001


class FakeQueue:
    overruns = 0

    def __init__(self) -> None:
        self.waiting: list[QueuedPacket] = []
        self.verdicts: dict[int, int] = {}

    def read(self, limit: int) -> list[QueuedPacket]:
        now, self.waiting = self.waiting[:limit], self.waiting[limit:]
        return now

    def decide(self, verdicts: list[tuple[int, int]]) -> None:
        self.verdicts.update(verdicts)


class Bench:
    def __init__(self) -> None:
        self.queue = FakeQueue()
        self.kernel_highest = 0
        self.reads = 0
        self.now = 100.0
        self.number = 0
        self.path = SlowPath(self.queue, self.highest, lambda: self.now)  # type: ignore[arg-type]
        self.sa = WatchedSa(SPI, CIPHER, esn=False, remote=Endpoint(HOME, 4500))
        self.path.watch(self.sa)

    def highest(self, spi_in: int) -> int:
        assert spi_in == SPI
        self.reads += 1
        return self.kernel_highest

    def send(
        self, sequence: int, source: IPv4Address, *, forged: bool = False, spi: int = SPI
    ) -> int:
        esp = CIPHER.seal(SPI, sequence, b"inner", 4, sequence.to_bytes(8, "big"))
        if forged:
            esp = esp[:-1] + bytes([esp[-1] ^ 1])
        header = struct.pack(
            "!BBHHHBBH4s4s", 0x45, 0, 20 + len(esp), 0, 0, 64, 50, 0, source.packed, bytes(4)
        )
        return self.put(header + esp)

    def put(self, octets: bytes) -> int:
        self.number += 1
        self.queue.waiting.append(QueuedPacket(self.number, octets))
        return self.number

    def poll(self) -> list[EndpointSeen | EndpointRejected]:
        return self.path.poll()


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_proven_packet_waits_until_the_sa_has_moved(bench: Bench) -> None:
    first = bench.send(5, AWAY)
    second = bench.send(6, AWAY)
    events = bench.poll()
    assert events == [EndpointSeen(SPI, Endpoint(AWAY, 4500), "esp icv, sequence 5")]
    assert bench.queue.verdicts == {}
    bench.path.moved(SPI, Endpoint(AWAY, 4500))
    bench.path.release()
    assert bench.queue.verdicts == {first: ACCEPT, second: ACCEPT}
    third = bench.send(7, AWAY)
    assert bench.poll() == []
    assert bench.queue.verdicts[third] == ACCEPT


def test_h45_a_replay_of_the_proof_in_the_same_turn_moves_nothing(bench: Bench) -> None:
    bench.send(5, AWAY)
    bench.send(5, THIRD)
    events = bench.poll()
    assert [type(event) for event in events] == [EndpointSeen, EndpointRejected]


def test_the_kernel_is_asked_again_before_a_move(bench: Bench) -> None:
    bench.send(5, AWAY)
    bench.poll()
    bench.kernel_highest = 50
    number = bench.send(20, THIRD)
    (event,) = bench.poll()
    assert event == EndpointRejected(SPI, Endpoint(THIRD, 4500), "sequence 20 is not above 50")
    assert bench.queue.verdicts[number] == ACCEPT, "the kernel's own window decides"


def test_a_forged_packet_is_dropped_and_counted(bench: Bench) -> None:
    number = bench.send(5, AWAY, forged=True)
    (event,) = bench.poll()
    assert event == EndpointRejected(SPI, Endpoint(AWAY, 4500), "integrity check failed")
    assert bench.queue.verdicts[number] == DROP
    assert bench.path.counters["forged"] == 1


def test_old_packets_cost_neither_cryptography_nor_a_system_call(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.kernel_highest = 1000
    bench.send(5, AWAY)
    bench.poll()
    monkeypatch.setattr(slow_path.esp_evidence, "examine", None)
    for sequence in range(6, 60):
        bench.send(sequence, AWAY)
    bench.poll()
    assert bench.reads == 1
    assert bench.path.counters["late"] == 55


def test_a_flood_from_one_source_leaves_room_for_the_peer(bench: Bench) -> None:
    for _ in range(20):
        for _ in range(64):
            bench.send(99, THIRD, forged=True)
        bench.poll()
        bench.now += 0.01
    counters = bench.path.counters
    allowed = esp_budget.SUSPECT_BURST + 0.2 * esp_budget.SUSPECT_CHECKS_PER_S
    assert counters["forged"] <= 1 + allowed
    bench.send(100, AWAY)
    assert [type(event) for event in bench.poll()] == [EndpointSeen]


def test_a_flood_from_many_sources_is_bounded_too(bench: Bench) -> None:
    for block in range(20):
        for host in range(64):
            bench.send(99, IPv4Address(f"198.51.{block}.{host + 1}"), forged=True)
        bench.poll()
    assert bench.path.counters["forged"] <= esp_budget.CHECKS_BURST
    assert len(bench.sa.budget.suspects) <= esp_budget.MAX_SUSPECTS
    bench.now += 1
    bench.send(100, AWAY)
    assert [type(event) for event in bench.poll()] == [EndpointSeen]


def test_rejections_are_reported_at_a_bounded_rate(bench: Bench) -> None:
    bench.kernel_highest = 10
    events = []
    for _ in range(64):
        bench.send(3, THIRD)
    events += bench.poll()
    assert len(events) == esp_budget.REJECTIONS_PER_S


@pytest.mark.parametrize("octets", [b"", b"\x45", bytes(40), b"\x60" + bytes(60)])
def test_h01_h02_what_is_no_packet_is_dropped(bench: Bench, octets: bytes) -> None:
    number = bench.put(octets)
    assert bench.poll() == []
    assert bench.queue.verdicts == {number: DROP}


def test_an_sa_that_is_gone_has_its_packets_dropped(bench: Bench) -> None:
    bench.path.unwatch(SPI)
    number = bench.send(5, AWAY)
    assert bench.poll() == []
    assert bench.queue.verdicts == {number: DROP}
    bench.path.moved(SPI, Endpoint(AWAY, 1))


def test_one_turn_is_bounded(bench: Bench) -> None:
    for sequence in range(1, 200):
        bench.send(sequence, HOME)
    bench.poll()
    assert len(bench.queue.verdicts) == slow_path.PACKETS_PER_TURN
