"""The gateway ends and starts again under traffic, in every way; its session notices nothing."""

from collections.abc import Iterator

import pytest
from interop_bed import device_file, psk_connection
from restart_bed import WAYS, RestartBed, Streams, restart_bed, sequences_rise

pytestmark = pytest.mark.kernel
# clock: real (packets must have time to be lost)


@pytest.fixture(scope="module")
def shared() -> Iterator[RestartBed]:
    with restart_bed(psk_connection(endpoint_update="allowed")) as bed:
        yield bed


@pytest.fixture
def restarts(shared: RestartBed) -> Iterator[RestartBed]:
    yield shared
    if not shared.bed.gateway.running():
        shared.start()
    shared.bed.disconnect()


@pytest.mark.parametrize("connection", ["", "encap = yes"], ids=["esp", "esp_in_udp"])
def test_no_packet_is_lost_and_every_session_is_taken_over(
    restarts: RestartBed, connection: str
) -> None:
    bed = restarts.bed
    inner = restarts.connect(configuration=device_file(connection=connection))
    (before,) = bed.ike_sas()
    (child,) = bed.child_sas()
    wire = bed.lab.capture("gw", "outside", f"esp-{bool(connection)}", "esp or udp port 4500")
    streams = Streams(bed, inner)
    for how in (*WAYS, *WAYS[:2]):
        assert restarts.restart(how)["id"] == before["id"]
        assert [one["spi_in"] for one in bed.child_sas()] == [child["spi_in"]]
    assert streams.lost() == 0
    assert sequences_rise(wire.stop()) > 100
    restarts.rekey_works()
    (rekeyed,) = bed.ike_sas()
    assert restarts.restart("kill")["id"] == rekeyed["id"]
    restarts.rekey_works()
    (rekeyed,) = bed.ike_sas()
    assert restarts.restart("stop")["id"] == rekeyed["id"]
    bed.device.terminate("gw")
    assert restarts.clean()
