"""Access modes of the mobile node, and one TCP session through handovers between them."""

# planes: kernel portable

from collections.abc import Iterator
from typing import Any

import pytest
from node_bed import I_HA, I_HOA, SERVER, X_HOA, NodeBed, node_bed

from gateway.lab.mobility import boxes, plan, profiles
from gateway.lab.mobility.stage import translated
from gateway.lab.processes import wait_until

pytestmark = pytest.mark.kernel

WITHOUT = {"endpoint_update": False, "mobike": False}
VC = {"identity": profiles.identity("vc")}


@pytest.fixture(scope="module")
def shared() -> Iterator[NodeBed]:
    with node_bed(endpoint_update="allowed") as bed:
        yield bed


@pytest.fixture
def bed(shared: NodeBed) -> Iterator[NodeBed]:
    shared.go("home")
    yield shared
    shared.node.stop()


def gateway_again(bed: NodeBed, **keys: Any) -> None:
    bed.boxes.start(boxes.vpn(**keys))


def outer_addresses(bed: NodeBed) -> set[str]:
    """Where the VPN gateway sees the device; an earlier run's SA may not have timed out yet."""
    items = bed.boxes["gw"].call("ike-sas")["items"]
    youngest = min(items, key=lambda one: float(one["age_s"]))
    return {str(youngest["remote"]).rpartition(":")[0]}


def handshakes(bed: NodeBed) -> int:
    return len(bed.boxes["gw"].events("ike_sa_established"))


# -- handovers with a live session ---------------------------------------------------------------


def test_by_endpoint_update_and_vpn_fa(bed: NodeBed) -> None:
    """home, f, c, vf, fvf, vf on two interfaces, home: one IKE SA, one session."""
    bed.run_node("vf", "fvf", at="home")
    before = handshakes(bed)
    with bed.session() as session:
        for link, mode in (
            ("ifalink", "f"),
            ("plain", "c"),
            ("access1", "vf"),
            ("xfalink", "fvf"),
            ("nat", "vf"),
            ("plain", "c"),
            ("home", "home"),
        ):
            bed.move(link, mode)
            session.goes_on()
        assert session.broken == []
    # Behind the foreign agent IKE comes from the x-HoA; back in front of it the SA moves again.
    assert handshakes(bed) - before <= 3


def test_two_interfaces_make_before_break(bed: NodeBed) -> None:
    bed.run_node("vf", at="home")
    with bed.session() as session:
        bed.move("access1", "vf")
        session.goes_on()
        before = handshakes(bed)
        bed.lab.attach("access2")
        session.goes_on()
        bed.lab.detach("access1")
        wait_until(lambda: outer_addresses(bed) == {"203.0.113.10"}, 15, "the SA to move")
        session.goes_on()
        assert session.broken == []
    assert bed.node.mode() == "vf"
    assert handshakes(bed) == before


def test_one_ike_sa_above_the_outside_home_agent(bed: NodeBed) -> None:
    """cvf, fvf, cvf elsewhere: IKE never hears of it (the point of x-MIP)."""
    bed.run_node("cvf", "fvf", gateway=WITHOUT, at="home")
    before = handshakes(bed)
    with bed.session() as session:
        for link, mode in (("access1", "cvf"), ("xfalink", "fvf"), ("nat", "cvf")):
            bed.move(link, mode)
            session.goes_on()
            assert outer_addresses(bed) == {str(X_HOA)}
        assert session.broken == []
    assert handshakes(bed) == before + 1


def test_mobike_in_place_of_the_outside_home_agent(bed: NodeBed) -> None:
    """RFC 5266: VPN-TIA as co-located care-of address, MOBIKE moves the SA."""
    keys = {"vpn_fa": False, "endpoint_update": False}
    bed.run_node("mc", "fvc", gateway=keys, login=VC, at="home")
    before = handshakes(bed)
    with bed.session() as session:
        for link in ("access1", "access2", "nat"):
            bed.move(link, "mc")
            session.goes_on()
        bed.move("plain", "c")
        session.goes_on()
        assert session.broken == []
    assert handshakes(bed) == before + 1


def test_three_layers_with_a_plain_client_s_address(bed: NodeBed) -> None:
    """cvc and fvc: what draft 001 makes mandatory, with any VPN gateway."""
    bed.run_node("cvc", "fvc", gateway={**WITHOUT, "vpn_fa": False}, login=VC, at="home")
    with bed.session() as session:
        for link, mode in (("access1", "cvc"), ("xfalink", "fvc"), ("access2", "cvc")):
            bed.move(link, mode)
            session.goes_on()
        assert session.broken == []


# -- what is refused -----------------------------------------------------------------------------


@pytest.fixture
def plain_gateway(bed: NodeBed) -> Iterator[NodeBed]:
    gateway_again(bed, endpoint_update="off", mobike=False)
    yield bed
    gateway_again(bed, endpoint_update="allowed")


def test_without_endpoint_update_ike_begins_anew_above_the_outside_home_agent(
    plain_gateway: NodeBed,
) -> None:
    """001, 3.3: abandon the first IKE SA, register with the x-HA, restart from the x-HoA."""
    bed = plain_gateway
    bed.run_node("vf", "cvf", at="home")
    bed.move("access1", "cvf")
    assert outer_addresses(bed) == {str(X_HOA)}
    assert bed.ping("device", SERVER)
    assert [line["home_address"] for line in bed.boxes["xha"].events("registered")][-1] == str(
        X_HOA
    )


# -- NAT traversal -------------------------------------------------------------------------------


def test_nat_below_ipsec(bed: NodeBed) -> None:
    bed.run_node("vf", at="home")
    bed.move("nat", "vf")
    assert bed.ping("device", SERVER)
    assert bed.octets("nat") == 57 + 8


def test_nat_below_x_mip(bed: NodeBed) -> None:
    bed.run_node("cvf", gateway=WITHOUT, at="home")
    bed.move("nat", "cvf")
    assert bed.ping("device", SERVER)
    assert bed.octets("nat") == 77 + 12


def test_nat_between_gateway_and_inside_home_agent(bed: NodeBed) -> None:
    """3.9: some gateways translate inner addresses; i-MIP goes through it in UDP."""
    with translated(bed.lab, "core"):
        bed.run_node("vc", gateway={"vpn_fa": False}, login=VC, at="home")
        bed.move("access1", "vc")
        assert bed.ping("device", SERVER)
        assert bed.octets("access1") == 77 + 12


def test_nat_at_all_three_layers(bed: NodeBed) -> None:
    with translated(bed.lab, "core", "xha"):
        keys = {**WITHOUT, "vpn_fa": False}
        bed.run_node("cvc", gateway=keys, login=VC, at="home")
        bed.move("nat", "cvc")
        assert bed.ping("device", SERVER)
        assert bed.octets("nat") == 97 + 12 + 8 + 12


# -- zero overhead, and proof --------------------------------------------------------------------


def test_zero_overhead_on_the_node_s_side(bed: NodeBed) -> None:
    """Address switching both ways: IP(CoA, x-HA) on the wire, and not an octet more."""
    bed.run_node("cvf", gateway=WITHOUT, at="home")
    with bed.session() as session:
        bed.move("access1", "cvf")
        session.goes_on()
        session.pause_download(paused=True)
        assert bed.octets("access1") == 57
        session.pause_download(paused=False)
        bed.move("access2", "cvf")
        session.goes_on()
        assert session.broken == []
    assert bed.octets("access2") == 57
    assert outer_addresses(bed) == {str(X_HOA)}


def test_a_late_answer_of_the_inside_home_agent_wins(bed: NodeBed) -> None:
    """4.3: unreachable at first, the i-HA is asked again while the node works outside."""
    bed.lab.nft("core", "table ip late { chain f { type filter hook forward priority -100;"
                        f" iifname \"plain\" ip daddr {I_HA} drop; }}; }}")  # fmt: skip
    bed.run_node("vf", "cvf", at="home")
    bed.move("plain", "vf")
    bed.lab.nft("core", "delete table ip late")
    bed.node.wait_for_mode("c")
    assert bed.octets("plain") == 20


def test_inside_the_outside_home_agent_forgets_the_node(bed: NodeBed) -> None:
    """4.3: whoever is inside deregisters from the x-HA."""
    bed.run_node("cvf", gateway=WITHOUT, at="home")
    bed.move("access1", "cvf")
    assert bindings(bed, "xha") == {str(X_HOA)}
    bed.move("plain", "c")
    wait_until(lambda: not bindings(bed, "xha"), 15, "the deregistration")


def test_at_home_there_is_no_binding(bed: NodeBed) -> None:
    bed.run_node("vf", at="home")
    bed.move("plain", "c")
    assert bindings(bed, "iha") == {str(I_HOA)}
    bed.move("home", "home")
    wait_until(lambda: not bindings(bed, "iha"), 15, "the deregistration")
    assert bed.ping("device", plan.NEIGHBOUR)


def test_profile_without_mobile_ip_is_a_plain_vpn(bed: NodeBed) -> None:
    bed.run_node("v", inside_agent=False, outside_agent=None, login=VC)
    bed.move("access1", "v")
    assert bed.ping("device", SERVER)
    before = handshakes(bed)
    bed.move("access2", "v")
    assert bed.ping("device", SERVER)
    assert handshakes(bed) == before


def bindings(bed: NodeBed, host: str) -> set[str]:
    items = bed.boxes[host].call("bindings")["items"]
    return {str(one["home_address"]) for one in items}


def test_everything_was_well(bed: NodeBed) -> None:
    for box in (box for _, box in bed.boxes.items()):
        assert not [line for line in box.log() if line.get("level") == "error"]
