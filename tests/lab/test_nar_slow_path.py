"""The same traffic with ``offload`` on and off: every wire carries the same octets.

And they are what the pure functions make of it that a dataplane without this kernel would use.
Where a kernel chooses the IP identification of an outer header or of its own ICMP error, that and
the header's checksum are not compared.
"""

# planes: kernel portable

import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from dataplane_bed import entered, run
from mobility_kernel_bed import Capture, ip
from nar_kernel_bed import (
    CLIENTS,
    CN,
    NA,
    NB,
    NB2,
    OUTSIDE,
    SERVER,
    SETTINGS,
    XA,
    XA2,
    XB,
    YB,
    YB2,
    NarKernelBed,
    ah,
    echo,
    esp,
    forwarded,
    lease,
    nar_kernel_bed,
    tcp,
    udp,
    wrap,
)

from gateway.dataplane.packet.nar_path import NarPath
from gateway.domain.checksum import internet_checksum
from gateway.domain.nar import Delivery, L2tpSession, NarMapping, NarProtocol
from gateway.lab import planes

pytestmark = pytest.mark.kernel

P = NarProtocol
DF, MORE = 0x4000, 0x2000
ROUTER_OUTSIDE, ROUTER_INSIDE = YB2, XA2
"""Anybody may have an error to tell: these stand for routers on the way."""
INTERFACES = {CLIENTS: "a0", OUTSIDE: "b0"}
LONG = 2400
"""Octets that fit no link here."""


def gre(source: object, to: object, inner: bytes, head: bytes = b"\0\0\x08\0") -> bytes:
    return ip(source, to, 47, head + inner)


def with_field(packet: bytes, at: int, value: bytes) -> bytes:
    """The packet with something else in its header."""
    head = bytearray(packet[:20])
    head[at : at + len(value)] = value
    head[10:12] = b"\0\0"
    head[10:12] = struct.pack("!H", internet_checksum(bytes(head)))
    return bytes(head) + packet[20:]


def error(source: object, about: bytes, kind: int = 3, code: int = 1, mtu: int = 0) -> bytes:
    """To the source of what it is about."""
    message = struct.pack("!BBHHH", kind, code, 0, 0, mtu) + about
    message = message[:2] + struct.pack("!H", internet_checksum(message)) + message[4:]
    return ip(source, IPv4Address(about[12:16]), 1, message)


def in_pieces(packet: bytes) -> list[bytes]:
    """Two fragments of it."""
    payload, half = packet[20:], 1000
    first = with_field(packet[:20], 2, struct.pack("!HHH", 20 + half, 7, MORE))
    last = with_field(packet[:20], 2, struct.pack("!HHH", len(packet) - half, 7, half // 8))
    return [first + payload[:half], last + payload[half:]]


def key_of(octets: bytes) -> bytes:
    """What is compared of a packet: all but what a kernel chooses."""
    if octets[9] in (4, 47) and octets[12:16] == NA.packed and octets[36:40] != XB.packed:
        at = 20 if octets[9] == 4 else 24
        own = octets[at + 9] == 1 and octets[at + 12 : at + 16] == NA.packed
        flags = b"" if own else octets[6:8]
        return octets[:2] + flags + octets[8:10] + octets[12:at] + key_of(octets[at:])
    if octets[9] == 17 and octets[12:16] == NA.packed:
        outer = octets[8:10] + octets[12:24] + octets[28:L2TP_OCTETS]
        return outer + key_of(octets[L2TP_OCTETS:])
    if octets[9] == 1 and octets[20] in (3, 11) and octets[12:16] in (NA.packed, NB.packed):
        # How much is quoted, and with what type of service, is the host's choice as well.
        return octets[8:10] + octets[12:22] + octets[24:56]
    return octets


@dataclass(frozen=True)
class Step:
    """What somebody sends, and how many packets that makes on each wire."""

    name: str
    sender: str
    packets: tuple[bytes, ...]
    at_client: int = 0
    outside: int = 0
    pure: bool = True
    """Whether the pure functions see it as it is: not fragments, which a kernel puts together."""


def in_order(*steps: Step) -> tuple[Step, ...]:
    return steps


def incoming(name: str, *packets: bytes, count: int = 1, **more: bool) -> Step:
    return Step(name, OUTSIDE, packets, at_client=count, **more)


def outgoing(name: str, *packets: bytes, count: int = 1, **more: bool) -> Step:
    return Step(name, CLIENTS, packets, outside=count, **more)


MAPPINGS = (
    (P.TCP, 20_001, {"remote": YB, "remote_port": 80}),
    (P.TCP, 20_002, {"remote": YB}),
    (P.TCP, 20_003, {}),
    (P.UDP, 20_001, {"remote_port": 53, "peer": YB}),
    (P.UDP, 20_002, {}),
    (P.ICMP, 0xC001, {"remote": YB}),
    (P.ESP, 0x4000_0001, {"peer": YB}),
    (P.AH, 0x4000_0002, {"peer": YB}),
    (P.IP_IP, int(XB), {"remote": YB}),
    (P.GRE, int(XB), {"remote": YB}),
)


def from_outside(to: object) -> dict[str, bytes]:
    inner = tcp(CN, 80, XB, 1234)
    return {
        "tcp": tcp(YB, 80, to, 20_001),
        "tcp of one host": tcp(YB, 81, to, 20_002),
        "tcp of all": tcp(YB2, 82, to, 20_003),
        "udp of any address": udp(YB2, 53, to, 20_001),
        "udp": udp(YB, 9, to, 20_002),
        "udp without a checksum": udp(YB, 9, to, 20_002, checksum=False),
        "echo reply": echo(YB, to, 0xC001, reply=True),
        "echo request": echo(YB, to, 0xC001),
        "esp": esp(YB, to, 0x4000_0001),
        "ip-ip": ip(YB, to, 4, inner),
        "gre": gre(YB, to, inner),
        "gre with key and sequence number": gre(YB, to, inner, b"\x30\0\x08\0\1\2\3\4\0\0\0\1"),
    }


def from_client(source: object) -> dict[str, bytes]:
    inner = tcp(XB, 1234, CN, 80)
    return {
        "tcp": tcp(source, 20_001, YB, 80),
        "tcp to one host": tcp(source, 20_002, YB, 81),
        "tcp to all": tcp(source, 20_003, YB2, 82),
        "udp to its port": udp(source, 20_001, YB, 53),
        "udp": udp(source, 20_002, YB2, 9),
        "udp without a checksum": udp(source, 20_002, YB, 9, checksum=False),
        "echo request": echo(source, YB, 0xC001),
        "echo reply": echo(source, YB, 0xC001, reply=True),
        "esp": esp(source, YB, 0x77),
        "ip-ip": ip(source, YB, 4, inner),
        "gre": gre(source, YB, inner),
        "gre with a key": gre(source, YB, inner, b"\x20\0\x08\0\1\2\3\4"),
    }


def forbidden(source: object) -> tuple[bytes, ...]:
    """What no lease covers."""
    return (
        tcp(source, 20_001, YB, 81),
        tcp(source, 20_001, YB2, 80),
        tcp(source, 20_002, YB2, 80),
        udp(source, 20_001, YB, 54),
        udp(source, 20_001, YB2, 53),
        udp(source, 20_009, YB, 9),
        echo(source, YB, 0xC002),
        echo(source, YB2, 0xC001),
        esp(source, YB2, 0x77),
        ah(source, YB2, 0x77),
        ip(source, YB2, 4, tcp(XB, 1, CN, 2)),
        ip(source, YB, 4, tcp(CN, 1, XB, 2)),
    )


SESSION = L2tpSession(
    client=XA,
    tunnel_id=0x1001,
    peer_tunnel_id=0x2001,
    session_id=0x1002,
    peer_session_id=0x2002,
    cookie=b"to-serve",
    peer_cookie=b"to-clien",
)
L2TP_OCTETS = 20 + 8 + 8 + 8 + 4 + 14
"""IP, UDP, version and session, cookie, the default sublayer, Ethernet."""


def l2tp(inner: bytes) -> bytes:
    """As the client sends it (RFC 3931 section 4.1.2.1)."""
    head = struct.pack("!HHI", 3, 0, SESSION.session_id) + SESSION.cookie + bytes(4)
    ethernet = SESSION.link_address * 2 + b"\x08\0"
    return udp(XA, 1701, NA, 1701, head + ethernet + inner)


def end_to_end(delivery: Delivery) -> tuple[Step, ...]:
    def up(inner: bytes) -> bytes:
        return l2tp(inner) if delivery is Delivery.L2TP else wrap(XA, NA, inner, delivery)

    mine = {**from_client(NB), "ah": ah(NB, YB, 0x77)}
    theirs = {**from_outside(NB), "ah": ah(YB, NB, 0x4000_0002)}
    long = udp(YB, 9, NB, 20_002, bytes(LONG))
    mine_long = udp(NB, 20_002, YB, 9, bytes(LONG))
    marker = udp(NB, 20_002, YB, 9, b"after what may not come")
    told_by_another = wrap(XA2, NA, error(NB, udp(NB, 20_002, NB, 20_005), code=3))
    foreign = (tcp(XA, 20_001, YB, 80), tcp(NB2, 20_001, YB, 80), tcp(CN, 20_001, YB, 80))
    not_mine = error(NB, udp(YB, 9, NB, 20_009), code=3)
    elsewhere = error(NB, udp(YB, 9, NB, 20_002), code=3)[:16] + YB2.packed
    return in_order(
        *(incoming(name, packet) for name, packet in theirs.items()),
        *(outgoing(name, up(packet)) for name, packet in mine.items()),
        incoming("type of service", with_field(theirs["udp"], 1, b"\xb8")),
        outgoing("type of service", up(with_field(mine["udp"], 1, b"\xb8"))),
        incoming("not to be fragmented", udp_with_df(YB, 9, NB, 20_002, 1400)),
        outgoing("not to be fragmented", up(udp_with_df(NB, 20_002, YB, 9, 1400))),
        incoming("long, in fragments", *in_pieces(long), count=2, pure=False),
        outgoing(
            "long, in fragments",
            *(up(piece) for piece in in_pieces(mine_long)),
            count=2,
            pure=False,
        ),
        *(
            outgoing(f"{name}, an error about it", up(error(NB, packet, code=3)))
            for name, packet in theirs.items()
        ),
        *(
            incoming(f"{name}, an error about it", error(ROUTER_OUTSIDE, packet))
            for name, packet in mine.items()
        ),
        incoming("of 8 octets", error(ROUTER_OUTSIDE, mine["tcp"][:28], 11, 0)),
        outgoing("spoofed", *(up(one) for one in (*forbidden(NB), *foreign)), up(marker)),
        outgoing(
            "errors about nothing",
            up(not_mine),
            up(with_field(elsewhere[:20], 16, YB2.packed) + not_mine[20:]),
            up(marker),
        ),
        Step("at the end of its way", OUTSIDE, (with_field(theirs["udp"], 8, b"\1"),), outside=1),
        Step("too long", OUTSIDE, (udp_with_df(YB, 9, NB, 20_002, 1490),), outside=1),
        Step("at its end", CLIENTS, (up(with_field(mine["udp"], 8, b"\1")),), at_client=1),
        Step("to another client", CLIENTS, (up(udp(NB, 20_002, NB, 20_005)),), at_client=1),
        Step("an error of another client", CLIENTS, (told_by_another,), at_client=1),
        *(about_the_tunnel(delivery) if delivery is not Delivery.L2TP else ()),
    )


def about_the_tunnel(delivery: Delivery) -> tuple[Step, ...]:
    """Errors of routers between us and the client are told on (RFC 2003 section 4)."""
    carried = with_field(wrap(NA, XA, udp_with_df(YB, 9, NB, 20_002, 1400), delivery), 6, b"\x40\0")
    again = (udp_with_df(YB2, 9, NB, 20_002, 1400),)
    return in_order(
        outgoing("the tunnel breaks", error(ROUTER_INSIDE, carried, 3, 1)),
        outgoing("the tunnel runs in circles", error(ROUTER_INSIDE, carried, 11, 0)),
        outgoing("the tunnel is narrow", error(ROUTER_INSIDE, carried, 3, 4, 1000)),
        # The kernel remembers that of GRE, and says it itself; of IP-in-IP the router will again,
        # unless a raw socket has the tunnels: for those the kernel remembers as well.
        Step("and known to be", OUTSIDE, again, outside=1, pure=False)
        if delivery is Delivery.GRE or planes.portable()
        else incoming("and another one comes", *again, pure=False),
    )


def udp_with_df(source: object, sport: int, to: object, dport: int, octets: int) -> bytes:
    made = udp(source, sport, to, dport, bytes(octets - 28))
    return with_field(made, 6, struct.pack("!H", DF))


def translated() -> tuple[Step, ...]:
    theirs, mine = from_outside(NB), from_client(XA)
    after = udp(XA, 20_002, YB, 9, b"after what may not come")
    as_known_outside = from_client(NB)
    # Na is who a client's tunnels are with, as it sees them.
    got = {
        name: with_field(forwarded(packet, source=NA), 16, XA.packed)
        if name.startswith(("ip-ip", "gre"))
        else forwarded(packet)
        for name, packet in from_outside(XA).items()
    }
    return in_order(
        *(incoming(name, packet) for name, packet in theirs.items()),
        *(outgoing(name, packet) for name, packet in mine.items()),
        outgoing("ip-ip to the server", with_field(mine["ip-ip"], 16, NA.packed)),
        outgoing("gre to the server", with_field(mine["gre"], 16, NA.packed)),
        *(
            incoming(f"{name}, an error about it", error(ROUTER_OUTSIDE, packet))
            for name, packet in as_known_outside.items()
        ),
        *(
            outgoing(f"{name}, an error about it", error(source, packet))
            for name, packet in got.items()
            for source in (XA, ROUTER_INSIDE)
        ),
        incoming("of 8 octets", error(ROUTER_OUTSIDE, as_known_outside["tcp"][:28], 11, 0)),
        incoming("a port inside", tcp(YB, 5, NB, 20_007)),
        outgoing("a port inside", tcp(XA, 80, YB, 5)),
        incoming("a port inside, udp", udp(YB, 5, NB, 20_008)),
        incoming("a port inside, no checksum", udp(YB, 5, NB, 20_008, checksum=False)),
        outgoing("a port inside, udp", udp(XA, 81, YB, 5)),
        outgoing("a port inside, udp, no checksum", udp(XA, 81, YB, 5, checksum=False)),
        incoming(
            "a port inside, an error", error(ROUTER_OUTSIDE, tcp(NB, 20_007, YB, 5), 3, 4, 1400)
        ),
        outgoing("a port inside, an error about it", error(XA, tcp(YB, 5, XA, 80))),
        outgoing("after all", after),
        Step("at the end of its way", OUTSIDE, (with_field(theirs["udp"], 8, b"\1"),), outside=1),
        Step("at its end", CLIENTS, (with_field(mine["udp"], 8, b"\1"),), at_client=1),
    )


def mixed() -> tuple[Step, ...]:
    """One client with sessions of all kinds."""
    theirs, mine, plain = from_outside(NB), from_client(NB), from_client(XA)
    ip_ip = wrap(XA, NA, mine["udp"])
    gre_tunnel = wrap(XA, NA, mine["tcp to all"], Delivery.GRE)
    return in_order(
        incoming("in ip-ip", theirs["udp"]),
        incoming("in gre", theirs["tcp of all"]),
        incoming("a tunnel of its own", theirs["ip-ip"]),
        incoming("plain", theirs["tcp"]),
        outgoing("in ip-ip", ip_ip),
        outgoing("in gre", gre_tunnel),
        outgoing("a tunnel of its own", with_field(plain["ip-ip"], 16, NA.packed)),
        outgoing("a tunnel of its own to the far end", plain["ip-ip"]),
        outgoing("plain", plain["tcp"]),
        # Each lease by its own delivery only.
        outgoing(
            "by a wrong way",
            wrap(XA, NA, mine["udp"], Delivery.GRE),
            wrap(XA, NA, mine["tcp to all"]),
            wrap(XA, NA, mine["tcp"]),
            ip_ip,
        ),
    )


MIXED = (
    lease(P.UDP, 20_002),
    lease(P.TCP, 20_003, Delivery.GRE),
    lease(P.TCP, 20_001, Delivery.TRANSLATED, remote=YB, remote_port=80),
    lease(P.IP_IP, int(XB), Delivery.TRANSLATED, remote=YB),
)
PORTS_INSIDE = (
    lease(P.TCP, 20_007, Delivery.TRANSLATED, client_port=80),
    lease(P.UDP, 20_008, Delivery.TRANSLATED, client_port=81),
)
OTHER_CLIENT = lease(P.UDP, 20_005, client=XA2)
PLANS: dict[str, Callable[[], tuple[Step, ...]]] = {
    "ip-ip": lambda: end_to_end(Delivery.IP_IP),
    "gre": lambda: end_to_end(Delivery.GRE),
    "l2tp": lambda: end_to_end(Delivery.L2TP),
    "translated": translated,
    "mixed": mixed,
}


def mappings_of(plan: str) -> list[NarMapping]:
    if plan == "mixed":
        return list(MIXED)
    delivery = Delivery(plan)
    made = [
        lease(protocol, value, delivery, **more)
        for protocol, value, more in MAPPINGS
        if delivery.end_to_end or protocol is not P.AH
    ]
    return [*made, OTHER_CLIENT] if delivery.end_to_end else [*made, *PORTS_INSIDE]


class Wires:
    """Sends a step's packets and takes what comes of them from both wires."""

    def __init__(self, bed: NarKernelBed) -> None:
        self._bed = bed

    def play(self, step: Step, bound_s: float = 3.0) -> tuple[list[bytes], list[bytes]]:
        bed = self._bed
        for packet in step.packets:
            bed.send(step.sender, packet)
            with entered(SERVER):
                bed.running.read_events()
        mine = set(step.packets)
        end = time.monotonic() + bound_s
        found: tuple[list[bytes], list[bytes]] = ([], [])
        wanted = (step.at_client, step.outside)
        while True:
            with entered(SERVER):
                bed.running.read_events()
            for seen, capture in zip(found, (bed.x, bed.y), strict=True):
                seen.extend(taken(capture, mine))
            if all(len(seen) >= count for seen, count in zip(found, wanted, strict=True)):
                return found
            assert time.monotonic() < end, (
                f"{step.name}: {[[one.hex() for one in seen] for seen in found]} of {wanted}\n"
                f"{bed.counters()}"
            )
            time.sleep(0.002)


def taken(capture: Capture, but: set[bytes]) -> list[bytes]:
    frames = [frame[: int.from_bytes(frame[2:4], "big")] for frame in capture.read()]
    capture.frames.clear()
    return [frame for frame in frames if frame not in but]


def purely(plan: str) -> Iterator[tuple[Step, list[bytes], list[bytes]]]:
    """The same by the pure functions alone."""
    path = NarPath(SETTINGS)
    for one in mappings_of(plan):
        path.set_mapping(one)
    for step in PLANS[plan]():
        for packet in step.packets:
            path.arrived(packet, INTERFACES[step.sender])
        made = [one.octets for one in path.sends]
        path.sends.clear()
        inside = [one for one in made if IPv4Address(one[16:20]) in (XA, XA2)]
        yield step, inside, [one for one in made if one not in inside]


@pytest.fixture(scope="module")
def bed() -> Iterator[NarKernelBed]:
    with nar_kernel_bed() as bed:
        with entered(SERVER):  # the box's own errors, however quickly the steps follow each other
            Path("/proc/sys/net/ipv4/icmp_ratelimit").write_text("0")
        yield bed


def observed(bed: NarKernelBed, plan: str, *, offload: bool) -> dict[str, list[list[bytes]]]:
    """What came on both wires, by step, as it is compared."""
    bed.start(replace(SETTINGS, offload=offload))
    try:
        if plan == "l2tp":
            bed.open_l2tp(SESSION)
        bed.set(*mappings_of(plan))
        wires = Wires(bed)
        for capture in (bed.x, bed.y):
            taken(capture, set())
        seen = {}
        for number, step in enumerate(PLANS[plan]()):
            came = wires.play(step)
            seen[f"{number} {step.sender}: {step.name}"] = [
                [key_of(one) for one in wire] for wire in came
            ]
        queued = sum(count for name, count in bed.counters().items() if name.startswith("queued_"))
        assert bool(queued) != offload
        return seen
    finally:
        bed.stop()
        run("ip", "-n", SERVER, "route", "flush", "cache")


def payload(wire: list[bytes]) -> bytes:
    """What pieces of one packet between Y and Nb carry, put together."""
    ends = (YB.packed + NB.packed, NB.packed + YB.packed)
    return b"".join(one.split(end, 1)[1] for one in wire for end in ends if end in one)


@pytest.mark.parametrize("plan", PLANS)
def test_both_ways_give_the_same_packets(bed: NarKernelBed, plan: str) -> None:
    fast = observed(bed, plan, offload=True)
    slow = observed(bed, plan, offload=False)
    for name, came in fast.items():
        if planes.portable() and "in fragments" in name:
            # A packet log does not tell where whole packets were cut. On its sender's own wire a
            # recording may show a piece as the next host has changed it: they share its octets.
            far = 0 if OUTSIDE in name else 1
            assert payload(came[far]) == payload(slow[name][far]), name
        else:
            assert came == slow[name], name
    if plan == "l2tp":
        return  # The pure functions leave what is around these packets to a kernel.
    steps = list(purely(plan))
    for (name, came), (step, inside, outside) in zip(fast.items(), steps, strict=True):
        if step.pure:
            assert came == [[key_of(one) for one in wire] for wire in (inside, outside)], name
