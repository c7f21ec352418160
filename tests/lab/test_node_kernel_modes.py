"""Each access mode as the kernel carries it: what is on the wire, and how many octets it costs."""

# planes: kernel portable

from collections.abc import Iterator

import pytest
from dataplane_bed import inside
from mobility_kernel_bed import ETH_P_ARP
from node_kernel_bed import (
    AT_HOME,
    CARE_OF,
    EXTERNAL_AGENT,
    EXTERNAL_HOME,
    GATEWAY,
    HOME,
    HOST,
    INTERNAL_AGENT,
    NODE,
    PEERS,
    ROUTER,
    ROUTER_ADDRESS,
    VPN_INNER,
    NodeBed,
    internal,
    node_bed,
    stack_c,
    stack_cvc,
    stack_vc,
)

from gateway.dataplane.node import Attachment, LayerStack
from gateway.domain.access_mode import AccessMode
from gateway.domain.mobility import Encapsulation
from gateway.lab.mobility.wires import read

pytestmark = pytest.mark.kernel

ECHO = 84


@pytest.fixture(scope="module")
def namespaces() -> Iterator[NodeBed]:
    with node_bed() as made:
        yield made


@pytest.fixture
def bed(namespaces: NodeBed) -> Iterator[NodeBed]:
    yield namespaces
    namespaces.clean()


def seen(bed: NodeBed, shape: str, interface: str = "w0") -> list[object]:
    """Ping once and return what left of this shape."""
    capture = bed.capture(NODE, interface)
    assert bed.ping(), (bed.counters(), [read(p.octets) for p in capture.packets()])
    wired = [read(packet.octets) for packet in capture.packets()]
    found = [one for one in wired if one.shape == shape]
    assert found, [(one.shape, str(one.outer)) for one in wired]
    return found


def test_home_is_plain_and_announced(bed: NodeBed) -> None:
    bed.start()
    arp = bed.capture(PEERS, "h1", ETH_P_ARP)
    stack = LayerStack(AccessMode.HOME, AT_HOME, home_address=HOME)
    bed.apply(stack)
    bed.permit("e0")
    (first, *_) = seen(bed, "ip/icmp", "e0")
    assert str(first.outer) == f"{HOME} > {HOST}"
    assert first.outer.octets == ECHO
    gratuitous = [frame for frame in arp.read() if frame[14:18] == frame[24:28] == HOME.packed]
    assert len(gratuitous) == 2
    inside(PEERS, "ip", "neighbour", "flush", "dev", "h1")
    assert bed.ping(HOME, name=PEERS) is False  # unsolicited
    assert bed.counters()["unsolicited"] == 1


@pytest.mark.parametrize(
    ("encapsulation", "udp", "shape", "octets"),
    [
        (Encapsulation.IP_IP, False, "ip/ip/icmp", 20),
        (Encapsulation.GRE, False, "ip/gre/ip/icmp", 24),
        (Encapsulation.IP_IP, True, "ip/tunnel/ip/icmp", 32),
    ],
)
def test_c_tunnels_to_the_home_agent_inside(
    bed: NodeBed, encapsulation: Encapsulation, udp: bool, shape: str, octets: int
) -> None:
    bed.start()
    bed.agent_end("it", INTERNAL_AGENT, CARE_OF, HOME, encapsulation, udp=udp)
    bed.apply(stack_c(encapsulation=encapsulation, udp_port=434 if udp else 0))
    assert not bed.ping()
    bed.permit("w0")
    (first, *_) = seen(bed, shape)
    assert str(first.outer) == f"{CARE_OF} > {INTERNAL_AGENT}"
    assert str(first.inner) == f"{HOME} > {HOST}"
    assert first.overhead_octets == octets
    assert not first.outer.df
    assert first.outer.ttl == 64


def test_f_gives_packets_to_the_foreign_agent_as_they_are(bed: NodeBed) -> None:
    bed.start()
    agent = bed.foreign_agent(HOME)
    arp = bed.capture(NODE, "w0", ETH_P_ARP)
    attachment = Attachment("w0", HOME, ROUTER_ADDRESS, agent)
    layer = internal(ROUTER_ADDRESS, co_located=False)
    bed.apply(LayerStack(AccessMode.F, attachment, internal=layer, home_address=HOME))
    bed.permit("w0")
    (first, *_) = seen(bed, "ip/icmp")
    assert str(first.outer) == f"{HOME} > {HOST}"
    assert arp.read() == []
    bed.ask_arp(ROUTER, "r0", HOME)
    assert bed.ping()
    assert [frame for frame in arp.read() if frame[6:8] == b"\0\2"] == []


def test_vc_has_the_inner_tunnel_in_esp(bed: NodeBed) -> None:
    bed.start()
    bed.vpn(CARE_OF)
    bed.agent_end("it", INTERNAL_AGENT, VPN_INNER, HOME)
    bed.apply(stack_vc())
    (first, *_) = seen(bed, "ip/esp")
    assert str(first.outer) == f"{CARE_OF} > {GATEWAY}"


def test_cvc_has_three_layers(bed: NodeBed) -> None:
    bed.start()
    bed.vpn(EXTERNAL_HOME)
    bed.agent_end("xt", EXTERNAL_AGENT, CARE_OF, EXTERNAL_HOME)
    bed.agent_end("it", INTERNAL_AGENT, VPN_INNER, HOME)
    bed.apply(stack_cvc())
    (first, *_) = seen(bed, "ip/ip/esp")
    assert str(first.outer) == f"{CARE_OF} > {EXTERNAL_AGENT}"
    assert str(first.inner) == f"{EXTERNAL_HOME} > {GATEWAY}"
    assert first.overhead_octets == 20
