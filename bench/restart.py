"""How long a new process takes to take over the sessions of the one before it, under traffic.

Each process is one of its own, in a network namespace of the kernel: engine, session store and the
kernel's dataplane, joined as in the gateway. The first one lets devices of ours log in, and hands
over, or is killed. The second one is measured from opening the store to the moment when every IKE
SA and child SA is taken over and compared with the kernel. Meanwhile one of the devices, in
another namespace, sends and receives numbered datagrams through its tunnel.
"""

import asyncio
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_network
from pathlib import Path
from typing import Any

from bench.hosts import Hosts
from bench.ike_policies import device_policy, gateway_policy, make_engine
from bench.measure import Bar, Result
from gateway.appliance.ike_service import IkeService
from gateway.appliance.session_takeover import TakenOver
from gateway.dataplane.kernel.dataplane import KernelDataplane
from gateway.dataplane.kernel.settings import KernelSettings
from gateway.domain.child_sa import ChildSa
from gateway.domain.endpoint import Endpoint
from gateway.domain.endpoint import Path as NetworkPath
from gateway.domain.event import Event
from gateway.ike.engine import IkeEngine
from gateway.ike.outputs import InstallChildSa, Output, Transmit
from gateway.lab.measured import CHECKOUT
from gateway.store.database import Store, StoreSettings
from gateway.store.sessions import SessionStore

BARS = {1_000: 2.0, 10_000: 10.0}
"""Seconds for so many sessions."""
MODULE = "bench.restart"
GATEWAY = Endpoint(IPv4Address("192.0.2.1"), 500)
FIRST_DEVICE = int(IPv4Address("192.0.2.10"))
POOL = ip_network("10.16.0.0/12")
SERVER = "10.1.0.2:9000"
RATE = 100
RESTARTS = 3
PATIENCE_S = 300.0


def run(say: Callable[[str], None]) -> Sequence[Result]:
    """Both counts, and the packets that were lost on the way."""
    results: list[Result] = []
    lost = 0
    for count, limit_s in BARS.items():
        taken, missing = _measure(count, say)
        lost += missing
        worst = max(taken, key=lambda one: float(one["seconds"]))
        results.append(
            Result(
                f"restart.sessions_{count}",
                worst["seconds"],
                "s",
                Bar(limit_s, at_least=False),
                {
                    "reading the records s": worst["reading_s"],
                    "IKE SAs s": worst["restoring_s"],
                    "kernel s": worst["kernel_s"],
                    "process MB": worst["rss"] / 1e6,
                },
            )
        )
    results.append(Result("restart.lost", lost, "packets", Bar(0, at_least=False)))
    return results


def _measure(count: int, say: Callable[[str], None]) -> tuple[list[dict[str, Any]], int]:
    """What :data:`RESTARTS` new processes say, and how many datagrams did not arrive."""
    with Hosts("restart") as hosts:
        hosts.make("gw", "device", "server")
        hosts.wire("gw", "192.0.2.1/24", "device", "192.0.2.10/24")
        hosts.wire("gw", "10.1.0.1/24", "server", "10.1.0.2/24")
        hosts.ip("server", "route add default via 10.1.0.1")
        folder = hosts.folder
        first = _process(hosts, "fill", folder, str(count))
        facts = first.ready(PATIENCE_S)
        say(f"{count} sessions after {facts['seconds']:.0f} s")
        _connect(hosts, facts["tunnel"])
        streams = _Streams(hosts, facts["tunnel"]["inner"])
        taken = []
        current = first
        for turn in range(RESTARTS):
            current.end(signal.SIGKILL if turn % 2 else signal.SIGTERM)
            current = _process(hosts, "take", folder, str(count))
            taken.append(current.ready(PATIENCE_S))
            say(f"taken over within {taken[-1]['seconds']:.2f} s")
        lost = streams.lost()
        current.end(signal.SIGTERM)
    for one in taken:
        if (one["ike_sas"], one["child_sas"], one["lost"]) != (count, count, 0):
            raise RuntimeError(f"of {count} sessions: {one}")
    return taken, lost


class _Process:
    """A gateway's engine with its dataplane, in its namespace."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def ready(self, timeout_s: float) -> dict[str, Any]:
        """What it says when it is; raises RuntimeError when it does not."""
        out = self._process.stdout
        if out is None or not select.select([out], [], [], timeout_s)[0]:
            raise RuntimeError("a process is not ready")
        line = out.readline()
        if not line:
            raise RuntimeError(f"a process ended with {self._process.wait()}")
        found: dict[str, Any] = json.loads(line)
        return found

    def end(self, how: signal.Signals) -> None:
        """End it and wait."""
        self._process.send_signal(how)
        self._process.wait(timeout=PATIENCE_S)


def _process(hosts: Hosts, *arguments: object) -> _Process:
    argv = ["ip", "netns", "exec", hosts.name("gw"), sys.executable, "-m", MODULE]
    environment = {**os.environ, "PYTHONPATH": CHECKOUT}
    return _Process(
        subprocess.Popen(
            [*argv, *map(str, arguments)], stdout=subprocess.PIPE, text=True, env=environment
        )
    )


def _connect(hosts: Hosts, tunnel: dict[str, Any]) -> None:
    """The first device's end of its tunnel, in its own kernel."""
    inner, outer = tunnel["inner"], "192.0.2.10"
    hosts.ip("device", f"address add {inner}/32 dev lo")
    hosts.ip("device", f"route add 10.1.0.0/16 via 192.0.2.1 src {inner}")
    for source, destination, spi, key in (
        (outer, "192.0.2.1", tunnel["spi_in"], tunnel["key_in"]),
        ("192.0.2.1", outer, tunnel["spi_out"], tunnel["key_out"]),
    ):
        hosts.run(
            "device", "ip", "xfrm", "state", "add", "src", source, "dst", destination,
            "proto", "esp", "spi", hex(spi), "reqid", "7", "mode", "tunnel",
            "replay-window", "128", "flag", "esn", "aead", "rfc4106(gcm(aes))", f"0x{key}", "128",
        )  # fmt: skip
    for direction, left, right, ends in (
        ("out", inner, "10.1.0.0/16", (outer, "192.0.2.1")),
        ("in", "10.1.0.0/16", inner, ("192.0.2.1", outer)),
    ):
        hosts.ip(
            "device",
            f"xfrm policy add src {left} dst {right} dir {direction} tmpl src {ends[0]}"
            f" dst {ends[1]} proto esp reqid 7 mode tunnel",
        )


class _Streams:
    """Numbered datagrams both ways until they are counted."""

    def __init__(self, hosts: Hosts, inner: str) -> None:
        self._hosts = hosts
        self._receivers = [
            self._start("server", "receive", SERVER, "--idle", "3"),
            self._start("device", "receive", f"{inner}:9001", "--idle", "3"),
        ]
        for receiver in self._receivers:
            _line(receiver)
        pace = ["--rate", str(RATE), "--seconds", str(PATIENCE_S)]
        self._senders = [
            self._start("device", "send", SERVER, *pace),
            self._start("server", "send", f"{inner}:9001", *pace),
        ]
        for receiver in self._receivers:
            _line(receiver)

    def _start(self, host: str, *arguments: str) -> subprocess.Popen[str]:
        argv = ["ip", "netns", "exec", self._hosts.name(host), sys.executable, "-m"]
        environment = {**os.environ, "PYTHONPATH": CHECKOUT}
        return subprocess.Popen(
            [*argv, "gateway.lab.traffic", *arguments],
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def lost(self) -> int:
        """How many did not arrive."""
        missing = 0
        for sender, receiver in zip(self._senders, self._receivers, strict=True):
            sender.send_signal(signal.SIGTERM)
            sent, seen = _last(sender)["sent"], _last(receiver)
            # Ended between sending and counting, a sender has sent one more than it says.
            missing += seen["lost"] + max(0, sent - seen["highest"] - 1)
        return missing


def _line(process: subprocess.Popen[str]) -> dict[str, Any]:
    line = process.stdout.readline() if process.stdout is not None else ""
    if not line:
        raise RuntimeError(f"a stream ended with {process.wait()}")
    found: dict[str, Any] = json.loads(line)
    return found


def _last(process: subprocess.Popen[str]) -> dict[str, Any]:
    out = process.communicate(timeout=PATIENCE_S)[0]
    found: dict[str, Any] = json.loads(out.splitlines()[-1])
    return found


# -- in the gateway's namespace -----------------------------------------------------------------


@dataclass(slots=True)
class _Gateway:
    """What a gateway process has of a takeover."""

    store: Store
    sessions: SessionStore
    taken: TakenOver
    engine: IkeEngine
    dataplane: KernelDataplane
    service: IkeService
    first: ChildSa | None = None


def _no_event(_event: Event) -> None:
    return None


def _nowhere(_message: bytes, _path: NetworkPath, **_: bool) -> OSError | None:
    return None


class _Timer:
    """Never due: nobody waits that long."""

    def cancel(self) -> None:
        """Nothing."""


def _open(folder: Path, send: Callable[..., OSError | None]) -> _Gateway:
    store = Store(StoreSettings(folder / "state"), _no_event)
    store.open()
    sessions = SessionStore(store, folder / "run", _no_event)
    taken = TakenOver(sessions, _no_event)
    engine = make_engine(gateway_policy(2), last_inbound=lambda _: 1.0, recording=True)
    dataplane = KernelDataplane(KernelSettings(inner_networks=(POOL,)))
    dataplane.start(adopt=True)
    service = IkeService(
        engine,
        dataplane,
        send=send,
        clock=time.monotonic,
        call_at=lambda _at, _call: _Timer(),
        emit=_no_event,
        records=taken.records,
    )
    return _Gateway(store, sessions, taken, engine, dataplane, service)


def fill(folder: Path, count: int) -> None:
    """Let devices log in, say so, and hand over when told to."""
    began = time.monotonic()
    answers: list[bytes] = []

    def send(message: bytes, _path: NetworkPath, *, keepalive: bool = False) -> OSError | None:
        if not keepalive:
            answers.append(message)
        return None

    running = _open(folder, send)
    running.taken.ike_sas(running.engine, running.dataplane, running.service, began)
    install = running.dataplane.install_child_sa

    def noting(sa: ChildSa, *, outbound: bool = True) -> None:
        running.first = running.first or sa
        install(sa, outbound=outbound)

    running.dataplane.install_child_sa = noting  # type: ignore[method-assign]
    for number in range(count):
        _log_in(number, running.service, answers)
    first = running.first
    if first is None:
        raise RuntimeError("nobody logged in")
    tunnel = {
        "spi_in": first.spi_in,
        "spi_out": first.spi_out,
        "key_in": first.keys_in.encryption.hex(),
        "key_out": first.keys_out.encryption.hex(),
        "inner": str(first.remote_ts[0].start),
        "suite": str(first.suite),
    }
    _serve(running, {"seconds": time.monotonic() - began, "tunnel": tunnel})


def _log_in(number: int, service: IkeService, answers: list[bytes]) -> None:
    local = Endpoint(IPv4Address(FIRST_DEVICE + number), 500)
    device = make_engine(device_policy(2, GATEWAY, local))
    now = time.monotonic()
    device.initiate("office", now)
    there, back = NetworkPath(GATEWAY, local), NetworkPath(local, GATEWAY)
    while True:
        outputs: list[Output] = device.take_outputs()
        sent = [one.message for one in outputs if isinstance(one, Transmit)]
        if sent:
            service.receive([(message, there) for message in sent])
        if any(isinstance(one, InstallChildSa) for one in outputs):
            return
        waiting, answers[:] = answers[:], []
        if not waiting:
            raise RuntimeError("the gateway does not answer")
        for message in waiting:
            device.receive(message, back, now)


def take(folder: Path) -> None:
    """Take everything over, say how long it took, and hand over when told to."""
    began = time.monotonic()
    running = _open(folder, _nowhere)
    opened = time.monotonic()
    adopt = running.dataplane.adopt
    in_kernel: list[float] = []

    def timed(children: Sequence[tuple[ChildSa, bool]]) -> list[int]:
        start = time.monotonic()
        try:
            return adopt(children)
        finally:
            in_kernel.append(time.monotonic() - start)

    running.dataplane.adopt = timed  # type: ignore[method-assign]
    running.taken.ike_sas(running.engine, running.dataplane, running.service, opened)
    done = time.monotonic()
    facts = running.taken.facts
    _serve(
        running,
        {
            "seconds": done - began,
            "reading_s": opened - began,
            "kernel_s": sum(in_kernel),
            "restoring_s": done - opened - sum(in_kernel),
            "ike_sas": facts["ike_sas"],
            "child_sas": facts["child_sas"],
            "lost": facts["lost_child_sas"],
            "rss": _resident(),
        },
    )


def _resident() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


def _serve(running: _Gateway, said: dict[str, Any]) -> None:
    """Write to the database what waits, say that we are ready; hand over at SIGTERM."""

    async def serve() -> None:
        ended = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
        running.taken.start()
        print(json.dumps(said), flush=True)
        await ended.wait()
        now = time.monotonic()
        running.engine.hand_over(now)
        running.service.flush(now)
        running.dataplane.close(keep=True)
        await running.taken.stop()

    asyncio.run(serve())
    running.store.close()


if __name__ == "__main__":
    if sys.argv[1] == "fill":
        fill(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        take(Path(sys.argv[2]))
