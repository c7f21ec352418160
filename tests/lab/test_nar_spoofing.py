"""Data without leave: inputs 73 and 77 against a running NAR box (draft 004, section 2.6).

No packet passes that no control connection has asked for, and none reaches another client. What
gets through is looked for at its far end, what must not arrive after something that must.
"""

import json
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Self

import pytest
from nar_bed import DELIVERIES, WAYS, NarBed, Session, granted, leased, nar_bed

from gateway.lab import inject, netns
from gateway.lab.nar import plan, programs, roles
from gateway.lab.nar.instrument import CONNECT, ESP, ICMP, IP_IP, UDP, UDP_ASSOCIATE, leasing
from gateway.lab.nar.programs import RawSocket, ip_packet
from gateway.lab.processes import wait_until

pytestmark = pytest.mark.kernel

NA, NB, X1, X2, Y, MALLORY = plan.NA, plan.NB, plan.X1, plan.X2, plan.Y, plan.MALLORY
GRACE_S = 1
L2TP_PORT = 1701


@pytest.fixture(scope="module")
def bed() -> Iterator[NarBed]:
    with nar_bed() as bed:
        yield bed


@dataclass
class Victim:
    """x1 with one lease of several kinds, in one delivery."""

    bed: NarBed
    delivery: str
    session: Session
    spi: int
    port: int
    identifier: int

    def esp(self, text: bytes = b"spoofed") -> bytes:
        """What x1 may send: ESP with the peer's SPI."""
        return (0xC0DE0001).to_bytes(4, "big") + (9).to_bytes(4, "big") + text.ljust(40, b".")

    def datagram(self, source: object, text: bytes = b"spoofed") -> bytes:
        """A UDP datagram from x1's leased port to y's port 5400."""
        return programs.udp(source, Y, (self.port, 5400), text)

    def inner(self, source: object = NB) -> list[bytes]:
        """Packets as x1 would put them into its tunnel, with that source."""
        return [
            ip_packet(source, Y, ESP, self.esp()),
            ip_packet(source, Y, UDP, self.datagram(source)),
            ip_packet(source, Y, ICMP, programs.echo(self.identifier)),
        ]


CASES = [(way, delivery) for way in WAYS for delivery in DELIVERIES]
"""In this order, so that the box starts once for each way."""


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def victim(request: pytest.FixtureRequest, bed: NarBed) -> Iterator[Victim]:
    way, delivery = request.param
    if delivery == DELIVERIES[0]:
        bed.start(roles.soho, offload=way == "kernel", grace_s=GRACE_S)
    with bed.session("x1", delivery) as session:
        spi = granted(session.control.ipsec(ESP))
        port = leased(session.control.ask(UDP_ASSOCIATE, Y, 5400, flags=0x01))
        identifier = granted(session.control.icmp())
        yield Victim(bed, delivery, session, spi, port, identifier)


class Ears:
    """What y hears from the shared address, in the protocols of the victim's leases."""

    def __init__(self, bed: NarBed) -> None:
        self.sockets = [RawSocket(bed.lab, "y", protocol) for protocol in (ESP, UDP, ICMP)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for one in self.sockets:
            one.__exit__()

    def heard(self, seconds: float = programs.QUIET_S) -> list[bytes]:
        """Everything whose source is Nb, Xa or an attacker."""
        found = [packet for one in self.sockets for packet in one.silence(seconds / 3)]
        return [packet for packet in found if packet[12:16] != Y.packed]


def outer(source: object, destination: object, protocol: int, payload: bytes) -> bytes:
    return ip_packet(source, destination, protocol, payload, df=False)


def tunnelled(delivery: str, source: object, destination: object, inner: bytes) -> bytes:
    """A packet in the tunnel's form; for L2TP with made-up identifiers and cookie."""
    if delivery == "gre":
        return outer(source, destination, 47, programs.gre(inner))
    if delivery == "l2tp":
        return outer(source, destination, UDP, l2tp(source, destination, inner))
    return outer(source, destination, IP_IP, inner)


def l2tp(source: object, destination: object, inner: bytes, session: int = 1) -> bytes:
    """An L2TPv3 data message over UDP (RFC 3931 section 4.1.2.1) with a cookie of zeros."""
    frame = bytes(12) + struct.pack(">H", 0x0800) + inner
    head = struct.pack(">HHI", 3, 0, session) + bytes(8) + bytes(4)
    return programs.udp(source, destination, (L2TP_PORT, L2TP_PORT), head + frame)


def test_the_rightful_client_is_heard(victim: Victim) -> None:
    """Otherwise the silence in the other tests would mean nothing."""
    with Ears(victim.bed) as ears, RawSocket(victim.bed.lab, "x1", ESP) as x1:
        x1.say(victim.session.source, Y, victim.esp())
        assert [p for p in ears.heard() if IPv4Address(p[12:16]) == NB]


def test_h73_a_neighbour_tunnels_with_the_clients_tuple(victim: Victim) -> None:
    """From an address of its own: it has no lease, and x2 has no such lease."""
    lab = victim.bed.lab
    with Ears(victim.bed) as ears:
        for host in ("mallory", "x2"):
            source = plan.ADDRESSES[host]
            for inner in victim.inner():
                for kind in ("ip-ip", "gre", "l2tp"):
                    inject.send(lab, host, tunnelled(kind, source, NA, inner))
                    inject.send(lab, host, tunnelled(kind, source, NB, inner))
        assert ears.heard() == []


def test_h73_a_neighbour_uses_the_leased_port_as_it_is(victim: Victim) -> None:
    """Not through a tunnel, with its own address or with Nb: nothing of it becomes Nb's."""
    lab = victim.bed.lab
    with Ears(victim.bed) as ears:
        for inner in (*victim.inner(MALLORY), *victim.inner(NB)):
            inject.send(lab, "mallory", inner)
        assert [p for p in ears.heard() if IPv4Address(p[12:16]) == NB] == []


def test_h73_from_outside_in_the_clients_name(victim: Victim) -> None:
    """A tunnel packet with source Xa that comes in by the outside interface."""
    lab = victim.bed.lab
    lab.run("internet", ["ip", "route", "replace", f"{NA}/32", "via", str(NB)])
    try:
        with Ears(victim.bed) as ears:
            for inner in victim.inner():
                for kind in ("ip-ip", "gre", "l2tp"):
                    for destination in (NA, NB):
                        inject.send(lab, "o", tunnelled(kind, X1, destination, inner))
            for inner in victim.inner(X1):
                inject.send(lab, "o", inner)
            heard = [p for p in ears.heard() if IPv4Address(p[12:16]) == NB]
            assert heard == []
    finally:
        lab.run("internet", ["ip", "route", "delete", f"{NA}/32"])


def test_what_the_client_itself_may_not_send(victim: Victim) -> None:
    """A port it did not lease, another peer, another source: dropped and counted."""
    lab = victim.bed.lab
    if victim.delivery == "translated":
        # What is not leased takes the ordinary way, as for everybody: it never becomes Nb's.
        other_port = programs.udp(X1, Y, (victim.port ^ 1, 5400), b"not leased")
        with Ears(victim.bed) as ears:
            inject.send(lab, "x1", ip_packet(X1, Y, UDP, other_port))
            inject.send(lab, "x1", ip_packet(X1, Y, ICMP, programs.echo(victim.identifier ^ 1)))
            inject.send(lab, "x1", ip_packet(X1, Y, 51, victim.esp()))
            assert [p for p in ears.heard() if IPv4Address(p[12:16]) == NB] == []
        return
    before = counted(victim)
    other_port = programs.udp(NB, Y, (victim.port ^ 1, 5400), b"not leased")
    other_peer_port = programs.udp(NB, Y, (victim.port, 5401), b"not the port")
    packets = [
        ip_packet(NB, Y, UDP, other_port),
        ip_packet(NB, Y, UDP, other_peer_port),
        ip_packet(NB, Y, ICMP, programs.echo(victim.identifier ^ 1)),
        ip_packet(NB, Y, 51, victim.esp()),
        ip_packet(NB, Y, 132, victim.esp()),
        *victim.inner(X1),
        *victim.inner(X2),
        *victim.inner("127.0.0.1"),
        *victim.inner(plan.HOME_AGENT),
        ip_packet(NB, plan.LEGACY, ESP, victim.esp()),
        ip_packet(NB, X2, ESP, victim.esp()),
        ip_packet(NB, NA, ESP, victim.esp()),
    ]
    with (
        Ears(victim.bed) as ears,
        RawSocket(lab, "x2", ESP) as x2,
        RawSocket(lab, "legacy", ESP) as legacy,
    ):
        for packet in packets:
            _by_tunnel(victim, packet)
        allowed = b"this one may pass".ljust(40, b".")
        with RawSocket(lab, "x1", ESP) as x1:
            x1.say(NB, Y, victim.esp(allowed))
        heard = ears.heard()
        assert [p for p in heard if allowed in p]
        assert [p for p in heard if allowed not in p] == []
        assert x2.silence(0.1) == []
        assert legacy.silence(0) == []
    assert counted(victim) > before


def _by_tunnel(victim: Victim, packet: bytes) -> None:
    """Send a packet through the client's device, whatever its addresses."""
    name = victim.bed.lab.namespace("x1")
    with netns.socket_in(name, socket.AF_PACKET, socket.SOCK_DGRAM) as sock:
        link = b"" if victim.delivery != "l2tp" else _link_address(victim)
        sock.sendto(packet, ("nb", 0x0800, 0, 0, link))


def _link_address(victim: Victim) -> bytes:
    argv = ["ip", "-n", victim.bed.lab.namespace("x1"), "-j", "link", "show", "dev", "nb"]
    (found,) = json.loads(netns.command(argv))
    # A TUN device that stands for the kernel's has none.
    return bytes.fromhex(found.get("address", "").replace(":", ""))


def test_nothing_of_one_clients_reaches_another(victim: Victim) -> None:
    lab = victim.bed.lab
    with (
        RawSocket(lab, "y", ESP) as y,
        RawSocket(lab, "x1", ESP) as x1,
        RawSocket(lab, "x2", ESP) as x2,
        RawSocket(lab, "mallory", ESP) as mallory,
    ):
        packet = victim.spi.to_bytes(4, "big") + bytes(4) + b"for x1 alone".ljust(40, b".")
        for _ in range(5):
            y.say(Y, NB, packet)
            x1.hears(packet)
        assert x2.silence(0.1) == []
        assert mallory.silence(0) == []


def test_h77_the_same_spi_to_the_same_peer(victim: Victim) -> None:
    """The other one gets another, and each its own packets."""
    lab = victim.bed.lab
    control, _ = leasing(lab, "x2")
    with control, RawSocket(lab, "y", ESP) as y, RawSocket(lab, "x1", ESP) as x1:
        assert granted(control.ipsec(ESP, victim.spi)) != victim.spi
        packet = victim.spi.to_bytes(4, "big") + bytes(4) + b"whose?".ljust(40, b".")
        y.say(Y, NB, packet)
        x1.hears(packet)
        control.release()


def test_h73_before_and_after_the_control_connection(victim: Victim) -> None:
    """A client without leases of its own (no LEASES flag) has them while it is connected."""
    bed = victim.bed
    lab = bed.lab
    packet = bytes.fromhex("41414141") + bytes(4) + b"x2's".ljust(40, b".")
    with RawSocket(lab, "y", ESP) as y, RawSocket(lab, "x2", ESP) as x2:
        y.say(Y, NB, packet)
        assert x2.silence() == []
        session = bed.session("x2", "translated", flags=0)
        assert granted(session.control.ipsec(ESP, 0x41414141)) == 0x41414141
        y.say(Y, NB, packet)
        x2.hears(packet)
        outward = bytes.fromhex("C0DE0002") + bytes(4) + b"from x2".ljust(40, b".")
        x2.say(session.source, Y, outward)
        y.hears(outward)
        session.control.reset()
        wait_until(lambda: not _held(bed, X2), GRACE_S + 10, "the lease to end")
        y.say(Y, NB, packet)
        x2.say(session.source, Y, outward)
        assert x2.silence() == []
        assert [p for p in y.silence() if IPv4Address(p[12:16]) == NB] == []


def _held(bed: NarBed, client: IPv4Address) -> list[dict[str, object]]:
    return [mapping for mapping in bed.mappings() if mapping["client"] == str(client)]


def test_h73_connect_does_not_open_for_others(victim: Victim) -> None:
    """A TCP lease is for one remote address and port."""
    lab = victim.bed.lab
    port = leased(victim.session.control.ask(CONNECT, Y, 8400))
    with RawSocket(lab, "x1", 6) as x1, RawSocket(lab, "y", 6) as y:
        for source, source_port in ((Y, 8401), (plan.Y2, 8400)):
            segment = struct.pack(">HHIIBBHHH", source_port, port, 1, 1, 0x50, 0x10, 1000, 0, 0)
            y.say(source, NB, segment)
        heard = [p for p in x1.silence(0.2) if p[22:24] == port.to_bytes(2, "big")]
        assert heard == []


def counted(victim: Victim) -> int:
    """Packets that the box says it dropped because their sender had no right to them."""
    counters = victim.bed.n.call("status")["nar"]["dataplane"]["counters"]
    return sum(number for name, number in counters.items() if "spoofed" in name)
