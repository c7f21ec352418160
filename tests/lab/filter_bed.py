"""Two devices, the gateway's filter and the intranet: `gw0` is a bridge here, ESP is not needed.

device a, device b -- gw0 gateway in1 -- intranet
"""

import contextlib
import select
import socket
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any

from dataplane_bed import entered, inside, run

from gateway.dataplane.filter import GatewayServices
from gateway.dataplane.kernel.filter.dataplane import KernelFilter
from gateway.dataplane.packet import marks

GATEWAY, INTRANET, A, B = "flt-gw", "flt-in", "flt-a", "flt-b"
NAMES = (GATEWAY, INTRANET, A, B)
ADDRESS = {
    A: ("10.9.0.1", "fd00:9::1"),
    B: ("10.9.0.2", "fd00:9::2"),
    INTRANET: ("10.1.0.2", "fd00:1::2"),
    GATEWAY: ("10.1.0.1", "fd00:1::1"),
}
SERVICES = GatewayServices(frozenset({1, 58}), frozenset({(17, (53, 53)), (6, (53, 53))}))
WAIT_S = 0.4
"""For what shall not come."""
SOON_S = 5.0
TCP, UDP = socket.SOCK_STREAM, socket.SOCK_DGRAM


class FilterBed:
    def __init__(self) -> None:
        self.filter: KernelFilter | None = None

    def up(self) -> None:
        self.down()
        run("ip", "-batch", "-", stdin="".join(f"netns add {name}\n" for name in NAMES) + f"""
            link add in0 netns {INTRANET} type veth peer name in1 netns {GATEWAY}
            link add tun netns {A} type veth peer name port-a netns {GATEWAY}
            link add tun netns {B} type veth peer name port-b netns {GATEWAY}
        """)  # fmt: skip
        run("ip", "-n", GATEWAY, "-batch", "-", stdin="""
            link set lo up
            link add gw0 type bridge
            link set port-a master gw0
            link set port-b master gw0
            link set port-a up
            link set port-b up
            link set gw0 up
            link set in1 up
            address add 10.1.0.1/24 dev in1
            address add fd00:1::1/64 dev in1 nodad
            address add 10.9.255.254/32 dev gw0
            address add fd00:9::ffff/128 dev gw0 nodad
            route add 10.9.0.0/24 dev gw0
            route add fd00:9::/120 dev gw0
        """)  # fmt: skip
        for name in (A, B):
            run("ip", "-n", name, "-batch", "-", stdin=f"""
                link set lo up
                link set tun up
                address add {ADDRESS[name][0]}/32 dev tun
                address add {ADDRESS[name][1]}/128 dev tun nodad
                route add 10.9.255.254/32 dev tun
                route add default via 10.9.255.254
                route add fd00:9::ffff/128 dev tun
                route add default via fd00:9::ffff
            """)  # fmt: skip
        run("ip", "-n", INTRANET, "-batch", "-", stdin="""
            link set lo up
            link set in0 up
            address add 10.1.0.2/24 dev in0
            address add fd00:1::2/64 dev in0 nodad
            route add default via 10.1.0.1
            route add default via fd00:1::1
        """)  # fmt: skip
        inside(GATEWAY, "sysctl", "-q", "-w", "net.ipv4.ip_forward=1",
               "net.ipv6.conf.all.forwarding=1", "net.ipv4.conf.all.send_redirects=0",
               "net.ipv4.conf.gw0.send_redirects=0")  # fmt: skip

    def down(self) -> None:
        self.close()
        for name in NAMES:
            run("ip", "netns", "del", name, check=False)

    def open(self, **options: Any) -> KernelFilter:
        """A filter in the gateway's namespace; a former one goes, unless it has been kept."""
        self.close()
        options = {"services": SERVICES, "isolate": True, "rules": True, **options}
        with entered(GATEWAY):
            self.filter = KernelFilter("gw0")
            self.filter.configure(options.pop("services"), **options)
            self.filter.open()
        return self.filter

    def close(self, *, keep: bool = False) -> None:
        if self.filter is not None:
            with entered(GATEWAY), contextlib.suppress(OSError):
                self.filter.close(keep=keep)
        self.filter = None

    def commit(self) -> None:
        assert self.filter is not None
        with entered(GATEWAY):
            assert self.filter.commit() == []

    def nft(self, *words: object) -> str:
        return inside(GATEWAY, "nft", *words)


def marked(name: str, zone: int) -> None:
    """As gateway_presence does it: the device's packets have marks instead of an address."""
    address = ADDRESS[name][0]
    to_it, from_it = marks.TO_DEVICE | zone, marks.FROM_DEVICE | zone
    with entered(GATEWAY):
        run("nft", "-f", "-", stdin=f"""
            add table ip marks
            add chain ip marks pre {{ type filter hook prerouting priority -150; }}
            add rule ip marks pre iifname gw0 ip saddr {address} meta mark set {from_it:#x}
            add rule ip marks pre ip daddr {address} meta mark set {to_it:#x}
        """)  # fmt: skip


def _family(address: str) -> int:
    return socket.AF_INET if ip_address(address).version == 4 else socket.AF_INET6


@contextlib.contextmanager
def listening(name: str, kind: int, address: str, port: int) -> Iterator[socket.socket]:
    """A socket that waits there."""
    with entered(name):
        server = socket.socket(_family(address), kind)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind((address, port))
        if kind == TCP:
            server.listen(8)
    with server:
        yield server


def reaches(
    name: str,
    target: str,
    kind: int,
    port: int,
    *,
    version: int = 4,
    address: str = "",
    wait_s: float = SOON_S,
) -> bool:
    """Whether a flow from one namespace gets to a socket in another one, and its answer back."""
    where = address or ADDRESS[target][0 if version == 4 else 1]
    with (
        listening(target, kind, where, port) as server,
        entered(name),
        socket.socket(_family(where), kind) as client,
    ):
        client.settimeout(wait_s)
        try:
            client.connect((where, port))
            if kind == TCP:
                return True
            client.send(b"question")
            if not select.select([server], [], [], wait_s)[0]:
                return False
            _, back = server.recvfrom(100)
            server.sendto(b"answer", back)
            return client.recv(100) == b"answer"
        except OSError:
            return False


def refused(name: str, target: str, kind: int, port: int, **options: Any) -> bool:
    """That it does not."""
    return not reaches(name, target, kind, port, wait_s=WAIT_S, **options)


def pings(name: str, address: str) -> bool:
    """One echo."""
    words = ["ping", "-n", "-q", "-c", "1", "-W", "1", address]
    return " 0% packet loss" in inside(name, *words, check=False)
