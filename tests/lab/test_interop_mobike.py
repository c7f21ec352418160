"""MOBIKE with strongSwan: the device changes its access network, its traffic goes on."""

from collections.abc import Iterator

import pytest
from interop_bed import Bed, Streams, device_file, inner_address, interop, psk_connection

from gateway.lab import plan
from gateway.lab.measured import start_download
from gateway.lab.processes import wait_until

pytestmark = pytest.mark.kernel


@pytest.fixture(scope="module")
def shared() -> Iterator[Bed]:
    with interop(psk_connection(endpoint_update="off")) as bed:
        yield bed


@pytest.fixture
def bed(shared: Bed) -> Iterator[Bed]:
    yield shared
    shared.disconnect()
    shared.lab.move("access1")


def at(bed: Bed) -> str:
    """The address where the gateway believes the device to be."""
    (ike,) = bed.ike_sas()
    return str(ike["remote"]).rpartition(":")[0]


def where(access: str, bed: Bed) -> str:
    """The address the device has in an access network, as the gateway sees it."""
    if access == "nat":
        return str(bed.lab.nat_mapping()[0])
    return str(plan.ACCESSES[access].device.ip)


def arrived(bed: Bed, access: str) -> None:
    """Wait until the gateway has followed the device into an access network."""
    wait_until(lambda: at(bed) == where(access, bed), 40, f"the gateway follows to {access}")


def test_a_stream_survives_the_move(bed: Bed) -> None:
    """Make before break: nothing is lost; both SA kinds stay the same ones."""
    ike = bed.connect(configuration=device_file())
    (before,) = bed.child_sas()
    with Streams(bed, inner_address(ike), name="move") as streams:
        bed.lab.attach("access2")  # the new default route; access1 is still there
        arrived(bed, "access2")
        streams.wait_for_more(200)
        up, down = streams.lost()
    # Those under way at the change of addresses; without MOBIKE, all after it.
    assert up <= 100
    assert down <= 100
    wait_until(lambda: len(bed.child_sas()) == 1, 20, "one child SA")
    (after,) = bed.child_sas()
    # charon's own IPsec takes no other addresses: it makes another child SA.
    if not bed.device.user_space:
        assert after["spi_in"] == before["spi_in"]
        assert after["spi_out"] == before["spi_out"]
    (seen,) = bed.device.established()
    assert seen.local.startswith(where("access2", bed))


@pytest.mark.parametrize("way", [["access2", "access1"], ["nat", "access2"]])
def test_a_download_survives_moves(bed: Bed, way: list[str]) -> None:
    """Break before make, once into a NAT and out of it again."""
    bed.connect(configuration=device_file())
    (before,) = bed.ike_sas()
    download = start_download(bed.lab, f"http://{plan.SERVER}/stream", name=f"to-{way[0]}")
    download.wait_for("bytes", 100_000)
    for access in way:
        bed.lab.move(access)
        arrived(bed, access)
        got = download.latest("bytes")
        download.wait_for("bytes", got + 500_000, 60)
    result = download.stop()
    assert result["error"] is None
    (after,) = bed.ike_sas()
    assert after["id"] == before["id"]
    assert bed.ping()


def test_tshark_finds_nothing_wrong(bed: Bed) -> None:
    assert not bed.gateway.events("internal_error")
    assert bed.findings() == []
