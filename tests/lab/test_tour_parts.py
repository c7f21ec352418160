"""The tour's instruments can see what they are there for: pauses, losses, octets, leaks."""

import time
from collections.abc import Iterator

import pytest
from mobility_bed import GATEWAY, I_HOA, SERVER, MobilityBed, mobility_bed

from gateway.lab.mobility import plan
from gateway.lab.mobility.leaks import Persistent, give_ipv6, leaks
from gateway.lab.mobility.overhead import DEVICE_WIRES, overheads
from gateway.lab.processes import LabError, wait_until
from gateway.lab.tap import Tap
from gateway.lab.tour_traffic import LiveSession

pytestmark = pytest.mark.kernel


@pytest.fixture(scope="module")
def bed() -> Iterator[MobilityBed]:
    with mobility_bed(access="plain") as bed:
        bed.inside_home_agent()
        node = bed.node("i")
        assert node.co_located(plan.ACCESSES["plain"]).accepted
        yield bed


def test_a_session_shows_its_pauses_and_its_losses(bed: MobilityBed) -> None:
    with LiveSession(bed.lab, SERVER, I_HOA) as session:
        begin = time.time()
        session.goes_on()
        quiet = session.window(begin, time.time())
        assert quiet.lost <= 2  # those that are still on the way
        bed.lab.run("core", ["ip", "link", "set", "plain", "down"])
        time.sleep(0.5)
        bed.lab.run("core", ["ip", "link", "set", "plain", "up"])
        session.goes_on()
        broken = session.window(begin, time.time())
    assert broken.gap_ms >= 450 > quiet.gap_ms
    assert broken.lost >= 20
    assert broken.shell_gap_ms >= 450
    assert broken.download_octets > 0
    assert session.broken == []


def test_a_session_from_another_address_is_refused(bed: MobilityBed) -> None:
    with pytest.raises(LabError, match="not from"):
        LiveSession(bed.lab, SERVER, plan.ACCESSES["plain"].device.ip).__enter__()


def test_octets_as_captured(bed: MobilityBed) -> None:
    assert overheads(bed.lab, "plain", I_HOA, SERVER) == [20] * 16


def test_every_try_of_the_user_is_seen(bed: MobilityBed) -> None:
    """Without a mobile node nothing holds the user's packets: the taps must say so."""
    bed.lab.move("access1")
    give_ipv6(bed.lab, "access1", DEVICE_WIRES["access1"])
    with Tap(bed.lab, DEVICE_WIRES.values()) as tap, Persistent(bed.lab, ["access1"]) as user:
        wait_until(lambda: user.sent > 200, 20, "the user's tries")
    seen = leaks(tap.frames)
    assert {leak.interface for leak in seen} == {"device"}
    said = " ".join(leak.what for leak in seen)
    for what in (f"> {SERVER} protocol 17", f"> {GATEWAY} protocol 17", "protocol 6", "IPv6"):
        assert what in said
    bed.lab.move("plain")
