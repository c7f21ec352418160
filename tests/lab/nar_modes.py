"""Every protocol in every way of delivery, from inside and outside, for two clients at once.

Run by test_nar_modes_kernel.py and test_nar_modes_queue.py: both ways give the same packets.

Draft 004, sections 2.3 to 2.6. The clients are the lab's own; what arrives is held against what was
sent octet by octet, at both ends.
"""

import contextlib
import errno
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address

import pytest
from nar_bed import DELIVERIES, NarBed, Session, granted, leased, nar_bed

from gateway.lab.nar import plan, programs, roles
from gateway.lab.nar.instrument import (
    AH,
    BIND,
    CONNECT,
    ESP,
    GRE_PROTOCOL,
    ICMP,
    IP_IP,
    NOT_ALLOWED,
    UDP_ASSOCIATE,
    tuple_field,
)
from gateway.lab.nar.programs import (
    ECHO_REPLY,
    RawSocket,
    connected,
    datagram_socket,
    exchange,
    transfer,
)
from gateway.lab.processes import LabError

Y, Y2, NB = plan.Y, plan.Y2, plan.NB
CORRESPONDENT = IPv4Address("10.77.0.9")
"""CN: in a network behind y, only ever seen inside tunnels."""


@dataclass
class Pair:
    """Two clients behind one address."""

    bed: NarBed
    delivery: str
    x1: Session
    x2: Session

    @property
    def both(self) -> tuple[Session, Session]:
        return self.x1, self.x2


@pytest.fixture(scope="module")
def bed(way: str) -> Iterator[NarBed]:
    """`way` is what the test file says: kernel or queue."""
    with nar_bed() as bed:
        bed.start(roles.soho, offload=way == "kernel")
        wires = (("n", "outside"), ("y", "uplink"), ("lan", "to-x1"), ("lan", "to-x2"))
        for host, interface in wires:
            bed.record(host, interface)
        yield bed
        found = bed.findings()
        assert not found, found[:5]


@pytest.fixture(scope="module", params=DELIVERIES)
def pair(request: pytest.FixtureRequest, bed: NarBed) -> Iterator[Pair]:
    with bed.session("x1", request.param) as x1, bed.session("x2", request.param) as x2:
        yield Pair(bed, request.param, x1, x2)


def test_the_server_lends_its_address_and_says_how_it_delivers(pair: Pair) -> None:
    for one in pair.both:
        assert one.mode.address == NB
    assert pair.x1.mode.flags == pair.x2.mode.flags


def test_tcp_from_inside(pair: Pair) -> None:
    lab = pair.bed.lab
    with contextlib.ExitStack() as open_now:
        ends = []
        for number, one in enumerate(pair.both):
            port = leased(one.control.ask(CONNECT, Y, 8000 + number))
            near, far, seen = open_now.enter_context(
                connected(lab, (one.host, one.source, port), ("y", Y, 8000 + number))
            )
            assert seen == (str(NB), port)
            ends.append((near, far))
        for near, far in ends:
            exchange(near, far)


def test_tcp_to_the_same_server_at_the_same_time(pair: Pair) -> None:
    ports = [leased(one.control.ask(CONNECT, Y, 80)) for one in pair.both]
    assert len(set(ports)) == 2
    for one, port in zip(pair.both, ports, strict=True):
        with programs.stream_socket(pair.bed.lab, one.host, one.source, port) as sock:
            sock.connect((str(Y), 80))
            sock.sendall(b"GET / HTTP/1.1\r\nHost: y\r\n\r\n")
            assert sock.recv(4096).startswith(b"HTTP/1.1 200 OK")


def test_tcp_from_outside(pair: Pair) -> None:
    for one in pair.both:
        port = leased(one.control.ask(BIND))
        server, client = (one.host, one.source, port), ("y", Y2, 0)
        with connected(pair.bed.lab, client, server, to=(NB, port)) as (near, far, seen):
            assert seen[0] == str(Y2)
            exchange(near, far)


def test_tcp_from_outside_with_a_port_wished(pair: Pair) -> None:
    """Translated, the client may keep its own port and be reached at another one."""
    wish = 8080
    reply = pair.x1.control.ask(BIND, "0.0.0.0", wish)
    port = leased(reply)
    own = wish if pair.delivery == "translated" else port
    server = (pair.x1.host, pair.x1.source, own)
    with connected(pair.bed.lab, ("y", Y, 0), server, to=(NB, port)) as (near, far, seen):
        assert seen[0] == str(Y)
        exchange(near, far, 1000)


def test_tcp_that_one_peer_may_open(pair: Pair) -> None:
    port = leased(pair.x1.control.ask(BIND, Y))
    server = (pair.x1.host, pair.x1.source, port)
    with (
        pytest.raises((LabError, OSError)),
        connected(pair.bed.lab, ("y", Y2, 0), server, to=(NB, port)),
    ):
        pass
    with connected(pair.bed.lab, ("y", Y, 0), server, to=(NB, port)) as (near, far, _):
        exchange(near, far, 1000)


def test_udp_both_ways_and_an_answer_from_another_address(pair: Pair) -> None:
    """The source address of incoming UDP does not count (section 2.6.1, RFC 1123)."""
    lab = pair.bed.lab
    for one in pair.both:
        port = leased(one.control.ask(UDP_ASSOCIATE, Y, 45353, flags=0x01))
        with (
            datagram_socket(lab, one.host, one.source, port) as near,
            datagram_socket(lab, "y", Y, 45_353) as far,
            datagram_socket(lab, "y", Y2, 45353) as far_too,
        ):
            near.sendto(b"question", (str(Y), 45353))
            data, seen = far.recvfrom(100)
            assert (data, seen) == (b"question", (str(NB), port))
            far.sendto(b"answer", seen)
            assert near.recvfrom(100) == (b"answer", (str(Y), 45353))
            far_too.sendto(b"from elsewhere", seen)
            assert near.recvfrom(100) == (b"from elsewhere", (str(Y2), 45353))


def test_udp_server_inside(pair: Pair) -> None:
    lab = pair.bed.lab
    for one in pair.both:
        port = leased(one.control.ask(UDP_ASSOCIATE))
        with (
            datagram_socket(lab, one.host, one.source, port) as server,
            datagram_socket(lab, "y", Y, 0) as client,
        ):
            client.sendto(bytes(1400), (str(NB), port))
            data, seen = server.recvfrom(2000)
            assert (len(data), seen[0]) == (1400, str(Y))
            server.sendto(b"welcome", seen)
            assert client.recvfrom(100) == (b"welcome", (str(NB), port))


def test_udp_that_is_refused_by_the_peer(pair: Pair) -> None:
    """ICMP errors about a client's packet come to that client."""
    port = leased(pair.x1.control.ask(UDP_ASSOCIATE, Y, 9, flags=0x01))
    with datagram_socket(pair.bed.lab, "x1", pair.x1.source, port) as sock:
        sock.connect((str(Y), 9))
        sock.send(b"nobody listens there")
        with pytest.raises(OSError, match=r".") as refused:
            sock.recv(100)
        assert refused.value.errno == errno.ECONNREFUSED


def test_echo_from_inside(pair: Pair) -> None:
    lab = pair.bed.lab
    with (
        RawSocket(lab, "x1", ICMP) as x1,
        RawSocket(lab, "x2", ICMP) as x2,
        RawSocket(lab, "y", ICMP) as y,
    ):
        for one, own, other in ((pair.x1, x1, x2), (pair.x2, x2, x1)):
            identifier = granted(one.control.icmp())
            asked = programs.echo(identifier, 7)
            sent = own.say(one.source, Y, asked)
            seen = y.hears(asked)
            assert IPv4Address(seen[12:16]) == NB
            if pair.delivery != "translated":
                assert programs.same_but_for_the_way(sent, seen)
            answer = own.hears(programs.echo(identifier, 7, kind=ECHO_REPLY))
            assert IPv4Address(answer[16:20]) == one.source
            assert other.silence(0.1) == []


def test_echo_from_outside(pair: Pair) -> None:
    """Its host answers, as if it had the address."""
    lab = pair.bed.lab
    for one in pair.both:
        identifier = granted(one.control.icmp())
        with RawSocket(lab, "y", ICMP) as y, RawSocket(lab, one.host, ICMP) as x:
            asked = programs.echo(identifier, 3)
            y.say(Y, NB, asked)
            assert IPv4Address(x.hears(asked)[12:16]) == Y
            answer = y.hears(programs.echo(identifier, 3, kind=ECHO_REPLY))
            assert IPv4Address(answer[12:16]) == NB


def ipsec(protocol: int, spi: int, text: bytes) -> bytes:
    """What begins as an ESP or AH packet does."""
    if protocol == ESP:
        return spi.to_bytes(4, "big") + (1).to_bytes(4, "big") + text.ljust(48, b".")
    return bytes([59, 4, 0, 0]) + spi.to_bytes(4, "big") + (1).to_bytes(4, "big") + text.ljust(60)


@pytest.mark.parametrize("protocol", [ESP, AH])
def test_ipsec(pair: Pair, protocol: int) -> None:
    """Both ways, unchanged, each client its own SPI; what goes out has the peer's."""
    lab = pair.bed.lab
    if protocol == AH and pair.delivery == "translated":
        assert pair.x1.control.ipsec(AH)[0] == NOT_ALLOWED
        return
    with (
        RawSocket(lab, "x1", protocol) as x1,
        RawSocket(lab, "x2", protocol) as x2,
        RawSocket(lab, "y", protocol) as y,
    ):
        spis = [granted(one.control.ipsec(protocol)) for one in pair.both]
        assert len(set(spis)) == 2
        assert min(spis) > 255
        sides = ((pair.x1, x1, x2, spis[0]), (pair.x2, x2, x1, spis[1]))
        for one, own, other, spi in sides:
            inward = ipsec(protocol, spi, b"inward")
            sent = y.say(Y, NB, inward, tos=0xB8)
            got = own.hears(inward)
            assert IPv4Address(got[16:20]) == one.source
            if pair.delivery != "translated":
                assert programs.same_but_for_the_way(sent, got)
            outward = ipsec(protocol, 0xC0DE0000 + protocol, one.host.encode())
            sent = own.say(one.source, Y, outward, identification=0x1234)
            got = y.hears(outward)
            assert IPv4Address(got[12:16]) == NB
            if pair.delivery != "translated":
                assert programs.same_but_for_the_way(sent, got)
            assert other.silence(0.1) == []


@pytest.mark.parametrize("protocol", [IP_IP, GRE_PROTOCOL, "gre with a key"])
def test_tunnels(pair: Pair, protocol: int | str) -> None:
    """Told apart by the inner destination and the outer source (section 2.6.3)."""
    lab = pair.bed.lab
    number = GRE_PROTOCOL if isinstance(protocol, str) else protocol

    def wrapped(packet: bytes) -> bytes:
        if number == IP_IP:
            return packet
        return programs.gre(packet, key=77 if isinstance(protocol, str) else None)

    with (
        RawSocket(lab, "x1", number) as x1,
        RawSocket(lab, "x2", number) as x2,
        RawSocket(lab, "y", number) as y,
    ):
        homes = {"x1": plan.XB, "x2": plan.XB2}
        for one, own, other in ((pair.x1, x1, x2), (pair.x2, x2, x1)):
            home = homes[one.host]
            code, answered, _ = one.control.tunnel(home, number)
            assert (code, answered) == (0, home)
            ports = (45_000, 45_001)
            marker = b"for the mobile node at " + one.host.encode()
            inner = programs.udp(CORRESPONDENT, home, ports, marker)
            inward = wrapped(programs.ip_packet(CORRESPONDENT, home, socket.IPPROTO_UDP, inner))
            sent = y.say(Y, NB, inward)
            got = own.hears(inward)
            source, destination = IPv4Address(got[12:16]), IPv4Address(got[16:20])
            if pair.delivery == "translated":
                assert (source, destination) == (plan.NA, one.client)
            else:
                assert programs.same_but_for_the_way(sent, got)
            inner = programs.udp(home, CORRESPONDENT, ports, b"from the mobile node")
            outward = wrapped(programs.ip_packet(home, CORRESPONDENT, socket.IPPROTO_UDP, inner))
            targets = (Y, plan.NA) if pair.delivery == "translated" else (Y,)
            for target in targets:
                own.say(one.source, target, outward)
                assert IPv4Address(y.hears(outward)[12:16]) == NB
            assert not [packet for packet in other.silence(0.1) if marker in packet]


def test_a_path_that_takes_less(pair: Pair) -> None:
    """A router outside complains about a client's packet; the client learns the path's MTU."""
    lab = pair.bed.lab
    lab.run("internet", ["ip", "link", "set", "to-y", "mtu", "1200"])
    try:
        port = leased(pair.x1.control.ask(CONNECT, Y, 8100))
        with connected(lab, ("x1", pair.x1.source, port), ("y", Y, 8100)) as (near, far, _):
            transfer(near, far, 60_000)
    finally:
        lab.run("internet", ["ip", "link", "set", "to-y", "mtu", "1500"])
        for host in ("x1", "x2"):
            lab.run(host, ["ip", "route", "flush", "cache"])


def test_what_is_not_lent_is_the_boxs_own(pair: Pair) -> None:
    """Neither client hears a packet that no mapping matches."""
    lab = pair.bed.lab
    with (
        RawSocket(lab, "x1", ESP) as x1,
        RawSocket(lab, "x2", ESP) as x2,
        RawSocket(lab, "n", ESP) as n,
        RawSocket(lab, "y", ESP) as y,
    ):
        spi = granted(pair.x1.control.ipsec(ESP))
        nobodys = ipsec(ESP, spi ^ 0x10, b"for the box")
        y.say(Y, NB, nobodys)
        n.hears(nobodys)
        assert x1.silence(0.2) == []
        assert x2.silence(0) == []


def test_released_means_gone(pair: Pair) -> None:
    lab = pair.bed.lab
    with RawSocket(lab, "x1", ESP) as x1, RawSocket(lab, "y", ESP) as y:
        spi = granted(pair.x1.control.ipsec(ESP))
        packet = ipsec(ESP, spi, b"once")
        y.say(Y, NB, packet)
        x1.hears(packet)
        assert pair.x1.control.release(tuple_field(ESP, spi))[0] == 0
        y.say(Y, NB, packet)
        assert x1.silence(0.2) == []
