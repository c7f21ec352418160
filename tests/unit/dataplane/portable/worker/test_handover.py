"""Packets from one process of the forwarder to another."""

from collections.abc import Iterator

import pytest

from gateway.dataplane.portable.worker.handover import Handover


@pytest.fixture
def handover() -> Iterator[Handover]:
    made = Handover(3)
    yield made
    made.close()


def test_each_owner_gets_its_packets_in_order_with_their_marks(handover: Handover) -> None:
    packets = [(number % 2 + 1, b"%d" % number, number) for number in range(100)]
    handover.send(packets)
    for owner in (1, 2):
        wanted = [(packet, mark) for to, packet, mark in packets if to == owner]
        assert handover.receive(owner) == wanted
        assert handover.receive(owner) == []
    assert handover.lost == 0


def test_many_large_packets_go_in_several_datagrams(handover: Handover) -> None:
    handover.send([(0, bytes(60000), 7)] * 5)
    got = []
    while some := handover.receive(0):
        got += some
    assert got == [(bytes(60000), 7)] * 5


def test_what_nobody_reads_is_lost_and_counted(handover: Handover) -> None:
    for _ in range(2000):
        handover.send([(1, bytes(1400), 0)] * 4)
    assert handover.lost > 0
    handover.send([(9, b"to nobody", 0)])
    assert handover.receive(2) == []


def test_a_single_process_has_nobody_to_hand_over_to() -> None:
    assert Handover(1).fileno(0) == -1
