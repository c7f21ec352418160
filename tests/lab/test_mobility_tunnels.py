"""An i-HA and a mobile node with a co-located care-of address inside (mode c), on every tunnel.

Everything runs twice: packets carried by the kernel, and every one of them by NFQUEUE.
"""

from collections import Counter
from collections.abc import Iterator

import pytest
from mobility_bed import I_HA, I_HOA, SERVER, WAYS, MobilityBed, mobility_bed

from gateway.domain.checksum import internet_checksum
from gateway.domain.mobility import Encapsulation
from gateway.lab import inject
from gateway.lab.mobility import plan, wires
from gateway.lab.mobility.mobile_node import CO_LOCATED, MobileNode
from gateway.lab.mobility.user_tunnel import make_tunnel
from gateway.lab.mobility.wires import between, max_segment_sizes, shapes, wired
from gateway.lab.processes import wait_until
from gateway.mip_agents.codec.extensions import UdpTunnelRequest
from gateway.mip_agents.codec.registration import RequestFlag

pytestmark = pytest.mark.kernel

PLAIN = plan.ACCESSES["plain"]
CARE_OF = PLAIN.device.ip
FORCED = UdpTunnelRequest(forced=True)


@pytest.fixture(scope="module", params=WAYS)
def shared(request: pytest.FixtureRequest) -> Iterator[MobilityBed]:
    with mobility_bed(offload=request.param == "kernel", access="plain") as bed:
        bed.inside_home_agent()
        yield bed


@pytest.fixture
def bed(shared: MobilityBed) -> Iterator[MobilityBed]:
    shared.lab.move("plain")
    yield shared
    shared.drop_nodes()


@pytest.fixture
def node(bed: MobilityBed) -> MobileNode:
    return bed.node("i")


def gone(bed: MobilityBed, node: MobileNode) -> None:
    """Deregister, so that the next test starts from nothing."""
    assert node.socket is not None
    request = node.request(CARE_OF, lifetime_s=0)
    assert node.ask(request, I_HA).accepted


@pytest.mark.parametrize(
    ("encapsulation", "udp", "shape", "overhead"),
    [
        (Encapsulation.IP_IP, None, "ip/ip/icmp", 20),
        (Encapsulation.GRE, None, "ip/gre/ip/icmp", 24),
        (Encapsulation.IP_IP, FORCED, "ip/tunnel/ip/icmp", 32),
    ],
    ids=["ip-ip", "gre", "udp"],
)
def test_every_tunnel_carries_both_ways(
    bed: MobilityBed,
    node: MobileNode,
    encapsulation: Encapsulation,
    udp: UdpTunnelRequest | None,
    shape: str,
    overhead: int,
) -> None:
    capture = bed.record("core", "plain")
    answer = node.co_located(PLAIN, encapsulation=encapsulation, udp=udp)
    assert answer.accepted
    assert answer.in_udp == (udp is not None)
    assert bed.ping("device", SERVER, source=I_HOA)
    assert bed.ping("server", I_HOA)
    pcap = capture.stop()
    for source, to in ((I_HOA, SERVER), (SERVER, I_HOA)):
        seen = between(pcap, source, to)
        assert len(seen) == 6  # requests of one and replies to the other
        assert {one.shape for one in seen} == {shape}
        assert {one.overhead_octets for one in seen} == {overhead}
    assert {str(one.outer) for one in between(pcap, SERVER, I_HOA)} == {f"{I_HA} > {CARE_OF}"}
    ours = [one.outer for one in between(pcap, SERVER, I_HOA)]
    assert {layer.ttl for layer in ours} <= {63, 64}  # a constant at the home agent, one hop
    assert not any(layer.df for layer in ours)
    gone(bed, node)


def test_minimal_encapsulation_towards_the_node(bed: MobilityBed, node: MobileNode) -> None:
    """RFC 2004: twelve octets, because the original source is not the tunnel's."""
    capture = bed.record("core", "plain")
    answer = node.co_located(PLAIN, encapsulation=Encapsulation.MINIMAL, use=False)
    assert answer.accepted
    assert not bed.ping("server", I_HOA, count=2)  # the instrument cannot answer
    seen = [one for one in wired(capture.stop()) if one.shape == "ip/minimal"]
    assert len(seen) == 2
    for one in seen:
        assert str(one.outer) == f"{I_HA} > {CARE_OF}"
        assert one.outer.octets == 20 + 12 + 8 + 56
        header = one.packet[20:32]
        assert header[0] == wires.ICMP
        assert header[1] == 0x80
        assert header[4:8] == I_HOA.packed
        assert header[8:12] == SERVER.packed
    gone(bed, node)


def test_without_a_reverse_tunnel_packets_leave_straight(
    bed: MobilityBed, node: MobileNode
) -> None:
    capture = bed.record("core", "plain")
    answer = node.co_located(PLAIN, flags=RequestFlag.CO_LOCATED)
    assert answer.accepted
    assert bed.ping("device", SERVER, source=I_HOA)
    pcap = capture.stop()
    assert {one.shape for one in between(pcap, I_HOA, SERVER)} == {"ip/icmp"}
    assert {one.shape for one in between(pcap, SERVER, I_HOA)} == {"ip/ip/icmp"}
    gone(bed, node)


def test_h63_only_the_bound_address_comes_through_its_tunnel(
    bed: MobilityBed, node: MobileNode
) -> None:
    assert node.co_located(PLAIN).accepted
    capture = bed.record("device", "itun")
    assert bed.ping("device", SERVER, source=I_HOA, count=1)
    request = next(one for one in wired(capture.stop()) if str(one.inner) == f"{I_HOA} > {SERVER}")
    stranger = inject.with_source(request.packet, plan.INSIDE_HOME_ADDRESS_2)
    watch = bed.record("server", "intranet", f"host {plan.INSIDE_HOME_ADDRESS_2} or host {I_HOA}")
    for inner, outer in (
        (stranger, CARE_OF),  # another inner address from the right care-of address
        (request.packet, plan.ACCESSES["plain"].router),  # the right one from somewhere else
        (fixed(stranger), CARE_OF),
    ):
        inject.send(bed.lab, "core", encapsulated(inner, outer))
    assert bed.ping("device", SERVER, source=I_HOA, count=2)  # everything before has passed
    seen = between(watch.stop(), I_HOA, SERVER)
    assert len(seen) == 2
    gone(bed, node)


def encapsulated(packet: bytes, source: object) -> bytes:
    """IP-in-IP to the home agent; the kernel fills the outer checksum in."""
    head = bytearray(20)
    head[0], head[8], head[9] = 0x45, 64, wires.IP_IP
    head[2:4] = (20 + len(packet)).to_bytes(2, "big")
    head[12:16], head[16:20] = source.packed, I_HA.packed  # type: ignore[attr-defined]
    return bytes(head) + packet


def fixed(packet: bytes) -> bytes:
    """The packet with a right header checksum."""
    head = packet[:10] + bytes(2) + packet[12:20]
    return head[:10] + internet_checksum(head).to_bytes(2, "big") + head[12:] + packet[20:]


def test_after_deregistration_nothing_is_tunnelled(bed: MobilityBed, node: MobileNode) -> None:
    assert node.co_located(PLAIN).accepted
    assert bed.ping("server", I_HOA)
    gone(bed, node)
    capture = bed.record("core", "plain")
    assert not bed.ping("server", I_HOA, count=1)
    assert not bed.ping("device", SERVER, source=I_HOA, count=1)
    seen = shapes(capture.stop())
    assert seen["ip/ip/icmp"] == 1  # what the device sent; nothing came back


def test_the_home_link_believes_the_home_agent(bed: MobilityBed, node: MobileNode) -> None:
    """Proxy ARP for who asks, gratuitous ARP for who knew the node (RFC 5944 section 4.6)."""
    lab = bed.lab
    lab.move("home")
    node.at_home(lab.accesses["home"], deregister=False)
    assert bed.ping("neighbour", I_HOA)
    device, agent = lab.link_address("device", "home"), lab.link_address("iha", plan.HOME_BRIDGE)
    assert known_to_neighbour(bed) == device
    watch = bed.record("neighbour", "home", "arp")
    lab.move("plain")
    assert node.co_located(PLAIN).accepted
    wait_until(lambda: known_to_neighbour(bed) == agent, 10, "the gratuitous ARP")
    assert bed.ping("neighbour", I_HOA)
    lab.run("neighbour", ["ip", "neighbour", "flush", "all"])
    assert bed.ping("neighbour", I_HOA)
    assert known_to_neighbour(bed) == agent
    lab.move("home")
    assert node.at_home(lab.accesses["home"]).accepted
    wait_until(lambda: known_to_neighbour(bed) == device, 10, "the node's own gratuitous ARP")
    assert bed.ping("neighbour", I_HOA)
    watch.stop()


def known_to_neighbour(bed: MobilityBed) -> bytes:
    argv = ["ip", "neighbour", "show", "to", str(I_HOA), "dev", "home"]
    words = bed.lab.run("neighbour", argv).stdout.split()
    return bytes.fromhex(words[words.index("lladdr") + 1].replace(":", "")) if words else b""


@pytest.mark.parametrize("asked", [True, False])
def test_broadcasts_of_the_home_link_follow_on_request(
    bed: MobilityBed, node: MobileNode, asked: bool
) -> None:
    flags = CO_LOCATED | (RequestFlag.BROADCASTS if asked else 0)
    assert node.co_located(PLAIN, flags=flags).accepted
    capture = bed.record("core", "plain")
    broadcast = plan.HOME_NETWORK.broadcast_address
    argv = ["ping", "-b", "-c", "2", "-i", "0.3", "-W", "1", str(broadcast)]
    bed.lab.run("neighbour", argv, check=False)
    assert bed.ping("server", I_HOA, count=1)
    seen = between(capture.stop(), plan.NEIGHBOUR, broadcast)
    assert len(seen) == (2 if asked else 0)
    # Co-located: one header is enough (RFC 5944 section 4.3).
    assert {one.shape for one in seen} <= {"ip/ip/icmp"}
    gone(bed, node)


@pytest.mark.parametrize("udp", [None, FORCED], ids=["ip-ip", "udp"])
def test_h65_long_packets_are_fragmented_before_they_are_encapsulated(
    bed: MobilityBed, node: MobileNode, udp: UdpTunnelRequest | None
) -> None:
    assert node.co_located(PLAIN, udp=udp).accepted
    capture = bed.record("core", "plain")
    assert bed.ping("server", I_HOA, size=3000, count=2)
    pcap = capture.stop()
    sent = [one for one in wired(pcap) if one.outer.source == I_HA and len(one.layers) == 2]
    assert len(sent) >= 2 * 3
    assert all(one.inner.fragment and not one.outer.fragment for one in sent)
    assert max(one.inner.octets for one in sent) <= 1400
    gone(bed, node)


@pytest.mark.parametrize("udp", [None, FORCED], ids=["ip-ip", "udp"])
def test_who_forbids_fragments_learns_the_size(
    bed: MobilityBed, node: MobileNode, udp: UdpTunnelRequest | None
) -> None:
    assert node.co_located(PLAIN, udp=udp).accepted
    bed.lab.run("server", ["ip", "route", "flush", "cache"])
    watch = bed.record("server", "intranet", "icmp")
    assert bed.ping("server", I_HOA, size=1400 - 28, count=1, df=True)
    assert not bed.ping("server", I_HOA, size=1401 - 28, count=1, df=True)
    errors = [one.packet for one in wired(watch.stop()) if one.packet[20:22] == b"\x03\x04"]
    assert errors
    assert int.from_bytes(errors[0][26:28], "big") == 1400
    quoted = errors[0][28:]
    assert quoted[12:16] == SERVER.packed
    assert quoted[16:20] == I_HOA.packed
    bed.lab.run("server", ["ip", "route", "flush", "cache"])
    gone(bed, node)


def test_tcp_is_told_the_size_of_the_tunnel(bed: MobilityBed, node: MobileNode) -> None:
    assert node.co_located(PLAIN).accepted
    capture = bed.record("core", "iha", "tcp or proto 4")
    with bed.download() as session:
        session.goes_on()
        session.end()
    pcap = capture.stop()
    sizes = dict(size for size in max_segment_sizes(pcap))
    # Behind the home agent, where both directions have passed it.
    assert sizes[f"{I_HOA} > {SERVER}"] == 1400 - 40
    assert sizes[f"{SERVER} > {I_HOA}"] == 1400 - 40
    assert not any(layer.fragment for one in wired(pcap) for layer in one.layers)
    gone(bed, node)


def test_simultaneous_bindings_get_copies(bed: MobilityBed, node: MobileNode) -> None:
    second = CARE_OF + 1
    bed.lab.run("device", ["ip", "address", "add", f"{second}/24", "dev", "plain"])
    assert node.co_located(PLAIN).accepted
    node.stack.ip(f"rule add pref 160 from {second} lookup 1005")  # as from the first
    end_second = make_tunnel(bed.lab, "device", "second", (second, I_HA))
    both = node.request(second, flags=CO_LOCATED | RequestFlag.SIMULTANEOUS)
    node.at(second)
    assert node.ask(both, I_HA).accepted
    capture = bed.record("core", "plain")
    assert bed.ping("server", I_HOA, count=3)
    # The last copy may be on its way still when the first one has been answered.
    wait_until(lambda: len(between(capture.path, SERVER, I_HOA)) >= 6, 10, "every copy")
    seen = Counter(str(one.outer) for one in between(capture.stop(), SERVER, I_HOA))
    assert seen == {f"{I_HA} > {CARE_OF}": 3, f"{I_HA} > {second}": 3}
    end_second()
    node.stack.ip("rule delete pref 160", f"address delete {second}/24 dev plain")
    node.at(CARE_OF)
    request = node.request(I_HOA, lifetime_s=0)  # care-of = home address: all of them
    assert node.ask(request, I_HA).accepted


@pytest.mark.parametrize("kill", [False, True], ids=["stopped", "killed"])
def test_a_restart_keeps_the_bindings(bed: MobilityBed, node: MobileNode, kill: bool) -> None:
    answer = node.co_located(PLAIN)
    assert answer.accepted
    assert bed.ping("server", I_HOA)
    bed.restart("iha", kill=kill)
    wait_until(lambda: bed.ping("server", I_HOA, count=1), 20, "the binding of the last run")
    assert bed.ping("device", SERVER, source=I_HOA)
    # A request of before is a replay still (RFC 5944 section 5.7).
    assert node.socket is not None
    repeated = node.ask(answer.request, I_HA, tries=1)
    assert repeated.reply.code == 133
    gone(bed, node)


def test_nothing_on_any_wire_was_wrong(bed: MobilityBed) -> None:
    assert bed.findings() == []
    for line in bed.boxes["iha"].log():
        assert line.get("level") != "error", line
