"""Who holds leases on a host: records, numbers, and what the dead leave."""

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from gateway.domain.nar import Delivery, L2tpSession, NarProtocol, NarTuple
from gateway.nar_host import plan
from gateway.nar_host.failure import NarHostError
from gateway.nar_host.record import Place, Record, Tunnel
from gateway.nar_host.registry import Registry

NB, XA, NA = IPv4Address("192.0.2.1"), IPv4Address("10.0.0.2"), IPv4Address("10.0.0.1")
L2TP = L2tpSession(XA, 1, 2, 3, 4, b"12345678", b"87654321")
TUNNEL = Tunnel(Delivery.IP_IP, XA, NA, 1480)
RECORD = Record(
    1, 99, "lease esp", "nar.example:1080", Place.HOST, NB,
    Tunnel(Delivery.L2TP, XA, NA, 1438, L2TP),
    (NarTuple(NarProtocol.TCP, NB, 7, XA, 80), NarTuple(NarProtocol.ESP, NB, 0x4000_0001)),
    2, 0x4778, 11,
)  # fmt: skip


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    registry = Registry(tmp_path / "run")
    with registry.locked():
        yield registry


def test_a_record_comes_back_as_it_was() -> None:
    assert Record.parse(RECORD.to_json()) == RECORD
    assert Record.parse(RECORD.without_network().to_json()) == RECORD.without_network()


@pytest.mark.parametrize(
    "octets", [b"", b"{}", b"[]", b"null", b'{"version":2}', b"\xff", b"[" * 100_000]
)
def test_what_is_no_record_is_refused(octets: bytes) -> None:
    with pytest.raises(ValueError, match=r".*"):
        Record.parse(octets)


@pytest.mark.parametrize("at", range(0, 400, 7))
def test_a_broken_record_is_refused(at: int) -> None:
    with pytest.raises(ValueError, match=r".*"):
        Record.parse(RECORD.to_json()[:at])


def test_secrets_are_not_shown() -> None:
    assert "12345678" not in repr(RECORD)


def test_numbers_are_the_lowest_free_ones(registry: Registry) -> None:
    holders = []
    for expected in (1, 2, 3):
        number, holder = registry.claim()
        holder.write(replace(RECORD, number=number))
        holders.append(holder)
        assert number == expected
    holders[1].close()
    assert registry.claim()[0] == 2
    assert [record.number for record in registry.living()] == [1, 3]


def test_who_died_is_seen_once(registry: Registry) -> None:
    number, holder = registry.claim()
    holder.write(replace(RECORD, number=number))
    registry.socket(number).touch()
    assert [record.number for record in registry.living()] == [1]
    os.close(holder._descriptor)
    assert registry.living() == []
    assert [record.number for record in registry.dead] == [1]
    assert list(registry.path.glob("*.s*")) == []


def test_a_file_of_rubbish_is_nobody(registry: Registry) -> None:
    (registry.path / "7.session").write_text("rubbish")
    assert registry.living() == []
    assert not (registry.path / "7.session").exists()


def test_without_the_right_to_write_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(NarHostError, match="run as root"), Registry(tmp_path / "x").locked():
        pass


def test_sessions_with_one_tunnel_share_its_device() -> None:
    one = plan.placed(Record(1, 9, "", "", Place.HOST, NB, TUNNEL), [])
    smaller = replace(TUNNEL, mtu=1380)
    two = plan.placed(Record(2, 9, "", "", Place.COMMAND, NB, smaller), [one])
    assert two.tunnel == TUNNEL
    other = Tunnel(Delivery.GRE, XA, NA, 1476)
    three = plan.placed(Record(3, 9, "", "", Place.HOST, NB, other), [one, two])
    assert (one.slot, two.slot, three.slot) == (0, 0, 1)
    assert (one.table, two.table, three.table) == (0x4778, 0, 0x4779)
    assert set(plan.tunnels([one, two, three])) == {"narc-t0", "narc-t1"}
    assert plan.host_ends([one, two, three]) == {"narc-1", "narc-3"}
    assert {rule.priority for rule in plan.host_rules([one, two, three])} == {0x4748, 0x4749}


def test_sessions_with_a_forwarder_share_nothing() -> None:
    one = plan.placed(Record(1, 9, "", "", Place.COMMAND, NB, TUNNEL, apart=True), [])
    two = plan.placed(Record(2, 9, "", "", Place.COMMAND, NB, TUNNEL, apart=True), [one])
    three = plan.placed(Record(3, 9, "", "", Place.COMMAND, NB, TUNNEL), [one, two])
    four = plan.placed(Record(4, 9, "", "", Place.COMMAND, NB, TUNNEL), [one, two, three])
    everyone = [one, two, three, four]
    assert [record.slot for record in everyone] == [0, 1, 2, 2]
    # The forwarders' ends of their tunnels stay on the host.
    assert plan.host_ends(everyone) == {"narc-t0-io", "narc-t1-io"}
    assert [record for record in everyone if plan.shares_hub(two, record)] == [two]
    assert [record for record in everyone if plan.shares_hub(three, record)] == [three, four]
    # Their devices take any packet; the route says what fits.
    assert [way.mtu for way in plan.exits([two]) if way.interface == "narc-t1"] == [TUNNEL.mtu]
    assert [way.mtu for way in plan.exits([three]) if way.interface == "narc-t2"] == [0]


def test_a_record_of_before_shares_its_hub() -> None:
    record = Record(1, 9, "", "", Place.HOST, NB, TUNNEL, apart=True)
    assert Record.parse(record.to_json()) == record
    before = json.loads(record.to_json())
    del before["apart"]
    assert Record.parse(json.dumps(before).encode()) == replace(record, apart=False)


def test_h75_no_more_sessions_on_the_host_than_there_are_tables() -> None:
    records: list[Record] = []
    for number in range(1, 9):
        records.append(plan.placed(Record(number, 9, "", "", Place.HOST, NB, TUNNEL), records))
    with pytest.raises(NarHostError, match="release some"):
        plan.placed(Record(9, 9, "", "", Place.HOST, NB, TUNNEL), records)


def test_what_has_no_tunnel_needs_nothing() -> None:
    record = plan.placed(Record(1, 9, "", "", Place.HOST, NB), [])
    assert plan.exits([record]) == []
    assert plan.host_rules([record]) == set()
