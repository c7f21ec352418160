"""One credential for all layers (draft 002, 4.2.1 and 4.2.2): the profile has a login only."""

from collections.abc import Iterator

import pytest
from node_bed import GATEWAY, I_HOA, SERVER, X_HOA, NodeBed, node_bed

from gateway.lab.mobility import one_login, plan

pytestmark = pytest.mark.kernel

LOGIN = {"identity": one_login.USER}


@pytest.fixture
def bed() -> Iterator[NodeBed]:
    with node_bed("access1", started={}) as bed:
        yield bed


def test_everything_but_the_login_is_learnt(bed: NodeBed) -> None:
    """First outside: the login teaches both home agents. Then inside: the i-HA knows the ticket."""
    bed.boxes.start(one_login.boxes(bed.lab))
    bed.run_node(by_hand=False, login=LOGIN)
    # The first time it cannot ask for a home address of which it has never heard.
    found = bed.node.wait_for_mode("vf", "vc")
    assert found["home_address"] == str(I_HOA)
    with bed.session() as session:
        session.goes_on()
        bed.move("plain", "c")
        session.goes_on()
        bed.go("access2")
        bed.node.wait_for_mode("vf", "vc")
        session.goes_on()
        assert session.broken == []
    registered = bed.boxes["iha"].events("registered")
    assert {line["home_address"] for line in registered} == {str(I_HOA)}
    # What was learnt is kept: the next start is inside at once, without any login.
    bed.go("plain")
    bed.run_node(by_hand=False, login=LOGIN, at="c")
    assert bed.ping("device", SERVER)


def test_the_outside_home_agent_in_the_gateways_own_box_is_learnt(bed: NodeBed) -> None:
    """Without endpoint update and MOBIKE in the profile the x-MIP layer carries IPsec."""
    address = f"{plan.GATEWAY_HOME_AGENT}/28"
    bed.lab.run("gw", ["ip", "address", "replace", address, "dev", "outside"])
    way = ["ip", "route", "replace", str(plan.OUTSIDE_HOME_NETWORK), "via", str(GATEWAY)]
    bed.lab.run("internet", way)
    bed.boxes.start(one_login.boxes(bed.lab, outside_in_gateway=True))
    # The first login has to come from the link itself: nothing else is known yet.
    bed.run_node(by_hand=False, login=LOGIN)
    bed.node.wait_for_mode("vf", "vc", "cvf", "cvc")
    keys = {"endpoint_update": False, "mobike": False}
    bed.run_node("cvf", by_hand=False, login=LOGIN, gateway=keys)
    bed.node.wait_for_mode("cvf")
    assert bed.ping("device", SERVER)
    (sa,) = [one for one in bed.boxes["gw"].call("ike-sas")["items"]
             if str(one["remote"]).startswith(str(X_HOA))]  # fmt: skip
    assert bed.octets("access1") == 57
    bed.move("access2", "cvf")
    assert bed.ping("device", SERVER)
    assert sa["id"] in {one["id"] for one in bed.boxes["gw"].call("ike-sas")["items"]}
