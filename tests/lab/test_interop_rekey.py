"""Rekeying of both SA kinds, by either side, again and again, under a stream: nothing is lost."""

import time
from collections.abc import Callable, Iterator

import pytest
from interop_bed import Bed, Streams, device_file, inner_address, interop, psk_connection

from gateway.lab.processes import wait_until

pytestmark = pytest.mark.kernel

TIMES = 3
PACKETS = 150


@pytest.fixture(scope="module")
def shared() -> Iterator[Bed]:
    connections = psk_connection(esp_proposals=["aes256gcm16", "aes256gcm16-x25519"])
    connections += psk_connection(
        "counted",
        remote_id="counted@example.com",
        lifetimes={"child_soft_packets": PACKETS, "child_hard_packets": 100 * PACKETS},
    )
    connections += psk_connection(
        "short",
        remote_id="short@example.com",
        lifetimes={"ike_rekey_s": 60, "jitter": 0.5},
    )
    with interop(connections) as bed:
        yield bed


@pytest.fixture
def bed(shared: Bed) -> Iterator[Bed]:
    yield shared
    shared.disconnect()


def children(bed: Bed) -> set[str]:
    return {str(child["spi_in"]) for child in bed.child_sas()}


def ike_names(bed: Bed) -> set[str]:
    return {str(ike["id"]) for ike in bed.ike_sas()}


def replaced(bed: Bed, names: Callable[[Bed], set[str]], old: set[str], wait_s: float) -> set[str]:
    """Wait for an SA that is not one of `old`; returns all there were so far.

    The old one still receives for a while what was under way.
    """
    wait_until(lambda: names(bed) - old, wait_s, "another SA")
    return names(bed) | old


def settled(bed: Bed) -> None:
    """Both sides name the same SAs, and the kernel has no other ones."""

    def agree() -> bool:
        (ike,) = bed.device.established()
        ours = {int(child["spi_in"], 16) for child in bed.child_sas()}
        theirs = {child.spi_out for child in ike.children if child.state == "INSTALLED"}
        same_ike = ike_names(bed) == {f"{ike.initiator_spi}_{ike.responder_spi}"}
        one_child = len(ours) == 1 and bed.states().count("proto esp") == 2
        return same_ike and ours == theirs and one_child

    wait_until(agree, 20, "both sides agree")


@pytest.mark.parametrize("esp", ["aes256gcm16", "aes256gcm16-x25519"], ids=["plain", "pfs"])
def test_the_device_rekeys_the_child_sa(bed: Bed, esp: str) -> None:
    ike = bed.connect(configuration=device_file(esp=esp))
    with Streams(bed, inner_address(ike), name=f"child-{esp[-6:]}") as streams:
        old = children(bed)
        for _ in range(TIMES):
            bed.device.rekey(child="net")
            old = replaced(bed, children, old, 20)
            streams.wait_for_more(50)
        assert streams.lost() == (0, 0)
    settled(bed)


def test_the_device_rekeys_the_ike_sa(bed: Bed) -> None:
    ike = bed.connect(configuration=device_file())
    with Streams(bed, inner_address(ike), name="ike") as streams:
        old, child = ike_names(bed), children(bed)
        for _ in range(TIMES):
            bed.device.rekey(ike="gw")
            old = replaced(bed, ike_names, old, 20)
            streams.wait_for_more(50)
        assert children(bed) == child
        bed.device.rekey(child="net")  # under the new keys
        replaced(bed, children, child, 20)
        assert streams.lost() == (0, 0)
    settled(bed)


def test_we_rekey_the_child_sa(bed: Bed) -> None:
    """By the packet limit, which the stream reaches again and again."""
    ike = bed.connect(configuration=device_file(device_id="counted@example.com"))
    old = children(bed)
    with Streams(bed, inner_address(ike), name="counted") as streams:
        for _ in range(2 * TIMES):
            old = replaced(bed, children, old, 20)
        assert streams.lost() == (0, 0)
    settled(bed)


def test_both_sides_rekey_at_once(bed: Bed) -> None:
    """Our limit is reached while the device rekeys: whoever wins, no packet is lost."""
    ike = bed.connect(configuration=device_file(device_id="counted@example.com"))
    with Streams(bed, inner_address(ike), name="both") as streams:
        for _ in range(2 * TIMES):
            bed.device.rekey(child="net")
            streams.wait_for_more(PACKETS // 3)
        assert streams.lost() == (0, 0)
    settled(bed)


def test_we_rekey_the_ike_sa(bed: Bed) -> None:
    """By its lifetime, of which half is the least that is allowed: 30 to 60 s."""
    ike = bed.connect(configuration=device_file(device_id="short@example.com"))
    began = time.monotonic()
    with Streams(bed, inner_address(ike), rate=100, name="short") as streams:
        child = children(bed)
        replaced(bed, ike_names, ike_names(bed), 75)
        assert time.monotonic() - began > 20
        streams.wait_for_more(50)
        assert children(bed) == child
        assert streams.lost() == (0, 0)
    settled(bed)


def test_tshark_finds_nothing_wrong(bed: Bed) -> None:
    assert not bed.gateway.events("internal_error")
    assert bed.findings() == []
