"""What a move costs a stream of 1,000 datagrams per second in each direction.

Three kinds of move: the NAT in front of the device changes its mapping (ESP in UDP, followed by
the kernel's mapping event), the device's packets come from another address (plain ESP, followed
by the evidence in the packet), and MOBIKE, with us and with strongSwan as the gateway in turns.

Definitions, for the first two. All times are of one clock, taken by the kernel.

- A move is *calm* when the machine itself (see `bench.stalls`) did not stand still for more than
  5 ms around it. Gap and reaction are medians of the calm moves; losses count in all.
- The *gap* of a move is the longest time without an arrival, of the worse direction.
- The gateway sees the last packet of the old path at L, the first one of the new path at G, and
  sends its first packet to the new address at M.
- *In flight* towards the device are the packets that the gateway sent to the old address between
  L - RTT and M: it could not know better before G, and whatever it sent before L - RTT had
  reached the access network when the device's last packet from there was still leaving. RTT is
  here what the stream itself took just before the move: its greatest delay there plus its
  greatest delay back.
  M - G is the gateway's reaction, reported as a figure of its own. From the device nothing is in
  flight in this sense: each of its packets has to arrive.
"""

import struct
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from itertools import pairwise
from pathlib import Path
from statistics import median

from bench.bed import (
    connect_device,
    fresh_lab,
    reaches,
    start_gateway,
    start_strongswan_gateway,
)
from bench.measure import Bar, Result, alternate, spread
from bench.stalls import Stalls, longest
from bench.streams import Direction, Streams
from gateway.lab import netns, plan, rules
from gateway.lab.appliance import Appliance
from gateway.lab.inject import timed_ip_packets
from gateway.lab.processes import LabError, Process, wait_until
from gateway.lab.topology import Lab

MOVES = 24
CALM = 10
"""So many moves must have been calm, or all of them count."""
STALL_S = 0.005
"""A move is calm when the machine did not stand still for longer than this around it."""
PAIRS = 16
RTT_MS = 40.0
"""As in a mobile network."""
BETWEEN_S = 0.8
"""After each move; the later half of it is the quiet time that shows what the machine does."""
SETTLE_S = 1.5
FOLLOWING = 'mobike = false\nendpoint_update = "allowed"'
ESP, UDP = 50, 17
MOBIKE_RATIO = 1.05

Outer = tuple[IPv4Address, int]
"""Address and UDP port (0 for plain ESP) of the device as the gateway sees it."""


def run(say: Callable[[str], None]) -> Sequence[Result]:
    """All three kinds of move."""
    return [*nat_mapping(say), *rewritten_source(say), mobike(say)]


def nat_mapping(say: Callable[[str], None]) -> list[Result]:
    """UDP encapsulation, and a NAT that forgets."""
    with fresh_lab("hand0", rtt_ms=RTT_MS, access="nat") as lab:
        gateway = start_gateway(lab, extra=FOLLOWING)
        connect_device(lab)

        def prepare(number: int) -> None:
            lab.nft("nat", rules.nat(number + 1))

        def move(_number: int) -> None:
            netns.flush_conntrack(lab.namespace("nat"))

        return follow("nat_mapping", gateway, prepare, move, say)


def rewritten_source(say: Callable[[str], None]) -> list[Result]:
    """Plain ESP whose source address changes on the way, without the device's doing."""
    network = plan.ACCESSES["access1"].device.network
    with fresh_lab("hand1", rtt_ms=RTT_MS) as lab:
        gateway = start_gateway(lab, extra=FOLLOWING)
        connect_device(lab)
        lab.rewrite_source(network[100])
        wait_until(lambda: reaches(lab), 10, "the device after its first change")

        def move(number: int) -> None:
            lab.rewrite_source(network[101 + number])

        return follow("native_esp", gateway, lambda _number: None, move, say)


@dataclass(frozen=True, slots=True)
class Seen:
    """What the gateway's host saw of one move."""

    last_old: float
    first_new: float
    moved: float
    """First packet sent to the new path."""


def follow(
    name: str,
    gateway: Appliance,
    prepare: Callable[[int], None],
    move: Callable[[int], None],
    say: Callable[[str], None],
) -> list[Result]:
    """Moves during the stream, and what they cost. `prepare` does what is not the move itself."""
    lab = gateway.lab
    pcap = lab.folder / f"{name}.pcap"
    capture = record(lab, pcap)
    streams, watch = Streams(lab), Stalls(lab)
    streams.resume()
    time.sleep(SETTLE_S)
    begun = []
    for number in range(MOVES):
        prepare(number)
        time.sleep(BETWEEN_S / 2)
        begun.append(time.time())
        move(number)
        time.sleep(BETWEEN_S)
    time.sleep(SETTLE_S)
    streams.pause()
    time.sleep(SETTLE_S)
    both = streams.so_far()
    streams.end()
    stalls = watch.end()
    capture.stop()
    wire = Wire(pcap)
    try:
        moves = wire.moves(MOVES)
    except LabError as error:
        raise LabError(f"{error}; the gateway's log:\n{gateway.output()[-4000:]}") from None
    both = (both[0], wire.at_the_gateway(both[1]))
    costs = [
        Cost.of(both, seen, begin, end, stalls)
        for seen, begin, end in zip(moves, begun, [*begun[1:], begun[-1] + BETWEEN_S], strict=True)
    ]
    outside_moves = sum(
        1 for way in both for at in way.lost() if not begun[0] - RTT_MS / 1000 <= at
    )
    for number, cost in enumerate(costs):
        say(f"{name} {number + 1}/{MOVES}: {cost}")
    counted = [cost for cost in costs if cost.stall_ms <= STALL_S * 1000]
    say(f"{name}: {len(counted)} of {MOVES} moves were calm")
    if len(counted) < CALM:
        counted = costs
    gaps = [cost.gap_ms for cost in counted]
    baseline = {
        "rtt_ms": RTT_MS,
        "moves": float(len(counted)),
        "quiet_gap_ms": median(cost.quiet_ms for cost in counted),
        "gap_to_server_ms": median(cost.gap_up_ms for cost in counted),
        "reaction_ms": median(cost.reaction_ms for cost in counted),
    }
    lost = [cost.beyond for cost in costs]
    return [
        Result(
            f"handover.{name}.gap", median(gaps), "ms", Bar(2 * RTT_MS + 5, at_least=False),
            baseline, f"gap {spread(gaps)}; without a move"
            f" {spread([cost.quiet_ms for cost in counted])};"
            f" reaction {spread([cost.reaction_ms for cost in counted])}",
        ),
        Result(
            f"handover.{name}.lost_beyond_in_flight", sum(lost) + outside_moves, "packets",
            Bar(0, at_least=False),
            {"in_flight_lost": sum(cost.in_flight for cost in costs),
             "sent": float(sum(len(way.sent) for way in both))},
            f"per move {spread([float(one) for one in lost])}; in flight and lost"
            f" {spread([float(cost.in_flight) for cost in costs])}",
        ),
        Result(
            f"handover.{name}.ike_messages", wire.ike_messages(begun[0]), "messages",
            Bar(0, at_least=False), {"moves": float(MOVES)},
        ),
    ]  # fmt: skip


def record(lab: Lab, pcap: Path) -> Process:
    """Record the gateway's outer interface: headers only and in blocks, to disturb little."""
    argv = ["nice", "-n", "10", "tcpdump", "-Z", "root", "-n", "-s", "80", "-B", "16384"]
    argv += ["-i", "outside", "-w", str(pcap), "udp", "or", "esp"]
    process = lab.spawn("gw", argv, pcap.stem)
    wait_until(lambda: "listening on" in process.output(), 20, "tcpdump")
    return process


@dataclass(frozen=True, slots=True)
class Cost:
    """What one move cost."""

    gap_up_ms: float
    gap_down_ms: float
    quiet_ms: float
    reaction_ms: float
    in_flight: int
    beyond: int
    stall_ms: float
    """The longest standstill of the machine around it."""

    @property
    def gap_ms(self) -> float:
        """Of the worse direction."""
        return max(self.gap_up_ms, self.gap_down_ms)

    @classmethod
    def of(
        cls,
        both: tuple[Direction, Direction],
        seen: Seen,
        begin: float,
        end: float,
        stalls: list[tuple[float, float]],
    ) -> "Cost":
        """`begin` and `end` bound the move and the quiet time after it."""
        up, down = both
        early = RTT_MS / 1000
        quiet = (begin + BETWEEN_S / 2, begin + BETWEEN_S)
        # What a round trip takes just before the move, not what it should take.
        rtt = sum(way.delay(begin - BETWEEN_S / 2, begin - early) for way in both)
        lost_down = [at for at in down.lost() if begin - early <= at < end - early]
        lost_up = [at for at in up.lost() if begin - early <= at < end - early]
        flying = [at for at in lost_down if seen.last_old - rtt <= at <= seen.moved]
        until = seen.moved + 2 * early
        return cls(
            gap_up_ms=up.gap_ms(begin, until),
            gap_down_ms=down.gap_ms(begin, until),
            quiet_ms=max(way.gap_ms(*quiet) for way in both),
            reaction_ms=(seen.moved - seen.first_new) * 1000,
            in_flight=len(flying),
            beyond=len(lost_up) + len(lost_down) - len(flying),
            stall_ms=longest(stalls, begin - early, until) * 1000,
        )

    def __str__(self) -> str:
        return (
            f"gap {self.gap_down_ms:.1f} ms to the device, {self.gap_up_ms:.1f} ms to the server,"
            f" {self.quiet_ms:.1f} ms without a move; reaction {self.reaction_ms:.1f} ms;"
            f" lost {self.in_flight} in flight, {self.beyond} beyond;"
            f" standstill {self.stall_ms:.1f} ms"
        )


class Wire:
    """A capture of the gateway's outer interface."""

    def __init__(self, pcap: Path) -> None:
        self._inbound: list[tuple[float, Outer]] = []
        self._outbound: list[tuple[float, Outer]] = []
        self._ike: list[float] = []
        for at, packet in timed_ip_packets(pcap):
            self._take(at, packet)

    def _take(self, at: float, packet: bytes) -> None:
        inbound = packet[16:20] == plan.GATEWAY_OUTSIDE.packed
        other = IPv4Address(packet[12:16] if inbound else packet[16:20])
        payload = packet[(packet[0] & 15) * 4 :]
        port = 0
        if packet[9] == UDP:
            ports = struct.unpack_from(">HH", payload)
            if len(payload) <= 12:
                return  # a keepalive (RFC 3948 section 2.3)
            if 4500 not in ports or not any(payload[8:12]):
                self._ike.append(at)
                return
            port = ports[0] if inbound else ports[1]
        (self._inbound if inbound else self._outbound).append((at, (other, port)))

    def at_the_gateway(self, down: Direction) -> Direction:
        """The direction to the device, with the times at which the gateway passed its packets on.

        They passed in order and alone, so the nth ESP packet is the nth datagram. Raises LabError
        when there are not as many: then the gateway dropped or made some.
        """
        if len(self._outbound) != len(down.sent):
            raise LabError(f"{len(down.sent)} datagrams became {len(self._outbound)} ESP packets")
        return Direction([at for at, _ in self._outbound], down.received)

    def ike_messages(self, since: float) -> int:
        """IKE messages from then on, both ways."""
        return sum(1 for at in self._ike if at >= since)

    def moves(self, wanted: int) -> list[Seen]:
        """The last `wanted` changes of the path; raises LabError when there were fewer."""
        found = []
        for (at_old, old), (at_new, new) in pairwise(self._inbound):
            if old == new:
                continue
            moved = next((at for at, to in self._outbound if at >= at_new and to == new), None)
            if moved is None:
                raise LabError(f"the gateway never answered to {new[0]} port {new[1]}")
            found.append(Seen(at_old, at_new, moved))
        if len(found) < wanted:
            raise LabError(f"{wanted} moves were made, the gateway saw {len(found)}")
        return found[-wanted:]


def mobike(say: Callable[[str], None]) -> Result:
    """The device changes its access network and says so, to us and to strongSwan in turns."""
    with (
        fresh_lab("hand2", rtt_ms=RTT_MS) as ours,
        fresh_lab("hand3", rtt_ms=RTT_MS) as theirs,
    ):
        start_gateway(ours, extra="mobike = true")
        start_strongswan_gateway(theirs)
        movers = []
        for lab in (ours, theirs):
            connect_device(lab, mobike=True)
            movers.append(MobikeMover(lab))
            movers[-1].gap_ms()  # once unmeasured
        pairs = alternate(movers[0].gap_ms, movers[1].gap_ms, PAIRS, say)
        for mover in movers:
            mover.end()
    return Result(
        "handover.mobike.gap", pairs.ratio, "of strongSwan", Bar(MOBIKE_RATIO, at_least=False),
        {"ours_ms": median(pairs.ours), "strongswan_ms": median(pairs.theirs), "rtt_ms": RTT_MS},
        f"ms, {pairs.scatter}; ratios {spread(pairs.ratios)}",
    )  # fmt: skip


class MobikeMover:
    """A device that changes between two access networks while the stream runs."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self.streams = Streams(lab)
        self._now, self._next = plan.ACCESSES["access1"], plan.ACCESSES["access2"]
        # One `ip` for all moves: starting one takes longer than what is measured.
        argv = netns.inside(lab.namespace("device"), ["ip", "-force", "-batch", "-"])
        self._ip = subprocess.Popen(argv, stdin=subprocess.PIPE, text=True)

    def gap_ms(self) -> float:
        """One move; returns the gap of the worse direction."""
        self.streams.resume()
        time.sleep(SETTLE_S / 2)
        begin = time.time()
        self._move()
        time.sleep(SETTLE_S)
        self.streams.pause()
        time.sleep(0.2)
        end = time.time()
        both = self.streams.so_far()
        return max(way.gap_ms(begin, end) for way in both)

    def _move(self) -> None:
        """The old access network is gone before the new one is there."""
        old, new = self._now, self._next
        self._now, self._next = new, old
        assert self._ip.stdin is not None
        self._ip.stdin.write(
            f"address flush dev {old.name}\n"
            f"link set {old.name} down\n"
            f"link set {new.name} up\n"
            f"address replace {new.device} dev {new.name}\n"
            f"route replace default via {new.router} dev {new.name} src {new.device.ip}\n"
        )
        self._ip.stdin.flush()

    def end(self) -> None:
        """End streams and `ip`."""
        self.streams.end()
        self._ip.communicate()
