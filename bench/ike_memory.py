"""Memory of an established IKE SA with its child SA: 10,000 devices at one gateway.

The gateway is a process of its own: engine, the joint to the dataplane, and the dataplane's own
records, without the kernel. This process plays the devices: each is an engine of ours that does
a real handshake over a socket pair and goes away. Time is virtual, a hundred handshakes a second,
so that liveness checks and cleaning up happen as they would.
"""

import gc
import json
import socket
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_network
from pathlib import Path

from bench.absent_kernel import absent_kernel
from bench.ike_policies import device_policy, gateway_policy, make_engine
from bench.measure import Bar, Result
from gateway.appliance.ike_service import IkeService
from gateway.dataplane.kernel.settings import KernelSettings
from gateway.domain.endpoint import Endpoint
from gateway.domain.endpoint import Path as NetworkPath
from gateway.ike.engine import _VERSIONS
from gateway.ike.outputs import Event, Transmit

SAS = 10_000
TRACED = 2_000
"""Fewer where every allocation is traced, which costs time."""
WARM_UP = 200
"""Handshakes before the first measurement: code, tables and the allocator's arenas."""
LIMIT_KB = 12.0
HANDSHAKES_PER_S = 100.0
GATEWAY = Endpoint(IPv4Address("192.0.2.1"), 500)
FIRST_DEVICE = int(IPv4Address("100.64.0.1"))
CONTROL = bytes(4)
"""In the place of a device's address: a request to measure."""
BUFFER_OCTETS = 1 << 20
NAMES = {1: "IKEv1 main mode", 2: "IKEv2"}


def run(say: Callable[[str], None]) -> Sequence[Result]:
    """IKEv2 with its bar, IKEv1 likewise where the engine speaks it."""
    results = []
    for version in sorted(_VERSIONS, reverse=True):
        resident = _measure(version, SAS, traced=False)
        traced = _measure(version, TRACED, traced=True)
        say(
            f"{NAMES[version]}: {resident.kb_each('rss'):.2f} kB resident for each of {SAS}, of"
            f" which Python's own {traced.kb_each('traced'):.2f} kB (of {TRACED}, traced)"
        )
        results.append(
            Result(
                f"ike_memory.v{version}",
                resident.kb_each("rss"),
                "kB per SA",
                Bar(LIMIT_KB, at_least=False),
                {
                    "SAs": SAS,
                    "process before MB": resident.before["rss"] / 1e6,
                    "process after MB": resident.after["rss"] / 1e6,
                    "Python's own kB per SA": traced.kb_each("traced"),
                },
            )
        )
    return results


@dataclass(frozen=True, slots=True)
class Measured:
    """The gateway's process before and after."""

    before: dict[str, int]
    after: dict[str, int]

    def kb_each(self, what: str) -> float:
        """kB (1,000 octets) of each SA."""
        count = self.after["established"] - self.before["established"]
        return (self.after[what] - self.before[what]) / count / 1000


# -- the devices --------------------------------------------------------------------------------


def _measure(version: int, count: int, *, traced: bool) -> Measured:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    argv = [sys.executable, "-m", "bench.ike_memory", str(version), str(theirs.fileno())]
    argv += ["traced"] if traced else []
    with ours, subprocess.Popen(argv, pass_fds=[theirs.fileno()]) as gateway:
        theirs.close()
        try:
            _connect(ours, version, 0, WARM_UP)
            before = _ask(ours)
            _connect(ours, version, WARM_UP, count)
            after = _ask(ours)
        finally:
            ours.close()
            gateway.wait(timeout=10)
    if after["established"] != WARM_UP + count:
        raise RuntimeError(f"{after['established']} of {WARM_UP + count} SAs are established")
    return Measured(before, after)


def _ask(channel: socket.socket) -> dict[str, int]:
    channel.send(CONTROL)
    answer: dict[str, int] = json.loads(channel.recv(BUFFER_OCTETS))
    return answer


def _connect(channel: socket.socket, version: int, first: int, count: int) -> None:
    """One device after the other."""
    for number in range(first, first + count):
        address = IPv4Address(FIRST_DEVICE + number)
        local = Endpoint(address, 500)
        engine = make_engine(device_policy(version, GATEWAY, local))
        now = number / HANDSHAKES_PER_S
        engine.initiate("office", now)
        path = NetworkPath(local, GATEWAY)
        while True:
            outputs = engine.take_outputs()
            for output in outputs:
                if isinstance(output, Transmit):
                    channel.send(address.packed + output.message)
            if any(isinstance(one, Event) and one.name == "child_sa_installed" for one in outputs):
                break
            engine.receive(channel.recv(BUFFER_OCTETS), path, now)


# -- the gateway --------------------------------------------------------------------------------


class _Clock:
    """Virtual time, and the one timer that is set."""

    def __init__(self) -> None:
        self.now = 0.0
        self.due: tuple[float, Callable[[], None]] | None = None

    def __call__(self) -> float:
        return self.now

    def call_at(self, at: float, call: Callable[[], None]) -> "_Clock":
        """Remember it."""
        self.due = (at, call)
        return self

    def cancel(self) -> None:
        """Forget it."""
        self.due = None

    def advance(self, now: float) -> None:
        """Let time go on, from timer to timer."""
        while self.due is not None and self.due[0] <= now:
            self.now, call = self.due
            self.due = None
            call()
        self.now = now


def gateway(version: int, channel: socket.socket, *, traced: bool) -> None:
    """Answer devices until they are gone."""
    clock = _Clock()
    dataplane = absent_kernel(KernelSettings(inner_networks=(ip_network("10.16.0.0/12"),)))
    # Packets come in through every tunnel, so nobody needs to ask whether its peer lives.
    engine = make_engine(gateway_policy(version), last_inbound=lambda _spi_in: 1.0)

    def send(message: bytes, path: NetworkPath, *, keepalive: bool = False) -> OSError | None:
        if not keepalive and int(path.remote.address) == current:
            channel.send(message)
        return None

    service = IkeService(
        engine, dataplane, send=send, clock=clock, call_at=clock.call_at, emit=lambda _event: None
    )
    current = 0
    if traced:
        tracemalloc.start()
    while received := channel.recv(BUFFER_OCTETS):
        if received == CONTROL:
            channel.send(json.dumps(_figures(len(engine.child_sa_names()))).encode())
            continue
        address = IPv4Address(received[:4])
        current = int(address)
        clock.advance((current - FIRST_DEVICE) / HANDSHAKES_PER_S)
        service.receive([(received[4:], NetworkPath(GATEWAY, Endpoint(address, 500)))])


def _figures(established: int) -> dict[str, int]:
    gc.collect()
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            resident = int(line.split()[1]) * 1024
    used = tracemalloc.get_traced_memory()[0] if tracemalloc.is_tracing() else 0
    return {"established": established, "rss": resident, "traced": used}


if __name__ == "__main__":
    gateway(
        int(sys.argv[1]),
        socket.socket(fileno=int(sys.argv[2])),
        traced="traced" in sys.argv[3:],
    )
