"""The deployment scenarios of the problem statement (draft 003, section 2) and its guidelines (5).

What the draft calls MN is the product's mobile node; MIPv4 agents and VPN gateways are the
product's, or strongSwan's where guidelines speak of what exists already.
"""

import time
from collections.abc import Iterator
from typing import Any

import pytest
from node_bed import GATEWAY, I_HA, I_HOA, SERVER, X_HOA, NodeBed, Watch, node_bed

from gateway.lab.capture import dissect, judge
from gateway.lab.mobility import boxes, plan, profiles, roles
from gateway.lab.mobility.stage import translated
from gateway.lab.strongswan import StrongSwan

pytestmark = pytest.mark.kernel

VC = {"identity": profiles.identity("vc")}
BASIC = {"vpn_fa": False, "endpoint_update": False, "mobike": False}
"""What every VPN gateway has: none of the drafts' extensions."""

STRONGSWAN_GATEWAY = f"""
connections {{
  road {{
    version = 2
    local_addrs = {GATEWAY}
    pools = road
    proposals = aes256gcm16-prfsha384-ecp384, aes256gcm16-prfsha256-x25519, default
    local {{
      auth = psk
      id = {roles.GATEWAY_ID}
    }}
    remote {{
      auth = psk
      id = %any
    }}
    children {{
      net {{
        local_ts = {roles.INNER_NETWORK}
        esp_proposals = aes256gcm16, default
      }}
    }}
  }}
}}
pools {{
  road {{
    addrs = {roles.POOL}
  }}
}}
secrets {{
  ike-1 {{
    secret = "{roles.PSK}"
  }}
}}
"""


@pytest.fixture(scope="module")
def shared() -> Iterator[NodeBed]:
    with node_bed(endpoint_update="allowed") as bed:
        yield bed


@pytest.fixture
def bed(shared: NodeBed) -> Iterator[NodeBed]:
    shared.go("home")
    yield shared
    shared.node.stop()
    if "gw" not in shared.boxes:
        shared.boxes.start(boxes.vpn(endpoint_update="allowed"))


def lives(bed: NodeBed, *moves: tuple[str, str]) -> None:
    """One session through these moves, (link, mode) each."""
    with bed.session() as session:
        for link, mode in moves:
            bed.move(link, mode)
            session.goes_on()
        assert session.broken == []


def youngest(bed: NodeBed) -> dict[str, Any]:
    """The IKE SA of this run; one of an earlier run may not have timed out yet."""
    items: list[dict[str, Any]] = bed.boxes["gw"].call("ike-sas")["items"]
    return min(items, key=lambda one: float(one["age_s"]))


# -- section 2 -----------------------------------------------------------------------------------


def test_2_1_home_agent_inside_the_intranet_behind_a_vpn_gateway(bed: NodeBed) -> None:
    """No agent outside: MIPv4 runs inside IPsec, whose SA moves instead of being negotiated."""
    bed.run_node("vf", outside_agent=None, at="home")
    lives(bed, ("plain", "c"), ("access1", "vf"), ("nat", "vf"), ("home", "home"))


def test_2_1_a_foreign_agent_outside_cannot_help_without_a_home_agent_outside(bed: NodeBed) -> None:
    """It sees nothing but IPsec; the node waits, and nothing of the user's leaves."""
    bed.run_node("vf", outside_agent=None, at="home")
    with Watch(bed, links=("xfalink",)) as watch:
        moved_at = time.time()
        bed.go("xfalink")
        bed.node.wait_for_mode("held")
        watch.tries()
        assert bed.node.mode() == "held"
        assert watch.leaks_outside(moved_at) == []


def test_2_2_home_agent_on_the_border_beside_the_vpn_gateway(bed: NodeBed) -> None:
    """It is reachable from everywhere; IPsec-ESP runs inside the MIPv4 tunnel."""
    bed.run_node("v", inside_agent=False, gateway=BASIC, login=VC)
    bed.move("access1", "v")
    assert bed.ping("device", SERVER)
    sa = youngest(bed)
    assert str(sa["remote"]).startswith(str(X_HOA))
    bed.move("nat", "v")
    assert bed.ping("device", SERVER)
    assert youngest(bed)["id"] == sa["id"]


def test_2_3_vpn_gateway_and_home_agent_in_one_box(bed: NodeBed) -> None:
    """001, section 6.5: as cheap as endpoint update, and IPsec knows nothing of it."""
    lab = bed.lab
    lab.run("gw", ["ip", "address", "replace", f"{plan.GATEWAY_HOME_AGENT}/28", "dev", "outside"])
    way = ["ip", "route", "replace", str(plan.OUTSIDE_HOME_NETWORK), "via"]
    lab.run("internet", [*way, str(GATEWAY)])
    bed.boxes.start({"gw": lambda folder: roles.vpn_gateway(folder, outside_agent=True)})
    try:
        bed.run_node(
            "cvf",
            gateway={"endpoint_update": False, "mobike": False},
            outside_agent=plan.GATEWAY_HOME_AGENT,
            at="home",
        )
        lives(bed, ("access1", "cvf"), ("access2", "cvf"), ("home", "home"))
        bed.move("access1", "cvf")
        assert bed.octets("access1") == 57
    finally:
        bed.boxes.start(boxes.vpn(endpoint_update="allowed"))
        lab.run("internet", [*way, str(plan.OUTSIDE_HOME_AGENT)])
        lab.run("gw", ["ip", "address", "delete", f"{plan.GATEWAY_HOME_AGENT}/28", "dev",
                       "outside"])  # fmt: skip


def test_2_4_home_agent_outside_in_an_operators_network(bed: NodeBed) -> None:
    """Mobility outside only: the node roams between operators' networks and foreign agents."""
    bed.run_node("v", inside_agent=False, gateway=BASIC, login=VC)
    bed.move("access1", "v")
    assert bed.ping("device", SERVER)
    before = len(bed.boxes["gw"].events("ike_sa_established"))
    bed.move("xfalink", "v")
    assert bed.ping("device", SERVER)
    bed.move("access2", "v")
    assert bed.ping("device", SERVER)
    assert len(bed.boxes["gw"].events("ike_sa_established")) == before


def test_2_5_vpn_gateway_and_home_agent_on_the_local_link_behind_a_firewall(bed: NodeBed) -> None:
    """A NAT in front of the gateway itself: its public address belongs to the firewall."""
    public = "192.0.2.14"
    bed.lab.nft(
        "internet",
        f"""table ip firewall {{
            chain in {{
                type nat hook prerouting priority dstnat; policy accept;
                ip daddr {public} udp dport {{ 500, 4500 }} dnat to {GATEWAY}
            }}
        }}""",
    )
    bed.lab.run("internet", ["ip", "route", "replace", f"{public}/32", "via", str(GATEWAY)])
    try:
        bed.run_node("vf", gateway={"address": public}, outside_agent=None, at="home")
        lives(bed, ("access1", "vf"), ("nat", "vf"), ("home", "home"))
    finally:
        bed.lab.nft("internet", "delete table ip firewall")
        bed.lab.run("internet", ["ip", "route", "delete", f"{public}/32"])


# -- section 5 -----------------------------------------------------------------------------------


@pytest.fixture
def strongswan(bed: NodeBed) -> Iterator[StrongSwan]:
    """Somebody else's VPN gateway, which has never heard of Mobile IP."""
    bed.boxes.end("gw")
    swan = StrongSwan(bed.lab, "gw")
    swan.start()
    swan.load(STRONGSWAN_GATEWAY)
    yield swan
    print(f"--- charon\n{swan.log()[-4000:]}")
    bed.node.stop()
    swan.stop()


def three_layers(bed: NodeBed, at: str = "home") -> None:
    bed.run_node("cvc", "fvc", gateway=BASIC, login=VC, at=at)


def test_5_1_existing_vpn_gateways_stay_as_they_are(bed: NodeBed, strongswan: StrongSwan) -> None:
    """Our agents around strongSwan: the session lives inside, outside, behind foreign agents."""
    three_layers(bed)
    lives(
        bed,
        ("plain", "c"),
        ("access1", "cvc"),
        ("xfalink", "fvc"),
        ("nat", "cvc"),
        ("home", "home"),
    )


def test_5_2_no_upgrade_of_the_gateway_is_needed_for_seamless_moves(
    bed: NodeBed, strongswan: StrongSwan
) -> None:
    """MOBIKE is what strongSwan has: RFC 5266 works with it as it comes."""
    keys = {"vpn_fa": False, "endpoint_update": True, "mobike": True}
    bed.run_node("mc", gateway=keys, login=VC, at="home")
    lives(bed, ("access1", "mc"), ("access2", "mc"), ("plain", "c"))


def test_5_3_ike_and_ipsec_are_the_standard_s(bed: NodeBed, strongswan: StrongSwan) -> None:
    """Every message is well-formed to tshark, and the extensions offered are not insisted on."""
    capture = bed.lab.capture("gw", "outside", "standard", "udp port 500 or udp port 4500")
    bed.run_node("vf", "vc", "cvf", "cvc", "mc", login=VC, at="home")
    bed.go("access1")
    found = bed.node.wait_for(lambda one: one["mode"] in {"cvc", "mc"}, "a mode for it")
    assert bed.ping("device", SERVER)
    assert found["mode"] in {"cvc", "mc"}
    pcap = capture.stop()
    assert judge(pcap) == []


def test_5_4_agents_gateway_and_client_of_several_vendors(
    bed: NodeBed, strongswan: StrongSwan
) -> None:
    """No part knows of the others: strongSwan sees one peer, at the x-HoA, that never moves."""
    three_layers(bed)
    lives(bed, ("access1", "cvc"), ("access2", "cvc"))
    (sa,) = strongswan.established()
    assert sa.remote.startswith(str(X_HOA))


def test_5_5_mobile_ipv4_is_the_standard_s(bed: NodeBed) -> None:
    """Requests and replies on the wire are what tshark knows, with both agents and without."""
    three_layers(bed)
    capture = bed.lab.capture("xha", "uplink", "mobile-ip", "udp port 434")
    bed.move("access1", "cvc")
    bed.move("xfalink", "fvc")
    pcap = capture.stop()
    assert judge(pcap) == []
    kinds = {row[0] for row in dissect(pcap, "mip", ["mip.type"])}
    assert {"1", "3"} <= kinds <= {"1", "3", "7"}  # 7: a revocation (RFC 3543)
    codes = {row[0] for row in dissect(pcap, "mip.type == 3", ["mip.code"])}
    assert codes <= {"0", "1"}


def test_5_6_a_handoff_costs_no_key_management(bed: NodeBed) -> None:
    """Not one IKE message crosses the gateway's wire while the node changes its network."""
    three_layers(bed)
    bed.move("access1", "cvc")
    capture = bed.lab.capture("gw", "outside", "handoff", "udp port 500 or udp port 4500")
    lives(bed, ("access2", "cvc"), ("xfalink", "fvc"))
    rows = dissect(capture.stop(), "isakmp", ["isakmp.exchangetype"])
    assert {row[0] for row in rows} <= {"37"}  # liveness checks


def test_5_7_one_node_is_one_entry_everywhere(bed: NodeBed) -> None:
    """State grows by one binding, one visitor, one SA for each node, however often it moves."""
    three_layers(bed)
    for link, mode in (("access1", "cvc"), ("xfalink", "fvc"), ("nat", "cvc"), ("access2", "cvc")):
        bed.move(link, mode)
    assert len(bed.boxes["gw"].call("ike-sas")["items"]) == 1
    assert len(bed.boxes["gw"].call("child-sas")["items"]) == 1
    for host in ("iha", "xha"):
        assert len(bed.boxes[host].call("bindings")["items"]) == 1


def test_5_8_no_entity_but_the_known_ones_is_needed(bed: NodeBed) -> None:
    """Without foreign agents anywhere: home agents and a VPN gateway are enough."""
    ended = ("ifa", "xfa")
    bed.boxes.end(*ended)
    try:
        three_layers(bed)
        lives(bed, ("plain", "c"), ("access1", "cvc"), ("access2", "cvc"))
    finally:
        bed.boxes.start({host: boxes.agents()[host] for host in ended})


def test_5_9_nat_gateways_on_the_way(bed: NodeBed) -> None:
    """RFC 3519 and RFC 3947 as they are, at every layer, while the session lives."""
    with translated(bed.lab, "internet", "core"):
        three_layers(bed)
        lives(bed, ("nat", "cvc"), ("access1", "cvc"))


def test_5_10_nothing_is_less_safe_than_ipsec_alone(bed: NodeBed) -> None:
    """Outside nothing of the user's is in the clear, and the i-HA cannot be reached."""
    three_layers(bed)
    with Watch(bed) as watch:
        moved_at = time.time()
        bed.go("access1")
        bed.node.wait_for_mode("cvc")
        watch.tries()
        assert watch.leaks_outside(moved_at) == []
    denied = [line for line in bed.boxes["iha"].events("registered") if line["code"] != 0]
    assert denied == []
    assert not bed.ping("server", I_HOA, count=1)  # nobody asked for it
    argv = ["ping", "-c", "1", "-W", "1", str(I_HA)]
    assert bed.lab.run("internet", argv, check=False).returncode != 0
