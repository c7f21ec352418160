"""Three namespaces: a mobile node, a router, and everything that is inside or in between.

    node 192.0.2.10 w0 -- r0 .1 router 198.51.100.1 -- 198.51.100.2 (x-HA), .3 (gateway) peers
    node e0 ------------- home link 10.1.0.0/24 ------- h1 10.1.0.1 (i-HA) peers, 10.1.0.2 (host)

The peers' ends of tunnels and SAs are plain ``ip link`` and ``ip xfrm``; where the kernel has none
of that, a forwarder of theirs (:mod:`node_user_peers`).
"""

import contextlib
import json
import socket
import struct
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

from dataplane_bed import entered, inside, run
from mobility_kernel_bed import ETH_P_IP, Capture
from node_user_peers import UserPeers, node_end

from gateway.dataplane.kernel.mobility.constants import FOU_PORT
from gateway.dataplane.kernel.node import constants
from gateway.dataplane.kernel.node.node import KernelNode
from gateway.dataplane.kernel.node.release import release
from gateway.dataplane.node import (
    Attachment,
    LayerStack,
    NodeSettings,
    NodeTunnel,
    Peers,
    VpnLayer,
)
from gateway.domain.access_mode import AccessMode
from gateway.domain.mobility import Encapsulation
from gateway.lab import planes
from gateway.lab.kernel import missing_features

NODE, ROUTER, PEERS = "nkt-mn", "nkt-rt", "nkt-hq"
NAMES = (NODE, ROUTER, PEERS)
CARE_OF, ROUTER_ADDRESS = IPv4Address("192.0.2.10"), IPv4Address("192.0.2.1")
EXTERNAL_AGENT, GATEWAY = IPv4Address("198.51.100.2"), IPv4Address("198.51.100.3")
EXTERNAL_HOME = IPv4Address("203.0.113.5")
INTERNAL_AGENT, HOST = IPv4Address("10.1.0.1"), IPv4Address("10.1.0.2")
HOME = IPv4Address("10.1.0.77")
VPN_INNER = IPv4Address("10.8.0.5")
STRANGER = IPv4Address("198.51.100.9")
"""Outside, nobody the node may speak to."""

SETTINGS = NodeSettings(
    Peers((GATEWAY,), (EXTERNAL_AGENT,), (INTERNAL_AGENT,)),
    accept_inside=(("tcp", 2222, IPv4Network("10.1.0.0/16")),),
)
AWAY = Attachment("w0", CARE_OF, ROUTER_ADDRESS)
AT_HOME = Attachment("e0", HOME, INTERNAL_AGENT)
KEY = "0x000102030405060708090a0b0c0d0e0f10111213"
ESP_GCM_OCTETS = 8 + 8 + 16
"""Header, IV and ICV, without padding."""


def internal(care_of: IPv4Address = VPN_INNER, **changes: Any) -> NodeTunnel:
    return NodeTunnel(
        **{
            "home_address": HOME,
            "home_agent": INTERNAL_AGENT,
            "care_of_address": care_of,
            "co_located": True,
            "max_packet_octets": 1300,
            **changes,
        }
    )


def external(**changes: Any) -> NodeTunnel:
    return NodeTunnel(
        **{
            "home_address": EXTERNAL_HOME,
            "home_agent": EXTERNAL_AGENT,
            "care_of_address": CARE_OF,
            "co_located": True,
            **changes,
        }
    )


def stack_c(**changes: Any) -> LayerStack:
    return LayerStack(AccessMode.C, AWAY, internal=internal(CARE_OF, **changes), home_address=HOME)


def stack_vc(**changes: Any) -> LayerStack:
    vpn = VpnLayer(CARE_OF, GATEWAY, VPN_INNER)
    return LayerStack(AccessMode.VC, AWAY, vpn=vpn, internal=internal(**changes), home_address=HOME)


def stack_cvc(outer: NodeTunnel | None = None, inner: NodeTunnel | None = None) -> LayerStack:
    return LayerStack(
        AccessMode.CVC,
        AWAY,
        external=outer or external(),
        vpn=VpnLayer(EXTERNAL_HOME, GATEWAY, VPN_INNER),
        internal=inner or internal(),
        home_address=HOME,
    )


_ADDRESSES = {
    "w0": (f"{CARE_OF}/24",),
    "r0": (f"{ROUTER_ADDRESS}/24",),
    "r1": ("198.51.100.1/24",),
    "h0": (f"{EXTERNAL_AGENT}/24", f"{GATEWAY}/24", f"{STRANGER}/24"),
    "h1": (f"{INTERNAL_AGENT}/24",),
    "c0": (f"{HOST}/32",),
}
_LINK_UP = {
    link: (*(f"address add {address} dev {link}" for address in addresses), f"link set {link} up")
    for link, addresses in _ADDRESSES.items()
}


class NodeBed:
    def __init__(self, *, user_peers: bool = False) -> None:
        self.node: KernelNode | None = None
        self.captures: list[Capture] = []
        self._with_vpn: set[str] = set()
        self._peers = UserPeers() if user_peers or missing_features() else None

    def up(self) -> None:
        self.down()
        run("ip", "-batch", "-", stdin="".join(f"netns add {name}\n" for name in NAMES) + f"""
            link add w0 netns {NODE} type veth peer name r0 netns {ROUTER}
            link add r1 netns {ROUTER} type veth peer name h0 netns {PEERS}
            link add e0 netns {NODE} type veth peer name h1 netns {PEERS}
            link add c0 netns {PEERS} type veth peer name c1 netns {PEERS}
        """)  # fmt: skip
        self._batch(ROUTER, "link set lo up", *_LINK_UP["r0"], *_LINK_UP["r1"])
        self._batch(ROUTER, f"route add 10.1.0.0/16 via {EXTERNAL_AGENT}")
        self._batch(PEERS, "link set lo up", *_LINK_UP["h0"], *_LINK_UP["h1"], *_LINK_UP["c0"])
        self._batch(PEERS, "route add default via 198.51.100.1")
        self._batch(NODE, "link set lo up", "link set e0 up", *_LINK_UP["w0"])
        self._batch(NODE, f"route add default via {ROUTER_ADDRESS}")
        for name in (ROUTER, PEERS):
            with entered(name):
                Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
                Path("/proc/sys/net/ipv4/conf/all/rp_filter").write_text("0")

    def clean(self) -> None:
        """As it was after :meth:`up`."""
        self.stop()
        if self._peers is not None:
            with entered(PEERS):
                self._peers.end()
        while self.captures:
            self.captures.pop().close()
        # It is not the IPsec dataplane's own: release() would not touch it.
        self._batch(NODE, f"link del {constants.XFRM_INTERFACE}", force=True)
        with entered(NODE):
            release()
        xfrm = ("xfrm state flush", "xfrm policy flush")
        gone = ("link del w9",)
        away = ("address flush dev w0", "address flush dev e0", "neighbour flush all")
        back = (*_LINK_UP["w0"], f"route add default via {ROUTER_ADDRESS}")
        self._batch(NODE, *xfrm, *gone, *away, *back, force=True)
        homes = (EXTERNAL_HOME, HOME, VPN_INNER)
        routes = [f"route del {home}/32" for home in homes]
        self._batch(ROUTER, *routes, "neighbour flush dev r0 nud permanent", force=True)
        links = ("link del xt", "link del it", "link del vg", "neighbour flush all")
        self._batch(PEERS, *xfrm, *links, *routes, force=True)
        inside(PEERS, "nft", "flush", "ruleset")
        self._with_vpn.clear()

    def _batch(self, name: str, *lines: str, force: bool = False) -> None:
        words = ["ip", "-n", name, *(["-force"] if force else []), "-batch", "-"]
        run(*words, stdin="\n".join(lines), check=not force)

    def down(self) -> None:
        self.stop()
        if self._peers is not None and Path(f"/run/netns/{PEERS}").exists():
            with entered(PEERS):
                self._peers.end()
        while self.captures:
            self.captures.pop().close()
        there = [name for name in NAMES if Path(f"/run/netns/{name}").exists()]
        if there:
            run("ip", "-batch", "-", stdin="".join(f"netns del {name}\n" for name in there))

    def start(self, settings: NodeSettings = SETTINGS) -> KernelNode:
        with entered(NODE):
            self.node = planes.node(settings)
            self.node.open()
        return self.node

    def stop(self, *, keep_switch: bool = False) -> None:
        if self.node is not None:
            with entered(NODE):
                self.node.close(keep_switch=keep_switch)
            self.node = None

    def apply(self, stack: LayerStack) -> None:
        assert self.node is not None
        with entered(NODE):
            refused = self.node.apply(stack)
        assert refused == []

    def permit(self, interface: str, lifetime_s: float = 30.0) -> None:
        assert self.node is not None
        with entered(NODE):
            self.node.permit(interface, lifetime_s)

    def forbid(self, interface: str | None = None) -> None:
        assert self.node is not None
        with entered(NODE):
            self.node.forbid(interface)

    def counters(self) -> dict[str, int]:
        assert self.node is not None
        with entered(NODE):
            return self.node.counters()

    def release(self) -> None:
        with entered(NODE):
            release()

    def capture(self, name: str, interface: str, protocol: int = ETH_P_IP) -> Capture:
        self.captures.append(Capture(name, interface, protocol))
        return self.captures[-1]

    # -- the peers' ends -------------------------------------------------------------------

    def agent_end(
        self,
        name: str,
        local: IPv4Address,
        remote: IPv4Address,
        address: IPv4Address,
        encapsulation: Encapsulation = Encapsulation.IP_IP,
        *,
        udp: bool = False,
        checksum: bool = False,
    ) -> None:
        """A home agent's tunnel for ``address``."""
        if udp:
            with entered(PEERS):
                run("nft", "-f", "-", stdin=_PEER_UDP)
        if self._peers is not None:
            with entered(PEERS):
                self._peers.tunnel(name, local, remote, encapsulation, udp=udp)
            inside(PEERS, "ip", "route", "replace", f"{address}/32", "dev", name)
            return
        inside(PEERS, "ip", "link", "del", name, check=False)
        kind = "ipip" if encapsulation is Encapsulation.IP_IP and not udp else "gre"
        mtu = 1400 if address == EXTERNAL_HOME else 1300
        words = f"link add {name} mtu {mtu} type {kind} local {local} remote {remote} ttl 64"
        if udp:
            csum = "encap-csum" if checksum else "noencap-csum"
            words += f" encap fou encap-sport 434 encap-dport 434 {csum}"
            inside(PEERS, "ip", "fou", "add", "port", FOU_PORT, "ipproto", 47, check=False)
        inside(PEERS, "ip", *words.split())
        inside(PEERS, "ip", "link", "set", name, "up")
        inside(PEERS, "ip", "route", "replace", f"{address}/32", "dev", name)

    def vpn(self, outer: IPv4Address) -> None:
        """Both ends of the VPN layer, as the IPsec dataplane would make the node's."""
        if planes.portable():
            with entered(NODE):
                node_end(outer, GATEWAY)
        if self._peers is not None:
            with entered(PEERS):
                self._peers.vpn(GATEWAY, outer)
            inside(PEERS, "ip", "route", "replace", f"{VPN_INNER}/32", "dev", "vg")
            return
        for name, mark in ((NODE, f"output-mark {constants.NODE_VPN:#x}"), (PEERS, "")):
            if name == NODE and planes.portable():
                continue
            interface = constants.XFRM_INTERFACE if name == NODE else "vg"
            ends = (outer, GATEWAY) if name == NODE else (GATEWAY, outer)
            out, back = (f"src {a} dst {b}" for a, b in (ends, ends[::-1]))
            spi_out, spi_in = ("0x1001", "0x1002") if name == NODE else ("0x1002", "0x1001")
            aead = f"aead rfc4106(gcm(aes)) {KEY} 128 if_id 7"
            lines = [
                "xfrm state flush",
                "xfrm policy flush",
                f"xfrm state add {out} proto esp spi {spi_out} mode tunnel {aead} {mark}",
                f"xfrm state add {back} proto esp spi {spi_in} mode tunnel {aead}",
                f"xfrm policy add dir out if_id 7 tmpl {out} proto esp mode tunnel",
                f"xfrm policy add dir in if_id 7 tmpl {back} proto esp mode tunnel",
                f"xfrm policy add dir fwd if_id 7 tmpl {back} proto esp mode tunnel",
            ]
            if name not in self._with_vpn:
                self._with_vpn.add(name)
                lines.append(f"link add {interface} mtu 1400 type xfrm dev lo if_id 7")
                lines.append(f"link set {interface} up")
            if name == PEERS:
                lines.append(f"route replace {VPN_INNER}/32 dev vg")
            run("ip", "-n", name, "-batch", "-", stdin="\n".join(lines))

    def foreign_agent(self, home_address: IPv4Address) -> bytes:
        """Make the router the foreign agent of an address; its link-layer address."""
        here = self.link_address(NODE, "w0").hex(":")
        inside(NODE, "ip", "address", "flush", "dev", "w0")
        words = f"neighbour replace {home_address} lladdr {here} dev r0 nud permanent"
        inside(ROUTER, "ip", *words.split())
        inside(ROUTER, "ip", "route", "replace", f"{home_address}/32", "dev", "r0")
        inside(PEERS, "ip", "route", "replace", f"{home_address}/32", "via", "198.51.100.1")
        return self.link_address(ROUTER, "r0")

    def link_address(self, name: str, interface: str) -> bytes:
        (link,) = json.loads(inside(name, "ip", "-j", "link", "show", "dev", interface))
        return bytes.fromhex(link["address"].replace(":", ""))

    def ask_arp(self, name: str, interface: str, address: IPv4Address) -> None:
        """Ask the link who has an address."""
        mine = self.link_address(name, interface)
        frame = b"\xff" * 6 + mine + struct.pack("!HHHBBH", 0x0806, 1, 0x0800, 6, 4, 1)
        frame += mine + ROUTER_ADDRESS.packed + bytes(6) + address.packed
        with entered(name):
            raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        with raw:
            raw.sendto(frame, (interface, 0x0806))

    # -- traffic ---------------------------------------------------------------------------

    def ping(self, target: object = HOST, *words: object, name: str = NODE) -> bool:
        told = inside(name, "ping", "-c", 1, "-W", 1, *words, target, check=False)
        return " 0% packet loss" in told

    def udp(self, name: str = NODE, *, mark: int = 0, interface: str = "") -> socket.socket:
        with entered(name):
            made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.settimeout(2.0)
        if mark:
            made.setsockopt(socket.SOL_SOCKET, 36, mark)
        if interface:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
        return made


_PEER_UDP = f"""
add table ip peer
delete table ip peer
table ip peer {{
  chain out {{ type filter hook output priority raw;
    udp sport 434 @th,64,32 0x00000800 @th,64,32 set 0x04040000
  }}
  chain in {{ type filter hook prerouting priority raw;
    udp dport 434 @th,64,32 0x04040000 @th,64,32 set 0x00000800 @th,16,16 set {FOU_PORT}
  }}
}}
"""


@contextlib.contextmanager
def node_bed(*, user_peers: bool = False) -> Iterator[NodeBed]:
    bed = NodeBed(user_peers=user_peers)
    bed.up()
    try:
        yield bed
    finally:
        bed.down()
