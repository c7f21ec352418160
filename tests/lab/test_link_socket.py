"""The foreign agent's packet socket on a real link: addresses of other networks, no ARP."""

# planes: portable

import os
import socket
import struct
from collections.abc import Iterator
from ipaddress import IPv4Address

import pytest

from gateway.appliance.link_socket import FromLink, LinkSocket
from gateway.dataplane.packet import ipv4, udp
from gateway.domain.endpoint import Endpoint, Path
from gateway.lab import netns
from gateway.lab.processes import wait_until

pytestmark = pytest.mark.kernel

AGENT = IPv4Address("10.4.0.1")
HOME = IPv4Address("10.60.0.5")
AGENT_MAC, NODE_MAC = bytes.fromhex("020000000001"), bytes.fromhex("020000000002")


class Bed:
    """`agent` and `node` on one wire; the node's home address is of another network."""

    def __init__(self) -> None:
        self.names = [f"l{os.getpid()}-{host}" for host in ("agent", "node")]
        for name in self.names:
            netns.command(["ip", "netns", "add", name])
        agent, node = self.names
        wire = f"link add wire address {AGENT_MAC.hex(':')} type veth"
        peer = f"peer name wire address {NODE_MAC.hex(':')} netns {node}"
        netns.command(["ip", "-n", agent, *wire.split(), *peer.split()])
        netns.command(["ip", "-n", agent, "address", "add", f"{AGENT}/24", "dev", "wire"])
        netns.command(["ip", "-n", node, "address", "add", f"{HOME}/32", "dev", "wire"])
        for name in self.names:
            netns.command(["ip", "-n", name, "link", "set", "wire", "up"])
        netns.command(["ip", "-n", node, "route", "add", "default", "dev", "wire"])
        self.agent = netns.made_inside(agent, lambda: LinkSocket("wire"))
        self.node = netns.made_inside(node, _raw)
        self.counted: list[str] = []

    def heard(self) -> FromLink:
        found: list[FromLink] = []

        def some() -> bool:
            found.extend(self.agent.read(self.counted.append))
            return bool(found)

        wait_until(some, 20, "a packet of the node")
        assert len(found) == 1
        return found[0]

    def from_node(self, packet: bytes, to: bytes = AGENT_MAC) -> None:
        self.node.send(to + NODE_MAC + b"\x08\x00" + packet)

    def at_node(self) -> tuple[bytes, bytes]:
        """Link-layer destination and packet of the next that is IPv4 from the agent."""
        self.node.settimeout(20)
        while True:
            frame = self.node.recv(4096)
            if frame[6:12] == AGENT_MAC and frame[12:14] == b"\x08\x00":
                return frame[:6], frame[14:]

    def close(self) -> None:
        self.agent.close()
        self.node.close()
        for name in self.names:
            netns.command(["ip", "netns", "delete", name])


def _raw() -> socket.socket:
    made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0003))
    made.bind(("wire", 0x0003))
    return made


@pytest.fixture
def bed() -> Iterator[Bed]:
    made = Bed()
    yield made
    made.close()


def test_a_request_comes_with_its_link_address_and_the_reply_finds_it_without_arp(bed: Bed) -> None:
    to = Endpoint(AGENT, 434)
    bed.from_node(udp.packet(Endpoint(HOME, 9434), to, b"\1request"))
    heard = bed.heard()
    path = Path(to, Endpoint(HOME, 9434))
    assert heard == FromLink(NODE_MAC, path, message=b"\1request", ttl=64)
    assert bed.agent.send(b"\3reply", heard.path, heard.link_address) is None
    mac, packet = bed.at_node()
    assert mac == NODE_MAC
    datagram = udp.parse(packet)
    assert (datagram.source, datagram.destination) == (to, Endpoint(HOME, 9434))
    assert datagram.payload == b"\3reply"


def test_a_request_without_any_address_is_heard(bed: Bed) -> None:
    nobody = Endpoint(IPv4Address("0.0.0.0"), 434)
    all_agents = Endpoint(IPv4Address("224.0.0.11"), 434)
    bed.from_node(udp.packet(nobody, all_agents, b"\1request"), bytes.fromhex("01005e00000b"))
    assert bed.heard().path == Path(all_agents, nobody)


def test_solicitations_come_and_advertisements_go_to_everybody_or_to_one(bed: Bed) -> None:
    solicitation = struct.pack("!BBHI", 10, 0, 0xF5FF, 0)
    everybody = IPv4Address("255.255.255.255")
    packet = ipv4.build(HOME, everybody, 1, solicitation, ttl=1)
    bed.from_node(packet, b"\xff" * 6)
    heard = bed.heard()
    assert (heard.solicitation, heard.link_address) == (solicitation, NODE_MAC)
    assert bed.agent.address() == AGENT
    assert bed.agent.advertise(b"\x09advert", AGENT, IPv4Address("224.0.0.1"), b"") is None
    mac, packet = bed.at_node()
    assert mac == bytes.fromhex("01005e000001")
    assert (packet[8], packet[9], packet[20:]) == (1, 1, b"\x09advert")
    assert bed.agent.advertise(b"\x09one", AGENT, HOME, NODE_MAC) is None
    mac, packet = bed.at_node()
    assert (mac, packet[16:20], packet[20:]) == (NODE_MAC, HOME.packed, b"\x09one")


def test_other_traffic_and_broken_packets_never_get_up_here(bed: Bed) -> None:
    port, other = Endpoint(AGENT, 434), Endpoint(AGENT, 53)
    me = Endpoint(HOME, 9)
    bed.from_node(udp.packet(me, other, b"dns"))
    bed.from_node(ipv4.build(HOME, AGENT, 1, b"\x08\0\xf7\xff\0\0\0\0", ttl=64))
    bed.from_node(udp.packet(me, port, b"\1cut")[:26])
    bed.from_node(udp.packet(me, port, b""))
    late = bytearray(udp.packet(me, port, b"\1fragment"))
    late[6:8] = b"\0\x05"
    bed.from_node(bytes(late))
    bed.from_node(udp.packet(me, port, b"\1good"))
    assert bed.heard().message == b"\1good"
    assert bed.counted == ["malformed", "malformed"]


def test_an_interface_that_is_not_there_is_named(bed: Bed) -> None:
    with pytest.raises(OSError, match="interface nothere"):
        LinkSocket("nothere")
