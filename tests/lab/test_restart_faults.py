"""Restarts at the worst moments, and with records or a kernel that are not as they were left."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from interop_bed import device_file, psk_connection
from restart_bed import RestartBed, Streams, restart_bed

from gateway.lab import plan
from gateway.lab.processes import wait_until

pytestmark = pytest.mark.kernel
# clock: real (packets must have time to be lost)

CONNECTION = psk_connection(endpoint_update="allowed")


@pytest.fixture(scope="module")
def shared() -> Iterator[RestartBed]:
    with restart_bed(CONNECTION) as bed:
        yield bed


@pytest.fixture
def restarts(shared: RestartBed) -> Iterator[RestartBed]:
    yield shared
    shared.bed.gateway.write_text(shared.bed.head + CONNECTION)
    if not shared.bed.gateway.running():
        shared.start()
    shared.bed.disconnect()
    shared.bed.lab.move("access1")


def test_a_device_that_moves_while_nobody_is_there_is_followed(restarts: RestartBed) -> None:
    bed = restarts.bed
    restarts.connect(configuration=device_file())
    (before,) = bed.ike_sas()
    restarts.end("kill")
    bed.lab.move("access2")
    restarts.start()
    there = str(plan.ACCESSES["access2"].device.ip)
    wait_until(lambda: bed.ike_sas()[0]["remote"].startswith(there), 40, "the gateway follows")
    assert bed.ike_sas()[0]["id"] == before["id"]
    wait_until(bed.ping, 20, "traffic")
    # And moves on, once more with keys that only the kernel has.
    restarts.restart("stop")
    bed.lab.move("access1")
    back = str(plan.ACCESSES["access1"].device.ip)
    wait_until(lambda: bed.ike_sas()[0]["remote"].startswith(back), 40, "the gateway follows")
    wait_until(bed.ping, 20, "traffic")


def test_a_restart_during_a_rekeying_leaves_one_child_sa(restarts: RestartBed) -> None:
    bed = restarts.bed
    inner = restarts.connect(configuration=device_file())
    streams = Streams(bed, inner)
    bed.device.rekey(child="net")
    restarts.restart("kill")
    wait_until(lambda: len(bed.child_sas()) == 1, 30, "one child SA")
    bed.device.rekey(ike="gw")
    restarts.end("kill")
    restarts.start()
    wait_until(lambda: len(bed.ike_sas()) == 1, 30, "one IKE SA")
    assert bed.ping()
    assert streams.lost() == 0
    restarts.rekey_works()


def test_a_flushed_kernel_is_reconciled(restarts: RestartBed) -> None:
    bed = restarts.bed
    restarts.connect(configuration=device_file())
    (before,) = bed.ike_sas()
    restarts.end("stop")
    bed.lab.wipe("gw")
    for command in ("nft delete table inet gateway", "ip link del gw0"):
        bed.lab.run("gw", command.split())
    restarts.start()
    assert bed.gateway.call("status")["taken_over"]["lost_child_sas"] == 1
    wait_until(lambda: bed.ping(1), 30, "traffic")
    assert bed.ike_sas()[0]["id"] == before["id"]


def test_sessions_of_a_connection_that_is_gone_end_with_a_delete(restarts: RestartBed) -> None:
    bed = restarts.bed
    restarts.connect(configuration=device_file())
    restarts.end("stop")
    bed.gateway.write_text(bed.head + CONNECTION.replace("connections.road", "connections.other"))
    restarts.start()
    wait_until(lambda: not bed.device.established(), 20, "the device hears of it")
    assert bed.ike_sas() == []
    assert restarts.clean()
    restarts.end("stop")
    bed.gateway.write_text(bed.head + CONNECTION)
    restarts.start()


def test_a_corrupt_journal_ends_nothing_that_the_database_has(restarts: RestartBed) -> None:
    bed = restarts.bed
    restarts.connect(configuration=device_file())
    (before,) = bed.ike_sas()
    restarts.end("stop")
    for journal in Path(bed.gateway.folder).rglob("*.journal"):
        journal.write_bytes(b"\xff" * 300)
    restarts.start()
    assert bed.ike_sas()[0]["id"] == before["id"]
    assert bed.ping()


def test_without_records_sessions_end_and_nothing_is_left(restarts: RestartBed) -> None:
    bed = restarts.bed
    restarts.connect(configuration=device_file())
    restarts.end("kill")
    for file in Path(bed.gateway.folder).rglob("*"):
        if file.suffix == ".journal" or file.name.startswith("gateway.sqlite"):
            file.unlink()
    restarts.start()
    assert bed.ike_sas() == []
    assert restarts.clean()
    # The device notices by itself, or at the next login.
    bed.device.terminate("gw", force=True)
    restarts.connect()
    assert bed.ping()


def test_a_stop_says_goodbye_and_leaves_nothing(restarts: RestartBed) -> None:
    bed = restarts.bed
    restarts.connect(configuration=device_file())
    bed.gateway.call("stop")
    wait_until(lambda: not bed.gateway.running(), 20, "its end")
    wait_until(lambda: not bed.device.established(), 20, "the device hears of it")
    assert not bed.lab.spis("gw")
    assert "dir out" not in bed.lab.policies("gw")
    assert "gateway" not in bed.lab.run("gw", ["nft", "list", "tables"]).stdout
    assert "gw0" not in bed.lab.run("gw", ["ip", "link"]).stdout
    restarts.start()
    assert bed.ike_sas() == []
