"""The end of sessions: deletes from either side, devices that die, devices that come back."""

import os
import signal
from collections.abc import Iterator

import pytest
from interop_bed import Bed, device_file, inner_address, interop, psk_connection

from gateway.lab.processes import wait_until
from gateway.lab.strongswan import StrongSwan

pytestmark = pytest.mark.kernel


@pytest.fixture(scope="module")
def shared() -> Iterator[Bed]:
    connections = psk_connection()
    connections += psk_connection("watched", remote_id="watched@example.com", liveness_s=2)
    limits = "retransmit_first_s = 0.5\nretransmit_factor = 1.5\nretransmit_tries = 3"
    with interop(connections, ike=limits) as bed:
        yield bed


@pytest.fixture
def bed(shared: Bed) -> Iterator[Bed]:
    yield shared
    shared.disconnect()


def kill(bed: Bed) -> None:
    """End the device's charon as a power cut would; its kernel forgets everything too."""
    os.kill(bed.device.pid, signal.SIGKILL)
    wait_until(lambda: not bed.device.running(), 10, "charon's end")
    bed.lab.wipe("device")
    bed.device = StrongSwan(bed.lab, "device")


def test_the_device_closes_the_ike_sa(bed: Bed) -> None:
    bed.connect(configuration=device_file())
    mark = len(bed.gateway.log())
    bed.device.terminate("gw")
    wait_until(lambda: not bed.states(), 10, "nothing in the kernel")
    assert not bed.ike_sas()
    (line,) = bed.said_since(mark)
    assert line["event"] == "ike_sa_closed"
    assert "peer" in line["text"]


def test_the_device_closes_the_child_sa_and_opens_another(bed: Bed) -> None:
    bed.connect(configuration=device_file())
    (before,) = bed.child_sas()
    (ike,) = bed.ike_sas()
    bed.device._request("terminate", {"child": "net", "timeout": 10000})
    wait_until(lambda: not bed.child_sas() and not bed.states(), 10, "no child SA")
    assert [one["id"] for one in bed.ike_sas()] == [ike["id"]]
    bed.device.initiate("net")
    (after,) = bed.child_sas()
    assert after["spi_in"] != before["spi_in"]
    assert [one["id"] for one in bed.ike_sas()] == [ike["id"]]
    assert bed.ping()


def test_we_close_the_ike_sa(bed: Bed) -> None:
    bed.connect(configuration=device_file())
    (ike,) = bed.ike_sas()
    bed.gateway.call("close-ike-sa", id=ike["id"])
    wait_until(lambda: not bed.device.established(), 10, "the device learns of it")
    wait_until(lambda: not bed.states("device"), 10, "nothing in the device's kernel")
    wait_until(lambda: not bed.states(), 10, "nothing in our kernel")


def test_we_remove_the_connection(bed: Bed) -> None:
    bed.connect(configuration=device_file())
    text = bed.gateway.config.read_text().removeprefix(bed.head)
    bed.reload(text.replace("[connections.road]", "[connections.other]"))
    wait_until(lambda: not bed.device.established(), 10, "the device learns of it")
    assert not bed.states()
    bed.reload(text)


def test_a_device_that_died_is_noticed(bed: Bed) -> None:
    bed.connect(configuration=device_file(device_id="watched@example.com"))
    mark = len(bed.gateway.log())
    kill(bed)
    wait_until(lambda: not bed.ike_sas(), 40, "the gateway gives it up")
    assert not bed.states()
    assert "dst 10.9." not in bed.lab.policies("gw")
    wait_until(lambda: bed.said_since(mark), 5, "the gateway's line")
    (line,) = bed.said_since(mark)
    assert line["event"] == "ike_sa_closed"
    assert "watched@example.com" in line["text"]
    assert "does not answer" in line["text"]


def test_a_device_that_died_comes_back_to_its_address(bed: Bed) -> None:
    """INITIAL_CONTACT: the old SA goes at once, the inner address is the same."""
    first = bed.connect(configuration=device_file())
    (before,) = bed.ike_sas()
    kill(bed)
    bed.device.start()
    second = bed.connect(configuration=device_file())
    assert "N(INIT_CONTACT)" in bed.device.log()
    assert inner_address(second) == inner_address(first)
    (after,) = bed.ike_sas()
    assert after["id"] != before["id"]
    assert bed.states().count("proto esp") == 2
    assert bed.ping()


def test_a_device_that_authenticates_again(bed: Bed) -> None:
    """Reauthentication, make before break: for a moment there are two IKE SAs."""
    bed.connect(configuration=device_file())
    (before,) = bed.ike_sas()
    bed.device._request("rekey", {"ike": "gw", "reauth": "yes"})

    def another() -> bool:
        names = [one["id"] for one in bed.ike_sas()]
        return len(names) == 1 and names != [before["id"]]

    wait_until(another, 20, "one IKE SA, another one")
    wait_until(lambda: len(bed.device.established()) == 1, 10, "the device agrees")
    assert bed.ping()


def test_idle_device_answers_our_liveness_checks(bed: Bed) -> None:
    bed.connect(configuration=device_file(device_id="watched@example.com"))
    (ike,) = bed.ike_sas()
    bed.device.wait_for("parsed INFORMATIONAL request 1 [ ]", 20)
    assert [one["id"] for one in bed.ike_sas()] == [ike["id"]]
    assert bed.ping()


def test_tshark_finds_nothing_wrong(bed: Bed) -> None:
    assert not bed.gateway.events("internal_error")
    assert bed.findings() == []
