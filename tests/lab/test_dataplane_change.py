"""A gateway whose dataplane is another one after a restart."""

from collections.abc import Iterator

import pytest
from interop_bed import device_file, psk_connection
from restart_bed import RestartBed, restart_bed

from gateway.lab.processes import wait_until

pytestmark = pytest.mark.kernel

CONNECTION = psk_connection(endpoint_update="allowed")


def on(kind: str) -> str:
    """The configuration's part that says which dataplane."""
    return f'[dataplane]\nkind = "{kind}"\n{CONNECTION}'


@pytest.fixture
def restarts() -> Iterator[RestartBed]:
    with restart_bed(on("portable")) as bed:
        yield bed


def dataplane(restarts: RestartBed) -> str:
    kind: str = restarts.bed.gateway.call("status")["dataplane"]["kind"]
    return kind


def test_sessions_survive_a_change_of_the_dataplane_with_new_keys(restarts: RestartBed) -> None:
    bed = restarts.bed
    restarts.connect(configuration=device_file(connection="encap = yes"))
    (before,) = bed.ike_sas()
    for kind in ("kernel", "portable"):
        restarts.end("stop")
        bed.gateway.write_text(bed.head + on(kind))
        restarts.start()
        assert dataplane(restarts) == kind
        # One, and one that it replaced, which still waited for late packets.
        assert bed.gateway.call("status")["taken_over"]["lost_child_sas"] >= 1
        wait_until(lambda: bed.ping(1), 30, "traffic")
        assert [one["id"] for one in bed.ike_sas()] == [before["id"]]
