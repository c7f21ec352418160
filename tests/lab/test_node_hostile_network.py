"""Networks that do not want us (draft 002, sections 4.2.5 and 4.2.6): portals, port 443 only."""

# planes: kernel portable

import time
from collections.abc import Iterator
from ipaddress import IPv4Address

import pytest
from node_bed import GATEWAY, PORTAL_PROBES, SERVER, NodeBed, Watch, node_bed, with_ipv6

from gateway.lab.mobility import boxes, roles
from gateway.lab.mobility.portal import CaptivePortal
from gateway.lab.processes import wait_until

pytestmark = pytest.mark.kernel

HOTEL = "access2"
PROBE = "http://198.51.100.200/generate_204"
PROBED = (IPv4Address("198.51.100.200"), 80)
ONLY_443 = f"""
table ip proxy {{
    chain forward {{
        type filter hook forward priority filter; policy accept;
        iifname "device" ip daddr {GATEWAY} tcp dport 443 accept
        iifname "device" drop
    }}
}}
"""
NO_TUNNELS = """
table ip proxy {
    chain forward {
        type filter hook forward priority filter; policy accept;
        ip protocol { ipencap, esp, gre } drop
    }
}
"""
FREE = "add table ip proxy; delete table ip proxy"


@pytest.fixture(scope="module")
def shared() -> Iterator[NodeBed]:
    def listening(folder: object) -> str:
        text = roles.vpn_gateway(folder, endpoint_update="allowed")
        listen = f'listen = ["{GATEWAY}"]'
        return text.replace(listen, f'{listen}\ntcp_listen = ["{GATEWAY}:443", "{GATEWAY}:4500"]')

    with node_bed(started={**boxes.agents(), "gw": listening}) as bed:
        yield bed


@pytest.fixture
def bed(shared: NodeBed) -> Iterator[NodeBed]:
    shared.go("home")
    yield shared
    shared.node.stop()
    for host in ("access1", "access2"):
        shared.lab.nft(host, FREE)


def verdict(bed: NodeBed, link: str) -> str:
    links = bed.node.status()["interfaces"]
    return next((str(one["verdict"]) for one in links if one["interface"] == link), "")


@pytest.mark.parametrize("url", [None, PROBE], ids=["by-gateway", "by-url"])
def test_a_captive_portal_is_recognised_and_waited_out(bed: NodeBed, url: str | None) -> None:
    """It is reported, nothing leaks to it, and once somebody has logged in the node goes on."""
    network = {} if url is None else {"portal_probe": url}
    bed.run_node("vf", "cvf", network=network, at="home")
    with CaptivePortal(bed.lab, HOTEL) as portal, Watch(bed, (*PORTAL_PROBES, PROBED)) as watch:
        moved_at = time.time()
        bed.go(HOTEL)
        with_ipv6(bed, HOTEL)
        wait_until(lambda: "captive" in verdict(bed, HOTEL), 30, "the portal to be recognised")
        assert bed.node.mode() == "held"
        assert portal.pages >= 1
        assert "login" in str(bed.node.status()["why"])
        watch.tries()
        if url is not None:  # whoever it is: let him answer as the probe wants it
            bed.node.wait_for(lambda found: found["mode"] == "held", "waiting")
        portal.let_in()
        bed.node.wait_for_mode("vf", "cvf", timeout_s=60)
        assert watch.leaks_outside(moved_at) == []
    assert bed.ping("device", SERVER)


def test_a_network_that_passes_only_tcp_443(bed: NodeBed) -> None:
    """IKE and ESP in TCP (RFC 9329); the session lives, also back where UDP works."""
    bed.run_node("vf", "cvf", at="home")
    with bed.session() as session, Watch(bed) as watch:
        moved_at = time.time()
        bed.lab.nft("access1", ONLY_443)
        bed.go("access1")
        found = bed.node.wait_for(
            lambda one: one["mode"] == "vf" and "TCP" in detail(one), "vf by TCP", 60
        )
        assert found["mode"] == "vf"
        session.goes_on(60)
        watch.tries(200)
        assert watch.leaks_outside(moved_at) == []
        bed.go(HOTEL)
        bed.node.wait_for_mode("vf", "cvf", timeout_s=60)
        session.goes_on(60)
        assert session.broken == []
    assert bed.ping("device", SERVER)


def detail(status: dict[str, object]) -> str:
    layers = status["layers"]
    assert isinstance(layers, list)
    return " ".join(f"{one['state']} {one['detail']}" for one in layers if one["name"] == "VPN")


def test_forced_udp_passes_a_network_that_drops_tunnels(bed: NodeBed) -> None:
    """Registrations get through there, IP-IP and ESP do not (draft 002, section 4.2.5)."""
    bed.lab.nft("access1", NO_TUNNELS)
    bed.run_node("vf", network={"force_udp_encapsulation": True}, at="home")
    bed.move("access1", "vf")
    assert bed.ping("device", SERVER)
    assert bed.octets("access1") == 57 + 8


def test_forced_udp_below_x_mip(bed: NodeBed) -> None:
    bed.lab.nft("access1", NO_TUNNELS)
    bed.run_node(
        "cvf",
        gateway={"endpoint_update": False, "mobike": False},
        network={"force_udp_encapsulation": True},
        at="home",
    )
    bed.move("access1", "cvf")
    assert bed.ping("device", SERVER)
    assert bed.octets("access1") >= 77 + 12
