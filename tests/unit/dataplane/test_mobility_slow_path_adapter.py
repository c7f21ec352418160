"""The slow path between a queue and a raw socket of the test's own making."""

from dataclasses import replace

import mobility_bed as bed
import pytest
from mobility_bed import COA, HA, HOA, PEER, packet

from gateway.dataplane.kernel.mobility import slow_path
from gateway.dataplane.kernel.mobility.raw_sender import PacketTooLongError
from gateway.dataplane.kernel.mobility.slow_path import SlowPath
from gateway.dataplane.kernel.nfqueue import (
    ACCEPT,
    DROP,
    LOCAL_OUT,
    POSTROUTING,
    PREROUTING,
    Conclusion,
    Waiting,
)
from gateway.dataplane.packet import icmp, marks
from gateway.dataplane.packet.home_links import GroupChange
from gateway.dataplane.packet.outbound import Send


class FakeQueue:
    def __init__(self) -> None:
        self.waiting: list[Waiting] = []
        self.concluded: list[Conclusion] = []
        self.works = True

    def receive(self, limit: int) -> list[Waiting]:
        now, self.waiting = self.waiting[:limit], self.waiting[limit:]
        return now

    def conclude(self, conclusions: list[Conclusion]) -> bool:
        self.concluded += conclusions
        return self.works


class FakeSender:
    def __init__(self, marks: range) -> None:
        self.sent: list[Send] = []
        self.mtu = 65535
        self.error: OSError | None = None

    def send(self, packet: Send) -> None:
        if self.error is not None:
            raise self.error
        if len(packet.octets) > self.mtu:
            raise PacketTooLongError(self.mtu)
        self.sent.append(packet)

    def interface_index(self, name: str) -> int:
        return bed.DEVICES.get(name, 0)


class FakeGroups:
    def __init__(self) -> None:
        self.changes: list[GroupChange] = []

    def apply(self, change: GroupChange) -> bool:
        self.changes.append(change)
        return change.device != 0


class Bench:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(slow_path, "RawSender", FakeSender)
        monkeypatch.setattr(slow_path, "GroupMemberships", FakeGroups)
        self.queue = FakeQueue()
        self.path = SlowPath(self.queue, bed.SETTINGS, clock=lambda: 5.0)  # type: ignore[arg-type]
        self.sender: FakeSender = self.path._sender  # type: ignore[assignment]
        self.number = 0

    def put(self, octets: bytes, hook: int, mark: int = 0, device: int = 0) -> None:
        self.number += 1
        self.queue.waiting.append((self.number, hook, mark, device, octets))

    def poll(self) -> None:
        self.path.poll()


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(monkeypatch)


def test_each_hook_has_its_question(bench: Bench) -> None:
    bench.path.set_binding(bed.binding())
    inner = packet(source=HOA, destination=PEER)
    bench.put(packet(inner, protocol=4, source=COA, destination=HA), PREROUTING)
    bench.put(packet(), POSTROUTING)
    bench.put(packet(), LOCAL_OUT)
    bench.poll()
    assert bench.queue.concluded == [
        (1, ACCEPT, inner, marks.HOME),
        (2, DROP, None, 0),
        (3, ACCEPT, None, 0),
    ]
    assert [one.mark for one in bench.sender.sent] == [marks.SENT + 1]


def test_a_turn_is_bounded(bench: Bench) -> None:
    for _ in range(100):
        bench.put(packet(), POSTROUTING)
    bench.poll()
    assert len(bench.queue.concluded) == slow_path.PACKETS_PER_TURN


def test_a_packet_longer_than_the_link_goes_in_fragments(bench: Bench) -> None:
    bench.path.set_binding(bed.binding())
    bench.sender.mtu = 576
    bench.put(packet(bytes(1000)), POSTROUTING)
    bench.poll()
    assert [len(one.octets) <= 576 for one in bench.sender.sent] == [True, True]


def test_a_switched_packet_longer_than_the_link_is_told_about(bench: Bench) -> None:
    bench.path.set_binding(bed.binding(peer=PEER))
    bench.sender.mtu = 576
    bench.put(packet(bytes(1000), flags=0x4000), POSTROUTING)
    bench.poll()
    (told,) = bench.sender.sent
    assert icmp.parse_error(told.octets).mtu == 576


def test_what_cannot_be_sent_is_dropped_and_counted(bench: Bench) -> None:
    bench.path.set_binding(bed.binding())
    bench.sender.error = OSError(101, "unreachable")
    bench.put(packet(), POSTROUTING)
    bench.poll()
    bench.poll()
    assert bench.path.counters["send_failed"] == 1
    bench.sender.error = None
    bench.poll()
    assert not bench.sender.sent, "nothing is held"


def test_lost_verdicts_are_counted(bench: Bench) -> None:
    bench.queue.works = False
    bench.put(packet(), LOCAL_OUT)
    bench.poll()
    assert bench.path.counters["verdicts_lost"] == 1


def test_reconfiguration_keeps_bindings(bench: Bench) -> None:
    bench.path.set_binding(bed.binding())
    bench.path.reconfigure(replace(bed.SETTINGS, outside_interfaces=("outside0",)))
    inner = packet(source=HOA, destination=PEER)
    bench.put(
        packet(inner, protocol=4, source=COA, destination=HA), PREROUTING, 0, bed.OUTSIDE_LINK
    )
    bench.poll()
    assert bench.queue.concluded == [(1, ACCEPT, inner, marks.HOME_OUTSIDE)]


def test_an_interface_made_anew_is_found(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.path.set_visitor(bed.visitor(encapsulating=True))
    monkeypatch.setitem(bed.DEVICES, "visited0", 77)
    bench.path.set_visitor(bed.visitor(encapsulating=True))
    inner = packet(source=bed.GUEST, destination=PEER)
    outer = packet(inner, protocol=4, source=bed.GUEST, destination=bed.FA)
    bench.put(outer, PREROUTING, 0, 77)
    bench.poll()
    assert bench.queue.concluded == [(1, ACCEPT, inner, marks.REVERSE)]
    bench.path.remove_visitor(bed.FAR_HA, bed.GUEST)
    bench.put(outer, PREROUTING, 0, 77)
    bench.poll()
    assert bench.queue.concluded[-1][1] == DROP
