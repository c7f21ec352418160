"""The switch of a mobile node: what leaves and enters in every state, and when its process died."""

# planes: kernel portable

import multiprocessing
import os
import select
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from dataplane_bed import entered, inside
from mobility_kernel_bed import Capture
from mobility_kernel_bed import ip as ip_packet
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
    ROUTER,
    SETTINGS,
    STRANGER,
    VPN_INNER,
    NodeBed,
    external,
    node_bed,
    stack_c,
    stack_cvc,
    stack_vc,
)

from gateway.dataplane.kernel.node import constants
from gateway.dataplane.node import HELD, LayerStack
from gateway.domain.access_mode import AccessMode
from gateway.lab import planes

pytestmark = pytest.mark.kernel

UDP, ESP = 17, 50
AT_HOME_STACK = LayerStack(AccessMode.HOME, AT_HOME, home_address=HOME)


@pytest.fixture(scope="module")
def namespaces() -> Iterator[NodeBed]:
    with node_bed() as made:
        yield made


@pytest.fixture
def bed(namespaces: NodeBed) -> Iterator[NodeBed]:
    yield namespaces
    namespaces.clean()


def wait(condition: Callable[[], bool], what: str, bound_s: float = 5.0) -> None:
    end = time.monotonic() + bound_s
    while not condition():
        assert time.monotonic() < end, f"not within {bound_s} s: {what}"
        time.sleep(0.02)


def user_tries_everything(bed: NodeBed) -> None:
    """Send to strangers and peers in every way that a program without privileges may."""
    targets = (STRANGER, HOST, EXTERNAL_AGENT, INTERNAL_AGENT, IPv4Address("192.0.2.1"))
    for target in targets:
        for source in (None, str(CARE_OF)):
            for interface in ("", "w0"):
                with bed.udp(interface=interface) as made:
                    if source:
                        made.bind((source, 0))
                    for port in (53, 434, 500, 4500, 9999):
                        try:
                            made.sendto(b"plaintext of the user", (str(target), port))
                        except OSError:
                            continue
    with bed.udp(interface="w0") as made:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        for target in ("255.255.255.255", "224.0.0.251"):
            try:
                made.sendto(b"plaintext of the user", (target, 5353))
            except OSError:
                continue


def send_raw(packet: bytes) -> None:
    with entered(NODE):
        raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, 255)
    with raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"w0")
        raw.sendto(packet, (str(IPv4Address(packet[16:20])), 0))


def plaintext(capture: Capture) -> list[bytes]:
    return [frame for frame in capture.read() if b"plaintext of the user" in frame]


def test_nothing_of_the_users_leaves_while_held(bed: NodeBed) -> None:
    capture = bed.capture(NODE, "w0")
    bed.start()
    for stack in (HELD, LayerStack(attachment=AWAY, home_address=HOME)):
        bed.apply(stack)
        user_tries_everything(bed)
    assert plaintext(capture) == []
    assert bed.counters()["user_dropped"] > 0


def test_nothing_of_the_users_leaves_beside_the_layers(bed: NodeBed) -> None:
    bed.start()
    bed.vpn(EXTERNAL_HOME)
    bed.agent_end("xt", EXTERNAL_AGENT, CARE_OF, EXTERNAL_HOME)
    bed.agent_end("it", INTERNAL_AGENT, VPN_INNER, HOME)
    bed.apply(stack_cvc())
    capture = bed.capture(NODE, "w0")
    user_tries_everything(bed)
    assert plaintext(capture) == []
    assert bed.ping()


def test_the_tunnel_outside_carries_nothing_but_the_vpn(bed: NodeBed) -> None:
    """A program that binds to the device, and one that makes the tunnel's packets itself."""
    bed.start()
    bed.agent_end("xt", EXTERNAL_AGENT, CARE_OF, EXTERNAL_HOME)
    bed.apply(LayerStack(attachment=AWAY, external=external(), home_address=HOME))
    capture = bed.capture(NODE, "w0")
    with bed.udp(interface=constants.OUTER_IP_IP) as made, pytest.raises(PermissionError):
        made.sendto(b"plaintext of the user", (str(STRANGER), 9999))
    inner = ip_packet(
        EXTERNAL_HOME, STRANGER, UDP, struct.pack("!HHHH", 9, 9, 29, 0) + b"plaintext of the user"
    )
    for agent in (EXTERNAL_AGENT, INTERNAL_AGENT, GATEWAY):
        with pytest.raises(PermissionError):
            send_raw(ip_packet(CARE_OF, agent, 4, inner))
    with pytest.raises(PermissionError):
        send_raw(ip_packet(CARE_OF, EXTERNAL_AGENT, 4, inner, fragment=100))
    with bed.udp(mark=constants.NODE_VPN) as made:
        made.sendto(b"an IKE message", (str(GATEWAY), 500))
    capture.wait(lambda packet: b"an IKE message" in packet.octets and packet.protocol == 4)
    assert plaintext(capture) == []
    assert bed.counters()["outer_not_vpn"] == 2


def test_signalling_and_ike_pass_while_held(bed: NodeBed) -> None:
    bed.start()
    bed.apply(LayerStack(attachment=AWAY, home_address=HOME))
    capture = bed.capture(NODE, "w0")
    with bed.udp(mark=constants.NODE_LINK, interface="w0") as made:
        made.bind(("", 434))
        made.sendto(b"\1registration", (str(INTERNAL_AGENT), 434))
        made.sendto(b"\1registration", (str(STRANGER), 434))
        with pytest.raises(PermissionError):
            made.sendto(b"\4\4\0\0plaintext of the user", (str(INTERNAL_AGENT), 434))
        with bed.udp(PEERS) as agent:
            agent.bind((str(INTERNAL_AGENT), 434))
            agent.sendto(b"\3reply", (str(CARE_OF), 434))
            assert made.recv(100) == b"\3reply"
            agent.sendto(b"\4data", (str(CARE_OF), 434))
            agent.sendto(b"\3another", (str(CARE_OF), 434))
            assert made.recv(100) == b"\3another"
    with bed.udp(mark=constants.NODE_VPN) as made:
        made.bind(("", 4500))
        made.sendto(b"an IKE message", (str(GATEWAY), 4500))
        with bed.udp(PEERS) as gateway:
            gateway.bind((str(GATEWAY), 4500))
            gateway.sendto(b"an answer", (str(CARE_OF), made.getsockname()[1]))
            assert made.recv(100) == b"an answer"
    assert plaintext(capture) == []


def test_a_portal_probe_passes_and_its_answer(bed: NodeBed) -> None:
    bed.start()
    bed.apply(LayerStack(attachment=AWAY, home_address=HOME))
    with entered(PEERS):
        server = socket.create_server((str(STRANGER), 80))
    with entered(NODE):
        probe = socket.socket()
    probe.settimeout(3)
    probe.setsockopt(socket.SOL_SOCKET, 36, constants.NODE_PROBE)
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"w0")
    with server, probe:
        probe.connect((str(STRANGER), 80))
        accepted, _ = server.accept()
        with accepted:
            accepted.sendall(b"204")
            assert probe.recv(10) == b"204"


def test_a_permit_ends_by_itself(bed: NodeBed) -> None:
    bed.start()
    bed.apply(AT_HOME_STACK)
    assert not bed.ping()
    bed.permit("e0", 30)
    bed.permit("e0", 1.5)
    assert bed.ping()
    wait(lambda: not bed.ping(HOST, "-i", "0.2"), "the end of the permit")


def test_a_permit_is_prolonged_and_ended_at_once(bed: NodeBed) -> None:
    bed.start()
    bed.apply(AT_HOME_STACK)
    for _ in range(3):
        bed.permit("e0", 0.4)
        bed.permit("e0", 30)
    assert bed.ping()
    bed.forbid("w0")
    assert bed.ping()
    bed.forbid("e0")
    assert not bed.ping()
    bed.permit("e0")
    bed.forbid()
    assert not bed.ping()


@pytest.mark.parametrize("interface", ["w0", None])
def test_what_waits_for_a_neighbour_does_not_outlive_its_permit(
    bed: NodeBed, interface: str | None
) -> None:
    """It has passed the switch, and would leave when somebody else is behind the plug."""
    bed.start()
    bed.apply(stack_c())
    bed.permit("w0")
    inside(ROUTER, "ip", "link", "set", "r0", "arp", "off")
    inside(NODE, "ip", "neighbour", "flush", "dev", "w0")
    capture = bed.capture(ROUTER, "r0")
    assert not bed.ping(HOST)
    bed.forbid(interface)
    inside(ROUTER, "ip", "link", "set", "r0", "arp", "on")
    with bed.udp(mark=constants.NODE_VPN) as ike, bed.udp(PEERS) as gateway:
        gateway.bind((str(GATEWAY), 500))
        ike.sendto(b"ike", (str(GATEWAY), 500))
        assert gateway.recv(100) == b"ike", "the router is known again"
    assert [packet for packet in capture.packets() if packet.protocol == 4] == []


def test_a_permit_is_for_the_home_address_only(bed: NodeBed) -> None:
    bed.start()
    bed.apply(stack_c())
    bed.permit("w0")
    capture = bed.capture(NODE, "w0")
    with bed.udp(interface="w0") as made:
        made.bind((str(CARE_OF), 0))
        with pytest.raises(PermissionError):
            made.sendto(b"plaintext of the user", (str(STRANGER), 53))
    assert plaintext(capture) == []


def test_a_new_interface_is_closed(bed: NodeBed) -> None:
    bed.start()
    inside(NODE, "ip", *f"link add w9 type veth peer name r9 netns {ROUTER}".split())
    inside(NODE, "ip", "address", "add", "172.16.0.2/24", "dev", "w9")
    inside(NODE, "ip", "link", "set", "w9", "up")
    inside(ROUTER, "ip", "link", "set", "r9", "up")
    with bed.udp(interface="w9") as made, pytest.raises(PermissionError):
        made.sendto(b"plaintext of the user", ("172.16.0.1", 53))


def test_ipv6_of_the_users_does_not_leave(bed: NodeBed) -> None:
    bed.start()
    bed.apply(AT_HOME_STACK)
    bed.permit("e0")
    inside(NODE, "ip", "-6", "address", "add", "2001:db8::2/64", "dev", "e0", "nodad")
    inside(PEERS, "ip", "-6", "address", "add", "2001:db8::1/64", "dev", "h1", "nodad")
    with entered(NODE):
        made = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    with made, pytest.raises(PermissionError):
        made.sendto(b"plaintext of the user", ("2001:db8::1", 53))
    assert not bed.ping("2001:db8::1")
    assert bed.counters()["user_dropped_ipv6"] >= 2


def test_inbound_connections_are_refused_but_for_what_was_opened(bed: NodeBed) -> None:
    bed.start()
    bed.apply(AT_HOME_STACK)
    bed.permit("e0")
    with entered(NODE):
        servers = [socket.create_server(("", port)) for port in (22, 2222)]
    try:
        with entered(PEERS):
            for port in (22, 2222):
                made = socket.socket()
                made.settimeout(0.3)
                try:
                    made.connect((str(HOME), port))
                    assert port == 2222
                except TimeoutError:
                    assert port == 22
                finally:
                    made.close()
    finally:
        for server in servers:
            server.close()
    assert bed.counters()["unsolicited"] >= 1


def test_answers_come_in_and_strangers_do_not(bed: NodeBed) -> None:
    bed.start()
    bed.apply(AT_HOME_STACK)
    bed.permit("e0")
    with bed.udp() as made, bed.udp(PEERS) as peer, bed.udp(PEERS) as other:
        peer.bind((str(HOST), 53))
        other.bind((str(HOST), 54))
        made.sendto(b"question", (str(HOST), 53))
        _, back = peer.recvfrom(100)
        assert back[0] == str(HOME)
        other.sendto(b"unasked", back)
        peer.sendto(b"answer", back)
        assert made.recv(100) == b"answer"
    before = bed.node.user_packets() if bed.node else 0
    assert before == 2


def sysctl(name: str, value: str = "") -> str:
    path = Path("/proc/sys/net/ipv4") / name
    with entered(NODE):
        if value:
            path.write_text(value)
        return path.read_text().strip()


def test_nothing_is_forwarded_and_no_redirect_believed(bed: NodeBed) -> None:
    switches = {"ip_forward": "1", "conf/w0/accept_redirects": "1", "conf/all/arp_ignore": "0"}
    for name, value in switches.items():
        sysctl(name, value)
    bed.start()
    bed.apply(stack_c())
    assert {name: sysctl(name) for name in switches} == {
        "ip_forward": "0",
        "conf/w0/accept_redirects": "0",
        "conf/all/arp_ignore": "3",
    }
    bed.stop()
    assert {name: sysctl(name) for name in switches} == switches


def test_a_split_tunnel_reaches_its_exceptions(bed: NodeBed) -> None:
    bed.start()
    bed.vpn(CARE_OF)
    bed.agent_end("it", INTERNAL_AGENT, VPN_INNER, HOME)
    split = replace(stack_vc(), direct_networks=(IPv4Network(f"{STRANGER}/32"),))
    bed.apply(split)
    assert bed.ping(STRANGER)
    assert bed.ping()
    bed.apply(replace(split, mode=AccessMode.HELD))
    assert not bed.ping(STRANGER)
    bed.apply(stack_vc())
    capture = bed.capture(NODE, "w0")
    assert not bed.ping(STRANGER) or all(p.protocol == ESP for p in capture.packets())


def _live(pipe: Connection, stack: LayerStack) -> None:
    with entered(NODE):
        node = planes.node(SETTINGS)
        node.open()
        assert node.apply(stack) == []
        node.permit("w0", 1.5)
        pipe.send("up")
        signal.pause()


def test_a_killed_process_leaves_the_switch_and_its_successor_takes_over(bed: NodeBed) -> None:
    bed.agent_end("it", INTERNAL_AGENT, CARE_OF, HOME)
    ours, theirs = multiprocessing.Pipe()
    context = multiprocessing.get_context("fork")
    process = context.Process(target=_live, args=(theirs, stack_c()))
    process.start()
    assert ours.poll(20)
    assert ours.recv() == "up"
    assert bed.ping()
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    wait(lambda: not bed.ping(), "the end of the permit without its process")
    capture = bed.capture(NODE, "w0")
    user_tries_everything(bed)
    assert plaintext(capture) == []
    with bed.udp() as session:
        session.bind((str(HOME), 5000))
        bed.start()
        assert not bed.ping()
        user_tries_everything(bed)
        assert plaintext(capture) == []
        bed.apply(stack_c())
        bed.permit("w0")
        assert bed.ping()
        session.sendto(b"goes on", (str(HOST), 5000))
    capture.wait(lambda packet: b"goes on" in packet.octets)


def test_a_flushed_ruleset_is_put_back_with_its_permits(bed: NodeBed) -> None:
    node = bed.start()
    bed.apply(stack_c())
    bed.agent_end("it", INTERNAL_AGENT, CARE_OF, HOME)
    bed.permit("w0")
    assert bed.ping()
    inside(NODE, "nft", "flush", "ruleset")
    assert select.select([node.hold_fd()], [], [], 5)[0]
    with entered(NODE):
        assert node.read_held() == 0
    with bed.udp(interface="w0") as made, pytest.raises(PermissionError):
        made.sendto(b"plaintext of the user", (str(STRANGER), 9999))
    assert bed.ping()
    bed.forbid("w0")
    inside(NODE, "nft", "flush", "ruleset")
    with entered(NODE):
        assert node.read_held() == 0
    assert not bed.ping()
    bed.permit("w0")
    assert bed.ping()
    assert bed.counters()["switch_restored"] == 2


def test_peers_are_exchanged_and_permits_stay(bed: NodeBed) -> None:
    node = bed.start()
    bed.apply(AT_HOME_STACK)
    bed.permit("e0")
    capture = bed.capture(NODE, "w0")
    with bed.udp(interface="w0", mark=constants.NODE_VPN) as made:
        with pytest.raises(PermissionError):
            made.sendto(b"an IKE message", (str(STRANGER), 500))
        peers = replace(SETTINGS.peers, gateways=(STRANGER,))
        with entered(NODE):
            node.reconfigure(replace(SETTINGS, peers=peers))
        made.sendto(b"an IKE message", (str(STRANGER), 500))
        with pytest.raises(PermissionError):
            made.sendto(b"an IKE message", (str(GATEWAY), 500))
    capture.wait(lambda packet: b"an IKE message" in packet.octets)
    assert bed.ping()


def test_closing_keeps_the_switch_or_leaves_nothing(bed: NodeBed) -> None:
    def state() -> list[str]:
        return [
            inside(NODE, "ip", *words.split())
            for words in ("-4 -o address", "-4 rule", "-4 route show table all", "neighbour")
        ]

    inside(NODE, "ip", "address", "add", "10.1.0.200/24", "dev", "e0")
    before = state()
    bed.start()
    bed.apply(AT_HOME_STACK)
    assert f"{HOME}/24" in inside(NODE, "ip", "-4", "-o", "address", "show", "dev", "e0")
    bed.permit("e0")
    bed.stop(keep_switch=True)
    assert not bed.ping(STRANGER)
    assert "gateway_node" in inside(NODE, "nft", "list", "tables")
    assert [line.split("valid_lft")[0] for line in state()] == [
        line.split("valid_lft")[0] for line in before
    ]
    bed.release()
    assert "gateway_node" not in inside(NODE, "nft", "list", "tables")
    assert bed.ping(STRANGER)
