"""What a move costs the mobile node, mode by mode, beside strongSwan with MOBIKE and wireguard-go.

The access network with the old address is gone before the other one is there; the round trip is
40 ms; 1,000 datagrams per second flow in each direction. The *gap* of a move is the longest time
without an arrival, of the worse direction. All subjects move in turns, in an order that changes.

Detection: the time from the moment when a link inside has its address until the user's first
packet leaves on it, in round trips to the home agent (of 100 ms). Idle: the messages that an idle
device behind a NAT sends and receives, extrapolated to an hour, beside the other two in the same
minutes.
"""

import contextlib
import random
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from ipaddress import IPv4Address
from statistics import median
from typing import Protocol

from bench.bed import INNER, BenchLab, connect_device, fresh_lab, reaches, start_strongswan_gateway
from bench.measure import Bar, Result, spread
from bench.streams import Streams
from bench.wireguard import WireGuard
from gateway.lab import netns, plan
from gateway.lab.inject import timed_ip_packets
from gateway.lab.mobility import boxes, profiles
from gateway.lab.mobility import plan as mobility_plan
from gateway.lab.mobility.node import MobileHost
from gateway.lab.mobility.topology import MobilityLab
from gateway.lab.processes import LabError, wait_until
from gateway.lab.topology import Lab
from gateway.mobile_node.policy import Detection

RTT_MS = 40.0
ROUNDS = 10
SETTLE_S = 1.2
AFTER_S = 1.5
FLOWS_S = 0.5
LONGEST_S = 20.0
"""A subject that does not come back by then has this gap."""
RATIO = 1.05
"""No worse than either: what single moves scatter by on one processor is left out."""
IDLE_S = 100.0
DETECTIONS = 12
DETECTION_RTT_MS = 100.0
INTRANET = "10.1.0.0/24"
PROTECTED = ("vc", "vf", "cvc", "cvf", "mc")
BARRED = ("vc", "vf", "cvc")
INSIDE_HOST = mobility_plan.INSIDE_HOME_ADDRESS


class NodeLab(BenchLab, MobilityLab):
    """The topology of draft 001, and rules that change without a process."""


class Subject(Protocol):
    """Who moves."""

    name: str
    lab: Lab
    inner: str
    every: int
    """It moves in one of so many rounds."""

    def end(self) -> None:
        """Stop it."""


class Ours:
    """`gateway mn` in one access mode, with our gateway and home agents."""

    every = 1

    def __init__(self, lab: Lab, mode: str) -> None:
        self.name, self.lab, self.inner = mode, lab, str(INSIDE_HOST)
        self.boxes = boxes.Boxes(lab)
        agents = boxes.agents()
        self.boxes.start({"iha": agents["iha"], "xha": agents["xha"], **boxes.vpn(**GATEWAY[mode])})
        self.node = MobileHost(lab)
        self.node.write(
            profiles.profile,
            modes=(*profiles.INSIDE_MODES, mode),
            detection=asdict(Detection()),
            **{**PROFILE[mode], "gateway": {**LIVENESS, **PROFILE[mode].get("gateway", {})}},
        )
        self.node.start()
        self.node.wait_for_mode(mode)

    def end(self) -> None:
        """Stop it."""
        self.node.stop()
        self.boxes.end()


LIVENESS = {"liveness_s": 30}
"""As a profile has it that says nothing."""
_OUTER: dict[str, object] = {"endpoint_update": False, "mobike": False}
_ADDRESS: dict[str, object] = {"identity": profiles.identity("vc")}
PROFILE: dict[str, dict[str, dict[str, object]]] = {
    "vc": {"gateway": {"vpn_fa": False}, "login": _ADDRESS},
    "vf": {},
    "mc": {"gateway": {"vpn_fa": False, "endpoint_update": False}, "login": _ADDRESS},
    "cvc": {"gateway": {**_OUTER, "vpn_fa": False}, "login": _ADDRESS},
    "cvf": {"gateway": _OUTER},
}
GATEWAY: dict[str, dict[str, object]] = {
    mode: {"endpoint_update": "allowed"} if mode in {"vc", "vf"} else {} for mode in PROTECTED
}


class Swan:
    """strongSwan at both ends, with MOBIKE."""

    name, inner, every = "strongswan", INNER, 1

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self._charons = [start_strongswan_gateway(lab), connect_device(lab, mobike=True)]

    def end(self) -> None:
        """Stop it."""
        for charon in reversed(self._charons):
            charon.stop()


class Guard:
    """wireguard-go at both ends."""

    name, inner, every = "wireguard", INNER, 3

    def __init__(self, lab: Lab, *, keepalive_s: int = 0) -> None:
        self.lab = lab
        self._tunnel = WireGuard(lab, IPv4Address(INNER), INTRANET, keepalive_s=keepalive_s)
        self._tunnel.start()
        wait_until(lambda: reaches(lab), 20, "the first answer through WireGuard")

    def end(self) -> None:
        """Stop it."""
        self._tunnel.end()


class Ip:
    """One `ip` for all changes of the device: starting one takes longer than what is measured."""

    def __init__(self, lab: Lab) -> None:
        argv = netns.inside(lab.namespace("device"), ["ip", "-force", "-batch", "-"])
        self._process = subprocess.Popen(argv, stdin=subprocess.PIPE, text=True)

    def leave(self, access: plan.Access) -> None:
        """Out of an access network."""
        self._do(f"address flush dev {access.name}", f"link set {access.name} down")

    def enter(self, access: plan.Access) -> None:
        """Into another one."""
        self._do(
            f"link set {access.name} up",
            f"address replace {access.device} dev {access.name}",
            f"route replace default via {access.router} dev {access.name} src {access.device.ip}",
        )

    def _do(self, *commands: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("".join(f"{command}\n" for command in commands))
        self._process.stdin.flush()

    def end(self) -> None:
        """End it."""
        self._process.communicate()


class Mover:
    """Moves a subject between two access networks while its stream runs."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        lab = subject.lab
        self._streams = Streams(lab, device=subject.inner)
        self._now, self._next = plan.ACCESSES["access1"], plan.ACCESSES["access2"]
        self._ip = Ip(lab)

    def gap_ms(self) -> float:
        """One move; the gap of the worse direction."""
        self._streams.resume()
        time.sleep(SETTLE_S)
        begin = time.time()
        self._move()
        time.sleep(AFTER_S)
        while not self._flows() and time.time() < begin + LONGEST_S:
            time.sleep(FLOWS_S)
        end = time.time()
        self._streams.pause()
        time.sleep(0.2)
        return max(way.gap_ms(begin, end) for way in self._streams.so_far())

    def _flows(self) -> bool:
        """Whether something has just arrived at both ends."""
        now = time.time()
        return all(
            way.received and now - way.received[-1][1] < FLOWS_S for way in self._streams.so_far()
        )

    def _move(self) -> None:
        old, new = self._now, self._next
        self._now, self._next = new, old
        self._ip.leave(old)
        self._ip.enter(new)

    def end(self) -> None:
        """End streams, `ip` and the subject."""
        self._streams.end()
        self._ip.end()
        self.subject.end()


@contextlib.contextmanager
def node_lab(name: str, *, access: str = "access1") -> Iterator[Lab]:
    """A lab for :class:`Ours` that goes away with the block."""
    lab = NodeLab(f"b{name}-", rtt_ms=RTT_MS)
    lab.up(fresh=True, access=access)
    try:
        yield lab
    finally:
        lab.down()


def run(say: Callable[[str], None]) -> Sequence[Result]:
    """Handovers, detection, idleness."""
    return [*handovers(say), detection(say), *idle(say)]


def handovers(say: Callable[[str], None]) -> list[Result]:
    """Each protected mode, and both others, in turns."""
    found: list[Result] = []
    for mode in PROTECTED:
        with (
            node_lab("node") as ours,
            fresh_lab("swan", rtt_ms=RTT_MS) as theirs,
            fresh_lab("guard", rtt_ms=RTT_MS) as others,
        ):
            movers = [Mover(one) for one in (Ours(ours, mode), Swan(theirs), Guard(others))]
            found += in_turns(mode, movers, say)
            for mover in movers:
                mover.end()
    return found


def in_turns(mode: str, movers: Sequence[Mover], say: Callable[[str], None]) -> list[Result]:
    """The gaps of one mode against each of the others."""
    gaps: dict[str, list[float]] = {mover.subject.name: [] for mover in movers}
    for mover in movers:
        mover.gap_ms()  # once unmeasured
    order = random.Random(1)
    for number in range(ROUNDS):
        for mover in order.sample(movers, len(movers)):
            if number % mover.subject.every == 0:
                gaps[mover.subject.name].append(mover.gap_ms())
        say(
            f"{mode} {number + 1}/{ROUNDS}: "
            + ", ".join(f"{n} {g[-1]:.0f}" for n, g in gaps.items())
        )
    ours = gaps.pop(mode)
    bar = Bar(RATIO, at_least=False) if mode in BARRED else None
    return [
        Result(
            f"node_handover.{mode}.to_{name}", median(ours) / median(theirs), f"of {name}", bar,
            {"ours_ms": median(ours), f"{name}_ms": median(theirs), "rtt_ms": RTT_MS},
            f"ms, ours {spread(ours)}; {name} {spread(theirs)}",
        )
        for name, theirs in gaps.items()
    ]  # fmt: skip


def detection(say: Callable[[str], None]) -> Result:
    """How many round trips until the inside is proven and the user's packets leave."""
    found = []
    with node_lab("det", access="plain") as lab:
        for host, interface in (("core", "iha"), ("iha", "uplink")):
            delay = ["netem", "delay", f"{DETECTION_RTT_MS / 2:g}ms"]
            argv = ["tc", "-n", lab.namespace(host), "qdisc", "replace", "dev", interface, "root"]
            netns.command([*argv, *delay])
        agents = boxes.Boxes(lab)
        agents.start({"iha": boxes.agents()["iha"], **boxes.vpn()})
        node = MobileHost(lab)
        node.write(profiles.profile, modes=profiles.INSIDE_MODES, detection=asdict(Detection()))
        node.start()
        _reads_in_its_log(node, "c")
        streams = Streams(lab, device=str(INSIDE_HOST))
        streams.resume()
        ip = Ip(lab)
        for number in range(DETECTIONS):
            took_s = _detected(lab, node, ip)
            found.append(took_s * 1000 / DETECTION_RTT_MS)
            say(f"detection {number + 1}/{DETECTIONS}: {found[-1]:.2f} round trips")
        ip.end()
        streams.end()
        node.stop()
        agents.end()
    return Result(
        "node_detection.inside", median(found), "round trips", Bar(2, at_least=False),
        {"rtt_ms": DETECTION_RTT_MS}, spread(found),
    )  # fmt: skip


def _detected(lab: Lab, node: MobileHost, ip: Ip) -> float:
    """Seconds from a link's address to the first packet of the user's on it."""
    plain = mobility_plan.ACCESSES["plain"]
    ip.leave(plain)
    _reads_in_its_log(node, "held")
    capture = lab.capture("core", "plain", f"detection-{time.time()}", "ip")
    began = time.time()
    ip.enter(plain)
    _reads_in_its_log(node, "c")
    time.sleep(0.3)
    for at, packet in timed_ip_packets(capture.stop()):
        # IP-in-IP to the home agent: the user's.
        if packet[9] == 4 and packet[12:16] == plain.device.ip.packed and at >= began:
            return at - began
    raise LabError("no packet of the user's was seen")


def _reads_in_its_log(node: MobileHost, mode: str) -> None:
    """Wait for a mode without asking the node, which has something to do."""
    wait_until(lambda: node.events("mode_changed")[-1]["mode"] == mode, 20, f"mode {mode}")


def idle(say: Callable[[str], None]) -> list[Result]:
    """Messages per hour behind a NAT, of us and of the others at the same time."""
    with (
        node_lab("idle", access="nat") as ours,
        fresh_lab("idles", rtt_ms=RTT_MS, access="nat") as theirs,
        fresh_lab("idleg", rtt_ms=RTT_MS, access="nat") as others,
    ):
        subjects: list[Subject] = [Ours(ours, "vf"), Swan(theirs), Guard(others, keepalive_s=25)]
        say(f"idle for {IDLE_S:g} s")
        captures = {
            one.name: one.lab.capture("device", "nat", "idle", "udp or esp or proto 4")
            for one in subjects
        }
        time.sleep(IDLE_S)
        counts = {
            name: len(list(timed_ip_packets(capture.stop()))) * 3600 / IDLE_S
            for name, capture in captures.items()
        }
        for one in subjects:
            one.end()
    mine = counts.pop("vf")
    return [
        Result(
            "node_idle.messages",
            mine,
            "per hour",
            None,
            {f"{n}_per_hour": c for n, c in counts.items()},
        )
    ]
