"""One TCP session through every place and access mode of draft 001, sections 2 and 3."""

from collections.abc import Iterator
from ipaddress import IPv4Address

import pytest
from mobility_bed import GATEWAY, I_HA, I_HOA, SERVER, WAYS, X_HOA, MobilityBed, mobility_bed

from gateway.lab.mobility import plan
from gateway.lab.mobility.wires import shapes, wired
from gateway.lab.processes import wait_until

pytestmark = pytest.mark.kernel

VPN_DEVICE = "gw0"
HOME, PLAIN = plan.ACCESSES["home"], plan.ACCESSES["plain"]
HERE, THERE = plan.ACCESSES["access1"], plan.ACCESSES["access2"]


@pytest.fixture(scope="module", params=WAYS)
def bed(request: pytest.FixtureRequest) -> Iterator[MobilityBed]:
    with mobility_bed(offload=request.param == "kernel") as bed:
        bed.inside_home_agent()
        bed.foreign_agent("ifa")
        bed.vpn()
        bed.outside_home_agent()
        bed.foreign_agent("xfa")
        bed.record("gw", "core")
        yield bed


@pytest.fixture(autouse=True)
def start_at_home(bed: MobilityBed) -> Iterator[None]:
    bed.lab.leave_everything()
    bed.lab.move("home")
    yield
    for swan in list(bed.swans):
        bed.end_strongswan(swan)
    for host in ("device", "device2"):
        if host in bed.boxes:
            bed.end(host)
    bed.drop_nodes()


def test_home_c_f_vf_and_back(bed: MobilityBed) -> None:
    """Inside with and without a foreign agent, outside by VPN/FA, home again."""
    lab, node = bed.lab, bed.node("i", default_route=False)
    assert node.at_home(HOME)
    with bed.download() as session:
        session.goes_on()
        lab.move("plain")
        assert node.co_located(PLAIN).accepted
        session.goes_on()
        lab.enter_link("ifalink")
        assert node.by_agent("ifalink")[0].accepted
        session.goes_on()
        lab.attach("access1")  # the new way is there before the old one goes
        node.stack.use_care_of(HERE)
        bed.initiator(HERE.device.ip)
        assert node.by_vpn(plan.VPN_CARE_OF_ADDRESS, VPN_DEVICE).accepted
        lab.move("access1")
        session.goes_on()
        lab.move("home")
        answer = node.at_home(HOME)
        assert answer is not None
        assert answer.accepted
        session.goes_on()
        session.end()


def test_vc_with_an_unmodified_client(bed: MobilityBed) -> None:
    """VPN-TIA as co-located care-of address; strongSwan moves the SA by itself (MOBIKE)."""
    lab, node = bed.lab, bed.node("i", default_route=False)
    assert node.at_home(HOME)
    with bed.download() as session:
        session.goes_on()
        lab.move("access1")
        swan = bed.strongswan()
        tia = IPv4Address(swan.established()[0].virtual_ips[0])
        assert node.co_located(HERE, care_of=tia).accepted
        session.goes_on()
        lab.move("access2", make_before_break=True)
        session.goes_on()
        lab.move("plain")
        assert node.co_located(PLAIN).accepted
        session.goes_on()
        session.end()
    bed.end_strongswan(swan)


def test_outside_by_the_outside_home_agent(bed: MobilityBed) -> None:
    """cvf here and there, fvf: one IKE SA at the x-HoA, which moves below it."""
    lab, low, high = bed.lab, bed.node("x"), bed.node("i", default_route=False)
    assert high.at_home(HOME)
    with bed.download() as session:
        session.goes_on()
        lab.attach("access1")
        assert low.co_located(HERE).accepted
        bed.initiator(X_HOA)
        assert high.by_vpn(plan.VPN_CARE_OF_ADDRESS, VPN_DEVICE).accepted
        lab.move("access1")
        session.goes_on()
        outside = bed.record("gw", "outside")
        lab.move("access2")
        assert low.co_located(THERE).accepted
        session.goes_on()
        lab.enter_link("xfalink")
        assert low.by_agent("xfalink")[0].accepted
        session.goes_on()
        lab.move("access1")
        answer = low.co_located(HERE, zero_overhead=GATEWAY)
        assert answer.zero_overhead is not None
        session.goes_on()
        seen = outside.stop()
        session.end()
    # The VPN gateway saw one peer that never moved, and no IKE message; between two networks it
    # may have been told that the peer is nowhere.
    assert set(shapes(seen)) <= {"ip/esp", "ip/icmp"}
    esp = [one.outer for one in wired(seen) if one.shape == "ip/esp"]
    addresses = {address for outer in esp for address in (outer.source, outer.destination)}
    assert addresses == {X_HOA, GATEWAY}


def test_the_gateway_restarts_under_a_session(bed: MobilityBed) -> None:
    """Bindings of the i-HA and visitors of nobody: the session goes on inside."""
    lab, node = bed.lab, bed.node("i", default_route=False)
    assert node.at_home(HOME)
    with bed.download() as session:
        session.goes_on()
        lab.move("plain")
        assert node.co_located(PLAIN).accepted
        session.goes_on()
        bed.restart("iha", kill=True)
        session.goes_on()
        bed.restart("iha")
        session.goes_on()
        session.end()

    def deregistered() -> bool:
        # What was signed in the moment of the restart is refused (code 133) and asked anew.
        return node.ask(node.request(PLAIN.device.ip, lifetime_s=0), I_HA).accepted

    wait_until(deregistered, 10, "the deregistration")


def test_a_revoked_binding_ends_at_once(bed: MobilityBed) -> None:
    lab, node = bed.lab, bed.node("i", default_route=False)
    lab.move("plain")
    assert node.co_located(PLAIN).accepted
    assert bed.ping("server", I_HOA)
    agent = bed.boxes["iha"]
    agent.call("revoke-binding", home_agent="office", home_address=str(I_HOA))
    wait_until(lambda: agent.events("registration_revoked"), 10, "the line of the revocation")
    assert not bed.ping("server", I_HOA, count=1)
    assert not bed.ping("device", SERVER, source=I_HOA, count=1)


def test_nothing_on_any_wire_was_wrong(bed: MobilityBed) -> None:
    assert bed.findings() == []  # of what the tests above recorded
    for box in bed.boxes.values():
        assert not [line for line in box.log() if line.get("level") == "error"]
