"""SAs that follow their peer: by mapping events and by the evidence in plain ESP."""

# planes: kernel portable

import socket
import struct
import subprocess
from collections.abc import Iterator
from ipaddress import IPv4Address, ip_address

import pytest
from dataplane_bed import (
    CBC,
    CHACHA,
    DEVICE,
    GATEWAY,
    GCM,
    GCM_ESN,
    Bed,
    child_sa,
    entered,
    inside,
    wait_for,
)

from gateway.dataplane.interface import EndpointRejected, EndpointSeen
from gateway.dataplane.packet.esp import EspCipher
from gateway.domain.child_sa import ChildSa, EspSuite
from gateway.domain.endpoint import Endpoint
from gateway.lab import planes
from gateway.lab.kernel import has_esp

pytestmark = pytest.mark.kernel
HOME, AWAY, THIRD = map(IPv4Address, ("192.0.2.10", "192.0.2.11", "192.0.2.12"))


@pytest.fixture
def bed() -> Iterator[Bed]:
    with Bed() as made:
        yield made


def inner_ping(sequence: int) -> bytes:
    """An ICMP echo request from the device's inner address to the intranet."""
    icmp = struct.pack("!BBHHH", 8, 0, 0, 1, sequence & 0xFFFF)
    total = sum(struct.unpack("!4H", icmp))
    total = (total & 0xFFFF) + (total >> 16)
    icmp = icmp[:2] + struct.pack("!H", ~total & 0xFFFF) + icmp[4:]
    header = struct.pack(
        "!BBHHHBBH4s4s", 0x45, 0, 28, 0, 0, 64, 1, 0, ip_address("10.9.0.1").packed,
        ip_address("10.1.0.2").packed,
    )  # fmt: skip
    total = sum(struct.unpack("!10H", header))
    total = (total & 0xFFFF) + (total >> 16)
    return header[:10] + struct.pack("!H", ~total & 0xFFFF) + header[12:] + icmp


def esp_packet(sa: ChildSa, sequence: int) -> bytes:
    iv = sequence.to_bytes(8, "big") if sa.suite.encryption.is_aead else bytes(16)
    return EspCipher(sa.suite, sa.keys_in).seal(sa.spi_in, sequence, inner_ping(sequence), 4, iv)


def ready(bed: Bed, suite: EspSuite = GCM, **changes: object) -> ChildSa:
    sa = child_sa(suite, **{"follow_endpoint": True, **changes})
    dataplane = bed.start()
    dataplane.install_child_sa(sa)
    assert dataplane.commit() == []
    # Native ESP that the device's kernel does not know is none of its business.
    if has_esp():
        inside(DEVICE, "ip", "xfrm", "state", "flush")
    return sa


def follow(bed: Bed, event: EndpointSeen) -> None:
    dataplane = bed.dataplane
    assert dataplane is not None
    child = dataplane._children[event.spi_in]
    dataplane.move_child_sa(
        event.spi_in, child.local, event.remote, udp_encapsulation=child.udp_encapsulation
    )
    assert dataplane.commit() == []


def packets_in(bed: Bed, sa: ChildSa) -> int:
    assert bed.dataplane is not None
    usage = bed.dataplane.usage(sa.spi_in)
    assert usage is not None
    return usage.packets_in


@pytest.mark.parametrize("suite", [GCM, GCM_ESN, CHACHA, CBC])
def test_a_fresh_packet_from_a_new_address_moves_the_sa(bed: Bed, suite: EspSuite) -> None:
    sa = ready(bed, suite)
    bed.send_outer(esp_packet(sa, 1), HOME)
    wait_for(lambda: packets_in(bed, sa) == 1, "first packet")
    bed.send_outer(esp_packet(sa, 2), AWAY)
    (event,) = bed.events()
    assert event == EndpointSeen(sa.spi_in, Endpoint(AWAY, 4500), "esp icv, sequence 2")
    # The kernel's packet is held until the move; a forwarder has proved and delivered it.
    assert packets_in(bed, sa) == 1 + planes.portable()
    follow(bed, event)
    wait_for(lambda: packets_in(bed, sa) == 2, "the packet that proved the move")
    assert "dst 192.0.2.11" in bed.states()
    bed.send_outer(esp_packet(sa, 3), AWAY)
    wait_for(lambda: packets_in(bed, sa) == 3, "the next packet, past the queue")
    assert bed.events(0.1) == []
    assert planes.portable() or bed.counters()["esp_unknown_source"] == 1


def test_over_ipv6_it_moves_as_well(bed: Bed) -> None:
    home, away, ours = map(ip_address, ("2001:db8::10", "2001:db8::11", "2001:db8::1"))
    bed.up()
    inside(GATEWAY, "ip", "address", "add", f"{ours}/64", "dev", "out1", "nodad")
    for address in (home, away):
        inside(DEVICE, "ip", "address", "add", f"{address}/64", "dev", "out0", "nodad")
    sa = ready(bed, GCM_ESN, local=Endpoint(ours, 4500), remote=Endpoint(home, 4500))
    bed.send_outer(esp_packet(sa, 1), home, ours)
    wait_for(lambda: packets_in(bed, sa) == 1, "first packet")
    bed.send_outer(esp_packet(sa, 2)[:-1] + b"?", away, ours)
    (rejected,) = bed.events()
    assert isinstance(rejected, EndpointRejected)
    bed.send_outer(esp_packet(sa, 3), away, ours)
    (event,) = bed.events()
    assert event == EndpointSeen(sa.spi_in, Endpoint(away, 4500), "esp icv, sequence 3")
    follow(bed, event)
    wait_for(lambda: packets_in(bed, sa) == 2, "the packet that proved the move")
    bed.send_outer(esp_packet(sa, 4), away, ours)
    wait_for(lambda: packets_in(bed, sa) == 3, "the next packet, past the queue")
    assert bed.events(0.1) == []
    if planes.portable():
        return
    known = inside(GATEWAY, "nft", "list", "set", "inet", "gateway", "known_esp6")
    assert "2001:db8::11" in known
    assert "2001:db8::10" not in known


def test_h45_h46_replayed_older_and_forged_packets_move_nothing(bed: Bed) -> None:
    sa = ready(bed)
    for sequence in (1, 5):
        bed.send_outer(esp_packet(sa, sequence), HOME)
    wait_for(lambda: packets_in(bed, sa) == 2, "packets from home")
    forged = bytearray(esp_packet(sa, 9))
    forged[-1] ^= 1
    for packet, reason in (
        (esp_packet(sa, 5), "sequence 5 is not above 5"),
        (esp_packet(sa, 1), "sequence 1 is not above 5"),
        (bytes(forged), "integrity check failed"),
    ):
        bed.send_outer(packet, THIRD)
        assert bed.events() == [EndpointRejected(sa.spi_in, Endpoint(THIRD, 4500), reason)]
        assert bed.dataplane is not None
        assert bed.dataplane.commit() == []
    assert packets_in(bed, sa) == 2
    assert "192.0.2.12" not in bed.states()
    counters = bed.counters()
    assert counters["slow_path_late"] == 2
    assert counters["slow_path_forged"] == 1


def test_h46_a_late_packet_is_delivered_once_but_moves_nothing(bed: Bed) -> None:
    sa = ready(bed)
    for sequence in (1, 5):
        bed.send_outer(esp_packet(sa, sequence), HOME)
    wait_for(lambda: packets_in(bed, sa) == 2, "packets from home")
    for _ in range(2):
        bed.send_outer(esp_packet(sa, 3), THIRD)
        assert [type(event) for event in bed.events()] == [EndpointRejected]
    wait_for(lambda: packets_in(bed, sa) == 3, "the late packet")
    bed.send_outer(esp_packet(sa, 6), HOME)
    wait_for(lambda: packets_in(bed, sa) == 4, "a packet from home")


def test_h47_after_a_stolen_packet_the_next_one_moves_it_back(bed: Bed) -> None:
    sa = ready(bed)
    bed.send_outer(esp_packet(sa, 1), HOME)
    for sequence, source in ((2, THIRD), (3, HOME), (4, AWAY), (5, HOME)):
        bed.send_outer(esp_packet(sa, sequence), source)
        (event,) = bed.events()
        assert isinstance(event, EndpointSeen)
        assert event.remote.address == source
        follow(bed, event)
        wait_for(lambda n=sequence: packets_in(bed, sa) == n, f"packet {sequence}")


def test_a_refused_move_still_delivers_the_packet(bed: Bed) -> None:
    sa = ready(bed)
    bed.send_outer(esp_packet(sa, 1), AWAY)
    (event,) = bed.events()
    assert isinstance(event, EndpointSeen)
    assert bed.dataplane is not None
    bed.dataplane.commit()
    wait_for(lambda: packets_in(bed, sa) == 1, "the packet")
    assert "192.0.2.11" not in bed.states()


def test_an_sa_that_does_not_follow_is_left_to_the_kernel(bed: Bed) -> None:
    sa = ready(bed, follow_endpoint=False)
    bed.send_outer(esp_packet(sa, 1), AWAY)
    wait_for(lambda: packets_in(bed, sa) == 1, "the packet")
    assert bed.events(0.1) == []


@pytest.mark.kernel_dataplane("a queue without a listener")
def test_without_the_process_unknown_sources_are_dropped_and_known_ones_pass(bed: Bed) -> None:
    sa = ready(bed)
    assert bed.dataplane is not None
    bed.dataplane._slow_path.close()
    bed.send_outer(esp_packet(sa, 1), AWAY)
    bed.send_outer(esp_packet(sa, 2), HOME)
    wait_for(lambda: packets_in(bed, sa) == 1, "the packet from the known source")
    assert bed.counters()["esp_unknown_source"] == 1


def test_garbage_costs_a_bounded_number_of_checks(bed: Bed) -> None:
    sa = ready(bed)
    forged = esp_packet(sa, 99)[:-1] + b"\0"
    for _ in range(300):
        bed.send_outer(forged, THIRD)
    events = []
    for _ in range(10):
        events += bed.events(0.1)
    counters = bed.counters()
    # One check by the common allowance, the rest by that of a source known for forgeries.
    assert counters["slow_path_forged"] <= 40
    assert counters["slow_path_forged"] + counters["slow_path_unchecked"] == 300
    assert len(events) < 20
    bed.send_outer(esp_packet(sa, 100), AWAY)
    assert any(isinstance(event, EndpointSeen) for event in bed.events())


@pytest.mark.parametrize("suite", [GCM, GCM_ESN, CBC])
@pytest.mark.parametrize(
    ("address", "port"), [("192.0.2.10", 31000), ("192.0.2.11", 4500), ("192.0.2.11", 31000)]
)
def test_h50_a_new_udp_mapping_moves_the_sa(
    bed: Bed, suite: EspSuite, address: str, port: int
) -> None:
    sa = ready(bed, suite, udp_encapsulation=True)
    bed.device_states(sa)
    with bed.udp_encap_socket(GATEWAY, "192.0.2.1", 4500):
        with bed.udp_encap_socket(DEVICE, "192.0.2.10", 4500):
            assert bed.ping()
        assert bed.dataplane is not None
        before = bed.dataplane.usage(sa.spi_in)
        bed.device_moves(sa, address, port, 3)
        with bed.udp_encap_socket(DEVICE, address, port):
            bed.ping(1)
            (event,) = bed.events()
            assert event == EndpointSeen(
                sa.spi_in, Endpoint(ip_address(address), port), "esp-in-udp mapping"
            )
            follow(bed, event)
            assert bed.ping()
            assert bed.events(0.1) == []
        after = bed.dataplane.usage(sa.spi_in)
    assert before is not None
    assert after is not None
    assert after.packets_in == before.packets_in + 4
    assert after.packets_out >= before.packets_out + 4
    assert after.bytes_in > before.bytes_in


def test_h46_a_late_packet_from_the_old_udp_address_moves_nothing(bed: Bed) -> None:
    sa = ready(bed, GCM, udp_encapsulation=True)
    old, new = Endpoint(HOME, 4500), Endpoint(AWAY, 31000)
    with bed.udp_encap_socket(GATEWAY, "192.0.2.1", 4500):
        send_udp(esp_packet(sa, 11), new)  # 1 to 10 are still under way
        (event,) = bed.events()
        assert isinstance(event, EndpointSeen)
        follow(bed, event)
        wait_for(lambda: packets_in(bed, sa) == 1, "the packet from the new address")
        send_udp(esp_packet(sa, 5), old)
        (late,) = bed.events()
        assert isinstance(late, EndpointRejected)
        assert late.remote == old
        send_udp(esp_packet(sa, 51), old)  # a new one: the device itself has come back
        (back,) = bed.events()
        assert back == EndpointSeen(sa.spi_in, old, "esp-in-udp mapping")


def send_udp(esp: bytes, source: Endpoint) -> None:
    """ESP in UDP from an address and port of the device's."""
    with entered(DEVICE):
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with sender:
        sender.bind((str(source.address), source.port))
        sender.sendto(esp, ("192.0.2.1", 4500))


def test_a_move_keeps_replay_protection(bed: Bed) -> None:
    sa = ready(bed)
    for sequence in (1, 2, 3):
        bed.send_outer(esp_packet(sa, sequence), HOME)
    wait_for(lambda: packets_in(bed, sa) == 3, "packets from home")
    dataplane = bed.dataplane
    assert dataplane is not None
    # To UDP encapsulation and back: the inbound state is added anew both times.
    for encapsulated in (True, False):
        dataplane.move_child_sa(
            sa.spi_in, sa.local, Endpoint(AWAY, 4501), udp_encapsulation=encapsulated
        )
        assert dataplane.commit() == []
    bed.send_outer(esp_packet(sa, 3), AWAY)
    bed.send_outer(esp_packet(sa, 4), AWAY)
    wait_for(lambda: packets_in(bed, sa) == 4, "the new packet")
    assert bed.refused(late=True) == 1


def test_a_move_to_another_local_address_keeps_the_session(bed: Bed) -> None:
    inside(GATEWAY, "ip", "addr", "add", "192.0.2.2/24", "dev", "out1")
    sa = ready(bed)
    bed.send_outer(esp_packet(sa, 1), HOME)
    wait_for(lambda: packets_in(bed, sa) == 1, "the first packet")
    dataplane = bed.dataplane
    assert dataplane is not None
    dataplane.move_child_sa(
        sa.spi_in, Endpoint(ip_address("192.0.2.2"), 4500), sa.remote, udp_encapsulation=False
    )
    assert dataplane.commit() == []
    assert packets_in(bed, sa) == 1
    states = bed.states()
    assert "192.0.2.1\n" not in states
    assert states.count("192.0.2.2") == 2


@pytest.mark.kernel_dataplane("the SA is taken from the kernel by `ip xfrm`")
def test_moving_what_the_kernel_has_lost_is_refused(bed: Bed) -> None:
    sa = ready(bed)
    inside(GATEWAY, "ip", "xfrm", "state", "flush")
    dataplane = bed.dataplane
    assert dataplane is not None
    dataplane.move_child_sa(sa.spi_in, sa.local, Endpoint(AWAY, 4500), udp_encapsulation=False)
    (refusal,) = dataplane.commit()
    assert "no longer has the SA" in refusal.reason


@pytest.mark.parametrize("encapsulated", [False, True])
def test_a_stream_through_moves_loses_only_what_is_in_flight(bed: Bed, encapsulated: bool) -> None:
    """1,000 packets/s towards the device while it moves ten times."""
    sa = ready(bed, udp_encapsulation=encapsulated)
    stream = subprocess.Popen(
        ["ip", "netns", "exec", "dpt-in", "ping", "-n", "-q", "-i", "0.001", "-c", "1000", "-W",
         "1", "10.9.0.1"], stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    dataplane = bed.dataplane
    assert dataplane is not None
    addresses = [AWAY, THIRD, HOME] * 3
    for address in addresses:
        before = dataplane.usage(sa.spi_in)
        assert before is not None
        wait_for(
            lambda b=before: dataplane.usage(sa.spi_in).packets_out > b.packets_out + 20, "packets"
        )
        dataplane.move_child_sa(
            sa.spi_in, sa.local, Endpoint(address, 4500), udp_encapsulation=encapsulated
        )
        assert dataplane.commit() == []
    stream.terminate()
    stream.communicate()
    usage = dataplane.usage(sa.spi_in)
    assert usage is not None
    assert refused_outbound(bed) == {}


def refused_outbound(bed: Bed) -> dict[str, int]:
    """Packets that were not sent, by why."""
    if planes.portable():
        names = ("expired", "unsealable", "no_sa", "no_policy")
        return {name: n for name in names if (n := bed.counters().get(f"forwarder_{name}", 0))}
    table = inside(GATEWAY, "cat", "/proc/net/xfrm_stat")
    counts = [line.split() for line in table.splitlines() if line.startswith("XfrmOut")]
    return {name: int(count) for name, count in counts if int(count)}
