"""Further paths of a mobile node: UDP tunnels, address switching, path MTU, moving, waiting."""

# planes: kernel portable

import socket
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from dataplane_bed import entered, inside, run
from node_kernel_bed import (
    AT_HOME,
    AWAY,
    CARE_OF,
    EXTERNAL_AGENT,
    EXTERNAL_HOME,
    GATEWAY,
    HOME,
    HOST,
    INTERNAL_AGENT,
    NODE,
    PEERS,
    ROUTER_ADDRESS,
    VPN_INNER,
    NodeBed,
    external,
    internal,
    node_bed,
    stack_c,
    stack_cvc,
    stack_vc,
)

from gateway.dataplane.kernel.node import constants
from gateway.dataplane.node import Attachment, LayerStack, VpnLayer
from gateway.domain.access_mode import AccessMode
from gateway.domain.mobility import Encapsulation
from gateway.lab import planes
from gateway.lab.mobility.wires import Wired, read

pytestmark = pytest.mark.kernel


@pytest.fixture(scope="module")
def namespaces() -> Iterator[NodeBed]:
    with node_bed() as made:
        yield made


@pytest.fixture
def bed(namespaces: NodeBed) -> Iterator[NodeBed]:
    yield namespaces
    namespaces.clean()


def pinged(bed: NodeBed, *words: object) -> list[Wired]:
    """What passed the link for one ping that was answered."""
    capture = bed.capture(NODE, "w0")
    assert bed.ping(HOST, *words), (bed.counters(), [read(p.octets) for p in capture.packets()])
    return [read(packet.octets) for packet in capture.packets()]


@pytest.mark.parametrize("checksum", [False, True])
def test_udp_tunnels_at_both_mobile_ip_layers_at_once(bed: NodeBed, checksum: bool) -> None:
    bed.start()
    bed.vpn(EXTERNAL_HOME)
    bed.agent_end("xt", EXTERNAL_AGENT, CARE_OF, EXTERNAL_HOME, udp=True, checksum=checksum)
    bed.agent_end("it", INTERNAL_AGENT, VPN_INNER, HOME, udp=True, checksum=checksum)
    bed.apply(stack_cvc(external(udp_port=434), internal(udp_port=434)))
    wired = pinged(bed)
    assert {one.shape for one in wired} == {"ip/tunnel/ip/esp"}
    assert {one.overhead_octets for one in wired} == {32}
    # 84 + 32 of the inner tunnel, 36 of ESP with 2 octets of padding and trailer, 20 of its header.
    assert wired[0].inner.octets == 20 + 8 + 8 + (84 + 32 + 2 + 2) + 16
    counters = bed.counters()
    assert counters["udp_tunnel_out"] == 2
    assert counters["udp_tunnel_in"] == 2


def test_signalling_reaches_the_socket_beside_a_udp_tunnel(bed: NodeBed) -> None:
    bed.start()
    bed.agent_end("xt", EXTERNAL_AGENT, CARE_OF, EXTERNAL_HOME, udp=True)
    bed.apply(LayerStack(attachment=AWAY, external=external(udp_port=434), home_address=HOME))
    with bed.udp(mark=constants.NODE_LINK, interface="w0") as made, bed.udp(PEERS) as agent:
        made.bind(("", 434))
        agent.bind((str(EXTERNAL_AGENT), 434))
        made.sendto(b"\1request", (str(EXTERNAL_AGENT), 434))
        assert agent.recvfrom(100) == (b"\1request", (str(CARE_OF), 434))
        agent.sendto(b"\3reply", (str(CARE_OF), 434))
        assert made.recv(100) == b"\3reply"
        assert bed.ping(EXTERNAL_AGENT, "-I", EXTERNAL_HOME, "-m", constants.NODE_VPN)


def test_fvc_sends_esp_to_the_foreign_agent_without_a_tunnel(bed: NodeBed) -> None:
    bed.start()
    agent = bed.foreign_agent(EXTERNAL_HOME)
    bed.vpn(EXTERNAL_HOME)
    bed.agent_end("it", INTERNAL_AGENT, VPN_INNER, HOME)
    attachment = Attachment("w0", EXTERNAL_HOME, ROUTER_ADDRESS, agent)
    stack = replace(
        stack_cvc(external(co_located=False, care_of_address=ROUTER_ADDRESS)),
        mode=AccessMode.FVC,
        attachment=attachment,
    )
    bed.apply(stack)
    (first, *_) = pinged(bed)
    assert first.shape == "ip/esp"
    assert str(first.outer) == f"{EXTERNAL_HOME} > {GATEWAY}"


@pytest.mark.parametrize("mode", [AccessMode.VF, AccessMode.CVF, AccessMode.V])
def test_the_users_packets_are_in_esp_without_an_inner_tunnel(
    bed: NodeBed, mode: AccessMode
) -> None:
    inner = VPN_INNER if mode is AccessMode.V else HOME
    outer = EXTERNAL_HOME if mode is AccessMode.CVF else CARE_OF
    bed.start()
    bed.vpn(outer)
    inside(PEERS, "ip", "route", "replace", f"{inner}/32", "dev", "vg")
    if mode is AccessMode.CVF:
        bed.agent_end("xt", EXTERNAL_AGENT, CARE_OF, EXTERNAL_HOME)
    bed.apply(
        LayerStack(
            mode,
            AWAY,
            external=external() if mode is AccessMode.CVF else None,
            vpn=VpnLayer(outer, GATEWAY, inner),
            internal=None if mode is AccessMode.V else internal(GATEWAY, co_located=False),
            home_address=None if mode is AccessMode.V else HOME,
        )
    )
    (first, *_) = pinged(bed)
    assert first.shape == ("ip/ip/esp" if mode is AccessMode.CVF else "ip/esp")
    assert first.inner.octets == 20 + 8 + 8 + (84 + 2 + 2) + 16


def test_zero_overhead_switches_addresses_both_ways(bed: NodeBed) -> None:
    bed.start()
    bed.vpn(EXTERNAL_HOME)
    bed.agent_end("it", INTERNAL_AGENT, VPN_INNER, HOME)
    bed.agent_end("xt", EXTERNAL_AGENT, CARE_OF, EXTERNAL_HOME)
    with entered(PEERS):
        run("nft", "-f", "-", stdin=_AGENT_SWITCH)
    bed.apply(stack_cvc(external(zero_overhead=GATEWAY)))
    wired = pinged(bed)
    assert [(one.shape, str(one.outer)) for one in wired] == [
        ("ip/esp", f"{CARE_OF} > {EXTERNAL_AGENT}"),
        ("ip/esp", f"{EXTERNAL_AGENT} > {CARE_OF}"),
    ]
    # What would be fragments takes the tunnel.
    capture = bed.capture(NODE, "w0")
    for device in (constants.INNER_IP_IP, constants.XFRM_INTERFACE):
        inside(NODE, "ip", "link", "set", device, "mtu", 1500)
    inside(NODE, "ping", "-c", 1, "-W", 1, "-s", 1440, HOST, check=False)
    shapes = {read(packet.octets).shape for packet in capture.packets()}
    assert any(shape.startswith("ip/ip") for shape in shapes), shapes


_AGENT_SWITCH = f"""
table ip peer_switch {{
  chain out {{ type route hook output priority raw;
    ip saddr {GATEWAY} ip daddr {EXTERNAL_HOME} ip frag-off & 0x3fff == 0 \
      ip saddr set {EXTERNAL_AGENT} ip daddr set {CARE_OF}
  }}
  chain in {{ type filter hook prerouting priority raw;
    ip saddr {CARE_OF} ip daddr {EXTERNAL_AGENT} ip protocol esp \
      ip saddr set {EXTERNAL_HOME} ip daddr set {GATEWAY}
  }}
}}
"""


def test_a_packet_that_does_not_fit_is_refused_or_in_fragments(bed: NodeBed) -> None:
    bed.start()
    bed.vpn(EXTERNAL_HOME)
    bed.agent_end("xt", EXTERNAL_AGENT, CARE_OF, EXTERNAL_HOME)
    bed.agent_end("it", INTERNAL_AGENT, VPN_INNER, HOME)
    bed.apply(stack_cvc())
    told = inside(NODE, "ping", "-c", 1, "-W", 1, "-M", "do", "-s", 1300, HOST, check=False)
    assert "mtu" in told
    capture = bed.capture(NODE, "w0")
    assert bed.ping(HOST, "-M", "dont", "-s", 3000)
    assert max(one.outer.octets for one in (read(p.octets) for p in capture.packets())) <= 1500
    sent = [read(packet.octets).outer for packet in capture.packets()]
    assert not any(one.df for one in sent if one.source == CARE_OF)
    assert bed.ping(HOST, "-M", "do", "-s", 1300 - 28)


def test_a_tcp_session_lives_through_every_mode(bed: NodeBed) -> None:
    bed.start()
    with entered(PEERS):
        server = socket.create_server((str(HOST), 80))
    with entered(NODE):
        client = socket.socket()
    client.settimeout(5)
    home = LayerStack(AccessMode.HOME, AT_HOME, home_address=HOME)
    bed.apply(home)
    bed.permit("e0")
    with server, client:
        client.connect((str(HOST), 80))
        assert client.getsockname()[0] == str(HOME)
        accepted, _ = server.accept()
        accepted.settimeout(5)
        with accepted:
            for step in ("home", "c", "vc", "cvc", "gre", "udp", "home"):
                _take(bed, step, home)
                assert bed.ping(), step
                client.sendall(step.encode().ljust(5000))
                got = b""
                while len(got) < 5000:
                    got += accepted.recv(5000 - len(got))
                assert got.strip() == step.encode()
                accepted.sendall(b"back")
                assert client.recv(4) == b"back"
    devices = inside(NODE, "ip", "-o", "link")
    assert not any(name in devices for name in constants.TUNNELS)


def _take(bed: NodeBed, step: str, home: LayerStack) -> None:
    """Both ends of a step."""
    bed.forbid()
    inside(PEERS, "ip", "route", "del", f"{HOME}/32", check=False)
    if step == "home":
        inside(PEERS, "ip", "neighbour", "flush", "dev", "h1")
        bed.apply(home)
        bed.permit("e0")
    elif step == "c":
        bed.agent_end("it", INTERNAL_AGENT, CARE_OF, HOME)
        bed.apply(stack_c())
        bed.permit("w0")
    elif step == "vc":
        bed.vpn(CARE_OF)
        bed.agent_end("it", INTERNAL_AGENT, VPN_INNER, HOME)
        bed.apply(stack_vc())
    else:
        bed.vpn(EXTERNAL_HOME)
        kind = Encapsulation.GRE if step == "gre" else Encapsulation.IP_IP
        udp = step == "udp"
        bed.agent_end("xt", EXTERNAL_AGENT, CARE_OF, EXTERNAL_HOME, kind, udp=udp)
        bed.agent_end("it", INTERNAL_AGENT, VPN_INNER, HOME, kind, udp=udp)
        changes = {"encapsulation": kind, "udp_port": 434 if udp else 0}
        bed.apply(stack_cvc(external(**changes), internal(**changes)))


def test_packets_under_way_to_the_care_of_address_before_arrive(bed: NodeBed) -> None:
    bed.start()
    bed.agent_end("it", INTERNAL_AGENT, CARE_OF, HOME)
    bed.apply(stack_c())
    bed.permit("w0")
    with bed.udp() as made, bed.udp(PEERS) as peer:
        peer.bind((str(HOST), 53))
        made.sendto(b"question", (str(HOST), 53))
        _, back = peer.recvfrom(100)
        later = IPv4Address("192.0.2.11")
        inside(NODE, "ip", "address", "add", f"{later}/24", "dev", "w0")
        bed.apply(
            LayerStack(
                AccessMode.C,
                replace(AWAY, address=later),
                previous=AWAY,
                internal=internal(later),
                home_address=HOME,
            )
        )
        peer.sendto(b"to the old one", back)
        assert made.recv(100) == b"to the old one"
        bed.agent_end("it", INTERNAL_AGENT, later, HOME)
        peer.sendto(b"to the new one", back)
        assert made.recv(100) == b"to the new one"


def test_held_packets_wait_and_are_sent_when_released(bed: NodeBed) -> None:
    node = bed.start()
    held = LayerStack(attachment=AWAY, home_address=HOME)
    bed.apply(held)
    with bed.udp() as made, bed.udp(PEERS) as peer:
        peer.bind((str(HOST), 53))
        for number in range(3):
            made.sendto(b"%d" % number, (str(HOST), 53))
        made.sendto(b"x" * 4000, (str(HOST), 53))
        assert node.read_held() == 3 + 3
        assert node.read_held() == 0
        bed.agent_end("it", INTERNAL_AGENT, CARE_OF, HOME)
        bed.apply(stack_c())
        bed.permit("w0")
        assert node.release_held() == 6
        assert [peer.recv(5000) for _ in range(4)] == [b"0", b"1", b"2", b"x" * 4000]
        bed.apply(held)
        for _ in range(100):
            made.sendto(b"many", (str(HOST), 53))
        assert node.read_held() == 100
        assert node.release_held() == 64
        assert node.counters()["held_dropped"] == 36
        # Released while held they come back, and wait again.
        assert node.read_held() == 64


def test_what_cannot_be_is_refused_and_packets_wait(bed: NodeBed) -> None:
    stacks = [
        stack_c(encapsulation=Encapsulation.GRE, udp_port=434),
        replace(stack_c(), attachment=replace(AWAY, interface="w7")),
    ]
    if not planes.portable():
        # There is no interface of the VPN.
        stacks += [stack_c(encapsulation=Encapsulation.MINIMAL), stack_vc()]
    node = bed.start()
    with entered(NODE):
        for stack in stacks:
            refused = node.apply(stack)
            assert refused, stack
    bed.permit("w0")
    with bed.udp() as made:
        made.sendto(b"waits", (str(HOST), 53))
    assert node.read_held() == 1
    with bed.udp() as made:
        made.connect((str(HOST), 53))
        assert made.getsockname()[0] == str(HOME)
