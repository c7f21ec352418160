"""Four namespaces: a mobile node abroad, a router, the gateway, and a host on the home link.

    node 192.0.2.10 -- .1 router 198.51.100.1 -- 198.51.100.2 gateway 10.1.0.1 -- 10.1.0.2 host

The mobile node is plain ``ip link`` tunnels; for UDP tunnels FOU and nft, as the gateway itself.
Where the kernel has none of that, a forwarder of its own.
"""

import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

from dataplane_bed import entered, inside, run

from gateway.dataplane.kernel.mobility.dataplane import KernelMobility
from gateway.dataplane.mobility import MobilitySettings
from gateway.dataplane.portable.forwarder import Forwarder
from gateway.dataplane.portable.tunnel_link import TunnelKind, TunnelLink
from gateway.dataplane.portable.wire.links import make_pair
from gateway.domain.checksum import internet_checksum
from gateway.domain.mobility import (
    Encapsulation,
    HomeNetwork,
    MobilityBinding,
    Tunnel,
    Visitor,
)
from gateway.lab import planes
from gateway.lab.kernel import missing_features

NODE, ROUTER, GATEWAY, HOST = "mkt-mn", "mkt-rt", "mkt-gw", "mkt-cn"
NAMES = (NODE, ROUTER, GATEWAY, HOST)
CARE_OF = IPv4Address("192.0.2.10")
AGENT = IPv4Address("198.51.100.2")
HOST_ADDRESS = IPv4Address("10.1.0.2")
HOME = IPv4Address("10.9.0.5")
VIRTUAL = HomeNetwork("virtual", IPv4Network("10.9.0.0/24"))
PHYSICAL = HomeNetwork("office", IPv4Network("10.1.0.0/24"), "h1")
AT_OFFICE = IPv4Address("10.1.0.77")
NAT_PORT = 4444

ETH_P_IP, ETH_P_ARP, ETH_P_ALL = 0x0800, 0x0806, 3


def binding(home_address: IPv4Address = HOME, **changes: Any) -> MobilityBinding:
    fields: dict[str, Any] = {
        "home_agent": AGENT,
        "home_address": home_address,
        "home_network": VIRTUAL,
        "tunnels": (Tunnel(AGENT, CARE_OF),),
        "co_located": True,
        "reverse": True,
        "broadcasts": False,
        "max_packet_octets": 1300,
    }
    return MobilityBinding(**{**fields, **changes})


class Packet:
    """An IPv4 packet from the wire; ``inner`` is the rest after the header."""

    def __init__(self, octets: bytes) -> None:
        self.octets = octets[: struct.unpack_from("!H", octets, 2)[0]]
        self.header_length = (octets[0] & 15) * 4
        self.identification, fragment = struct.unpack_from("!HH", octets, 4)
        self.dont_fragment = bool(fragment & 0x4000)
        self.is_fragment = bool(fragment & 0x3FFF)
        self.tos, self.ttl, self.protocol = octets[1], octets[8], octets[9]
        self.source, self.destination = IPv4Address(octets[12:16]), IPv4Address(octets[16:20])

    @property
    def inner(self) -> bytes:
        return self.octets[self.header_length :]

    @property
    def header_is_right(self) -> bool:
        return internet_checksum(self.octets[: self.header_length]) == 0

    @property
    def transport_is_right(self) -> bool:
        """The checksum of ICMP, TCP or UDP; a UDP checksum of 0 means none."""
        body = self.inner
        if self.protocol == 1:
            return internet_checksum(body) == 0
        if self.protocol == 17 and body[6:8] == b"\0\0":
            return True
        pseudo = self.octets[12:20] + struct.pack("!BBH", 0, self.protocol, len(body))
        return internet_checksum(pseudo + body) == 0

    def __repr__(self) -> str:
        return f"{self.source}>{self.destination} proto {self.protocol} {self.octets.hex()}"


class Capture:
    """Frames on one interface of a namespace."""

    def __init__(self, name: str, interface: str, protocol: int = ETH_P_IP) -> None:
        with entered(name):
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
            self.socket.bind((interface, ETH_P_ALL))
        self.protocol = protocol
        self.frames: list[bytes] = []

    def read(self) -> list[bytes]:
        self.socket.setblocking(False)
        try:
            while True:
                frame = self.socket.recv(70000)
                if struct.unpack_from("!H", frame, 12)[0] == self.protocol:
                    self.frames.append(frame[14:])
        except BlockingIOError:
            pass
        return self.frames

    def packets(self) -> list[Packet]:
        return [Packet(frame) for frame in self.read()]

    def wait(
        self, wanted: Callable[[Packet], bool], what: str = "packet", bound_s: float = 5.0
    ) -> Packet:
        end = time.monotonic() + bound_s
        while True:
            for packet in self.packets():
                if wanted(packet):
                    return packet
            assert time.monotonic() < end, f"no {what}; seen: {self.packets()}"
            time.sleep(0.01)

    def close(self) -> None:
        self.socket.close()


def ip(
    source: object, destination: object, protocol: int, payload: bytes, *, fragment: int = 0
) -> bytes:
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 7, fragment, 64, protocol, 0)
    header += IPv4Address(str(source)).packed + IPv4Address(str(destination)).packed
    checksum = internet_checksum(header)
    return header[:10] + struct.pack("!H", checksum) + header[12:] + payload


def echo(source: object, destination: object, data: bytes = b"abcdefgh") -> bytes:
    body = struct.pack("!BBHHH", 8, 0, 0, 1, 1) + data
    body = body[:2] + struct.pack("!H", internet_checksum(body)) + body[4:]
    return ip(source, destination, 1, body)


def send_raw(name: str, packet: bytes) -> None:
    with entered(name):
        raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, 255)
    with raw:
        raw.setsockopt(socket.IPPROTO_IP, socket.IP_HDRINCL, 1)
        raw.sendto(packet, (str(IPv4Address(packet[16:20])), 0))


class MobilityBed:
    def __init__(self) -> None:
        self.mobility: KernelMobility | None = None
        self.captures: list[Capture] = []
        self.forwarders: list[Forwarder] = []

    def capture(self, name: str, interface: str, protocol: int = ETH_P_IP) -> Capture:
        """What passes there from now on, until the end of the test."""
        self.captures.append(Capture(name, interface, protocol))
        return self.captures[-1]

    def up(self) -> None:
        self.down()
        run("ip", "-batch", "-", stdin="".join(f"netns add {name}\n" for name in NAMES) + f"""
            link add m0 netns {NODE} type veth peer name r0 netns {ROUTER}
            link add r1 netns {ROUTER} type veth peer name h0 netns {GATEWAY}
            link add h1 netns {GATEWAY} type veth peer name c0 netns {HOST}
        """)  # fmt: skip
        for name, links in (
            (NODE, {"m0": "192.0.2.10/24"}),
            (ROUTER, {"r0": "192.0.2.1/24", "r1": "198.51.100.1/24"}),
            (GATEWAY, {"h0": "198.51.100.2/24", "h1": "10.1.0.1/24"}),
            (HOST, {"c0": "10.1.0.2/24"}),
        ):
            lines = ["link set lo up"]
            for link, address in links.items():
                lines += [f"address add {address} dev {link}", f"link set {link} up"]
            if name == NODE:
                lines.append("route add default via 192.0.2.1")
            if name == GATEWAY:
                lines.append("route add default via 198.51.100.1")
            if name == HOST:
                lines.append("route add default via 10.1.0.1")
            run("ip", "-n", name, "-batch", "-", stdin="\n".join(lines))
            with entered(name):
                Path("/proc/sys/net/ipv6/conf/all/disable_ipv6").write_text("1")
        with entered(ROUTER):
            Path("/proc/sys/net/ipv4/ip_forward").write_text("1")

    def down(self) -> None:
        self.stop()
        while self.captures:
            self.captures.pop().close()
        while self.forwarders:
            self.forwarders.pop().close(keep=False)
        there = [name for name in NAMES if Path(f"/run/netns/{name}").exists()]
        if there:
            run("ip", "-batch", "-", stdin="".join(f"netns del {name}\n" for name in there))

    def start(self, **changes: Any) -> KernelMobility:
        fields: dict[str, Any] = {"home_agents": (AGENT,), "home_networks": (VIRTUAL, PHYSICAL)}
        with entered(GATEWAY):
            self.mobility = planes.mobility(MobilitySettings(**{**fields, **changes}))
            self.mobility.start()
        return self.mobility

    def stop(self) -> None:
        if self.mobility is not None:
            with entered(GATEWAY):
                self.mobility.close()
            self.mobility = None

    def commit(self, *bindings: MobilityBinding, visitors: tuple[Visitor, ...] = ()) -> None:
        assert self.mobility is not None
        for one in bindings:
            self.mobility.set_binding(one)
        for visitor in visitors:
            self.mobility.set_visitor(visitor)
        assert self.mobility.commit() == []

    def counters(self) -> dict[str, int]:
        assert self.mobility is not None
        with entered(GATEWAY):
            return self.mobility.counters()

    def node_tunnel(
        self,
        encapsulation: Encapsulation = Encapsulation.IP_IP,
        *,
        home: IPv4Address = HOME,
        udp: bool = False,
        checksum: bool = True,
    ) -> None:
        """The mobile node's end: all traffic of ``home`` to 10.1.0.0/24 goes through it."""
        inside(NODE, "ip", "link", "del", "t0", check=False)
        if udp and not missing_features():
            self._kernel_udp_tunnel(checksum=checksum)
        else:
            self.tunnel(NODE, CARE_OF, AGENT, encapsulation, udp=udp)
        inside(NODE, "ip", "address", "add", f"{home}/32", "dev", "t0")
        inside(NODE, "ip", "route", "add", "10.1.0.0/24", "dev", "t0", "src", home)

    def tunnel(
        self,
        name: str,
        local: IPv4Address,
        remote: IPv4Address,
        encapsulation: Encapsulation = Encapsulation.IP_IP,
        *,
        udp: bool = False,
    ) -> None:
        """One end of a tunnel, the interface `t0` of a namespace."""
        if not missing_features():
            kind = "ipip" if encapsulation is Encapsulation.IP_IP else "gre"
            words = f"link add t0 mtu 1300 type {kind} local {local} remote {remote} ttl 64"
            inside(name, "ip", *words.split())
            inside(name, "ip", "link", "set", "t0", "up")
            return
        link = TunnelLink("t0", TunnelKind[encapsulation.name], local=local, remote=remote)
        if udp:
            link = replace(link, kind=TunnelKind.MIP_UDP, local_port=NAT_PORT, remote_port=434)
        with entered(name):
            make_pair("t0", 1300)
            forwarder = planes.plane("t-esp").forwarder()
            forwarder.set_tunnel(link)
            assert forwarder.commit() == ([], [])
            self.forwarders.append(forwarder)

    def _kernel_udp_tunnel(self, *, checksum: bool) -> None:
        csum = "encap-csum" if checksum else "noencap-csum"
        words = f"link add t0 mtu 1300 type gre local {CARE_OF} remote {AGENT} ttl 64"
        words += f" encap fou encap-sport {NAT_PORT} encap-dport 434 {csum}"
        inside(NODE, "ip", "fou", "add", "port", NAT_PORT, "ipproto", 47, check=False)
        with entered(NODE):
            run("nft", "-f", "-", stdin=_NODE_UDP)
        inside(NODE, "ip", *words.split())
        inside(NODE, "ip", "link", "set", "t0", "up")

    def ping(self, name: str, source: object, target: object, *words: object) -> str:
        return inside(
            name, "ping", "-c", 1, "-W", 2, "-I", source, *words, target, check=False
        )  # fmt: skip

    def reaches(self, name: str, source: object, target: object, *words: object) -> bool:
        return " 0% packet loss" in self.ping(name, source, target, *words)


_NODE_UDP = f"""
add table ip node
delete table ip node
table ip node {{
  chain out {{ type filter hook output priority raw;
    udp sport {NAT_PORT} @th,64,32 0x00000800 @th,64,32 set 0x04040000
  }}
  chain in {{ type filter hook prerouting priority raw;
    udp dport {NAT_PORT} @th,64,32 0x04040000 @th,64,32 set 0x00000800
  }}
}}
"""


@contextmanager
def mobility_bed() -> Iterator[MobilityBed]:
    bed = MobilityBed()
    bed.up()
    try:
        yield bed
    finally:
        bed.down()
