"""Three namespaces: clients, the NAR server's kernel, and hosts outside.

    X 10.0.0.2 (.3) -- 10.0.0.1 N 192.0.2.1 -- 192.0.2.9 (.10) Y

Packets are made and compared octet by octet; the peers' own stacks take no part, except for ARP.
"""

import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from dataplane_bed import entered, run
from mobility_kernel_bed import Capture, Packet, ip

from gateway.dataplane.kernel.nar.dataplane import KernelNar
from gateway.dataplane.nar import NarRefusal, NarServerSettings, NarSettings
from gateway.domain.checksum import internet_checksum
from gateway.domain.nar import Delivery, L2tpSession, NarMapping, NarProtocol, NarTuple
from gateway.lab import planes

CLIENTS, SERVER, OUTSIDE = "nkt-x", "nkt-n", "nkt-y"
NAMES = (CLIENTS, SERVER, OUTSIDE)
XA, XA2 = IPv4Address("10.0.0.2"), IPv4Address("10.0.0.3")
NA = IPv4Address("10.0.0.1")
NB, NB2 = IPv4Address("192.0.2.1"), IPv4Address("192.0.2.77")
YB, YB2 = IPv4Address("192.0.2.9"), IPv4Address("192.0.2.10")
XB = IPv4Address("203.0.113.7")
CN = IPv4Address("198.51.100.5")

SOHO = NarServerSettings(
    name="soho",
    tunnel_address=NA,
    addresses=(NB, NB2),
    client_interfaces=("a0",),
    outside_interfaces=("b0",),
    ports=(range(20_000, 30_000),),
    icmp_ids=range(0xC000, 0x1_0000),
)
SETTINGS = NarSettings(servers=(SOHO,))


def lease(
    protocol: NarProtocol,
    value: int,
    delivery: Delivery = Delivery.IP_IP,
    *,
    remote: IPv4Address | None = None,
    remote_port: int | None = None,
    address: IPv4Address = NB,
    **more: Any,
) -> NarMapping:
    key = NarTuple(protocol, address, value, remote, remote_port)
    return NarMapping("soho", key, **{"client": XA, "delivery": delivery, **more})


# -- packets -----------------------------------------------------------------------------------


def tcp(source: Any, sport: int, to: Any, dport: int, data: bytes = b"octets", flags: int = 0x10,
        options: bytes = b"") -> bytes:  # fmt: skip
    words = (5 + len(options) // 4) << 4
    head = struct.pack("!HHIIBBHHH", sport, dport, 1, 2, words, flags, 1000, 0, 0) + options
    return _with_checksum(source, to, 6, head + data, 16)


def udp(source: Any, sport: int, to: Any, dport: int, data: bytes = b"octets", *,
        checksum: bool = True, fragment: int = 0) -> bytes:  # fmt: skip
    body = struct.pack("!HHHH", sport, dport, 8 + len(data), 0) + data
    if not checksum:
        return ip(source, to, 17, body, fragment=fragment)
    return _with_checksum(source, to, 17, body, 6, fragment)


def _with_checksum(
    source: Any, to: Any, protocol: int, body: bytes, at: int, fragment: int = 0
) -> bytes:
    pseudo = IPv4Address(str(source)).packed + IPv4Address(str(to)).packed
    pseudo += struct.pack("!BBH", 0, protocol, len(body))
    found = internet_checksum(pseudo + body)
    body = body[:at] + struct.pack("!H", found or 0xFFFF) + body[at + 2 :]
    return ip(source, to, protocol, body, fragment=fragment)


def echo(source: Any, to: Any, number: int, *, reply: bool = False) -> bytes:
    body = struct.pack("!BBHHH", 0 if reply else 8, 0, 0, number, 7) + b"echo echo"
    body = body[:2] + struct.pack("!H", internet_checksum(body)) + body[4:]
    return ip(source, to, 1, body)


def esp(source: Any, to: Any, spi: int) -> bytes:
    return ip(source, to, 50, struct.pack("!II", spi, 1) + bytes(range(32)))


def ah(source: Any, to: Any, spi: int) -> bytes:
    return ip(source, to, 51, struct.pack("!BBHII", 6, 4, 0, spi, 1) + bytes(range(24)))


def wrap(source: Any, to: Any, inner: bytes, delivery: Delivery = Delivery.IP_IP) -> bytes:
    if delivery is Delivery.GRE:
        return ip(source, to, 47, b"\0\0\x08\0" + inner)
    return ip(source, to, 4, inner)


def forwarded(packet: bytes, *, source: Any = None, to: Any = None) -> bytes:
    """As it is after a router, with other addresses where they are given."""
    head = bytearray(packet[:20])
    head[8] -= 1
    if source is not None:
        head[12:16] = IPv4Address(str(source)).packed
    if to is not None:
        head[16:20] = IPv4Address(str(to)).packed
    head[10:12] = b"\0\0"
    head[10:12] = struct.pack("!H", internet_checksum(bytes(head)))
    return bytes(head) + packet[20:]


class NarKernelBed:
    """The namespaces, a dataplane in the middle one, and recordings at both ends."""

    def __init__(self) -> None:
        self.nar: KernelNar | None = None
        self.x: Capture
        self.y: Capture

    def up(self) -> None:
        self.down()
        run("ip", "-batch", "-", stdin="".join(f"netns add {name}\n" for name in NAMES) + f"""
            link add x0 netns {CLIENTS} type veth peer name a0 netns {SERVER}
            link add b0 netns {SERVER} type veth peer name y0 netns {OUTSIDE}
        """)  # fmt: skip
        for name, links in (
            (CLIENTS, {"x0": (f"{XA}/24", f"{XA2}/24")}),
            (SERVER, {"a0": (f"{NA}/24",), "b0": (f"{NB}/24",)}),
            (OUTSIDE, {"y0": (f"{YB}/24", f"{YB2}/24")}),
        ):
            with entered(name):
                Path("/proc/sys/net/ipv6/conf/default/disable_ipv6").write_text("1")
                Path("/proc/sys/net/ipv6/conf/all/disable_ipv6").write_text("1")
            lines = ["link set lo up"]
            for link, addresses in links.items():
                lines += [f"address add {address} dev {link}" for address in addresses]
                lines.append(f"link set {link} up")
            if name == CLIENTS:
                lines.append(f"route add default via {NA}")
            if name == OUTSIDE:
                lines += [f"route add {NB2}/32 via {NB}", f"route add 10.0.0.0/24 via {NB}"]
            run("ip", "-n", name, "-batch", "-", stdin="\n".join(lines))
            with entered(name):
                # They are no routers, and answer to nothing that the test does not send itself.
                run("nft", "add table ip mute; add chain ip mute c { type filter hook input "
                    "priority -400; }; add rule ip mute c iifname != lo drop"
                    if name != SERVER else "list ruleset")  # fmt: skip
        self.x = Capture(CLIENTS, "x0")
        self.y = Capture(OUTSIDE, "y0")

    def down(self) -> None:
        self.stop()
        for name in ("x", "y"):
            if hasattr(self, name):
                getattr(self, name).close()
        there = [name for name in NAMES if Path(f"/run/netns/{name}").exists()]
        if there:
            run("ip", "-batch", "-", stdin="".join(f"netns del {name}\n" for name in there))

    # -- the dataplane ---------------------------------------------------------------------------

    def start(self, settings: NarSettings = SETTINGS, **changes: Any) -> KernelNar:
        with entered(SERVER):
            made = planes.nar(replace(settings, **changes))
            made.start()
            self.nar = made
            made.alive()
        return made

    def stop(self, *, keep: bool = False) -> None:
        if self.nar is not None:
            with entered(SERVER):
                self.nar.close(keep=keep)
            self.nar = None

    @property
    def running(self) -> KernelNar:
        assert self.nar is not None
        return self.nar

    def commit(self, *mappings: NarMapping) -> list[NarRefusal]:
        with entered(SERVER):
            for mapping in mappings:
                self.running.set_mapping(mapping)
            return self.running.commit()

    def set(self, *mappings: NarMapping) -> None:
        refused = self.commit(*mappings)
        assert not refused, refused

    def open_l2tp(self, session: L2tpSession) -> None:
        with entered(SERVER):
            self.running.set_l2tp("soho", session)
            assert self.running.commit() == []

    def clear(self) -> None:
        with entered(SERVER):
            for mapping in self.running._mappings:
                self.running.remove_mapping(mapping.tuple)
            assert self.running.commit() == []

    def counters(self) -> dict[str, int]:
        with entered(SERVER):
            return self.running.counters()

    # -- packets ---------------------------------------------------------------------------------

    def send(self, name: str, packet: bytes) -> None:
        """From that end, as it is."""
        with entered(name):
            raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, 255)
        with raw:
            raw.setsockopt(socket.IPPROTO_IP, socket.IP_HDRINCL, 1)
            raw.sendto(packet, (str(IPv4Address(packet[16:20])), 0))

    def arrives(
        self, capture: Capture, packet: bytes, what: str = "", *, bound_s: float = 3.0
    ) -> None:
        """Wait for exactly these octets; shows what came instead."""
        end = time.monotonic() + bound_s
        seen: list[bytes] = []
        while True:
            seen += [found.octets for found in capture.packets()]
            capture.frames.clear()
            if packet in seen:
                return
            assert time.monotonic() < end, (
                f"{what}: not {packet.hex()}\nbut {[one.hex() for one in seen]}\n"
                f"{self.nar and self.counters()}"
            )
            self.read_events()
            time.sleep(0.005)

    def read_events(self) -> None:
        """Let user space decide about what waits."""
        if self.nar is not None:
            with entered(SERVER):
                self.nar.read_events()

    def wait(self, capture: Capture, wanted: Callable[[Packet], bool], what: str) -> Packet:
        """The first packet that is wanted; user space works meanwhile."""

        end = time.monotonic() + 3
        while True:
            for packet in capture.packets():
                if wanted(packet):
                    return packet
            counted = self.nar and self.counters() if time.monotonic() > end else None
            assert time.monotonic() < end, f"no {what}: {capture.packets()} {counted}"
            self.read_events()
            time.sleep(0.005)

    def tunnelled(
        self, inner: bytes, delivery: Delivery = Delivery.IP_IP, client: IPv4Address = XA
    ) -> Packet:
        """Wait for exactly this at the client, in a tunnel from Na; its outer header is right."""
        skip = 20 if delivery is Delivery.IP_IP else 24
        protocol = 4 if delivery is Delivery.IP_IP else 47

        def is_it(packet: Packet) -> bool:
            return packet.octets[skip:] == inner and packet.protocol == protocol

        outer = self.wait(self.x, is_it, f"{inner.hex()} in a tunnel")
        assert (outer.source, outer.destination) == (NA, client)
        assert outer.header_is_right
        assert outer.ttl == 64
        if delivery is Delivery.GRE:
            assert outer.octets[20:24] == b"\0\0\x08\0"
        return outer

    def forget(self) -> None:
        """Recordings begin anew."""
        for capture in (self.x, self.y):
            capture.read()
            capture.frames.clear()

    def counted(self, name: str, before: dict[str, int], wanted: int = 0) -> int:
        """How much a counter has grown, by `wanted` as soon as it has.

        A packet that was sent later, on a way without the forwarder, may have come before.
        """
        end = time.monotonic() + 3.0
        while True:
            grown = self.counters().get(name, 0) - before.get(name, 0)
            if grown >= wanted or time.monotonic() > end:
                return grown
            self.read_events()
            time.sleep(0.005)

    def nothing_more(self, capture: Capture, wanted: Callable[[Packet], bool]) -> None:
        """After a packet that certainly came: none of these did."""
        assert [packet for packet in capture.packets() if wanted(packet)] == []


@contextmanager
def nar_kernel_bed() -> Iterator[NarKernelBed]:
    bed = NarKernelBed()
    bed.up()
    try:
        yield bed
    finally:
        bed.down()
