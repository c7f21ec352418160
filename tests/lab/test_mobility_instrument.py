"""The instruments of the Mobile IPv4 scenarios, tried on a home agent made of `ip` commands.

What the gateway's own agents do is tested elsewhere; here the topology and the mobile node.
"""

import os
import socket
import threading
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address

import pytest

from gateway.lab import netns
from gateway.lab.capture import judge
from gateway.lab.measured import start_download
from gateway.lab.mobility import plan
from gateway.lab.mobility.mobile_node import MobileNode
from gateway.lab.mobility.topology import MobilityLab
from gateway.lab.mobility.user_tunnel import make_tunnel
from gateway.lab.plan import SERVER
from gateway.mip_agents.authentication import sign, verify
from gateway.mip_agents.codec.extensions import AuthenticationKind, UdpTunnelReply, UdpTunnelRequest
from gateway.mip_agents.codec.registration import RegistrationReply, RegistrationRequest

pytestmark = pytest.mark.kernel

NODE = plan.INSIDE_ASSOCIATION


@pytest.fixture(scope="module")
def lab() -> Iterator[MobilityLab]:
    lab = MobilityLab(f"i{os.getpid()}-")
    lab.up(fresh=True, access="home")
    try:
        yield lab
    finally:
        lab.down()


class StandIn:
    """Answers registrations for one mobile node and tunnels."""

    def __init__(self, lab: MobilityLab) -> None:
        self._lab = lab
        self._socket = netns.socket_in(lab.namespace("iha"), socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((str(plan.INSIDE_HOME_AGENT), 434))
        self.wrong: list[str] = []
        self._unbind: Callable[[], None] = lambda: None
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            message, peer = self._socket.recvfrom(2048)
            if message[0] == 4:
                self._socket.sendto(message, peer)
                continue
            request = RegistrationRequest.parse(message)
            (proof,) = request.authentications(AuthenticationKind.MOBILE_HOME)
            if not verify(message, proof, NODE):
                self.wrong.append("authenticator")
            in_udp = request.first(UdpTunnelRequest) is not None
            self._bind(None if not request.lifetime_s or in_udp else request.care_of_address)
            reply = RegistrationReply(
                0,
                request.lifetime_s,
                request.home_address,
                request.home_agent,
                request.identification,
                (UdpTunnelReply(0),) if in_udp else (),
            )
            self._socket.sendto(sign(reply.serialize(), AuthenticationKind.MOBILE_HOME, NODE), peer)

    def _bind(self, care_of: IPv4Address | None) -> None:
        home, run = plan.INSIDE_HOME_ADDRESS, self._lab.run
        self._unbind()
        self._unbind = lambda: None
        run("iha", ["ip", "neighbour", "del", "proxy", str(home), "dev", "home"], check=False)
        if care_of is None:
            return
        ends = plan.INSIDE_HOME_AGENT, care_of
        self._unbind = make_tunnel(self._lab, "iha", "there", ends)
        run("iha", f"ip route add {home} dev there".split())
        run("iha", f"ip neighbour add proxy {home} dev home".split())


@pytest.fixture(scope="module")
def agent(lab: MobilityLab) -> StandIn:
    return StandIn(lab)


@pytest.fixture
def node(lab: MobilityLab) -> Iterator[MobileNode]:
    with MobileNode(
        lab,
        "device",
        "i",
        2,
        home_address=plan.INSIDE_HOME_ADDRESS,
        home_agent=plan.INSIDE_HOME_AGENT,
        association=NODE,
        default_route=True,
    ) as node:
        yield node


def pings(lab: MobilityLab, host: str, to: object, source: object | None = None) -> bool:
    argv = ["ping", "-n", "-q", "-c", "3", "-i", "0.2", "-W", "2"]
    argv += ["-I", str(source)] if source else []
    return " 0% packet loss" in lab.run(host, [*argv, str(to)], check=False).stdout


def links_up(lab: MobilityLab) -> str:
    return lab.run("device", ["ip", "-br", "link", "show", "up"]).stdout


def test_every_place_of_the_topology_reaches_what_it_should(lab: MobilityLab) -> None:
    lab.move("plain")
    assert pings(lab, "device", SERVER)
    assert pings(lab, "device", plan.NEIGHBOUR)
    lab.move("access1")
    assert pings(lab, "device", plan.OUTSIDE_HOME_AGENT)
    assert pings(lab, "device2", plan.OUTSIDE_FOREIGN_AGENT)
    assert pings(lab, "device2", plan.OUTSIDE_HOME_AGENT)
    assert pings(lab, "ifa", plan.NEIGHBOUR)
    lab.enter_link("ifalink")
    assert lab.access() == []
    assert "ifalink" in links_up(lab)
    lab.move("home")
    assert pings(lab, "device", plan.NEIGHBOUR)
    assert "ifalink" not in links_up(lab)


def test_a_session_lives_while_the_node_moves_between_home_and_a_subnet(
    lab: MobilityLab, agent: StandIn, node: MobileNode
) -> None:
    lab.move("home")
    node.at_home(lab.accesses["home"], deregister=False)
    url = f"http://{SERVER}/stream?rate=200000"
    download = start_download(lab, url)
    download.wait_for("bytes", 50_000)
    capture = lab.capture("core", "plain", "plain")
    for place in ("plain", "home", "plain"):
        lab.move(place)
        before = download.latest("bytes")
        if place == "home":
            assert node.at_home(lab.accesses["home"]).accepted
        else:
            assert node.co_located(lab.accesses["plain"]).accepted
        download.wait_for("bytes", before + 100_000)
    assert download.stop()["error"] is None
    assert judge(capture.stop()) == []
    assert agent.wrong == []
    # The neighbour on the home link finds it by proxy ARP, and broadcasts no longer matter.
    lab.run("neighbour", ["ip", "neighbour", "flush", "all"])
    assert pings(lab, "neighbour", plan.INSIDE_HOME_ADDRESS)


def test_packets_go_through_a_udp_tunnel(
    lab: MobilityLab, agent: StandIn, node: MobileNode
) -> None:
    lab.move("plain")
    answer = node.co_located(lab.accesses["plain"], udp=UdpTunnelRequest())
    assert answer.in_udp
    # The stand-in sends back what it gets: the device's own packets arrive at the device.
    lab.run("device", ["ping", "-c", "2", "-W", "1", str(SERVER)], check=False)
    assert node.tunnel.counters["sent"] >= 2
    assert node.tunnel.counters["received"] == node.tunnel.counters["sent"]
