"""What the mobility agents' fast path costs a TCP stream.

- Zero-overhead switching (draft 001, appendix D): a home agent that switches addresses, against
  the same box that only forwards.
- VPN/FA (appendix B): ESP to the gateway, IP-in-IP from there to the home agent and back, against
  the same ESP with plain forwarding behind it.
- The same bindings with `offload = false`: every packet through user space. No bar: it is what
  the kernel's path saves.

Each subject has namespaces of its own; they take turns, see `bench.turns`. The dataplanes are the
gateway's; bindings and SAs are set without signalling.
"""

import contextlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from bench.measure import Bar, Result
from bench.turns import PAIRS, Contest, Transfer, compare, random_key
from gateway.lab import netns
from gateway.lab.measured import CHECKOUT
from gateway.lab.processes import LabError, Process, ProcessTable, wait_until

HOME_ADDRESS, HOME_NETWORK = "10.8.0.5", "10.8.0.0/24"
HOME_AGENT = "192.0.2.1"
CORRESPONDENT = "10.7.0.2"
DEVICE, GATEWAY_OUTSIDE = "198.51.100.2", "198.51.100.1"
GATEWAY_INSIDE, AGENT_OUTSIDE = "10.6.0.1", "10.6.0.2"
SEGMENT = 1340
KEY_OCTETS = 32 + 4
BAR = Bar(0.93, at_least=True)
CARRIES_S = 20.0
MOST_PAIRS = 100
QUEUED_PAIRS = 10


def run(say: Callable[[str], None]) -> Sequence[Result]:
    """Both mechanisms, both directions, both ways."""
    results: list[Result] = []
    for name, build, baseline, theirs in (
        ("zero_overhead", switching, plain, "plain_forwarding_mbit_s"),
        ("vpn_fa", vpn_fa, bare_xfrm, "bare_xfrm_mbit_s"),
    ):
        for offload in (True, False):
            with Hosts(f"bf0{name[0]}") as first, Hosts(f"bf1{name[0]}") as second:
                subjects = [build(first, offload=offload), baseline(second)]
                for download in (False, True):
                    way = "" if offload else "_nfqueue"
                    contest = Contest(
                        f"mip_forwarding.{name}{way}_{'download' if download else 'upload'}",
                        "of the baseline",
                        BAR if offload else None,
                        theirs,
                        pairs=PAIRS if offload else QUEUED_PAIRS,
                        most_pairs=MOST_PAIRS if offload else QUEUED_PAIRS,
                    )
                    results.append(_compare(contest, subjects, download, say))
    return results


# -- namespaces --------------------------------------------------------------------------------


class Hosts:
    """Network namespaces with wires between them, and their processes."""

    def __init__(self, prefix: str) -> None:
        self._prefix = f"{prefix}-{os.getpid()}-"
        self._folder = Path(tempfile.mkdtemp(prefix="bench-"))
        self._processes = ProcessTable(self._folder)
        self._number = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._processes.end_all()
        for name in netns.existing(self._prefix):
            with contextlib.suppress(LabError):
                netns.command(["ip", "netns", "delete", name])
        shutil.rmtree(self._folder, ignore_errors=True)

    def name(self, host: str) -> str:
        """The namespace of a host."""
        return self._prefix + host

    def make(self, *hosts: str) -> None:
        """Namespaces that route."""
        for host in hosts:
            netns.command(["ip", "netns", "add", self.name(host)])
            self.ip(host, "link set lo up")
            self.run(host, "sysctl", "-qw", "net.ipv4.ip_forward=1")

    def wire(self, left: str, left_address: str, right: str, right_address: str) -> None:
        """A wire; each end is called as the other host."""
        self.ip(left, f"link add {right} type veth peer name {left} netns {self.name(right)}")
        for host, interface, address in (
            (left, right, left_address),
            (right, left, right_address),
        ):
            self.ip(host, f"address add {address} dev {interface}", f"link set {interface} up")

    def ip(self, host: str, *lines: str) -> None:
        """`ip` commands on a host."""
        netns.command(["ip", "-n", self.name(host), "-batch", "-"], stdin="\n".join(lines) + "\n")

    def run(self, host: str, *argv: str, stdin: str = "") -> str:
        """A command on a host."""
        return netns.command(netns.inside(self.name(host), argv), stdin)

    def spawn(self, host: str, *argv: str) -> Process:
        """A process on a host."""
        self._number += 1
        return self._processes.spawn(
            f"{self._number}",
            netns.inside(self.name(host), argv),
            env={"PYTHONPATH": CHECKOUT},
        )

    def dataplane(self, host: str, **facts: object) -> None:
        """Our dataplanes with what `bench.mip_dataplane` is told."""
        process = self.spawn(host, sys.executable, "-m", "bench.mip_dataplane", json.dumps(facts))

        def ready() -> bool:
            if not process.running():
                raise LabError(f"the dataplane ended: {process.output()}")
            return "ready" in process.output()

        wait_until(ready, CARRIES_S, "the dataplane")


@dataclass(frozen=True, slots=True)
class Subject:
    """Where the two ends of the stream are."""

    hosts: Hosts
    device: str
    """Address that the mobile node's end is bound to."""
    device_wire: str
    to: str = CORRESPONDENT
    """Address that it speaks to."""
    far_wire: tuple[str, str] = ("cn", "ha")
    """Host and interface where an upload is counted: both subjects' packets look alike there.

    Behind a tunnel they do not: what was merged after decryption has fewer headers to count.
    """

    def carries(self) -> None:
        """Wait until a packet comes back."""

        def answered() -> bool:
            argv = ("ping", "-n", "-c", "1", "-W", "1", "-I", self.device, self.to)
            with contextlib.suppress(LabError):
                return "1 received" in self.hosts.run("device", *argv)
            return False

        wait_until(answered, CARRIES_S, "the first packet")


def _compare(
    contest: Contest, subjects: Sequence[Subject], download: bool, say: Callable[[str], None]
) -> Result:
    with _transfer(subjects[0], download) as ours, _transfer(subjects[1], download) as theirs:
        return compare(contest, ours, theirs, say)


@contextlib.contextmanager
def _transfer(subject: Subject, download: bool) -> Iterator[Transfer]:
    hosts = subject.hosts
    server = hosts.spawn("cn", "iperf3", "-s", "-B", CORRESPONDENT, "--forceflush")
    wait_until(lambda: "listening" in server.output(), CARRIES_S, "iperf3's server")
    argv = ["iperf3", "-c", subject.to, "-B", subject.device, "-M", str(SEGMENT), "-t", "0"]
    client = hosts.spawn("device", *argv, "--forceflush", *(["-R"] if download else []))
    if download:
        transfer = Transfer(client, server, (client, subject.device_wire))
    else:
        host, interface = subject.far_wire
        transfer = Transfer(client, client, (hosts.spawn(host, "sleep", "infinity"), interface))
    transfer.settle()
    yield transfer
    transfer.end()
    server.stop()


# -- zero overhead -----------------------------------------------------------------------------


def _two_links(hosts: Hosts) -> None:
    hosts.make("device", "ha", "cn")
    hosts.wire("device", f"{DEVICE}/30", "ha", f"{GATEWAY_OUTSIDE}/30")
    hosts.wire("ha", "10.7.0.1/24", "cn", f"{CORRESPONDENT}/24")
    hosts.ip("ha", f"address add {HOME_AGENT}/32 dev lo")
    hosts.ip("device", f"route add default via {GATEWAY_OUTSIDE}")
    hosts.ip("cn", "route add default via 10.7.0.1")


def switching(hosts: Hosts, *, offload: bool) -> Subject:
    """The mobile node's end speaks from its care-of address to the home agent.

    That is what its packets look like after its own switching, which is not ours to measure.
    """
    _two_links(hosts)
    binding = {
        "home_agent": HOME_AGENT,
        "home_address": HOME_ADDRESS,
        "care_of": DEVICE,
        "co_located": True,
        "zero_overhead": CORRESPONDENT,
    }
    hosts.dataplane("ha", offload=offload, home_network=HOME_NETWORK, binding=binding)
    subject = Subject(hosts, DEVICE, "ha", HOME_AGENT)
    subject.carries()
    return subject


def plain(hosts: Hosts) -> Subject:
    """Nothing but routes."""
    _two_links(hosts)
    subject = Subject(hosts, DEVICE, "ha")
    subject.carries()
    return subject


# -- VPN/FA ------------------------------------------------------------------------------------


def _three_links(hosts: Hosts, keys: Sequence[str]) -> None:
    hosts.make("device", "gw", "ha", "cn")
    hosts.wire("device", f"{DEVICE}/30", "gw", f"{GATEWAY_OUTSIDE}/30")
    hosts.wire("gw", f"{GATEWAY_INSIDE}/24", "ha", f"{AGENT_OUTSIDE}/24")
    hosts.wire("ha", "10.7.0.1/24", "cn", f"{CORRESPONDENT}/24")
    hosts.ip("ha", f"route add default via {GATEWAY_INSIDE}")
    hosts.ip("gw", f"route add 10.7.0.0/24 via {AGENT_OUTSIDE}")
    hosts.ip("cn", "route add default via 10.7.0.1")
    hosts.ip(
        "device",
        f"address add {HOME_ADDRESS}/32 dev lo",
        f"route add 10.7.0.0/24 via {GATEWAY_OUTSIDE} src {HOME_ADDRESS}",
        *_states(keys),
        _policy("out", from_device=True),
        _policy("in", from_device=False),
    )


def _states(keys: Sequence[str]) -> list[str]:
    ways = ((DEVICE, GATEWAY_OUTSIDE, 0x1001), (GATEWAY_OUTSIDE, DEVICE, 0x1002))
    return [
        f"xfrm state add src {source} dst {destination} proto esp spi {spi:#x} reqid 1"
        f" mode tunnel replay-window 32 aead rfc4106(gcm(aes)) {key} 128"
        for (source, destination, spi), key in zip(ways, keys, strict=True)
    ]


def _policy(direction: str, *, from_device: bool) -> str:
    ends = (DEVICE, GATEWAY_OUTSIDE) if from_device else (GATEWAY_OUTSIDE, DEVICE)
    inner = (f"{HOME_ADDRESS}/32", "0.0.0.0/0")
    source, destination = inner if from_device else inner[::-1]
    selector = f"src {source} dst {destination} dir {direction}"
    template = f"tmpl src {ends[0]} dst {ends[1]} proto esp reqid 1 mode tunnel"
    return f"xfrm policy add {selector} {template}"


def vpn_fa(hosts: Hosts, *, offload: bool) -> Subject:
    """The gateway's own IPsec and foreign agent, and a home agent behind it."""
    keys = [random_key(KEY_OCTETS) for _ in range(2)]
    _three_links(hosts, keys)
    hosts.ip("ha", f"address add {HOME_AGENT}/32 dev lo")
    hosts.ip("gw", f"route add {HOME_AGENT}/32 via {AGENT_OUTSIDE}")
    sa = {"keys": keys, "home_address": HOME_ADDRESS, "ends": [GATEWAY_OUTSIDE, DEVICE]}
    visitor = {"care_of": GATEWAY_INSIDE, "home_agent": HOME_AGENT, "home_address": HOME_ADDRESS}
    hosts.dataplane("gw", offload=offload, sa=sa, visitor=visitor)
    binding = {
        "home_agent": HOME_AGENT,
        "home_address": HOME_ADDRESS,
        "care_of": GATEWAY_INSIDE,
        "co_located": False,
    }
    hosts.dataplane("ha", offload=offload, home_network=HOME_NETWORK, binding=binding)
    subject = Subject(hosts, HOME_ADDRESS, "gw", far_wire=("gw", "device"))
    subject.carries()
    return subject


def bare_xfrm(hosts: Hosts) -> Subject:
    """The same SAs typed in at the gateway; behind it there are only routes."""
    keys = [random_key(KEY_OCTETS) for _ in range(2)]
    _three_links(hosts, keys)
    hosts.ip(
        "gw",
        *_states(keys),
        _policy("in", from_device=True),
        _policy("fwd", from_device=True),
        _policy("out", from_device=False),
        f"route add {HOME_ADDRESS}/32 via {DEVICE}",
    )
    subject = Subject(hosts, HOME_ADDRESS, "gw", far_wire=("gw", "device"))
    subject.carries()
    return subject
