"""The whole gateway on the portable dataplane: its forwarder dies."""

# planes: portable

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from interop_bed import device_file, psk_connection
from restart_bed import RestartBed, restart_bed

from gateway.lab.processes import wait_until

pytestmark = pytest.mark.kernel
# clock: real (packets must have time to be lost)

CONNECTION = psk_connection(endpoint_update="allowed")


def on(kind: str) -> str:
    """The configuration's part that says which dataplane."""
    return f'[dataplane]\nkind = "{kind}"\n{CONNECTION}'


@pytest.fixture(scope="module")
def shared() -> Iterator[RestartBed]:
    with restart_bed(on("portable")) as bed:
        yield bed


@pytest.fixture
def restarts(shared: RestartBed) -> Iterator[RestartBed]:
    yield shared
    if not shared.bed.gateway.running():
        shared.start()
    shared.bed.disconnect()


def dataplane(restarts: RestartBed) -> dict[str, Any]:
    found: dict[str, Any] = restarts.bed.gateway.call("status")["dataplane"]
    return found


def test_it_says_what_it_is(restarts: RestartBed) -> None:
    facts = dataplane(restarts)
    assert (facts["kind"], facts["why"]) == ("portable", "as configured")
    assert facts["forwarder"]["processes"]


@pytest.mark.parametrize("worker", [0, -1], ids=["first", "last"])
def test_a_session_outlives_a_killed_forwarder_with_new_keys(
    restarts: RestartBed, worker: int
) -> None:
    bed = restarts.bed
    restarts.connect(configuration=device_file())
    (before,), (child,) = bed.ike_sas(), bed.child_sas()
    assert bed.ping()
    facts = dataplane(restarts)["forwarder"]
    os.kill(facts["processes"][worker], signal.SIGKILL)
    wait_until(
        lambda: [one["spi_in"] for one in bed.child_sas()] not in ([], [child["spi_in"]]),
        30,
        "another child SA",
    )
    wait_until(lambda: bed.ping(1), 30, "traffic")
    assert [one["id"] for one in bed.ike_sas()] == [before["id"]]
    again = dataplane(restarts)["forwarder"]
    assert again["restarts"] == facts["restarts"] + 1
    assert not set(again["processes"]) & set(facts["processes"])
    assert bed.gateway.events("dataplane_trouble")
    # And the next process takes over what there is now.
    assert restarts.restart("kill")["id"] == before["id"]
    assert bed.ping()


def test_esp_does_not_wake_the_core(restarts: RestartBed) -> None:
    bed = restarts.bed
    restarts.connect(configuration=device_file(connection="encap = yes"))
    before = bed.gateway.call("status")["counters"]["sockets"]["not_ike"]
    assert bed.ping(5)
    assert bed.gateway.call("status")["counters"]["sockets"]["not_ike"] == before
