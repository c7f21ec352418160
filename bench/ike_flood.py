"""A flood of spoofed first messages, and how long an honest client takes to connect meanwhile.

Two network namespaces of the running kernel, joined by a veth pair: the gateway in one, with its
own sockets, joint and engine, and a dataplane without the kernel; everybody else in the other.
The gateway has one processor, the generator of the flood and the client share another one.
"""

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, ip_network
from pathlib import Path

from bench.absent_kernel import absent_kernel
from bench.ike_policies import device_policy, gateway_policy, make_engine
from bench.measure import Bar, Result
from bench.spoofed import settle
from gateway.appliance.ike_service import IkeService
from gateway.dataplane.kernel.settings import KernelSettings
from gateway.domain.endpoint import Endpoint
from gateway.ike.codec import Nonce, parse_message
from gateway.ike.engine import _VERSIONS, IkeEngine
from gateway.ike.outputs import Event, Transmit
from gateway.ike.transport import IkeSockets
from gateway.ike.transport_esp import EspInUdp
from gateway.lab import netns

OFFERED_PER_S = 50_000
TARGET_PER_S = 56_000
"""What the generator aims at, so that the average of a run is not below the bar."""
LONGEST_S = 2.0
TRIES = 12
BEFORE_S = 3.0
"""The flood alone, before the first client."""
BETWEEN_S = 0.3
GIVE_UP_S = 15.0
GATEWAY = Endpoint(IPv4Address("192.0.2.1"), 500)
OUTSIDE = IPv4Address("192.0.2.2")
CLIENT = Endpoint(IPv4Address("198.51.100.7"), 500)
NAMES = ("bflood-gw", "bflood-net")


def run(say: Callable[[str], None]) -> Sequence[Result]:
    """Without a flood, with one of IKEv2's first messages, with one of IKEv1's."""
    results: list[Result] = []
    with namespaces():
        quiet = _measure(None)
        say(f"no flood: {quiet}")
        flooded = _measure(_first_message(2))
        say(f"IKEv2 first messages: {flooded}")
        results += _results("ike_flood", flooded, quiet)
        if 1 in _VERSIONS:
            other = _measure(_first_message(1))
            say(f"IKEv1 first messages: {other}")
            results += _results("ike_flood.v1", other, quiet)
    return results


@dataclass(frozen=True, slots=True)
class Measured:
    """What one flood did."""

    offered_per_s: float
    generator_share: float
    """Of a processor."""
    seen_per_s: float
    dropped: float
    """Of the datagrams that came, those that found the socket's buffer full."""
    answered: float
    """Of those seen."""
    gateway_share: float
    connects_s: list[float]

    def __str__(self) -> str:
        times = ", ".join(f"{one * 1000:.0f}" for one in sorted(self.connects_s))
        return (
            f"{self.offered_per_s:.0f}/s offered ({self.generator_share:.0%} of a processor),"
            f" {self.seen_per_s:.0f}/s seen ({self.gateway_share:.0%}), {self.dropped:.2%} dropped,"
            f" {self.answered:.0%} answered; connected after {times} ms"
        )


def _results(name: str, flooded: Measured, quiet: Measured) -> list[Result]:
    times = flooded.connects_s
    return [
        Result(
            f"{name}.offered",
            flooded.offered_per_s,
            "per second",
            Bar(OFFERED_PER_S, at_least=True),
            {
                "seen per s": flooded.seen_per_s,
                "dropped": flooded.dropped,
                "answered": flooded.answered,
                "gateway's processor": flooded.gateway_share,
                "generator's processor": flooded.generator_share,
            },
        ),
        Result(
            f"{name}.connect",
            max(times),
            "s at most",
            Bar(LONGEST_S, at_least=False),
            {
                "median s": statistics.median(times),
                "without a flood, median s": statistics.median(quiet.connects_s),
                "tries": len(times),
            },
            f"{min(times):.4g} / {statistics.median(times):.4g} / {max(times):.4g} s"
            f" (n={len(times)})",
        ),
    ]


# -- the bed ------------------------------------------------------------------------------------


@contextlib.contextmanager
def namespaces() -> Iterator[None]:
    """The gateway's and everybody else's."""
    gw, net = NAMES
    _remove()
    try:
        for name in NAMES:
            netns.command(["ip", "netns", "add", name])
            netns.command(["ip", "-n", name, "link", "set", "lo", "up"])
        netns.command(
            ["ip", "-n", gw, "link", "add", "up0", "type", "veth", "peer", "up0", "netns", net]
        )
        for name, address in ((gw, GATEWAY.address), (net, OUTSIDE)):
            netns.command(["ip", "-n", name, "address", "add", f"{address}/24", "dev", "up0"])
            netns.command(["ip", "-n", name, "link", "set", "up0", "up"])
            script = "for f in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 0 > $f; done"
            netns.command(netns.inside(name, ["sh", "-c", script]))
        netns.command(["ip", "-n", net, "address", "add", f"{CLIENT.address}/32", "dev", "lo"])
        netns.command(["ip", "-n", gw, "route", "add", "default", "via", str(OUTSIDE)])
        yield
    finally:
        _remove()


def _remove() -> None:
    for name in netns.existing("bflood-"):
        netns.command(["ip", "netns", "delete", name])


def _start(name: str, arguments: Sequence[str], processor: int) -> subprocess.Popen[str]:
    argv = netns.inside(name, [sys.executable, "-m", *arguments, "--processor", str(processor)])
    return subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )


def _answer(process: subprocess.Popen[str], question: str = "") -> dict[str, float]:
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("no pipes")
    if question:
        process.stdin.write(question + "\n")
        process.stdin.flush()
    answer: dict[str, float] = json.loads(process.stdout.readline())
    return answer


def _first_message(version: int) -> tuple[bytes, int]:
    """A first message of ours, and where its octets may differ from one to the next."""
    engine = make_engine(device_policy(version, GATEWAY, CLIENT))
    engine.initiate("office", 0.0)
    (message,) = (one.message for one in engine.take_outputs() if isinstance(one, Transmit))
    if version == 1:
        # No nonce in it: the initiator's cookie, written anew each time, stands in for it.
        return message, 0
    (nonce,) = (one for one in parse_message(message).payloads if isinstance(one, Nonce))
    return message, message.index(nonce.data)


def _measure(flood: tuple[bytes, int] | None) -> Measured:
    processors = sorted(os.sched_getaffinity(0))
    gw, net = NAMES
    seconds = BEFORE_S + TRIES * (BETWEEN_S + 0.2)
    with contextlib.ExitStack() as stack:
        gateway = stack.enter_context(_start(gw, ["bench.ike_flood", "gateway"], processors[0]))
        stack.callback(gateway.kill)
        _answer(gateway, "report")
        generator = None
        if flood is not None:
            message, nonce_at = flood
            arguments = ["bench.spoofed", str(GATEWAY.address), "--message", message.hex()]
            arguments += ["--nonce-at", str(nonce_at), "--per-s", str(TARGET_PER_S)]
            arguments += ["--seconds", str(seconds)]
            generator = stack.enter_context(_start(net, arguments, processors[-1]))
            stack.callback(generator.kill)
            time.sleep(BEFORE_S)
        before = _answer(gateway, "report")
        client = stack.enter_context(_start(net, ["bench.ike_flood", "client"], processors[-1]))
        stack.callback(client.kill)
        connects = json.loads(client.communicate()[0])
        after = _answer(gateway, "report")
        flooded = _answer(generator) if generator is not None else {}
    took = after["at"] - before["at"]
    seen = after["datagrams_in"] - before["datagrams_in"]
    dropped = after["buffer_full"] - before["buffer_full"]
    return Measured(
        offered_per_s=flooded.get("per_s", 0.0),
        generator_share=flooded.get("processor_share", 0.0),
        seen_per_s=seen / took,
        dropped=dropped / max(seen + dropped, 1),
        answered=(after["cookies_demanded"] - before["cookies_demanded"]) / max(seen, 1),
        gateway_share=(after["processor_s"] - before["processor_s"]) / took,
        connects_s=connects,
    )


# -- the processes ------------------------------------------------------------------------------


def _join(engine: IkeEngine, sockets: IkeSockets, emit: Callable[[Event], None]) -> IkeService:
    loop = asyncio.get_running_loop()
    service = IkeService(
        engine,
        absent_kernel(KernelSettings(inner_networks=(ip_network("10.16.0.0/12"),))),
        send=sockets.send,
        clock=loop.time,
        call_at=loop.call_at,
        emit=emit,
    )
    sockets.start(loop, service.receive, service.sort)
    return service


async def gateway() -> None:
    """Serve, and report when asked to."""
    connections = [gateway_policy(version) for version in sorted(_VERSIONS, reverse=True)]
    named = [replace(one, name=f"road{one.version}") for one in connections]
    engine = make_engine(named[0])
    engine.reconfigure(named, 0.0)
    sockets = IkeSockets([IPv4Address(str(GATEWAY.address))], esp=EspInUdp.NONE)
    service = _join(engine, sockets, lambda _event: None)
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()

    def asked() -> None:
        if not sys.stdin.readline():
            stop.set()
            return
        report = {
            "at": time.perf_counter(),
            "processor_s": time.process_time(),
            "datagrams_in": sockets.counters["datagrams_in"],
            "cookies_demanded": engine.counters["cookies_demanded"],
            "buffer_full": _buffer_full(),
            **{name: engine.counters[name] for name in engine.counters},
        }
        print(json.dumps(report), flush=True)

    loop.add_reader(sys.stdin.fileno(), asked)
    await stop.wait()
    service.stop()
    sockets.close()


def _buffer_full() -> int:
    """Datagrams that found a socket's buffer full, in this namespace."""
    lines = Path("/proc/self/net/snmp").read_text().splitlines()
    names, values = (line.split() for line in lines if line.startswith("Udp:"))
    return int(values[names.index("RcvbufErrors")])


async def client() -> None:
    """Connect again and again, each time as somebody new; writes the seconds it took."""
    took = []
    for number in range(TRIES):
        await asyncio.sleep(BETWEEN_S)
        took.append(await _connect(number))
    print(json.dumps(took))


async def _connect(number: int) -> float:
    connected = asyncio.Event()

    def emit(event: Event) -> None:
        if event.name == "child_sa_installed":
            connected.set()

    policy = device_policy(2, GATEWAY, CLIENT)
    who = device_policy(2, GATEWAY, Endpoint(IPv4Address(number + 1), 500)).local_id
    engine = make_engine(replace(policy, local_id=who))
    sockets = IkeSockets([IPv4Address(str(CLIENT.address))], esp=EspInUdp.NONE)
    service = _join(engine, sockets, emit)
    loop = asyncio.get_running_loop()
    began = loop.time()
    try:
        engine.initiate("office", began)
        service.flush(began)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GIVE_UP_S):
                await connected.wait()
        return loop.time() - began
    finally:
        service.stop()
        sockets.close()


def main() -> None:
    """Entry point of the processes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("role", choices=("gateway", "client"))
    parser.add_argument("--processor", type=int, required=True)
    given = parser.parse_args()
    settle(given.processor)
    asyncio.run(gateway() if given.role == "gateway" else client())


if __name__ == "__main__":
    main()
